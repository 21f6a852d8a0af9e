"""What a delta's singular values say: its size, how few directions carry it.

Every function takes the singular values themselves, largest first, and no model.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

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


def summarise(sigma: np.ndarray) -> dict[str, float | int]:
    """The statistics of one matrix that follow from its singular values alone."""
    return {
        "frobenius": float(math.sqrt(_energy(sigma).sum())),
        "sigma_1": float(sigma[0]),
        "stable_rank": stable_rank(sigma),
        "entropy_rank": entropy_rank(sigma),
        "participation_ratio": participation_ratio(sigma),
        "rank_50": rank_for_energy(sigma, 0.50),
        "rank_90": rank_for_energy(sigma, 0.90),
        "rank_99": rank_for_energy(sigma, 0.99),
    }


def leading_singular(
    W: "torch.Tensor", k: int, block: int = 8, steps: int = 4
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """The k largest singular values of W [m, n] and their vectors, by a block Krylov space.

    Musco & Musco 2015, Randomized block Krylov methods, algorithm 2; `block` + k starting columns
    drawn from a fixed seed. Returns U [m, k], sigma float64 [k], V [n, k]; sigma_1 is good to
    about 1e-4 even without a gap, far below what its ratio is read to.
    """
    import torch

    if W.shape[0] < W.shape[1]:
        V, sigma, U = leading_singular(W.T, k, block, steps)
        return U, sigma, V
    generator = torch.Generator().manual_seed(0)
    width = min(k + block, W.shape[1])
    X = torch.randn(W.shape[1], width, generator=generator).to(W.device)
    krylov = []
    for _ in range(steps + 1):
        X = torch.linalg.qr(X).Q
        krylov.append(X)
        X = W.T @ (W @ X)
    # Twice, because once loses orthogonality where the blocks are nearly parallel.
    Q = torch.linalg.qr(torch.linalg.qr(torch.cat(krylov, dim=1)).Q).Q
    WQ = W @ Q
    values, vectors = torch.linalg.eigh(WQ.T.double() @ WQ.double())
    sigma = values.flip(0)[:k].clamp_min(0).sqrt()
    vectors = vectors.flip(1)[:, :k].to(W.dtype)
    U = (WQ @ vectors) / sigma.clamp_min(1e-300).to(W.dtype)
    return U, sigma, Q @ vectors
