"""manifest.json of a checkpoint folder, and how such a folder is filled without any loss."""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from lowrank.claims import check_output, check_space, claim, clear
from lowrank.errors import InputError
from lowrank.files import plain_json, read_json, sha256, whole_file, write_json
from lowrank.models.checkpoint import Checkpoint, open_checkpoint
from lowrank.plan.checkpoint_files import (
    ADAPTER_FILES,
    CONFIG_FILES,
    GENERATION,
    INDEX,
    PICKLES,
    TOKENIZER,
    TOKENIZER_FILES,
    plain_file,
    weight_files,
)

MANIFEST = "manifest.json"
FORMAT = "lowrank-manifest-1"
# What a manifest repeats of config.json: enough to see what kind of model this is.
_DESCRIBING = (
    "model_type", "architectures", "tie_word_embeddings", "vocab_size", "hidden_size",
    "num_hidden_layers", "max_position_embeddings", "torch_dtype", "dtype",
)  # fmt: skip


def make_manifest(
    folder: str | Path, source: dict[str, Any], hashes: dict[str, str] | None = None
) -> dict[str, Any]:
    """What a checkpoint folder holds: every file's size and SHA-256, every tensor's dtype, shape.

    hashes: SHA-256 by file name where already known; other files are read once.
    """
    checkpoint = open_checkpoint(folder)
    hashes = hashes or {}
    names = [*weight_files(checkpoint.folder), INDEX, *CONFIG_FILES, *TOKENIZER_FILES]
    files = {}
    for name in sorted(name for name in names if (checkpoint.folder / name).exists()):
        path = plain_file(checkpoint.folder, name)
        files[name] = {"size": path.stat().st_size, "sha256": hashes.get(name) or sha256(path)}
    config = {key: checkpoint.config[key] for key in _DESCRIBING if key in checkpoint.config}
    return {
        "format": FORMAT,
        "source": source,
        "files": files,
        "parameters": checkpoint.parameters,
        "config": plain_json(config | {"tie_word_embeddings": checkpoint.tied}),
        "tensors": {
            name: {"file": entry.file.name, "dtype": entry.dtype, "shape": list(entry.shape)}
            for name, entry in checkpoint.tensors.items()
        },
    }


def own_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest that this workflow wrote into a folder; None if there is none, or another's."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except InputError:
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None


def read_manifest(checkpoint: Checkpoint) -> dict[str, Any]:
    """The manifest of a checkpoint folder; made on the spot for a folder that has none of ours.

    Raises InputError if a file's size is no longer what the manifest says. That the content is
    the same is not looked at: see `weight_hashes`.
    """
    manifest = own_manifest(checkpoint.folder)
    if manifest is None:
        return make_manifest(checkpoint.folder, {"path": str(checkpoint.folder)})
    for entry in checkpoint.tensors.values():
        said = manifest["files"].get(entry.file.name, {}).get("size")
        found = entry.file.stat().st_size
        if said != found:
            raise _changed(entry.file, f"{found} bytes, {MANIFEST} says {said}")
    return manifest


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of files of a model or adapter folder, by name, from what they hold now.

    A few seconds for gigabytes, and the only way to know: a file that was trained anew in place
    can have the old size, and the old time after a copy.
    Raises InputError if a manifest of ours is there and says something else.
    """
    said = (own_manifest(folder) or {}).get("files", {})
    hashes = {}
    for name in names:
        hashes[name] = sha256(plain_file(folder, name))
        if name in said and said[name]["sha256"] != hashes[name]:
            raise _changed(folder / name, f"its content is not what {MANIFEST} says")
    return hashes


def weight_hashes(checkpoint: Checkpoint) -> dict[str, str]:
    """`file_hashes` of the files that hold a checkpoint's tensors. Its configuration is checked."""
    folder = checkpoint.folder
    file_hashes(folder, [name for name in CONFIG_FILES if (folder / name).is_file()])
    return file_hashes(folder, sorted({entry.file.name for entry in checkpoint.tensors.values()}))


def checked_manifest(checkpoint: Checkpoint) -> dict[str, Any]:
    """`read_manifest`; InputError also if the files do not hold what it says."""
    if own_manifest(checkpoint.folder):
        weight_hashes(checkpoint)
    return read_manifest(checkpoint)


def _changed(path: Path, how: str) -> InputError:
    return InputError(
        f"{path}: {how}; it was changed since: move it away and fetch or build the model anew (or "
        f"remove {MANIFEST}, if the change was meant)"
    )


def write_manifest(
    folder: str | Path, source: dict[str, Any], hashes: dict[str, str] | None = None
) -> None:
    """Write manifest.json into a checkpoint folder; the last file of a complete one."""
    write_json(Path(folder) / MANIFEST, make_manifest(folder, source, hashes))


def gather_tokenizer(folder: Path) -> None:
    """Copy a checkpoint's tokenizer, and what names its end tokens, into its folder TOKENIZER.

    Which of these files there are is not known while planning, so rules name their folder.
    """
    files = [folder / n for n in (*TOKENIZER_FILES, GENERATION) if (folder / n).exists()]
    claim(folder / TOKENIZER, (), (), {path.name: sha256(path) for path in files})
    clear(folder / TOKENIZER)
    for path in files:
        with whole_file(folder / TOKENIZER / path.name) as temporary:
            shutil.copyfile(path, temporary)


def claim_checkpoint(
    folder: str | Path,
    inputs: Iterable[str | Path | None],
    known: dict[str, str] | None = None,
    needed: int = 0,
    keep: Collection[str] = (),
) -> None:
    """See that a folder is free for a checkpoint; `lowrank.claims.clear` may follow.

    inputs: what the checkpoint is made from. known: see `lowrank.claims.claim`. needed: bytes.
    keep: what `clear` will spare.
    Raises InputError if the folder is an input, if the disk is too small, or if there is anything
    that a loader would read with ours and we did not write. Nothing is changed but the marker.
    """
    folder = Path(folder)
    check_output(folder, inputs)
    reserved = {INDEX, MANIFEST, "fidelity.json", *CONFIG_FILES, *TOKENIZER_FILES, *ADAPTER_FILES}
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    read = {name for name in there if name.endswith(".safetensors") or PICKLES.match(name)}
    check_space(folder, needed - sum(_size(folder / name) for name in read - set(keep)))
    claim(folder, (), (there & reserved) | read, known)


def move_checkpoint(made: Path, output: Path) -> None:
    """Move the files of a finished checkpoint into an output folder, in the place of older ones."""
    claim_checkpoint(output, [made])
    clear(output)
    for path in sorted(made.iterdir()):
        with whole_file(output / path.name) as temporary:
            path.rename(temporary)
    made.rmdir()


def _size(path: Path) -> int:
    """Bytes that removing a path frees: none if they have another name."""
    if path.is_symlink() or not path.is_file() or path.stat().st_nlink > 1:
        return 0
    return path.stat().st_size
