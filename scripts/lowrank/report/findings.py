"""What the report says: tables for the eye and sentences made from the numbers.

Nothing here reads or writes a file. A table is a dictionary for the template: heads, optional
groups over them, rows of cells (text, and a smaller text under it).
"""

from typing import Any

import numpy as np
import pandas as pd

from lowrank.errors import InputError
from lowrank.report.evidence import Evidence

DASH, TIMES, PLUS_MINUS = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}", "\N{PLUS-MINUS SIGN}"


def cell(text: str = "", under: str = "") -> dict[str, str]:
    """One cell of a table."""
    return {"text": text, "under": under}


def row(*cells: str | dict[str, str], kind: str = "") -> dict[str, Any]:
    """One row of a table; `kind` is its class on the page."""
    return {"cells": [c if isinstance(c, dict) else cell(c) for c in cells], "kind": kind}


def grid(
    heads: list[str],
    rows: list[dict[str, Any]],
    groups: list[tuple[str, int]] | None = None,
    caption: str = "",
    kind: str = "",
) -> dict[str, Any]:
    """A table; groups: (name, how many columns) over the heads; `kind` is its class.

    The columns that begin a group stand apart from those before.
    """
    named = [{"name": name, "span": span} for name, span in groups or [] if span]
    ends = np.cumsum([group["span"] for group in named]).tolist()
    return {
        "heads": heads,
        "rows": rows,
        "groups": named,
        "apart": ends[:-1],
        "caption": caption,
        "kind": kind,
    }


def fraction(value: float, places: int = 3) -> str:
    """An accuracy as a fraction; a dash where there is none."""
    return f"{value:.{places}f}" if np.isfinite(value) else DASH


def percent(share: float) -> str:
    """A share as a percentage, with a decimal where it is small or nearly whole."""
    if not np.isfinite(share):
        return DASH
    return f"{share:.1%}" if share < 0.1 or 0.99 < share < 1 else f"{share:.0%}"


def size(value: float) -> str:
    """A norm or a ratio with three digits."""
    return f"{value:#.3g}".removesuffix(".") if np.isfinite(value) else DASH


def interval(low: float, high: float) -> str:
    """An interval of accuracies; nothing where there is none."""
    return f"{low:.3f} {DASH} {high:.3f}" if np.isfinite(low) and np.isfinite(high) else ""


def spread(sd: float) -> str:
    """A standard deviation as it stands under a value; nothing where there is none."""
    return f"{PLUS_MINUS} {sd:.3f}" if np.isfinite(sd) else ""


