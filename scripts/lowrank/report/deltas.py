"""What the report says of the deltas: every matrix, every module, every layer.

Nothing here reads or writes a file; tables are in the form of lowrank.report.cells.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lowrank.report.cells import TIMES, Column, percent, row, size, tabulate
from lowrank.report.evidence import Evidence
from lowrank.report.experts import by_type, few

# As they stand in a layer; others follow.
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# What deltas.csv has beside the columns of summary.parquet: column -> what it is, as docs/tables.md
# has it.
ADDED = {
    "delta": "name of the delta, first",
    "energy_r<rank>": "share of ||D||_F^2 that the rank keeps",
    "energy_r<rank>_gaussian": "what Gaussian noise of that shape would keep",
    "energy_r<rank>_shuffled": "what D with its entries shuffled would keep (with `details`)",
    "overlap_left_ratio": "`overlap_left` over k/m",
    "overlap_right_ratio": "`overlap_right` over k/n",
    "aligned_energy_ratio": "`aligned_energy` over k^2/(mn)",
}
KEPT = "share of ‖D‖² kept"
MEDIAN, OVERLAP = "median matrix", "overlap with W / chance"


def count(number: float) -> str:
    """A whole number."""
    return str(int(number))


# What a module or layer is shown with, medians of its matrices: column of deltas.csv -> its head,
# how it is written, and what stands over it.
MEDIANS = {
    "relative_frobenius": ("‖D‖ / ‖W‖", size, MEDIAN),
    "sigma_1_ratio": ("σ₁(D) / σ₁(W)", size, MEDIAN),
    "stable_rank": ("stable rank", size, MEDIAN),
    "rank_90": ("rank for 90%", count, MEDIAN),
    "rank_above_noise": ("above noise", count, MEDIAN),
    "unchanged_bfloat16": ("equal in bf16", percent, MEDIAN),
    "overlap_left_ratio": ("left", size, OVERLAP),
    "overlap_right_ratio": ("right", size, OVERLAP),
}
# Those of them that a delta has where details were asked for.
DETAILS = ("unchanged_bfloat16", "overlap_left_ratio", "overlap_right_ratio")
SHARE, ABOVE = "rank for a share of ‖D‖²", "rank above"
# What one matrix is shown with.
MATRIX = {
    "frobenius": ("‖D‖", size, ""),
    "relative_frobenius": ("‖D‖ / ‖W‖", size, ""),
    "sigma_1": ("σ₁(D)", size, ""),
    "sigma_1_ratio": ("σ₁(D) / σ₁(W)", size, ""),
    "stable_rank": ("stable rank", size, ""),
    "entropy_rank": ("entropy rank", size, ""),
    "participation_ratio": ("participation", size, ""),
    "rank_50": ("50%", count, SHARE),
    "rank_90": ("90%", count, SHARE),
    "rank_99": ("99%", count, SHARE),
    "rank_above_noise": ("noise", count, ABOVE),
    "optimal_rank": ("optimal", count, ABOVE),
}


def energy_at(spectrum: pd.DataFrame, rank: int) -> float:
    """Share of the squared norm of all matrices together that their top `rank` directions hold."""
    energy = spectrum["sigma"].to_numpy(np.float64) ** 2
    total = energy.sum()
    top = energy[spectrum["index"].to_numpy() < rank].sum()
    return float(top / total) if total > 0 else float("nan")


def null_energy_at(
    spectrum: pd.DataFrame, rank: int, column: str = "energy_kept_gaussian"
) -> float:
    """What `energy_at` would be were every matrix a null of its shape and norm.

    column: energy_kept_gaussian (noise) or energy_kept_shuffled (its own entries, shuffled).
    """
    total = at_rank = 0.0
    for _, rows in spectrum.groupby("tensor", sort=False):
        ordered = rows.sort_values("index")
        energy = float((ordered["sigma"] ** 2).sum())
        total += energy
        at_rank += energy * float(ordered[column].iloc[min(rank, len(rows)) - 1])
    return at_rank / total if total > 0 else float("nan")


def ranks_of(found: Evidence) -> list[int]:
    """The ranks kept by the experiment's variants, ascending."""
    return sorted({variant["rank"] for variant in found.lowrank.values()})


