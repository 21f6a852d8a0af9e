"""One difference between two models, paired by problem: its interval, its tests, and what decides.

differences: [problems], value of the model minus value of the reference on each problem, -1..1. The
question is their mean over all problems of this kind, of which these are a sample.

The interval is Student's, widened on the side where Hall's correction for skewness reaches further
(Hall 1992, "On the removal of skewness by transformation"), but nowhere wider than Gaffke's exact
bounds; where fewer than FEW problems differ at all, it is these bounds. A p is the level of the
interval that just touches the value asked about, so an interval and its p never disagree.

strata: [problems], which benchmark each problem is of, where several are pooled; None for one.
Then the benchmarks and their sizes are fixed, and only problems within each are a sample: only the
spread within them counts in Student's interval. Gaffke's bounds take the pool as one sample.

That a difference lies within a margin must be shown twice: by this interval and by Gaffke's bounds,
which hold whatever the differences that no problem happened to show. docs/statistics.md has the
reasons and what was simulated.
"""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lowrank.metrics.majority import Floats

Strata = NDArray[np.int64] | None

ALPHA = 0.05
POWER = 0.8
DRAWS = 100_000
# With fewer differences than these no pattern of signs is rarer than 0.05 (2 / 2 ** 5 is 0.06).
FEW = 6
ALIKE = 1e-4  # on a problem that differs by a hundredth of a point or less two models are alike


def method(differences: Floats, strata: Strata = None) -> str:
    """ "t", or "exact" where too few problems differ to know how differences spread."""
    known = (
        np.ptp(_centred(differences, strata)) > ALIKE and (np.abs(differences) > ALIKE).sum() >= FEW
    )
    return "t" if known else "exact"


def exact_draws(differences: Floats, spacings: Floats) -> tuple[Floats, Floats]:
    """Means that the draws behind Gaffke's two bounds give, [draws] each.

    The differences are weighted at random together with one problem more, on which all was lost
    (for the lower bound) or won (for the upper). spacings: `intervals.problem_spacings`.
    Gaffke 2005; Learned-Miller and Thomas 2019, 1905.06208.
    """
    both = np.stack([np.sort(differences), np.sort(-differences)], axis=1)
    seen, unseen = spacings[:, :-1] @ both, spacings[:, -1]
    low, high = seen[:, 0] - unseen, unseen - seen[:, 1]
    return np.maximum(low, -1.0), np.minimum(high, 1.0)  # up to rounding they are


def exact_tails(draws: tuple[Floats, Floats], at: float) -> tuple[float, float]:
    """One-sided p against "the mean is `at` or less" and "`at` or more", by Gaffke's bounds."""
    low, high = draws
    count = len(low) + 1
    return ((low <= at).sum() + 1) / count, ((high >= at).sum() + 1) / count


def exact_interval(draws: tuple[Floats, Floats], tail: float) -> tuple[float, float]:
    """Gaffke's bounds, each wrong with probability `tail` at most; those of `exact_tails`."""
    low, high = draws
    # The p of a value is at most `tail` if no more than this many draws reach it.
    beyond = math.floor(tail * (len(low) + 1) + 1e-9) - 1
    if beyond < 0:
        return -1.0, 1.0
    return (
        float(np.partition(low, beyond)[beyond]),
        float(-np.partition(-high, beyond)[beyond]),
    )


def tails(
    differences: Floats, draws: tuple[Floats, Floats], at: float, strata: Strata = None
) -> tuple[float, float]:
    """One-sided p against "the mean is `at` or less" and "`at` or more", by the row's method."""
    exact = exact_tails(draws, at)
    if method(differences, strata) == "exact":
        return exact
    mean, error, skew, freedom = _moments(differences, strata)
    t = (mean - at) / error
    straight = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
    return (
        min(exact[0], student_tail(min(t, straight), freedom)),
        min(exact[1], student_tail(-max(t, straight), freedom)),
    )


