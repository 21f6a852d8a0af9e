"""How far an estimate can be trusted: two intervals, named after the question that each answers.

"These problems" (traces resampled): where would the estimate lie if the model were sampled again on
the same problems? The variances of the problems' estimates add up; the interval is normal.

"Problems like these" (problems resampled): where would it lie on other problems of the same kind?
The problem is the cluster (Miller 2024, 2411.00640): per-problem values are resampled, BCa (Efron
1987, "Better bootstrap confidence intervals"). Next to 0 or 1, where resampling cannot show what no
problem showed, it is Gaffke's bound. This is nearly always the wider one of the two.

The spread over repeated draws from one pool (the post's error bars) is neither.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowrank.metrics.majority import Floats, binomial, majority_curve

DRAWS = 10_000
RARE = 2  # problems' worth
NOTHING = (float("nan"), float("nan"))
_NORMAL = NormalDist()


def problem_weights(problems: int, generator: np.random.Generator, draws: int = DRAWS) -> Floats:
    """[draws, problems] how often each problem occurs in each resampled benchmark, over n."""
    chances = np.full(problems, 1 / problems)
    return generator.multinomial(problems, chances, size=draws) / problems


def problem_spacings(problems: int, generator: np.random.Generator, draws: int = DRAWS) -> Floats:
    """[draws, problems + 1] shares that as many random points cut 0..1 into."""
    return generator.dirichlet(np.ones(problems + 1), size=draws)


def problems_method(values: Floats, share: bool = True) -> str:
    """How `problems_interval` comes about: "bca", "gaffke", or "" where there is none.

    share: the values lie in 0..1.
    """
    if len(values) < 2:
        return ""
    if share and min(values.sum(), (1 - values).sum()) < RARE:
        return "gaffke"
    return "bca" if np.ptp(values) >= 1e-12 else ""


def problems_interval(
    values: Floats, weights: Floats, spacings: Floats | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean over problems: BCa, or Gaffke's where that cannot know better.

    values: [problems]. weights: `problem_weights`. spacings: `problem_spacings` where the values
    lie in 0..1. With fewer than RARE problems' worth of wrong (or right) answers among them, the
    result depends on which problems happened to be drawn: simulated, BCa covered as little as 14 %
    there, Gaffke's interval 95 % and more. NaN where neither gives an interval: for one problem,
    and where all values are equal and Gaffke's does not apply.
    """
    tail = (1 - level) / 2
    method = problems_method(values, spacings is not None)
    if not method:
        return NOTHING
    if spacings is not None and method == "gaffke":
        return _gaffke(values, spacings, tail)
    mean = float(values.mean())
    # The jackknife's influence of a problem on a mean.
    return _bca(mean, weights @ values, values - mean, tail)


def ratio_interval(
    part: Floats, whole: Floats, weights: Floats, level: float = 0.95
) -> tuple[float, float]:
    """BCa interval of mean(part) / mean(whole), problems resampled: both belong to one problem.

    part, whole: [problems], none negative. weights: `problem_weights`. NaN where nothing can be
    told: one problem, a whole that is 0 in a resampled benchmark, equal ratios on all problems.
    """
    totals = weights @ whole
    if len(part) < 2 or not (totals > 0).all():
        return NOTHING
    ratio = float(part.mean() / whole.mean())
    # The infinitesimal jackknife's influence on a ratio of means.
    influence = (part - ratio * whole) / whole.mean()
    if np.ptp(influence) < 1e-12:
        return NOTHING
    return _bca(ratio, weights @ part / totals, influence, (1 - level) / 2)


def _bca(value: float, resampled: Floats, influence: Floats, tail: float) -> tuple[float, float]:
    """Bias-corrected and accelerated interval of a value, from what resampling gave."""
    resampled = np.sort(resampled)
    # Ties count half, or few distinct values would look like bias.
    near = 1e-12 * max(1.0, abs(value))
    below = (resampled < value - near).mean() / 2 + (resampled <= value + near).mean() / 2
    least = 1 / len(resampled)
    bias = _NORMAL.inv_cdf(float(np.clip(below, least, 1 - least)))
    skew = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    ends = []
    for z in (_NORMAL.inv_cdf(tail), _NORMAL.inv_cdf(1 - tail)):
        shifted = bias + z
        ends.append(_NORMAL.cdf(bias + shifted / (1 - skew * shifted)))
    low, high = np.quantile(resampled, ends)
    return float(low), float(high)


def _gaffke(values: Floats, spacings: Floats, tail: float) -> tuple[float, float]:
    """Bounds of the mean of values in 0..1: resampled with random weights, together with one more
    that is 0 for the lower bound, 1 for the upper.

    Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
    nonnegative variable"; Learned-Miller and Thomas 2019, 1905.06208. Of 0s and 1s it is the
    Clopper-Pearson interval; where all are 1 the lower bound is tail^(1/n).
    """
    n = len(values)
    for same in (0.0, 1.0):
        if np.abs(values - same).max() < 1e-12:
            bound = 1 - tail ** (1 / n)  # what the draws would only come near to
            return (0.0, bound) if same == 0 else (1 - bound, 1.0)
    lower = spacings[:, :n] @ np.sort(values)
    upper = lower + spacings[:, n]
    return float(np.quantile(lower, tail)), float(np.quantile(upper, 1 - tail))


