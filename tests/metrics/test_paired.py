"""One paired difference: against published tables and simulation, and laws that always hold."""

from itertools import combinations

import numpy as np
import pytest

from lowrank.metrics.intervals import problem_spacings
from lowrank.metrics.paired import (
    ALPHA,
    bounds,
    detectable,
    detectable_difference,
    exact_draws,
    exact_interval,
    holm,
    holm_levels,
    interval,
    least_margin,
    least_problems,
    method,
    p_difference,
    p_equivalence,
    share_interval,
    student_quantile,
    student_tail,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def spacings(problems: int, draws: int = 4000) -> np.ndarray:
    return problem_spacings(problems, rng(1), draws)


def drawn(differences: np.ndarray, draws: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    return exact_draws(differences, spacings(len(differences), draws))


def kinds(problems: int = 30) -> dict[str, np.ndarray]:
    """Differences of many kinds."""
    some = rng(2).normal(0, 0.1, problems)
    few = np.where(np.arange(problems) < 3, -0.5, 0.0)
    return {
        "symmetric": some,
        "lower": some - 0.06,
        "tiny": some / 1000,
        "skewed": -np.minimum(rng(3).lognormal(-3, 1, problems), 1),
        "ties": np.resize([0.0, 0.0, 1 / 64, -1 / 64], problems),
        "few differ": few,
        "few, with noise": few + some / 10,
        "nothing differs": np.zeros(problems),
        "all alike": np.full(problems, -0.05),
        "all lost": np.full(problems, -1.0),
    }


KINDS = [(name, problems) for name in kinds() for problems in (2, 5, 30)]


@pytest.mark.parametrize(
    ("tail", "freedom", "t"),
    # From the printed tables of Student's t.
    [
        (0.025, 1, 12.706),
        (0.025, 2, 4.303),
        (0.05, 9, 1.833),
        (0.025, 29, 2.045),
        (0.005, 60, 2.660),
    ],
)
def test_students_t_is_that_of_the_tables(tail, freedom, t):
    assert student_quantile(tail, freedom) == pytest.approx(t, abs=6e-4)
    assert student_tail(t, freedom) == pytest.approx(tail, rel=2e-3)
    assert student_tail(-t, freedom) == pytest.approx(1 - student_tail(t, freedom))


def test_without_skewness_the_interval_is_students():
    differences = np.array([-0.2, -0.1, -0.05, 0.05, 0.1, 0.2] * 4) + 0.03
    low, high = interval(differences, drawn(differences))
    error = differences.std(ddof=1) / 24**0.5
    assert (low, high) == pytest.approx((0.03 - 2.0687 * error, 0.03 + 2.0687 * error), abs=1e-5)


def test_a_long_tail_moves_its_side_of_the_interval():
    differences = kinds()["few, with noise"]
    low, high = interval(differences, drawn(differences))
    reach = student_quantile(0.025, 29) * differences.std(ddof=1) / 30**0.5
    assert low < differences.mean() - 1.1 * reach
    assert high == pytest.approx(differences.mean() + reach)


@pytest.mark.parametrize(("name", "problems"), KINDS)
def test_interval_and_p_never_disagree(name, problems):
    differences = kinds(problems)[name]
    draws = drawn(differences)
    p = p_difference(differences, draws)
    assert 0 <= p <= 1
    for level in (0.05, 0.05 / 7, 0.3, *((1.001 * p, 0.999 * p) if 0 < p < 0.5 else ())):
        low, high = interval(differences, draws, level)
        assert -1 <= low <= high <= 1
        assert (not low <= 0 <= high) == (p <= level), (p, level, low, high)


@pytest.mark.parametrize(("name", "problems"), KINDS)
def test_equivalence_is_claimed_where_the_bounds_lie_inside_and_nowhere_else(name, problems):
    differences = kinds(problems)[name]
    draws = drawn(differences)
    for level in (0.05, 0.05 / 7):
        low, high = bounds(differences, draws, level)
        for margin in (0.05, 0.1, 0.2, 0.5, 0.9):
            claimed = p_equivalence(differences, draws, margin) <= level
            assert claimed == (-margin < low and high < margin), (margin, low, high)
        inner = interval(differences, draws, level)
        assert low <= inner[0] <= inner[1] <= high


@pytest.mark.parametrize("name", kinds())
def test_neither_the_order_nor_the_side_matters(name):
    differences = kinds()[name]
    draws = drawn(differences)
    shuffled = rng(4).permutation(differences)
    again = drawn(shuffled)
    assert interval(shuffled, again) == pytest.approx(interval(differences, draws))
    assert p_difference(shuffled, again) == pytest.approx(p_difference(differences, draws))
    low, high = interval(-differences, drawn(-differences))
    assert (-high, -low) == pytest.approx(interval(differences, draws))
    for margin in (0.05, 0.2):
        mirrored = p_equivalence(-differences, drawn(-differences), margin)
        assert mirrored == pytest.approx(p_equivalence(differences, draws, margin))


@pytest.mark.parametrize("problems", [1, 5, 30, 120])
def test_where_nothing_differs_the_bounds_are_those_of_a_loss_that_was_not_met(problems):
    """With n problems and none lost, Clopper and Pearson's: (1 - loss)^n is the tail."""
    nothing = np.zeros(problems)
    draws = drawn(nothing, 100_000)
    assert method(nothing) == "exact"
    assert p_difference(nothing, draws) == 1
    low, high = interval(nothing, draws)
    assert -low == high == pytest.approx(1 - 0.025 ** (1 / problems), rel=0.02)
    unmet = min(1.0, 2 * 0.95**problems)
    assert p_equivalence(nothing, draws, 0.05) == pytest.approx(unmet, rel=0.1)


def test_differences_that_nobody_would_call_one_are_none():
    """Votes of 32 differ in the ninth decimal where nearly all completions are right."""
    assert method(rng(1).normal(0, 1e-9, 30)) == "exact"
    assert method(rng(1).normal(0, 1e-9, 30) - 0.1) == "exact"
    assert method(np.where(np.arange(30) < 6, 1 / 64, 0.0)) == "t"
    assert method(np.where(np.arange(30) < 5, 1 / 64, 0.0)) == "exact"


def test_five_identical_pairs_show_nothing():
    draws = drawn(np.zeros(5))
    assert p_equivalence(np.zeros(5), draws, 0.05) > 0.5
    low, high = interval(np.zeros(5), draws)
    assert low < -0.4
    assert high > 0.4


def test_exact_bounds_of_whole_losses_are_those_of_clopper_and_pearson():
    """Problems are lost wholly or not at all: the mean is a share, and its bound binomial."""
    from math import comb

    differences = np.where(np.arange(40) < 3, -1.0, 0.0)
    low, _ = exact_interval(drawn(differences, 100_000), 0.05)
    most = sum(comb(40, i) * (-low) ** i * (1 + low) ** (40 - i) for i in range(4))
    assert most == pytest.approx(0.05, rel=0.05)


def test_too_few_problems_to_show_a_margin_are_too_few_whatever_is_seen():
    """least_margin is what all-equal problems reach; one problem less than least_problems fails."""
    assert least_problems(0.05) == 59
    assert least_margin(59) < 0.05 < least_margin(58)
    assert least_margin(30, ALPHA / 7) == pytest.approx(1 - (0.05 / 7) ** (1 / 30))
    small = rng(5).normal(0, 1e-4, 58)
    assert p_equivalence(small, drawn(small, 40_000), 0.05) > ALPHA
    small = rng(5).normal(0, 1e-4, 62)
    assert p_equivalence(small, drawn(small, 40_000), 0.05) <= ALPHA


TRUTHS = {
    "half lost on one in ten": (0.1, 0.5, 0.0),
    "all lost on one in twenty": (0.05, 1.0, 0.0),
    "all lost on one in twenty, others sampled": (0.05, 1.0, 0.05),
    "symmetric": (0.0, 0.0, 0.1),
}


@pytest.mark.parametrize("problems", [10, 30, 120])
@pytest.mark.parametrize("name", TRUTHS)
def test_at_the_margin_equivalence_is_hardly_ever_claimed(name, problems):
    share, loss, sd = TRUTHS[name]
    generator, shape = rng(6), (400, problems)
    differences = np.where(generator.random(shape) < share, -loss, 0.0) + share * loss - 0.05
    differences = np.clip(differences + generator.normal(0, sd, shape), -1, 1)
    points = spacings(problems, 1000)
    claimed = [p_equivalence(row, exact_draws(row, points), 0.05) <= ALPHA for row in differences]
    assert np.mean(claimed) <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5


def test_intervals_cover_and_equal_models_differ_as_rarely_as_promised():
    generator, points = rng(7), spacings(30, 1000)
    chances = generator.beta(0.5, 0.7, (1500, 30))
    one, two = (generator.binomial(64, chances) / 64 for _ in range(2))
    p = [p_difference(row, exact_draws(row, points)) for row in one - two]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_what_is_called_detectable_is_found_in_eight_of_ten():
    generator, points, level = rng(8), spacings(30, 1000), ALPHA / 7
    size = np.mean([detectable(row, level) for row in generator.normal(0, 0.1, (200, 30))])
    rows = generator.normal(-size, 0.1, (800, 30))
    found = [p_difference(row, exact_draws(row, points)) <= level for row in rows]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)
    # A stricter level and fewer problems ask for more; so does a tail against the difference.
    plain = detectable_difference(0.1, 30)
    assert plain < min(detectable_difference(0.1, 30, 0.01), detectable_difference(0.1, 20))
    assert plain == detectable_difference(0.1, 30, skew=-0.3)
    assert plain < detectable_difference(0.1, 30, skew=0.3)
    skewed = kinds()["skewed"]
    assert detectable(-skewed) == pytest.approx(detectable(skewed))
    assert detectable(skewed + 0.3) > detectable(skewed)


@pytest.mark.parametrize("name", ["nothing differs", "few differ", "all alike"])
def test_no_detectable_difference_is_named_where_the_spread_is_not_known(name):
    assert np.isnan(detectable(kinds()[name]))


# --- the share of the gain --------------------------------------------------------------------


def test_the_share_is_1_within_the_interval_where_the_difference_may_be_0():
    """Fieller's: of no difference, and of no gain, it says what their own intervals say."""
    for seed in range(40):
        whole = rng(seed).normal(0.3, 0.1, 30)
        part = whole + rng(seed + 100).normal(-0.02, 0.05, 30)
        low, high = share_interval(part, whole)
        ends = interval(part - whole, drawn(part - whole))
        assert (low <= 1 <= high) == (ends[0] <= 0 <= ends[1])
        assert low < part.mean() / whole.mean() < high


def test_the_share_agrees_with_fiellers_formula_where_nothing_is_skewed():
    deviations = np.array([-0.2, -0.1, -0.05, 0.05, 0.1, 0.2] * 5)
    whole, part = 0.4 + deviations, 0.3 + 0.5 * deviations[::-1]
    t, n = student_quantile(0.025, 29), 30
    (aa, ab), (_, bb) = np.cov(part, whole) * t**2 / n
    x, y = part.mean(), whole.mean()
    roots = np.roots([y**2 - bb, -2 * (x * y - ab), x**2 - aa])
    assert share_interval(part, whole) == pytest.approx(sorted(roots), abs=2e-3)


def test_of_a_gain_that_may_be_none_no_share_is_told():
    noise = rng(10).normal(0.01, 0.1, 30)
    assert np.isnan(share_interval(noise / 2 + rng(11).normal(0, 0.1, 30), noise)).all()
    gain = rng(12).normal(0.3, 0.1, 30)
    assert np.isnan(share_interval(gain, gain)).all()  # no problem differs


# --- several at once --------------------------------------------------------------------------


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])