def interval(
    differences: Floats,
    draws: tuple[Floats, Floats],
    level: float = ALPHA,
    strata: Strata = None,
) -> tuple[float, float]:
    """Interval of the mean, wrong with probability `level`: 0.05 for 95 %."""
    exact = exact_interval(draws, level / 2)
    if method(differences, strata) == "exact":
        return exact
    low, high = _student_interval(differences, level, strata)
    return max(low, exact[0]), min(high, exact[1])


def p_difference(differences: Floats, draws: tuple[Floats, Floats], strata: Strata = None) -> float:
    """Two-sided p against "no difference"; at most `level` where `interval` leaves 0 out."""
    return min(1.0, 2 * min(tails(differences, draws, 0.0, strata)))


def bounds(
    differences: Floats,
    draws: tuple[Floats, Floats],
    level: float = ALPHA,
    strata: Strata = None,
) -> tuple[float, float]:
    """What the mean is shown to lie within: the interval and Gaffke's bounds together."""
    ends = interval(differences, draws, level, strata), exact_interval(draws, level)
    return min(low for low, _ in ends), max(high for _, high in ends)


def p_equivalence(
    differences: Floats, draws: tuple[Floats, Floats], margin: float, strata: Strata = None
) -> float:
    """p against "it differs by the margin or more"; at most `level` where `bounds` lie inside.

    Two one-sided tests (Schuirmann 1987), each passed twice: at `level` by Gaffke's bound, and at
    half of it by the row's own method, so that the interval shown lies inside the margin, too.
    """
    low, high = (tails(differences, draws, at, strata) for at in (-margin, margin))
    own = low[0], high[1]
    exact = exact_tails(draws, -margin)[0], exact_tails(draws, margin)[1]
    return min(1.0, max(2 * max(own), *exact))


def share_interval(
    part: Floats, whole: Floats, level: float = ALPHA, strata: Strata = None
) -> tuple[float, float]:
    """Interval of mean(part) / mean(whole), the two paired by problem: Fieller's.

    A share is in the interval if the mean of part - share * whole is not shown to differ from 0.
    NaN where that leaves shares of any size, as it does when `whole` might be 0, and where too few
    problems differ.
    """
    nothing = (float("nan"), float("nan"))
    if "exact" in (method(whole, strata), method(part - whole, strata)):
        return nothing
    best = part.mean() / whole.mean()

    def inside(share: float) -> bool:
        low, high = _student_interval(part - share * whole, level, strata)
        return low <= 0 <= high

    ends = []
    for side in (-1, 1):
        step = 1e-3
        while inside(best + side * step):
            step *= 2
            if step > 1e3:
                return nothing
        near, far = 0.0, step
        for _ in range(40):
            middle = (near + far) / 2
            near, far = (middle, far) if inside(best + side * middle) else (near, middle)
        ends.append(float(best + side * near))
    return ends[0], ends[1]


def detectable(differences: Floats, level: float = ALPHA, strata: Strata = None) -> float:
    """The true mean difference that a test at `level` finds in 8 of 10 such experiments.

    In the direction of the difference seen, from the spread and the skewness seen. NaN where too
    few problems differ to know them.
    """
    if method(differences, strata) == "exact":
        return float("nan")
    mean, error, skew, _ = _moments(differences, strata)
    problems = len(differences)
    towards = skew if mean <= 0 else -skew
    return detectable_difference(error * math.sqrt(problems), problems, level, towards)


def detectable_difference(
    paired_sd: float, problems: int, level: float = ALPHA, skew: float = 0.0
) -> float:
    """`detectable`, for a loss, by the standard deviation between two or more problems.

    The noncentral t by its usual normal approximation (Johnson and Welch 1940). skew: the
    skewness over the root of the number of problems.
    """
    freedom = problems - 1
    reach = student_quantile(level / 2, freedom)
    reach = max(reach, -_unstraightened(-reach, skew))
    beyond = NormalDist().inv_cdf(POWER) * math.sqrt(1 + reach**2 / (2 * freedom))
    return (reach * (1 - 1 / (4 * freedom)) + beyond) * paired_sd / math.sqrt(problems)


