"""Every tensor of a pair of checkpoints, paired by name: none is dropped in silence."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lowrank.checkpoint import HEAD, VOCABULARY, Checkpoint, role
from lowrank.errors import InputError
from lowrank.tensorfile import TensorEntry


@dataclass(frozen=True)
class Pair:
    """One tensor name and where it lies in base and derivative (a tied head in its embedding)."""

    name: str
    role: str  # projection | bias | other
    left_out: bool
    base: TensorEntry | None
    derivative: TensorEntry | None

    @property
    def same_rows(self) -> bool:
        """False where the two models pad their vocabulary differently."""
        return (
            self.base is None or self.derivative is None or self.base.shape == self.derivative.shape
        )


def pair_tensors(base: Checkpoint, derivative: Checkpoint, leave_out: Sequence[str]) -> list[Pair]:
    """Pair the tensors of two checkpoints by name, sorted by name.

    leave_out: shell patterns ("*.inv_freq") of tensors that the experiment does without.
    Where one model is tied and the other is not, the tied one's head is its embedding.
    Raises InputError that names the tensor if one exists on one side only, or has another shape
    there (other than another number of vocabulary rows), and no pattern leaves it out.
    """
    names = sorted({*base.tensors, *derivative.tensors})
    pairs = []
    for name in names:
        sides = base.find(name), derivative.find(name)
        left_out = any(fnmatchcase(name, pattern) for pattern in leave_out)
        pair = Pair(name, role(name), left_out, *sides)
        if not left_out:
            _check(pair, base, derivative)
        pairs.append(pair)
    if not any(pair.role == "projection" and not pair.left_out for pair in pairs):
        raise InputError(
            f"{base.folder}: no tensor named like model.layers.0.self_attn.q_proj.weight is left "
            "to compare; models with the seven projections of Llama and Qwen2 are understood"
        )
    return pairs


def _check(pair: Pair, base: Checkpoint, derivative: Checkpoint) -> None:
    remedy = "compare models of one architecture, or leave the tensor out (leave_out)"
    for entry, there, here in (
        (pair.base, derivative, base),
        (pair.derivative, base, derivative),
    ):
        if entry is None:
            raise InputError(
                f"tensor {pair.name} is in {there.folder} but not in {here.folder}; {remedy}"
            )
    one, other = pair.base.shape, pair.derivative.shape
    if pair.name in VOCABULARY and one[1:] == other[1:]:
        return
    if one != other or (pair.role == "projection" and len(one) != 2):
        raise InputError(
            f"tensor {pair.name} has shape {list(one)} in {base.folder} and {list(other)} in "
            f"{derivative.folder}; {remedy}"
        )


def ledger_rows(
    base: Checkpoint, derivative: Checkpoint, pairs: Sequence[Pair], fates: dict[str, str]
) -> list[dict[str, object]]:
    """One row a tensor: role, fate, and on each side dtype, shape and number of parameters.

    fates: what becomes of a role ("projection" -> "factored"). A tied head that is only another
    name of the embedding counts 0 parameters, so that each side sums to its checkpoint's count;
    ValueError if it does not.
    """
    rows = []
    for pair in pairs:
        row: dict[str, object] = {
            "tensor": pair.name,
            "role": pair.role,
            "fate": "left out by configuration" if pair.left_out else fates[pair.role],
        }
        notes = []
        for side, model in (("base", base), ("derivative", derivative)):
            entry = model.find(pair.name)
            alias = pair.name == HEAD and pair.name not in model.tensors
            row[f"{side}_dtype"] = entry.dtype if entry else None
            row[f"{side}_shape"] = "x".join(map(str, entry.shape)) if entry else None
            row[f"{side}_parameters"] = 0 if entry is None or alias else entry.parameters
            if entry is None:
                notes.append(f"not in {side}")
            elif alias:
                notes.append(f"tied to the embedding in {side}")
        if not pair.same_rows:
            notes.append("shapes differ")
        row["note"] = "; ".join(notes)
        rows.append(row)
    for side, model in (("base", base), ("derivative", derivative)):
        total = sum(row[f"{side}_parameters"] for row in rows)
        if total != model.parameters:
            raise ValueError(f"{model.folder}: {model.parameters} parameters, ledger has {total}")
    return rows
