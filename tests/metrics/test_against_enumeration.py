"""Estimates and comparisons of small pools, held against every subset, every resample and scipy.

What they should be comes from tests/oracle.py, which uses nothing of lowrank.metrics.
"""

import numpy as np
import oracle
import pandas as pd
import pytest
from scipy import stats

from lowrank.metrics.comparisons import compare
from lowrank.metrics.divergence_contrasts import sign_flip
from lowrank.metrics.estimates import model_metrics

KS = [3, 5]
EXACT = [
    (metric, k) for metric in oracle.MEASURES for k in KS if metric not in ("mean", "no_answer")
]
EXACT += [("mean", 1), ("no_answer", 1)]


def graded(pools: list[str]) -> pd.DataFrame:
    """Grades from texts: a trace each, r right, other letters wrong answers, a dash none."""
    rows = []
    for i, pool in enumerate(pools):
        for sample, letter in enumerate(pool):
            answer = None if letter == "-" else letter
            row = {"problem_id": f"p{i:02d}", "sample": sample, "answer": answer}
            rows.append(row | {"correct": letter == "r", "completion_tokens": 100 * i + sample})
    return pd.DataFrame(rows)


POOLS = ["rrrrrrrr", "--------", "rrraab-b", "raaabbc-", "rraabbcc", "r-------", "rrrrraaa",
         "aaaabbbb", "rrrrrr-a", "abcde-rr"]  # fmt: skip


@pytest.fixture(scope="module")
def metrics() -> pd.DataFrame:
    return model_metrics(graded(POOLS), "m", "b", KS, repeats=200)


@pytest.mark.parametrize(("metric", "k"), [*EXACT, ("maj", 8)])
def test_every_metric_is_that_of_all_subsets(metrics, metric, k):
    rows = metrics[metrics["estimator"] == "exact"].set_index(["metric", "k"])
    pools = oracle.pools_of(graded(POOLS))
    values = oracle.values(pools, metric, k)
    row = rows.loc[(metric, k)]
    assert row["value"] == pytest.approx(values.mean(), abs=1e-12)
    around = oracle.reach(oracle.variances(pools, metric, k))
    ends = max(0, values.mean() - around), min(1, values.mean() + around)
    # Maj@k of more than half the pool is resampled by drawing.
    slack = 0.1 * around if metric == "maj" and k > 4 else 1e-9
    assert (row["traces_low"], row["traces_high"]) == pytest.approx(ends, abs=slack)
    ends = oracle.problems_interval(values)
    slack = 0.15 * stats.sem(values) + 1e-3
    assert (row["problems_low"], row["problems_high"]) == pytest.approx(ends, abs=slack)


def test_a_mean_length_is_no_share():
    """Its intervals go as far as the lengths do."""
    grades = graded(POOLS)
    rows = model_metrics(grades, "m", "b", KS, repeats=2).set_index(["metric", "estimator"])
    row = rows.loc[[("completion_tokens", "exact")]].iloc[0]
    each = grades.groupby("problem_id")["completion_tokens"]
    around = oracle.reach(each.sem() ** 2)
    ends = row["value"] - around, row["value"] + around
    assert (row["traces_low"], row["traces_high"]) == pytest.approx(ends)
    found = stats.bootstrap(
        (each.mean().to_numpy(),), np.mean, method="BCa", rng=np.random.default_rng(0)
    )
    wanted = tuple(found.confidence_interval)
    shown = row["problems_low"], row["problems_high"]
    assert shown == pytest.approx(wanted, abs=0.15 * stats.sem(each.mean()))
    assert row["problems_method"] == "bca"


