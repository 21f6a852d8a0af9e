"""Divergences as figures: means by problem, shares of the way, what differs, what is enough."""

import itertools
import json

import numpy as np
import oracle
import pandas
import pytest

from lowrank.errors import InputError
from lowrank.metrics.divergence_contrasts import contrasts, enough, rank_within, sign_flip
from lowrank.metrics.divergence_files import WRITTEN, write_divergences
from lowrank.metrics.divergences import COLUMNS, Divergence, figures, of_problems, read_divergences
from lowrank.metrics.intervals import problem_weights, ratio_interval

LENGTHS = {"a": (3, 5), "b": (9, 1), "c": (4, 4), "d": (2, 17)}
SCALES = {"base": 1.0, "r1": 0.3, "r4": 0.06, "r16": 0.004, "own": 0.0}
LADDERS = {"copy": {"r1": 1, "r4": 4, "r16": 16}}


def tokens(scale, problems=LENGTHS, seed=0):
    """A table of tokens whose divergences are `scale` times the same draws, jittered."""
    draw = np.random.default_rng(seed)
    rows = [
        (problem, sample, position, 65 + position)
        for problem, lengths in problems.items()
        for sample, length in enumerate(lengths)
        for position in range(length)
    ]
    table = pandas.DataFrame(rows, columns=["problem_id", "sample", "position", "token"])
    table["kl"] = scale * draw.gamma(0.5, size=len(table)).astype(np.float32)
    table["equal_top"] = draw.random(len(table)) > scale / 10
    table["logp_derivative"] = table["logp_model"] = -1.0
    return table


@pytest.fixture
def tables(tmp_path):
    made = {}
    for name, scale in SCALES.items():
        made[name] = tmp_path / f"{name}.parquet"
        tokens(scale).to_parquet(made[name])
        made[name].with_suffix(".json").write_text(json.dumps({"reference": "r"}))
    return made


def test_the_problem_is_the_unit(tables):
    found = read_divergences(tables)
    table = pandas.read_parquet(tables["base"])
    by_problem = table.groupby("problem_id")["kl"].mean()
    rows = figures(found, "base", "b")
    rows = rows[rows["at"].isna()].set_index(["model", "metric"])
    assert rows.loc[("base", "kl"), "value"] == pytest.approx(by_problem.mean())
    assert rows.loc[("base", "kl"), "n_tokens"] == len(table)
    assert rows.loc[("base", "recovered"), "value"] == 0
    assert rows.loc[("own", "recovered"), "value"] == 1
    assert rows.loc[("r1", "recovered"), "value"] == pytest.approx(0.7)
    equal = table.groupby("problem_id")["equal_top"].mean().mean()
    assert rows.loc[("base", "equal_top"), "value"] == pytest.approx(equal)
    assert list(figures(found, "base", "b").columns) == list(COLUMNS)


def test_a_share_lies_within_its_interval():
    """The lower end is below it and the upper above, of what differs between problems."""
    generator = np.random.default_rng(8)
    base = generator.gamma(4, 0.1, 25)
    kls = {"base": base, "near": base * generator.uniform(0.1, 0.6, 25)}
    found = {
        name: Divergence([f"p{i}" for i in range(25)], kl, np.ones(25), np.zeros(5), {}, {0: 25})
        for name, kl in kls.items()
    }
    rows = figures(found, "base", "b").set_index(["model", "metric"])
    row = rows[rows["at"].isna()].loc[("near", "recovered")]
    assert row["value"] == pytest.approx(1 - kls["near"].mean() / base.mean())
    assert row["low"] < row["value"] < row["high"] < 1


def test_quantiles_are_of_all_tokens_and_bins_double(tables):
    rows = figures(read_divergences(tables), "base", "b")
    mine = rows[rows["model"] == "base"]
    table = pandas.read_parquet(tables["base"])
    largest = mine[(mine["metric"] == "kl_quantile") & (mine["at"] == 1)]
    assert largest["value"].item() == pytest.approx(table["kl"].max())
    along = mine[mine["metric"] == "kl_along"].set_index("at")
    assert along.index.tolist() == [0, 1, 2, 4, 8, 16]
    assert along["n_tokens"].sum() == len(table)
    here = table[table["position"].between(4, 7)].groupby("problem_id")["kl"].mean()
    assert along.loc[4, "value"] == pytest.approx(here.mean())
    assert along.loc[4, "n_problems"] == len(here) < 4


