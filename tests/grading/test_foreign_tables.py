"""Tables of grades and problems from elsewhere: read as they are meant, or refused with the row."""

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from lowrank.errors import InputError
from lowrank.files import cell_text, read_table
from lowrank.metrics.estimates import model_metrics
from lowrank.models.problems import uniform
from lowrank.pools import matched, pools

ROOT = Path(__file__).parents[2]
LONG = ["12345678901234567", "12345678901234568"]  # one number as floats


def stored(folder: Path, suffix: str, answers: list, correct: list) -> pandas.DataFrame:
    """Grades of one problem, written as others would write them and read back."""
    path = folder / f"grades{suffix}"
    if suffix == ".csv":
        cells = ["" if answer is None else answer for answer in answers]
        lines = [f"007,{i},{a},{c}" for i, (a, c) in enumerate(zip(cells, correct, strict=True))]
        path.write_text("\n".join(["problem_id,sample,answer,correct", *lines]) + "\n")
    else:
        rows = [
            {"problem_id": "007", "sample": i, "answer": a, "correct": c}
            for i, (a, c) in enumerate(zip(answers, correct, strict=True))
        ]
        if suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pandas.DataFrame(rows).to_parquet(path)
    return read_table(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_answer_is_text_and_only_an_empty_cell_is_none(tmp_path, suffix):
    answers = ["NA", "null", "nan", "None", "025", "25", "1e3", None]
    (pool,) = pools(stored(tmp_path, suffix, answers, [False] * 8))
    assert pool.problem_id == "007"
    assert (pool.classes >= 0).tolist() == [True] * 7 + [False]
    assert len(set(pool.classes)) == 8


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_long_numbers_beside_an_empty_cell_stay_apart(tmp_path, suffix):
    answers = [*(map(int, LONG) if suffix == ".jsonl" else LONG), None]
    (pool,) = pools(stored(tmp_path, suffix, answers, [True, False, False]))
    assert pool.classes.tolist() == [0, 1, -1]


def test_long_numbers_in_parquet_beside_a_null_stay_apart(tmp_path):
    table = pandas.DataFrame({"problem_id": ["7"] * 3, "sample": range(3), "correct": False})
    table["answer"] = pandas.array([*map(int, LONG), None], dtype="Int64")
    table.to_parquet(tmp_path / "g.parquet")
    (pool,) = pools(read_table(tmp_path / "g.parquet"))
    assert pool.classes.tolist() == [0, 1, -1]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    "correct",
    [["True", "False", "false", "TRUE"], [1, 0, 0, 1], [1.0, 0.0, 0.0, 1.0], ["1", "0", "0", "1"]],
)
def test_correct_is_true_false_0_or_1(tmp_path, suffix, correct):
    (pool,) = pools(stored(tmp_path, suffix, ["a", "b", "b", "a"], correct))
    assert pool.correct.tolist() == [True, False, False, True]


@pytest.mark.parametrize("wrong", [-1, 0.5, "yes", None, 2])
def test_any_other_verdict_is_refused_with_its_row(wrong):
    table = pandas.DataFrame({"problem_id": "p", "sample": range(3), "answer": "b"})
    table["correct"] = pandas.Series([False, False, wrong], dtype=object)
    with pytest.raises(InputError, match=r"`correct` of p#2 is .*true, false, 0 or 1"):
        pools(table)


def test_an_answer_that_is_no_text_is_refused_with_its_row():
    table = pandas.DataFrame({"problem_id": "p", "sample": range(2), "correct": False})
    table["answer"] = pandas.Series(["1", [1, 2]], dtype=object)
    with pytest.raises(InputError, match=r"`answer` of p#1 is a list of 2 values"):
        pools(table)


def test_what_all_have_is_whole_pools():
    """As the error promises after one completion is missing."""
    rows = [(p, s, "1", True) for p in "abc" for s in range(4)]
    whole = pandas.DataFrame(rows, columns=["problem_id", "sample", "answer", "correct"])
    short = whole.drop(index=5)  # b#1
    with pytest.raises(InputError, match=r"two lacks b#1; .*--intersect"):
        matched({"one": whole, "two": short})
    kept = matched({"one": whole, "two": short}, intersect=True)
    for table in kept.values():
        assert sorted(set(table["sample"])) == [0, 2, 3]
        assert [len(pool.classes) for pool in pools(table)] == [3, 3, 3]
    assert len(pools(matched({"two": short}, intersect=True)["two"])) == 3
    with pytest.raises(InputError, match="no sample number"):
        matched({"one": whole.query("sample < 2"), "two": whole.query("sample >= 2")}, True)
    with pytest.raises(InputError, match="no problem in common"):
        matched({"one": whole.query("problem_id == 'a'"), "two": whole.iloc[4:]}, True)


