"""What grades say of models, once more: by enumeration and scipy, as docs/statistics.md has it.

Nothing here uses what it is held against (lowrank.metrics). Slow and simple on purpose: a pool is
taken apart subset by subset, an interval is found by turning its test around.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import optimize, stats

ALPHA = 0.05
Pool = tuple[int, ...]  # a trace each: 1, 2 .. a right answer, -1, -2 .. a wrong one, 0 none


def pools_of(grades: pd.DataFrame) -> dict[str, Pool]:
    """The pool of every problem; answers are numbered by how often they occur."""
    made = {}
    for problem, rows in grades.groupby("problem_id"):
        pool = [0] * int(rows["answer"].isna().sum())
        for right, sign in ((True, 1), (False, -1)):
            votes = rows.loc[(rows["correct"] == right) & rows["answer"].notna(), "answer"]
            for number, count in enumerate(votes.value_counts(), start=1):
                pool += [sign * number] * count
        made[problem] = tuple(sorted(pool))
    return made


# --- one problem ------------------------------------------------------------------------------


def vote(subset: Sequence[int]) -> float:
    """Whether the most frequent answer is right; ties are split, silence has no vote."""
    votes = Counter(trace for trace in subset if trace)
    winners = [answer for answer, count in votes.items() if count == max(votes.values())]
    return sum(answer > 0 for answer in winners) / len(winners) if winners else 0.0


def right(subset: Sequence[int]) -> int:
    return sum(trace > 0 for trace in subset)


def at_least(share: float) -> Callable[[Sequence[int]], float]:
    """G-Pass: whether at least that share of the subset is right."""
    return lambda subset: float(right(subset) >= share * len(subset))


def above_half(subset: Sequence[int]) -> float:
    """mG-Pass: 2 / k for every right trace beyond the first ceil(k / 2)."""
    return 2 / len(subset) * max(0, right(subset) - math.ceil(len(subset) / 2))


MEASURES: dict[str, Callable[[Sequence[int]], float]] = {
    "mean": lambda subset: right(subset) / len(subset),
    "pass": lambda subset: float(right(subset) > 0),
    "maj": vote,
    "gpass-0.5": at_least(0.5),
    "gpass-0.75": at_least(0.75),
    "gpass-1": at_least(1.0),
    "mgpass": above_half,
    "no_answer": lambda subset: subset.count(0) / len(subset),
}


@cache
def value(metric: str, pool: Pool, k: int) -> float:
    """The average of a measure over all k-subsets of the pool."""
    return float(np.mean([MEASURES[metric](subset) for subset in combinations(pool, k)]))


@cache
def variance(metric: str, pool: Pool, k: int) -> float:
    """How much that would vary were the traces sampled again.

    A mean: its squared standard error. Votes over up to half the pool: the jackknife. All else: the
    pool resampled with replacement, times N / (N - 1), every resample in turn.
    """
    size = len(pool)
    if metric in ("mean", "no_answer"):
        return float(stats.sem([MEASURES[metric]((trace,)) for trace in pool]) ** 2)
    if metric == "maj" and 2 * k <= size:
        whole = value(metric, pool, k)
        left = [value(metric, pool[:i] + pool[i + 1 :], k) for i in range(size)]
        return (size - 1) / size * sum((each - whole) ** 2 for each in left)
    chances, values = zip(*_resamples(metric, pool, k), strict=True)
    mean = np.dot(chances, values)
    return float(np.dot(chances, (np.array(values) - mean) ** 2)) * size / (size - 1)


def _resamples(metric: str, pool: Pool, k: int) -> Iterator[tuple[float, float]]:
    """Chance and value of every pool that resampling can give."""
    size = len(pool)
    kinds = pool if metric == "maj" else tuple(int(trace > 0) for trace in pool)
    votes = Counter(kinds)
    for counts in _compositions(size, len(votes)):
        resampled = [t for t, n in zip(votes, counts, strict=True) for _ in range(n)]
        chance = float(math.factorial(size))
        for n, of in zip(counts, votes.values(), strict=True):
            chance *= (of / size) ** n / math.factorial(n)
        yield chance, value(metric, tuple(sorted(resampled)), k)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


# --- one model --------------------------------------------------------------------------------


def values(pools: dict[str, Pool], metric: str, k: int) -> np.ndarray:
    return np.array([value(metric, pools[name], k) for name in sorted(pools)])


def variances(pools: dict[str, Pool], metric: str, k: int) -> np.ndarray:
    return np.array([variance(metric, pools[name], k) for name in sorted(pools)])


def reach(*of: np.ndarray) -> float:
    """Half the 95 % interval for the same problems, of a sum of means with these variances.

    NaN where nothing varies.
    """
    if not np.sum(of):
        return float("nan")
    return float(stats.norm.ppf(1 - ALPHA / 2) * math.sqrt(sum(map(np.sum, of))) / len(of[0]))


def problems_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval over problems of a share: BCa, or next to 0 or 1 Gaffke's bounds."""
    if min(values.sum(), (1 - values).sum()) < 2:
        cuts = spacings(len(values))
        seen, unseen = cuts[:, :-1] @ values, cuts[:, -1]
        return float(np.quantile(seen, ALPHA / 2)), float(np.quantile(seen + unseen, 1 - ALPHA / 2))
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", random_state=np.random.default_rng(5)
    )
    return tuple(found.confidence_interval)


