"""A page is never drawn of samples that were made otherwise than it says, or not all alike."""

import json
import shutil

import pandas as pd
import pytest
from report_case import EXPERIMENT, FACTORS, results_of, variant

from lowrank.errors import InputError
from lowrank.report import consistency
from lowrank.report.evidence import gather
from lowrank.report.page import build


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results that agree; returns their folder."""
    return results_of(tmp_path_factory.mktemp("results")).parent


@pytest.fixture
def case(results, tmp_path):
    """The same to be changed."""
    return shutil.copytree(results, tmp_path / "case")


def check(results, **changes):
    consistency.check(gather(EXPERIMENT | changes, results))


def edit(results, model, group, key, value, part="1-of-2"):
    path = results / f"samples/sums/{model}/{part}.json"
    record = json.loads(path.read_text())
    record[group][key] = value
    path.write_text(json.dumps(record))


def test_results_that_agree_are_accepted(case):
    check(case)


def test_no_page_is_drawn_of_others(case):
    asked = case / "asked.json"
    asked.write_text(json.dumps(EXPERIMENT | {"seed": 3}))
    with pytest.raises(InputError, match=r"sampling\.seed is 0, the configuration says 3"):
        build(asked, case, case / "report")
    assert not (case / "report/report.html").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 1.0),
        ("top_p", 0.9),
        ("max_tokens", 49),
        ("max_model_len", 91),
        ("system", "Reason."),
        ("user", "{problem}!"),
        ("think_prefix", ""),
        ("device", "cuda"),
        ("compute_dtype", None),
        ("quantization", "fp8"),
        ("batch_invariant", True),
    ],
)
def test_another_configuration_than_the_samples_is_refused(case, key, value):
    named = rf"samples/sums/mid/1-of-2\.json: \w+\.{key} is "
    with pytest.raises(InputError, match=named) as error:
        check(case, sampling=EXPERIMENT["sampling"] | {key: value})
    assert "--forcerun sample" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("group", "key", "value", "said"),
    [
        ("sampling", "temperature", 0.7, r"temperature is 0\.7, the configuration says 0\.6"),
        ("engine", "dtype", "float32", "dtype is 'float32', the configuration says 'bfloat16'"),
        ("model", "sha256", "b" * 64, "sha256 is 'bbb.*, the model's manifest says"),
        ("part", "samples", 4, "samples is 4, the configuration says 8"),
        ("part", "parts", 3, "parts is 3, the configuration says 2"),
        ("engine", "versions", {"vllm": "1"}, r"engine\.versions differs.*mid.*vllm: 1 and 0"),
        ("prompt", "tokenizer_sha256", "a" * 64, r"prompt\.tokenizer_sha256 differs from that in"),
        ("prompt", "end_tokens", [2, 3], r"prompt\.end_tokens differs from that in"),
        ("prompt", "ids_sha256", {"p0": "b"}, r"prompts of sums differs from that in .*p0: b and"),
    ],
)
def test_one_table_made_otherwise_is_named(case, group, key, value, said):
    edit(case, "r8-copy", group, key, value, part="2-of-2")
    with pytest.raises(InputError, match=rf"samples/sums/r8-copy/2-of-2\.json: .*{said}"):
        check(case)


def test_another_adapter_than_the_one_that_was_served_is_refused(tmp_path):
    """A variant without an adapter was served without one; an unmerged one's files are known."""
    unmerged = EXPERIMENT["variants"] | {"r2-copy": variant(2, "copy", serve_as="adapter")}
    asked = {"variants": unmerged, "serve_as": ["adapter", "merged"]}
    results_of(tmp_path, EXPERIMENT | asked)
    check(tmp_path, **asked)
    path = tmp_path / "adapters/rl/r2/adapter.json"
    record = path.read_text()
    for digest in FACTORS.values():
        path.write_text(record.replace(digest, "d" * 64))
        named = (
            r"samples/sums/r2-copy/1-of-2\.json: model\.adapter_sha256 is .*the adapter's record"
        )
        with pytest.raises(InputError, match=named):
            check(tmp_path, **asked)
    path.write_text(record)
    edit(tmp_path, "r8-copy", "model", "adapter_sha256", "a" * 64)
    with pytest.raises(InputError, match=r"r8-copy/1-of-2\.json: .* adapter's record says None"):
        check(tmp_path, **asked)


def test_a_variant_is_served_in_its_own_dtype(tmp_path):
    more = {"r2-copy-float32": variant(2, "copy", dtype="float32")}
    asked = {"variants": EXPERIMENT["variants"] | more, "serve_dtype": ["bfloat16", "float32"]}
    results_of(tmp_path, EXPERIMENT | asked)
    check(tmp_path, **asked)
    edit(tmp_path, "r2-copy-float32", "engine", "dtype", "bfloat16")
    with pytest.raises(InputError, match="dtype is 'bfloat16', the configuration says 'float32'"):
        check(tmp_path, **asked)