def test_holm_is_bonferroni_over_every_subset():
    """The closed test: shown if every set of hypotheses with it is refused by Bonferroni."""
    for seed in range(20):
        p = rng(seed).uniform(0, 0.06, 5)
        for i in range(5):
            sets = [s for size in range(1, 6) for s in combinations(range(5), size) if i in s]
            closed = max(len(s) * min(p[j] for j in s) for s in sets)
            assert holm(p)[i] == pytest.approx(min(1.0, closed))


def test_holms_levels_decide_as_his_adjusted_p_do():
    for seed in range(50):
        p = rng(seed).choice([0.001, 0.005, 0.01, 0.012, 0.02, 0.04, 0.3], 7)
        levels = holm_levels(p)
        assert ((p <= levels) == (holm(p) <= ALPHA)).all()
        assert len({(each, level) for each, level in zip(p, levels, strict=True)}) == len(set(p))
        order = rng(seed).permutation(7)
        assert (holm_levels(p[order]) == levels[order]).all()


# --- several benchmarks, pooled -----------------------------------------------------------------

WIDE = (np.full(999, -1.0), np.full(999, 1.0))  # draws whose bounds exclude nothing


def test_only_the_spread_within_benchmarks_counts_in_a_pool():
    random = np.random.default_rng(3)
    strata = np.repeat([0, 1], [30, 33])
    differences = random.normal(0, 0.1, 63)
    apart = differences + np.array([-0.2, 0.2])[strata]
    ends, shifted = (np.array(interval(d, WIDE, strata=strata)) for d in (differences, apart))
    assert shifted - ends == pytest.approx(apart.mean() - differences.mean())
    assert np.ptp(interval(apart, WIDE)) > 1.5 * np.ptp(shifted)
    low, high = shifted
    assert p_difference(apart - low, WIDE, strata) == pytest.approx(0.05, abs=1e-6)
    assert p_difference(apart - high, WIDE, strata) == pytest.approx(0.05, abs=1e-6)


