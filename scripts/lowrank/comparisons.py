"""Models against models, paired by problem: difference, test, equivalence, and a verdict in words.

Both models answer the same problems, so what is compared is the difference on each problem; that
takes the spread between easy and hard problems out (Miller 2024, 2411.00640).
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lowrank.errors import InputError
from lowrank.intervals import problem_weights, problems_interval, traces_interval
from lowrank.majority import Floats
from lowrank.metrics import figures, generator
from lowrank.pools import check_ks, listed, matched, pools

if TYPE_CHECKING:
    from pandas import DataFrame

ALPHA = 0.05
POWER = 0.8
DRAWS = 100_000
COLUMNS = (
    "model",
    "reference",
    "metric",
    "k",
    "value",
    "reference_value",
    "difference",
    "traces_low",
    "traces_high",
    "problems_low",
    "problems_high",
    "p",
    "p_method",
    "p_holm",
    "margin",
    "p_equivalence",
    "detectable",
    "paired_sd",
    "n_problems",
    "n_samples",
    "verdict",
)


def compare(
    grades: "Mapping[str, DataFrame]",
    references: Sequence[str],
    ks: Sequence[int],
    margin: float,
    seed: int = 0,
    intersect: bool = False,
) -> "DataFrame":
    """Every model against every reference, on mean accuracy, Maj@k and pass@k.

    grades: model -> its table of grades. references: names among them; of two references
        only the later is compared with the earlier, so name the base first.
    margin: the largest difference of accuracy that counts as none, as a share (0.05 is 5 points).
    intersect: models with different problems or samples are cut down to what all have; without it
    they are an error.

    One row a (model, reference, metric, k), in the order of `grades`, `references`, metric and k:
        value, reference_value: of the exact estimator.
        difference: value - reference_value, a share.
        traces_low, traces_high: 95 % interval of the difference on these problems.
        problems_low, problems_high: 95 % interval of it on problems like these (BCa over problems).
        p: two-sided sign-flip test over problems; p_method: "exact" or "drawn" (100,000 draws).
        p_holm: p adjusted for all comparisons of the same metric and k (Holm 1979).
        margin: as given. p_equivalence: of two one-sided sign-flip tests (TOST), the larger p; at
            most 0.05 says the difference lies within the margin.
        detectable: the smallest true difference that a two-sided test at 0.05 would find in 80 of
            100 such experiments, from paired_sd, the spread of the differences between problems.
        n_problems, n_samples: what was compared.
        verdict: in words, from these numbers.
    Raises InputError for an unknown reference, a margin outside 0..1, pools that do not match.
    """
    import pandas

    unknown = [name for name in references if name not in grades]
    if unknown:
        raise InputError(
            f"references {listed(unknown)} are not among the graded models {listed(grades)}"
        )
    if not 0 < margin < 1:
        raise InputError(
            f"margin is {margin}; a share between 0 and 1 is needed, 0.05 for 5 points"
        )
    whole = {
        name: pools(table, f"the grades of {name}")
        for name, table in matched(grades, intersect).items()
    }
    ks = sorted(set(ks))
    found = {}
    for name, parts in whole.items():
        check_ks(ks, len(parts[0].classes), name)
        found[name] = {
            (figure.metric, figure.k): figure
            for figure in figures(parts, ks, seed, ("mean", "maj", "pass"))
        }
    rank = {name: i for i, name in enumerate(dict.fromkeys(references))}
    # Two references meet once: the later one (the derivative) against the earlier (the base).
    pairs = [(m, r) for m in grades for r in rank if m != r and rank.get(m, len(rank)) > rank[r]]
    if not pairs:
        raise InputError("nothing to compare: one model only, and it is its own reference")
    keys = list(found[pairs[0][0]])
    problems = len(whole[pairs[0][0]])
    differences = np.array(
        [found[m][key].values - found[r][key].values for m, r in pairs for key in keys]
    )
    signs = generator(seed, "sign-flip", problems).integers(0, 2, (DRAWS, problems)) * 2.0 - 1
    p, methods = sign_flip(differences, signs)
    equivalence = tost(differences, margin, signs)
    weights = problem_weights(problems, generator(seed, "differences", problems))
    rows = []
    for (model, reference), key in ((pair, key) for pair in pairs for key in keys):
        i = len(rows)
        ours, theirs = found[model][key], found[reference][key]
        difference = float(differences[i].mean())
        traces = traces_interval(difference, ours.variances + theirs.variances, share=False)
        over_problems = problems_interval(differences[i], weights)
        spread = float(differences[i].std(ddof=1)) if problems > 1 else float("nan")
        rows.append(
            {
                "model": model,
                "reference": reference,
                "metric": key[0],
                "k": key[1],
                "value": float(ours.values.mean()),
                "reference_value": float(theirs.values.mean()),
                "difference": difference,
                "traces_low": traces[0],
                "traces_high": traces[1],
                "problems_low": over_problems[0],
                "problems_high": over_problems[1],
                "p": p[i],
                "p_method": methods[i],
                "margin": margin,
                "p_equivalence": equivalence[i],
                "detectable": detectable_difference(spread, problems),
                "paired_sd": spread,
                "n_problems": problems,
                "n_samples": len(whole[model][0].classes),
            }
        )
    table = pandas.DataFrame(rows)
    table["p_holm"] = 1.0
    for _, family in table.groupby(["metric", "k"]):
        table.loc[family.index, "p_holm"] = holm(family["p"].to_numpy())
    table["verdict"] = [verdict(row) for row in table.to_dict("records")]
    return table.reindex(columns=COLUMNS)


# --- tests ------------------------------------------------------------------------------------


def sign_flip(differences: Floats, signs: Floats) -> tuple[list[float], list[str]]:
    """Two-sided p of paired sign-flip tests, and how each was computed.

    differences: [comparisons, problems]. Under "no difference" each problem's difference is as
    likely to have the other sign; p is the share of sign patterns whose mean lies as far from 0 as
    the one seen. Exact (all patterns) with up to 16 problems that differ at all; else of `signs`,
    [draws, problems], with the observed pattern counted in: (b + 1) / (draws + 1).
    """
    observed = np.abs(differences.sum(axis=1))
    near = 1e-9 * np.maximum(1.0, np.abs(differences).sum(axis=1))
    drawn = np.abs(signs @ differences.T) >= observed - near
    p = ((drawn.sum(axis=0) + 1) / (len(signs) + 1)).tolist()
    methods = ["drawn"] * len(p)
    for i, row in enumerate(differences):
        moved = row[np.abs(row) > 1e-12]
        if len(moved) <= 16:
            sums = _all_sums(moved)
            p[i] = float((np.abs(sums) >= observed[i] - near[i]).mean())
            methods[i] = "exact"
    return p, methods


def _all_sums(values: Floats) -> Floats:
    """[2 ** len(values)] sums under every pattern of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def tost(differences: Floats, margin: float, signs: Floats) -> list[float]:
    """p of equivalence: two one-sided sign-flip tests against -margin and +margin, the larger.

    "The true difference is -margin or less" is tested by the differences moved up by margin, "it
    is +margin or more" by those moved down (Schuirmann 1987, with sign flips for t).
    Like every test of means it can only know of differences that occur: a model that fails on one
    problem in fifty and is else the same will often meet 30 problems without one of these.
    """
    ps = []
    for moved in (differences + margin, margin - differences):
        near = 1e-9 * np.maximum(1.0, np.abs(moved).sum(axis=1))
        as_far = signs @ moved.T >= moved.sum(axis=1) - near
        ps.append((as_far.sum(axis=0) + 1) / (len(signs) + 1))
    return np.maximum(*ps).tolist()


