"""Problem sets from every accepted form into one."""

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from lowrank.errors import InputError
from lowrank.models.problems import text, uniform, write_benchmark

PROGRAM = Path(__file__).parents[2] / "scripts" / "fetch_benchmark.py"
ROWS = [
    {"id": 60, "problem": "1+1?", "answer": "025"},
    {"id": 61, "problem": "What is $x$?", "answer": "7"},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_every_form_gives_the_same_table(tmp_path, suffix):
    path = tmp_path / f"source{suffix}"
    if suffix == ".parquet":
        pandas.DataFrame(ROWS).to_parquet(path)
    elif suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    write_benchmark(tmp_path / "b.parquet", path=path)
    table = pandas.read_parquet(tmp_path / "b.parquet")
    assert table.columns.tolist() == ["problem_id", "problem", "answer"]
    assert table.answer.tolist() == ["025", "7"]
    assert table.problem_id.tolist() == ["60", "61"]


def test_cells_as_text():
    cells = ["025", 70, 142.0, 0.5, -1.0, True, float("nan"), None]
    assert [text(cell) for cell in cells] == [
        "025", "70", "142", "0.5", "-1", "True", None, None,
    ]  # fmt: skip


def test_rows_without_ids_are_numbered():
    source = pandas.DataFrame({"prompt": list("abc"), "gold": [1, 2, 3]})
    table = uniform(source, "x", "prompt", "gold")
    assert table.problem_id.tolist() == ["0000", "0001", "0002"]
    assert table.answer.tolist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ([{"q": 1}], {}, r"no column 'problem'; its columns are \['q'\]"),
        ([], {}, "no column 'problem'"),
        ([{**ROWS[0], "answer": None}], {}, "row 0 has no answer"),
        ([{**ROWS[0], "problem": "  "}], {}, "row 0 has no problem"),
        ([ROWS[0], ROWS[0]], {}, "the ids 60 occur more than once"),
        (ROWS, {"id_column": "number"}, "no column 'number'"),
    ],
)
def test_unusable_tables_are_refused(rows, columns, words):
    with pytest.raises(InputError, match=words):
        uniform(pandas.DataFrame(rows), "x.jsonl", **columns)


def test_command_line(tmp_path):
    def program(*given):
        return subprocess.run(
            [sys.executable, PROGRAM, *map(str, given)], capture_output=True, text=True
        )

    output = tmp_path / "b.parquet"
    source = tmp_path / "x.jsonl"
    source.write_text("\n".join(json.dumps({"prompt": r["problem"], **r}) for r in ROWS))
    given = ("--path", source, "--problem-column", "prompt", "--output", output)
    assert program(*given).returncode == 0
    assert len(pandas.read_parquet(output)) == 2
    failed = program(*given, "--problems", 30)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "has 2 problems, 30 are expected" in failed.stderr
    assert program(*given, "--problems", 2).returncode == 0
    for wrong in (("--path", source, "--repo", "a/b"), ("--repo", "a/b"), ()):
        failed = program(*wrong, "--output", output)
        assert failed.returncode == 1
        assert failed.stderr.startswith("error: either --repo")
    failed = program("--path", tmp_path / "none.jsonl", "--output", output)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "none.jsonl: no such file" in failed.stderr
