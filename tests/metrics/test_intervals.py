"""Variances against other ways to compute them, and coverage by simulation."""

from itertools import product
from math import comb

import numpy as np
import pytest

from lowrank.metrics.intervals import (
    count_variance,
    majority_variance,
    mean_variance,
    problem_spacings,
    problem_weights,
    problems_interval,
    traces_interval,
)
from lowrank.metrics.majority import expected_majority, majority_curve, pass_at_k


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_jackknife_of_one_vote_is_the_variance_of_the_mean():
    votes, right, silent = [7, 5, 3], [True, False, True], 5
    correct = np.array([1] * 10 + [0] * 10)
    variance = majority_variance(votes, right, silent, [1], rng())
    assert variance[0] == pytest.approx(mean_variance(correct), rel=1e-9)


def test_leaving_out_alike_traces_together_is_leaving_out_each():
    votes, right, silent = [4, 2, 2, 1], [True, False, False, False], 3
    size = sum(votes) + silent
    whole = expected_majority(votes, right, 5, silent)
    total = 0.0
    for i, vote in enumerate(votes):
        rest = [v - (j == i) for j, v in enumerate(votes)]
        total += vote * (expected_majority(rest, right, 5, silent) - whole) ** 2
    total += silent * (expected_majority(votes, right, 5, silent - 1) - whole) ** 2
    variance = majority_variance(votes, right, silent, [5], rng())
    assert variance[0] == pytest.approx(total * (size - 1) / size)


def test_a_class_without_votes_changes_nothing():
    ks = [1, 3, 8]
    with_it = majority_variance([0, 5, 3], [True, True, False], 0, ks, rng())
    without = majority_variance([5, 3], [True, False], 0, ks, rng())
    assert with_it == pytest.approx(without, rel=0.1)
    assert with_it[:2] == pytest.approx(without[:2])


def test_resampled_counts_agree_with_every_resample():
    size, right = 6, 4
    table = pass_at_k(np.arange(size + 1), size, [3])[0]
    pool = [1] * right + [0] * (size - right)
    values = [table[sum(sample)] for sample in product(pool, repeat=size)]
    variance = count_variance(np.array([right]), size, table)[0]
    assert variance == pytest.approx(np.var(values) * size / (size - 1))


def test_whole_pool_variance_by_resampling():
    variance = majority_variance([6, 5], [True, False], 0, [11], rng(), draws=20_000)
    # An odd pool of two classes: right wins with probability P(Binomial(11, 6/11) > 5).
    chance = rng().binomial(11, 6 / 11, size=200_000) > 5
    assert variance[0] == pytest.approx(chance.var() * 1.1, rel=0.05)


def test_resampling_agrees_with_the_curve_of_every_resampled_pool():
    votes, right, size = [5, 4, 3], [True, False, False], 12
    variance = majority_variance(votes, right, 0, [8], rng(), draws=200_000)[0]
    resampled = rng(1).multinomial(size, np.array(votes) / size, size=4000)
    values = [expected_majority(row, right, 8) for row in resampled]
    assert variance == pytest.approx(np.var(values) * size / (size - 1), rel=0.08)


def test_agreement_has_no_variance_and_one_trace_has_none_to_tell():
    assert majority_variance([8], [True], 0, [1, 4, 8], rng()).tolist() == [0, 0, 0]
    assert np.isnan(majority_variance([1], [True], 0, [1], rng())).all()
    assert np.isnan(mean_variance(np.array([[1]]))).all()
    assert np.isnan(traces_interval(0.5, np.array([0.0, 0.0]))).all()
    assert np.isnan(traces_interval(0.5, np.array([1e-34, 0.0]))).all()  # rounding


def test_a_benchmark_of_zeros_is_bounded_not_certain():
    weights, spacings = problem_weights(30, rng()), problem_spacings(30, rng())
    low, high = problems_interval(np.zeros(30), weights, spacings)
    assert low == 0
    assert (1 - high) ** 30 == pytest.approx(0.025)
    low, high = problems_interval(np.ones(30), weights, spacings)
    assert high == 1
    assert low**30 == pytest.approx(0.025)
    nearly = problems_interval(np.linspace(1 - 1e-6, 1, 30), weights, spacings)
    assert nearly == pytest.approx((low, 1), abs=0.01)
    assert np.isnan(problems_interval(np.zeros(30), weights)).all()
    assert np.isnan(problems_interval(np.full(30, 0.5), weights, spacings)).all()
    assert np.isnan(problems_interval(np.zeros(1), weights[:, :1], spacings[:, :2])).all()


