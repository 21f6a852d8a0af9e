"""What the paired comparisons say of the variants, in tables and sentences."""

from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lowrank.metrics.comparisons import UNANSWERED
from lowrank.metrics.paired import ALPHA, least_margin, least_problems
from lowrank.metrics.wording import headline, measure_name, points, verdict
from lowrank.plan.controls import CONTROLS, kind_of
from lowrank.report.cells import DASH, Column, cell, joined, percent, tabulate
from lowrank.report.evidence import Evidence
from lowrank.report.results import published_value

Lines = tuple[pd.Series, pd.Series]
SAYS = {
    "kept": "kept by",
    "better": "exceeded by",
    "lost": "lost by",
    "open": "not decided for",
}


def measures(found: Evidence) -> list[tuple[str, int]]:
    """What answers are given in: mean accuracy, and the post's measure at its largest k."""
    return [("mean", 1), ("maj", max(found.experiment["maj_k"]))]


def against(
    comparisons: pd.DataFrame, benchmark: str, reference: str, measure: tuple[str, int]
) -> pd.DataFrame:
    """The comparisons with one reference in one measure, by model."""
    at = (comparisons["benchmark"] == benchmark) & (comparisons["reference"] == reference)
    at &= (comparisons["metric"] == measure[0]) & (comparisons["k"] == measure[1])
    return comparisons[at].set_index("model")


