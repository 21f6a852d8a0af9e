"""Statistics of spectra whose answers are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowrank.spectrum import (
    energy_kept,
    entropy_rank,
    leading_singular,
    participation_ratio,
    rank_for_energy,
    stable_rank,
    summarise,
)

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
    assert summarise(sigma)["frobenius"] == pytest.approx(math.sqrt(6))


def test_zero():
    assert set(summarise(np.zeros(4)).values()) == {0}


@pytest.mark.parametrize("shape", [(60, 200), (200, 60), (30, 30)])
def test_leading_singular_vectors(shape):
    W = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    W += 3 * torch.outer(torch.ones(shape[0]), torch.ones(shape[1])) / math.sqrt(shape[1])
    U, sigma, V = leading_singular(W, 4)
    exact = torch.linalg.svdvals(W.double())[:4]
    assert torch.allclose(sigma, exact, rtol=1e-3)
    assert float(sigma[0]) == pytest.approx(float(exact[0]), rel=1e-5)
    assert torch.allclose(U.T @ W @ V, torch.diag(sigma).float(), atol=0.05)
    for vectors in (U, V):
        assert torch.allclose(vectors.T @ vectors, torch.eye(4), atol=1e-3)
