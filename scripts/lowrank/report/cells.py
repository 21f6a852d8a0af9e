"""Tables of the page, and how numbers are written in them.

A table is a dictionary for the template: heads, optional groups over them, rows of cells (text, and
a smaller text under it). It is made from column records, so that a head and its cells stand
together.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

DASH, TIMES, PLUS_MINUS = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}", "\N{PLUS-MINUS SIGN}"


def cell(text: str = "", under: str = "") -> dict[str, str]:
    """One cell of a table."""
    return {"text": text, "under": under}


def row(*cells: str | dict[str, str], kind: str = "") -> dict[str, Any]:
    """One row of a table; `kind` is its class on the page."""
    return {"cells": [c if isinstance(c, dict) else cell(c) for c in cells], "kind": kind}


@dataclass(frozen=True)
class Column:
    """A column of a table on the page.

    head: its name. cell: from what a row is about, the text, or text with a smaller one under it.
    group: what stands over it and its neighbours of the same group; "" for nothing.
    """

    head: str
    cell: Callable[[Any], str | dict[str, str]]
    group: str = ""


def tabulate(
    columns: Sequence[Column],
    lines: Iterable[Any],
    kind_of: Callable[[Any], str] = lambda line: "",
    caption: str = "",
    kind: str = "",
) -> dict[str, Any]:
    """A table with a row for each of `lines`. kind_of: a row's class on the page."""
    groups = [(name, len(list(run))) for name, run in groupby(columns, lambda each: each.group)]
    return grid(
        [column.head for column in columns],
        [row(*(column.cell(line) for column in columns), kind=kind_of(line)) for line in lines],
        groups if any(name for name, _ in groups) else None,
        caption,
        kind,
    )


def grid(
    heads: list[str],
    rows: list[dict[str, Any]],
    groups: list[tuple[str, int]] | None = None,
    caption: str = "",
    kind: str = "",
) -> dict[str, Any]:
    """A table; groups: (name, how many columns) over the heads; `kind` is its class.

    The columns that begin a group stand apart from those before.
    """
    named = [{"name": name, "span": span} for name, span in groups or [] if span]
    ends = np.cumsum([group["span"] for group in named]).tolist()
    return {
        "heads": heads,
        "rows": rows,
        "groups": named,
        "apart": ends[:-1],
        "caption": caption,
        "kind": kind,
    }


def fraction(value: float, places: int = 3) -> str:
    """An accuracy as a fraction; a dash where there is none."""
    return f"{value:.{places}f}" if np.isfinite(value) else DASH


def percent(share: float) -> str:
    """A share as a percentage, with a decimal where it is small or nearly whole."""
    if not np.isfinite(share):
        return DASH
    return f"{share:.1%}" if share < 0.1 or 0.99 < share < 1 else f"{share:.0%}"


def size(value: float) -> str:
    """A norm or a ratio with three digits."""
    return f"{value:#.3g}".removesuffix(".") if np.isfinite(value) else DASH


def interval(low: float, high: float) -> str:
    """An interval of accuracies; nothing where there is none."""
    return f"{low:.3f} {DASH} {high:.3f}" if np.isfinite(low) and np.isfinite(high) else ""


def spread(sd: float) -> str:
    """A standard deviation as it stands under a value; nothing where there is none."""
    return f"{PLUS_MINUS} {sd:.3f}" if np.isfinite(sd) else ""


def joined(words: list[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
