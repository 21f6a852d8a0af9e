"""What the report says of models that are adapters: the product of the factors, the merged change.

Nothing here reads or writes a file; tables are in the form of lowrank.report.cells.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from lowrank.report.cells import DASH, Column, joined, percent, size, tabulate
from lowrank.report.evidence import Evidence

PRODUCT, CHANGE = "sBA", "merged change D"
NOTE = (
    "Models that are a PEFT adapter on another one, with weights W. A LoRA adds sBA, of rank r, to"
    " each matrix. A DoRA also gives every row of W + sBA a trained length, so the change D that is"
    " merged may have any rank. Norms are of all matrices together, stable ranks of the median"
    " matrix; every matrix is in models/<model>/adapter.csv."
)


def content(found: Evidence) -> dict[str, Any] | None:
    """The table of all models that are adapters, and what stands under it; None without one."""
    if not found.adapted:
        return None
    columns = [
        Column("model", lambda line: line["model"]),
        Column("on", lambda line: line["on"]),
        Column("kind", lambda line: "DoRA" if line["table"]["dora"].any() else "LoRA"),
        Column("r", lambda line: _range(line["table"]["r"])),
        Column("alpha", lambda line: _range(line["table"]["alpha"])),
        Column("s", lambda line: _range(line["table"]["scale"])),
        Column("‖sBA‖", lambda line: size(_norm(line["table"]["ba_norm"])), PRODUCT),
        Column("stable rank", lambda line: size(line["table"]["ba_stable_rank"].median()), PRODUCT),
        Column("‖D‖", lambda line: size(_norm(line["table"]["change_norm"])), CHANGE),
        Column("‖D‖ / ‖W‖", lambda line: percent(_relative(line["table"])), CHANGE),
        Column(
            "stable rank", lambda line: size(line["table"]["change_stable_rank"].median()), CHANGE
        ),
        Column("matrices", lambda line: str(len(line["table"]))),
        Column("modules", lambda line: joined(_modules(line["table"]["tensor"]))),
        Column("trained whole", lambda line: joined(_modules(line["whole"]) or [DASH])),
    ]
    lines = [
        {
            "model": found.label(name),
            "on": found.label(found.experiment["models"][name]["on"]),
            "table": table,
            "whole": found.model_manifests[name]["source"]["whole"],
        }
        for name, table in found.adapted.items()
    ]
    return {"table": tabulate(columns, lines, caption="Adapters"), "note": NOTE}


def _range(values: pd.Series) -> str:
    """The value of all matrices, or from the lowest to the highest."""
    low, high = (f"{value:g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} {DASH} {high}"


def _norm(norms: pd.Series) -> float:
    """The norm of all matrices together."""
    return float(np.sqrt((norms**2).sum()))


def _relative(table: pd.DataFrame) -> float:
    """Norm of the merged change over that of the weights it changes."""
    base = _norm(table["base_norm"])
    return _norm(table["change_norm"]) / base if base else float("nan")


def _modules(tensors: Iterable[str]) -> list[str]:
    """What tensors of all layers are called in their modules: q_proj, q_proj.bias."""
    words = [name.removesuffix(".weight").split(".") for name in tensors]
    return list(dict.fromkeys(".".join(w[-2:] if w[-1] == "bias" else w[-1:]) for w in words))
