"""The report's second kind of evidence: how far every model is on the derivative's own text."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lowrank.errors import InputError
from lowrank.files import read_json
from lowrank.metrics.divergence_contrasts import CONTRASTS, RANKS
from lowrank.metrics.divergences import COLUMNS
from lowrank.plan.settings import Reading
from lowrank.report.cells import DASH, cell, fraction, grid, percent, row
from lowrank.report.evidence import Evidence, table
from lowrank.report.results import ordered_models
from lowrank.report.traces import visible

TOKENS = ("problem_id", "sample", "position", "kl", "equal_top", "token", "text")
HEAVIEST = 15  # tokens that the page lists
AGAIN = "read again what is read with `snakemake --cores all --forcerun read_derivative`"


@dataclass(frozen=True)
class Distances:
    """What was found of a benchmark."""

    figures: pd.DataFrame  # lowrank.metrics.divergences.COLUMNS
    contrasts: pd.DataFrame
    ranks: pd.DataFrame
    read: dict[str, Any]  # reference.json: what was read
    base: pd.DataFrame  # the base's tokens

    def figure(self, model: str, metric: str) -> dict[str, float]:
        """The value, low and high of one figure of a model."""
        at = (self.figures["model"] == model) & (self.figures["metric"] == metric)
        found: dict[str, float] = self.figures[at & self.figures["at"].isna()].iloc[0].to_dict()
        return found


def gather(found: Evidence) -> dict[str, Distances]:
    """By benchmark, where divergences were asked for; InputError for files that do not fit.

    Every model must have been read against the reference that lies there, which must be as much
    as the configuration asks for, and of the weights that its manifest names.
    """
    settings = found.experiment["divergence"]
    if not settings:
        return {}
    return {name: _gather(found, name, settings) for name in found.experiment["benchmarks"]}


def _gather(found: Evidence, benchmark: str, settings: Reading) -> Distances:
    experiment = found.experiment
    here = found.layout.divergence(benchmark)
    read = read_json(here.reference)
    wanted = {**settings, "samples": min(settings["samples"], experiment["samples"])}
    if read["asked"] != wanted:
        raise InputError(
            f"{here.reference.parent}: {read['asked']} are read, the configuration says {wanted}:"
            f" {AGAIN}"
        )
    for model in found.read:
        said = read_json(here.record(model))
        of = {key: said["model"][key] for key in ("sha256", "adapter_sha256")}
        if said["reference"] != read["digest"] or of != found.served(model):
            raise InputError(
                f"{here.record(model)}: is of other text, or of other weights, than lie there;"
                f" {AGAIN}"
            )
    return Distances(
        table(here.summary("metrics"), COLUMNS),
        table(here.summary("contrasts"), CONTRASTS),
        table(here.summary("ranks"), RANKS),
        read,
        table(here.tokens(experiment["base"]), TOKENS),
    )


def distance_table(
    found: Evidence, distances: Distances, accuracy: "pd.Series[float] | None"
) -> dict[str, Any]:
    """Divergence, share of the way and top tokens of every model beside its mean accuracy.

    accuracy: of the models that answered; None where it is not measured.
    """
    rows = []
    for model in ordered_models(found):
        kl, share, top = (distances.figure(model, m) for m in ("kl", "recovered", "equal_top"))
        cells: list[str | dict[str, str]] = [
            found.label(model),
            cell(thousandths(kl["value"]), span(kl, thousandths)),
            cell(share_of_way(share["value"]), span(share, share_of_way)),
            cell(share_of_way(top["value"]), span(top, share_of_way)),
        ]
        if accuracy is not None:
            cells.append(fraction(accuracy.get(model, np.nan)))
        rows.append(row(*cells, kind="" if model in found.experiment["variants"] else "reference"))
    heads = ["model", "KL a token, 10⁻³ nats", "share of the way", "same likeliest token"]
    groups = [("", 1), ("on the derivative's text, with 95% interval for problems like these", 3)]
    if accuracy is not None:
        heads, groups = [*heads, "mean accuracy"], [*groups, ("sampled", 1)]
    return grid(heads, rows, groups)


def contrasts_table(found: Evidence, distances: Distances) -> dict[str, Any]:
    """Every contrast, paired by problem."""
    rows = [
        row(
            f"{found.label(line['model'])} against {found.label(line['reference'])}",
            cell(thousandths(line["difference"]), span(line, thousandths)),
            chance(line["p_holm"]),
            "differ" if line["p_holm"] <= 0.05 else "not distinguishable",
        )
        for line in distances.contrasts.to_dict("records")
    ]
    heads = ["models", "difference, 10⁻³ nats", "p, adjusted", ""]
    return grid(heads, rows, kind="words")


def heaviest_table(distances: Distances) -> dict[str, Any]:
    """The tokens at which most of the base's divergence sits; their text may be a model's."""
    tokens = distances.base
    total = float(tokens["kl"].sum())
    grouped = tokens.groupby(["token", "text"], sort=True)["kl"].agg(["size", "sum", "mean"])
    grouped = grouped.sort_values("sum", ascending=False, kind="stable").head(HEAVIEST)
    rows = [
        row(
            shown(text),
            f"{int(line['size']):,}",
            thousandths(line["mean"]),
            percent(line["sum"] / total) if total > 0 else DASH,
        )
        for (_, text), line in grouped.iterrows()
    ]
    heads = ["next token", "times read", "KL there, 10⁻³ nats", "share of all"]
    return grid(heads, rows, caption="Where most of the divergence of the base sits")


def concentration(distances: Distances, share: float = 0.5) -> float:
    """The smallest share of tokens that holds this share of the base's divergence."""
    kl = np.sort(distances.base["kl"].to_numpy(dtype=np.float64))[::-1]
    if not kl.sum() > 0:
        return float("nan")
    return (int(np.searchsorted(np.cumsum(kl), share * kl.sum())) + 1) / len(kl)


def shown(text: str) -> str:
    """A token's text with what would not show spelled out.

    >>> shown(" a" + chr(10))
    '␣a↵'
    """
    return visible(text.replace("\n", "↵").replace(" ", "␣").replace("\t", "⇥"))


def thousandths(value: float) -> str:
    """A number of nats in thousandths, with three digits; whole from a nat on."""
    if not np.isfinite(value):
        return DASH
    shape = ",.0f" if abs(value) >= 0.9995 else ".3g"  # 1,500 and not 1.5e+03
    return f"{1000 * value:{shape}}".replace("-", "\N{MINUS SIGN}") if value else "0"


def share_of_way(share: float) -> str:
    """A share as a percentage, with two digits of what it lacks to be all.

    >>> share_of_way(0.8812), share_of_way(0.99912), share_of_way(0.999981), share_of_way(1.0)
    ('88.1%', '99.912%', '99.9981%', '100%')
    """
    if not np.isfinite(share):
        return DASH
    lacking = 1 - share
    if abs(lacking) < 1e-9:
        return "100%"
    places = max(1, 1 - int(np.floor(np.log10(100 * abs(lacking)) + 1e-6)))
    return f"{share:.{places}%}".replace("-", "\N{MINUS SIGN}")


def chance(p: float) -> str:
    """A p value with two digits."""
    return f"{p:.2g}" if p >= 1e-3 else "< 0.001"


def span(line: dict[str, Any], shape: Any) -> str:
    """An interval as it stands under a value; nothing where there is none."""
    low, high = shape(line["low"]), shape(line["high"])
    return "" if DASH in (low, high) or low == high else f"{low} {DASH} {high}"
