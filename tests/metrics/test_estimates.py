"""Tables of metrics: against the grades they come from, and through the program."""

import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

from lowrank.errors import InputError
from lowrank.metrics.estimates import COLUMNS, model_metrics, protocol
from lowrank.metrics.majority import expected_majority
from lowrank.pools import pools

ROOT = Path(__file__).parents[2]


def grades(problems: int = 6, samples: int = 16, seed: int = 0) -> pandas.DataFrame:
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(problems):
        for s in range(samples):
            answer = generator.choice(["7", "8", "9", None], p=[0.5, 0.2, 0.2, 0.1])
            rows.append(
                {
                    "problem_id": f"p{i}",
                    "sample": s,
                    "answer": answer,
                    "correct": answer == "7",
                    "unjudged": None,
                    "completion_tokens": int(generator.integers(10, 99)),
                    "finish_reason": "stop" if answer else "length",
                }
            )
    return pandas.DataFrame(rows)


def value(table: pandas.DataFrame, metric: str, k: int, estimator: str = "exact") -> float:
    at = (table["metric"] == metric) & (table["k"] == k) & (table["estimator"] == estimator)
    assert at.sum() == 1
    return table.loc[at, "value"].item()


def test_metrics_are_those_of_the_grades():
    given = grades()
    table = model_metrics(given, "m", "b", [1, 4, 8])
    assert list(table.columns) == list(COLUMNS)
    assert not table.duplicated(["model", "benchmark", "metric", "k", "estimator"]).any()
    mean = given["correct"].mean()
    assert value(table, "mean", 1) == pytest.approx(mean)
    assert value(table, "pass", 1) == pytest.approx(mean)
    assert value(table, "maj", 1) == pytest.approx(mean)
    assert value(table, "gpass-1", 1) == pytest.approx(mean)
    assert value(table, "no_answer", 1) == pytest.approx(given["answer"].isna().mean())
    assert value(table, "truncated", 1) == value(table, "no_answer", 1)
    assert value(table, "unjudged", 1) == 0
    assert value(table, "completion_tokens", 1) == given["completion_tokens"].mean()
    per_problem = [
        expected_majority(
            [(rows["answer"] == a).sum() for a in "789"],
            [True, False, False],
            8,
            int(rows["answer"].isna().sum()),
        )
        for _, rows in given.groupby("problem_id")
    ]
    assert value(table, "maj", 8) == pytest.approx(np.mean(per_problem))
    assert value(table, "maj", 16) in np.arange(0, 1.01, 1 / 36)  # the vote of the whole pool
    assert set(table["n_problems"]) == {6}
    assert set(table["n_samples"]) == {16}


def test_intervals_hold_the_value_and_problems_differ_more_than_traces():
    table = model_metrics(grades(30), "m", "b", [4]).query("estimator == 'exact'")
    table = table[table["value"].between(0.01, 0.99)]
    for which in ("traces", "problems"):
        assert (table[f"{which}_low"] <= table["value"]).all()
        assert (table[f"{which}_high"] >= table["value"]).all()


def test_every_interval_over_problems_names_its_method():
    table = model_metrics(grades(30), "m", "b", [4])
    assert (table["problems_method"].isin(["bca", "gaffke"]) == table["problems_low"].notna()).all()
    # Fewer than two problems' worth of wrong (or of right) answers.
    near = table["value"].between(2 / 30, 1 - 2 / 30) == (table["problems_method"] == "bca")
    shares = (table["estimator"] == "exact") & (table["metric"] != "completion_tokens")
    assert near[shares].all()


def test_the_protocol_is_a_draw_around_the_exact_value():
    table = model_metrics(grades(), "m", "b", [4, 16], repeats=400)
    spread = table.query("estimator == 'protocol' and k == 4")["repeats_sd"].item()
    assert value(table, "maj", 4, "protocol") == pytest.approx(
        value(table, "maj", 4), abs=spread / 4
    )
    assert value(table, "maj", 16, "protocol") == pytest.approx(value(table, "maj", 16))
    post = model_metrics(grades(), "m", "b", [4]).query("estimator == 'protocol'")
    assert post[["traces_low", "problems_low"]].isna().all(axis=None)
    assert post["repeats_low"].item() <= post["value"].item() <= post["repeats_high"].item()


