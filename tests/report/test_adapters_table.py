"""The page's table of models that are adapters follows from their own tables."""

from dataclasses import replace

import pandas
import pytest
from report_case import EXPERIMENT, results_of

from lowrank.files import read_json, write_json
from lowrank.report import adapters, provenance
from lowrank.report.cells import DASH
from lowrank.report.evidence import gather, read_experiment

ROWS = {
    "tensor": ["model.layers.0.x.q_proj.weight", "model.layers.1.x.q_proj.weight"],
    "r": [4, 2], "alpha": [8.0, 8.0], "scale": [2.0, 4.0], "dora": [True, True],
    "base_norm": [30.0, 40.0], "ba_norm": [0.6, 0.8], "ba_stable_rank": [1.5, 1.75],
    "change_norm": [1.2, 1.6], "change_relative": [0.04, 0.04], "change_stable_rank": [7.5, 9.5],
}  # fmt: skip


@pytest.fixture
def found(tmp_path):
    """The toy experiment, its derivative an adapter on its base."""
    source = {"repo": "lab/dora", "revision": "c" * 40, "subfolder": "checkpoint-9"}
    new = {"label": "New one", "adapter": source, "on": "mid"}
    experiment = EXPERIMENT | {"models": EXPERIMENT["models"] | {"new": new}}
    file = results_of(tmp_path, experiment)
    folder = tmp_path / "models/new"
    manifest = read_json(folder / "manifest.json")
    whole = ["lm_head.weight", "model.layers.0.x.q_proj.bias", "model.layers.1.x.q_proj.bias"]
    manifest["source"] = {"adapter": {"source": source}, "base": {}, "whole": whole}
    write_json(folder / "manifest.json", manifest)
    pandas.DataFrame(ROWS).to_csv(folder / "adapter.csv", index=False)
    return gather(read_experiment(file), tmp_path)


def test_a_row_says_how_large_both_changes_are(found):
    table = adapters.content(found)["table"]
    (row,) = table["rows"]
    assert [cell["text"] for cell in row["cells"]] == [
        "New one", "Middle one", "DoRA", f"2 {DASH} 4", "8", f"2 {DASH} 4", "1.00", "1.62", "2.00",
        "4.0%", "8.50", "2", "q_proj", "lm_head and q_proj.bias",
    ]  # fmt: skip
    assert [group["name"] for group in table["groups"]] == ["", "sBA", "merged change D", ""]


def test_a_lora_is_called_so_and_zeros_have_no_ratio(found):
    table = pandas.DataFrame(ROWS).assign(dora=False, base_norm=0.0)
    (row,) = adapters.content(replace(found, adapted={"new": table}))["table"]["rows"]
    assert [row["cells"][place]["text"] for place in (2, 9)] == ["LoRA", DASH]


def test_without_adapters_there_is_no_table(tmp_path):
    found = gather(read_experiment(results_of(tmp_path)), tmp_path)
    assert found.adapted == {}
    assert adapters.content(found) is None


def test_provenance_says_on_what_and_from_where(found):
    rows = provenance.provenance(found)["models"]["rows"]
    origins = {row["cells"][0]["text"]: row["cells"][1]["text"] for row in rows}
    assert origins["New one"] == f"Middle one + lab/dora @ {'c' * 12} checkpoint-9"