def holm(p: NDArray[np.float64]) -> Floats:
    """p values adjusted so that any false finding among them has chance 0.05 at most (Holm)."""
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def detectable_difference(paired_sd: float, problems: int) -> float:
    """The true mean difference that a two-sided paired test at 0.05 finds with power 0.8.

    (z_0.975 + z_0.8) sd / sqrt(n), for differences whose spread between problems is `paired_sd`.
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - ALPHA / 2) + normal.inv_cdf(POWER)) * paired_sd / problems**0.5


# --- words ------------------------------------------------------------------------------------


def points(share: float) -> str:
    """A share as percentage points: 0.0234 is 2.3 points."""
    return f"{100 * share:.1f} points"


def verdict(row: Mapping) -> str:
    """A comparison in words: is it better or worse, and is it equivalent?"""
    name, within = (
        row["reference"],
        f"equivalent to {row['reference']} within {points(row['margin'])}",
    )
    equivalent = row["p_equivalence"] <= ALPHA
    if row["p_holm"] <= ALPHA:
        direction = "better" if row["difference"] > 0 else "worse"
        words = f"{direction} than {name} by {points(abs(row['difference']))}"
        return f"{words}, yet {within}" if equivalent else words
    if equivalent:
        return within
    return f"not distinguishable from {name}"


def hypothesis_box(
    comparisons: "DataFrame",
    variants: Sequence[tuple[str, int, str]],
    derivative: str,
    base: str,
    metric: str = "mean",
    k: int = 1,
) -> "DataFrame":
    """ "Cutting the delta to rank r keeps the accuracy", answered for every variant.

    comparisons: as `compare` gives it, of one benchmark. variants: (name, rank, other).
    One row a variant: variant, rank, other, answer, difference (to the derivative), problems_low,
    problems_high, p_holm, p_equivalence, detectable, gain_kept (share of the derivative's gain over
    the base; NaN where that gain is itself not found), words.
    answer: "kept" if it is equivalent to the derivative within the margin, or better; "lost" if
    worse; "open" if neither is shown. A variant both equivalent and worse keeps it by definition of
    the margin; the words say both.
    """
    import pandas

    chosen = comparisons[(comparisons["metric"] == metric) & (comparisons["k"] == k)]
    by_pair = {(row["model"], row["reference"]): row for row in chosen.to_dict("records")}
    gain = by_pair.get((derivative, base))
    found = gain is not None and gain["p_holm"] <= ALPHA and gain["difference"] > 0
    rows = []
    for name, rank, other in variants:
        if (name, derivative) not in by_pair:
            raise InputError(
                f"there is no comparison of {name} with {derivative} on {metric} at k = {k}"
            )
        row = by_pair[name, derivative]
        different = row["p_holm"] <= ALPHA
        if row["p_equivalence"] <= ALPHA or (different and row["difference"] > 0):
            answer = "kept"
        else:
            answer = "lost" if different else "open"
        share = float("nan")
        if found:
            share = 1 + row["difference"] / gain["difference"]
        rows.append(
            {
                "variant": name,
                "rank": rank,
                "other": other,
                "answer": answer,
                **{
                    column: row[column]
                    for column in (
                        *("difference", "problems_low", "problems_high", "p_holm"),
                        *("p_equivalence", "detectable"),
                    )
                },
                "gain_kept": share,
                "words": _answer_in_words(answer, row, by_pair.get((name, base)), share),
            }
        )
    return pandas.DataFrame(rows)


def _answer_in_words(answer: str, row: Mapping, to_base: Mapping | None, gain: float) -> str:
    sign = "+" if row["difference"] >= 0 else "-"
    words = f"{answer}: {row['verdict']} ({sign}{points(abs(row['difference']))}"
    if row["problems_low"] == row["problems_low"]:
        words += f", 95 % interval {100 * row['problems_low']:+.1f} to "
        words += f"{100 * row['problems_high']:+.1f} over problems"
    words += ")"
    if answer == "open":
        words += f"; {row['n_problems']} problems would show a difference of "
        words += f"{points(row['detectable'])} in 8 of 10 such experiments, no smaller one"
    if to_base is not None:
        words += f"; {to_base['verdict']}"
    if gain == gain:
        words += f"; {100 * gain:.0f} % of the derivative's gain over the base"
    return words


def headline(difference: float, paired_sd: float, problems: int) -> dict[str, float | str]:
    """What a published difference would be under these tests, on so many problems.

    difference: as published (0.023). paired_sd: how much such differences spread between problems,
    as measured here (`compare`'s paired_sd at the same metric and k). The p is that of a paired
    test with normal differences; `power` its chance to come out at 0.05 or less if the difference
    is true. Returns difference, problems_worth, p, detectable, power, needed (problems for power
    0.8), words.
    """
    normal = NormalDist()
    se = paired_sd / problems**0.5
    z = abs(difference) / se if se > 0 else float("inf")
    p = 2 * (1 - normal.cdf(z))
    critical = normal.inv_cdf(1 - ALPHA / 2)
    power = normal.cdf(z - critical) + normal.cdf(-z - critical)
    reach = critical + normal.inv_cdf(POWER)
    needed = float(np.ceil((reach * paired_sd / difference) ** 2)) if difference else float("inf")
    detectable = detectable_difference(paired_sd, problems)
    found = "a difference" if p <= ALPHA else "not distinguishable from no difference"
    words = (
        f"{100 * difference:+.1f} points on {problems} problems are "
        f"{abs(difference) * problems:.1f} problems' worth: {found} (p = {p:.2f}); "
        f"{points(detectable)} would be needed, or {needed:.0f} problems"
    )
    return {
        "difference": difference,
        "problems_worth": abs(difference) * problems,
        "p": p,
        "detectable": detectable,
        "power": power,
        "needed": needed,
        "words": words,
    }
