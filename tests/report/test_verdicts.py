"""Verdicts: the report says what the comparisons say, of the right models, in words."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from report_case import EXPERIMENT

from lowrank.metrics.comparisons import compare
from lowrank.metrics.wording import MINUS
from lowrank.report import verdicts
from lowrank.report.evidence import Evidence


def pool(shares: list[float], samples: int = 8) -> pd.DataFrame:
    """Grades in which problem i is right in shares[i] of the samples."""
    return pd.DataFrame(
        [
            {
                "problem_id": f"p{i:02d}", "sample": j, "correct": j < round(share * samples),
                "answer": "1" if j < round(share * samples) else f"w{j}",
            }
            for i, share in enumerate(shares)
            for j in range(samples)
        ]
    )  # fmt: skip


def found_of(shares: dict[str, list[float]]) -> Evidence:
    """Evidence that holds comparisons only, of models with these shares of right answers."""
    nothing = {field.name: {} for field in fields(Evidence)}
    grades = {model: pool(shares[model]) for model in (*EXPERIMENT["variants"], "new", "mid")}
    compared = compare(grades, ["mid", "new"], EXPERIMENT["maj_k"], EXPERIMENT["margin"])
    compared.insert(0, "benchmark", "sums")
    return Evidence(**nothing | {"experiment": EXPERIMENT, "comparisons": compared})


PROBLEMS = 150  # that a loss of 5 points on so many is seen is sure enough
BASE = [0.25] * PROBLEMS
GOOD = [0.75 + 0.125 * (i % 2) for i in range(PROBLEMS)]
SHARES = {
    "mid": BASE,
    "new": GOOD,
    "r2-copy": [0.25 + 0.125 * (i % 3 == 0) for i in range(PROBLEMS)],  # lost
    "r8-copy": GOOD,  # the same as the derivative
    "r2-keep": [(1.0, 1.0, 1.0, 0.25)[i // 2 % 4] for i in range(PROBLEMS)],  # noisy
    "r8-keep": GOOD,
}
FOUND = found_of(SHARES)


@pytest.fixture(scope="module")
def comparisons() -> pd.DataFrame:
    return FOUND.comparisons


def test_variants_meet_both_and_the_derivative_meets_the_base(comparisons):
    pairs = set(zip(comparisons["model"], comparisons["reference"], strict=True))
    wanted = {(name, side) for name in EXPERIMENT["variants"] for side in ("mid", "new")}
    assert pairs == wanted | {("new", "mid")}
    assert set(comparisons["benchmark"]) == {"sums"}


def test_each_answer_is_told_of_the_right_variants_and_measure(comparisons):
    said = verdicts.sentence(FOUND, comparisons, "sums")
    assert said.startswith("Mean accuracy of New one, to within 5 points: kept by")
    assert "kept by rank 8 (copy) and rank 8 (keep); lost by rank 2 (copy)" in said
    assert "not decided for rank 2 (keep). Maj@4 of New one, to within 5 points: kept by" in said
    assert "lost by rank 2 (copy) and rank 2 (keep)." in said  # votes lose what means do not


def test_the_box_has_differences_to_both_in_points(comparisons):
    table = verdicts.box_table(FOUND, comparisons, "sums", ("mean", 1))
    rows = {row["cells"][0]["text"]: row for row in table["rows"]}
    cells = dict(zip(table["heads"], rows["r = 2, copy"]["cells"], strict=True))
    assert rows["r = 2, copy"]["kind"] == cells["answer"]["text"] == "lost"
    assert rows["r = 2, copy"]["cells"][2]["text"] == f"{MINUS}52.1"
    assert cells["difference, points"]["text"] == "+4.2"  # the last of that name: to the base
    assert cells["gain kept"]["text"] == "7.4%"
    assert " to " in cells["gain kept"]["under"]
    same = dict(zip(table["heads"], rows["r = 8, copy"]["cells"], strict=True))
    assert same["gain kept"] == {"text": "100%", "under": ""}
    assert same["visible, points"]["text"] == verdicts.DASH
    assert "kept" not in [head for head in table["heads"] if head == "accuracy"]
    assert table["caption"] == "Mean accuracy"


def test_no_interval_on_the_page_has_a_width_of_nothing(comparisons):
    for measure in verdicts.measures(FOUND):
        for row in verdicts.box_table(FOUND, comparisons, "sums", measure)["rows"]:
            for cell in row["cells"]:
                for text in cell.values():
                    low, between, high = text.partition(" to ")
                    assert not between or low != high, text
                    assert not text.startswith(f"{MINUS}0.0 ")


def test_training_itself_is_judged_too(comparisons):
    said = verdicts.gain(FOUND, comparisons, "sums", ("mean", 1))
    assert "New one is better than Middle one by 56.2 points of mean accuracy" in said


def test_what_training_did_not_gain_is_not_kept():
    """All at 0 %; and a derivative that is better by chance at most."""
    names = ("mid", "new", *EXPERIMENT["variants"])
    nothing = found_of(dict.fromkeys(names, [0.0] * 30))
    noise = found_of(
        {
            name: [0.5 + 0.125 * ((i * (j + 2)) % 3 - 1) for i in range(30)]
            for j, name in enumerate(names)
        }
    )
    for found in (nothing, noise):
        comparisons = found.comparisons
        said = verdicts.sentence(found, comparisons, "sums")
        assert "kept by" not in said
        assert said.count("cannot be answered here, as no gain by training itself is shown") == 2
        for row in verdicts.box_table(found, comparisons, "sums", ("mean", 1))["rows"]:
            assert row["cells"][1]["text"] == "cannot be answered here"
            assert row["kind"] == "cannot"


def test_a_gain_within_the_margin_is_named_as_the_reason():
    shares = dict.fromkeys(EXPERIMENT["variants"], GOOD)
    found = found_of(
        shares | {"new": GOOD, "mid": [s - 0.125 * (i % 3 == 0) for i, s in enumerate(GOOD)]}
    )
    said = verdicts.sentence(found, found.comparisons, "sums")
    assert "as training's own gain (+4.2 points over Middle one) is less than the margin" in said


def test_the_reach_says_how_many_problems_a_margin_takes(comparisons):
    said = verdicts.reach(FOUND, comparisons, "sums")
    assert "Sums has 150 problems, one of them worth 0.7 points" in said
    assert "at the level of 0.05 / 4" in said
    assert "a margin of 5 points takes 86 problems or more" in said


def test_too_few_problems_are_named_as_the_reason():
    """Thirty problems that are the same, right and wrong: nothing is kept, and why is said."""
    few = found_of({name: shares[:30] for name, shares in SHARES.items()})
    comparisons = few.comparisons
    said = verdicts.sentence(few, comparisons, "sums")
    assert "kept by" not in said
    assert "(30 problems are too few to show this of any variant; it takes 86 or more)" in said
    assert "21 of 100 such benchmarks would contain none of these" in verdicts.reach(
        few, comparisons, "sums"
    )


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "< 0.001"), (0.0123, "0.012"), (0.5, "0.50"), (np.nan, "\N{EN DASH}")]
)
def test_p_values(p, text):
    assert verdicts.chance(p) == text
