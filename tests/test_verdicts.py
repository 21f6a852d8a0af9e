"""Verdicts: the report says what the comparisons say, of the right models, in words."""

import numpy as np
import pandas as pd
import pytest
from report_case import EXPERIMENT

from lowrank import verdicts
from lowrank.evidence import Evidence


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
    """Evidence that holds grades only."""
    unread = (
        "spectra", "summaries", "delta_manifests", "model_manifests", "variant_manifests",
        "fidelity", "adapters", "provenance",
    )  # fmt: skip
    return Evidence(
        experiment=EXPERIMENT,
        results=None,
        metrics=pd.DataFrame(),
        grades={("sums", model): pool(values) for model, values in shares.items()},
        published=None,
        **{name: {} for name in unread},
    )


BASE = [0.25] * 12
GOOD = [0.75] * 12
FOUND = found_of(
    {
        "mid": BASE,
        "new": GOOD,
        "r2-copy": BASE,  # lost
        "r8-copy": GOOD,  # the same as the derivative
        "r2-keep": [0.75 + 0.25 * (-1) ** i for i in range(12)],  # noisy around it
        "r8-keep": GOOD,
    }
)


@pytest.fixture(scope="module")
def comparisons() -> pd.DataFrame:
    return verdicts.comparisons_frame(FOUND)


def test_variants_meet_both_and_the_derivative_meets_the_base(comparisons):
    pairs = set(zip(comparisons["model"], comparisons["reference"], strict=True))
    wanted = {(name, side) for name in EXPERIMENT["variants"] for side in ("mid", "new")}
    assert pairs == wanted | {("new", "mid")}
    assert set(comparisons["benchmark"]) == {"sums"}


def test_each_answer_is_told_of_the_right_variants(comparisons):
    said = verdicts.sentence(FOUND, comparisons, "sums")
    assert "over 12 problems, the accuracy of New one" in said
    assert "kept, to within 5 points, by rank 8 (copy) and rank 8 (keep)" in said
    assert "lost by rank 2 (copy)" in said
    assert "not decided for rank 2 (keep)" in said


def test_the_box_has_differences_to_both_in_points(comparisons):
    here = verdicts.labelled(FOUND, comparisons, "sums")
    rows = {row["cells"][0]["text"]: row for row in verdicts.box_table(FOUND, here)["rows"]}
    texts = [cell["text"] for cell in rows["r = 2, copy"]["cells"]]
    assert texts[1] == rows["r = 2, copy"]["kind"] == "lost"
    assert texts[2] == f"{verdicts.MINUS}50.0"
    assert texts[7] == "+0.0"
    assert [cell["text"] for cell in rows["r = 8, copy"]["cells"]][6] == "100%"


def test_training_itself_is_judged_too(comparisons):
    here = verdicts.labelled(FOUND, comparisons, "sums")
    (said,) = verdicts.gain(FOUND, here)
    assert "New one is better than Middle one by 50.0 points" in said


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "< 0.001"), (0.0123, "0.012"), (0.5, "0.50"), (np.nan, "\N{EN DASH}")]
)
def test_p_values(p, text):
    assert verdicts.chance(p) == text
