"""The report's section on divergences: its figures and what the template shows."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from lowrank.report import divergence_words as words
from lowrank.report import equal_bytes, located
from lowrank.report.divergences import (
    Distances,
    contrasts_table,
    distance_table,
    heaviest_table,
)
from lowrank.report.equal_bytes import EqualBytes
from lowrank.report.evidence import Evidence
from lowrank.report.results import mean_accuracy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(
    found: Evidence,
    distances: dict[str, Distances],
    equal: EqualBytes | None,
    results: pd.DataFrame,
) -> "dict[str, Figure]":
    """The section's figures by stem. results: `results.results_frame` of every benchmark."""
    if not distances:
        return {}
    from lowrank.report import divergence_figures as drawing

    made = {}
    for benchmark, one in distances.items():
        here = results[results["benchmark"] == benchmark].set_index("model")
        made[f"divergence-{benchmark}"] = drawing.by_rank(*points(found, one, here))
        made[f"divergence-along-{benchmark}"] = drawing.along(lines_along(found, one))
        parts = located.gather(found, benchmark)
        if parts is not None:
            made[f"locate-{benchmark}"] = located.heat(parts)
    if equal is not None:
        for benchmark, rows in equal.rows.items():
            made[f"bytes-{benchmark}"] = equal_bytes.drawn(rows)
        made["bytes-error"] = equal_bytes.errors_drawn(found, equal.sizes)
    return made


def points(
    found: Evidence, distances: Distances, results: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What divergence_figures.by_rank draws: the variants' points, the references' levels."""
    base, derivative = found.experiment["base"], found.experiment["derivative"]
    rows = []
    for name, variant in found.lowrank.items():
        place = {"rank": variant["rank"], "other": variant["other"]}
        for measure in ("kl", "recovered"):
            line = distances.figure(name, measure)
            rows.append({"measure": measure, **place, **_ends(line, "value", "low", "high")})
        if name in found.sampled:
            ends = _ends(results.loc[name], "mean", "mean_low", "mean_high")
            rows.append({"measure": "accuracy", **place, **ends})
    levels = [{"measure": "kl", "label": found.label(base)} | distances.figure(base, "kl")]
    levels += [
        {"measure": "accuracy", "label": found.label(name), "value": results.loc[name, "mean"]}
        for name in (base, derivative)
        if found.accuracy
    ]
    return pd.DataFrame(rows), pd.DataFrame(levels)[["measure", "label", "value"]]


def _ends(line: Any, value: str, low: str, high: str) -> dict[str, float]:
    return {"value": line[value], "low": line[low], "high": line[high]}


def lines_along(found: Evidence, distances: Distances) -> pd.DataFrame:
    """What divergence_figures.along draws: the base, then the variants of the top directions."""
    base = found.experiment["base"]
    drawn = {base: (0, "")}
    drawn |= {name: (v["rank"], v["other"]) for name, v in found.lowrank.items()}
    parts = []
    for name, (rank, other) in drawn.items():
        at = (distances.figures["model"] == name) & (distances.figures["metric"] == "kl_along")
        lines = distances.figures[at][["at", "value"]]
        parts.append(lines.assign(label=found.label(name), rank=rank, other=other))
    return pd.concat(parts, ignore_index=True)


def content(
    found: Evidence,
    distances: dict[str, Distances],
    equal: EqualBytes | None,
    results: pd.DataFrame,
    figure: Callable[[str, str], dict[str, Any] | None],
) -> dict[str, Any] | None:
    """What the template shows; None where no divergences were asked for.

    figure: a figure of the page by its stem and its benchmark.
    """
    if not distances:
        return None
    benchmarks = []
    for name, one in distances.items():
        accuracy = mean_accuracy(results, name) if found.accuracy else None
        parts = located.gather(found, name)
        benchmarks.append(
            {
                "label": found.experiment["benchmarks"][name]["label"],
                "table": distance_table(found, one, accuracy),
                "said": words.findings(found, one),
                "by_rank": figure("divergence", name),
                "along": figure("divergence-along", name),
                "heaviest": heaviest_table(one),
                "contrasts": contrasts_table(found, one),
                "bytes": None
                if equal is None
                else {
                    **equal_bytes.content(found, equal, name),
                    "figure": figure("bytes", name),
                },
                "located": None
                if parts is None
                else {
                    "said": located.sentences(parts),
                    "figure": figure("locate", name),
                },
            }
        )
    return {
        "introduction": words.introduction(found, distances),
        "benchmarks": benchmarks,
        "errors": None
        if equal is None
        else {
            "said": equal_bytes.errors_said(found, equal.sizes),
            "figure": figure("bytes-error", ""),
        },
    }
