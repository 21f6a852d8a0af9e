"""The figures of the report: tables in, matplotlib figures out, the same bytes every time.

Every function takes a table in the form that the phases write and returns a Figure, which
figure_style.py saves. Lines differ in dash or marker as well as in colour wherever there are few.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from lowrank.plan.controls import OTHER_WEIGHTS, in_order
from lowrank.report.experts import by_type, few
from lowrank.report.figure_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    PINK,
    RED,
    SKY,
    STYLE,
)

# Attention in cool colours, the feed-forward block in warm ones.
MODULES = {
    "q_proj": BLUE,
    "k_proj": SKY,
    "v_proj": GREEN,
    "o_proj": GREY,
    "gate_proj": ORANGE,
    "up_proj": RED,
    "down_proj": PINK,
}
# Colour, marker and dash of each source of other weights, in the registry's order.
Dash = str | tuple[int, tuple[float, ...]]
Way = tuple[str, str, Dash]
WAYS: tuple[Way, ...] = (
    (BLUE, "o", "-"),
    (RED, "s", (0, (4, 2))),
    (GREEN, "^", (0, (1, 1.6))),
    (PINK, "D", (0, (5, 1.5, 1, 1.5))),
)
ASIDE = 0.12  # of the step from rank to rank: how far apart these lines stand
NULLS = {
    "energy_kept_gaussian": ("Gaussian noise", (0, (4, 2))),
    "energy_kept_shuffled": ("entries shuffled", (0, (5, 1.5, 1, 1.5))),
}
# Columns of a delta's summary that are drawn by layer -> titles; those it lacks are left out.
LAYERED = {
    "relative_frobenius": "‖D‖ / ‖W‖",
    "sigma_1_ratio": "σ₁(D) / σ₁(W)",
    "stable_rank": "stable rank",
    "rank_90": "rank for 90% of ‖D‖²",
    "energy_above_noise": "energy above noise",
    "unchanged_bfloat16": "entries equal in bf16",
    "overlap_left_ratio": "overlap, left",
    "overlap_right_ratio": "overlap, right",
}
DELTAS = (RED, BLUE, GREEN, PINK, GREY)

# A spectrum is drawn through at most about this many of its values.
DRAWN = 160


def thinned(size: int, drawn: int = DRAWN) -> np.ndarray:
    """Positions 0..size-1 that draw a decreasing curve: the first all, then ever fewer.

    Returns int64, strictly increasing, first and last always among them; all where size is
    at most `drawn`.
    """
    if size <= drawn:
        return np.arange(size)
    head = np.arange(drawn // 2)
    tail = np.linspace(drawn // 2, size - 1, drawn - len(head))
    return np.concatenate([head, np.unique(tail.round().astype(np.int64))])


def spectra(spectrum: pd.DataFrame) -> Figure:
    """Singular values of a delta, a line a matrix coloured by module: normalised left, raw right.

    spectrum: tensor, layer, module, index (from 0), sigma; one row a singular value.
    Normalised: divided by the matrix's largest; a matrix that did not change is left out there.
    Of a layer's experts a few are drawn (lowrank.report.experts).
    """
    spectrum = few(by_type(spectrum))
    modules = _modules(spectrum)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        for tensor, sigma in _matrices(spectrum):
            at = thinned(len(sigma))
            colour = modules[tensor[1]]
            line = {"color": colour, "linewidth": 0.7, "alpha": 0.75}
            if sigma[0] > 0:
                left.plot(at + 1, sigma[at] / sigma[0], **line)
            right.plot(at + 1, sigma[at], **line)
        for axes, title in ((left, "Normalised: σᵢ / σ₁"), (right, "Raw: σᵢ")):
            axes.set(title=title, xlabel="index i of the singular value")
            axes.set_ylim(bottom=0)
            axes.set_xlim(left=0)
            axes.margins(x=0.01)
        left.set_ylim(0, 1.02)
        handles = [
            left.plot([], [], color=c, linewidth=2.5, label=m)[0] for m, c in modules.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=_columns(modules))
    return figure


def spectra_by_module(spectrum: pd.DataFrame) -> Figure:
    """Normalised singular values, a panel a module and a line a layer, coloured by depth.

    spectrum: as for `spectra`. The same axes in every panel.
    """
    spectrum = few(by_type(spectrum))
    modules = _modules(spectrum)
    layers = sorted(int(layer) for layer in spectrum["layer"].unique())
    depth = sns.color_palette("viridis", as_cmap=True)
    with mpl.rc_context(STYLE):
        columns = 4
        rows = -(-(len(modules) + 1) // columns)
        figure = Figure(figsize=(8.6, 1.95 * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        panels = dict(zip(modules, grid.flat, strict=False))
        for (_, module, layer), sigma in _matrices(spectrum):
            if sigma[0] > 0:
                at = thinned(len(sigma), DRAWN // 2)
                colour = depth(_shade(layers.index(layer), layers))
                panels[module].plot(at + 1, sigma[at] / sigma[0], color=colour, linewidth=0.7)
        for module, axes in panels.items():
            axes.set_title(module)
            axes.set_ylim(0, 1.02)
            axes.set_xlim(left=0)
        rest = list(grid.flat)[len(modules) :]
        for axes in rest[1:]:
            axes.axis("off")
        _depth_legend(rest[0], layers, depth)
        figure.supxlabel("index i of the singular value", fontsize=9)
        figure.supylabel("σᵢ / σ₁", fontsize=9)
    return figure


def by_layer(summary: pd.DataFrame) -> Figure:
    """Statistics of a delta's matrices against their layer, a panel each and a line a module.

    summary: layer, module and columns of LAYERED; one row a matrix. Of a layer's experts the median
    is drawn.
    """
    summary = by_type(summary)
    modules = _modules(summary)
    columns = [name for name in LAYERED if name in summary and summary[name].notna().any()]
    with mpl.rc_context(STYLE):
        rows = -(-len(columns) // 4)
        figure = Figure(figsize=(8.6, 2.0 * rows + 0.5), layout="constrained")
        panels = list(figure.subplots(rows, 4, sharex=True, squeeze=False).flat)
        for axes, name in zip(panels, columns, strict=False):
            for module, colour in modules.items():
                lines = summary[summary["module"] == module].groupby("layer")[name].median()
                axes.plot(
                    lines.index, lines, color=colour, linewidth=1.0, marker="o", markersize=2.5
                )
            if name.startswith("overlap"):
                axes.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
            axes.set(title=LAYERED[name], xlabel="layer")
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))
        for axes in panels[len(columns) :]:
            axes.axis("off")
        handles = [
            panels[0].plot([], [], color=c, linewidth=2.5, label=m)[0] for m, c in modules.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=_columns(modules))
    return figure


def energy(deltas: dict[str, pd.DataFrame], ranks: Sequence[int]) -> Figure:
    """Share of each delta's squared norm that its top directions hold, against their number.

    deltas: label -> spectrum as for `spectra`, with energy_kept_gaussian. Lines are medians over
    matrices, bands run from the lowest to the highest; the dashed line is the median of Gaussian
    noise in the first delta's shapes, the dash-dotted one of that delta with its entries shuffled
    (where energy_kept_shuffled is there). `ranks` are marked.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for colour, (label, spectrum) in zip(DELTAS, deltas.items(), strict=False):
            kept = kept_energy(spectrum)
            sns.lineplot(
                kept, x="rank", y="energy", estimator="median", errorbar=("pi", 100),
                color=colour, linewidth=1.8, label=label, ax=axes, err_kws={"alpha": 0.14},
            )  # fmt: skip
        first = next(iter(deltas.values()))
        for null, (label, dash) in NULLS.items():
            if null in first:
                median = kept_energy(first, null).groupby("rank")["energy"].median()
                axes.plot(
                    median.index, median, label=label, color=INK, linewidth=1.1, linestyle=dash
                )
        for rank in ranks:
            axes.axvline(rank, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
        _rank_axis(axes, ranks)
        axes.set(xlabel="directions kept, r (log scale)", ylabel="share of ‖D‖² kept")
        axes.set_ylim(0, 1.02)
        if (own := axes.get_legend()) is not None:
            own.remove()
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def kept_energy(spectrum: pd.DataFrame, column: str | None = None) -> pd.DataFrame:
    """Share of the squared Frobenius norm in the top `rank` directions, a matrix and rank a row.

    column: take the shares from this column (a null's); else they follow from sigma. Ranks are
    about 40 values evenly spaced on a log scale; beyond a matrix's smaller side its share is 1.
    Matrices that did not change have no row. Columns: tensor, rank, energy.
    """
    longest = int(spectrum["index"].max()) + 1
    ranks = np.unique(np.geomspace(1, longest, 40).round().astype(np.int64))
    parts = [pd.DataFrame({"tensor": [], "rank": [], "energy": []})]
    for tensor, rows in spectrum.sort_values("index", kind="stable").groupby("tensor"):
        sigma = rows["sigma"].to_numpy(np.float64)
        if sigma[0] == 0 and column is None:
            continue
        share = rows[column].to_numpy() if column else np.cumsum(sigma**2) / np.sum(sigma**2)
        kept = share[np.minimum(ranks, len(sigma)) - 1]
        parts.append(pd.DataFrame({"tensor": tensor, "rank": ranks, "energy": kept}))
    return pd.concat(parts[min(1, len(parts) - 1) :], ignore_index=True)


def accuracy_by_rank(points: pd.DataFrame, references: pd.DataFrame, names: list[str]) -> Figure:
    """Accuracy against rank, a panel a measure, a line a source of other weights.

    points: measure, rank, other, value, low, high; one row a variant and measure.
    references: measure, label, value, low, high; drawn as level lines, the last one with its
    interval as a band. names: the measures, one panel each, in this order.
    Intervals (low, high) may be NaN: then none is drawn.
    """
    dashes: list[Dash] = ["-", (0, (5, 2)), (0, (1, 1.6)), (0, (5, 1.5, 1, 1.5))]
    ranks = sorted(int(rank) for rank in points["rank"].unique())
    place = {rank: i for i, rank in enumerate(ranks)}
    ways = drawn_as(points["other"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.8), layout="constrained")
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, measure in zip(panels, names, strict=True):
            level = references[references["measure"] == measure]
            for i, row in enumerate(level.itertuples()):
                dash = dashes[(len(level) - 1 - i) % len(dashes)]
                axes.axhline(row.value, color=INK, linewidth=1.1, linestyle=dash, label=row.label)
                if i == len(level) - 1 and np.isfinite(row.low):
                    axes.axhspan(row.low, row.high, color=MUTED, alpha=0.13, linewidth=0)
            here = points[points["measure"] == measure]
            for i, (other, (colour, marker, dash)) in enumerate(ways.items()):
                rows = here[here["other"] == other].sort_values("rank")
                # The lines stand a little apart so that their intervals do not overlap.
                x = rows["rank"].map(place) + ASIDE * (i - (len(ways) - 1) / 2)
                axes.vlines(x, rows["low"], rows["high"], color=colour, linewidth=1.3)
                axes.plot(
                    x, rows["value"], color=colour, marker=marker, linestyle=dash, linewidth=1.5,
                    markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.7, label=other,
                )  # fmt: skip
            axes.set(title=measure, xlabel="rank kept")
            axes.set_xticks(range(len(ranks)), [str(rank) for rank in ranks])
            axes.set_xlim(-0.35, max(len(ranks) - 0.65, 0.35))
            axes.grid(visible=False, axis="x")
        panels[0].set_ylabel("accuracy")
        drawn = pd.concat([points, references])[["value", "high"]].max().max()
        panels[0].set_ylim(0, min(1.02, max(float(drawn) * 1.08, 0.1)))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
    return figure


def fidelity(table: pd.DataFrame) -> Figure:
    """How much of the meant change survived the cast to the served dtype, a row a variant.

    table: label, other, relative_error (of the stored change), left_at_base (share of the entries
    meant to change that did not); one row a variant, drawn top to bottom.
    """
    at = np.arange(len(table))[::-1]
    with mpl.rc_context(STYLE):
        height = 1.1 + 0.3 * len(table)
        figure = Figure(figsize=(8.6, height), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        ways = drawn_as(table["other"])
        colours = [ways[other][0] for other in table["other"]]
        for axes, column, title in (
            (left, "relative_error", "Relative error of the stored change"),
            (right, "left_at_base", "Entries left at the base's value"),
        ):
            axes.hlines(at, 0, table[column], color=colours, linewidth=1.4)
            axes.scatter(table[column], at, color=colours, s=30, zorder=3)
            axes.set_title(title)
            axes.set_xlim(0, max(1.0, float(table[column].fillna(0).max()) * 1.05))
            axes.set_ylim(-0.6, len(table) - 0.4)
            axes.grid(visible=False, axis="y")
        left.set_yticks(at, table["label"])
        right.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
    return figure


def drawn_as(names: Iterable[str]) -> dict[str, Way]:
    """How each of these sources of other weights is drawn: always alike, whichever are there."""
    names = set(names)
    every = in_order({*OTHER_WEIGHTS, *names})
    styles = zip(every, itertools.cycle(WAYS), strict=False)
    return {name: style for name, style in styles if name in names}


def _matrices(
    spectrum: pd.DataFrame,
) -> Iterator[tuple[tuple[str, str, int], NDArray[np.float64]]]:
    """(tensor, module, layer), sigma descending float64; a matrix at a time, in table order."""
    ordered = spectrum.sort_values(["tensor", "index"], kind="stable")
    for (tensor, module, layer), rows in ordered.groupby(["tensor", "module", "layer"], sort=False):
        yield (tensor, module, int(layer)), rows["sigma"].to_numpy(np.float64)


def _modules(spectrum: pd.DataFrame) -> dict[str, str]:
    """Module -> colour, the usual seven first, then the others around the colour wheel."""
    there = set(spectrum["module"].unique())
    known = {module: colour for module, colour in MODULES.items() if module in there}
    others = sorted(there - set(known))
    return known | dict(zip(others, sns.husl_palette(len(others)), strict=True))


def _columns(modules: dict[str, str]) -> int:
    """Columns of a legend of modules: one row of the usual seven, several of longer names."""
    return len(modules) if sum(map(len, modules)) <= 60 else 4


def _rank_axis(axes: Axes, ranks: Sequence[int]) -> None:
    """A log axis of ranks with powers of two and the experiment's ranks as ticks."""
    axes.set_xscale("log", base=2)
    longest = axes.get_xlim()[1]
    ticks = sorted({2**i for i in range(0, 14, 2) if 2**i <= longest} | set(ranks))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(left=1)
    axes.grid(visible=False, axis="x")


def _shade(position: int, layers: list[int]) -> float:
    """Where on viridis a layer stands; its ends are left out, too faint on dark or light paper."""
    return 0.2 + 0.7 * position / max(len(layers) - 1, 1)


def _depth_legend(axes: Axes, layers: list[int], depth: Colormap) -> None:
    """In an empty panel: which colour is which layer, at most six of them named."""
    axes.axis("off")
    shown = sorted({round(i) for i in np.linspace(0, len(layers) - 1, min(len(layers), 6))})
    handles = [
        axes.plot(
            [], [], color=depth(_shade(i, layers)), linewidth=2.5, label=f"layer {layers[i]}"
        )[0]
        for i in shown
    ]
    axes.legend(handles=handles, loc="center")
