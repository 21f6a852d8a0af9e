"""What a delta's singular values and entries say: its size, how few directions carry it.

Functions of `sigma` take all singular values of a matrix, largest first.
"""

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from lowrank.models.safetensors_file import TORCH_NAMES

if TYPE_CHECKING:
    import torch


def stable_rank(sigma: np.ndarray) -> float:
    """||D||_F^2 / ||D||_2^2, from 1 (rank one) to the number of values (all equal); 0 for D = 0.

    Rudelson & Vershynin 2007, Sampling from large matrices, section 1.
    """
    energy = _energy(sigma)
    return float(energy.sum() / energy[0]) if energy[0] > 0 else 0.0


def entropy_rank(sigma: np.ndarray) -> float:
    """exp of the Shannon entropy of sigma_i / sum(sigma); 0 for D = 0.

    The effective rank of Roy & Vetterli 2007, The effective rank, definition 1.
    """
    total = float(np.sum(sigma))
    if total == 0:
        return 0.0
    share = np.asarray(sigma, float) / total
    share = share[share > 0]
    return float(math.exp(-(share * np.log(share)).sum()))


def participation_ratio(sigma: np.ndarray) -> float:
    """(sum sigma^2)^2 / sum sigma^4: how many directions share the energy; 0 for D = 0.

    The inverse participation ratio of the energies (Wegner 1980; Gao et al. 2017, eq. 4).
    """
    energy = _energy(sigma)
    if energy[0] == 0:
        return 0.0
    energy = energy / energy[0]
    return float(energy.sum() ** 2 / (energy**2).sum())


def rank_for_energy(sigma: np.ndarray, share: float) -> int:
    """The smallest rank whose best approximation keeps `share` of ||D||_F^2; 0 for D = 0."""
    kept = energy_kept(sigma)
    if kept[-1] == 0:
        return 0
    # Against rounding in the running sum: a share is reached when it is reached to 1e-12.
    return int(np.searchsorted(kept, share - 1e-12) + 1)


def energy_kept(sigma: np.ndarray) -> np.ndarray:
    """Share of ||D||_F^2 in the first 1, 2, ... singular values; zeros for D = 0."""
    energy = _energy(sigma)
    total = energy.sum()
    return np.cumsum(energy) / total if total > 0 else np.zeros_like(energy)


def _energy(sigma: np.ndarray) -> np.ndarray:
    return np.asarray(sigma, np.float64) ** 2


