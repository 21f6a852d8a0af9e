"""Comparisons of grades: what is compared, adjusted and answered, and what changes none of it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

from lowrank.errors import InputError
from lowrank.files import sha256
from lowrank.metrics.comparisons import COLUMNS, UNANSWERED, compare, judged
from lowrank.metrics.evaluation import write_comparisons
from lowrank.metrics.intervals import problem_spacings
from lowrank.metrics.paired import ALPHA, holm
from lowrank.pools import matched, pooled


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def graded(right: np.ndarray, samples: int = 16) -> pandas.DataFrame:
    """Grades with right[i] right samples on problem i, the others scattered over three answers."""
    rows = [
        {
            "problem_id": f"p{i}",
            "sample": s,
            "answer": "yes" if s < count else f"no{s % 3}",
            "correct": s < count,
        }
        for i, count in enumerate(right)
        for s in range(samples)
    ]
    return pandas.DataFrame(rows)


def family(problems: int = 30) -> dict[str, pandas.DataFrame]:
    """A base, a derivative far above it, one variant near the base and one near the derivative."""
    base = rng(7).integers(0, 12, problems)
    rl = np.minimum(base + rng(8).integers(2, 6, problems), 16)
    return {
        "sft": graded(base),
        "rl": graded(rl),
        "r16": graded(np.maximum(rl - rng(9).integers(2, 6, problems), 0)),
        "r256": graded(np.maximum(rl - (np.arange(problems) % 10 == 0), 0)),
    }


@pytest.fixture(scope="module")
def table() -> pandas.DataFrame:
    return compare(family(), ["sft", "rl"], [4, 8], margin=0.05)


def one(table: pandas.DataFrame, metric: str = "mean", k: int = 1) -> pandas.DataFrame:
    """One measure's rows by model and reference."""
    at = (table["metric"] == metric) & (table["k"] == k)
    return table[at].set_index(["model", "reference"])


def test_a_comparison_says_what_the_grades_say(table):
    assert list(table.columns) == list(COLUMNS)
    assert set(zip(table["model"], table["reference"], strict=True)) == {
        *(("rl", "sft"), ("r16", "sft"), ("r16", "rl"), ("r256", "sft"), ("r256", "rl"))
    }
    mean = one(table)
    assert mean.loc[("r16", "rl"), "verdict"].startswith("worse than rl by ")
    assert mean.loc[("rl", "sft"), "verdict"].endswith(" points of mean accuracy")
    assert mean.loc[("r256", "rl"), "verdict"] == "not distinguishable from rl in mean accuracy"
    assert mean.loc[("r256", "rl"), "method"] == "exact"  # three problems differ
    assert mean.loc[("r256", "rl"), "n_differ"] == 3
    row = mean.loc[("rl", "sft")]
    assert row["problems_low"] < row["difference"] < row["problems_high"]
    assert row["difference"] == pytest.approx(row["value"] - row["reference_value"])


def test_both_tests_are_adjusted_for_all_models_with_the_same_reference_and_measure(table):
    for _, rows in table.groupby(["reference", "metric", "k"]):
        assert (rows["family"] == len(rows)).all()
        for p in ("p", "p_equivalence"):
            np.testing.assert_allclose(rows[f"{p}_holm"], holm(rows[p].to_numpy()))


def test_enough_problems_show_that_a_variant_keeps_what_training_gave():
    table = compare(family(110), ["sft", "rl"], [2], margin=0.05)
    mean = one(table)
    assert mean.loc[("r256", "rl"), "answer"] == "kept"
    assert mean.loc[("r16", "rl"), "answer"] == "lost"
    assert mean.loc[("r256", "rl"), "gain_kept"] == pytest.approx(0.97, abs=0.03)
    assert mean.loc[("r16", "rl"), "gain_kept_low"] < mean.loc[("r16", "rl"), "gain_kept"] < 0.2
    assert mean.loc[("r16", "sft"), "answer"] is None
    verdict = mean.loc[("r256", "rl"), "verdict"]
    assert verdict.endswith("within 5 points of mean accuracy") or "yet equivalent" in verdict
    few = one(compare(family(30), ["sft", "rl"], [2], margin=0.05))
    assert few.loc[("r256", "rl"), "answer"] == "open"  # 30 problems cannot show it


def test_claims_agree_with_the_intervals_beside_them(table):
    claimed = table["p_equivalence_holm"] <= ALPHA
    inside = (table["within_low"] > -table["margin"]) & (table["within_high"] < table["margin"])
    assert (claimed == inside).all()
    excludes = (table["problems_low"] > 0) | (table["problems_high"] < 0)
    assert (excludes == (table["p"] <= ALPHA)).all()
    # Bounds are at least as wide as the interval, whose level is the least strict there is.
    assert (table["within_low"] <= table["problems_low"]).all()
    assert (table["within_high"] >= table["problems_high"]).all()


