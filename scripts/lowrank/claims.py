"""Where a program may write: on no input, on nothing that somebody else put there.

A folder that a program fills carries a marker (lowrank.files.MARKER): the names of the files our
programs wrote there and the SHA-256 of each. Only what still has that content is ever overwritten
or removed. Files of other names are left alone.
"""

import itertools
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from lowrank.errors import InputError
from lowrank.files import read_written, sha256, write_marker

SPARE_BYTES = 64 * 2**20  # left free on the disk
TEMPORARY = re.compile(r"\..*\.\d+\.tmp")  # what a killed writer leaves


def check_output(output: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """InputError if an output is an input, lies in one or holds one, whatever the names say.

    Folders and files are told apart by where they lie on the disk: a link, a hard link or a second
    mount of an input is that input. None and paths that do not exist are passed over.
    """
    output = Path(output)
    itself = _identity(output)
    above = set(_identities(output))
    for given in inputs:
        if given is None or (there := _identity(Path(given))) is None:
            continue
        if there == itself:
            what = "is the input"
        elif there in above:
            what = "lies in the input"
        elif itself is not None and itself in _identities(Path(given)):
            what = "holds the input"
        else:
            continue
        raise InputError(
            f"--output {output} {what} {given}; an input is never written to: give another --output"
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """What a path leads to on the disk; None if there is nothing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _identities(path: Path) -> Iterator[tuple[int, int]]:
    """A path and the folders above it, links followed, as far as they exist."""
    path = path.resolve()
    for one in (path, *path.parents):
        if (found := _identity(one)) is not None:
            yield found


def check_space(folder: Path, needed: int) -> None:
    """InputError if a disk cannot take this many bytes; the folder may be yet to be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > 0 and free < needed + SPARE_BYTES:
        raise InputError(
            f"{folder}: {needed / 1e9:.3g} GB are needed, {free / 1e9:.3g} GB are free on that "
            "disk; free some, or put the results elsewhere"
        )


def claim(
    folder: str | Path,
    inputs: Iterable[str | Path | None],
    names: Iterable[str],
    known: dict[str, str] | None = None,
) -> None:
    """Make a folder ready to be written to; nothing in it is changed but its marker.

    names: the files that will be written, or must not lie there; those that earlier runs noted are
    looked at, too, so that whatever `clear` removes is ours.
    known: of some of them the SHA-256 of what will be written, which is as good as ours if it lies
    there already.
    InputError if the folder is an input, or if one of the files there is not what we wrote.
    """
    folder = Path(folder)
    check_output(folder, inputs)
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"--output {folder}: is no folder; give another --output")
    written = read_written(folder)
    for name in sorted({*names, *written}):
        found = check_ours(folder / name, written, (known or {}).get(name))
        if found:
            written[name] = [found]
    folder.mkdir(parents=True, exist_ok=True)
    write_marker(folder, written)


def check_ours(path: Path, written: dict[str, list[str]], known: str | None) -> str | None:
    """The SHA-256 of a file that may be replaced; None where nothing, or a link of ours, lies.

    written: what its folder's marker says; known: see `claim`.
    InputError if it is not what we wrote.
    """
    noted = path.name in written
    if not os.path.lexists(path) or (noted and has_another_name(path)):
        return None
    contents = [*written.get(path.name, ()), *filter(None, [known])]
    found = sha256(path) if contents and path.is_file() else None
    if found is None or found not in contents:
        what = "was changed since it was written" if noted else "is not ours"
        raise InputError(
            f"{path}: lies where a file of the output goes, or would be read with it, and "
            f"{what}; it is left as it is: move it away or give another --output"
        )
    return found


def has_another_name(path: Path) -> bool:
    """Whether removing a path loses no bytes: a link, or one of several names of a file."""
    return path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1)


def clear(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove what a claimed folder's marker names, but for `keep`; links go, not their targets.

    Also what killed writers left.
    """
    written = read_written(folder)
    gone = [name for name in written if name not in keep]
    gone += [path.name for path in folder.iterdir() if TEMPORARY.match(path.name)]
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    write_marker(folder, {name: written[name] for name in written if name in keep})


def set_aside(folder: Path, names: Iterable[str], known: dict[str, str]) -> None:
    """Give files of ours that were changed since another name, so that they can be made anew.

    known: see `claim`. A damaged file is fetched again this way, and an edited one is not lost.
    """
    written = read_written(folder)
    for name in names:
        path = folder / name
        if name not in written or not path.is_file() or has_another_name(path):
            continue
        if sha256(path) in (*written[name], known.get(name)):
            continue
        free = next(
            new
            for number in itertools.count(1)
            if not os.path.lexists(new := path.with_name(f"{name}.changed-{number}"))
        )
        path.rename(free)
        print(f"{path}: was changed since it was written, now {free.name}", file=sys.stderr)


def way_to_place(source: Path, folder: Path) -> str:
    """How a file can be had in a folder at the least cost, by trying: "hard link", "symbolic link"
    (another disk) or "copy" (a file system without links). The folder must exist."""
    trial = folder / f".trial.{os.getpid()}.tmp"
    for way in ("hard link", "symbolic link"):
        try:
            place(source, trial, way)
            trial.open("rb").close()
        except (OSError, NotImplementedError):
            continue
        finally:
            trial.unlink(missing_ok=True)
        return way
    return "copy"


def place(source: Path, target: Path, way: str) -> None:
    """Put a file at a path that is free, the way that `way_to_place` found."""
    source = source.resolve()
    if way == "hard link":
        os.link(source, target)
    elif way == "symbolic link":
        target.symlink_to(source)
    else:
        shutil.copyfile(source, target)