def listed(words: list[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def measure(
    found: Evidence, benchmark: str, model: str, metric: str, estimator: str, k: int
) -> pd.Series:
    """The one row of the metrics tables that gives a measure; InputError if there is none."""
    table = found.metrics
    at = (table["benchmark"] == benchmark) & (table["model"] == model) & (table["k"] == k)
    rows = table[at & (table["metric"] == metric) & (table["estimator"] == estimator)]
    if len(rows) != 1:
        raise InputError(
            f"{found.results}/metrics/{benchmark}/{model}.csv: {len(rows)} rows of metric {metric}"
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
    """The results table in the post's layout as numbers, one row a model; what results.csv holds.

    Columns: benchmark, model, label; of every k avg_maj@k (the post's protocol), its sd over the
    redraws and its published value, and maj@k (exact); mean accuracy. The exact figures have the
    interval for problems like these (_low, _high) and the one for these problems, other traces
    (_traces_low, _traces_high).
    """
    rows = []
    for model in ordered_models(found):
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
    rows, block = [], None
    for line in frame.to_dict("records"):
        variant = found.experiment["variants"].get(line["model"])
        kind = "" if variant else "reference"
        here = _block(variant) if variant else ("references",)
        if block not in (None, here):
            kind += " apart"
        block = here
        cells = [cell(line["label"])]
        cells += [cell(fraction(line[f"avg_maj@{k}"]), spread(line[f"avg_maj@{k}_sd"])) for k in ks]
        for name in [*(f"maj@{k}" for k in ks), "mean"]:
            under = interval(line[f"{name}_low"], line[f"{name}_high"])
            cells.append(cell(fraction(line[name]), under))
        rows.append(row(*cells, kind=kind.strip()))
        published = [line[f"avg_maj@{k}_published"] for k in ks]
        if np.isfinite(published).any():
            empty = [""] * (len(ks) + 1)
            rows.append(row("published", *map(fraction, published), *empty, kind="published"))
    heads = ["model", *(f"Avg Maj@{k}" for k in ks), *(f"Maj@{k}" for k in ks), "mean accuracy"]
    groups = [
        ("", 1),
        ("the post's protocol, sd of its redraws", len(ks)),
        ("exact, with 95% interval for problems like these", len(ks) + 1),
    ]
    return grid(heads, rows, groups, kind="results")


def _block(variant: dict[str, Any]) -> tuple[str, ...]:
    """What the variants that stand together in a table have in common."""
    if variant["kind"] != "lowrank":
        return ("controls",)
    return variant["other"], variant["dtype"], variant["serving"]


def anchors_table(found: Evidence, benchmark: str) -> dict[str, Any] | None:
    """Published figures of the sampled models that are not the post's; None if there are none."""
    table = found.published
    if table is None:
        return None
    at = (table["benchmark"] == benchmark) & (table["metric"] != "avg_maj")
    lines = table[at & table["model"].isin(found.sampled)].sort_values("model", kind="stable")
    if lines.empty:
        return None
    rows = []
    for line in lines.to_dict("records"):
        votes = f"Maj@{int(line['k'])}" if np.isfinite(line["k"]) else "mean"
        label = found.label(line["model"])
        rows.append(row(label, votes, fraction(line["value"]), line["source"], line["note"]))
    heads = ["model", "measure", "value", "source", "note"]
    return grid(heads, rows, caption="Published elsewhere", kind="words")


def accuracy_points(
    found: Evidence, results: pd.DataFrame, benchmark: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """What figures.accuracy_by_rank draws: points of the variants, levels of the references."""
    columns = {"mean accuracy": "mean"}
    columns |= {f"Maj@{k}": f"maj@{k}" for k in found.experiment["maj_k"][-1:]}
    variants = found.lowrank
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


def fidelity_frame(found: Evidence) -> pd.DataFrame:
    """fidelity.json of every variant, over all tensors and by role; what fidelity.csv holds."""
    rows = []
    for name, content in found.fidelity.items():
        for scope, numbers in {"all": content["all"], **content["roles"]}.items():
            made = found.experiment["variants"][name]
            place = {"variant": name, "label": found.label(name)}
            place |= {key: made[key] for key in ("kind", "rank", "other", "dtype", "serving")}
            rows.append({**place, "scope": scope, **numbers})
    frame = pd.DataFrame(rows)
    numbers = ["relative_error", "left_at_base", "cosine"]
    frame[numbers] = frame[numbers].astype(float)  # null where no change was meant
    return frame


def fidelity_table(found: Evidence, frames: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """What of the meant change was stored, beside the accuracy it gave."""
    fidelity = frames["fidelity"].set_index(["variant", "scope"])
    results = frames["results"].set_index(["benchmark", "model"])
    benchmarks = found.experiment["benchmarks"]
    rows = []
    for name in found.experiment["variants"]:
        cells = [found.label(name)]
        for scope in ("projection", "all"):
            line = fidelity.loc[(name, scope)]
            cells += [
                size(line["relative_error"]),
                percent(line["left_at_base"]),
                size(line["cosine"]),
            ]
        cells += [fraction(results.loc[(b, name), "mean"]) for b in benchmarks]
        rows.append(row(*cells))
    heads = ["variant", *(["relative error", "left at base", "cosine"] * 2)]
    heads += [entry.get("label", name) for name, entry in benchmarks.items()]
    groups = [
        ("", 1),
        ("projections", 3),
        ("all tensors", 3),
        ("mean accuracy", len(benchmarks)),
    ]
    return grid(heads, rows, groups)