@pytest.mark.parametrize("right", [0, 8, 16])
def test_where_training_gained_nothing_there_is_no_answer(right):
    """All models alike, at 0 %, half or 100 %: nothing is kept, for nothing was gained."""
    same = graded(np.full(30, right))
    table = compare(dict.fromkeys(("r16", "r64", "rl", "sft"), same), ["sft", "rl"], [4], 0.05)
    answers = table.loc[table["reference"] == "rl", "answer"]
    assert set(answers) == {UNANSWERED}
    assert table["gain_kept"].isna().all()
    assert (table["problems_high"] - table["problems_low"] > 0.2).all()  # no width of 0
    assert not table["verdict"].str.contains("equivalent").any()


def test_a_gain_below_the_margin_is_nothing_that_could_be_seen_to_be_kept():
    base = np.tile([4, 5, 6, 7], 10)
    gained = base + np.tile([1, 1, 1, 2], 10)
    grades = {"r16": graded(base), "rl": graded(gained), "sft": graded(base)}
    mean = one(compare(grades, ["sft", "rl"], [2], margin=0.1))
    assert mean.loc[("rl", "sft"), "p_holm"] <= ALPHA
    assert mean.loc[("r16", "rl"), "answer"] == UNANSWERED
    assert one(compare(grades, ["sft", "rl"], [2], 0.05)).loc[("r16", "rl"), "answer"] == "lost"


def test_without_a_base_and_a_derivative_nothing_is_answered():
    grades = family()
    for references in (["rl"], ["sft", "rl", "r16"]):
        table = compare(grades, references, [4], margin=0.05)
        assert list(table.columns) == list(COLUMNS)
        assert table["answer"].isna().all()


def test_another_variant_makes_nothing_more_positive():
    spacings = problem_spacings(110, rng(2), 4000)
    rows = rng(1).normal([[-0.03], [-0.01], [0.0], [0.01]], 0.03, (4, 110))
    before = judged(rows, ["one"] * 4, 0.05, spacings)
    assert (before["p_equivalence_holm"] <= ALPHA).any()
    for mean in (-0.2, 0.0, 0.2):
        more = np.vstack([rows, rng(3).normal(mean, 0.03, (1, 110))])
        after = judged(more, ["one"] * 5, 0.05, spacings)[:4]
        for p in ("p_holm", "p_equivalence_holm"):
            assert (after[p] >= before[p]).all()
        assert (after["within_low"] <= before["within_low"]).all()
        assert (after["problems_low"] == before["problems_low"]).all()


def test_comparisons_depend_on_nothing_but_the_grades_and_the_seed():
    grades = family()
    table = compare(grades, ["sft", "rl"], [4], margin=0.05, seed=3)
    shuffled = {name: g.sample(frac=1, random_state=1) for name, g in grades.items()}
    pandas.testing.assert_frame_equal(
        table, compare(shuffled, ["sft", "rl"], [4], margin=0.05, seed=3)
    )
    turned = {name: grades[name] for name in reversed(grades)}
    again = compare(turned, ["sft", "rl"], [4], margin=0.05, seed=3)
    keys = ["model", "reference", "metric", "k"]
    pandas.testing.assert_frame_equal(
        table.sort_values(keys, ignore_index=True), again.sort_values(keys, ignore_index=True)
    )
    swapped = compare(grades, ["rl", "sft"], [4], margin=0.05, seed=3)
    there = table[(table["model"] == "rl")].set_index(["metric", "k"])
    back = swapped[(swapped["model"] == "sft")].set_index(["metric", "k"])
    assert (there["difference"] == -back["difference"]).all()
    assert there["p"].tolist() == pytest.approx(back["p"].tolist())
    assert there["problems_low"].tolist() == pytest.approx((-back["problems_high"]).tolist())


def test_names_of_models_and_problems_change_nothing():
    grades = family()
    table = compare(grades, ["sft", "rl"], [4], margin=0.05)
    names = {"sft": "b", "rl": "a", "r16": "x", "r256": "y"}
    renamed = {
        names[name]: g.assign(problem_id="q" + g["problem_id"]) for name, g in grades.items()
    }
    again = compare(renamed, ["b", "a"], [4], margin=0.05)
    numbers = table.select_dtypes("number").columns.drop(["traces_low", "traces_high"])
    pandas.testing.assert_frame_equal(table[numbers], again[numbers])


def test_of_six_variants_at_the_margin_hardly_one_is_called_equivalent():
    generator, spacings = rng(3), problem_spacings(120, rng(4), 2000)
    claimed = 0
    for _ in range(60):
        losses = np.where(generator.random((6, 120)) < 0.1, -0.5, 0.0)
        table = judged(losses, ["one"] * 6, 0.05, spacings)
        claimed += (table["p_equivalence_holm"] <= ALPHA).any()
    assert claimed <= 7  # 5 % of 60, and three standard errors