def test_the_order_of_rows_and_models_changes_nothing(tables, tmp_path):
    wanted = figures(read_divergences(tables), "base", "b")
    turned = {name: tables[name] for name in reversed(tables)}
    again = figures(read_divergences(turned), "base", "b")
    order = ["model", "metric", "at"]
    pandas.testing.assert_frame_equal(
        wanted.sort_values(order, ignore_index=True), again.sort_values(order, ignore_index=True)
    )


def test_tables_of_other_text_are_not_compared(tables):
    table = pandas.read_parquet(tables["r1"])
    table.iloc[:-1].to_parquet(tables["r1"])
    with pytest.raises(InputError, match="was not read from what"):
        read_divergences(tables)


def test_tables_of_another_reference_are_not_compared(tables):
    tables["r1"].with_suffix(".json").write_text(json.dumps({"reference": "other"}))
    with pytest.raises(InputError, match="was not read from what"):
        read_divergences(tables)


def test_signs_are_flipped_as_by_hand():
    draw = np.random.default_rng(0)
    for problems in (1, 2, 5, 8):
        differences = draw.normal(0.4, 1, problems)
        patterns = itertools.product((-1, 1), repeat=problems)
        means = [abs(np.dot(signs, differences)) for signs in patterns]
        wanted = np.mean([mean >= abs(differences.sum()) - 1e-12 for mean in means])
        assert sign_flip(differences, draw) == pytest.approx(wanted)
    assert sign_flip(np.zeros(40), draw) == 1


def test_many_signs_are_drawn_and_agree_with_all_of_them():
    """17 problems are drawn; with one that adds nothing they are 16 that are all tried."""
    differences = np.random.default_rng(3).normal(0.3, 1, 16)
    exact = sign_flip(differences, None)
    drawn = sign_flip(np.append(differences, 0.0), np.random.default_rng(0))
    assert drawn == pytest.approx(exact, abs=0.006)  # 4 standard errors of a share of 100,000


def test_the_test_errs_as_often_as_it_says():
    draw = np.random.default_rng(1)
    found = [sign_flip(draw.normal(size=10), draw) <= 0.05 for _ in range(1000)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.03)


def test_neighbouring_ranks_and_pairs_are_compared():
    problems = {f"p{i}": (20, 20) for i in range(20)}
    found = {
        name: of_problems(tokens(s, problems, i)) for i, (name, s) in enumerate(SCALES.items())
    }
    found["r4-keep"] = of_problems(tokens(0.0601, problems, 9))
    rows = contrasts(found, LADDERS, [("r4", "r4-keep")], "b")
    assert list(zip(rows["question"], rows["model"], rows["reference"], strict=True)) == [
        ("rank", "r4", "r1"), ("rank", "r16", "r4"), ("other", "r4", "r4-keep"),
    ]  # fmt: skip
    assert (rows["family"] == 3).all()
    assert (rows["p_holm"] >= rows["p"]).all()
    assert rows["verdict"].tolist()[0].startswith("r4 is closer than r1 by 0.")
    assert rows["verdict"].tolist()[2] == "r4 and r4-keep are not distinguishable"
    assert (rows["low"][:2] < rows["difference"][:2]).all()
    assert (rows["high"][:2] < 0).all()
    assert contrasts(found, {"copy": {"r1": 1}}, [], "b").empty


def test_the_smallest_rank_that_is_enough(tables):
    rows = enough(read_divergences(tables), LADDERS, "base", "b").set_index("share")
    # 70, 94 and 99.6 % recovered, on every problem alike.
    assert rows["rank"].tolist() == [4, 16, 16]
    assert rows["rank_low"].tolist() == rows["rank_high"].tolist() == [4, 16, 16]
    few = enough(read_divergences(tables), {"copy": {"r1": 1}}, "base", "b")
    assert few["rank"].isna().all()
    assert few["tried"].tolist() == ["1"] * 3


def test_a_rank_on_the_edge_has_a_wide_interval():
    problems = {f"p{i}": (30,) for i in range(20)}
    found = {"base": of_problems(tokens(1.0, problems)), "own": of_problems(tokens(0.0, problems))}
    found |= {
        name: of_problems(tokens(scale, problems, seed))
        for seed, (name, scale) in enumerate({"r1": 0.5, "r4": 0.0995, "r16": 0.01}.items(), 1)
    }
    row = enough(found, LADDERS, "base", "b").iloc[0]
    assert (row["rank_low"], row["rank_high"]) == (4, 16)


