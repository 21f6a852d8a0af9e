"""Every tensor of a pair of checkpoints, paired by name: none is dropped in silence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from lowrank.errors import InputError
from lowrank.models.architecture import Part, layer_and_module, matrix_name, split_matrix_name
from lowrank.models.checkpoint import Checkpoint
from lowrank.models.safetensors_file import TORCH_NAMES, TensorEntry, row_chunks

LEFT_OUT = "left out by configuration"
CHUNK = 1 << 20  # entries of a tensor that are compared at a time


@dataclass(frozen=True)
class Pair:
    """One tensor, or one matrix of a stack, and where it lies in base and derivative.

    A tied head lies in its embedding.
    """

    name: str
    part: Part
    left_out: bool
    base: TensorEntry | None
    derivative: TensorEntry | None

    @property
    def role(self) -> str:
        """projection | bias | other | unknown (only if left out)."""
        return self.part.role

    @property
    def tensor(self) -> str:
        """The tensor that is stored: the whole stack where this is one matrix of it."""
        return split_matrix_name(self.name)[0]

    @property
    def same_rows(self) -> bool:
        """False where the two models pad their vocabulary differently."""
        return (
            self.base is None or self.derivative is None or self.base.shape == self.derivative.shape
        )


def pair_tensors(base: Checkpoint, derivative: Checkpoint, leave_out: Sequence[str]) -> list[Pair]:
    """Pair the tensors of two checkpoints by name, sorted by name; a stack is its matrices.

    base, derivative: as checkpoint.open_pair opens them.
    leave_out: shell patterns ("*.inv_freq") of tensors that the experiment does without.
    Where one model is tied and the other is not, the tied one's head is its embedding.
    Raises InputError that names the tensor if one exists on one side only, has another shape there
    (other than another number of vocabulary rows), is no plain numbers, or is in a decoder layer
    and neither a matrix nor known as anything else, and no pattern leaves it out.
    """
    pairs = []
    for tensor in sorted({*base.tensors, *derivative.tensors}):
        side = base if tensor in base.tensors else derivative
        part = side.anatomy.parts[tensor]
        count = side.tensors[tensor].shape[0] if part.stacked else 0
        left_out = any(fnmatchcase(tensor, pattern) for pattern in leave_out)
        whole = Pair(tensor, part, left_out, base.find(tensor), derivative.find(tensor))
        if not left_out:
            _check(whole, base, derivative)
        names = [matrix_name(tensor, i) for i in range(count)] if whole.same_rows else []
        pairs += [
            Pair(name, part, left_out, base.find(name), derivative.find(name))
            for name in names or [tensor]
        ]
    if not any(pair.role == "projection" and not pair.left_out for pair in pairs):
        raise InputError(
            f"{base.folder}: no matrix of the {base.anatomy.layers} layers of "
            f"{base.anatomy.stack} is left to factor: there is none, or leave_out takes them all"
        )
    return pairs


def _check(pair: Pair, base: Checkpoint, derivative: Checkpoint) -> None:
    remedy = "compare models of one architecture, or leave the tensor out (leave_out)"
    if pair.base is None or pair.derivative is None:
        there, here = (derivative, base) if pair.base is None else (base, derivative)
        raise InputError(
            f"tensor {pair.name} is in {there.folder} but not in {here.folder}; {remedy}"
        )
    if pair.role == "unknown":
        raise InputError(
            f"tensor {pair.name} of shape {list(pair.base.shape)} is in a decoder layer of "
            f"{base.folder} and is {pair.part.what}; leave it out by name (leave_out: it stays "
            "the base's then), or say what it is in lowrank/models/architecture.py (ON_PURPOSE)"
        )
    one, other = pair.base.shape, pair.derivative.shape
    if pair.name in (base.embedding, base.head) and one[1:] == other[1:]:
        return
    if one != other:
        raise InputError(
            f"tensor {pair.name} has shape {list(one)} in {base.folder} and {list(other)} in "
            f"{derivative.folder}; {remedy}"
        )


def squared_changes(
    base: Checkpoint, derivative: Checkpoint, pairs: Sequence[Pair]
) -> dict[str, float | None]:
    """||derivative - base||_F^2 of tensors, in float64, by name; read in pieces of CHUNK entries.

    Rows that only one of the two has are not counted. None for what is on one side only, or was
    left out and cannot be compared. Raises InputError for numbers that are not finite.
    """
    changes: dict[str, float | None] = {}
    for pair in pairs:
        try:
            changes[pair.name] = _squared_change(base, derivative, pair)
        except InputError:
            if not pair.left_out:
                raise
            changes[pair.name] = None
    return changes


def _squared_change(base: Checkpoint, derivative: Checkpoint, pair: Pair) -> float | None:
    import torch

    one, other = pair.base, pair.derivative
    if one is None or other is None or one.shape[1:] != other.shape[1:]:
        return None
    if one.dtype not in TORCH_NAMES or other.dtype not in TORCH_NAMES:
        return None  # integers that are no weights
    shape = min(one.shape, other.shape)
    total = 0.0
    for first, stop in row_chunks(shape, CHUNK):
        change = derivative.read(pair.name, first, stop).sub_(base.read(pair.name, first, stop))
        total += float(torch.linalg.vector_norm(change, dtype=torch.float64)) ** 2
    return total


def ledger_rows(
    base: Checkpoint,
    derivative: Checkpoint,
    pairs: Sequence[Pair],
    fates: Mapping[str, str],
    changes: Mapping[str, float | None],
) -> list[dict[str, Any]]:
    """One row a tensor or matrix of a stack: what it is, its fate, its shares; both sides' form.

    fates: what becomes of a role ("projection" -> "factored"); changes: ||D||_F^2 by name, as
    squared_changes gives it. A tied head that is only another name of the embedding counts 0
    parameters, so that each side sums to its checkpoint's count; ValueError if it does not.
    """
    parameters = derivative.parameters
    change = math.fsum(value for value in changes.values() if value)
    rows = []
    for pair in pairs:
        row: dict[str, Any] = {
            "tensor": pair.name,
            "role": pair.role,
            "what": pair.part.what,
            "fate": LEFT_OUT if pair.left_out else fates[pair.role],
        }
        projection = pair.role == "projection"
        row["layer"], row["module"] = layer_and_module(pair.name) if projection else (None, None)
        notes = []
        for side, model in (("base", base), ("derivative", derivative)):
            entry = model.find(pair.name)
            alias = pair.name == model.head and pair.name not in model.tensors
            row[f"{side}_dtype"] = entry.dtype if entry else None
            row[f"{side}_shape"] = "x".join(map(str, entry.shape)) if entry else None
            row[f"{side}_parameters"] = 0 if entry is None or alias else entry.parameters
            if entry is None:
                notes.append(f"not in {side}")
            elif alias:
                notes.append(f"tied to the embedding in {side}")
            elif entry.name != pair.name:
                notes.append(f"called {entry.name} in {side}")
        if not pair.same_rows:
            notes.append("shapes differ")
        squared = changes[pair.name]
        row["squared_change"] = squared
        row["share_of_parameters"] = row["derivative_parameters"] / parameters
        row["share_of_change"] = squared / change if change and squared is not None else None
        row["note"] = "; ".join(notes)
        rows.append(row)
    for side, model in (("base", base), ("derivative", derivative)):
        total = sum(row[f"{side}_parameters"] for row in rows)
        if total != model.parameters:
            raise ValueError(f"{model.folder}: {model.parameters} parameters, ledger has {total}")
    return rows
