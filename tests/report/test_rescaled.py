"""One rescaled direction a matrix: the sentence about the claim says what the comparisons say."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from report_case import EXPERIMENT, variant

from lowrank.metrics.comparisons import UNANSWERED
from lowrank.report import rescaled
from lowrank.report.divergences import Distances
from lowrank.report.evidence import Evidence

NAME = "rescaled-r1-copy"
VARIANTS = {
    "r1-copy": variant(1, "copy"),
    "r1-keep": variant(1, "keep"),
    NAME: variant(1, "copy", "rescaled"),
    "rescaled-r8-copy": variant(8, "copy", "rescaled"),
    "random-r1-copy": variant(1, "copy", "random"),
}
BEGINS = "One direction of each matrix, at the norm of its whole change (rescaled, r = 1, copy)"


def found(variants=VARIANTS, **changes):
    nothing = {field.name: {} for field in dataclasses.fields(Evidence)}
    return Evidence(**nothing | {"experiment": EXPERIMENT | {"variants": variants} | changes})


def comparisons(**changes):
    """Every variant against both in both measures; the gain kept tells which line it is."""
    rows = [
        {"benchmark": benchmark, "model": model, "reference": reference, "metric": metric, "k": k,
         "answer": "open", "gain_kept": kept, "gain_kept_low": kept - 0.3,
         "gain_kept_high": kept + 0.1}
        for benchmark, more in (("sums", 0.0), ("other", 0.01))
        for reference, less in (("new", 0.0), ("mid", 0.02))
        for metric, k, half in (("mean", 1, 0.0), ("maj", 4, 0.04), ("maj", 1, 0.04))
        for model, share in zip(VARIANTS, (0.5, 0.6, 0.7, 0.55, 0.2), strict=True)
        for kept in (share + more - less - half,)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    for column, number in changes.items():
        table.loc[table["model"] == NAME, column] = number
    return table


def test_the_claim_is_held_against_the_gain_kept_beside_that_of_the_plain_direction():
    (said,) = rescaled.sentences(found(), comparisons(), "sums", None)
    assert said == (
        f"{BEGINS} keeps 70% (40% to 80%) of the gain in mean accuracy on Sums, unscaled 50%"
        " (20% to 60%): that it keeps 99% is refuted here."
    )


def test_without_the_plain_direction_nothing_stands_beside_it():
    alone = {NAME: VARIANTS[NAME]}
    table = comparisons()
    (said,) = rescaled.sentences(found(alone), table[table["model"] == NAME], "sums", None)
    assert "on Sums: that it keeps 99% is refuted here." in said


@pytest.mark.parametrize("changes", [{"answer": UNANSWERED}, {"gain_kept_low": np.nan}])
def test_a_gain_that_is_not_there_is_not_kept(changes):
    said = rescaled.sentences(found(), comparisons(**changes), "sums", None)
    assert said == [f"{BEGINS}: what it keeps of the gain on Sums cannot be told here."]


def test_what_is_only_read_has_kept_no_gain():
    only_read = found(only_read=["rescaled"])
    assert rescaled.sentences(only_read, comparisons(), "sums", None) == []


@pytest.mark.parametrize(
    ("ends", "shown"), [((0.9, 0.95), " (90.0% \N{EN DASH} 95.0%)"), ((np.nan,) * 2, "")]
)
def test_the_share_of_the_way_is_said_where_it_was_read(ends, shown):
    rows = [(NAME, "recovered", 0.93, *ends), (NAME, "kl", 0.1, 0.1, 0.1),
            ("r1-copy", "recovered", 0.4, 0.3, 0.5)]  # fmt: skip
    figures = pd.DataFrame(rows, columns=["model", "metric", "value", "low", "high"])
    nothing = pd.DataFrame()
    distances = Distances(figures.assign(at=np.nan), nothing, nothing, {}, nothing)
    (said,) = rescaled.sentences(found(), comparisons(), "sums", distances)
    assert said.endswith(f"is refuted here. It goes 93.0%{shown} of the way.")