def test_the_interval_of_a_ratio_covers():
    """20 problems, part about a third of whole and correlated with it: near 95 of 100."""
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        whole = draw.gamma(2.0, size=20)
        part = whole * draw.beta(2, 4, size=20)
        low, high = ratio_interval(part, whole, problem_weights(20, draw, 1000))
        covered += low <= 1 / 3 <= high
    assert 0.86 <= covered / 200 <= 0.99


def test_a_ratio_that_is_the_same_everywhere_has_no_interval():
    whole = np.arange(1.0, 9)
    weights = problem_weights(8, np.random.default_rng(0), 100)
    assert np.isnan(ratio_interval(0.3 * whole, whole, weights)).all()
    assert np.isnan(ratio_interval(whole, 0 * whole, weights)).all()


def test_the_tables_are_written(tables, tmp_path):
    output = tmp_path / "out"
    write_divergences(tables, "base", LADDERS, [("r4", "r1")], "b", output)
    first = {name: (output / name).read_bytes() for name in WRITTEN}
    write_divergences(tables, "base", LADDERS, [("r4", "r1")], "b", output)
    assert {name: (output / name).read_bytes() for name in WRITTEN} == first
    ranks = pandas.read_csv(output / "ranks.csv")
    assert ranks["rank"].tolist() == [4, 16, 16]
    with pytest.raises(InputError, match="--tables has none of r64"):
        write_divergences(tables, "base", {"copy": {"r64": 64}}, [], "b", output)


def test_the_tables_are_drawn_by_the_seed(tmp_path):
    """The same by hand, and other intervals and p of another seed."""
    generator, tables = np.random.default_rng(6), {}
    for name, scale in (("base", 1.0), ("r1", 0.9), ("r4", 0.8)):
        rows = [
            (f"p{i:02d}", j % 2, j, scale * generator.gamma(1)) for i in range(30) for j in range(4)
        ]
        table = pandas.DataFrame(rows, columns=["problem_id", "sample", "position", "kl"])
        tables[name] = tmp_path / f"{name}.parquet"
        table.assign(equal_top=generator.random(120) < 0.5, token=5).to_parquet(tables[name])
        tables[name].with_suffix(".json").write_text(json.dumps({"reference": "r"}))
    ladders, pairs = {"copy": {"r1": 1, "r4": 4}}, [("r4", "base")]
    found = read_divergences(tables)
    read = {}
    for seed in (0, 3):
        write_divergences(tables, "base", ladders, pairs, "b", tmp_path / "out", seed)
        read[seed] = [pandas.read_csv(tmp_path / "out" / name) for name in WRITTEN]
        made = figures(found, "base", "b", seed), contrasts(found, ladders, pairs, "b", seed)
        for wanted, table in zip(made, read[seed], strict=False):
            numbers = wanted.select_dtypes("float64")
            assert table[numbers.columns].to_numpy() == pytest.approx(
                numbers.to_numpy(), abs=1e-9, nan_ok=True
            )
    adjusted = oracle.holm(read[0][1]["p"].tolist())
    assert read[0][1]["p_holm"].tolist() == pytest.approx(adjusted)
    assert (read[0][1]["p_holm"] > read[0][1]["p"]).any()
    for one, other in zip(read[0][:2], read[3][:2], strict=True):
        assert (one["low"].dropna() != other["low"].dropna()).any()
    assert (read[0][1]["p"] != read[3][1]["p"]).any()


def test_bytes_of_its_own_are_held_against_the_highest_rank_that_takes_no_more():
    rows = [("lowrank", 1, 10), ("lowrank", 1, 20), ("lowrank", 4, 120), ("lowrank", 9, 121),
            ("bitdelta", 0, 60), ("bitdelta", 0, 60)]  # fmt: skip
    sizes = pandas.DataFrame(rows, columns=["description", "rank", "bytes"])
    assert rank_within(sizes, "bitdelta", {"r1": 1, "r9": 9, "r4": 4}) == "r4"
    assert rank_within(sizes, "bitdelta", {"r9": 9}) is None