def traces_interval(
    value: float, variances: Floats, level: float = 0.95, share: bool = True
) -> tuple[float, float]:
    """Normal interval of a mean over problems whose estimates vary independently.

    variances: [problems] of each problem's estimate. NaN where they are all zero (nothing can be
    told from pools whose traces all agree) or unknown.
    """
    total = variances.sum()
    if not total > 1e-24:  # up to rounding
        return NOTHING
    reach = -_NORMAL.inv_cdf((1 - level) / 2) * float(np.sqrt(total)) / len(variances)
    low, high = value - reach, value + reach
    return (max(low, 0.0), min(high, 1.0)) if share else (low, high)


def mean_variance(values: NDArray[Any]) -> Floats:
    """[...] variance of the mean of [..., N] traces; NaN for a single trace."""
    size = values.shape[-1]
    if size < 2:
        return np.full(values.shape[:-1], np.nan)
    variance: Floats = values.astype(float).var(axis=-1, ddof=1) / size
    return variance


def count_variance(right: NDArray[np.int64], size: int, table: Floats) -> Floats:
    """[problems] variance of table[c], c the right ones of `size` traces, under resampling.

    What resampling the traces with replacement converges to: c is binomial with the pool's own
    share; times N / (N - 1), as the pool's variance falls short by that.
    table: [size + 1].
    """
    if size < 2:
        return np.full(len(right), np.nan)
    variances = {}
    for c in sorted(set(right.tolist())):
        chance = binomial(size, c / size) if 0 < c < size else np.eye(size + 1)[c]
        mean = chance @ table
        variances[c] = max(0.0, float(chance @ (table - mean) ** 2)) * size / (size - 1)
    return np.array([variances[c] for c in right.tolist()])


def majority_variance(
    votes: Sequence[int],
    right: Iterable[bool],
    silent: int,
    ks: Sequence[int],
    generator: np.random.Generator,
    draws: int = 2000,
) -> Floats:
    """[len(ks)] variance of a pool's Maj@k.

    Up to k = N / 2 the jackknife: each trace left out in turn (Arvesen 1969, "Jackknifing
    U-statistics"). It grows too large as k nears N, where the pool is resampled instead.
    """
    size = sum(votes) + silent
    if size < 2:
        return np.full(len(ks), np.nan)
    if len(votes) + (silent > 0) == 1:
        return np.zeros(len(ks))  # all traces agree
    variances = dict.fromkeys(ks, 0.0)
    small = [k for k in ks if 2 * k <= size]
    large = [k for k in ks if 2 * k > size]
    if small:
        whole = majority_curve(votes, right, small, silent)
        total = np.zeros(len(small))
        # Classes whose loss has the same effect; one without votes has none to lose.
        alike = Counter(pair for pair in zip(votes, right, strict=True) if pair[0])
        for (vote, correct), number in sorted(alike.items()):
            rest = list(votes)
            rest[list(zip(votes, right, strict=True)).index((vote, correct))] -= 1
            without = majority_curve(rest, right, small, silent)
            total += number * vote * (without - whole) ** 2
        if silent:
            total += silent * (majority_curve(votes, right, small, silent - 1) - whole) ** 2
        variances.update(zip(small, total * (size - 1) / size, strict=True))
    for k in large:
        variances[k] = _resampled_variance(votes, right, silent, k, generator, draws)
    return np.array([variances[k] for k in ks])


def _resampled_variance(
    votes: Sequence[int],
    right: Iterable[bool],
    silent: int,
    k: int,
    generator: np.random.Generator,
    draws: int,
) -> float:
    """Variance of a pool's Maj@k when the pool is resampled with replacement.

    The variance of an average over subsets is the covariance of two votes by random k-subsets of
    one pool: they share a hypergeometric number of traces and differ in the others.
    """
    size = sum(votes) + silent
    shares = np.array([*votes, silent]) / size
    shared = generator.hypergeometric(k, size - k, k, size=draws)
    common = generator.multinomial(shared, shares)
    first, second = (
        _won(common + generator.multinomial(k - shared, shares), np.array(right, dtype=bool))
        for _ in range(2)
    )
    covariance = np.mean((first - first.mean()) * (second - second.mean()))
    return max(0.0, float(covariance)) * size / (size - 1)


def _won(votes: NDArray[np.int64], right: NDArray[np.bool_]) -> Floats:
    """[draws] share of the right among the winners of each row of votes, [draws, classes + 1];
    the last column is silent."""
    votes = votes[:, :-1]
    top = votes.max(axis=1, keepdims=True)
    winners = (votes == top) & (top > 0)
    share: Floats = (winners & right).sum(axis=1) / np.maximum(winners.sum(axis=1), 1)
    return share