def test_models_that_do_not_match_are_refused_or_cut_down():
    grades = family()
    grades["r16"] = grades["r16"].query("problem_id != 'p3'")
    grades["rl"] = grades["rl"].query("sample < 12")
    with pytest.raises(InputError, match=r"rl lacks p0#12.*r16 lacks problems p3.*--intersect"):
        compare(grades, ["sft"], [4], margin=0.05)
    table = compare(grades, ["sft"], [4], margin=0.05, intersect=True)
    assert set(table["n_problems"]) == {29}
    assert set(table["n_samples"]) == {12}
    assert {len(t) for t in matched(grades, intersect=True).values()} == {29 * 12}
    with pytest.raises(InputError, match="references x are not among"):
        compare(family(), ["x"], [4], margin=0.05)
    with pytest.raises(InputError, match=r"k = 17 is not in 1\.\.16"):
        compare(family(), ["sft"], [17], margin=0.05)
    with pytest.raises(InputError, match="margin"):
        compare(family(), ["sft"], [4], margin=5)
    with pytest.raises(InputError, match="its own reference"):
        compare({"sft": family()["sft"]}, ["sft"], [4], margin=0.05)


def halves(tables: dict[str, pandas.DataFrame]) -> dict[str, dict[str, pandas.DataFrame]]:
    """The same grades as of two benchmarks, whose problems are called alike."""
    parts = {}
    for model, table in tables.items():
        number = table["problem_id"].str[1:].astype(int)
        first, second = table[number < 15], table[number >= 15]
        second = second.assign(problem_id=[f"p{i - 15}" for i in number[number >= 15]])
        parts[model] = {"old": first, "new": second}
    return parts


def test_a_pool_holds_the_problems_of_all_its_benchmarks(table):
    whole = {model: pooled(parts) for model, parts in halves(family()).items()}
    origin = whole["rl"][1]
    assert origin["old/p0"] == "old"
    assert origin["new/p0"] == "new"
    both = compare(
        {model: each for model, (each, _) in whole.items()}, ["sft", "rl"], [4, 8], 0.05,
        benchmarks=origin,
    )  # fmt: skip
    assert both["n_problems"].unique() == [30]
    for column in ("model", "value", "difference", "paired_sd", "n_differ"):
        assert both[column].tolist() == pytest.approx(table[column].tolist())


def test_benchmarks_of_one_problem_are_no_stratum():
    tables = family()
    origin = {f"p{i}": "old" if i else "new" for i in range(30)}
    with pytest.raises(InputError, match="benchmark new has one problem in common"):
        compare(tables, ["rl"], [4], 0.05, benchmarks=origin)


def test_the_program_pools_benchmarks(tmp_path):
    program = Path(__file__).parents[2] / "scripts/compare.py"
    given = {"old": ["--benchmark", "old"], "new": ["--benchmark", "new"]}
    for model, parts in halves(family()).items():
        for benchmark, part in parts.items():
            path = tmp_path / f"{model}-{benchmark}.parquet"
            part.to_parquet(path)
            given[benchmark].append(f"{model}={path}")
    made = tmp_path / "made.csv"
    options = ["--name", "both", "--references", "sft", "rl", "--k", "4", "--output", made]

    def run(*pools: list[str]) -> subprocess.CompletedProcess:
        command = [sys.executable, program, *(word for each in pools for word in each), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(given["old"], given["new"])
    assert done.returncode == 0, done.stderr
    compared = pandas.read_csv(made)
    assert set(compared["benchmark"]) == {"both"}
    assert set(compared["n_problems"]) == {30}
    # One completion is missing: said, and left out everywhere where that is asked for.
    path = tmp_path / "r16-new.parquet"
    pandas.read_parquet(path).iloc[1:].to_parquet(path)
    assert "r16 lacks new/p0#0" in run(given["old"], given["new"]).stderr
    options.append("--intersect")
    assert "r16: 450 of 479 samples" in run(given["old"], given["new"]).stderr
    assert set(pandas.read_csv(made)["n_samples"]) == {15}
    assert "every model on every benchmark" in run(given["old"], given["new"][:-1]).stderr
    assert "given twice" in run(given["old"], given["old"]).stderr
    assert "names 'rl' twice" in run([*given["old"], "rl=other.parquet"]).stderr


def test_the_record_says_what_was_compared_and_how(tmp_path):
    grades = {"old": {}}
    for model, rows in family().items():
        rows.to_parquet(tmp_path / f"{model}.parquet")
        grades["old"][model] = tmp_path / f"{model}.parquet"
    table, record = tmp_path / "made.csv", tmp_path / "made.json"
    write_comparisons(grades, "old", [8, 4], table, ["sft", "rl"], 0.1, seed=3, record=record)
    said = json.loads(record.read_text())
    assert said["models"] == list(grades["old"])
    assert said["references"] == ["sft", "rl"]
    assert (said["ks"], said["margin"], said["seed"]) == ([4, 8], 0.1, 3)
    assert said["sha256"] == sha256(table)
    assert said["grades"] == {"old": {m: sha256(path) for m, path in grades["old"].items()}}