@pytest.mark.parametrize("wrong", [0, 1])
def test_next_to_one_the_bounds_of_0_and_1_are_those_of_clopper_and_pearson(wrong):
    values = np.ones(40)
    values[:wrong] = 0
    spacings = problem_spacings(40, rng(), draws=100_000)
    low, high = problems_interval(values, problem_weights(40, rng()), spacings)

    def chance(p: float, most: int) -> float:
        return sum(comb(40, i) * (1 - p) ** i * p ** (40 - i) for i in range(most + 1))

    assert chance(low, wrong) == pytest.approx(0.025, rel=0.05)
    assert high == 1 or 1 - chance(high, wrong - 1) == pytest.approx(0.025, rel=0.05)


def test_intervals_mirror_when_right_and_wrong_are_swapped():
    values = rng(3).beta(0.4, 0.8, size=30)
    weights = problem_weights(30, rng(), draws=40_000)
    spacings = problem_spacings(30, rng(), draws=40_000)
    for given in (values, values**0.01):
        low, high = problems_interval(given, weights, spacings)
        mirrored = problems_interval(1 - given, weights, spacings)
        assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=2e-3)
        assert low < given.mean() < high


def aime_like(generator: np.random.Generator) -> np.ndarray:
    """Chances of the right answer and of 25 wrong ones on a problem: many easy, many hopeless."""
    right = generator.beta(0.5, 0.7)
    return np.array([right, *(1 - right) * generator.dirichlet(np.full(25, 0.12))])


def pool(chances: np.ndarray, size: int, generator: np.random.Generator) -> list[int]:
    counts = generator.multinomial(size, chances / chances.sum())
    return [int(counts[0]), *sorted(int(c) for c in counts[1:] if c)]


def curve(votes: list[int], ks: list[int]) -> np.ndarray:
    return majority_curve(votes, [True] + [False] * (len(votes) - 1), ks)


@pytest.mark.slow
def test_coverage_over_new_traces_of_the_same_problems():
    generator, ks, size = rng(11), [1, 8, 16, 32, 64], 64
    covered = []
    for _ in range(8):
        problems = [aime_like(generator) for _ in range(30)]
        # The truth: an endless pool, of which 3,000 expected traces are a fair likeness.
        truth = np.mean([curve([round(3000 * c) for c in p], ks[:-1]) for p in problems], axis=0)
        votes = [generator.multinomial(size, p / p.sum(), size=2000) for p in problems]
        won = [(v == v.max(axis=1, keepdims=True)) for v in votes]
        whole = np.mean([np.mean(w[:, 0] / w.sum(axis=1)) for w in won])
        for _ in range(50):
            pools = [pool(p, size, generator) for p in problems]
            values = np.mean([curve(p, ks) for p in pools], axis=0)
            spread = np.array(
                [
                    majority_variance(p, [True] + [False] * (len(p) - 1), 0, ks, generator, 400)
                    for p in pools
                ]
            )
            ends = [traces_interval(v, s) for v, s in zip(values, spread.T, strict=True)]
            covered.append(
                [low <= t <= high for (low, high), t in zip(ends, [*truth, whole], strict=True)]
            )
    share = np.mean(covered, axis=0)
    assert (share[:4] >= 0.93).all(), share
    assert (share <= 0.975).all(), share


@pytest.mark.slow
def test_coverage_over_new_problems_of_the_same_kind():
    generator, ks, size, repeats = rng(12), [1, 8, 32, 64], 64, 1000
    values = np.array(
        [curve(pool(aime_like(generator), size, generator), ks) for _ in range(30 * repeats)]
    )
    truth = values.mean(axis=0)
    weights = problem_weights(30, generator, draws=4000)
    spacings = problem_spacings(30, generator, draws=4000)
    benchmarks = values.reshape(repeats, 30, len(ks))
    for i in range(len(ks)):
        ends = np.array(
            [problems_interval(values, weights, spacings) for values in benchmarks[:, :, i]]
        )
        share = np.mean((ends[:, 0] <= truth[i]) & (truth[i] <= ends[:, 1]))
        assert 0.93 <= share <= 0.97, (ks[i], share)


@pytest.mark.slow
@pytest.mark.parametrize("hopeless", [0.02, 0.05, 0.1, 0.2])
def test_coverage_next_to_a_ceiling(hopeless):
    """Nearly all problems as good as solved, a few not at all: wide rather than wrong."""
    generator, repeats = rng(13), 1500
    weights = problem_weights(30, generator, draws=4000)
    spacings = problem_spacings(30, generator, draws=4000)
    solved = 1 - 1e-3 * generator.random((repeats, 30))
    rare = generator.random((repeats, 30)) < hopeless
    values = np.where(rare, 0.5 * generator.random((repeats, 30)), solved)
    truth = 1 - 5e-4 * (1 - hopeless) - 0.75 * hopeless
    ends = np.array([problems_interval(row, weights, spacings) for row in values])
    assert np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) >= 0.93
