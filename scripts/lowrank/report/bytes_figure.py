"""Figures against bytes: a line a description of the change."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lowrank.report.divergence_figures import share_axis
from lowrank.report.figure_style import BLUE, GREEN, GREY, ORANGE, PAPER, PINK, RED, STYLE

# In the order in which descriptions appear; low rank comes first.
LINES = ((BLUE, "o"), (RED, "s"), (GREEN, "^"), (ORANGE, "D"), (PINK, "v"), (GREY, "P"))


def by_bytes(points: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """A panel a measure against bytes, on log axes, a line a description.

    points: measure, description, bytes, value, low, high: a row each; low and high may be NaN, then
    no interval is drawn. titles: of the measures; "recovered" is drawn on a scale of what is left.
    What is 0 has no place on a log axis.
    """
    styles = dict(zip(points["description"].unique(), np.resize(LINES, (99, 2)), strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.6), layout="constrained")
        panels = figure.subplots(1, len(titles), squeeze=False)[0]
        for axes, (measure, title) in zip(panels, titles.items(), strict=True):
            here = points[points["measure"] == measure]
            if measure == "recovered":
                here = here.assign(
                    value=1 - here["value"], low=1 - here["high"], high=1 - here["low"]
                )
            for name, rows in here.groupby("description", sort=False):
                colour, marker = styles[name]
                rows = rows.sort_values("bytes")
                axes.vlines(rows["bytes"], rows["low"], rows["high"], color=colour, linewidth=1.3)
                axes.plot(
                    rows["bytes"], rows["value"], color=colour, marker=marker, linewidth=1.5,
                    markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.7, label=name,
                )  # fmt: skip
            axes.set(title=title, xlabel="bytes (log scale)", xscale="log")
            axes.xaxis.set_minor_locator(NullLocator())
            if (here["value"] > 0).any():
                axes.set_yscale("log")
            if measure == "recovered":
                share_axis(axes, here["value"])
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure
