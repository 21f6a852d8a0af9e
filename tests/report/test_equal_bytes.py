"""The answer at equal bytes follows from the tables; what is only read has no accuracy."""

import re

import numpy as np
import pandas
import pytest
from distances_case import ASKED, SCALES, make_divergences
from report_case import results_of, variant

from lowrank.errors import InputError
from lowrank.files import write_table
from lowrank.report import equal_bytes, rescaled
from lowrank.report.outputs import outputs
from lowrank.report.page import build

READ = {"adapter": None}
OTHERS = {
    "sparse-r2-copy": variant(2, "copy", "sparse", **READ),
    "sparse-r8-copy": variant(8, "copy", "sparse", **READ),
    "quantised4-r2-copy": variant(2, "copy", "quantised4", **READ),
    "bitdelta-copy": variant(0, "copy", "bitdelta", **READ),
}
EXPERIMENT = ASKED | {
    "variants": ASKED["variants"] | OTHERS,
    "controls": [{"sparse": [2, 8]}, {"quantised4": [2]}, "bitdelta"],
    "descriptions": ["sparse", "quantised4", "bitdelta"],
    "only_read": ["sparse", "quantised4", "bitdelta"],
}
FAR = {"sparse-r2-copy": 0.6, "sparse-r8-copy": 0.3, "quantised4-r2-copy": 0.02,
       "bitdelta-copy": 0.15}  # fmt: skip
EQUAL = [("sparse-r2-copy", "r2-copy"), ("sparse-r8-copy", "r8-copy"),
         ("quantised4-r2-copy", "r2-copy")]  # fmt: skip
OWN = [("bitdelta-copy", "bitdelta", "copy")]


def sizes(folder, experiment=EXPERIMENT, left_out=()):
    """descriptions.parquet of both deltas: two matrices, of which the second misses twice."""
    at = {("lowrank", 2): (1000, 0.3), ("lowrank", 8): (4000, 0.1), ("sparse", 2): (990, 0.8),
          ("sparse", 8): (3990, 0.6), ("quantised4", 2): (980, 0.2),
          ("quantised4", 8): (3980, 0.05), ("bitdelta", 0): (1500, 0.6)}  # fmt: skip
    for number, delta in enumerate(experiment["deltas"]):
        rows = [
            {"tensor": f"t{matrix}", "layer": 0, "module": "q_proj", "description": kind,
             "rank": rank, "bytes": taken * (1 + matrix), "frobenius": 2.0,
             "error": (1 + matrix) * missed / (1 + number)}
            for (kind, rank), (taken, missed) in at.items() for matrix in (0, 1)
            if kind not in left_out
        ]  # fmt: skip
        write_table(folder / f"delta/{delta}/descriptions.parquet", pandas.DataFrame(rows))
    return folder / "delta/rl/descriptions.parquet"


def make(folder, experiment=EXPERIMENT):
    """Results and divergences of twelve problems: enough to tell five differences apart."""
    path = results_of(folder, experiment)
    taken = sizes(folder)
    make_divergences(folder, SCALES | FAR, problems=12, equal=EQUAL, own=OWN, sizes=taken)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    path = make(folder)
    build(path, folder, folder / "report")
    return folder


def text(page):
    return (page / "report/report.html").read_text()


def answer(page):
    return re.search(r'<div class="answer">.*?</div>', text(page), re.DOTALL)[0]


def number(words):
    return float(words.replace("\N{MINUS SIGN}", "-"))


def test_the_first_screen_says_what_the_contrasts_show(page):
    contrasts = pandas.read_csv(page / "divergence/sums/summary/contrasts.csv")
    here = contrasts[contrasts["question"] == "bytes"].set_index("model")
    # One bit an entry takes 4,500 bytes: as rank 2 (3,000), not as rank 8 (12,000).
    assert here["reference"].to_dict() == dict(EQUAL) | {"bitdelta-copy": "r2-copy"}
    assert (here["p_holm"] <= 0.05).all()
    said = answer(page)
    assert "the divergence on Sums, no: low rank in 4 bits (beside rank 2) is closer" in said
    farther = (
        "the largest changes alone (beside ranks 2 and 8) and one bit an entry (beside rank 2)"
    )
    assert f"{farther} are farther" in said
    found = re.search(
        r"the largest changes alone (\S+%) \((\S+%) . (\S+%)\), farther by (\S+) thousandths of"
        r" a nat \(difference (\S+), (\S+) . (\S+)\)", said,
    )  # fmt: skip
    line = here.loc["sparse-r2-copy"]
    for shown, value in zip(found.groups()[3:], line[["difference", "difference", "low", "high"]],
                            strict=True):  # fmt: skip
        assert number(shown) == pytest.approx(1000 * value, rel=6e-3)
    ours = pandas.read_csv(page / "divergence/sums/summary/metrics.csv")
    at = (ours["model"] == "sparse-r2-copy") & (ours["metric"] == "recovered")
    for shown, value in zip(found.groups()[:3], ours.loc[at, ["value", "low", "high"]].iloc[0],
                            strict=True):  # fmt: skip
        assert number(shown.rstrip("%")) == pytest.approx(100 * value, abs=0.06)
    assert "In the bytes of rank 2, 3 kB, low rank goes" in said
    assert "one bit an entry with its 4.5 kB" in said
    assert "rank 8, 12 kB" not in said
    assert "rank 8, 12 kB" in text(page)


def test_every_description_stands_in_the_table(page):
    section = text(page).split("At equal bytes, on Sums")[1]
    table = re.search(r"<tbody>.*?</tbody>", section, re.DOTALL)[0]
    rows = [
        re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall(r"<tr.*?</tr>", table)
    ]
    assert [row[0] for row in rows] == [
        "r = 2, copy", "r = 8, copy", "sparse, bytes of r = 2, copy",
        "sparse, bytes of r = 8, copy", "quantised4, bytes of r = 2, copy", "bitdelta, copy",
    ]  # fmt: skip
    assert [row[1] for row in rows] == ["3,000", "12,000", "2,970", "11,970", "2,940", "4,500"]
    # Halved, as the second delta's errors are: sqrt(0.3^2 + 0.6^2) / sqrt(2^2 + 2^2).
    assert rows[0][2] == f"{np.sqrt(0.45 / 8) / 2:.3g}"
    assert [row[7] == "\N{EN DASH}" for row in rows] == [False, False, True, True, True, True]


def test_every_delta_is_measured_in_weights(page):
    said = text(page)
    rl = "Of the change Middle one → New one is missed, as a share of its norm and by bytes"
    assert (
        f"{rl}: in those of rank 2 low rank in 4 bits 0.0791, low rank 0.119, the largest changes"
        in said
    )
    assert "in its own one bit an entry 0.237" in said
    assert "Of the change Old one → Middle one is missed" in said


def test_figures_are_promised_and_drawn(page):
    made = {p.relative_to(page / "report").as_posix() for p in (page / "report").rglob("*.*")}
    promised = outputs(["sums"], ["sft", "rl"], ["accuracy", "divergence", "descriptions"])
    assert {"figures/bytes-sums.svg", "figures/bytes-error.png"} <= set(promised) <= made
    svg = (page / "report/figures/bytes-sums.svg").read_text()
    for words in ("low rank", "one bit an entry", "low rank in 4 bits", "bytes (log scale)"):
        assert f">{words}<" in svg


def test_what_is_only_read_is_in_no_table_of_answers(page):
    results = pandas.read_csv(page / "report/tables/results.csv")
    assert not set(OTHERS) & set(results["model"])
    compared = pandas.read_csv(page / "report/tables/comparisons.csv")
    assert not set(OTHERS) & set(compared["model"])
    fidelity = pandas.read_csv(page / "report/tables/fidelity.csv")
    assert set(OTHERS) <= set(fidelity["variant"])


def rows_of(*shown):
    """Lines with these (difference, p)."""
    contrast = {"reference": "r2-copy", "low": -1.0, "high": 1.0}
    return [
        {"kind": "sparse", "contrast": contrast | {"difference": difference, "p_holm": p}}
        for difference, p in shown
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (rows_of((1.0, 0.01), (2.0, 0.04)),
         "yes: the largest changes alone (beside rank 2) is farther."),
        (rows_of((1.0, 0.01), (2.0, 0.06)),
         "farther; the largest changes alone (beside rank 2) is not told from it."),
        (rows_of((1.0, 0.01), (-2.0, 0.04)),
         "no: the largest changes alone (beside rank 2) is closer;"),
        ([{"contrast": None}], "Low rank was held against nothing of its own bytes on Sums."),
    ],
)  # fmt: skip
def test_the_answer_claims_what_the_tests_show(rows, said):
    class Found:
        experiment = EXPERIMENT

    assert said in equal_bytes.verdict(Found, rows, "sums")


def test_a_table_of_other_ranks_is_refused(tmp_path):
    path = make(tmp_path)
    sizes(tmp_path, left_out=("bitdelta",))
    with pytest.raises(InputError, match="has no bitdelta in the bytes of rank 0: make it again"):
        build(path, tmp_path, tmp_path / "report")


# One rescaled direction.


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.991, 1.2, "confirmed here"), (0.99, 1.0, "confirmed here"), (0.9, 0.989, "refuted here"),
     (0.9, 0.99, "left open by the interval"), (0.5, 1.5, "left open by the interval")],
)  # fmt: skip
def test_the_interval_judges_the_claim(low, high, said):
    line = pandas.Series({"gain_kept_low": low, "gain_kept_high": high})
    assert rescaled.judged(line) == said