@cache
def _marchenko_pastur(beta: float, points: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues t and their probabilities under the Marchenko-Pastur law, ascending.

    beta = shorter / longer side; t are the squared singular values of noise of variance 1 divided
    by the longer side. Midpoints in theta of t = 1 + beta - 2 sqrt(beta) cos(theta), in which the
    density sqrt((t_max - t)(t - t_min)) / (2 pi beta t) has no singularity (Bai & Silverstein
    2010, section 3.1.1).
    """
    theta = (np.arange(points) + 0.5) * math.pi / points
    t = 1 + beta - 2 * math.sqrt(beta) * np.cos(theta)
    weight = np.sin(theta) ** 2 / t
    return t, weight / weight.sum()


def _beta(shape: tuple[int, int]) -> float:
    return min(shape) / max(shape)


def noise_level(sigma: np.ndarray, shape: tuple[int, int], rounding: float = 0.0) -> float:
    """Standard deviation of an entry of the noise under a few strong directions.

    The median singular value over that of pure noise of variance 1: Gavish & Donoho 2014, The
    optimal hard threshold for singular values is 4/sqrt(3), equation 10.
    No less than the level whose noise_edge is the larger of two things that are no change of the
    weights: `rounding`, which the stored values carry (rounding_edge), and what a Gram matrix in
    float64 resolves. Its eigenvalues are good to max(m, n) eps of the largest, the tolerance of
    numpy.linalg.matrix_rank; its singular values therefore to the root of that, some 1e-6.
    """
    t, probability = _marchenko_pastur(_beta(shape))
    median = np.interp(0.5, np.cumsum(probability), t)
    measured = float(np.median(sigma) / math.sqrt(median * max(shape)))
    resolved = math.sqrt(max(shape) * np.finfo(np.float64).eps) * float(sigma[0])
    return max(measured, max(rounding, resolved) / noise_edge(1, shape))


def rounding_edge(V: "torch.Tensor", dtype: str) -> float:
    """The largest singular value that rounding to its stored dtype alone gives a weight V [m, n].

    V: float32, the derivative's stored values; dtype: as safetensors names it. The base's values
    count as exact, training began from them. A value v is rounded by at most half of eps |v|, so
    the error's standard deviation s is at most eps |v| / sqrt(12). A matrix of independent errors
    has a norm of about max_i sqrt(sum_j s_ij^2) + max_j sqrt(sum_i s_ij^2) (Bandeira & van Handel
    2016, Sharp nonasymptotic bounds on the norm of random matrices with independent entries,
    theorem 3.1), which is s (sqrt m + sqrt n) where all are alike. The spacing of floating-point
    numbers is eps |v| at a power of two and less above it, so this bound is on the safe side.
    """
    import torch

    stored = getattr(torch, TORCH_NAMES[dtype])
    eps = max(torch.finfo(stored).eps, torch.finfo(torch.float32).eps)  # float64 is read as float32
    row = float(torch.linalg.vector_norm(V, dim=1).max())
    # In pieces that stay in the processor's cache: several times as fast.
    squares = (piece.square().sum(0) for piece in torch.split(V, 128))
    column = math.sqrt(float(sum(squares, V.new_zeros(V.shape[1])).max()))
    return eps / math.sqrt(12) * (row + column)


def noise_edge(noise: float, shape: tuple[int, int]) -> float:
    """The largest singular value that noise of that level alone has: noise (sqrt m + sqrt n)."""
    return noise * (math.sqrt(shape[0]) + math.sqrt(shape[1]))


def hard_threshold(noise: float, shape: tuple[int, int]) -> float:
    """Below this a singular value is better dropped than kept, in squared error.

    Gavish & Donoho 2014, equation 11: lambda(beta) sqrt(longer side) noise, 4/sqrt(3) if square.
    """
    beta = _beta(shape)
    root = math.sqrt(beta**2 + 14 * beta + 1)
    return math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + root)) * math.sqrt(max(shape)) * noise


def gaussian_energy_kept(shape: tuple[int, int]) -> np.ndarray:
    """energy_kept of a Gaussian matrix of a shape, in the limit of large matrices: a null.

    Of the same norm or any other: shares do not depend on it.
    """
    t, probability = _marchenko_pastur(_beta(shape))
    share, energy = np.cumsum(probability[::-1]), np.cumsum((t * probability)[::-1])
    ranks = np.arange(1, min(shape) + 1) / min(shape)
    return np.interp(ranks, np.r_[0, share], np.r_[0, energy / energy[-1]])


def summarise(
    sigma: np.ndarray, shape: tuple[int, int], rounding: float = 0.0
) -> dict[str, float | int]:
    """The statistics of one matrix that follow from its singular values and its shape.

    noise_level and what rests on it (noise_edge, rank_above_noise, energy_above_noise,
    optimal_rank) suppose that the smaller half of the singular values is noise; rounding is a
    floor under it, see noise_level.
    """
    noise = noise_level(sigma, shape, rounding)
    above = int((sigma > noise_edge(noise, shape)).sum())
    energy = _energy(sigma)
    return {
        "frobenius": float(math.sqrt(_energy(sigma).sum())),
        "sigma_1": float(sigma[0]),
        "stable_rank": stable_rank(sigma),
        "entropy_rank": entropy_rank(sigma),
        "participation_ratio": participation_ratio(sigma),
        "rank_50": rank_for_energy(sigma, 0.50),
        "rank_90": rank_for_energy(sigma, 0.90),
        "rank_99": rank_for_energy(sigma, 0.99),
        "noise_level": noise,
        "noise_edge": noise_edge(noise, shape),
        "rank_above_noise": above,
        "energy_above_noise": float(energy[:above].sum() / energy.sum()) if energy[0] else 0.0,
        "optimal_rank": int((sigma > hard_threshold(noise, shape)).sum()),
    }


def entry_shares(base: "torch.Tensor", derivative: "torch.Tensor") -> dict[str, float]:
    """Which share of the entries training left alone, as stored and after a cast to bfloat16.

    base, derivative: float32, one shape. "unchanged": exactly equal; "tiny": changed by less than
    1e-5 or not at all (Mukherjee et al. 2025, Reinforcement learning finetunes small subnetworks,
    section 3, use 1e-5).
    """
    import torch

    counts = dict.fromkeys(("unchanged", "tiny", "unchanged_bfloat16", "tiny_bfloat16"), 0)
    # In pieces that stay in the processor's cache.
    pieces = (torch.split(matrix.reshape(-1), 1 << 18) for matrix in (base, derivative))
    for W, V in zip(*pieces, strict=True):
        cast = V.bfloat16().float() - W.bfloat16().float()
        for suffix, D in (("", V - W), ("_bfloat16", cast)):
            counts["unchanged" + suffix] += D.numel() - int(torch.count_nonzero(D))
            counts["tiny" + suffix] += int(torch.count_nonzero(D.abs_() < 1e-5))
    return {name: count / base.numel() for name, count in counts.items()}


def alignment(
    D: "torch.Tensor",
    U: "torch.Tensor",
    V: "torch.Tensor",
    U_W: "torch.Tensor",
    V_W: "torch.Tensor",
) -> dict[str, float]:
    """How far D lies in the leading directions of the weights W that it changes.

    D [m, n]; U [m, k], V [n, k] its leading singular vectors, U_W, V_W those of W.
    overlap_left = ||U_W^T U||_F^2 / k, k / m if unrelated; overlap_right likewise, k / n;
    aligned_energy = ||U_W^T D V_W||_F^2 / ||D||_F^2, k^2 / (m n) if unrelated (Hu et al. 2021,
    LoRA, sections 7.2 and 7.3). 0 for D = 0.
    """
    k, total = U.shape[1], float(D.norm()) ** 2
    if total == 0:
        return dict.fromkeys(("overlap_left", "overlap_right", "aligned_energy"), 0.0)
    return {
        "overlap_left": float((U_W.T @ U).norm()) ** 2 / k,
        "overlap_right": float((V_W.T @ V).norm()) ** 2 / k,
        "aligned_energy": float((U_W.T @ D @ V_W).norm()) ** 2 / total,
    }


def largest_singular(W: "torch.Tensor", block: int = 8, steps: int = 3) -> float:
    """The largest singular value of W [m, n], from a block Krylov space of a fixed seed.

    Musco & Musco 2015, Randomized block Krylov methods, algorithm 2. From below, and good to about
    1e-3 for trained weights, whose first direction stands out; to some per cent for pure noise.
    """
    import torch

    W = W if W.shape[0] >= W.shape[1] else W.T
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(W.shape[1], min(block, W.shape[1]), generator=generator)
    krylov = [torch.linalg.qr(start.to(W.device)).Q]
    for _ in range(steps):
        krylov.append(torch.linalg.qr(W.T @ (W @ krylov[-1])).Q)
    # Twice, because once loses orthogonality where the blocks are nearly parallel.
    Q = torch.linalg.qr(torch.linalg.qr(torch.cat(krylov, dim=1)).Q).Q
    image = (W @ Q).double()
    return math.sqrt(max(float(torch.linalg.eigvalsh(image.T @ image)[-1]), 0.0))
