"""Laws of the estimators: brute force, symmetries, other people's formulas."""

import math
import time
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowrank.errors import InputError
from lowrank.metrics import majority
from lowrank.metrics.majority import (
    drawn_majority,
    expected_majority,
    g_pass_at_k,
    majority_curve,
    pass_at_k,
)


def brute_force(pool, right, k):
    """The average over every k-subset; pool holds class numbers, -1 for no answer."""
    total = Fraction(0)
    for subset in combinations(pool, k):
        counts = {c: subset.count(c) for c in subset if c >= 0}
        tied = [c for c in counts if counts[c] == max(counts.values())]
        if tied:
            total += Fraction(sum(right[c] for c in tied), len(tied))
    return total / math.comb(len(pool), k)


@st.composite
def pools(draw, largest=10):
    pool = draw(st.lists(st.integers(-1, 4), min_size=1, max_size=largest))
    right = draw(st.lists(st.booleans(), min_size=5, max_size=5))
    return pool, right


def counted(pool):
    return [pool.count(c) for c in range(5)], pool.count(-1)


@given(pools())
@settings(max_examples=150)
def test_exact_majority_is_the_average_over_all_subsets(drawn):
    pool, right = drawn
    votes, silent = counted(pool)
    ks = range(1, len(pool) + 1)
    exact = majority_curve(votes, right, ks, silent)
    np.testing.assert_allclose(exact, [float(brute_force(pool, right, k)) for k in ks], atol=1e-12)


@given(pools(), st.randoms())
def test_neither_order_nor_names_of_answers_matter(drawn, random):
    pool, right = drawn
    votes, silent = counted(pool)
    order = random.sample(range(5), 5)
    k = random.randint(1, len(pool))
    again = expected_majority([votes[i] for i in order], [right[i] for i in order], k, silent)
    assert again == expected_majority(votes, right, k, silent)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 8))
def test_two_votes_are_worth_one_when_all_answer(votes, which):
    right = [i == which for i in range(len(votes))]
    ks = [k for k in (1, 2) if k <= sum(votes)]
    mean = sum(v for v, r in zip(votes, right, strict=True) if r) / sum(votes)
    assert majority_curve(votes, right, ks) == pytest.approx([mean] * len(ks), abs=1e-12)


def test_no_answer_never_wins_a_vote():
    assert expected_majority([1], [True], 4, silent=3) == 1.0
    assert expected_majority([1], [True], 1, silent=3) == pytest.approx(0.25)
    assert expected_majority([], [], 2, silent=3) == 0.0


def test_large_pools_neither_overflow_nor_drift():
    votes, right = [500, 400, 104, *[1] * 20], [True] + [False] * 22
    ks = [1, 2, 3, 64, 1024]
    values = majority_curve(votes, right, ks)
    assert values[:2] == pytest.approx([500 / 1024] * 2, abs=1e-12)
    assert values[-1] == 1.0
    assert np.isfinite(values).all()
    assert (np.diff(values[1:]) > 0).all()
    # Two classes: the hypergeometric tail, in exact integers.
    for k in (31, 512, 1001):
        wins = sum(
            (2 if 2 * j > k else 1) * math.comb(600, j) * math.comb(424, k - j)
            for j in range((k + 1) // 2, k + 1)
        )
        exact = Fraction(wins, 2 * math.comb(1024, k))
        value = expected_majority([600, 424], [True, False], k)
        assert value == pytest.approx(float(exact), rel=1e-10)


def test_how_the_work_is_split_changes_nothing(monkeypatch):
    pools = [[9, 7, 7, 5, 3, 1, 1, 1], [5] * 6, [20, 2, 1], [3, 12, 12]]
    curves = []
    for numbers in (1, 40, 10**6):
        monkeypatch.setattr(majority, "CACHED", numbers)
        majority._curve.cache_clear()
        curves.append(
            [
                majority_curve(v, [True, *[False] * (len(v) - 1)], range(1, sum(v) + 3), 2)
                for v in pools
            ]
        )
    for one, two, three in zip(*curves, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)
        np.testing.assert_allclose(one, three, rtol=1e-12)


@pytest.mark.parametrize("p", [1e-3, 0.37, 0.999])
def test_binomial_probabilities_are_exact(p):
    exact = Fraction(p)
    for trials in (1, 7, 300):
        made = majority.binomial(trials, p)
        for count in {0, 1, trials // 3, trials}:
            true = math.comb(trials, count) * exact**count * (1 - exact) ** (trials - count)
            assert made[count] == pytest.approx(float(true), rel=1e-12, abs=1e-300)


def test_all_k_of_a_whole_experiment_take_seconds():
    generator = np.random.default_rng(0)
    start = time.process_time()
    for _ in range(9 * 30):
        right = int(generator.integers(0, 64))
        votes = np.bincount(generator.integers(0, 30, 64 - right))
        majority_curve([right, *votes], [True] + [False] * len(votes), range(1, 65))
    assert time.process_time() - start < 2


def test_k_outside_the_pool_is_refused():
    for k in (0, 5):
        with pytest.raises(InputError, match=r"1\.\.4"):
            expected_majority([4], [True], k)


@given(st.integers(1, 30), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(total, data):
    right = data.draw(st.integers(0, total))
    k = data.draw(st.integers(1, total))
    exact = 1 - Fraction(math.comb(total - right, k), math.comb(total, k))
    assert pass_at_k(right, total, [k])[0] == pytest.approx(float(exact), abs=1e-12)
    at_least = g_pass_at_k(right, total, k)
    assert at_least[0] == 1
    assert at_least[1] == pytest.approx(float(exact), abs=1e-12)
    assert at_least[1:].sum() == pytest.approx(k * right / total, abs=1e-9)  # the mean


def test_a_short_pool_is_an_error_not_a_zero():
    with pytest.raises(InputError, match="there are 4"):
        pass_at_k([1, 1], [8, 4], [8])


def test_the_protocol_estimates_the_exact_value_and_is_seeded():
    classes = np.array([0] * 20 + [1] * 25 + [2] * 10 + [-1] * 9)
    right = np.array([True, False, False])
    exact = expected_majority([20, 25, 10], right, 8, silent=9)
    draws = drawn_majority(classes, right, 8, 20_000, np.random.default_rng(1))
    assert draws.mean() == pytest.approx(exact, abs=4 * draws.std() / math.sqrt(len(draws)))
    again = drawn_majority(classes, right, 8, 20_000, np.random.default_rng(1))
    assert (draws == again).all()
    whole = drawn_majority(classes, right, 64, 5, np.random.default_rng(1))
    assert (whole == 0).all()


def test_a_draw_in_which_all_are_silent_is_wrong():
    """One voice among seven that say nothing: right where it is drawn, wrong everywhere else."""
    classes = np.array([-1] * 7 + [0])
    drawn = majority.drawn_majority(classes, np.array([True]), 2, 400, np.random.default_rng(0))
    assert set(drawn) == {0.0, 1.0}
    assert drawn.mean() == pytest.approx(2 / 8, abs=0.1)
