"""Other tools' files as tables of grades: what they hold, and the tool's own accuracy from it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from lowrank.errors import InputError
from lowrank.files import read_table
from lowrank.grading.foreign import final_answer
from lowrank.grading.importing import import_files
from lowrank.pools import pools

ROOT = Path(__file__).parents[2]
AVG = "avg@n:n=4"


# --- files as the tools write them --------------------------------------------------------------


def detail(number: int, gold: str, texts: list[str], **metric: float) -> dict:
    """A row of lighteval's details."""
    doc = {"query": f"Solve {number}", "choices": [gold], "gold_index": 0, "id": str(number),
           "task_name": "aime24|0", "instruction": None}  # fmt: skip
    response = {"input": "..", "text": texts, "text_post_processed": None, "logprobs": []}
    return {"doc": doc, "model_response": response, "metric": metric}


def lighteval(folder: Path, *rows: dict) -> str:
    path = folder / "details_aime24_2026.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return str(path)


def document(number: int, gold: str, texts: list[str], kept: str | list, score: float, **more):
    """A line of lm-evaluation-harness's samples."""
    return {
        "doc_id": number, "doc": {"question": "?"}, "target": gold,
        "arguments": {"gen_args_0": {"arg_0": f"Solve {number}", "arg_1": {"until": []}}},
        "resps": [texts], "filtered_resps": [kept], "filter": "none",
        "metrics": ["exact_match"], "exact_match": score, **more,
    }  # fmt: skip


