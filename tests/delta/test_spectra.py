"""Statistics of spectra whose answers are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowrank.delta.spectra import (
    alignment,
    energy_kept,
    entropy_rank,
    entry_shares,
    gaussian_energy_kept,
    hard_threshold,
    largest_singular,
    noise_edge,
    noise_level,
    participation_ratio,
    rank_for_energy,
    rounding_edge,
    stable_rank,
    summarise,
)
from lowrank.delta.svd import factor
from lowrank.models.safetensors_file import TORCH_NAMES

RANKS = (stable_rank, entropy_rank, participation_ratio)
spectra = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30).map(
    lambda values: np.sort(values)[::-1]
)


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_equal_values_count_themselves(rank):
    sigma = np.r_[np.full(rank, 0.3), np.zeros(5)]
    for statistic in RANKS:
        assert statistic(sigma) == pytest.approx(rank)
    assert rank_for_energy(sigma, 1.0) == rank


@given(spectra, st.floats(1e-6, 1e6))
def test_ranks_lie_between_one_and_all_and_ignore_scale(sigma, scale):
    for statistic in RANKS:
        value = statistic(sigma)
        assert 1 - 1e-9 <= value <= len(sigma) + 1e-9
        assert statistic(sigma * scale) == pytest.approx(value, rel=1e-6)


@given(spectra, st.floats(0.01, 0.999))
def test_rank_for_energy_is_the_smallest_that_suffices(sigma, share):
    rank, kept = rank_for_energy(sigma, share), energy_kept(sigma)
    assert kept[rank - 1] >= share - 1e-9
    assert rank == 1 or kept[rank - 2] < share


def test_hand_made():
    sigma = np.array([2.0, 1.0, 1.0])
    assert stable_rank(sigma) == pytest.approx(6 / 4)
    assert participation_ratio(sigma) == pytest.approx(36 / 18)
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert entropy_rank(sigma) == pytest.approx(math.exp(entropy))
    assert [rank_for_energy(sigma, share) for share in (0.5, 0.8, 0.9)] == [1, 2, 3]
    assert summarise(sigma, (3, 3))["frobenius"] == pytest.approx(math.sqrt(6))


def test_a_summary_by_hand():
    """One strong value over ten equal ones, which are the noise."""
    sigma = np.r_[100.0, np.ones(10)]
    summary = summarise(sigma, (11, 11))
    assert [summary[f"rank_{share}"] for share in (50, 90, 99)] == [1, 1, 1]
    assert (summary["sigma_1"], summary["rank_above_noise"]) == (100, 1)
    assert summary["energy_above_noise"] == pytest.approx(1e4 / (1e4 + 10), rel=1e-9)
    assert summary["noise_edge"] == pytest.approx(noise_edge(summary["noise_level"], (11, 11)))
    even = summarise(np.ones(100), (100, 100))
    assert [even[f"rank_{share}"] for share in (50, 90, 99)] == [50, 90, 99]
    assert (even["rank_above_noise"], even["energy_above_noise"]) == (0, 0)


def test_the_edge_of_noise_knows_both_sides():
    assert noise_edge(0.5, (16, 9)) == noise_edge(0.5, (9, 16)) == 3.5


def test_zero():
    assert set(summarise(np.zeros(4), (4, 6)).values()) == {0}


def noisy(shape, planted, noise, seed=0):
    """Singular values of planted directions under Gaussian noise, from float64 LAPACK."""
    generator = np.random.default_rng(seed)
    left, right = (np.linalg.qr(generator.normal(size=(n, len(planted))))[0] for n in shape)
    D = left * np.asarray(planted) @ right.T + noise * generator.normal(size=shape)
    return np.linalg.svd(D, compute_uv=False)


@pytest.mark.parametrize("shape", [(400, 400), (200, 900), (900, 200), (64, 600)])
def test_noise_is_measured_under_planted_directions(shape):
    noise = 4.5e-5
    edge = noise_edge(noise, shape)
    planted = edge * np.array([20, 10, 5, 4, 3])
    summary = summarise(noisy(shape, planted, noise), shape)
    assert summary["noise_level"] == pytest.approx(noise, rel=0.03)
    assert summary["rank_above_noise"] == pytest.approx(5, abs=1)
    assert summary["optimal_rank"] == 5
    share = (planted**2).sum() / ((planted**2).sum() + noise**2 * shape[0] * shape[1])
    assert summary["energy_above_noise"] == pytest.approx(share, rel=0.03)


def weights(kind: str, shape: tuple[int, int]) -> torch.Tensor:
    """Weights as they are found: of one scale, of one a channel, with outliers, heavy tails."""
    generator = torch.Generator().manual_seed(0)
    W = 0.03 * torch.randn(shape, generator=generator)
    if kind == "channels":
        W *= torch.exp(torch.randn(1, shape[1], generator=generator))
    elif kind == "outliers":
        W[1] *= 30
        W[2, 3] = 8
    elif kind == "heavy":
        W /= torch.rand(shape, generator=generator).clamp_min(1e-2).sqrt()
    return W


@pytest.mark.parametrize("shape", [(64, 64), (160, 96), (48, 300)])
@pytest.mark.parametrize("kind", ["plain", "channels", "outliers", "heavy"])
@pytest.mark.parametrize("stored", ["BF16 F32", "F32 F32", "BF16 BF16", "F16 F16"])
@pytest.mark.parametrize("rank", [1, 8])
def test_a_merged_lora_has_its_rank_above_noise(shape, kind, stored, rank):
    """Whatever it is merged onto, however it is stored: rounding is never taken for a direction."""
    before, after = (getattr(torch, TORCH_NAMES[dtype]) for dtype in stored.split())
    W = weights(kind, shape).to(before).float()
    U, V = (
        torch.linalg.qr(torch.randn(side, rank, generator=torch.Generator().manual_seed(side))).Q
        for side in shape
    )
    for size in (1, 1e-2, 1e-4):
        sigma = torch.linspace(1, 0.3, rank) * size * float(torch.linalg.matrix_norm(W, 2))
        merged = (W + (U * sigma) @ V.T).to(after).float()
        rounding = rounding_edge(merged, stored.split()[1])
        if sigma[-1] < 2 * rounding:
            continue  # what rounding drowns cannot be told from it
        found = factor(merged - W)["sigma"].numpy()
        summary = summarise(found, shape, rounding)
        assert (summary["rank_above_noise"], summary["optimal_rank"]) == (rank, rank), size


def test_rounding_edge_is_that_of_rounded_weights():
    """Above the error's largest singular value, and of its size."""
    W = weights("plain", (300, 200))
    for dtype, name in ((torch.bfloat16, "BF16"), (torch.float16, "F16")):
        stored = W.to(dtype).float()
        error = float(torch.linalg.matrix_norm(stored - W, 2))
        assert error < rounding_edge(stored, name) < 2 * error


