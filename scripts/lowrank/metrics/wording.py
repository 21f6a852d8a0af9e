"""Comparisons in words, the same in the tables and on the page."""

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from lowrank.metrics.paired import ALPHA, detectable_difference, student_quantile, student_tail

MINUS = "\N{MINUS SIGN}"


def measure_name(metric: str, k: int) -> str:
    """A measure as people write it: mean accuracy, Maj@8, pass@8."""
    return {"mean": "mean accuracy", "maj": f"Maj@{k}", "pass": f"pass@{k}"}.get(
        metric, f"{metric}@{k}"
    )


def points(share: float, sign: bool = False) -> str:
    """A share as percentage points with one decimal; with more where that would show as nothing.

    >>> (
    ...     points(0.0234),
    ...     points(0.0234, sign=True),
    ...     points(0.0004, sign=True),
    ...     points(-0.0, sign=True),
    ... )
    ('2.3', '+2.3', '+0.04', '0.0')
    """
    value = 100 * share
    if abs(value) < 1e-9:
        return "0.0"
    shape = f"{'+' if sign else ''}.{'1f' if abs(value) >= 0.05 else '1g'}"
    return format(value, shape).replace("-", MINUS)


def verdict(row: Mapping[str, Any]) -> str:
    """A row of the comparisons in words: better or worse, equivalent, and in what measure."""
    name, measure = row["reference"], measure_name(row["metric"], row["k"])
    margin = f"{100 * row['margin']:g} points"
    equivalent = row["p_equivalence_holm"] <= ALPHA
    if row["p_holm"] <= ALPHA:
        direction = "better" if row["difference"] > 0 else "worse"
        words = f"{direction} than {name} by {points(abs(row['difference']))} points of {measure}"
        return f"{words}, yet equivalent within {margin}" if equivalent else words
    if equivalent:
        return f"equivalent to {name} within {margin} of {measure}"
    return f"not distinguishable from {name} in {measure}"


def headline(
    difference: float, paired_sd: float, problems: int, among: int = 1
) -> dict[str, float | str]:
    """What a published difference would be under these tests, on so many problems.

    difference: as published (0.023), the largest `among` so many. paired_sd: how much such
    differences spread between problems, as measured here (`compare`'s paired_sd at the same metric
    and k). Returns difference, problems_worth, p (of a paired t-test, times `among`), power (its
    chance to be found if true), needed (problems for power 0.8), words. With an unknown spread, or
    one of 0, these three are NaN.
    """
    worth = abs(difference) * problems
    words = f"{points(difference, sign=True)} points on {problems} problems are {worth:.1f}"
    words += " problems' worth"
    found: dict[str, float | str] = {"difference": difference, "problems_worth": worth}
    if not (paired_sd > 0 and problems > 1 and difference):
        nothing = dict.fromkeys(("p", "power", "needed"), float("nan"))
        words += "; how far such differences spread between problems is not known here"
        return found | nothing | {"words": words}
    freedom, level = problems - 1, ALPHA / among
    t = abs(difference) / (paired_sd / problems**0.5)
    p = min(1.0, 2 * among * student_tail(t, freedom))
    reach = student_quantile(level / 2, freedom)
    spread = (1 + reach**2 / (2 * freedom)) ** 0.5
    power = NormalDist().cdf((t - reach * (1 - 1 / (4 * freedom))) / spread)
    needed = _problems_for(abs(difference), paired_sd, level)
    adjusted = f", adjusted for being the largest of {among}" if among > 1 else ""
    if p <= ALPHA:
        words += f": a difference (p = {p:.2g}{adjusted}), found in {100 * power:.0f} of 100"
        words += " experiments like that if it is true"
    else:
        words += f": not distinguishable from no difference (p = {p:.2f}{adjusted})"
        words += f"; to find one in 8 of 10 experiments takes {needed:,} problems"
    return found | {"p": p, "power": power, "needed": needed, "words": words}


def _problems_for(difference: float, paired_sd: float, level: float) -> int:
    """The fewest problems with which this difference is found in 8 of 10 experiments."""
    few, enough = 2, 4
    while detectable_difference(paired_sd, enough, level) > difference:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        if detectable_difference(paired_sd, middle, level) > difference:
            few = middle
        else:
            enough = middle
    return enough
