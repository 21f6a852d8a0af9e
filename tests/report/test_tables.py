"""docs/tables.md: the columns it names are those that are written, its commands give the report."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pandas
import pytest
from report_case import EXPERIMENT, results_of

from lowrank.delta import tables
from lowrank.delta.factor import FATES
from lowrank.delta.pairing import ledger_rows, pair_tensors, squared_changes
from lowrank.grading.grade import grade
from lowrank.metrics import comparisons, estimates
from lowrank.models.checkpoint import open_pair
from lowrank.report.deltas import deltas_frame
from lowrank.report.evidence import gather, read_experiment
from lowrank.report.page import build
from lowrank.report.verdicts import SAYS
from lowrank.sampling import completions
from lowrank.variants.merge import Fidelity

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tables.md").read_text()


def documented(heading: str) -> list[list[str]]:
    """The names in the first column of every table of a section."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    tables = re.findall(r"^\| \w+ \| \|\n\|---\|---\|\n((?:\|.*\n)+)", section, re.MULTILINE)
    firsts = [[line.split("|")[1] for line in table.splitlines()] for table in tables]
    return [[name for cell in cells for name in re.findall("`(.+?)`", cell)] for cells in firsts]


def graded() -> pandas.DataFrame:
    samples = pandas.DataFrame({"problem_id": ["a"] * 4, "sample": range(4)})
    samples["completion"] = [rf"\boxed{{{i}}}" for i in range(4)]
    samples["completion_tokens"], samples["finish_reason"] = 9, "stop"
    problems = pandas.DataFrame({"problem_id": ["a"], "problem": "?", "answer": "1"})
    return grade(samples, problems, answer_type="integer")


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("samples", completions.COLUMNS),
        ("grades", graded().columns[:7]),
        ("metrics", estimates.COLUMNS),
        ("comparisons", ["benchmark", *comparisons.COLUMNS]),
        ("spectrum", tables.COLUMNS["spectrum"]),
        ("summary", tables.COLUMNS["summary"]),
        ("fidelity", Fidelity().report()),
    ],
)
def test_every_column_is_documented_and_no_other(heading, columns):
    assert documented(heading)[0] == list(columns)


def test_the_ledgers_columns_are_documented(trio):
    base, derivative = open_pair(trio.base, trio.derivative)
    pairs = pair_tensors(base, derivative, [])
    changes = squared_changes(base, derivative, pairs)
    rows = ledger_rows(base, derivative, pairs, FATES, changes)
    assert documented("ledger")[0] == list(rows[0])


def test_every_metric_is_documented_and_no_other():
    found = estimates.model_metrics(graded(), "m", "b", [2, 4])["metric"]
    assert documented("metrics")[1] == list(dict.fromkeys(found))


def test_every_answer_is_documented_and_no_other():
    answers = {comparisons.UNANSWERED, *SAYS}
    assert set(documented("comparisons")[1]) == answers


def commands() -> list[list[str]]:
    """The page's commands, one argument an item."""
    blocks = re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE)
    return [block.replace("\\\n", " ").split() for block in blocks]


def test_the_commands_on_the_page_are_understood():
    """Their programs know every option that the page gives them."""
    for words in commands():
        program = next(word for word in words if word.startswith("scripts/"))
        said = subprocess.run(
            [sys.executable, ROOT / program, "--help"], capture_output=True, text=True, check=True
        )
        known = re.findall(r"--[\w-]+", said.stdout)
        assert {word for word in words if re.match(r"--\w", word)} <= set(known)


def test_what_is_added_to_a_deltas_summary_is_documented(tmp_path):
    found = gather(read_experiment(results_of(tmp_path)), tmp_path)
    added = [name for name in deltas_frame(found).columns if name not in found.summaries["rl"]]
    added = [re.sub(r"_r\d+", "_r<rank>", name) for name in added]
    assert documented("summary")[1] == list(dict.fromkeys(added))


def test_the_reports_tables_are_those_of_the_programs(tmp_path, monkeypatch):
    """What metrics.py and compare.py write for each model and benchmark: byte for byte."""
    monkeypatch.setattr("lowrank.report.page._draw", lambda *_: defaultdict(lambda: "<svg></svg>"))
    build(results_of(tmp_path), tmp_path, tmp_path / "report")
    tables = tmp_path / "report/tables"
    (benchmark,) = EXPERIMENT["benchmarks"]
    compared = (tmp_path / f"comparisons/{benchmark}.csv").read_bytes()
    assert (tables / "comparisons.csv").read_bytes() == compared
    header, *rows = (tables / "metrics.csv").read_text().splitlines()
    for model in [*EXPERIMENT["references"], *EXPERIMENT["variants"]]:
        alone = (tmp_path / f"metrics/{benchmark}/{model}.csv").read_text().splitlines()
        assert alone == [header, *rows[: len(alone) - 1]]
        del rows[: len(alone) - 1]
    assert not rows
