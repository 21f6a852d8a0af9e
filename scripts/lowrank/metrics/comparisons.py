"""Models against models, paired by problem: differences, tests, equivalence, answers.

Both models answer the same problems, so what is compared is the difference on each problem; that
takes the spread between easy and hard problems out (Miller 2024, 2411.00640). How one difference is
judged is in lowrank.metrics.paired; here are the rows, and what is adjusted for how many there are.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lowrank.errors import InputError
from lowrank.metrics.estimates import Figure, figures, generator
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
    "method",
    "p",
    "family",
    "p_holm",
    "margin",
    "within_low",
    "within_high",
    "p_equivalence",
    "p_equivalence_holm",
    "detectable",
    "paired_sd",
    "n_differ",
    "n_problems",
    "n_samples",
    "verdict",
    "answer",
    "gain_kept",
    "gain_kept_low",
    "gain_kept_high",
)
UNANSWERED = "cannot be answered here"


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

    One row a (model, reference, metric, k), in the order of `grades`, `references`, metric and k:
        value, reference_value: of the exact estimator.
        difference: value - reference_value, a share.
        traces_low, traces_high: 95 % interval of the difference on these problems.
        what `judged` gives: how the difference is judged for problems like these.
        n_problems, n_samples: what was compared.
        verdict: in words, from these numbers.
        with exactly two references, a base and its derivative, what `answered` gives.
    Raises InputError for an unknown reference, a margin outside 0..1, pools that do not match, a
    pooled benchmark of a single problem.
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
    found: dict[str, dict[tuple[str, int], Figure]] = {}
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
    rows = []
    for (model, reference), key in ((pair, key) for pair in pairs for key in keys):
        ours, theirs = found[model][key], found[reference][key]
        difference = float((ours.values - theirs.values).mean())
        traces = traces_interval(difference, ours.variances + theirs.variances, share=False)
        rows.append(
            {
                "model": model,
                "reference": reference,
                "metric": key[0],
                "k": key[1],
                "value": float(ours.values.mean()),
                "reference_value": float(theirs.values.mean()),
                "traces_low": traces[0],
                "traces_high": traces[1],
                "n_problems": problems,
                "n_samples": len(whole[model][0].classes),
            }
        )
    table = pandas.DataFrame(rows)
    differences = np.array(
        [found[m][key].values - found[r][key].values for m, r in pairs for key in keys]
    )
    families = list(zip(table["reference"], table["metric"], table["k"], strict=True))
    spacings = problem_spacings(problems, generator(seed, "differences", problems), DRAWS)
    strata = _strata(whole[pairs[0][0]], benchmarks)
    table = pandas.concat([table, judged(differences, families, margin, spacings, strata)], axis=1)
    table["verdict"] = [verdict(row) for row in table.to_dict("records")]
    if len(rank) == 2:
        values = {
            name: {key: figure.values for key, figure in found[name].items()} for name in found
        }
        table = pandas.concat([table, answered(table, values, *rank, strata)], axis=1)
    return table.reindex(columns=COLUMNS)


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

    draws = [exact_draws(row, spacings) for row in differences]
    table = pandas.DataFrame({"difference": differences.mean(axis=1)})
    pairs = list(zip(differences, draws, strict=True))
    ends = np.array([interval(row, drawn, ALPHA, strata) for row, drawn in pairs])
    table["problems_low"], table["problems_high"] = ends.T
    table["method"] = [method(row, strata) for row in differences]
    table["p"] = [p_difference(row, drawn, strata) for row, drawn in pairs]
    table["margin"] = margin
    table["p_equivalence"] = [p_equivalence(row, drawn, margin, strata) for row, drawn in pairs]
    level = np.empty(len(table))
    for family in dict.fromkeys(families):
        rows = [i for i, each in enumerate(families) if each == family]
        table.loc[rows, "family"] = len(rows)
        for p in ("p", "p_equivalence"):
            table.loc[rows, f"{p}_holm"] = holm(table.loc[rows, p].to_numpy())
        level[rows] = holm_levels(table.loc[rows, "p_equivalence"].to_numpy())
    table = table.astype({"family": int})
    within = np.array([bounds(*pair, at, strata) for pair, at in zip(pairs, level, strict=True)])
    table["within_low"], table["within_high"] = within.T
    problems = differences.shape[1]
    table["paired_sd"] = differences.std(axis=1, ddof=1) if problems > 1 else float("nan")
    table["detectable"] = [
        detectable(row, ALPHA / family, strata)
        for row, family in zip(differences, table["family"], strict=True)
    ]
    table["n_differ"] = (np.abs(differences) > ALIKE).sum(axis=1)
    return table


def answered(
    table: "DataFrame",
    values: Mapping[str, Mapping[tuple[str, int], Floats]],
    base: str,
    derivative: str,
    strata: Strata = None,
) -> "DataFrame":
    """ "Does the model keep what training gave?", of every row against the derivative.

    table: the rows so far. values: model -> (metric, k) -> [problems].
    answer:
        "cannot be answered here" where the derivative is not shown to be better than the base, or
            is by less than the margin: then keeping it and losing it look alike;
        "kept" if equivalent to the derivative within the margin (be it worse within that);
        "better" or "lost" if it is shown to differ and not to be equivalent;
        "open" if nothing is shown.
    gain_kept: the share of the derivative's gain over the base, and its 95 % interval (NaN where
    the question cannot be answered; the interval also where too few problems differ).
    Rows against the base have none of these.
    """
    import pandas

    gains = {
        (row["metric"], row["k"]): row
        for row in table.to_dict("records")
        if (row["model"], row["reference"]) == (derivative, base)
    }
    made = []
    for row in table.to_dict("records"):
        if row["reference"] != derivative:
            made.append({"answer": None})
            continue
        key = row["metric"], row["k"]
        gain = gains[key]
        shown = gain["p_holm"] <= ALPHA and gain["difference"] >= row["margin"]
        if not shown:
            made.append({"answer": UNANSWERED})
            continue
        if row["p_equivalence_holm"] <= ALPHA:
            answer = "kept"
        elif row["p_holm"] <= ALPHA:
            answer = "better" if row["difference"] > 0 else "lost"
        else:
            answer = "open"
        low, high = share_interval(
            values[row["model"]][key] - values[base][key],
            values[derivative][key] - values[base][key],
            strata=strata,
        )
        share = 1 + row["difference"] / gain["difference"]
        made.append(
            {"answer": answer, "gain_kept": share, "gain_kept_low": low, "gain_kept_high": high}
        )
    columns = ["answer", "gain_kept", "gain_kept_low", "gain_kept_high"]
    return pandas.DataFrame(made, index=table.index).reindex(columns=columns)