def test_settings_of_one_model_are_its_own(case):
    for part in ("1-of-2", "2-of-2"):
        edit(case, "r8-copy", "engine", "quantization", "fp8", part)
    with pytest.raises(InputError, match=r"r8-copy/1-of-2.* is 'fp8', the configuration says None"):
        check(case)
    own = {"models": {"r8-*": {"quantization": "fp8"}}}
    named = r"samples/sums/r8-keep/1-of-2\.json: engine\.quantization is None, .* says 'fp8'"
    with pytest.raises(InputError, match=named) as error:
        check(case, sampling=EXPERIMENT["sampling"] | own)
    assert "r8-copy" not in str(error.value)


def test_versions_may_differ_where_that_was_asked_for(case):
    edit(case, "r8-copy", "engine", "versions", {"vllm": "1"})
    check(case, resample="never")


def test_metrics_of_other_votes_or_another_pool_are_refused(case):
    with pytest.raises(InputError, match=r"metrics/sums/mid\.csv: has pass@k for k of \[2, 4\]"):
        check(case, maj_k=[2, 3])
    path = case / "metrics/sums/new.csv"
    path.write_text(path.read_text().replace(",8\n", ",4\n"))
    with pytest.raises(InputError, match=r"metrics/sums/new\.csv: n_samples is \[4\]"):
        check(case)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("margin", 0.1, r"margin is 0\.1, the configuration says 0\.05"),
        ("seed", 1, "seed is 1, the configuration says 0"),
        ("ks", [2, 3], r"ks is \[2, 3\], the configuration says \[2, 4\]"),
        ("references", ["new", "mid"], "references is "),
        ("intersect", True, "intersect is True, the configuration says False"),
    ],
)
def test_comparisons_under_other_settings_are_refused(case, key, value, said):
    path = case / "comparisons/sums.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=rf"comparisons/sums\.csv: {said}.*--forcerun compare"):
        check(case)


def test_comparisons_of_other_models_are_refused(case):
    """Their tests were adjusted for another number of models."""
    variants = dict(EXPERIMENT["variants"])
    del variants["r8-keep"]
    with pytest.raises(InputError, match="has r8-keep, which the configuration does not ask for"):
        check(case, variants=variants)
    path = case / "comparisons/sums.json"
    record = json.loads(path.read_text())
    record["models"].remove("r2-keep")
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"sums\.csv: lacks r2-keep\. .*--forcerun compare"):
        check(case)


def test_comparisons_of_a_pool_are_held_against_the_grades_of_its_benchmarks(tmp_path):
    more = EXPERIMENT["benchmarks"] | {"more": EXPERIMENT["benchmarks"]["sums"]}
    pools = {"all": {"label": "All", "benchmarks": ["sums", "more"]}}
    results_of(tmp_path, EXPERIMENT | {"benchmarks": more, "pools": pools})
    check(tmp_path, benchmarks=more, pools=pools)
    record = tmp_path / "comparisons/all.json"
    said = json.loads(record.read_text())
    said["grades"]["more"]["mid"] = "0" * 64
    record.write_text(json.dumps(said))
    with pytest.raises(InputError, match=r"comparisons/all\.csv: .*grades/more/mid\.parquet"):
        check(tmp_path, benchmarks=more, pools=pools)


def test_comparisons_of_other_grades_or_changed_by_hand_are_refused(case):
    grades = case / "grades/sums/r8-copy.parquet"
    rows = pd.read_parquet(grades)
    rows["correct"] = False
    before = grades.read_bytes()
    rows.to_parquet(grades)
    with pytest.raises(
        InputError, match=r"made from other grades than .*r8-copy.*forcerun compare"
    ):
        check(case)
    grades.write_bytes(before)
    table = case / "comparisons/sums.csv"
    table.write_text(table.read_text().replace("cannot be answered here", "kept"))
    with pytest.raises(InputError, match=r"sums\.csv: is not the table that sums\.json"):
        check(case)


def test_many_differences_are_counted_not_listed(case):
    with pytest.raises(InputError, match="and 7 more") as error:
        check(case, seed=1)
    assert str(error.value).count("seed is 0, the configuration says 1") == 5
    for model in ("mid", "new", "r2-copy", "r8-copy"):
        for part in ("1-of-2", "2-of-2"):
            edit(case, model, "sampling", "seed", 1, part)
    with pytest.raises(InputError, match=r"says 1\. A page") as error:
        check(case, seed=1)
    assert str(error.value).count("seed is 0, the configuration says 1") == 4
