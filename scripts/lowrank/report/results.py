"""The report's tables of results: accuracy of every model, published figures, what was stored."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lowrank.errors import InputError
from lowrank.plan.controls import LOWRANK
from lowrank.plan.settings import VariantForm
from lowrank.report.cells import (
    Column,
    cell,
    fraction,
    interval,
    percent,
    size,
    spread,
    tabulate,
)
from lowrank.report.evidence import Evidence

INTERVALS = {
    "low": "95 % interval, lower end: problems like these",
    "high": "its upper end",
    "traces_low": "95 % interval, lower end: these problems, sampled again",
    "traces_high": "its upper end",
}
# What results.csv holds: column -> what it is, as docs/tables.md has it.
COLUMNS = {
    "benchmark": "name",
    "model": "name",
    "label": "what the page calls the model",
    "avg_maj@<k>": "Maj@k by the post's protocol, the mean of its redraws",
    "avg_maj@<k>_sd": "standard deviation of the redraws",
    "avg_maj@<k>_published": "what the post published; empty where it has none",
    "maj@<k>": "exact Maj@k",
    **{f"maj@<k>_{end}": text for end, text in INTERVALS.items()},
    "mean": "mean accuracy",
    **{f"mean_{end}": text for end, text in INTERVALS.items()},
}


def measure(
    found: Evidence, benchmark: str, model: str, metric: str, estimator: str, k: int
) -> pd.Series:
    """The one row of the metrics tables that gives a measure; InputError if there is none."""
    table = found.metrics
    at = (table["benchmark"] == benchmark) & (table["model"] == model) & (table["k"] == k)
    rows = table[at & (table["metric"] == metric) & (table["estimator"] == estimator)]
    if len(rows) != 1:
        raise InputError(
            f"{found.layout.metrics(benchmark, model)}: {len(rows)} rows of metric {metric}"
            f" at k = {k}, estimator {estimator}; one expected, run the metrics again"
        )
    return rows.iloc[0]


def ordered_models(found: Evidence) -> list[str]:
    """Models as the results table lists them: variants, derivative, base, other references."""
    experiment = found.experiment
    first = [experiment["derivative"], experiment["base"]]
    others = [name for name in experiment["references"] if name not in first]
    return [*experiment["variants"], *first, *others]


def results_frame(found: Evidence, benchmark: str) -> pd.DataFrame:
    """The results table in the post's layout as numbers, one row a model, with `COLUMNS`."""
    rows = []
    for model in filter(found.sampled.__contains__, ordered_models(found)):
        line: dict[str, Any] = {"benchmark": benchmark, "model": model, "label": found.label(model)}
        for k in found.experiment["maj_k"]:
            drawn = measure(found, benchmark, model, "maj", "protocol", k)
            line |= {f"avg_maj@{k}": drawn["value"], f"avg_maj@{k}_sd": drawn["repeats_sd"]}
            line[f"avg_maj@{k}_published"] = published_value(found, benchmark, model, k)
        exact = {f"maj@{k}": ("maj", k) for k in found.experiment["maj_k"]}
        for name, (metric, k) in {**exact, "mean": ("mean", 1)}.items():
            values = measure(found, benchmark, model, metric, "exact", k)
            line |= {
                name: values["value"],
                f"{name}_low": values["problems_low"],
                f"{name}_high": values["problems_high"],
                f"{name}_traces_low": values["traces_low"],
                f"{name}_traces_high": values["traces_high"],
            }
        rows.append(line)
    return pd.DataFrame(rows)


def published_value(found: Evidence, benchmark: str, model: str, k: int) -> float:
    """The post's Avg Maj@k of a model; NaN where it has none."""
    table = found.published
    if table is None:
        return float("nan")
    at = (table["benchmark"] == benchmark) & (table["model"] == model)
    values = table.loc[at & (table["metric"] == "avg_maj") & (table["k"] == k), "value"]
    return float(values.iloc[0]) if len(values) else float("nan")


def results_table(found: Evidence, frame: pd.DataFrame) -> dict[str, Any]:
    """The results table of one benchmark: votes, mean, published rows under ours."""
    ks = found.experiment["maj_k"]
    drawn, exact = (
        "the post's protocol, sd of its redraws",
        "exact, with 95% interval for problems like these",
    )
    columns = [
        Column("model", lambda line: line["label"]),
        *(Column(f"Avg Maj@{k}", _protocol(f"avg_maj@{k}"), drawn) for k in ks),
        *(Column(f"Maj@{k}", _exact(f"maj@{k}"), exact) for k in ks),
        Column("mean accuracy", _exact("mean"), exact),
    ]
    lines, block = [], None
    for line in frame.to_dict("records"):
        variant = found.experiment["variants"].get(line["model"])
        here = _block(variant)
        kinds = ["reference"] * (variant is None) + ["apart"] * (block not in (None, here))
        block = here
        lines.append(line | {"kind": " ".join(kinds)})
        published = {f"avg_maj@{k}": line[f"avg_maj@{k}_published"] for k in ks}
        if np.isfinite(list(published.values())).any():
            lines.append({"label": "published", "kind": "published"} | published)
    return tabulate(columns, lines, lambda line: line["kind"], kind="results")


