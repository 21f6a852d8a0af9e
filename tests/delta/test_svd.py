"""One matrix: singular values and directions against float64 LAPACK, in every hard case."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowrank.delta.svd import directions, factor, gram


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows: torch.Tensor) -> bool:
    eye = torch.eye(len(rows), dtype=torch.float64)
    return torch.allclose(rows.double() @ rows.double().T, eye, atol=1e-6)


def excess(D: torch.Tensor, rows: torch.Tensor) -> float:
    """How much D projected on rows misses D, over the least that so many rows can, less 1."""
    tall = D.double() if D.shape[0] >= D.shape[1] else D.double().T
    best = float((torch.linalg.svdvals(tall)[len(rows) :] ** 2).sum() ** 0.5)
    rows = rows.double()
    return float((tall - tall @ rows.T @ rows).norm()) / best - 1


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=50)
def test_singular_values_are_those_of_gesdd(rows, columns, seed):
    D = random(rows, columns, seed=seed)
    exact = torch.linalg.svdvals(D.double())
    kept = factor(D)
    assert torch.allclose(kept["sigma"], exact, rtol=1e-9, atol=1e-7 * float(exact[0]))
    every = directions(kept, 0, min(rows, columns))
    assert orthonormal(every)
    tall = D if rows >= columns else D.T
    assert torch.allclose((tall @ every.T).norm(dim=0).double(), exact, atol=1e-5 * float(exact[0]))


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (64, 64), (5, 1), (1, 5)])
def test_gram_is_upper_triangle_of_the_product(shape):
    D = torch.randn(shape)
    wide = D.double() if shape[0] < shape[1] else D.double().T
    assert torch.allclose(gram(D, chunk=7).triu(), (wide @ wide.T).triu())


def spectrum(*sigma: torch.Tensor) -> torch.Tensor:
    """A matrix [300, 200] with these singular values."""
    U, V = (torch.linalg.qr(random(side, 200, seed=side)).Q for side in (300, 200))
    return (U * torch.cat(sigma)) @ V.T


HARD = {
    "noise": random(300, 200) * 4.5e-5,
    "few directions in noise": random(300, 200) * 4.5e-5 + random(300, 3) @ random(3, 200) * 1e-3,
    "steep": spectrum(torch.logspace(0, -3, 200)),
    "two clusters": spectrum(torch.ones(100), torch.full((100,), 0.5)),
    "a cluster over nothing": spectrum(torch.ones(190), torch.zeros(10)),
    "the identity": torch.eye(200),
    "the same block ten times": torch.block_diag(*[random(30, 20)] * 10),
    "wide": random(200, 300),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("rank", [1, 7, 64])
def test_the_first_directions_are_the_best(name, rank):
    D = HARD[name]
    rows = directions(factor(D), 0, rank)
    assert orthonormal(rows)
    assert abs(excess(D, rows)) < 1e-10


@pytest.mark.parametrize("name", HARD)
def test_the_last_directions_hold_the_least(name):
    D = HARD[name]
    kept = factor(D)
    rows = directions(kept, 170, 200)
    assert orthonormal(rows)
    tall = D if D.shape[0] >= D.shape[1] else D.T
    assert torch.allclose(
        (tall @ rows.T).norm().double() ** 2,
        (kept["sigma"][170:] ** 2).sum(),
        rtol=1e-5,
        atol=1e-12 * float(kept["sigma"][0]) ** 2,
    )


@pytest.mark.parametrize("rank", [0, 1, 8])
@pytest.mark.parametrize("scale", [1.0, 1e-18])
def test_exactly_low_rank(rank, scale):
    D = random(300, rank) @ random(rank, 200, seed=1) * scale
    kept = factor(D)
    assert (kept["sigma"][rank:] <= 2e-6 * kept["sigma"][0]).all()
    every = directions(kept, 0, 200)
    assert orthonormal(every)
    first = every[:rank]
    assert torch.allclose(D @ first.T @ first, D, atol=1e-5 * float(D.abs().max()))


def test_what_a_gpu_keeps_serves_as_well():
    """There the whole basis is kept: its rows are the directions."""
    D = random(60, 40)
    values, vectors = torch.linalg.eigh(gram(D), UPLO="U")
    kept = {"sigma": values.flip(0).sqrt(), "basis": vectors.T.flip(0).float()}
    ours, theirs = directions(factor(D), 3, 9), directions(kept, 3, 9)
    assert torch.allclose((ours * theirs).sum(1).abs(), torch.ones(6), atol=1e-5)


@pytest.mark.gpu
def test_a_gpu_finds_the_same():
    D = HARD["few directions in noise"]
    here, there = factor(D), factor(D.cuda())
    assert torch.allclose(here["sigma"], there["sigma"], rtol=1e-9)
    assert abs(excess(D, directions(there, 0, 7))) < 1e-10