def test_the_protocol_draws_from_each_pool(metrics):
    """Its mean and its spread are those of a vote of a random subset; of silence it is nothing."""
    rows = metrics[metrics["estimator"] == "protocol"].set_index("k")
    for k in KS:
        pools = oracle.pools_of(graded(POOLS)).values()
        votes = [[oracle.vote(each) for each in oracle.combinations(pool, k)] for pool in pools]
        sd = np.sqrt(sum(np.var(each) for each in votes)) / len(POOLS)
        wanted = np.mean([np.mean(each) for each in votes])
        assert rows.loc[k, "value"] == pytest.approx(wanted, abs=5 * sd / np.sqrt(200))
        assert rows.loc[k, "repeats_sd"] == pytest.approx(sd, rel=0.3)
    silent = model_metrics(graded(["--------"] * 3), "m", "b", KS, repeats=3)
    drawn = silent[silent["estimator"] == "protocol"]
    assert (drawn[["value", "repeats_sd", "repeats_low", "repeats_high"]] == 0).all(axis=None)


def test_the_spread_of_redraws_is_that_of_a_sample():
    """Two repeats: their distance over the square root of 2; and other seeds draw otherwise."""
    tables = [model_metrics(graded(POOLS), "m", "b", KS, 2, seed) for seed in (0, 0, 1)]
    drawn = [table[table["estimator"] == "protocol"].set_index("k") for table in tables]
    for row in drawn[0].itertuples():
        apart = row.repeats_high - row.repeats_low
        assert row.repeats_sd == pytest.approx(apart / np.sqrt(2))
        assert row.value == pytest.approx((row.repeats_high + row.repeats_low) / 2)
    pd.testing.assert_frame_equal(drawn[0], drawn[1])
    assert (drawn[0]["value"] != drawn[2]["value"]).any()


# --- comparisons ------------------------------------------------------------------------------


def family(problems: int = 40) -> dict[str, pd.DataFrame]:
    """A base, a derivative far above, variants between, above and the same but for a little."""
    generator = np.random.default_rng(9)
    base = generator.binomial(3, 0.5, problems)
    new = base + generator.binomial(8 - base, 0.6)
    rights = {
        "low": base + generator.binomial(new - base, 0.3),
        "high": new + generator.binomial(8 - new, 0.9),
        "same": np.where(np.arange(problems) % 9 == 0, np.maximum(new - 1, 0), new),
        "new": new,
        "base": base,
    }
    made = {}
    for name, right in rights.items():
        wrong = ["".join(generator.choice(list("aab-"), 8 - n)) for n in right]
        made[name] = graded(["r" * n + rest for n, rest in zip(right, wrong, strict=True)])
    return made


MEASURES = [("mean", 1), ("pass", 3), ("maj", 3), ("maj", 5), ("maj", 8), ("pass", 5)]
BENCHMARKS = {f"p{i:02d}": "odd" if i % 2 else "even" for i in range(40)}
MARGIN = 0.2