def labelled(found: Evidence, comparisons: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """The comparisons on one benchmark, with models and verdicts as people call them."""
    here = comparisons[comparisons["benchmark"] == benchmark].copy()
    for column in ("model", "reference"):
        here[column] = here[column].map(found.label)
    here["verdict"] = [verdict(line) for line in here.to_dict("records")]
    return here


def shown(found: Evidence, comparisons: pd.DataFrame) -> list[dict[str, Any]]:
    """Of every benchmark or pool: the boxes, what else the tests say, and every comparison."""
    items = []
    for benchmark, label in found.judged.items():
        said = [gain(found, comparisons, benchmark, measure) for measure in measures(found)]
        said += controls(found, comparisons, benchmark)
        said += published(found, comparisons, benchmark)
        items.append(
            {
                "label": label,
                "boxes": [
                    box_table(found, comparisons, benchmark, measure) for measure in measures(found)
                ],
                "said": said,
                "every": every_table(labelled(found, comparisons, benchmark)),
            }
        )
    return items


def box_table(
    found: Evidence, comparisons: pd.DataFrame, benchmark: str, measure: tuple[str, int]
) -> dict[str, Any]:
    """Whether cutting to rank r keeps what training gave: the answer a variant, and why."""
    experiment = found.experiment
    base, derivative = experiment["base"], experiment["derivative"]
    to_base = against(comparisons, benchmark, base, measure)
    to_derivative = against(comparisons, benchmark, derivative, measure)
    above, below = (f"against {found.label(name)}" for name in (derivative, base))

    def low_high(name: str) -> Callable[[Lines], str]:
        ends = f"{name}_low", f"{name}_high"
        return lambda lines: span(*(lines[0][end] for end in ends)) or DASH

    # Of each variant two rows of the comparisons: against the derivative, and against the base.
    columns = [
        Column("variant", lambda lines: found.label(lines[0].name)),
        Column("answer", lambda lines: lines[0]["answer"]),
        Column("difference, points", lambda lines: difference(lines[0]), above),
        Column("on these problems", low_high("traces"), above),
        Column("p", lambda lines: chance(lines[0]["p_holm"]), above),
        Column("shown to lie within", low_high("within"), above),
        Column("p, equivalence", lambda lines: chance(lines[0]["p_equivalence_holm"]), above),
        Column("visible, points", lambda lines: visible(lines[0]["detectable"]), above),
        Column("gain kept", lambda lines: gain_kept(lines[0]), above),
        Column("difference, points", lambda lines: difference(lines[1]), below),
        Column("p", lambda lines: chance(lines[1]["p_holm"]), below),
    ]
    return tabulate(
        columns,
        [(to_derivative.loc[name], to_base.loc[name]) for name in found.answering],
        lambda lines: lines[0]["answer"].split()[0],
        caption=_capital(measure_name(*measure)),
        kind="verdicts",
    )


def difference(line: Mapping[str, Any]) -> dict[str, str]:
    """A difference in points over its interval, as one cell."""
    bounds = span(line["problems_low"], line["problems_high"])
    return cell(points(line["difference"], sign=True), bounds)


def visible(share: float) -> str:
    """The smallest true difference found in 8 of 10 experiments; a dash where it is not known."""
    return points(share) if np.isfinite(share) else DASH


def gain_kept(line: Mapping[str, Any]) -> dict[str, str]:
    """The share of the derivative's gain over its interval, as one cell."""
    low, high = line["gain_kept_low"], line["gain_kept_high"]
    under = f"{percent(low)} to {percent(high)}" if np.isfinite(low) else ""
    return cell(percent(line["gain_kept"]), under)


def every_table(here: pd.DataFrame) -> dict[str, Any]:
    """All comparisons of one benchmark."""
    columns = [
        Column("model", lambda line: line["model"]),
        Column("against", lambda line: line["reference"]),
        Column("measure", lambda line: measure_name(line["metric"], line["k"])),
        Column("difference, points", difference),
        Column("interval", lambda line: line["method"]),
        Column("p alone", lambda line: chance(line["p"])),
        Column("p", lambda line: chance(line["p_holm"])),
        Column("p, equivalence", lambda line: chance(line["p_equivalence_holm"])),
        Column("verdict", lambda line: line["verdict"]),
    ]
    return tabulate(columns, here.to_dict("records"), kind="words")


def sentence(found: Evidence, comparisons: pd.DataFrame, benchmark: str) -> str:
    """Which variants keep what training gave, in each measure, or why that is not answered."""
    experiment = found.experiment
    derivative = found.label(experiment["derivative"])
    said = []
    for measure in measures(found):
        name = _capital(measure_name(*measure))
        answers = against(comparisons, benchmark, experiment["derivative"], measure)
        answers = answers.loc[list(found.answered)]
        if (answers["answer"] == UNANSWERED).any():
            reason = ungained(found, comparisons, benchmark, measure)
            said.append(f"{name}: whether it is kept {UNANSWERED}, {reason}.")
            continue
        parts = [
            f"{words} {ranks(found, answers.index[answers['answer'] == answer])}"
            for answer, words in SAYS.items()
            if (answers["answer"] == answer).any()
        ]
        within = f"to within {experiment['margin'] * 100:g} points"
        more = _more_problems(experiment["margin"], answers) if parts[-1].startswith("not") else ""
        said.append(f"{name} of {derivative}, {within}: {'; '.join(parts)}{more}.")
    return " ".join(said)


def _more_problems(margin: float, answers: pd.DataFrame) -> str:
    """That there are too few problems to show that a variant keeps anything, if there are."""
    problems = int(answers["n_problems"].iloc[0])
    needed = least_problems(margin, ALPHA / int(answers["family"].iloc[0]))
    if problems >= needed:
        return ""
    return (
        f" ({problems} problems are too few to show this of any variant; it takes {needed} or more)"
    )


def ungained(
    found: Evidence, comparisons: pd.DataFrame, benchmark: str, measure: tuple[str, int]
) -> str:
    """Why training's own gain is too little to ask what is kept of it."""
    experiment = found.experiment
    base, derivative = experiment["base"], experiment["derivative"]
    line = against(comparisons, benchmark, base, measure).loc[derivative]
    change = f"{points(line['difference'], sign=True)} points over {found.label(base)}"
    if line["p_holm"] <= ALPHA and line["difference"] > 0:
        return f"as training's own gain ({change}) is less than the margin"
    return f"as no gain by training itself is shown ({change}, p {chance(line['p_holm'])})"


def ranks(found: Evidence, names: Container[str]) -> str:
    """Variants by other and rank: ranks 16 and 64 (copy) and rank 16 (keep)."""
    by_other: dict[str, list[int]] = {}
    for name, variant in found.answered.items():
        if name in names:
            by_other.setdefault(variant["other"], []).append(variant["rank"])
    return joined(
        [
            f"rank{'s' * (len(each) > 1)} {joined([str(r) for r in sorted(each)])} ({other})"
            for other, each in by_other.items()
        ]
    )


def reach(found: Evidence, comparisons: pd.DataFrame, benchmark: str) -> str:
    """Which differences, and equivalence within which margin, a benchmark of this size can show."""
    experiment = found.experiment
    derivative, margin = experiment["derivative"], experiment["margin"]
    seen = []
    for measure in measures(found):
        lines = against(comparisons, benchmark, derivative, measure)
        sizes = sorted({points(each) for each in lines["detectable"].dropna()}, key=float)
        if sizes:
            smallest_largest = " to ".join(dict.fromkeys([sizes[0], sizes[-1]]))
            seen.append(f"{smallest_largest} points of {measure_name(*measure)}")
    problems, family = int(lines["n_problems"].iloc[0]), int(lines["family"].iloc[0])
    level = ALPHA / family
    label = found.judged[benchmark]
    said = f"{label} has {problems} problems, one of them worth {points(1 / problems)} points."
    if seen:
        said += (
            f" 8 of 10 such experiments find a true difference between a variant and"
            f" {found.label(derivative)} of {' or '.join(seen)}, depending on the variant (tested"
            f" at the level of {ALPHA:g} / {family}). A smaller difference may not be found."
        )
    best = points(least_margin(problems, level))
    missed = 100 * (1 - margin) ** problems
    often = f"{missed:.0f} of 100" if missed >= 1 else "fewer than 1 of 100"
    return (
        f"{said} With {problems} problems, equivalence cannot be shown within less than {best}"
        f" points; a margin of {margin * 100:g} points takes {least_problems(margin, level)}"
        f" problems or more. The reason: if a variant failed on {margin:.0%} of all problems of"
        f" this kind, {often} such benchmarks would contain none of these."
    )


def gain(
    found: Evidence, comparisons: pd.DataFrame, benchmark: str, measure: tuple[str, int]
) -> str:
    """What training itself did: derivative against base, in one measure."""
    experiment = found.experiment
    base, derivative = experiment["base"], experiment["derivative"]
    line = against(comparisons, benchmark, base, measure).loc[derivative]
    named = {**line, "reference": found.label(base)}
    bounds = span(line["problems_low"], line["problems_high"])
    return (
        f"Training itself: {found.label(derivative)} is {verdict(named)}"
        f" (difference {points(line['difference'], sign=True)}, 95% interval {bounds};"
        f" p {chance(line['p_holm'])})."
    )


def controls(
    found: Evidence, comparisons: pd.DataFrame, benchmark: str, kinds: Container[str] = CONTROLS
) -> list[str]:
    """How the controls of rank 0, served in the first form, fare: a sentence each.

    Those of a rank are read in the box, next to the variant whose rank they have.
    """
    experiment = found.experiment
    here = labelled(found, comparisons, benchmark)
    means = here[here["metric"] == "mean"].set_index(["model", "reference"])
    said = []
    for name, variant in found.controls.items():
        kind = kind_of(variant["kind"])
        first_form = variant["dtype"] == experiment["serve_dtype"][0]
        unfit = not kind.begins or kind.name not in kinds or not first_form
        if unfit or name not in found.answering:
            continue
        label = found.label(name)
        above, below = (
            means.loc[label, found.label(experiment[side])] for side in ("derivative", "base")
        )
        said.append(
            f"{kind.begins} ({label}): mean accuracy {above['value']:.3f},"
            f" {above['verdict']} and {below['verdict']}."
        )
    return said


def published(found: Evidence, comparisons: pd.DataFrame, benchmark: str) -> list[str]:
    """What the largest published gain of a variant over the derivative is under these tests."""
    experiment = found.experiment
    k, derivative = max(experiment["maj_k"]), experiment["derivative"]
    theirs = published_value(found, benchmark, derivative, k)
    gains = {name: published_value(found, benchmark, name, k) - theirs for name in found.answering}
    gains = {name: value for name, value in gains.items() if np.isfinite(value)}
    if not gains:
        return []
    name = max(gains, key=lambda each: gains[each])
    line = against(comparisons, benchmark, derivative, ("maj", k)).loc[name]
    words = headline(gains[name], line["paired_sd"], int(line["n_problems"]), len(gains))["words"]
    return [
        f"The largest published gain, {found.label(name)} over {found.label(derivative)} in Avg"
        f" Maj@{k}, with the spread between problems measured here: {words}."
    ]


def span(low: float, high: float) -> str:
    """An interval of differences, in points."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return ""
    return f"{points(low, sign=True)} to {points(high, sign=True)}"


def chance(p: float) -> str:
    """A p value with two digits, as "< 0.001" where smaller."""
    if not np.isfinite(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
