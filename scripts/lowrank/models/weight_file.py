"""One file of a checkpoint's weights, fetched by itself: what the workflow asks for by its name."""

import os
import sys
from pathlib import Path

from lowrank.claims import (
    check_ours,
    check_output,
    check_space,
    place,
    set_aside,
)
from lowrank.errors import InputError
from lowrank.files import (
    MARKER,
    read_written,
    sha256,
    whole_file,
    write_marker,
)
from lowrank.models.hub import (
    cached_weights,
    check_revision,
    fetched,
    list_files,
    offline,
    remote_index,
)
from lowrank.models.manifest import MANIFEST, own_manifest
from lowrank.places import locate
from lowrank.plan.checkpoint_files import SINGLE, plain_file, weight_names


def fetch_weights(repo: str, revision: str, output: str | Path) -> None:
    """Fetch the weight file of the output's name from a hub at a commit, whole or not at all.

    It is linked from the hub client's cache, where a started download is continued. With
    HF_HUB_OFFLINE set, the cache must have it. InputError for whatever the hub or the disk refuses,
    and for a name that is none of the checkpoint's weight files.
    """
    check_revision(repo, revision)
    output = Path(output)
    what = f"{repo}@{revision[:10]}"
    if offline():
        cached, weights = cached_weights(repo, revision, what)
        _check_name(what, output.name, weights)
        _link(plain_file(cached, output.name), output)
        return
    listed = {file.name: file for file in list_files(repo, revision, "model", what)}
    weights = weight_names(what, listed, lambda: remote_index(repo, revision, listed, what))
    _check_name(what, output.name, weights)
    file = listed[output.name]
    check_ours(output, read_written(output.parent), file.sha256)
    path = fetched(repo, revision, [file], output.parent, what)[output.name]
    if path != output:
        _link(path, output)


def link_weights(folder: str | Path, output: str | Path) -> None:
    """Link the weight file of the output's name from a local checkpoint folder, or copy it.

    A symbolic link, not a hard one: Snakemake sets the time of every output, and through a hard
    link the source's own time would change.
    """
    output = Path(output)
    source = plain_file(locate(folder), output.name)
    check_output(output.parent, [source.parent])
    _link(source, output)


def _link(source: Path, output: Path) -> None:
    source = source.resolve()
    known = sha256(source)
    _ready(output, known)
    here = Path.cwd()
    way = "symbolic link"
    with whole_file(output, lambda: known) as temporary:
        # Within the working directory a relative link, which moves with it.
        inside = source.is_relative_to(here) and output.parent.resolve().is_relative_to(here)
        target = os.path.relpath(source, output.parent.resolve()) if inside else source
        try:
            temporary.symlink_to(target)
        except (OSError, NotImplementedError):
            way = "copy"
            check_space(output.parent, source.stat().st_size)
            place(source, temporary, way)
    print(f"{output.name} from {source.parent}: {way}", file=sys.stderr, flush=True)
    _forget_other(output, known)


def _check_name(what: str, name: str, weights: list[str]) -> None:
    """InputError unless a name is one of the weight files; it says what to write instead."""
    if name in weights:
        return
    count = len(weights)
    usual = [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    given = f"shards: {count}" if weights == usual else f"shards: [{', '.join(weights)}]"
    remedy = "leave out shards" if weights == [SINGLE] else f"write `{given}`"
    raise InputError(
        f"{what}: {name} is none of its weights; they are {weights[0]}"
        + (f" and {count - 1} more" if count > 1 else "")
        + f": {remedy} below the model's revision in the experiment file"
    )


def _ready(output: Path, known: str) -> None:
    """See that a file may be written; mark a folder that is only now begun as one of ours.

    known: the SHA-256 that it will have. A file of ours that was changed gets another name;
    InputError for one that is not ours.
    """
    folder = output.parent
    set_aside(folder, [output.name], {output.name: known})
    check_ours(output, read_written(folder), known)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARKER).exists():
        write_marker(folder, read_written(folder))


def _forget_other(output: Path, digest: str) -> None:
    """Remove a manifest of ours that says another content of this file: it is of another source."""
    said = (own_manifest(output.parent) or {}).get("files", {}).get(output.name)
    if said is not None and said["sha256"] != digest:
        (output.parent / MANIFEST).unlink()