def _protocol(name: str) -> Callable[[dict[str, Any]], dict[str, str]]:
    """Cells of a protocol's value over its spread; published ones have none."""
    return lambda line: cell(fraction(line[name]), spread(line.get(f"{name}_sd", np.nan)))


def _exact(name: str) -> Callable[[dict[str, Any]], dict[str, str]]:
    """Cells of an exact value over its interval; empty in a published row."""

    def written(line: dict[str, Any]) -> dict[str, str]:
        if name not in line:
            return cell()
        return cell(fraction(line[name]), interval(line[f"{name}_low"], line[f"{name}_high"]))

    return written


def _block(variant: VariantForm | None) -> tuple[str, ...]:
    """What the rows that stand together in a table have in common; None: a reference."""
    if variant is None:
        return ("references",)
    if variant["kind"] != LOWRANK.name:
        return ("controls",)
    return variant["other"], variant["dtype"], variant["serve_as"]


def anchors_table(found: Evidence, benchmark: str) -> dict[str, Any] | None:
    """Published figures of the sampled models that are not the post's; None if there are none."""
    table = found.published
    if table is None:
        return None
    at = (table["benchmark"] == benchmark) & (table["metric"] != "avg_maj")
    lines = table[at & table["model"].isin(found.sampled)].sort_values("model", kind="stable")
    if lines.empty:
        return None
    columns = [
        Column("model", lambda line: found.label(line["model"])),
        Column(
            "measure",
            lambda line: f"Maj@{int(line['k'])}" if np.isfinite(line["k"]) else "mean",
        ),
        Column("value", lambda line: fraction(line["value"])),
        Column("source", lambda line: line["source"]),
        Column("note", lambda line: line["note"]),
    ]
    records = lines.to_dict("records")
    return tabulate(columns, records, caption="Published elsewhere", kind="words")


def accuracy_points(
    found: Evidence, results: pd.DataFrame, benchmark: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """What figures.accuracy_by_rank draws: points of the variants, levels of the references."""
    columns = {"mean accuracy": "mean"}
    columns |= {f"Maj@{k}": f"maj@{k}" for k in found.experiment["maj_k"][-1:]}
    variants = found.answered
    points, levels = [], []
    # The derivative is drawn last: its interval is the band.
    ranked = [*found.experiment["references"]]
    ranked.sort(
        key=lambda name: (name == found.experiment["derivative"], name == found.experiment["base"])
    )
    here = results[results["benchmark"] == benchmark].set_index("model")
    for name, column in columns.items():
        for model in [*variants, *ranked]:
            line = here.loc[model]
            point = {"measure": name, "value": line[column], "low": line[f"{column}_low"]}
            point["high"] = line[f"{column}_high"]
            if model in variants:
                variant = variants[model]
                points.append(point | {"rank": variant["rank"], "other": variant["other"]})
            else:
                levels.append(point | {"label": found.label(model)})
    return pd.DataFrame(points), pd.DataFrame(levels), list(columns)


def mean_accuracy(results: pd.DataFrame, benchmark: str) -> "pd.Series[float]":
    """Mean accuracy on a benchmark by model; of those that answered. results: all benchmarks'."""
    here = results[results["benchmark"] == benchmark]
    return here.set_index("model")["mean"]


def fidelity_frame(found: Evidence) -> pd.DataFrame:
    """fidelity.json of every variant, over all tensors and by role; what fidelity.csv holds."""
    rows = []
    for name, content in found.fidelity.items():
        for scope, numbers in {"all": content["all"], **content["roles"]}.items():
            made = found.experiment["variants"][name]
            place: dict[str, object] = {"variant": name, "label": found.label(name)}
            place |= {key: made[key] for key in ("kind", "rank", "other", "dtype", "serve_as")}
            rows.append({**place, "scope": scope, **numbers})
    frame = pd.DataFrame(rows)
    numbers = ["relative_error", "left_at_base", "cosine"]
    frame[numbers] = frame[numbers].astype(float)  # null where no change was meant
    return frame


def fidelity_table(found: Evidence, frames: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """What of the meant change was stored, beside the accuracy it gave."""
    fidelity = frames["fidelity"].set_index(["variant", "scope"])
    benchmarks = found.experiment["benchmarks"]

    def stored(scope: str, number: str, written: Callable[[float], str]) -> Callable[[str], str]:
        return lambda variant: written(fidelity.loc[(variant, scope), number])

    def accuracy(benchmark: str) -> Callable[[str], str]:
        means = mean_accuracy(frames["results"], benchmark)
        return lambda variant: fraction(means.get(variant, np.nan))

    columns = [Column("variant", found.label)]
    for scope, group in (("projection", "projections"), ("all", "all tensors")):
        columns += [
            Column("relative error", stored(scope, "relative_error", size), group),
            Column("left at base", stored(scope, "left_at_base", percent), group),
            Column("cosine", stored(scope, "cosine", size), group),
        ]
    for name, entry in benchmarks.items() if found.accuracy else ():
        columns.append(Column(entry["label"], accuracy(name), "mean accuracy"))
    return tabulate(columns, found.experiment["variants"])
