"""A checkpoint: a Hugging Face folder of safetensors files, opened and checked.

Only headers are read here, and the slices that a caller asks for. Nothing is unpickled and no
code that comes with a model is run.
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.errors import InputError
from lowrank.files import read_json
from lowrank.models.architecture import (
    Anatomy,
    Part,
    find_vocabulary,
    place_of,
    plain_name,
    read_anatomy,
    split_matrix_name,
    text_config,
)
from lowrank.models.quantised import quantisation
from lowrank.models.safetensors_file import (
    DTYPE_BYTES,
    TORCH_NAMES,
    TensorEntry,
    read_header,
    read_tensor,
)
from lowrank.plan.checkpoint_files import INDEX, SINGLE, plain_file, read_index, weight_files

if TYPE_CHECKING:
    import hashlib

    import torch


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
        found = read_anatomy(self.config, shapes, self.embedding, self.head, where)
        integers = [n for n, entry in self.tensors.items() if entry.dtype not in TORCH_NAMES]
        # Integer weights are quantised and were refused before; other integers are carried over.
        return replace(found, parts=found.parts | dict.fromkeys(integers, Part("other", "buffer")))

    def find(self, name: str) -> TensorEntry | None:
        """Where a tensor lies, or one matrix of a stack ("...experts.down_proj[3]").

        A tied model's head is its embedding.
        """
        tensor, index = split_matrix_name(name)
        if tensor == self.head and self.tied:
            tensor = self.embedding
        entry = self.tensors.get(tensor)
        return entry if entry is None or index is None else stacked_entry(entry, index)

    def entry(self, name: str) -> TensorEntry:
        """`find` of a tensor that must be there; InputError where it is not."""
        found = self.find(name)
        if found is None:
            raise InputError(f"{self.folder}: has no tensor {name}")
        return found

    def read(
        self,
        name: str,
        first: int = 0,
        stop: int | None = None,
        digest: "hashlib._Hash | None" = None,
    ) -> "torch.Tensor":
        """Rows [first, stop) of a tensor as float32 on the CPU; InputError if any is NaN or Inf.

        float16, bfloat16 and float32 are exact in float32; float64 is rounded.
        digest: fed the bytes as they are stored.
        """
        import torch

        entry = self.entry(name)
        values = read_tensor(entry, first, stop)
        if digest is not None:
            digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
        values = values.to(torch.float32)
        # A finite sum has finite parts; the slow count is for a sum that is not.
        bad = 0
        if not torch.isfinite(values.sum()):
            bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise InputError(
                f"{entry.file}: tensor {name} holds {bad} NaN or Inf among its values; such a "
                "checkpoint cannot be compared: get a sound copy or take another revision"
            )
        return values

    @cached_property
    def main_dtype(self) -> str:
        """The dtype of most parameters, as safetensors writes it; integer tensors do not count."""
        counts: Counter[str] = Counter()
        for entry in self.tensors.values():
            counts[entry.dtype] += entry.parameters * (entry.dtype in TORCH_NAMES)
        return counts.most_common(1)[0][0]

    def is_wide(self, name: str) -> bool:
        """Whether a tensor is stored in a wider dtype than most of the checkpoint.

        Float32 in a bfloat16 checkpoint, for example: biases of some routers need it."""
        entry = self.find(name)
        if entry is None or entry.dtype not in TORCH_NAMES:
            return False
        return DTYPE_BYTES[entry.dtype] > DTYPE_BYTES[self.main_dtype]

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


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """Read config.json and every header of a checkpoint folder, and check that they agree.

    The files decide, not what an index or a flag says of them: a head whose values differ from the
    embedding's counts as untied.
    Raises InputError that names file and tensor for anything a loader could stumble over: files
    that are missing, truncated or lie outside the folder, quantised weights, an unmerged adapter,
    tensors that two files hold differently, an untied model without a head.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files, index = _files_and_index(folder)
    config_path = plain_file(folder, "config.json")
    config = read_json(config_path)
    if not isinstance(config, dict):
        raise InputError(f"{config_path}: no JSON object")

    tensors = _stored(folder, files, index)
    if found := quantisation(config, tensors):
        method, entry = found
        raise InputError(
            f"{folder}: its weights are quantised ({method}: tensor {entry.name} is {entry.dtype}) "
            "and have no plain values to compare; take the unquantised checkpoint it was made from"
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
            f"{config_path}: tie_word_embeddings is false, but no file holds {head}; if the head "
            "is the embedding, set it to true, else take a revision that has the head"
        )
    if head in tensors and not same_bytes(tensors[head], tensors[embedding]):
        tied = False  # a stored head counts, as in transformers, whatever the flag says
    missing = [name for name in map(plain_name, index) if name not in tensors]
    for name in missing if files != [SINGLE] else ():
        # A tied head, and buffers that every loader makes anew, are listed by some and not stored.
        if name.endswith((".weight", ".bias")) and not (name == head and tied):
            raise InputError(
                f"{folder}: {INDEX} lists tensor {name}, but no file holds it; the weights are "
                "incomplete: take another revision"
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


def is_quantised(folder: Path, config: dict[str, Any]) -> bool:
    """Whether a folder's weights are quantised, whatever its config.json says."""
    return quantisation(config, _stored(folder, *_files_and_index(folder))) is not None


def _files_and_index(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The files of a checkpoint's weights, and the weight map of its index; {} if it has none."""
    index = folder / INDEX
    found = read_index(plain_file(folder, INDEX), str(folder)) if index.exists() else {}
    return weight_files(folder), found


def _stored(folder: Path, files: list[str], index: dict[str, str]) -> dict[str, TensorEntry]:
    """The tensors that the files of a checkpoint hold; what an index says else is not asked.

    InputError for a tensor that two files hold differently, unless the index says which counts,
    and for a folder with two checkpoints, model.safetensors and shards, that differ.
    """
    tensors: dict[str, TensorEntry] = {}
    for file in files:
        for name, entry in read_header(plain_file(folder, file))[0].items():
            twin = tensors.get(name)
            if twin is None or index.get(name) == file:
                tensors[name] = entry
            elif index.get(name) != twin.file.name and not same_bytes(twin, entry):
                raise InputError(
                    f"{folder}: tensor {name} is in {twin.file.name} and, with other values, in "
                    f"{file}; one of them must go"
                )
    others = sorted({*index.values()} - {SINGLE})
    if files == [SINGLE] and others and all((folder / file).is_file() for file in others):
        shards = _stored(folder, others, index)
        differing = next(
            (
                name
                for name in sorted(tensors.keys() | shards.keys())
                if not (name in tensors and name in shards)
                or not same_bytes(tensors[name], shards[name])
            ),
            None,
        )
        if differing:
            raise InputError(
                f"{folder}: holds two checkpoints, {SINGLE} and the files that {INDEX} names, and "
                f"they differ (tensor {differing}); give a folder with the one that is meant"
            )
    return tensors


def same_bytes(one: TensorEntry, other: TensorEntry) -> bool:
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
