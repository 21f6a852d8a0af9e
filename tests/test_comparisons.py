"""Tests of the tests: against enumeration, under the null, and in words."""

from itertools import product

import numpy as np
import pandas
import pytest

from lowrank.comparisons import (
    COLUMNS,
    compare,
    detectable_difference,
    headline,
    holm,
    hypothesis_box,
    sign_flip,
    tost,
    verdict,
)
from lowrank.errors import InputError
from lowrank.pools import matched


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def signs(problems: int, draws: int = 20_000) -> np.ndarray:
    return rng(1).integers(0, 2, (draws, problems)) * 2.0 - 1


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


def test_few_problems_are_enumerated_and_many_drawn():
    few = rng().normal(0.4, 1, 9)
    many = rng().normal(0.2, 1, 25)
    p, methods = sign_flip(np.stack([np.pad(few, (0, 16)), many]), signs(25))
    sums = np.array([np.dot(s, few) for s in product((-1, 1), repeat=9)])
    assert p[0] == np.mean(np.abs(sums) >= abs(few.sum()) - 1e-9)  # problems with 0 change nothing
    assert methods == ["exact", "drawn"]
    t = many.mean() / (many.std(ddof=1) / 5)
    assert p[1] == pytest.approx(2 * (1 - 0.5 * (1 + _erf(t / 2**0.5))), abs=0.05)


def _erf(x: float) -> float:
    from math import erf

    return erf(x)


def test_no_difference_at_all_has_p_one():
    assert sign_flip(np.zeros((1, 30)), signs(30))[0] == [1.0]


def test_false_findings_are_as_rare_as_promised():
    null = rng(5).normal(0, 1, (2000, 30)) * rng(6).uniform(0, 1, (2000, 30))
    p, _ = sign_flip(null, signs(30, 2000))
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.015)
    # On the margin itself equivalence is wrongly claimed in 5 % at most.
    edge = tost(null / 50 + 0.05, 0.05, signs(30, 2000))
    assert np.mean(np.array(edge) <= 0.05) <= 0.065


def test_equivalence_is_found_inside_the_margin_and_only_there():
    small = rng(2).normal(0, 0.02, (1, 30))
    assert tost(small, 0.05, signs(30))[0] < 0.001
    assert tost(small + 0.05, 0.05, signs(30))[0] > 0.05
    assert tost(small + 0.2, 0.05, signs(30))[0] > 0.9


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])


def test_the_detectable_difference_is_detected_in_eight_of_ten():
    true = detectable_difference(1.0, 30)
    found = sign_flip(rng(3).normal(true, 1, (1500, 30)), signs(30, 2000))[0]
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.8, abs=0.05)


def family() -> dict[str, pandas.DataFrame]:
    base = rng(7).integers(0, 12, 30)
    rl = np.minimum(base + rng(8).integers(2, 6, 30), 16)
    return {
        "sft": graded(base),
        "rl": graded(rl),
        "r16": graded(np.maximum(rl - rng(9).integers(2, 6, 30), 0)),
        "r256": graded(np.maximum(rl - (np.arange(30) % 10 == 0), 0)),
    }


def test_a_comparison_says_what_the_grades_say():
    table = compare(family(), ["sft", "rl"], [4, 8], margin=0.05)
    assert list(table.columns) == list(COLUMNS)
    assert not table.drop(columns="p_method").isna().any(axis=None)
    assert set(zip(table["model"], table["reference"], strict=True)) == {
        *(("rl", "sft"), ("r16", "sft"), ("r16", "rl"), ("r256", "sft"), ("r256", "rl"))
    }
    mean = table[table["metric"] == "mean"].set_index(["model", "reference"])
    assert mean.loc[("r16", "rl"), "verdict"].startswith("worse than rl by ")
    assert mean.loc[("rl", "sft"), "verdict"].startswith("better than sft by ")
    assert mean.loc[("r256", "rl"), "verdict"] == "equivalent to rl within 5.0 points"
    row = mean.loc[("rl", "sft")]
    assert row["problems_low"] < row["difference"] < row["problems_high"]
    assert row["difference"] == pytest.approx(row["value"] - row["reference_value"])
    assert (table["p_holm"] >= table["p"]).all()


def test_comparisons_depend_on_nothing_but_the_grades_and_the_seed():
    grades = family()
    table = compare(grades, ["sft", "rl"], [4], margin=0.05, seed=3)
    shuffled = {name: g.sample(frac=1, random_state=1) for name, g in grades.items()}
    pandas.testing.assert_frame_equal(
        table, compare(shuffled, ["sft", "rl"], [4], margin=0.05, seed=3)
    )
    swapped = compare(grades, ["rl", "sft"], [4], margin=0.05, seed=3)
    there = table[(table["model"] == "rl")].set_index(["metric", "k"])
    back = swapped[(swapped["model"] == "sft")].set_index(["metric", "k"])
    assert (there["difference"] == -back["difference"]).all()
    assert there["p"].tolist() == back["p"].tolist()


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


def test_verdicts_in_words():
    row = {"reference": "rl", "margin": 0.05, "difference": -0.02}
    assert verdict({**row, "p_holm": 0.5, "p_equivalence": 0.5}) == "not distinguishable from rl"
    assert verdict({**row, "p_holm": 0.01, "p_equivalence": 0.5}) == "worse than rl by 2.0 points"
    both = verdict({**row, "p_holm": 0.01, "p_equivalence": 0.01})
    assert both == "worse than rl by 2.0 points, yet equivalent to rl within 5.0 points"


def test_the_hypothesis_is_answered_for_every_variant():
    table = compare(family(), ["sft", "rl"], [4], margin=0.05)
    variants = [("r16", 16, "copy"), ("r256", 256, "keep")]
    box = hypothesis_box(table, variants, "rl", "sft")
    assert box["answer"].tolist() == ["lost", "kept"]
    assert box["gain_kept"][1] == pytest.approx(1, abs=0.1)
    assert box["words"][1].startswith("kept: equivalent to rl within 5.0 points (-")
    assert "better than sft by" in box["words"][1]
    with pytest.raises(InputError, match="no comparison of r64"):
        hypothesis_box(table, [("r64", 64, "copy")], "rl", "sft")


def test_the_headline_of_the_post_is_less_than_one_problem():
    found = headline(0.0229, paired_sd=0.2, problems=30)
    assert found["problems_worth"] == pytest.approx(0.69, abs=0.01)
    assert found["p"] > 0.5
    assert found["needed"] > 500
    assert found["words"].startswith("+2.3 points on 30 problems are 0.7 problems' worth: not")
