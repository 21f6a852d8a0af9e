"""Comparisons in words: numbers that mean something, and headlines under the same tests."""

import numpy as np
import pytest
from scipy import stats

from lowrank.metrics.wording import MINUS, headline, measure_name, points, verdict


def row(**more: float) -> dict:
    given = {"reference": "rl", "metric": "mean", "k": 1, "margin": 0.05, "difference": -0.02}
    return {**given, "p_holm": 0.5, "p_equivalence_holm": 0.5, **more}


def test_a_verdict_names_its_measure():
    assert verdict(row()) == "not distinguishable from rl in mean accuracy"
    assert verdict(row(p_holm=0.01)) == "worse than rl by 2.0 points of mean accuracy"
    assert verdict(row(p_holm=0.01, metric="maj", k=32)) == "worse than rl by 2.0 points of Maj@32"
    within = verdict(row(p_equivalence_holm=0.01, metric="pass", k=8))
    assert within == "equivalent to rl within 5 points of pass@8"
    both = verdict(row(p_holm=0.01, p_equivalence_holm=0.01))
    assert both == "worse than rl by 2.0 points of mean accuracy, yet equivalent within 5 points"
    assert measure_name("gpass-1", 4) == "gpass-1@4"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0234, "+2.3"),
        (-0.0234, f"{MINUS}2.3"),
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (-1e-17, "0.0"),
        (0.00049, "+0.05"),
        (-0.0004, f"{MINUS}0.04"),
        (-0.00052, f"{MINUS}0.1"),
    ],
)
def test_what_is_not_nothing_does_not_look_like_nothing(share, text):
    assert points(share, sign=True) == text
    assert points(abs(share)) == text.lstrip(f"+{MINUS}")


def test_the_smallest_difference_that_is_found_has_a_size():
    assert "by 0.03 points" in verdict(row(difference=-0.0003, p_holm=0.001))


def test_the_headline_of_the_post_is_less_than_one_problem():
    found = headline(0.0229, paired_sd=0.2, problems=30)
    assert found["problems_worth"] == pytest.approx(0.69, abs=0.01)
    assert found["p"] > 0.5
    assert found["needed"] > 500
    assert found["words"].startswith("+2.3 points on 30 problems are 0.7 problems' worth: not")
    assert found["power"] < 0.2


def test_what_is_found_needs_nothing_more():
    found = headline(0.04, paired_sd=0.096, problems=30)
    assert found["p"] == pytest.approx(0.03, abs=0.003)
    assert "takes" not in found["words"]
    assert "a difference (p = 0.03), found in 6" in found["words"]


def test_the_largest_of_several_is_adjusted_for_them():
    alone, largest = headline(0.04, 0.096, 30), headline(0.04, 0.096, 30, among=6)
    assert largest["p"] == pytest.approx(6 * alone["p"])
    assert largest["power"] < alone["power"]
    assert largest["needed"] > alone["needed"] > 30
    assert "adjusted for being the largest of 6" in largest["words"]


@pytest.mark.parametrize(("problems", "among"), [(4, 1), (12, 3), (30, 6)])
def test_a_headline_is_a_paired_t_test(problems, among):
    """p, and the power by the noncentral t, which the approximation meets to a hundredth or two."""
    found = headline(0.1, 0.12, problems, among)
    t, freedom = 0.1 / (0.12 / np.sqrt(problems)), problems - 1
    assert found["p"] == pytest.approx(min(1, 2 * among * stats.t.sf(t, freedom)))
    reach = stats.t.isf(0.05 / among / 2, freedom)
    assert found["power"] == pytest.approx(stats.nct.sf(reach, freedom, t), abs=0.03)


@pytest.mark.parametrize("spread", [0.0, np.nan])
def test_without_a_spread_nothing_is_said_of_a_headline(spread):
    found = headline(0.02, spread, 30)
    assert np.isnan([found["p"], found["power"], found["needed"]]).all()
    assert found["words"].endswith("is not known here")