@pytest.fixture(scope="module", params=["one benchmark", "a pool of two"])
def both(request) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The comparisons, and what they should be."""
    grades, origin = family(), BENCHMARKS if request.param == "a pool of two" else None
    made = compare(grades, ["base", "new"], KS, MARGIN, benchmarks=origin)
    made = made.set_index(["model", "reference", "metric", "k"])
    return made, oracle.comparisons(grades, "base", "new", MEASURES, MARGIN, origin).loc[made.index]


@pytest.mark.parametrize(
    "column",
    ["value", "reference_value", "difference", "paired_sd", "n_differ", "n_problems", "n_samples",
     "family", "gain_kept", "gain_kept_low", "gain_kept_high"],
)  # fmt: skip
def test_comparisons_are_those_of_the_grades(both, column):
    made, wanted = both
    numbers = made[column].to_numpy(dtype=float)
    assert numbers == pytest.approx(wanted[column].to_numpy(float), abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("end", ["low", "high"])
def test_intervals_of_differences(both, end):
    made, wanted = both
    width = wanted["traces_high"] - wanted["traces_low"]
    drawn = made.index.get_level_values("metric") == "maj"
    for interval, slack in (
        ("traces", np.where(drawn, 0.05 * width, 1e-9)),
        ("problems", 0.006),
        ("within", 0.012),
    ):
        column = f"{interval}_{end}"
        assert (abs(made[column] - wanted[column]) <= slack).all(), column


@pytest.mark.parametrize("p", ["p", "p_holm", "p_equivalence", "p_equivalence_holm"])
def test_p_values_of_differences(both, p):
    """Those of Student and Hall to the last digit, simulated ones within their error."""
    made, wanted = both
    slack = 0.08 * np.sqrt(wanted[p]) + 2e-4
    if p in ("p", "p_holm"):
        slack = np.where(wanted["method"] == "t", 2e-4, slack)
    assert (abs(made[p] - wanted[p]) <= slack).all()
    assert (made["method"] == wanted["method"]).all()


def test_what_would_be_found_in_eight_of_ten(both):
    made, wanted = both
    found = made["detectable"].to_numpy(), wanted["detectable"].to_numpy()
    assert found[0] == pytest.approx(found[1], rel=0.01, nan_ok=True)


def test_answers_follow_from_the_tests(both):
    made, wanted = both
    for p in ("p_holm", "p_equivalence_holm"):  # nothing here is a matter of luck
        assert (abs(wanted[p] - 0.05) > 0.018).all()
    assert (made["answer"].fillna("") == wanted["answer"]).all()
    means = made.xs(("new", "mean", 1), level=("reference", "metric", "k"))["answer"]
    assert means.to_dict() == {"low": "lost", "high": "better", "same": "kept"}


def test_what_is_kept_although_it_is_worse():
    """A loss on every problem, far smaller than the margin: shown to differ, and to be within."""
    problems, generator = 60, np.random.default_rng(1)
    base, new = np.zeros(problems, int), generator.integers(5, 9, problems)
    less = new - (np.arange(problems) % 3 > 0)
    grades = {
        name: graded(["r" * n + "a" * (8 - n) for n in right])
        for name, right in (("v", less), ("new", new), ("base", base))
    }
    row = compare(grades, ["base", "new"], KS, MARGIN).query("metric == 'mean' and model == 'v'")
    row = row[row["reference"] == "new"].iloc[0]
    assert row["p_holm"] < 0.05
    assert row["p_equivalence_holm"] < 0.05
    assert row["answer"] == "kept"
    assert "yet equivalent within 20 points" in row["verdict"]


def test_a_gain_that_is_not_shown_is_not_asked_about():
    """Five problems, all gained on, far more than the margin: no pattern of five signs is rare."""
    grades = {
        name: graded(["r" * n + "a" * (8 - n)] * 5)
        for name, n in (("v", 5), ("new", 5), ("base", 2))
    }
    made = compare(grades, ["base", "new"], KS, MARGIN).set_index(
        ["model", "reference", "metric", "k"]
    )
    gain = made.loc[("new", "base", "mean", 1)]
    assert gain["difference"] > MARGIN
    assert gain["p_holm"] > 0.05
    row = made.loc[("v", "new", "mean", 1)]
    assert row["answer"] == "cannot be answered here"
    assert np.isnan(row["gain_kept"])


def test_what_is_drawn_depends_on_the_seed():
    grades = {name: table[table["problem_id"] < "p08"] for name, table in family().items()}
    one, again, other = (compare(grades, ["base", "new"], KS, MARGIN, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    exact = one["method"] == "exact"
    assert exact.any()
    assert (one["problems_low"] != other["problems_low"])[exact].all()
    drawn = (one["metric"] == "maj") & (one["k"] > 4)
    assert (one["traces_low"] != other["traces_low"])[drawn].any()


def test_signs_are_flipped_by_the_seed_or_all_of_them():
    """scipy tries all of them for few problems, and the same ones for a seed for many."""
    few = np.array([0.5, -0.25, 0.125, 0.375, 0.25, -0.125, 0.5])
    draws = np.random.default_rng(0)
    wanted = stats.permutation_test((few,), np.mean, permutation_type="samples", n_resamples=10**4)
    assert sign_flip(few, draws) == pytest.approx(wanted.pvalue)
    many = np.random.default_rng(1).normal(0.15, 1, 60)
    ps = [sign_flip(many, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert ps[0] == ps[1] != ps[2]
    # The pattern that was seen is one of them, so p is never 0.
    assert 0 < sign_flip(np.ones(60), draws) < 1e-3
