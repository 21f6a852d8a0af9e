"""Where the change lives, on the page: a heat map of its parts, and their sum against the whole."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lowrank.errors import InputError
from lowrank.files import read_json
from lowrank.report.cells import percent
from lowrank.report.divergences import share_of_way, thousandths
from lowrank.report.evidence import Evidence, table
from lowrank.sampling.store import served_digest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = ("level", "layer", "module", "kl_without", "kl_with", "recovered_with", "n_tokens")


def gather(found: Evidence, benchmark: str) -> pd.DataFrame | None:
    """The parts of the change on a benchmark; None where they were not asked for.

    InputError if they were read of other text, of another base, or to another extent.
    """
    wanted = found.experiment["locate"]
    if not wanted:
        return None
    here = found.layout.divergence(benchmark)
    path = here.located_record
    said = read_json(path)
    manifest = found.model_manifests[found.experiment["base"]]
    hashes = {name: file["sha256"] for name, file in manifest["files"].items()}
    now = {
        "reference": read_json(here.reference)["digest"],
        "base_sha256": served_digest(hashes),
        "asked": wanted,
    }
    if {key: said.get(key) for key in now} != now:
        raise InputError(
            f"{path}: is of other text, of other weights or of another extent than is configured:"
            " make it again with `snakemake --cores all --forcerun locate`"
        )
    return table(here.located, PARTS)


def saved(parts: pd.DataFrame) -> pd.Series:
    """What each part saves of the base's divergence when its change alone is put in, nats."""
    return whole_of(parts) - parts["kl_with"]


def whole_of(parts: pd.DataFrame) -> float:
    """The divergence of the base itself: of the derivative with every change taken out."""
    return float(parts.loc[parts["level"] == "whole", "kl_without"].iloc[0])


def sentences(parts: pd.DataFrame) -> list[str]:
    """How far from additive the parts are, and which matter most."""
    whole = whole_of(parts)
    single = parts[parts["level"].isin(("matrix", "rest"))]
    matrices = parts[parts["level"] == "matrix"]
    if not whole > 0:
        return []
    out, gains = float(single["kl_without"].sum()), float(saved(parts)[single.index].sum())
    most = matrices.sort_values("kl_without", ascending=False, kind="stable").iloc[0]
    alone = matrices.sort_values("kl_with", kind="stable").iloc[0]
    rest = parts[parts["level"] == "rest"]
    said = [
        f"The change was taken apart into {len(matrices)} matrices and the rest"
        f" ({int(single['n_tokens'].iloc[0]):,} tokens read). All of it taken out of the derivative"
        f" is the base, at {thousandths(whole)} thousandths of a nat. The parts taken out one by"
        f" one cause {percent(out / whole)} of that in sum; put alone into the base one by one they"
        f" save {percent(gains / whole)} in sum. Were the effects of the parts additive, both would"
        " be 100%.",
        f"The matrix that is missed most is {most['module']} of layer {int(most['layer'])}"
        f" ({percent(most['kl_without'] / whole)} of the whole when it is taken out); the one that"
        f" alone goes farthest is {alone['module']} of layer {int(alone['layer'])}"
        f" ({share_of_way(alone['recovered_with'])} of the way).",
    ]
    if len(rest):
        line = rest.iloc[0]
        said.append(
            "Embeddings, head, norms and biases alone go"
            f" {share_of_way(line['recovered_with'])} of the way."
        )
    return said


def heat(parts: pd.DataFrame) -> "Figure":
    """Layer by module, the change taken out and put in."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from lowrank.report.figure_style import STYLE

    matrices = parts.assign(saved=saved(parts))[parts["level"] == "matrix"]
    modules = list(dict.fromkeys(matrices["module"]))
    layers = sorted(int(layer) for layer in matrices["layer"].unique())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 1.6 + 0.17 * max(len(layers), 6)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        titles = {"kl_without": "Taken out of the derivative", "saved": "Put alone into the base"}
        for axes, (column, title) in zip(panels, titles.items(), strict=True):
            square = matrices.pivot(index="layer", columns="module", values=column)
            _panel(axes, 1000 * square.loc[layers, modules].to_numpy(dtype=float), title)
            axes.set_xticks(np.arange(len(modules)), modules, rotation=40, ha="right")
        step = max(1, len(layers) // 14)
        panels[0].set_yticks(np.arange(len(layers))[::step], [str(n) for n in layers[::step]])
        panels[0].set_ylabel("layer")
    return figure


def _panel(axes: "Axes", values: np.ndarray, title: str) -> None:
    """A heat map with its scale; what is below 0 is drawn as 0 (a change that does harm alone)."""
    drawn = axes.imshow(np.maximum(values, 0), cmap="viridis", aspect="auto", origin="lower")
    axes.figure.colorbar(drawn, ax=axes, shrink=0.9)
    axes.set_title(title)
    axes.grid(visible=False)
