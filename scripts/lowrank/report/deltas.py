"""What the report says of the deltas: every matrix, every module, every layer.

Nothing here reads or writes a file; tables are in the form of lowrank.report.findings.
"""

from typing import Any

import numpy as np
import pandas as pd

from lowrank.report.evidence import Evidence
from lowrank.report.experts import by_type, few
from lowrank.report.findings import TIMES, grid, percent, row, size

# As they stand in a layer; others follow.
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Columns that a delta has where details were asked for -> their heads, and how they are written.
DETAILS = {
    "unchanged_bfloat16": ("equal in bf16", percent),
    "overlap_left_ratio": ("left", size),
    "overlap_right_ratio": ("right", size),
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

    Added: delta; energy_r<rank> and what the two nulls would keep (energy_r<rank>_gaussian,
    _shuffled); with details, the overlaps over what unrelated directions have (*_ratio).
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


def details_of(lines: pd.DataFrame) -> list[str]:
    """Which of DETAILS some matrices have."""
    return [name for name in DETAILS if name in lines and lines[name].notna().any()]


def grouped_table(found: Evidence, delta: str, frame: pd.DataFrame, by: str) -> dict[str, Any]:
    """A delta by "module" or "layer": norm and energy of its matrices together, their medians.

    The experts of a layer are one module.
    """
    ranks, spectrum = ranks_of(found), by_type(found.spectra[delta])
    here = by_type(frame[frame["delta"] == delta])
    details = details_of(here)
    there = dict(list(here.groupby(by)))
    order = sorted(there, key=(*MODULES, *there).index) if by == "module" else sorted(there)
    rows = []
    for group in [*order, "all"]:
        lines = there.get(group, here)
        pooled = spectrum if group == "all" else spectrum[spectrum[by] == group]
        norm = np.sqrt(np.sum(lines["frobenius"] ** 2))
        shapes = {f"{r} {TIMES} {c}" for r, c in zip(lines["rows"], lines["columns"], strict=True)}
        cells = [str(group), shapes.pop() if len(shapes) == 1 else f"{len(lines)} matrices"]
        cells += [size(norm), size(lines["sigma_1"].max())]
        cells += [percent(energy_at(pooled, rank)) for rank in ranks]
        medians = ("relative_frobenius", "sigma_1_ratio", "stable_rank")
        cells += [size(lines[name].median()) for name in medians]
        cells += [str(int(lines[name].median())) for name in ("rank_90", "rank_above_noise")]
        cells += [DETAILS[name][1](lines[name].median()) for name in details]
        rows.append(row(*cells, kind="total" if group == "all" else ""))
    heads = [by, "shape", "‖D‖", "σ₁", *(f"r = {rank}" for rank in ranks), "‖D‖ / ‖W‖",
             "σ₁(D) / σ₁(W)", "stable rank", "rank for 90%", "above noise",
             *(DETAILS[name][0] for name in details)]  # fmt: skip
    overlaps = sum(name.startswith("overlap") for name in details)
    groups = [
        ("", 2),
        ("together", 2),
        ("share of ‖D‖² kept", len(ranks)),
        ("median matrix", 5 + len(details) - overlaps),
        ("overlap with W / chance", overlaps),
    ]
    return grid(heads, rows, groups)


def matrices_table(found: Evidence, delta: str, frame: pd.DataFrame) -> dict[str, Any]:
    """A delta matrix by matrix; of a layer's experts a few, and how many more there are."""
    ranks = ranks_of(found)
    here = frame[frame["delta"] == delta]
    listed = here[here["tensor"].isin(few(by_type(here))["tensor"])]
    sizes = ("frobenius", "relative_frobenius", "sigma_1", "sigma_1_ratio", "stable_rank",
             "entropy_rank", "participation_ratio")  # fmt: skip
    counts = ("rank_50", "rank_90", "rank_99", "rank_above_noise", "optimal_rank")
    rows = [
        row(
            line["tensor"].removeprefix("model.").removesuffix(".weight"),
            *(size(line[name]) for name in sizes),
            *(str(int(line[name])) for name in counts),
            *(percent(line[f"energy_r{rank}"]) for rank in ranks),
        )
        for line in listed.to_dict("records")
    ]
    if len(listed) < len(here):
        rows.append(row(f"and {len(here) - len(listed)} more experts' matrices: tables/deltas.csv"))
    heads = ["matrix", "‖D‖", "‖D‖ / ‖W‖", "σ₁(D)", "σ₁(D) / σ₁(W)", "stable rank", "entropy rank",
             "participation", "50%", "90%", "99%", "noise", "optimal",
             *(f"r = {rank}" for rank in ranks)]  # fmt: skip
    groups = [
        ("", 8),
        ("rank for a share of ‖D‖²", 3),
        ("rank above", 2),
        ("share of ‖D‖² kept", len(ranks)),
    ]
    return grid(heads, rows, groups)
