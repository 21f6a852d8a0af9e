"""Tables of divergences to figures: how far each model is, and what share of the way was gone.

The problem is the unit, as for accuracy: a model's divergence on a problem is the mean over all of
its tokens that were read, and models are compared on the same problems. Everything here is about
the derivative's own text; where a model would go once it had left it, it does not say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lowrank.errors import InputError
from lowrank.files import read_json, read_table
from lowrank.metrics.estimates import generator
from lowrank.metrics.intervals import (
    NOTHING,
    problem_weights,
    problems_interval,
    ratio_interval,
)
from lowrank.metrics.majority import Floats
from lowrank.metrics.paired import FEW
from lowrank.pools import need_columns

if TYPE_CHECKING:
    from pandas import DataFrame

READ = ("problem_id", "sample", "position", "kl", "equal_top", "token")
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)
COLUMNS = (
    "model",
    "benchmark",
    "metric",
    "at",
    "value",
    "low",
    "high",
    "n_problems",
    "n_tokens",
)
AGAIN = "read the models again (divergence.py), all against one reference"


@dataclass(frozen=True)
class Divergence:
    """A model's divergence from the derivative, by problem.

    kl: [problems] mean over the problem's tokens, nats a token. equal_top: [problems] share of
    these where both find the same token the likeliest. quantiles: of all tokens, at QUANTILES.
    along: first position of a bin -> [problems] mean of kl there, NaN for problems that have none.
    tokens: in each bin.
    """

    problems: list[str]
    kl: Floats
    equal_top: Floats
    quantiles: Floats
    along: dict[int, Floats]
    tokens: dict[int, int]

    @property
    def count(self) -> int:
        """Tokens that were read."""
        return sum(self.tokens.values())


def read_divergences(tables: Mapping[str, Path]) -> dict[str, Divergence]:
    """Every model's divergence, by name; a table at a time is in memory.

    InputError if the tables are not of the same text and the same reference.
    """
    found: dict[str, Divergence] = {}
    first, keys, reference = None, None, None
    for name, path in tables.items():
        table = read_table(path)
        need_columns(table, READ, str(path))
        said = read_json(path.with_suffix(".json")).get("reference")
        mine = table[["problem_id", "sample", "position", "token"]].reset_index(drop=True)
        if keys is None:
            first, keys, reference = path, mine, said
        elif said != reference or not mine.equals(keys):
            raise InputError(f"{path}: was not read from what {first} was read from; {AGAIN}")
        found[name] = of_problems(table)
    return found


def of_problems(table: "DataFrame") -> Divergence:
    """A table of tokens by problem, in order of first appearance."""
    codes, names = table["problem_id"].factorize()
    kl = table["kl"].to_numpy(dtype=np.float64)
    begin = bin_of(table["position"].to_numpy())
    along, tokens = {}, {}
    for first in np.unique(begin).tolist():
        here = begin == first
        along[first] = _means(codes[here], kl[here], len(names))
        tokens[first] = int(here.sum())
    return Divergence(
        [str(name) for name in names],
        _means(codes, kl, len(names)),
        _means(codes, table["equal_top"].to_numpy(dtype=np.float64), len(names)),
        np.quantile(kl, QUANTILES),
        along,
        tokens,
    )


def bin_of(position: NDArray[np.integer]) -> NDArray[np.int64]:
    """The first position of the bin of each: 0, 1, 2 (to 3), 4 (to 7), 8 (to 15) ...

    >>> bin_of(np.array([0, 1, 2, 3, 4, 7, 8, 4095])).tolist()
    [0, 1, 2, 2, 4, 4, 8, 2048]
    """
    position = position.astype(np.int64)
    return np.where(position > 0, 1 << np.int64(np.log2(np.maximum(position, 1))), 0)


def _means(codes: NDArray[np.int64], values: Floats, problems: int) -> Floats:
    """[problems] mean of the values of each; NaN for one without any."""
    sums = np.bincount(codes, values, minlength=problems)
    counts = np.bincount(codes, minlength=problems)
    means: Floats = np.divide(sums, counts, out=np.full(problems, np.nan), where=counts > 0)
    return means


def recovered(kl: Floats, base: Floats) -> float:
    """What share of the way from the base to the derivative a model has gone; 1 is all of it.

    kl, base: [problems] of the model and of the base. A ratio of means over problems: NaN where
    the base does not differ.
    """
    whole = base.mean()
    return float(1 - kl.mean() / whole) if whole > 0 else float("nan")


def figures(
    found: Mapping[str, Divergence], base: str, benchmark: str, seed: int = 0
) -> "DataFrame":
    """One figure a row, in the order of COLUMNS.

    metric:
        kl: mean over problems; recovered: share of the way from the base; equal_top: share of
        tokens with the same likeliest token; each with a 95 % interval for problems like these,
        equal_top where FEW problems or more have a token where they differ.
        kl_quantile: of all tokens, `at` 0.5, 0.9 ..; kl_along: mean over problems of the tokens
        from position `at` to twice that, less one.
    InputError if the base is not among the models.
    """
    import pandas

    if base not in found:
        raise InputError(f"the base {base!r} is not among the models {', '.join(found)}")
    problems = len(found[base].kl)
    weights = problem_weights(problems, generator(seed, benchmark, "divergence"))
    whole = found[base].kl
    rows = []
    for name, one in found.items():

        def add(
            metric: str,
            value: float,
            ends: tuple[float, float] = NOTHING,
            at: float = np.nan,
            n: int = problems,
            tokens: int = one.count,
        ) -> None:
            rows.append((name, benchmark, metric, at, value, *ends, n, tokens))  # noqa: B023

        add("kl", one.kl.mean(), problems_interval(one.kl, weights))
        high, low = (1 - end for end in ratio_interval(one.kl, whole, weights))
        add("recovered", recovered(one.kl, whole), (low, high))
        few = (one.equal_top < 1).sum() < FEW
        ends = NOTHING if few else problems_interval(one.equal_top, weights)
        add("equal_top", one.equal_top.mean(), ends)
        for at, value in zip(QUANTILES, one.quantiles, strict=True):
            add("kl_quantile", value, at=at)
        for first, values in one.along.items():
            there = values[~np.isnan(values)]
            drawn = problem_weights(len(there), generator(seed, benchmark, "along", first))
            ends = problems_interval(there, drawn)
            add("kl_along", there.mean(), ends, first, len(there), one.tokens[first])
    return pandas.DataFrame(rows, columns=list(COLUMNS))
