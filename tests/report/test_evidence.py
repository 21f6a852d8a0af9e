"""What the report reads is what its experiment names, each by its own name."""

import copy
import json

import pandas as pd
import pytest
from report_case import EXPERIMENT, FACTORS, SERVED, make_results, results_of, variant

from lowrank.errors import InputError
from lowrank.files import read_json, write_json
from lowrank.report.evidence import gather, read_experiment, table
from lowrank.sampling.store import served_digest

FORMS = {
    "serve_dtype": ["bfloat16", "float32"],
    "serve_as": ["merged", "adapter"],
    "controls": ["other", "random", {"sparse": [2]}],
    "variants": EXPERIMENT["variants"]
    | {
        "r2-copy-float32": variant(2, "copy", dtype="float32"),
        "r2-copy-adapter": variant(2, "copy", serve_as="adapter"),
        "r0-copy": variant(0, "copy", "other"),
        "random-r2-copy": variant(2, "copy", "random"),
        "sparse-r2-copy": variant(2, "copy", "sparse", adapter=None),
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Evidence of variants in two dtypes, served in two ways, and of controls."""
    folder = tmp_path_factory.mktemp("forms")
    results_of(folder, EXPERIMENT | FORMS)
    record = folder / "samples/sums/r8-keep/2-of-2.json"
    said = read_json(record)
    said["engine"]["compute_dtype"] = "bfloat16"
    write_json(record, said)
    return gather(read_experiment(folder / "experiment.json"), folder)


def test_every_model_has_a_label_of_its_own(found):
    wanted = {
        "mid": "Middle one", "r2-copy": "r = 2, copy", "r8-keep": "r = 8, keep",
        "r2-copy-float32": "r = 2, copy, float32", "r2-copy-adapter": "r = 2, copy, adapter",
        "r0-copy": "r = 0, copy", "random-r2-copy": "random, r = 2, copy",
        "sparse-r2-copy": "sparse, bytes of r = 2, copy",
    }  # fmt: skip
    assert {name: found.label(name) for name in wanted} == wanted
    assert found.delta_label("rl") == "Middle one → New one"
    assert len({found.label(name) for name in found.read}) == len(found.read)


def test_the_answer_is_about_the_first_form_and_controls_are_apart(found):
    assert list(found.lowrank) == list(EXPERIMENT["variants"])
    assert list(found.controls) == ["r0-copy", "random-r2-copy", "sparse-r2-copy"]


def test_what_is_served_beside_a_model_is_known_of_an_adapter_alone(found):
    adapter = {"adapter_sha256": served_digest(FACTORS)}
    assert found.served("r2-copy-adapter") == {"sha256": SERVED, **adapter}
    for model in ("mid", "r2-copy", "r0-copy"):
        assert found.served(model) == {"sha256": SERVED, "adapter_sha256": None}


def test_every_dtype_that_was_computed_in_is_named_once(found):
    assert found.computed_in == ["float32", "bfloat16"]


def test_every_part_and_benchmark_is_read(tmp_path):
    experiment = copy.deepcopy(EXPERIMENT)
    experiment["benchmarks"]["more"] = experiment["benchmarks"]["sums"] | {"label": "More"}
    results_of(tmp_path, experiment)
    found = gather(experiment, tmp_path)
    models = [*EXPERIMENT["references"], *EXPERIMENT["variants"]]
    pairs = [(benchmark, model) for benchmark in ("sums", "more") for model in models]
    assert list(found.provenance) == list(found.grades) == list(found.distinct) == pairs
    assert all(len(records) == 2 for records in found.provenance.values())
    order = found.metrics[["benchmark", "model"]].drop_duplicates()
    assert list(order.itertuples(index=False, name=None)) == pairs
    # Texts are the same only within a problem: right answers differ, wrong ones may not.
    for benchmark, model in pairs:
        samples = pd.concat(
            pd.read_parquet(tmp_path / f"samples/{benchmark}/{model}/{part}-of-2.parquet")
            for part in (1, 2)
        )
        texts = {(row.problem_id, row.completion) for row in samples.itertuples()}
        assert found.distinct[benchmark, model] == len(texts)


def test_two_models_of_one_label_are_refused(tmp_path):
    experiment = copy.deepcopy(EXPERIMENT)
    experiment["models"]["old"]["label"] = "New one"
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(experiment))
    with pytest.raises(InputError, match=r"experiment\.json: two models have the label 'New one'"):
        read_experiment(path)


def test_names_of_models_are_text_whatever_they_look_like(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("model,benchmark,reference,value\n0123,2024,1e3,0.5\n")
    read = table(path, ("model", "value"))
    assert read[["model", "benchmark", "reference"]].iloc[0].tolist() == ["0123", "2024", "1e3"]
    with pytest.raises(InputError, match=r"table\.csv: lacks the column low, high; it has model,"):
        table(path, ("low", "value", "high"))


def test_without_answers_there_are_empty_tables_with_their_columns(tmp_path):
    read_only = EXPERIMENT | {
        "only_read": ["lowrank"], "divergence": {"samples": 4, "tokens": 50},
    }  # fmt: skip
    make_results(tmp_path, read_only)
    found = gather(read_only, tmp_path)
    assert not found.accuracy
    assert found.answering == []
    assert found.metrics.empty
    assert {"model", "traces_low"} <= set(found.metrics.columns)
    assert {"benchmark", "p_holm"} <= set(found.comparisons.columns)
    assert (found.grades, found.comparison_records) == ({}, {})
