"""The tables of a delta: every singular value, and one line of statistics a matrix."""

from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank.delta.spectra import energy_kept, gaussian_energy_kept
from lowrank.models.architecture import layer_and_module

if TYPE_CHECKING:
    import pandas

PLACE = {
    "tensor": "name of the weight; [3] after it: matrix 3 of a stack of experts",
    "layer": "number of its layer, from 0",
    "module": "its name in the layer: q_proj, mlp.experts.3.w1, mlp.experts.down_proj[3]",
}
# What each column of a delta's tables says; statistics.json repeats it. Formulas and their sources
# are documented in lowrank.delta.spectra. D is the weight's change, W the base's weight.
# energy_kept_shuffled and all from `unchanged` on are there where details were asked for.
COLUMNS = {
    "spectrum": {
        **PLACE,
        "index": "number of the singular value, from 0 for the largest",
        "sigma": "singular value of D",
        "energy_kept": "share of ||D||_F^2 in this singular value and all larger ones",
        "energy_kept_gaussian": "the same for Gaussian noise of that shape",
        "energy_kept_shuffled": "the same for D with its entries shuffled",
    },
    "summary": {
        **PLACE,
        "rows": "m of D [m, n]",
        "columns": "n of D [m, n]",
        "frobenius": "||D||_F",
        "sigma_1": "largest singular value of D",
        "stable_rank": "||D||_F^2 / sigma_1^2",
        "entropy_rank": "exp of the entropy of the normalised singular values",
        "participation_ratio": "(sum sigma^2)^2 / sum sigma^4",
        "rank_50": "smallest rank that keeps 50 % of ||D||_F^2",
        "rank_90": "smallest rank that keeps 90 % of ||D||_F^2",
        "rank_99": "smallest rank that keeps 99 % of ||D||_F^2",
        "noise_level": "standard deviation of noise, from the median sigma; rounding at least",
        "noise_edge": "largest singular value of noise of that level (Marchenko-Pastur)",
        "rank_above_noise": "number of singular values above noise_edge",
        "energy_above_noise": "share of ||D||_F^2 in these",
        "optimal_rank": "number above the Gavish-Donoho optimal hard threshold",
        "relative_frobenius": "||D||_F / ||W||_F",
        "sigma_1_base": "largest singular value of W, to about 1e-3",
        "sigma_1_ratio": "sigma_1 / sigma_1_base",
        "unchanged": "share of entries exactly equal in both models, as stored",
        "tiny": "share of entries that changed by less than 1e-5, or not",
        "unchanged_bfloat16": "share exactly equal after a cast of both to bfloat16",
        "tiny_bfloat16": "share changed by less than 1e-5, or not, after that cast",
        "aligned_k": "k of the next three: leading directions compared",
        "overlap_left": "||U_W^T U_D||_F^2 / k; k/m if unrelated",
        "overlap_right": "||V_W^T V_D||_F^2 / k; k/n if unrelated",
        "aligned_energy": "||U_W^T D V_W||_F^2 / ||D||_F^2; k^2/(mn) if unrelated",
    },
}


def spectrum_rows(
    name: str, shape: tuple[int, int], sigma: np.ndarray, shuffled: np.ndarray | None = None
) -> "pandas.DataFrame":
    """A matrix's rows of the spectrum; COLUMNS["spectrum"] says what the columns are.

    sigma: all singular values, largest first; shuffled: those of the shuffled null.
    """
    import pandas

    layer, module = layer_and_module(name)
    columns = {
        "tensor": name,
        "layer": layer,
        "module": module,
        "index": np.arange(len(sigma)),
        "sigma": sigma,
        "energy_kept": energy_kept(sigma),
        "energy_kept_gaussian": gaussian_energy_kept(shape),
    }
    if shuffled is not None:
        columns["energy_kept_shuffled"] = energy_kept(shuffled)
    return pandas.DataFrame(columns)


def summary_table(
    summaries: dict[str, tuple[tuple[int, int], dict[str, Any]]],
) -> "pandas.DataFrame":
    """One row a matrix, from shape and summary by name; COLUMNS["summary"] names the columns."""
    import pandas

    rows = []
    for name, ((m, n), summary) in summaries.items():
        layer, module = layer_and_module(name)
        place = {"tensor": name, "layer": layer, "module": module, "rows": m, "columns": n}
        rows.append(place | summary)
    return pandas.DataFrame(rows)
