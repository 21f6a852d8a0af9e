"""Where the change lives: the sentences follow from the parts, and only parts that fit are read."""

import dataclasses
import json

import pandas as pd
import pytest
from distances_case import ASKED, make_divergences
from report_case import EXPERIMENT, SERVED, results_of

from lowrank.errors import InputError
from lowrank.files import write_json, write_table
from lowrank.report import located
from lowrank.report.evidence import gather, read_experiment

# (level, layer, module, kl_without, kl_with): the last of layer 1 does harm alone.
PARTS = [
    ("matrix", 0, "q_proj", 0.01, 0.30), ("matrix", 0, "up_proj", 0.05, 0.10),
    ("matrix", 1, "q_proj", 0.20, 0.25), ("matrix", 1, "up_proj", 0.02, 0.44),
    ("module", None, "q_proj", 0.30, 0.15), ("layer", 1, None, 0.35, 0.05),
    ("rest", None, None, 0.04, 0.38), ("whole", None, None, 0.40, 0.01),
]  # fmt: skip


def parts_of(rows=PARTS):
    table = pd.DataFrame(rows, columns=["level", "layer", "module", "kl_without", "kl_with"])
    table["recovered_with"] = 1 - table["kl_with"] / 0.4
    return table.astype({"layer": "Int64"}).assign(n_tokens=1234)


def test_the_sums_are_of_single_matrices_and_the_rest():
    """Not of modules and layers, whose matrices would be counted twice."""
    said = located.sentences(parts_of())
    assert "into 4 matrices and the rest (1,234 tokens read)" in said[0]
    assert "is the base, at 400 thousandths of a nat" in said[0]
    without = (0.01 + 0.05 + 0.2 + 0.02 + 0.04) / 0.4
    alone = (0.1 + 0.3 + 0.15 - 0.04 + 0.02) / 0.4
    assert f"one by one cause {without:.0%} of that in sum" in said[0]
    assert f"one by one they save {alone:.0%} in sum" in said[0]


def test_the_matrix_that_is_missed_most_is_not_the_one_that_goes_farthest():
    said = located.sentences(parts_of())[1]
    assert "missed most is q_proj of layer 1 (50% of the whole when it is taken out)" in said
    assert "alone goes farthest is up_proj of layer 0 (75.0% of the way)" in said


def test_what_has_no_layer_is_told_where_it_changed():
    said = located.sentences(parts_of())
    assert said[2] == "Embeddings, head, norms and biases alone go 5.0% of the way."
    assert len(located.sentences(parts_of([row for row in PARTS if row[0] != "rest"]))) == 2


def test_nothing_is_said_of_no_divergence():
    assert located.sentences(parts_of([(*row[:3], 0.0, 0.0) for row in PARTS])) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("located")
    results_of(folder, ASKED | {"locate": {"samples": 1, "tokens": 9}})
    where = make_divergences(folder) / "located"
    write_table(where / "locate.csv", parts_of())
    return folder


RECORD = {"reference": "r" * 64, "base_sha256": SERVED, "asked": {"samples": 1, "tokens": 9}}


def record(folder, **changes):
    write_json(folder / "divergence/sums/located/locate.json", RECORD | changes)
    return gather(read_experiment(folder / "experiment.json"), folder)


def test_parts_of_what_is_configured_are_read(folder):
    found = record(folder)
    read = located.gather(found, "sums")
    assert read["kl_with"].tolist() == parts_of()["kl_with"].tolist()
    without = dataclasses.replace(found, experiment=EXPERIMENT)
    assert located.gather(without, "sums") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": "q" * 64},
        {"base_sha256": "0" * 64},
        {"asked": {"samples": 2, "tokens": 9}},
        {"asked": None},
    ],
    ids=["text", "base", "extent", "nothing"],
)
def test_parts_of_something_else_are_refused(folder, changes):
    found = record(folder, **changes)
    with pytest.raises(InputError, match=r"located/locate\.json: is of other.*forcerun locate"):
        located.gather(found, "sums")


def test_a_record_without_an_entry_is_refused(folder):
    found = record(folder)
    path = folder / "divergence/sums/located/locate.json"
    path.write_text(json.dumps({k: v for k, v in RECORD.items() if k != "base_sha256"}))
    with pytest.raises(InputError, match=r"locate\.json: is of other text, of other weights"):
        located.gather(found, "sums")