def least_margin(problems: int, level: float = ALPHA) -> float:
    """The smallest margin within which so many problems can show equivalence at all.

    Had one problem in 1 / m all lost, none of n would be such a one with probability (1 - m)^n;
    where that is more than `level`, no difference seen proves nothing about a margin of m.
    """
    return 1 - float(level ** (1 / problems))


def least_problems(margin: float, level: float = ALPHA) -> int:
    """How many problems it takes to show equivalence within a margin at all; see `least_margin`."""
    return math.ceil(math.log(level) / math.log(1 - margin))


# --- several at once --------------------------------------------------------------------------


def holm(p: NDArray[np.float64]) -> Floats:
    """p values adjusted so that any false finding among them has chance 0.05 at most (Holm)."""
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def holm_levels(p: NDArray[np.float64], alpha: float = ALPHA) -> Floats:
    """The level at which Holm's procedure decides each: p <= level where holm(p) <= alpha.

    It compares the smallest with alpha / m, the next with alpha / (m - 1) and so on, until one is
    not shown; all others are left at that one's level. Equal p have equal levels.
    """
    ordered = np.sort(p)
    levels = alpha / np.arange(len(p), 0, -1)
    failed = np.flatnonzero(ordered > levels)
    stop = failed[0] if len(failed) else len(p) - 1
    own: Floats = levels[np.minimum(np.searchsorted(ordered, p, side="right") - 1, stop)]
    return own


# --- Student's t ------------------------------------------------------------------------------


def student_tail(t: float, freedom: int) -> float:
    """P(T > t) with a whole number of degrees of freedom (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, squared = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for i in range(1 + odd, freedom, 2):
        total += term
        term *= squared * i / (i + 1)
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(1.0, max(0.0, (1 - inside) / 2))


@lru_cache
def student_quantile(tail: float, freedom: int) -> float:
    """The t that is exceeded with probability `tail`, at most one half."""
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > tail:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, freedom) > tail else (low, middle)
    return high


def _student_interval(
    differences: Floats, level: float, strata: Strata = None
) -> tuple[float, float]:
    """Student's and Hall's interval together."""
    mean, error, skew, freedom = _moments(differences, strata)
    reach = student_quantile(level / 2, freedom)
    low = mean - error * max(reach, _unstraightened(reach, skew))
    return low, mean - error * min(-reach, _unstraightened(-reach, skew))


def _moments(differences: Floats, strata: Strata = None) -> tuple[float, float, float, int]:
    """Mean, its standard error, its skewness, and the error's degrees of freedom.

    The variance of a stratified mean is the sum of its strata's (Cochran 1977, chapter 5): here of
    n_h s_h^2 / n^2 over strata of n_h problems, in proportion to which each counts.
    """
    n, centred = len(differences), _centred(differences, strata)
    sizes = np.full(n, n) if strata is None else np.bincount(strata)[strata]
    error = math.sqrt((centred**2 * sizes / (sizes - 1)).sum()) / n
    skew = float((centred**3).sum() / (n * error) ** 3) if error > 0 else 0.0
    freedom = n - (1 if strata is None else len(np.unique(strata)))
    return float(differences.mean()), error, skew, freedom


def _centred(differences: Floats, strata: Strata) -> Floats:
    """The differences less the mean of their benchmark."""
    if strata is None:
        return differences - float(differences.mean())
    means = np.bincount(strata, differences) / np.bincount(strata)
    return differences - means[strata]


def _unstraightened(z: float, skew: float) -> float:
    """The t that Hall's cubic, which takes the skewness out of it, turns into z."""
    if abs(skew) < 1e-9:
        return z
    cube = 1 + skew * (z - skew / 6)
    return 3 / skew * (math.copysign(abs(cube) ** (1 / 3), cube) - 1)