def test_no_draws_are_refused(tmp_path):
    command = [sys.executable, ROOT / "scripts/metrics.py", "--grades", "a=a.parquet"]
    command += ["--repeats", "0", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--repeats 0" in done.stderr


def test_a_problems_answer_is_one_text_or_number():
    assert [cell_text(value) for value in (142.0, 0.5, 7, "025", [3], None, float("nan"), "")] == [
        *["142", "0.5", "7", "025", "3", None, None, None]
    ]
    source = pandas.DataFrame({"id": ["x"], "problem": ["?"], "answer": [[1, 2]]})
    with pytest.raises(InputError, match="there: answer of problem x is a list of 2 values"):
        uniform(source, "there")


def test_named_columns_of_a_csv_are_text(tmp_path):
    (tmp_path / "p.csv").write_text("number,question,gold\n01,?,025\n02,?,NA\n")
    table = read_table(tmp_path / "p.csv", ["number", "gold"])
    made = uniform(table, "p.csv", "question", "gold", "number")
    assert made["answer"].tolist() == ["025", "NA"]
    assert made["problem_id"].tolist() == ["01", "02"]


ROWS = [
    {"problem_id": "007", "sample": s, "answer": a, "correct": s == 0}
    for s, a in enumerate(["25", "NA", None])
]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_a_byte_order_mark_is_no_part_of_a_table(tmp_path, suffix):
    table = pandas.DataFrame(ROWS)
    text = {
        ".csv": table.to_csv(index=False),
        ".json": json.dumps(ROWS),
        ".jsonl": "".join(json.dumps(row) + "\r\n" for row in ROWS),
    }[suffix]
    (tmp_path / f"g{suffix}").write_text(text, encoding="utf-8-sig")
    (pool,) = pools(read_table(tmp_path / f"g{suffix}"))
    assert (pool.problem_id, pool.classes.tolist()) == ("007", [0, 1, -1])


def test_a_suffix_that_lies(tmp_path):
    """Content that says what it is is read; the rest is refused in a sentence."""
    rows = pandas.DataFrame(ROWS)
    rows.to_parquet(tmp_path / "parquet.csv")
    (tmp_path / "lines.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "list.jsonl").write_text(json.dumps(ROWS, indent=1))
    rows.to_csv(tmp_path / "UPPER.CSV", index=False)
    for name in ("parquet.csv", "lines.json", "list.jsonl", "UPPER.CSV"):
        assert len(pools(read_table(tmp_path / name))) == 1
    rows.to_csv(tmp_path / "csv.parquet", index=False)
    rows.to_csv(tmp_path / "csv.jsonl", index=False)
    (tmp_path / "numbers.json").write_text("[1, 2]")
    (tmp_path / "nothing.jsonl").write_text("")
    for name in ("csv.parquet", "csv.jsonl", "numbers.json", "nothing.jsonl"):
        with pytest.raises(InputError, match=f"{name}: not a readable"):
            read_table(tmp_path / name)


@pytest.mark.parametrize("numbers", [[0, 1, 2], [0.0, 1.0, 2.0], ["0", "1", "2"], ["0", 1, 2.0]])
def test_sample_numbers_are_whole_however_they_are_stored(numbers):
    table = pandas.DataFrame(ROWS).assign(sample=pandas.Series(numbers, dtype=object))
    other = pandas.DataFrame(ROWS)
    kept = matched({"one": table, "two": other})
    assert kept["one"]["sample"].tolist() == kept["two"]["sample"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("wrong", [None, float("nan"), float("inf"), 0.5, "x"])
def test_any_other_sample_number_is_refused_with_its_row(wrong):
    table = pandas.DataFrame(ROWS)
    table["sample"] = pandas.Series([0, 1, wrong], dtype=object)
    with pytest.raises(InputError, match=r"`sample` is .* in row 2"):
        pools(table)


@pytest.mark.parametrize("wrong", [None, float("nan"), pandas.NA, ""])
def test_a_row_of_no_problem_is_refused(wrong):
    table = pandas.DataFrame(ROWS)
    table["problem_id"] = pandas.Series(["a", "a", wrong], dtype=object)
    with pytest.raises(InputError, match="row 2 has no problem_id"):
        pools(table)


def test_ids_and_answers_of_other_types(tmp_path):
    """Categories (as other tools store repeated text) and numbers are the text they stand for."""
    table = pandas.DataFrame(ROWS).astype({"problem_id": "category", "answer": "category"})
    table.to_parquet(tmp_path / "g.parquet")
    (pool,) = pools(read_table(tmp_path / "g.parquet"))
    assert (pool.problem_id, pool.classes.tolist()) == ("007", [0, 1, -1])
    (pool,) = pools(pandas.DataFrame(ROWS).assign(problem_id=7.0, answer=[1.0, 2.0, None]))
    assert (pool.problem_id, pool.classes.tolist()) == ("7", [0, 1, -1])


def test_lengths_that_are_no_numbers_are_refused():
    table = pandas.DataFrame(ROWS).assign(completion_tokens=["5", "NA", None])
    with pytest.raises(InputError, match="`completion_tokens` holds 'NA'"):
        model_metrics(table, "m", "b", [1])
