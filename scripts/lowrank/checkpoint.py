"""A checkpoint: a Hugging Face folder of safetensors files, its tensors found and its word kept.

Only headers are read here, and the slices that a caller asks for. Nothing is unpickled and no
code that comes with a model is run.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.architecture import (
    Anatomy,
    find_vocabulary,
    place_of,
    plain_name,
    read_anatomy,
    split_matrix_name,
    text_config,
)
from lowrank.errors import InputError
from lowrank.files import read_json, sha256, write_json
from lowrank.tensorfile import TensorEntry, read_header, read_tensor

if TYPE_CHECKING:
    import torch

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MANIFEST = "manifest.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
CONFIG_FILES = ("config.json", "generation_config.json")
PICKLES = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|pickle|msgpack|h5)$")
TEMPORARY = re.compile(r"\..*\.\d+\.tmp")  # what a killed writer leaves
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors$")
# What a manifest repeats of config.json: enough to see what kind of model this is.
_DESCRIBING = (
    "model_type", "architectures", "tie_word_embeddings", "vocab_size", "hidden_size",
    "num_hidden_layers", "max_position_embeddings", "torch_dtype", "dtype",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose headers were read and found consistent."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorEntry]  # by name, sorted; what is stored, tied names not repeated
    tied: bool  # the output head is the embedding
    embedding: str  # names of these two; a tied head may have no tensor of its own
    head: str

    @cached_property
    def anatomy(self) -> Anatomy:
        """The decoder's layers and what every tensor is; InputError if that cannot be told."""
        shapes = {name: entry.shape for name, entry in self.tensors.items()}
        where = str(self.folder)
        return read_anatomy(self.config, shapes, self.embedding, self.head, where)

    def find(self, name: str) -> TensorEntry | None:
        """Where a tensor lies, or one matrix of a stack ("...experts.down_proj[3]").

        A tied model's head is its embedding.
        """
        tensor, index = split_matrix_name(name)
        if tensor == self.head and self.tied:
            tensor = self.embedding
        entry = self.tensors.get(tensor)
        return entry if entry is None or index is None else stacked_entry(entry, index)

    def read(self, name: str, first: int = 0, stop: int | None = None) -> "torch.Tensor":
        """Rows [first, stop) of a tensor as float32 on the CPU; InputError if any is NaN or Inf.

        float16, bfloat16 and float32 are exact in float32; float64 is rounded.
        """
        import torch

        entry = self.find(name)
        if entry is None:
            raise InputError(f"{self.folder}: has no tensor {name}")
        values = read_tensor(entry, first, stop).to(torch.float32)
        # A finite sum has finite parts; the slow count is for a sum that is not.
        bad = 0
        if not torch.isfinite(values.sum()):
            bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise InputError(
                f"{entry.file}: tensor {name} holds {bad} NaN or Inf among its values; such a "
                "checkpoint cannot be compared: fetch it anew or take another revision"
            )
        return values

    @property
    def parameters(self) -> int:
        """Number of stored parameters; a tied head counts once."""
        return sum(entry.parameters for entry in self.tensors.values())


def stacked_entry(entry: TensorEntry, index: int) -> TensorEntry:
    """Where matrix `index` of a stack [n, rows, columns] lies."""
    size = entry.size // entry.shape[0]
    name = f"{entry.name}[{index}]"
    return TensorEntry(
        name, entry.dtype, entry.shape[1:], entry.file, entry.start + index * size, size
    )