def test_a_stratified_error_is_cochrans():
    random = np.random.default_rng(4)
    sizes = [12, 30, 5]
    parts = [random.choice([-1.0, 1.0], n) * random.permutation(n) / n for n in sizes]
    strata = np.repeat([0, 1, 2], sizes)
    both = [np.concatenate([sign * part for part in parts]) for sign in (1, -1)]
    (low, high), (mirrored_low, mirrored_high) = (interval(d, WIDE, strata=strata) for d in both)
    assert (mirrored_low, mirrored_high) == pytest.approx((-high, -low))
    n = sum(sizes)
    error = np.sqrt(sum(len(p) * p.var(ddof=1) for p in parts)) / n
    t = student_quantile(0.025, n - 3)
    mean = both[0].mean()
    # Hall's correction for skewness moves one end outwards and leaves the other at Student's.
    assert min(abs(low - (mean - t * error)), abs(high - (mean + t * error))) < 1e-9


def test_one_benchmark_as_a_pool_is_itself():
    random = np.random.default_rng(5)
    differences = random.normal(0.05, 0.2, 30).clip(-1, 1)
    alone = np.zeros(30, dtype=int)
    assert interval(differences, WIDE, strata=alone) == pytest.approx(interval(differences, WIDE))
    assert detectable(differences, strata=alone) == pytest.approx(detectable(differences))


def test_benchmarks_that_differ_as_a_whole_only_are_judged_exactly():
    """Within each of them nothing is spread, so nothing is known of how differences spread."""
    strata = np.repeat([0, 1], 10)
    assert method(np.where(strata, 0.1, -0.1), strata) == "exact"