def lm_eval(folder: Path, *rows: dict, name: str = "samples_aime24_2026.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sample(name: str | int, epoch: int, gold: str, text: str, **scores: tuple) -> dict:
    """A sample of an inspect_ai log; scores: scorer -> (value, answer)."""
    message = {"role": "assistant", "content": text}
    return {
        "id": name, "epoch": epoch, "input": f"Solve {name}", "target": gold, "metadata": {},
        "output": {"model": "m", "choices": [{"message": message}], "completion": text},
        "scores": {scorer: {"value": v, "answer": a} for scorer, (v, a) in scores.items()},
        "attachments": {},
    }  # fmt: skip


def inspect(folder: Path, accuracy: float, *samples: dict, archive: bool = False) -> str:
    path = folder / ("log.eval" if archive else "log.json")
    metric = {"accuracy": {"name": "accuracy", "value": accuracy}}
    results = {"scores": [{"name": "match", "scorer": "match", "metrics": metric}]}
    header = {"version": 2, "status": "success", "eval": {}, "results": results}
    if not archive:
        path.write_text(json.dumps(header | {"samples": list(samples)}))
        return str(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as log:
        log.writestr("header.json", json.dumps(header))
        log.writestr("summaries.json", "[]")
        for each in samples:
            name = f"samples/{each['id']}_epoch_{each['epoch']}.json"
            log.writestr(name, json.dumps(each))
    return str(path)


def read(folder: Path, form: str, *inputs: str, **options) -> pandas.DataFrame:
    output = folder / "grades.parquet"
    import_files(inputs, form, str(output), **options)
    return read_table(output)


def accuracy(table: pandas.DataFrame) -> float:
    whole = pools(table)
    return sum(pool.correct.mean() for pool in whole) / len(whole)


# --- lighteval ----------------------------------------------------------------------------------


def test_lightevals_average_of_samples_is_reproduced(tmp_path):
    rows = [
        detail(0, "2", [r"so \boxed{2}", r"\boxed{3}", r"\boxed{2}", r"\boxed{02}"], **{AVG: 0.75}),
        detail(1, "1/2", [r"\boxed{\frac12}", r"\boxed{3}", r"\boxed{0.5}", "a\nb"], **{AVG: 0.5}),
        detail(2, "7", [r"\boxed{8}", r"\boxed{9}", r"\boxed{8}", "no\nbox"], **{AVG: 0.0}),
    ]
    table = read(tmp_path, "lighteval", lighteval(tmp_path, *rows))
    assert accuracy(table) == pytest.approx((0.75 + 0.5 + 0) / 3)
    assert table["problem_id"].tolist() == [*"000011112222"]
    assert table["sample"].tolist() == [0, 1, 2, 3] * 3
    assert table["correct"].tolist()[4:8] == [True, False, True, False]
    assert table["answer"].tolist()[4:7] == ["1/2", "3", "1/2"]
    third = pools(table)[2]
    assert (third.votes, third.silent) == ([2, 1], 1)


def test_an_average_that_says_not_which_are_right_is_refused_where_we_count_others(tmp_path):
    path = lighteval(tmp_path, detail(5, "2", [r"\boxed{2}", "x\n2", "a\n", "b\n"], **{AVG: 0.5}))
    with pytest.raises(InputError, match=r"5 \(2 of 4, here 1\).*--ungraded.*grade\.py"):
        read(tmp_path, "lighteval", path)
    table = read(tmp_path, "lighteval", path, ungraded=True)
    assert list(table) == ["problem_id", "sample", "completion"]
    assert len(table) == 4


def test_lightevals_older_details_are_read(tmp_path):
    row = {"example": "?", "predictions": r"['so \\boxed{2}']", "gold": "['2']",
           "metrics": {"extractive_match": 1.0}}  # fmt: skip
    table = read(tmp_path, "lighteval", lighteval(tmp_path, row))
    assert table[["answer", "correct"]].values.tolist() == [["2", True]]


def test_a_metric_that_is_no_verdict_is_named(tmp_path):
    two = {"maj@n:n=4": 1.0, "g-pass@k": 0.5}
    path = lighteval(tmp_path, detail(0, "2", [r"\boxed{2}"] * 4, **two))
    with pytest.raises(InputError, match=r"holds the metrics .*maj@n:n=4.*--metric"):
        read(tmp_path, "lighteval", path)
    path = lighteval(tmp_path, detail(0, "2", [r"\boxed{2}"], bleu=0.3))
    with pytest.raises(InputError, match=r"problem 0: bleu is 0.3 over 1 completions"):
        read(tmp_path, "lighteval", path)


# --- lm-evaluation-harness ----------------------------------------------------------------------


def test_lm_evals_exact_match_is_reproduced(tmp_path):
    rows = [
        document(0, "2", ["The answer is 2."], "2", 1.0),
        document(1, "He has 5.\n#### 5", ["I\nsay 6"], "6", 0.0),
        document(2, "8", ["Nothing\nfound"], "[invalid]", 0.0),
        document(3, "9", ["long\n" + r"\boxed{9}"], "long\n" + r"\boxed{9}", 1.0),
    ]
    table = read(tmp_path, "lm-eval", lm_eval(tmp_path, *rows))
    assert accuracy(table) == 0.5
    assert table["answer"].tolist() == ["2", "6", None, "9"]


def test_one_filter_is_read(tmp_path):
    rows = [
        document(0, "2", ["2 it is"], "[invalid]", 0.0, filter="strict-match"),
        document(0, "2", ["2 it is"], "2", 1.0, filter="flexible-extract"),
    ]
    path = lm_eval(tmp_path, *rows)
    with pytest.raises(InputError, match=r"strict-match, flexible-extract; name one with --filter"):
        read(tmp_path, "lm-eval", path)
    assert accuracy(read(tmp_path, "lm-eval", path, filter_name="strict-match")) == 0.0
    assert accuracy(read(tmp_path, "lm-eval", path, filter_name="flexible-extract")) == 1.0


def test_log_likelihoods_are_no_completions(tmp_path):
    row = document(0, "1", [], "", 1.0) | {
        "resps": [[["-1.5", "False"]], [["-0.5", "True"]]],
        "filtered_resps": [["-1.5", "False"], ["-0.5", "True"]],
    }
    with pytest.raises(InputError, match="log-likelihoods of given answers, no completions"):
        read(tmp_path, "lm-eval", lm_eval(tmp_path, row))


def test_several_files_are_one_pool(tmp_path):
    first = lm_eval(tmp_path, document(0, "2", ["2"], "2", 1.0), name="a.jsonl")
    second = lm_eval(tmp_path, document(0, "2", ["3"], "3", 0.0), name="b.jsonl")
    table = read(tmp_path, "lm-eval", first, second)
    assert table[["sample", "correct"]].values.tolist() == [[0, True], [1, False]]
    with pytest.raises(InputError, match="names a file twice"):
        read(tmp_path, "lm-eval", first, first)
    other = lm_eval(tmp_path, document(0, "7", ["7"], "7", 1.0), name="c.jsonl")
    with pytest.raises(InputError, match=r"problem 0 has the answers '2' and '7'.*several tasks"):
        read(tmp_path, "lm-eval", first, other)


def test_a_file_goes_on_after_all_samples_of_the_one_before(tmp_path):
    paths = []
    for name, score, text in (("a", 1.0, r"\boxed{2}"), ("b", 0.0, r"\boxed{3}")):
        (tmp_path / name).mkdir()
        paths.append(lighteval(tmp_path / name, detail(0, "2", [text] * 4, **{AVG: score})))
    table = read(tmp_path, "lighteval", *paths)
    assert table["sample"].tolist() == list(range(8))
    assert table["correct"].tolist() == [True] * 4 + [False] * 4
    other = detail(0, "2", [r"\boxed{2}"] * 4, **{AVG: 1.0})
    other["doc"]["task_name"] = "aime25|0"
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match=r"aime24\|0 aime25\|0.*several tasks"):
        read(tmp_path, "lighteval", paths[0], lighteval(tmp_path / "c", other))


def test_a_doubled_file_is_refused(tmp_path):
    """The tool appends where the file is there already."""
    row = document(0, "2", ["2"], "2", 1.0)
    with pytest.raises(InputError, match=r"more than once in a file: 0#0"):
        read(tmp_path, "lm-eval", lm_eval(tmp_path, row, row))


def test_repeats_that_a_filter_joins_are_written_ungraded(tmp_path, capsys):
    path = lm_eval(tmp_path, document(0, "2", ["so 2", "so 3", "2!"], "2", 1.0))
    assert len(read(tmp_path, "lm-eval", path)) == 1
    assert "judges one answer, though more was sampled" in capsys.readouterr().err
    assert len(read(tmp_path, "lm-eval", path, ungraded=True)) == 3


# --- inspect_ai ---------------------------------------------------------------------------------


@pytest.mark.parametrize("archive", [False, True])
def test_inspects_accuracy_is_reproduced(tmp_path, archive):
    samples = [
        sample("a1", 1, "2", "It is 2", match=("C", "2")),
        sample("a1", 2, "2", "no", match=("I", "")),
        sample(7, 1, "5", "It is 3", match=("I", "3")),
        sample(7, 2, "5", "long\nANSWER: 5", match=(1, None)),
    ]
    path = inspect(tmp_path, 0.5, *samples, archive=archive)
    table = read(tmp_path, "inspect", path).sort_values(["problem_id", "sample"])
    assert accuracy(table) == 0.5
    assert table["answer"].tolist() == ["3", "5", "2", None]


def test_epochs_are_samples_from_nought(tmp_path):
    samples = [sample("a", epoch, "2", "x", match=("C", "2")) for epoch in (1, 2)]
    assert read(tmp_path, "inspect", inspect(tmp_path, 1.0, *samples))["sample"].tolist() == [0, 1]


def test_an_accuracy_that_does_not_follow_is_refused(tmp_path):
    path = inspect(tmp_path, 0.9, sample("a", 1, "2", "2", match=("C", "2")))
    with pytest.raises(InputError, match=r"accuracy is 0.900000, but .* give 1.000000"):
        read(tmp_path, "inspect", path)


def test_what_is_not_scored_is_left_out_and_said(tmp_path, capsys):
    failed = sample("b", 1, "2", "") | {"scores": {}, "error": {"message": "timeout"}}
    unscored = sample("c", 1, "2", "2", match=(float("nan"), None))
    path = inspect(tmp_path, 1.0, sample("a", 1, "2", "2", match=("C", "2")), failed, unscored)
    assert len(read(tmp_path, "inspect", path)) == 1
    assert "2 of 3 samples have no score" in capsys.readouterr().err


def test_long_texts_and_unfinished_logs(tmp_path, capsys):
    long = sample("a", 1, "2", "attachment://abc", match=("I", None))
    long["attachments"] = {"abc": "long\n" + r"\boxed{3}"}
    path = inspect(tmp_path, 0.0, long)
    Path(path).write_text(Path(path).read_text().replace("success", "cancelled"))
    assert read(tmp_path, "inspect", path)["answer"].tolist() == ["3"]
    assert "the log's status is 'cancelled'" in capsys.readouterr().err
    with pytest.raises(InputError, match="only lm-eval has filters"):
        read(tmp_path, "inspect", path, filter_name="none")


def test_partial_credit_is_no_verdict(tmp_path):
    path = inspect(tmp_path, 0.5, sample("a", 1, "2", "2", match=("P", "2")))
    with pytest.raises(InputError, match=r"problem a: match is 0.5 over 1 completions"):
        read(tmp_path, "inspect", path)


def test_a_scorer_is_chosen(tmp_path):
    path = inspect(
        tmp_path, 1.0, sample("a", 1, "2", "2", match=("C", "2"), model_graded=("I", "2"))
    )
    with pytest.raises(InputError, match=r"scorers match, model_graded; name one"):
        read(tmp_path, "inspect", path)
    table = read(tmp_path, "inspect", path, metric="model_graded")
    assert table[["answer", "correct"]].values.tolist() == [[None, False]]  # it reads as the gold


# --- all of them --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{2}", "2"),
        (r" 7 ", "7"),
        ("so\nit is 7", None),
        ("so\n" + r"\boxed{7}", "7"),
        (" \n", None),
        (None, None),
    ],
)
def test_a_box_or_a_single_line_is_an_answer(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize("form", ["lighteval", "lm-eval", "inspect"])
def test_a_file_of_another_form_is_refused(tmp_path, form):
    path = tmp_path / "x.json"
    path.write_text('{"some": "thing"}\n')
    with pytest.raises(InputError, match=f"x.json: not as {form} writes it"):
        read(tmp_path, form, str(path))


def test_two_tools_are_compared_and_graded_again(tmp_path):
    """From the files to comparisons, by the programs alone."""
    theirs = [document(i, "4", [f"so\n\\boxed{{{4 + i % 2}}}"], "x", 1.0 - i % 2) for i in range(8)]
    for row in theirs:
        row["filtered_resps"] = [row["resps"][0][0]]
    mine = [sample(i, 1, "4", r"\boxed{4}", match=("C", "4")) for i in range(8)]

    def run(script: str, *options: str | Path) -> None:
        command = [sys.executable, ROOT / "scripts" / script, *options]
        subprocess.run(command, check=True, capture_output=True)

    one, two = lm_eval(tmp_path, *theirs), inspect(tmp_path, 1.0, *mine)
    tables = tmp_path / "one.parquet", tmp_path / "two.parquet"
    run("import_grades.py", "--format", "lm-eval", "--input", one, "--output", tables[0],
        "--problems", tmp_path / "problems.parquet")  # fmt: skip
    run("import_grades.py", "--format", "inspect", "--input", two, "--output", tables[1])
    run("compare.py", "--benchmark", "b", f"one={tables[0]}", f"two={tables[1]}", "--k", "1",
        "--references", "two", "--output", tmp_path / "compared.csv")  # fmt: skip
    compared = pandas.read_csv(tmp_path / "compared.csv").set_index(["model", "metric"])
    assert compared.loc[("one", "mean"), "difference"] == -0.5
    run("grade.py", "--samples", tables[0], "--problems", tmp_path / "problems.parquet",
        "--output", tmp_path / "again.parquet")  # fmt: skip
    again = read_table(tmp_path / "again.parquet")
    assert (again["correct"] == again["samples_correct"]).all()