@cache
def spacings(problems: int, draws: int = 50_000) -> np.ndarray:
    """[draws, problems + 1] into what so many uniform points cut 0..1."""
    points = np.sort(np.random.default_rng(99).random((draws, problems)), axis=1)
    return np.diff(points, axis=1, prepend=0.0, append=1.0)


# --- two models -------------------------------------------------------------------------------


class Paired:
    """Differences on problems, judged as docs/statistics.md says.

    strata: the benchmark of each problem, where several are pooled.
    """

    def __init__(self, differences: np.ndarray, strata: Sequence[str] | None = None):
        self.mean = float(differences.mean())
        n = len(differences)
        parts = pd.Series(differences).groupby(list(strata) if strata else [0] * n)
        centred = differences - parts.transform("mean").to_numpy()
        self.error = math.sqrt(sum(len(p) * p.var(ddof=1) for _, p in parts if len(p) > 1)) / n
        self.freedom = n - parts.ngroups
        self.differ = int((abs(differences) > 1e-4).sum())
        self.exact = self.differ < 6 or np.ptp(centred) <= 1e-4
        self.skew = 0.0 if self.exact else float((centred**3).sum() / (n * self.error) ** 3)
        self.sd = float(np.std(differences, ddof=1))
        self.differences = differences

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Gaffke's draws: random weights, and one problem more that is all lost, or all won."""
        cuts = spacings(len(self.differences))
        seen = cuts[:, :-1] @ self.differences
        return seen - cuts[:, -1], seen + cuts[:, -1]

    def hall(self, t: float) -> float:
        """t with the skewness taken out (Hall 1992)."""
        return t + self.skew * t**2 / 3 + self.skew**2 * t**3 / 27 + self.skew / 6

    def student(self, at: float) -> tuple[float, float]:
        """p against "at most `at`" and "at least `at`": Student's and Hall's, the larger."""
        t = (self.mean - at) / self.error
        law = stats.t(self.freedom)
        return law.sf(min(t, self.hall(t))), law.cdf(max(t, self.hall(t)))

    def gaffke(self, at: float) -> tuple[float, float]:
        """The same by Gaffke's bounds."""
        low, high = self.bounds
        return float((low <= at).mean()), float((high >= at).mean())

    def tails(self, at: float) -> tuple[float, float]:
        if self.exact:
            return self.gaffke(at)
        return tuple(map(min, self.gaffke(at), self.student(at)))

    def gaffke_interval(self, tail: float) -> tuple[float, float]:
        low, high = self.bounds
        return float(np.quantile(low, tail)), float(np.quantile(high, 1 - tail))

    def student_interval(self, level: float) -> tuple[float, float]:
        """Where each tail is half the level."""
        low = optimize.brentq(lambda at: self.student(at)[0] - level / 2, -9, self.mean)
        high = optimize.brentq(lambda at: self.student(at)[1] - level / 2, self.mean, 9)
        return low, high

    def interval(self, level: float = ALPHA) -> tuple[float, float]:
        exact = self.gaffke_interval(level / 2)
        if self.exact:
            return exact
        low, high = self.student_interval(level)
        return max(low, exact[0]), min(high, exact[1])

    def within(self, level: float) -> tuple[float, float]:
        """The interval, and Gaffke's one-sided bounds: the wider at each end."""
        own, exact = self.interval(level), self.gaffke_interval(level)
        return min(own[0], exact[0]), max(own[1], exact[1])

    def p(self) -> float:
        return min(1.0, 2 * min(self.tails(0.0)))

    def p_equivalence(self, margin: float) -> float:
        """Two one-sided tests, each passed at half the level by the interval and by Gaffke's."""
        own = max(self.tails(-margin)[0], self.tails(margin)[1])
        return min(1.0, max(2 * own, self.gaffke(-margin)[0], self.gaffke(margin)[1]))

    def detectable(self, level: float) -> float:
        """The true difference that is found in 8 of 10 experiments: by the noncentral t."""
        if self.exact:
            return float("nan")
        sign = -1 if self.mean <= 0 else 1
        needed = stats.t(self.freedom).isf(level / 2)
        # In its direction Hall's correction may ask for more.
        asked = optimize.brentq(lambda t: abs(self.hall(t)) - needed, 0, sign * 20)
        needed = max(needed, abs(asked))
        shift = optimize.brentq(lambda d: stats.nct.sf(needed, self.freedom, d) - 0.8, 0, 30)
        return shift * self.error


