"""Models against models, paired by problem: differences, tests, equivalence, answers.

Both models answer the same problems, so what is compared is the difference on each problem; that
takes the spread between easy and hard problems out (Miller 2024, 2411.00640). How one difference is
judged is in lowrank.metrics.paired; here are the rows, and what is adjusted for how many there are.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank.errors import InputError
from lowrank.metrics.estimates import Estimate, estimates, generator
from lowrank.metrics.intervals import problem_spacings, traces_interval
from lowrank.metrics.majority import Floats
from lowrank.metrics.paired import (
    ALIKE,
    ALPHA,
    DRAWS,
    Strata,
    bounds,
    detectable,
    exact_draws,
    holm,
    holm_levels,
    interval,
    method,
    p_difference,
    p_equivalence,
    share_interval,
)
from lowrank.metrics.wording import verdict
from lowrank.pools import Pool, check_ks, listed, matched, pools

if TYPE_CHECKING:
    from pandas import DataFrame

# What a table of comparisons holds: column -> what it is, as docs/tables.md has it.
COLUMNS = {
    "model": "what is compared",
    "reference": "with what",
    "metric": "as in the metrics, `exact`",
    "k": "as in the metrics",
    "value": "of the model",
    "reference_value": "of the reference",
    "difference": "`value` - `reference_value`",
    "traces_low": "95 % interval of the difference, lower end: these problems, sampled again",
    "traces_high": "its upper end",
    "problems_low": "95 % interval of the difference, lower end: problems like these; this"
    " comparison alone",
    "problems_high": "its upper end",
    "method": "how that interval and `p` come about: `t` (Student's, widened for skewness) or"
    " `exact` (Gaffke's bounds, where fewer than six problems differ)",
    "p": "two-sided, against no difference; at most 0.05 where the interval leaves 0 out",
    "family": "comparisons with the same reference, metric and k on this benchmark, which both"
    " tests are adjusted for",
    "p_holm": "`p` adjusted for these (Holm)",
    "margin": "largest difference that counts as none",
    "within_low": "what the difference is shown to lie within, lower end: the interval and"
    " Gaffke's bounds together, at the level at which Holm's procedure decides this row",
    "within_high": "its upper end",
    "p_equivalence": "against a difference of the margin or more",
    "p_equivalence_holm": "`p_equivalence` adjusted (Holm); at most 0.05 where `within_low` and"
    " `within_high` lie inside the margin: equivalent",
    "detectable": "the smallest true difference, in the direction of the one seen, that this design"
    " finds in 8 of 10 experiments at the level of 0.05 / `family`; empty where `method` is"
    " `exact`",
    "paired_sd": "standard deviation of the difference between problems",
    "n_differ": "problems on which the two differ",
    "n_problems": "problems",
    "n_samples": "samples a problem",
    "verdict": "in words, from these numbers",
    "answer": "against the derivative: `kept`, `better`, `lost`, `open` or `cannot be answered"
    " here`",
    "gain_kept": "share of the derivative's gain over the base",
    "gain_kept_low": "its 95 % interval, lower end (Fieller's, problems resampled jointly)",
    "gain_kept_high": "its upper end",
}
METRICS = ("mean", "maj", "pass")
UNANSWERED = "cannot be answered here"

Measure = tuple[str, int]  # metric and k


def compare(
    grades: "Mapping[str, DataFrame]",
    references: Sequence[str],
    ks: Sequence[int],
    margin: float,
    seed: int = 0,
    intersect: bool = False,
    benchmarks: Mapping[str, str] | None = None,
) -> "DataFrame":
    """Every model against every reference, on mean accuracy, Maj@k and pass@k.

    grades: model -> its table of grades. references: names among them; of two references
        only the later is compared with the earlier, so name the base first.
    margin: the largest difference that counts as none, as a share (0.05 is 5 points).
    intersect: models with different problems or samples are cut down to what all have; without it
    they are an error.
    benchmarks: problem_id -> benchmark, where the problems are pooled (`pools.pooled`): only their
        spread within benchmarks counts, as in `paired`.

    One row a (model, reference, metric, k), in the order of `grades`, `references`, metric and k,
    with the columns `COLUMNS`: the values (`valued`), how their difference is judged for problems
    like these (`judged`), the verdict in words, and, with exactly two references, a base and its
    derivative, whether what training gave is kept (`answered`).
    Raises InputError for an unknown reference, a margin outside 0..1, pools that do not match, a
    pooled benchmark of a single problem.
    """
    import pandas

    _check(grades, references, margin)
    pairs = pairings(list(grades), references)
    whole = {
        name: pools(table, f"the grades of {name}")
        for name, table in matched(grades, intersect).items()
    }
    estimated = {name: _estimated(name, parts, ks, seed) for name, parts in whole.items()}
    measures = list(estimated[pairs[0][0]])
    compared = [(*pair, measure) for pair in pairs for measure in measures]

    rows = [valued(estimated, *each) for each in compared]
    sizes = {"n_problems": len(whole[pairs[0][0]]), "n_samples": len(whole[pairs[0][0]][0].classes)}
    table = pandas.DataFrame(rows).assign(**sizes)

    differences = np.array([_difference(estimated, *each) for each in compared])
    families = [(reference, measure) for _, reference, measure in compared]
    problems = sizes["n_problems"]
    spacings = problem_spacings(problems, generator(seed, "differences", problems), DRAWS)
    strata = _strata(whole[pairs[0][0]], benchmarks)
    tests = judged(differences, families, margin, spacings, strata)
    table = pandas.concat([table, tests], axis=1)
    table["verdict"] = [verdict(row) for row in table.to_dict("records")]

    distinct = list(dict.fromkeys(references))
    if len(distinct) == 2:
        base, derivative = distinct
        answers = answered(table, estimated, base, derivative, strata)
        table = pandas.concat([table, answers], axis=1)
    return table.reindex(columns=list(COLUMNS))


# --- pairing ----------------------------------------------------------------------------------


def _check(grades: Mapping[str, object], references: Sequence[str], margin: float) -> None:
    """InputError for a reference that is not graded, and for a margin that is no share."""
    unknown = [name for name in references if name not in grades]
    if unknown:
        raise InputError(
            f"references {listed(unknown)} are not among the graded models {listed(grades)}"
        )
    if not 0 < margin < 1:
        raise InputError(
            f"margin is {margin}; a share between 0 and 1 is needed, 0.05 for 5 points"
        )


def pairings(models: Sequence[str], references: Sequence[str]) -> list[tuple[str, str]]:
    """(model, reference) of every comparison, in the order of the models.

    Two references meet once: the later one (the derivative) is compared with the earlier one (the
    base). InputError if nothing is left to compare.
    """
    rank = {name: i for i, name in enumerate(dict.fromkeys(references))}
    last = len(rank)
    pairs = [
        (model, name) for model in models for name in rank if rank.get(model, last) > rank[name]
    ]
    if not pairs:
        raise InputError("nothing to compare: one model only, and it is its own reference")
    return pairs


def _estimated(
    name: str, whole: Sequence[Pool], ks: Sequence[int], seed: int
) -> dict[Measure, Estimate]:
    """What a model is compared on, by metric and k."""
    ks = sorted(set(ks))
    check_ks(ks, len(whole[0].classes), name)
    return {(each.metric, each.k): each for each in estimates(whole, ks, seed, METRICS)}


def _difference(
    estimated: Mapping[str, Mapping[Measure, Estimate]],
    model: str,
    reference: str,
    measure: Measure,
) -> Floats:
    """[problems] value of the model minus value of the reference."""
    return estimated[model][measure].values - estimated[reference][measure].values


def valued(
    estimated: Mapping[str, Mapping[Measure, Estimate]],
    model: str,
    reference: str,
    measure: Measure,
) -> dict[str, Any]:
    """The begin of a row: what is compared, both values, and the interval for these problems.

    value, reference_value: of the exact estimator. traces_low, traces_high: 95 % interval of their
    difference, had both models been sampled again on these problems.
    """
    ours, theirs = estimated[model][measure], estimated[reference][measure]
    difference = float((ours.values - theirs.values).mean())
    low, high = traces_interval(difference, ours.variances + theirs.variances, share=False)
    return {
        "model": model,
        "reference": reference,
        "metric": measure[0],
        "k": measure[1],
        "value": float(ours.values.mean()),
        "reference_value": float(theirs.values.mean()),
        "traces_low": low,
        "traces_high": high,
    }


# --- tests ------------------------------------------------------------------------------------


def _strata(whole: Sequence[Pool], benchmarks: Mapping[str, str] | None) -> Strata:
    """Which benchmark each pool is of, numbered; None for one."""
    names = [(benchmarks or {}).get(pool.problem_id, "") for pool in whole]
    known = sorted(set(names))
    if len(known) == 1:
        return None
    single = [name for name in known if names.count(name) == 1]
    if single:
        raise InputError(
            f"the benchmark {single[0]} has one problem in common; a pool needs two of each"
        )
    return np.array([known.index(name) for name in names])


def judged(
    differences: Floats,
    families: Sequence[Hashable],
    margin: float,
    spacings: Floats,
    strata: Strata = None,
) -> "DataFrame":
    """How differences are judged, a row each; what several rows are adjusted for.

    differences: [rows, problems]. families: of every row, what it belongs to; each family's tests
    are adjusted together. spacings: `intervals.problem_spacings` for so many problems. strata: as
    in `paired`.

    difference: the mean. problems_low, problems_high: 95 % interval of it on problems like these,
    not adjusted; method: "t" or "exact", as `paired.method` says.
    p: two-sided, against no difference; family: tests in it; p_holm: p adjusted for them (Holm).
    margin: as given. within_low, within_high: what the difference is shown to lie within, at the
    level at which Holm's procedure decides the row. p_equivalence, p_equivalence_holm: against a
    difference of the margin or more; the latter is 0.05 at most where these bounds lie inside it.
    detectable: the smallest true difference, in the direction of the one seen, that is found in
    80 of 100 such experiments at the first step's level, 0.05 / family; NaN where method is
    "exact", which does not know the spread.
    paired_sd: standard deviation between problems (NaN for one). n_differ: problems that differ.
    """
    import pandas

    pairs = [(row, exact_draws(row, spacings)) for row in differences]
    table = pandas.DataFrame({"difference": differences.mean(axis=1)})
    ends = np.array([interval(row, drawn, ALPHA, strata) for row, drawn in pairs])
    table["problems_low"], table["problems_high"] = ends.T
    table["method"] = [method(row, strata) for row in differences]
    table["p"] = [p_difference(row, drawn, strata) for row, drawn in pairs]
    table["margin"] = margin
    table["p_equivalence"] = [p_equivalence(row, drawn, margin, strata) for row, drawn in pairs]

    table = pandas.concat([table, adjusted(table, families)], axis=1)
    levels = table.pop("level")
    within = np.array([bounds(*pair, at, strata) for pair, at in zip(pairs, levels, strict=True)])
    table["within_low"], table["within_high"] = within.T

    problems = differences.shape[1]
    table["paired_sd"] = differences.std(axis=1, ddof=1) if problems > 1 else float("nan")
    table["detectable"] = [
        detectable(row, ALPHA / family, strata)
        for row, family in zip(differences, table["family"], strict=True)
    ]
    table["n_differ"] = (np.abs(differences) > ALIKE).sum(axis=1)
    return table


def adjusted(table: "DataFrame", families: Sequence[Hashable]) -> "DataFrame":
    """Both tests of each family, adjusted together (Holm).

    table: p and p_equivalence, a row a comparison. families: as in `judged`.
    family: how many tests the family has. p_holm, p_equivalence_holm: adjusted. level: the level at
    which Holm's procedure decides each test of equivalence.
    """
    import pandas

    made = pandas.DataFrame(index=table.index)
    members: dict[Hashable, list[int]] = {}
    for place, family in enumerate(families):
        members.setdefault(family, []).append(place)
    for rows in members.values():
        made.loc[rows, "family"] = len(rows)
        for p in ("p", "p_equivalence"):
            made.loc[rows, f"{p}_holm"] = holm(table.loc[rows, p].to_numpy())
        made.loc[rows, "level"] = holm_levels(table.loc[rows, "p_equivalence"].to_numpy())
    return made.astype({"family": int})


# --- answers ----------------------------------------------------------------------------------


def answered(
    table: "DataFrame",
    estimated: Mapping[str, Mapping[Measure, Estimate]],
    base: str,
    derivative: str,
    strata: Strata = None,
) -> "DataFrame":
    """ "Does the model keep what training gave?", of every row against the derivative.

    table: the rows so far. estimated: model -> (metric, k) -> its estimate.
    answer:
        "cannot be answered here" where the derivative is not shown to be better than the base, or
            is by less than the margin: then a gain kept and a gain lost look alike;
        "kept" if it is shown to be equivalent to the derivative within the margin, even where it
            is shown to be worse, too, by less than the margin;
        "better" or "lost" if it is shown to differ, and not to be equivalent;
        "open" if neither is shown.
    gain_kept: the share of the derivative's gain over the base, and its 95 % interval (NaN where
    the question cannot be answered; the interval also where too few problems differ).
    Rows against the base have none of these.
    """
    import pandas

    rows = table.to_dict("records")
    gains = {
        (row["metric"], row["k"]): row
        for row in rows
        if (row["model"], row["reference"]) == (derivative, base)
    }
    made: list[dict[str, Any]] = []
    for row in rows:
        if row["reference"] != derivative:
            made.append({"answer": None})
            continue
        measure = row["metric"], row["k"]
        gain = gains[measure]
        answer = _answer(row, gain)
        made.append({"answer": answer})
        if answer == UNANSWERED:
            continue
        low, high = share_interval(
            _difference(estimated, row["model"], base, measure),
            _difference(estimated, derivative, base, measure),
            strata=strata,
        )
        share = 1 + row["difference"] / gain["difference"]
        made[-1] |= {"gain_kept": share, "gain_kept_low": low, "gain_kept_high": high}
    columns = ["answer", "gain_kept", "gain_kept_low", "gain_kept_high"]
    return pandas.DataFrame(made, index=table.index).reindex(columns=columns)


def _answer(row: Mapping[str, Any], gain: Mapping[str, Any]) -> str:
    """The answer that a row against the derivative gives.

    gain: the row of the derivative against the base, in the same measure.
    """
    if not (gain["p_holm"] <= ALPHA and gain["difference"] >= row["margin"]):
        return UNANSWERED
    if row["p_equivalence_holm"] <= ALPHA:
        return "kept"
    if row["p_holm"] <= ALPHA:
        return "better" if row["difference"] > 0 else "lost"
    return "open"
