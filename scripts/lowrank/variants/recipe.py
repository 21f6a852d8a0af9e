"""What a variant is made of, and what becomes of each tensor of the pair."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lowrank.delta.pairing import LEFT_OUT, Pair
from lowrank.errors import InputError
from lowrank.models.checkpoint import Checkpoint
from lowrank.models.safetensors_file import SAFETENSORS_NAMES, TORCH_NAMES, TensorEntry
from lowrank.variants.adapter import Adapter
from lowrank.variants.description import Description
from lowrank.variants.fidelity import Fidelity


class Fate(StrEnum):
    """What becomes of a tensor."""

    FACTORED = "factored"  # the base's with an adapter
    COPIED = "copied"  # the derivative's
    KEPT = "kept"  # the base's
    LEFT_OUT = LEFT_OUT  # the base's, by configuration


@dataclass(frozen=True)
class Recipe:
    """What a variant is made of."""

    base: Checkpoint
    derivative: Checkpoint
    adapter: Adapter | Description | None  # what is added to the projections
    copy_others: bool
    copy_biases: bool
    dtype: str  # torch's name of what is stored
    unmerged: bool  # the adapter is served beside the checkpoint, not merged into it

    @property
    def serve_as(self) -> str:
        """merged | adapter"""
        return "adapter" if self.unmerged else "merged"

    @property
    def tied(self) -> bool:
        """Whether the stored head is the embedding: only if that holds for all that is stored."""
        return self.base.tied and (self.derivative.tied or not self.copy_others)


@dataclass(frozen=True)
class Stored:
    """A tensor of the variant: where it comes from, and what became of it."""

    pair: Pair
    fate: Fate
    shape: tuple[int, ...]
    dtype: str  # as safetensors writes it
    fidelity: Fidelity = field(default_factory=Fidelity)


def fate(recipe: Recipe, pair: Pair) -> Fate:
    """What becomes of a tensor."""
    if pair.left_out:
        return Fate.LEFT_OUT
    if pair.role == "projection":
        return Fate.FACTORED if recipe.adapter else Fate.KEPT
    copied = recipe.copy_biases if pair.role == "bias" else recipe.copy_others
    return Fate.COPIED if copied else Fate.KEPT


def stored_dtype(recipe: Recipe, name: str, source: TensorEntry) -> str:
    """The dtype a tensor is stored in, as safetensors writes it; source: what it is made of.

    The recipe's, but for what is no weight (integers stay as they are) and for what one of the two
    models stores wider than the rest of it: that stays float32, as in the model it comes from.
    """
    if source.dtype not in TORCH_NAMES:
        return source.dtype
    wide = recipe.base.is_wide(name) or recipe.derivative.is_wide(name)
    return "F32" if wide else SAFETENSORS_NAMES[recipe.dtype]


def plan(recipe: Recipe, pairs: Sequence[Pair]) -> list[Stored]:
    """The tensors of a variant, sorted by name. InputError if they would not fit together."""
    stored = []
    for pair in pairs:
        decided = fate(recipe, pair)
        source = pair.derivative if decided is Fate.COPIED else pair.base
        if source is None or (pair.name == recipe.base.head and recipe.tied):
            continue
        stored.append(Stored(pair, decided, source.shape, stored_dtype(recipe, pair.name, source)))
    shapes = {item.pair.name: item.shape for item in stored}
    head, embedding = recipe.base.head, recipe.base.embedding
    models = (recipe.base, recipe.derivative)
    both = [(model.entry(head).shape, model.entry(embedding).shape) for model in models]
    if head in shapes and (shapes[head], shapes[embedding]) not in both:
        raise InputError(
            f"{head} would be {list(shapes[head])} and {embedding} {list(shapes[embedding])}; "
            "leave out both or none"
        )
    if recipe.adapter:
        wanted = {item.pair.name for item in stored if item.fate is Fate.FACTORED}
        given = set(recipe.adapter.names)
        if wanted != given:
            name = sorted(wanted ^ given)[0]
            raise InputError(
                f"{recipe.adapter.folder}: tensor {name} is "
                + ("missing in it" if name in wanted else "in it, but left out here")
                + "; make it with the same leave_out"
            )
    return stored
