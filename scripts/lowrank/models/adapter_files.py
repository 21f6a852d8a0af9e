"""A PEFT adapter's two files, from a hub at a pinned commit or from a folder."""

import shutil
import sys
from pathlib import Path

from lowrank.claims import check_output, check_space, claim
from lowrank.errors import InputError
from lowrank.files import sha256, whole_file, write_json
from lowrank.models.hub import check_revision, download, list_files, not_cached, offline
from lowrank.places import locate
from lowrank.plan.checkpoint_files import (
    ADAPTER_CONFIG,
    ADAPTER_RECORD,
    ADAPTER_WEIGHTS,
    adapter_there,
    plain_file,
)

FILES = (ADAPTER_WEIGHTS, ADAPTER_CONFIG)
SCRATCH = ".fetching"  # in the output; what was begun there is continued


def fetch_adapter(repo: str, revision: str, subfolder: str, output: str | Path) -> None:
    """Fetch an adapter from a folder ("" for the top) of a repository at a commit.

    A started download is continued. With HF_HUB_OFFLINE set, it comes from the hub client's cache.
    Raises InputError for whatever the hub or the disk refuses, and for a folder without an adapter.
    """
    check_revision(repo, revision)
    output = Path(output)
    what = f"{repo}@{revision[:10]}"
    source = {"repo": repo, "revision": revision, "subfolder": subfolder}
    prefix = f"{subfolder}/" if subfolder else ""
    if offline():
        from huggingface_hub import try_to_load_from_cache

        found = {}
        for name in FILES:
            path = try_to_load_from_cache(repo, prefix + name, revision=revision)
            if not isinstance(path, str):
                raise InputError(not_cached(f"{what}: {prefix}{name}"))
            found[name] = Path(path)
        _write(output, found, source)
        return
    listed = {file.name: file for file in list_files(repo, revision, "model", what, every=True)}
    adapter_there(f"{what}: {subfolder or 'its top folder'}", subfolder, listed)
    check_space(output, sum(listed[prefix + name].size for name in FILES))
    claim(output, (), (*FILES, ADAPTER_RECORD))
    made = {}
    for name in FILES:
        file = listed[prefix + name]
        print(f"{what}: {file.name}, {file.size / 1e6:.3g} MB", file=sys.stderr, flush=True)
        made[name] = download(repo, revision, file, output / SCRATCH, what)
    _write(output, made, source)
    shutil.rmtree(output / SCRATCH)


def copy_adapter(path: str | Path, subfolder: str, output: str | Path) -> None:
    """Copy an adapter from a local folder; InputError if there is none, or not in safetensors."""
    folder, output = locate(path) / subfolder, Path(output)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    check_output(output, [folder])
    adapter_there(str(folder), "", (entry.name for entry in folder.iterdir()))
    files = {name: plain_file(folder, name) for name in FILES}
    _write(output, files, {"path": str(path), "subfolder": subfolder})


def _write(output: Path, files: dict[str, Path], source: dict[str, str]) -> None:
    """Copy the files into the output, then write where they came from."""
    claim(output, (), (*FILES, ADAPTER_RECORD))
    check_space(output, sum(path.stat().st_size for path in files.values()))
    for name, path in files.items():
        with whole_file(output / name) as temporary:
            shutil.copyfile(path, temporary)
    there = [output / name for name in FILES]
    said = {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in there}
    write_json(output / ADAPTER_RECORD, {"source": source, "files": said})
