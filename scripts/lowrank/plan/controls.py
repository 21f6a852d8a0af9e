"""The kinds of control, and where a variant's other weights can come from: each fact once.

Names of variants, the flags of build_adapter.py and the report's sentences follow from here. A new
kind of control is a new record, if build_adapter.py can make its adapter.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Control:
    """A kind of variant that the claim is tested against.

    name: as config.yaml has it. what: what it is, in the page's list of controls.
    flags: build_adapter.py's, for its adapter. seeded: whether that adapter is drawn at random.
    packed: whether it is no adapter but a description in the bytes of a rank, which
        build_description.py makes; ranked: whether there is one for each rank.
    other: of a control without any of the delta (rank 0), where its other weights come from; None
        for a control that is made at every rank. begins: how a sentence on such a control begins.
    """

    name: str
    what: str
    flags: Mapping[str, Any] = field(default_factory=dict)
    seeded: bool = False
    packed: bool = False
    ranked: bool = True
    other: str | None = None
    begins: str = ""


@dataclass(frozen=True)
class OtherWeights:
    """Where a variant's embeddings, head and norms come from.

    name: as config.yaml has it. done: what happened to them, in a word. source: the same with the
    model they come from, {base} or {derivative}.
    """

    name: str
    done: str
    source: str


LOWRANK = Control("lowrank", "the top directions")  # no control: the claim itself
CONTROLS = {
    control.name: control
    for control in (
        Control(
            "other",
            "rank 0 with all else copied",
            other="copy",
            begins="Everything of the derivative except the change of its projections",
        ),
        Control(
            "biases",
            "rank 0 with all else kept, so the projections' biases alone",
            other="keep",
            begins="The projections' biases alone",
        ),
        Control(
            "random",
            "the same singular values in random directions",
            {"directions": "random"},
            seeded=True,
        ),
        Control("bottom", "the delta's weakest directions", {"directions": "bottom"}),
        Control(
            "rescaled",
            "the top directions scaled up to the norm of the whole delta",
            {"rescale": True},
        ),
        Control("sparse", "the largest changes alone, in the bytes of a rank", packed=True),
        Control(
            "bitdelta",
            "the sign of every change with one scale a matrix",
            packed=True,
            ranked=False,
        ),
        Control(
            "quantised8",
            "in the bytes of a rank as many directions as 8 bits a number allow",
            packed=True,
        ),
        Control(
            "quantised4",
            "in the bytes of a rank as many directions as 4 bits a number allow",
            packed=True,
        ),
    )
}
OTHER_WEIGHTS = {
    each.name: each
    for each in (
        OtherWeights("copy", "copied", "copied from {derivative}"),
        OtherWeights("keep", "kept", "left as in {base}"),
    )
}


def kind_of(name: str) -> Control:
    """What is known of a variant's kind; of one that is unknown here, its name."""
    return LOWRANK if name == LOWRANK.name else CONTROLS.get(name, Control(name, name))


def other_weights(name: str) -> OtherWeights:
    """What is known of where other weights come from; of a way unknown here, its name."""
    return OTHER_WEIGHTS.get(name, OtherWeights(name, name, name))


def in_order(names: Iterable[str]) -> list[str]:
    """Names of ways for other weights, those known here first, each once."""
    there = set(names)
    return [name for name in OTHER_WEIGHTS if name in there] + sorted(there - set(OTHER_WEIGHTS))


def kinds_asked(controls: Sequence[str | Mapping[str, list[int]]]) -> dict[str, list[int] | None]:
    """The kinds that config.yaml's controls or only_read name, each with the ranks of its own.

    controls: a kind, or a kind and its ranks ({rescaled: [1]}). None: it is meant at every rank.
    """
    asked: dict[str, list[int] | None] = {}
    for entry in controls:
        asked |= {entry: None} if isinstance(entry, str) else entry
    return asked


def names(asked: Sequence[str | Mapping[str, list[int]]], kind: str, rank: int) -> bool:
    """Whether a list like config.yaml's controls names a kind at a rank."""
    ranks = kinds_asked(asked).get(kind, [])
    return ranks is None or rank in ranks


def prefix(kind: str) -> str:
    """What a variant's name begins with to tell its kind: "random"; "" for one that needs none.

    Controls of rank 0 without any of the delta need none: no other variant is like them.
    """
    return "" if kind == LOWRANK.name or kind_of(kind).other else kind
