"""Which ranks differ, and how many are enough: divergences of models compared by problem."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank.metrics.divergences import Divergence, recovered
from lowrank.metrics.estimates import generator
from lowrank.metrics.intervals import problem_weights, problems_interval
from lowrank.metrics.majority import Floats
from lowrank.metrics.paired import ALPHA, holm

if TYPE_CHECKING:
    from pandas import DataFrame

SHARES = (0.9, 0.95, 0.99)
DRAWS = 100_000
EXACT = 16  # up to so many problems all patterns of signs are tried
CONTRASTS = (
    "benchmark",
    "question",
    "model",
    "reference",
    "value",
    "reference_value",
    "difference",
    "low",
    "high",
    "p",
    "family",
    "p_holm",
    "n_problems",
    "verdict",
)
RANKS = ("benchmark", "ladder", "share", "rank", "rank_low", "rank_high", "tried", "n_problems")
Ladders = Mapping[str, Mapping[str, int]]  # name -> variant -> its rank


def contrasts(
    found: Mapping[str, Divergence],
    ladders: Ladders,
    pairs: Sequence[tuple[str, str]],
    benchmark: str,
    seed: int = 0,
    equal: Sequence[tuple[str, str]] = (),
) -> "DataFrame":
    """Each rank of a ladder against the next lower one, and the pairs: a row each.

    question: rank, other (where embeddings, head and norms come from), or bytes (`equal`: another
    description against the rank whose bytes it has). value, reference_value:
    mean over problems of the divergence from the derivative; difference: value - reference_value,
    so negative where the model is closer; low, high: its 95 % interval for problems like these, of
    this row alone. p: sign-flip test; p_holm: adjusted for all rows (Holm), family of them.
    """
    import pandas

    asked = [
        ("rank", upper, lower)
        for ladder in ladders.values()
        for lower, upper in pairwise(sorted(ladder, key=ladder.__getitem__))
    ]
    asked += [("other", model, reference) for model, reference in pairs]
    asked += [("bytes", model, reference) for model, reference in equal]
    if not asked:
        return pandas.DataFrame(columns=list(CONTRASTS))
    problems = len(next(iter(found.values())).kl)
    weights = problem_weights(problems, generator(seed, benchmark, "divergence"))
    rows = []
    for question, model, reference in asked:
        ours, theirs = found[model].kl, found[reference].kl
        low, high = problems_interval(ours - theirs, weights)
        rows.append(
            {
                "benchmark": benchmark,
                "question": question,
                "model": model,
                "reference": reference,
                "value": ours.mean(),
                "reference_value": theirs.mean(),
                "difference": (ours - theirs).mean(),
                "low": low,
                "high": high,
                "p": sign_flip(ours - theirs, generator(seed, benchmark, "signs")),
                "family": len(asked),
                "n_problems": problems,
            }
        )
    table = pandas.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy())
    table["verdict"] = [verdict(row) for row in table.to_dict("records")]
    return table.reindex(columns=list(CONTRASTS))


def rank_within(sizes: "DataFrame", kind: str, ladder: Mapping[str, int]) -> str | None:
    """The variant of the highest rank of a ladder that takes no more bytes than a description.

    sizes: a row a matrix and description (lowrank.variants.description_errors). None where even the
    lowest rank takes more.
    """
    taken = sizes.groupby(["description", "rank"])["bytes"].sum()
    fits = [v for v, rank in ladder.items() if taken["lowrank", rank] <= taken[kind, 0]]
    return max(fits, key=ladder.__getitem__, default=None)


def sign_flip(differences: Floats, draws: np.random.Generator) -> float:
    """Two-sided p of the sign-flip test that differences lie evenly around 0 (Fisher 1935).

    differences: [problems]. Under no difference every pattern of their signs is as likely as the
    one seen; p is the share of patterns whose mean is as far from 0. All are tried for few
    problems, else DRAWS at random, the one seen counted among them.
    """
    seen = abs(differences.sum())
    if seen == 0:
        return 1.0
    reached = seen * (1 - 1e-9)
    n = len(differences)
    if n <= EXACT:
        patterns = np.arange(1 << n)[:, None] >> np.arange(n) & 1
        return float((np.abs((2 * patterns - 1) @ differences) >= reached).mean())
    count = 0
    for _ in range(10):
        signs = draws.integers(0, 2, size=(DRAWS // 10, n), dtype=np.int8) * 2 - 1
        count += int((np.abs(signs @ differences) >= reached).sum())
    return (count + 1) / (DRAWS + 1)


def verdict(row: Mapping[str, Any]) -> str:
    """A contrast in words."""
    model, reference = row["model"], row["reference"]
    if row["p_holm"] > ALPHA:
        return f"{model} and {reference} are not distinguishable"
    nearer, other = (model, reference) if row["difference"] < 0 else (reference, model)
    return f"{nearer} is closer than {other} by {abs(row['difference']):.2g} nats a token"


def enough(
    found: Mapping[str, Divergence], ladders: Ladders, base: str, benchmark: str, seed: int = 0
) -> "DataFrame":
    """The smallest rank of each ladder that recovers a share of the way, and its interval.

    A row a ladder and share of SHARES. rank: the smallest of the ranks tried whose recovered share
    reaches it; missing where none does. rank_low, rank_high: the same in resampled benchmarks
    (problems with replacement), from their 2.5th to their 97.5th percentile; missing where that is
    none of the ranks tried. tried: these, as text.
    """
    import pandas

    problems = len(found[base].kl)
    weights = problem_weights(problems, generator(seed, benchmark, "divergence"))
    whole = weights @ found[base].kl
    rows = []
    for name, ladder in ladders.items():
        names = sorted(ladder, key=ladder.__getitem__)
        ranks = [ladder[variant] for variant in names]
        shares = np.array([recovered(found[variant].kl, found[base].kl) for variant in names])
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = np.array([1 - weights @ found[variant].kl / whole for variant in names])
        for share in SHARES:
            ends = np.quantile(_first(drawn >= share), (0.025, 0.975), method="inverted_cdf")
            at = [int(_first(shares[:, None] >= share)[0]), *map(int, ends)]
            rank, low, high = (ranks[i] if i < len(ranks) else None for i in at)
            tried = " ".join(map(str, ranks))
            rows.append((benchmark, name, share, rank, low, high, tried, problems))
    table = pandas.DataFrame(rows, columns=list(RANKS))
    return table.astype(dict.fromkeys(("rank", "rank_low", "rank_high"), "Int64"))


def _first(reached: np.ndarray) -> np.ndarray:
    """[draws] the first row of [ranks, draws] that is true; the number of rows where none is."""
    return np.where(reached.any(axis=0), reached.argmax(axis=0), len(reached))