def test_neither_row_order_nor_other_models_change_a_number():
    given = grades()
    table = model_metrics(given, "m", "b", [4])
    shuffled = given.sample(frac=1, random_state=3)
    pandas.testing.assert_frame_equal(model_metrics(shuffled, "m", "b", [4]), table)
    other = model_metrics(given, "m", "b", [4], seed=1)
    assert value(other, "maj", 4) == value(table, "maj", 4)
    assert value(other, "maj", 4, "protocol") != value(table, "maj", 4, "protocol")


def test_pools_that_are_not_whole_are_refused_by_name():
    given = grades()
    with pytest.raises(InputError, match="p2 has 15"):
        pools(given.drop(index=2 * 16 + 3))
    with pytest.raises(InputError, match="more than once: p0#0"):
        pools(pandas.concat([given, given.iloc[:1]]))
    with pytest.raises(InputError, match="once right, once wrong"):
        pools(given.assign(correct=[*given["correct"][:-1], not given["correct"].iloc[-1]]))
    with pytest.raises(InputError, match="empty"):
        pools(given.iloc[:0])
    with pytest.raises(InputError, match="lack the column correct"):
        pools(given.drop(columns="correct"))
    with pytest.raises(InputError, match=r"k = 17 is not in 1\.\.16"):
        model_metrics(given, "m", "b", [4, 17])


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts" / program, "--k", "1", "4", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_programs_write_the_same_bytes_twice(tmp_path):
    named = []
    for seed, name in enumerate(("base", "rl", "r16")):
        grades(seed=seed).to_parquet(tmp_path / f"{name}.parquet")
        named.append(f"{name}={tmp_path / name}.parquet")
    compared = ("--benchmark", "b", *named, "--references", "base", "rl")
    for time in ("one", "two"):
        alone = ("--benchmark", "b", "--grades", named[1], "--output", tmp_path / f"{time}-rl.csv")
        assert run("metrics.py", *alone).returncode == 0
        done = run("compare.py", *compared, "--output", tmp_path / f"{time}.csv")
        assert done.returncode == 0, done.stderr
    for file in (".csv", "-rl.csv"):
        first, second = (tmp_path / f"{time}{file}" for time in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
    metrics = pandas.read_csv(tmp_path / "one-rl.csv")
    assert list(metrics.columns) == list(COLUMNS)
    assert set(metrics["model"]) == {"rl"}
    comparisons = pandas.read_csv(tmp_path / "one.csv")
    assert set(zip(comparisons["model"], comparisons["reference"], strict=True)) == {
        *(("rl", "base"), ("r16", "base"), ("r16", "rl"))
    }


def test_what_the_programs_cannot_read_is_named(tmp_path):
    failed = run("metrics.py", "--grades", "x", "--output", tmp_path / "x.csv")
    assert failed.returncode == 1
    assert failed.stderr == "error: --grades x: expected NAME=FILE\n"
    failed = run("compare.py", "--benchmark", "b", "x", "--output", tmp_path / "x.csv")
    assert failed.stderr == "error: --benchmark b x: expected NAME=FILE\n"
    failed = run("metrics.py", "--grades", "x=x.parquet", "--output", tmp_path / "x")
    assert failed.stderr == f"error: --output {tmp_path / 'x'}: the name of a .csv file is needed\n"


def test_the_spread_of_the_redraws_is_the_samples_own():
    """With one less than their number below the root, as of any sample."""
    table = grades()
    rows = model_metrics(table, "m", "b", [2], repeats=5, seed=3)
    row = rows[rows["estimator"] == "protocol"].iloc[0]
    draws = protocol(pools(table, "here"), 2, 5, (3, "m", "b"))
    assert row["repeats_sd"] == pytest.approx(statistics.stdev(draws.tolist()))
    assert row["repeats_sd"] > 0
