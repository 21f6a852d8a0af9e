"""How the report's figures look, and how they are written: the same bytes every time.

Colours are seaborn's colour-blind palette. Files hold no dates and have a fixed salt for
identifiers; a page can swap the colours for its own (`inline`), light or dark.
"""

import re
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from lowrank.files import whole_file

INK, MUTED, GRID, PAPER = "#1c1c1a", "#6b6a66", "#e2e1dc", "#fffffe"
_CYCLE = sns.color_palette("colorblind").as_hex()
BLUE, ORANGE, GREEN, RED, PINK, GREY, SKY = (_CYCLE[i] for i in (0, 1, 2, 3, 4, 7, 9))

# What a page puts in the place of each: its own variables, lighter ones on dark paper.
THEME = {
    INK: "ink", MUTED: "muted", GRID: "rule", PAPER: "paper", BLUE: "blue", ORANGE: "orange",
    GREEN: "green", RED: "red", PINK: "pink", GREY: "grey", SKY: "sky",
}  # fmt: skip

STYLE = {
    **sns.axes_style("ticks"),
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "low-rank-reasoning",
    "path.simplify_threshold": 0.2,
}

# Whatever a user's matplotlibrc or MPLBACKEND says, figures are the same.
mpl.use("agg")
mpl.rcdefaults()

LONG = re.compile(r"-?\d+\.\d{3,}")


def save(figure: Figure, stem: str | Path) -> None:
    """Write <stem>.svg and <stem>.png, whole or not at all; equal figures give equal bytes."""
    stem = Path(stem)
    with mpl.rc_context(STYLE):
        with whole_file(stem.with_name(f"{stem.name}.svg")) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # it is laid out now; doing so again takes as long
        with whole_file(stem.with_name(f"{stem.name}.png")) as temporary:
            figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}"


def inline(svg: str, prefix: str) -> str:
    """An SVG of `save` made fit to stand in a page: scalable, in the page's colours and fonts.

    Identifiers get `prefix`, so that figures on one page do not share any; numbers are rounded
    to 1/100 pt; colours become the page's CSS variables (`THEME`).
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 role="img"', svg, count=1)
    # Only within tags: what a reader sees, such as a tick's 0.075, stays as it is.
    svg = re.sub(r"<[^>]+>", lambda tag: LONG.sub(_rounded, tag[0]), svg)
    svg = re.sub(r" \n(?=[MLzQC])|\n(?=[MLQCz])", " ", svg)
    for colour, name in THEME.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