def plain_file(folder: Path, name: str) -> Path:
    """The path of a file directly in a folder; InputError if name or link leads out of it."""
    path = folder / name
    # Names with a backslash or a drive are refused too, whatever the system.
    if name in ("", ".", "..") or "\0" in name or re.search(r"[/\\:]", name):
        raise InputError(f"{folder}: names the file {name!r}; a plain name in the folder expected")
    if path.is_symlink() and path.resolve().parent != folder.resolve():
        raise InputError(
            f"{path}: a link that leads out of the folder, to {path.readlink()}; put the file "
            "itself there (cp -L)"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files that make up the checkpoint in a folder.

    As transformers looks for them: model.safetensors, or the files that the index names.
    Raises InputError if there are none, both, only pickles, or the index leads out of the folder.
    """
    present = sorted(path.name for path in folder.iterdir())
    return weight_names(
        str(folder), present, lambda: read_index(plain_file(folder, INDEX), present)
    )


def weight_names(
    where: str, present: Iterable[str], weight_map: Callable[[], dict[str, str]]
) -> list[str]:
    """Which of the files `present` hold the weights; `weight_map()` reads the index if asked."""
    present = set(present)
    if SINGLE in present and INDEX in present:
        raise InputError(
            f"{where}: holds both {SINGLE} and {INDEX}; which one is meant is not clear: "
            "remove the other"
        )
    if SINGLE in present:
        return [SINGLE]
    if INDEX in present:
        return sorted(set(weight_map().values()))
    pickles = sorted(name for name in present if PICKLES.match(name))
    if pickles:
        raise InputError(
            f"{where}: holds weights only as {pickles[0]}, a pickle that could run any code; "
            "safetensors are needed: take a revision that has them, or convert it yourself"
        )
    raise InputError(f"{where}: holds neither {SINGLE} nor {INDEX}; is it a checkpoint folder?")


def read_index(path: Path, present: Iterable[str]) -> dict[str, str]:
    """The weight map of an index, checked: tensor name -> name of a file beside the index."""
    content = read_json(path)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{path}: has no weight_map; not an index of safetensors shards")
    for tensor, file in weight_map.items():
        if (
            not isinstance(file, str)
            or not file.endswith(".safetensors")
            or Path(file).name != file
        ):
            raise InputError(
                f"{path}: tensor {tensor} is said to be in {file!r}; a safetensors file in the "
                "same folder expected: this index is not to be trusted"
            )
        if file not in present:
            raise InputError(
                f"{path}: tensor {tensor} is said to be in {file}, which is missing; fetch the "
                "checkpoint anew"
            )
    return weight_map


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """Read config.json and every header of a checkpoint folder, and check that they agree.

    Raises InputError that names file and tensor for anything a loader could stumble over: files
    that are missing, truncated or lie outside the folder, tensors that two files claim or that the
    index puts elsewhere, an untied model without a head.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    config_path = plain_file(folder, "config.json")
    config = read_json(config_path)
    if not isinstance(config, dict):
        raise InputError(f"{config_path}: no JSON object")

    tensors: dict[str, TensorEntry] = {}
    files = weight_files(folder)
    for name in files:
        for tensor, entry in read_header(plain_file(folder, name))[0].items():
            if tensor in tensors:
                raise InputError(
                    f"{folder}: tensor {tensor} is in {tensors[tensor].file.name} and in {name}; "
                    "one of them must go"
                )
            tensors[tensor] = entry
    if files != [SINGLE]:
        weight_map = read_json(folder / INDEX)["weight_map"]
        for tensor in sorted(tensors.keys() | weight_map.keys()):
            stored = tensors[tensor].file.name if tensor in tensors else None
            if weight_map.get(tensor) != stored:
                raise InputError(
                    f"{folder / INDEX}: puts tensor {tensor} in {weight_map.get(tensor)}, it is in "
                    f"{stored}; fetch the checkpoint anew"
                )
    for tensor, entry in tensors.items():
        if not re.fullmatch(r"[\w.-]{1,200}", tensor):  # names become names of files
            raise InputError(f"{entry.file}: {tensor!r} is no name for a weight; not to be trusted")
    tensors = _plain_names(folder, tensors)
    shapes = {name: entry.shape for name, entry in tensors.items()}
    embedding, head = find_vocabulary(config, shapes, str(folder))
    said = {**text_config(config), **config}.get("tie_word_embeddings")
    tied = head not in tensors if said is None else said
    if not tied and head not in tensors:
        raise InputError(
            f"{config_path}: tie_word_embeddings is false, but no file holds {head}; fetch the "
            "checkpoint anew or correct the configuration"
        )
    if tied and head in tensors and not _same_bytes(tensors[head], tensors[embedding]):
        raise InputError(
            f"{config_path}: tie_word_embeddings is true, but {head} is stored and differs from "
            f"{embedding}; one of the two is wrong: set tie_word_embeddings to false if the head "
            "is its own"
        )
    return Checkpoint(folder, config, dict(sorted(tensors.items())), bool(tied), embedding, head)


def _plain_names(folder: Path, tensors: dict[str, TensorEntry]) -> dict[str, TensorEntry]:
    """The tensors by their names in the model, without what training code put before them."""
    plain: dict[str, TensorEntry] = {}
    for name, entry in tensors.items():
        if plain_name(name) in plain:
            other = plain[plain_name(name)].name
            raise InputError(f"{folder}: {other} and {name} are one tensor; one of them must go")
        plain[plain_name(name)] = entry
    return plain


def open_pair(base: str | Path, derivative: str | Path) -> tuple[Checkpoint, Checkpoint]:
    """Open two checkpoints under one set of names: the base's.

    One may call its decoder "model.language_model." and the other "language_model.model.": what
    has the same place in the model is the same tensor. A name that has no counterpart stays.
    Raises InputError as open_checkpoint does.
    """
    one, other = open_checkpoint(base), open_checkpoint(derivative)
    names = {place_of(name, one.embedding, one.head): name for name in one.tensors}
    renamed = {}
    for name, entry in other.tensors.items():
        place = place_of(name, other.embedding, other.head)
        renamed[name if name in one.tensors else names.get(place, name)] = entry
    if len(renamed) < len(other.tensors):
        raise InputError(
            f"{other.folder}: two of its tensors have the same place in the model as one of "
            f"{one.folder}; compare models of one architecture"
        )
    embedding = one.embedding if one.embedding in renamed else other.embedding
    head = one.head if one.head in one.tensors else other.head
    other = replace(other, tensors=dict(sorted(renamed.items())), embedding=embedding, head=head)
    return replace(one, head=head), other


def _same_bytes(one: TensorEntry, other: TensorEntry) -> bool:
    """Whether two tensors are stored alike, read in pieces."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    piece = 1 << 24
    with one.file.open("rb") as first, other.file.open("rb") as second:
        first.seek(one.start)
        second.seek(other.start)
        for done in range(0, one.size, piece):
            length = min(piece, one.size - done)
            if first.read(length) != second.read(length):
                return False
    return True


def make_manifest(
    folder: str | Path, source: dict[str, str], hashes: dict[str, str] | None = None
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
    return {
        "source": source,
        "files": files,
        "parameters": checkpoint.parameters,
        "config": {key: checkpoint.config[key] for key in _DESCRIBING if key in checkpoint.config}
        | {"tie_word_embeddings": checkpoint.tied},
        "tensors": {
            name: {"file": entry.file.name, "dtype": entry.dtype, "shape": list(entry.shape)}
            for name, entry in checkpoint.tensors.items()
        },
    }


def read_manifest(checkpoint: Checkpoint) -> dict[str, Any]:
    """The manifest of a checkpoint folder; made on the spot for a folder that has none.

    Raises InputError if a file's size is no longer what the manifest says.
    """
    path = checkpoint.folder / MANIFEST
    if not path.is_file():
        return make_manifest(checkpoint.folder, {"path": str(checkpoint.folder)})
    manifest = read_json(path)
    for entry in checkpoint.tensors.values():
        said = manifest.get("files", {}).get(entry.file.name, {}).get("size")
        found = entry.file.stat().st_size
        if said != found:
            raise InputError(
                f"{entry.file}: {found} bytes, {MANIFEST} says {said}; fetch the model anew"
            )
    return manifest


def write_manifest(
    folder: str | Path, source: dict[str, str], hashes: dict[str, str] | None = None
) -> None:
    """Write manifest.json into a checkpoint folder; the last file of a complete one."""
    write_json(Path(folder) / MANIFEST, make_manifest(folder, source, hashes))


def clear_checkpoint(folder: str | Path, keep: Iterable[str] = ()) -> None:
    """Remove what an earlier run left in an output folder, so that no loader finds stale weights.

    Only names that this workflow itself writes go, and none in `keep`. InputError if other weights
    lie there: they would be loaded with ours, and they are not ours to delete.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ours = {INDEX, MANIFEST, "fidelity.json", *CONFIG_FILES, *TOKENIZER_FILES}
    names = sorted({path.name for path in folder.iterdir()} - set(keep))
    stale = [n for n in names if n in ours or WEIGHTS.match(n) or TEMPORARY.match(n)]
    for name in names:
        if name not in stale and (name.endswith(".safetensors") or PICKLES.match(name)):
            raise InputError(
                f"{folder / name}: weights that this program did not write lie in its output "
                "folder and would be loaded with its own; move them away"
            )
    for name in stale:
        (folder / name).unlink()