def test_thresholds_as_published():
    """Gavish & Donoho 2014: 4/sqrt(3) for known noise; 2.858 medians for unknown, both square."""
    assert hard_threshold(1, (100, 100)) == pytest.approx(4 / math.sqrt(3) * 10)
    medians = hard_threshold(noise_level(np.ones(100), (100, 100)), (100, 100))
    assert medians == pytest.approx(2.858, abs=1e-3)
    medians = hard_threshold(noise_level(np.ones(50), (50, 100)), (50, 100))
    assert medians == pytest.approx(2.1711, abs=2e-3)  # their table IV, beta = 0.5


@pytest.mark.parametrize("shape", [(300, 300), (150, 700)])
def test_the_gaussian_null_is_what_a_gaussian_matrix_keeps(shape):
    kept = energy_kept(noisy(shape, [], 1.0))
    np.testing.assert_allclose(gaussian_energy_kept(shape), kept, atol=0.01)
    assert gaussian_energy_kept(shape)[-1] == pytest.approx(1)


def test_entry_shares_on_a_hand_made_pair():
    base = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    derivative = base + torch.tensor([[0.0, 1e-4, 0.5, 5e-6]])
    shares = entry_shares(base, derivative)
    # 1.0001 is 1 in bfloat16; 5e-6 is not 0 there.
    assert shares == {
        "unchanged": 0.25,
        "tiny": 0.5,
        "unchanged_bfloat16": 0.5,
        "tiny_bfloat16": 0.75,
    }


def test_alignment_of_known_subspaces():
    generator = torch.Generator().manual_seed(0)
    m, n, k = 80, 50, 4
    U, V = (torch.linalg.qr(torch.randn(s, s, generator=generator)).Q for s in (m, n))
    inside = U[:, :k] @ V[:, :k].T
    same = alignment(inside, U[:, :k], V[:, :k], U[:, :k], V[:, :k])
    assert list(same.values()) == pytest.approx([1, 1, 1], abs=1e-5)
    apart = alignment(inside, U[:, :k], V[:, :k], U[:, k : 2 * k], V[:, k : 2 * k])
    assert list(apart.values()) == pytest.approx([0, 0, 0], abs=1e-5)
    D = torch.randn(400, 200, generator=generator)
    U, _, Vh = torch.linalg.svd(D, full_matrices=False)
    U_W, _, Vh_W = torch.linalg.svd(torch.randn(400, 200, generator=generator), False)
    unrelated = alignment(D, U[:, :20], Vh[:20].T, U_W[:, :20], Vh_W[:20].T)
    assert unrelated["overlap_left"] == pytest.approx(20 / 400, rel=0.3)
    assert unrelated["overlap_right"] == pytest.approx(20 / 200, rel=0.3)
    assert unrelated["aligned_energy"] == pytest.approx(400 / 8e4, rel=0.3)


@pytest.mark.parametrize("shape", [(60, 200), (200, 60), (30, 30), (3, 1)])
def test_largest_singular_value(shape):
    W = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    exact = float(torch.linalg.matrix_norm(W, 2))
    assert 0.95 * exact <= largest_singular(W) <= 1.00001 * exact
    W += 3 * torch.outer(torch.ones(shape[0]), torch.ones(shape[1])) / math.sqrt(shape[1])
    assert largest_singular(W) == pytest.approx(float(torch.linalg.matrix_norm(W, 2)), rel=1e-3)
    assert largest_singular(torch.zeros(shape)) == 0