def share_interval(
    part: np.ndarray, whole: np.ndarray, strata: Sequence[str] | None = None
) -> tuple[float, float]:
    """Fieller's: all shares s for which part - s * whole may have a mean of 0."""
    best = part.mean() / whole.mean()
    if Paired(part - whole, strata).exact or Paired(whole, strata).exact:
        return float("nan"), float("nan")

    def p(share: float) -> float:
        return 2 * min(Paired(part - share * whole, strata).student(0.0)) - ALPHA

    return optimize.brentq(p, best - 2, best, xtol=1e-5), optimize.brentq(
        p, best, best + 2, xtol=1e-5
    )


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p: every set of hypotheses that one is in must be rejected (closed testing)."""
    sets = [s for size in range(1, len(p) + 1) for s in combinations(range(len(p)), size)]
    bonferroni = {s: min(1.0, len(s) * min(p[i] for i in s)) for s in sets}
    return [max(each for s, each in bonferroni.items() if i in s) for i in range(len(p))]


def holm_levels(p: Sequence[float]) -> list[float]:
    """The level that each p is held against, from the smallest until one is not rejected.

    Equal p are held against the same, the last of theirs.
    """
    levels, level = {}, 0.0
    stopped = False
    for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if not stopped:
            level = ALPHA / (len(p) - step)
            stopped = p[i] > level
        levels[i] = level
    return [max(levels[j] for j in levels if p[j] == each) for each in p]


def comparisons(
    grades: dict[str, pd.DataFrame],
    base: str,
    derivative: str,
    measures: Sequence[tuple[str, int]],
    margin: float,
    benchmarks: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Every model against both, the derivative against the base; index model, reference, metric, k.

    benchmarks: of each problem, where several are pooled.
    """
    pools = {model: pools_of(table) for model, table in grades.items()}
    names = sorted(pools[base])
    strata = [benchmarks[name] for name in names] if benchmarks else None
    rows = []
    for metric, k in measures:
        of = {model: values(each, metric, k) for model, each in pools.items()}
        spread = {model: variances(each, metric, k) for model, each in pools.items()}
        for reference in (base, derivative):
            models = [m for m in grades if m not in (base, reference)]
            paired = {m: Paired(of[m] - of[reference], strata) for m in models}
            p = holm([each.p() for each in paired.values()])
            alone = [each.p_equivalence(margin) for each in paired.values()]
            held = zip(models, p, holm(alone), holm_levels(alone), alone, strict=True)
            for model, adjusted, equivalence, level, own in held:
                each = paired[model]
                around = reach(spread[model], spread[reference])
                row = {
                    "model": model, "reference": reference, "metric": metric, "k": k,
                    "value": of[model].mean(), "reference_value": of[reference].mean(),
                    "difference": each.mean,
                    "traces_low": each.mean - around, "traces_high": each.mean + around,
                    "p": each.p(), "family": len(models), "p_holm": adjusted,
                    "p_equivalence": own, "p_equivalence_holm": equivalence,
                    "method": "exact" if each.exact else "t", "paired_sd": each.sd,
                    "n_differ": each.differ, "n_problems": len(names),
                    "n_samples": len(pools[base][names[0]]),
                    "detectable": each.detectable(ALPHA / len(models)),
                }  # fmt: skip
                row["problems_low"], row["problems_high"] = each.interval()
                row["within_low"], row["within_high"] = each.within(level)
                rows.append(row | _kept(of, model, reference, base, derivative, strata))
    table = pd.DataFrame(rows).set_index(["model", "reference", "metric", "k"])
    table["answer"] = [_answer(table, key, derivative, base, margin) for key in table.index]
    unanswered = table["answer"].isin(["cannot be answered here", ""])
    table.loc[unanswered, ["gain_kept", "gain_kept_low", "gain_kept_high"]] = float("nan")
    return table


def _kept(of, model, reference, base, derivative, strata) -> dict[str, float]:
    """Which share of the derivative's gain over the base a model has."""
    if reference != derivative:
        return {}
    part, whole = of[model] - of[base], of[derivative] - of[base]
    if Paired(whole, strata).p() > ALPHA:
        return {}
    low, high = share_interval(part, whole, strata)
    return {"gain_kept": part.mean() / whole.mean(), "gain_kept_low": low, "gain_kept_high": high}


def _answer(table: pd.DataFrame, key: tuple, derivative: str, base: str, margin: float) -> str:
    row, gain = table.loc[key], table.loc[(derivative, base, *key[2:])]
    if key[1] != derivative:
        return ""
    if gain["p_holm"] > ALPHA or gain["difference"] < margin:
        return "cannot be answered here"
    if row["p_equivalence_holm"] <= ALPHA:
        return "kept"
    if row["p_holm"] <= ALPHA:
        return "better" if row["value"] > row["reference_value"] else "lost"
    return "open"
