"""Figures of the divergences: against the rank, and along the completion."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lowrank.report.figure_style import INK, MUTED, PAPER, STYLE
from lowrank.report.figures import drawn_as

LEFT = {0.5: "50%", 0.1: "90%", 0.01: "99%", 1e-3: "99.9%", 1e-4: "99.99%", 1e-5: "99.999%"}


def by_rank(points: pd.DataFrame, levels: pd.DataFrame) -> Figure:
    """Divergence, share of the way and accuracy, where it is measured, against rank: panels.

    points: measure (kl | recovered | accuracy), rank, other, value, low, high: a row a variant and
    measure. levels: measure, label, value: level lines. Intervals may be NaN: then none is drawn.
    """
    ranks = sorted(int(rank) for rank in points["rank"].unique())
    with mpl.rc_context(STYLE):
        titles = {"kl": "KL a token, nats", "recovered": "Share of the way",
                  "accuracy": "Mean accuracy"}  # fmt: skip
        titles = {key: title for key, title in titles.items() if key in set(points["measure"])}
        figure = Figure(figsize=(0.5 + 2.7 * len(titles), 3.6), layout="constrained")
        panels = zip(figure.subplots(1, len(titles)), titles.items(), strict=True)
        for axes, (measure, title) in panels:
            here = points[points["measure"] == measure]
            if measure == "recovered":  # on a scale of what is left
                here = here.assign(
                    value=1 - here["value"], low=1 - here["high"], high=1 - here["low"]
                )
            for i, level in enumerate(levels[levels["measure"] == measure].itertuples()):
                dash = ("-", (0, (5, 2)))[i % 2]
                axes.axhline(
                    level.value, color=INK, linewidth=1.1, linestyle=dash, label=level.label
                )
            _lines(axes, here)
            axes.set(title=title, xlabel="rank kept (log scale)", xscale="log")
            axes.xaxis.set_major_locator(FixedLocator(ranks))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(ranks, [str(rank) for rank in ranks])
            axes.margins(x=0.08)
            if measure != "accuracy" and (here["value"] > 0).any():
                axes.set_yscale("log")
            if measure == "recovered":
                share_axis(axes, here["value"])
        handles: dict[str, Artist] = {}
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=5)
    return figure


def _lines(axes: Axes, points: pd.DataFrame) -> None:
    """A line with its intervals for each way the other weights are had."""
    for other, (colour, marker, dash) in drawn_as(points["other"]).items():
        rows = points[points["other"] == other].sort_values("rank")
        axes.vlines(rows["rank"], rows["low"], rows["high"], color=colour, linewidth=1.3)
        axes.plot(
            rows["rank"], rows["value"], color=colour, marker=marker, linestyle=dash, linewidth=1.5,
            markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.7, label=other,
        )  # fmt: skip


def share_axis(axes: Axes, left: pd.Series) -> None:
    """Ticks at shares of the way on a log scale of what is left; more is higher."""
    lowest = left[left > 0].min()
    ticks = [tick for tick in LEFT if np.isnan(lowest) or tick >= lowest / 10]
    axes.set_yticks(ticks, [LEFT[tick] for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.invert_yaxis()


def along(lines: pd.DataFrame) -> Figure:
    """Divergence against the position in the completion, a line a model, on log axes.

    lines: label, rank, other (0 and "" for the base), at (first position of a bin, from 0), value.
    """
    ranks = sorted(int(rank) for rank in lines["rank"].unique() if rank > 0)
    dashes = {way: dash for way, (_, _, dash) in drawn_as(filter(None, lines["other"])).items()}
    shades = sns.color_palette("viridis", n_colors=max(len(ranks), 1)).as_hex()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for (label, rank, other), rows in lines.groupby(["label", "rank", "other"], sort=False):
            colour = shades[ranks.index(int(rank))] if rank > 0 else INK
            dash = dashes.get(other, (0, (1, 1.6)))
            axes.plot(
                rows["at"] + 1, rows["value"].where(rows["value"] > 0), color=colour, marker="o",
                markersize=3, linewidth=1.3, linestyle=dash, label=label,
            )  # fmt: skip
        axes.set(xscale="log", xlabel="position in the completion", ylabel="KL a token, nats")
        if (lines["value"] > 0).any():
            axes.set_yscale("log")
        axes.tick_params(which="minor", color=MUTED)
        figure.legend(loc="outside lower center", ncols=4)
    return figure