def deltas_frame(found: Evidence) -> pd.DataFrame:
    """summary.parquet of every delta, one row a matrix; what deltas.csv holds.

    Added are the columns `ADDED`, the last three and _shuffled only where details were asked for.
    """
    parts = []
    for delta, summary in found.summaries.items():
        spectrum = found.spectra[delta]
        grouped = dict(list(spectrum.groupby("tensor", sort=False)))
        sizes = spectrum["tensor"].map({tensor: len(rows) for tensor, rows in grouped.items()})
        part = summary.copy()
        part.insert(0, "delta", delta)
        nulls = [null for null in ("gaussian", "shuffled") if f"energy_kept_{null}" in spectrum]
        for rank in ranks_of(found):
            part[f"energy_r{rank}"] = [energy_at(grouped[t], rank) for t in part["tensor"]]
            last = spectrum[spectrum["index"] == sizes.clip(upper=rank) - 1].set_index("tensor")
            for null in nulls:
                part[f"energy_r{rank}_{null}"] = part["tensor"].map(last[f"energy_kept_{null}"])
        if "aligned_k" in part:
            k, m, n = part["aligned_k"], part["rows"], part["columns"]
            part["overlap_left_ratio"] = part["overlap_left"] * m / k
            part["overlap_right_ratio"] = part["overlap_right"] * n / k
            part["aligned_energy_ratio"] = part["aligned_energy"] * m * n / k**2
        ratios = ["relative_frobenius", "sigma_1_ratio"]
        part[ratios] = part[ratios].astype(float)  # null where the base's matrix is zero
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def grouped_table(found: Evidence, delta: str, frame: pd.DataFrame, by: str) -> dict[str, Any]:
    """A delta by "module" or "layer": norm and energy of its matrices together, their medians.

    The experts of a layer are one module.
    """
    ranks, spectrum = ranks_of(found), by_type(found.spectra[delta])
    here = by_type(frame[frame["delta"] == delta])
    there = dict(list(here.groupby(by)))
    order = sorted(there, key=(*MODULES, *there).index) if by == "module" else sorted(there)

    def matrices(group: Any) -> pd.DataFrame:
        return there.get(group, here)

    def shape(group: Any) -> str:
        lines = matrices(group)
        shapes = {f"{r} {TIMES} {c}" for r, c in zip(lines["rows"], lines["columns"], strict=True)}
        return shapes.pop() if len(shapes) == 1 else f"{len(lines)} matrices"

    def energy(rank: int) -> Callable[[Any], str]:
        def cell(group: Any) -> str:
            whole = group == "all"
            return percent(energy_at(spectrum if whole else spectrum[spectrum[by] == group], rank))

        return cell

    def median(name: str, written: Callable[[float], str]) -> Callable[[Any], str]:
        return lambda group: written(matrices(group)[name].median())

    columns = [
        Column(by, str),
        Column("shape", shape),
        Column("‖D‖", lambda g: size(np.sqrt(np.sum(matrices(g)["frobenius"] ** 2))), "together"),
        Column("σ₁", lambda g: size(matrices(g)["sigma_1"].max()), "together"),
        *(Column(f"r = {rank}", energy(rank), KEPT) for rank in ranks),
        *(
            Column(head, median(name, written), group)
            for name, (head, written, group) in MEDIANS.items()
            if name in here and (name not in DETAILS or here[name].notna().any())
        ),
    ]
    return tabulate(columns, [*order, "all"], lambda group: "total" if group == "all" else "")


def matrices_table(found: Evidence, delta: str, frame: pd.DataFrame) -> dict[str, Any]:
    """A delta matrix by matrix; of a layer's experts a few, and how many more there are."""
    ranks = ranks_of(found)
    here = frame[frame["delta"] == delta]
    shown = here[here["tensor"].isin(few(by_type(here))["tensor"])]

    def number(name: str, written: Callable[[float], str]) -> Callable[[dict[str, Any]], str]:
        return lambda line: written(line[name])

    columns = [
        Column(
            "matrix", lambda line: line["tensor"].removeprefix("model.").removesuffix(".weight")
        ),
        *(
            Column(head, number(name, written), group)
            for name, (head, written, group) in MATRIX.items()
        ),
        *(Column(f"r = {rank}", number(f"energy_r{rank}", percent), KEPT) for rank in ranks),
    ]
    made = tabulate(columns, shown.to_dict("records"))
    if len(shown) < len(here):
        more = f"and {len(here) - len(shown)} more experts' matrices: tables/deltas.csv"
        made["rows"].append(row(more))
    return made
