"""What the paired comparisons say of the variants: the box of answers, in tables and sentences."""

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lowrank.comparisons import compare, headline, hypothesis_box, verdict
from lowrank.evidence import Evidence
from lowrank.findings import DASH, cell, grid, listed, percent, published_value, row

# The controls of rank 0, as a sentence on one begins.
KINDS = {
    "other": "Everything of the derivative but the change of its projections",
    "biases": "The projections' biases alone",
}
MINUS = "\N{MINUS SIGN}"


def comparisons_frame(found: Evidence) -> pd.DataFrame:
    """Every variant against base and derivative, and these two; what comparisons.csv holds.

    The columns of `comparisons.compare` after the benchmark. Every benchmark is a family of tests
    of its own.
    """
    experiment = found.experiment
    base, derivative = experiment["base"], experiment["derivative"]
    parts = []
    for benchmark in experiment["benchmarks"]:
        grades = {
            model: found.grades[benchmark, model]
            for model in (*experiment["variants"], derivative, base)
        }
        part = compare(
            grades, [base, derivative], experiment["maj_k"], experiment["margin"],
            experiment["seed"],
        )  # fmt: skip
        part.insert(0, "benchmark", benchmark)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def labelled(found: Evidence, comparisons: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """The comparisons on one benchmark, with models and verdicts as people call them."""
    here = comparisons[comparisons["benchmark"] == benchmark].copy()
    for column in ("model", "reference"):
        here[column] = here[column].map(found.label)
    here["verdict"] = [verdict(line) for line in here.to_dict("records")]
    return here


def box(found: Evidence, here: pd.DataFrame) -> pd.DataFrame:
    """`comparisons.hypothesis_box` of labelled comparisons, on mean accuracy."""
    experiment = found.experiment
    variants = [
        (found.label(name), variant["rank"], variant["other"])
        for name, variant in experiment["variants"].items()
    ]
    derivative, base = found.label(experiment["derivative"]), found.label(experiment["base"])
    return hypothesis_box(here, variants, derivative, base)


def shown(found: Evidence, comparisons: pd.DataFrame) -> list[dict[str, Any]]:
    """Of every benchmark: the box, what else the tests say, and every comparison."""
    items = []
    for benchmark, entry in found.experiment["benchmarks"].items():
        here = labelled(found, comparisons, benchmark)
        items.append(
            {
                "label": entry.get("label", benchmark),
                "box": box_table(found, here),
                "said": [
                    *gain(found, here),
                    *controls(found, comparisons, benchmark),
                    *published(found, comparisons, benchmark),
                ],
                "every": every_table(here),
            }
        )
    return items


def box_table(found: Evidence, here: pd.DataFrame) -> dict[str, Any]:
    """Whether cutting to rank r keeps the accuracy: the answer a variant, and why."""
    base = found.label(found.experiment["base"])
    means = here[(here["metric"] == "mean") & (here["reference"] == base)]
    to_base = means.set_index("model")
    rows = []
    for line in box(found, here).to_dict("records"):
        above = to_base.loc[line["variant"]]
        cells = [line["variant"], line["answer"], difference(line), chance(line["p_holm"])]
        cells += [chance(line["p_equivalence"]), f"{line['detectable'] * 100:.1f}"]
        cells += [percent(line["gain_kept"]), difference(above), chance(above["p_holm"])]
        rows.append(row(*cells, kind=line["answer"]))
    derivative = found.label(found.experiment["derivative"])
    heads = ["variant", "accuracy", "difference, points", "p", "p, equivalence", "visible, points",
             "gain kept", "difference, points", "p"]  # fmt: skip
    groups = [("", 2), (f"against {derivative}", 5), (f"against {base}", 2)]
    return grid(heads, rows, groups, kind="verdicts")


def difference(line: Mapping[str, Any]) -> dict[str, str]:
    """A difference in points over its interval, as one cell."""
    return cell(points(line["difference"]), span(line["problems_low"], line["problems_high"]))


def every_table(here: pd.DataFrame) -> dict[str, Any]:
    """All comparisons of one benchmark."""
    rows = []
    for line in here.to_dict("records"):
        cells = [line["model"], line["reference"], measure_name(line["metric"], line["k"])]
        cells += [difference(line), *(chance(line[p]) for p in ("p", "p_holm", "p_equivalence"))]
        rows.append(row(*cells, line["verdict"]))
    heads = ["model", "against", "measure", "difference, points", "p", "p, Holm",
             "p, equivalence", "verdict"]  # fmt: skip
    return grid(heads, rows, kind="words")


def sentence(found: Evidence, comparisons: pd.DataFrame, benchmark: str) -> str:
    """Which variants keep the derivative's accuracy, which lose it, for which it is open."""
    experiment = found.experiment
    answers = box(found, labelled(found, comparisons, benchmark))
    answers = answers[answers["variant"].isin([found.label(name) for name in found.lowrank])]
    derivative = found.label(experiment["derivative"])
    problems = int(comparisons.loc[comparisons["benchmark"] == benchmark, "n_problems"].iloc[0])
    says = {
        "kept": f"kept, to within {experiment['margin'] * 100:g} points, by",
        "lost": "lost by",
        "open": "not decided for",
    }
    parts = [
        f"{words} {ranks(answers[answers['answer'] == answer])}"
        for answer, words in says.items()
        if (answers["answer"] == answer).any()
    ]
    return (
        f"By paired tests over {problems} problems, the accuracy of {derivative} is"
        f" {'; '.join(parts)}."
    )


def ranks(answers: pd.DataFrame) -> str:
    """Variants by other and rank: ranks 16 and 64 (copy) and rank 16 (keep)."""
    parts = []
    for other, lines in answers.groupby("other", sort=False):
        numbers = [str(rank) for rank in sorted(lines["rank"])]
        parts.append(f"rank{'s' * (len(numbers) > 1)} {listed(numbers)} ({other})")
    return listed(parts)


def reach(found: Evidence, comparisons: pd.DataFrame, benchmark: str) -> str:
    """The smallest differences that the comparisons with the derivative could see."""
    experiment = found.experiment
    derivative = experiment["derivative"]
    here = comparisons[
        (comparisons["benchmark"] == benchmark)
        & (comparisons["reference"] == derivative)
        & comparisons["model"].isin(experiment["variants"])
    ]
    problems = int(here["n_problems"].iloc[0])
    largest = max(experiment["maj_k"])
    seen = []
    for metric, k in (("mean", 1), ("maj", largest)):
        lines = here[(here["metric"] == metric) & (here["k"] == k)]
        low, high = lines["detectable"].min() * 100, lines["detectable"].max() * 100
        sizes = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
        seen.append(f"{sizes} points of {measure_name(metric, k)}")
    label = experiment["benchmarks"][benchmark].get("label", benchmark)
    return (
        f"{label} has {problems} problems, one of them worth {100 / problems:.1f} points. Between a"
        f" variant and {found.label(derivative)} it can be counted on (8 of 10 such experiments) to"
        f" show a true difference of {' or '.join(seen)}, depending on the variant. A smaller one"
        " may well go unseen."
    )


def gain(found: Evidence, here: pd.DataFrame) -> list[str]:
    """What training itself did to the accuracy: derivative against base."""
    experiment = found.experiment
    derivative, base = found.label(experiment["derivative"]), found.label(experiment["base"])
    at = (here["model"] == derivative) & (here["reference"] == base) & (here["metric"] == "mean")
    line = here[at].iloc[0]
    bounds = span(line["problems_low"], line["problems_high"])
    return [
        f"Training itself: in mean accuracy {derivative} is {line['verdict']}"
        f" (difference {points(line['difference'])}, 95% interval {bounds};"
        f" p {chance(line['p_holm'])})."
    ]


def controls(
    found: Evidence, comparisons: pd.DataFrame, benchmark: str, kinds: Container[str] = KINDS
) -> list[str]:
    """How the controls of rank 0, served in the first form, fare: a sentence each.

    Those of a rank are read in the box, next to the variant whose rank they have.
    """
    experiment = found.experiment
    here = labelled(found, comparisons, benchmark)
    means = here[here["metric"] == "mean"].set_index(["model", "reference"])
    said = []
    for name, variant in found.controls.items():
        if variant["kind"] not in kinds or variant["dtype"] != experiment["serve_dtype"][0]:
            continue
        label = found.label(name)
        above, below = (
            means.loc[label, found.label(experiment[side])] for side in ("derivative", "base")
        )
        said.append(
            f"{KINDS[variant['kind']]} ({label}): mean accuracy {above['value']:.3f},"
            f" {above['verdict']} and {below['verdict']}."
        )
    return said


def published(found: Evidence, comparisons: pd.DataFrame, benchmark: str) -> list[str]:
    """What the largest published gain of a variant over the derivative is under these tests."""
    experiment = found.experiment
    k, derivative = max(experiment["maj_k"]), experiment["derivative"]
    theirs = published_value(found, benchmark, derivative, k)
    gains = {
        name: published_value(found, benchmark, name, k) - theirs for name in experiment["variants"]
    }
    gains = {name: value for name, value in gains.items() if np.isfinite(value)}
    if not gains:
        return []
    name = max(gains, key=lambda each: gains[each])
    line = comparisons[
        (comparisons["benchmark"] == benchmark)
        & (comparisons["model"] == name)
        & (comparisons["reference"] == derivative)
        & (comparisons["metric"] == "maj")
        & (comparisons["k"] == k)
    ].iloc[0]
    words = headline(gains[name], line["paired_sd"], int(line["n_problems"]))["words"]
    return [
        f"The largest published gain, {found.label(name)} over {found.label(derivative)} in Avg"
        f" Maj@{k}, with the spread between problems measured here: {words}."
    ]


def measure_name(metric: str, k: int) -> str:
    """A measure as people write it: mean accuracy, Maj@8, pass@8."""
    return {"mean": "mean accuracy", "maj": f"Maj@{k}", "pass": f"pass@{k}"}.get(
        metric, f"{metric}@{k}"
    )


def points(share: float) -> str:
    """A difference of accuracies in signed percentage points."""
    return f"{share * 100:+.1f}".replace("-", MINUS) if np.isfinite(share) else DASH


def span(low: float, high: float) -> str:
    """An interval of differences, in points."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return ""
    return f"{points(low)} to {points(high)}"


def chance(p: float) -> str:
    """A p value with two digits, as "< 0.001" where smaller."""
    if not np.isfinite(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
