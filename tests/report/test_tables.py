"""docs/tables.md: the columns it names are those that are written, its commands give the report."""

import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from report_case import EXPERIMENT, make_results

from lowrank.delta import tables
from lowrank.delta.factor import FATES
from lowrank.delta.pairing import ledger_rows, pair_tensors, squared_changes
from lowrank.files import read_table
from lowrank.grading.grade import grade
from lowrank.metrics import comparisons, estimates
from lowrank.metrics.evaluation import evaluate_files, write_numbers
from lowrank.models.checkpoint import open_pair
from lowrank.report.deltas import deltas_frame
from lowrank.report.evidence import gather, read_experiment
from lowrank.report.verdicts import SAYS, comparisons_frame
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


def test_grades_give_the_reports_numbers_again(tmp_path):
    """What metrics.py is given on the page, on the toy experiment: byte for byte."""
    experiment = read_experiment(make_results(tmp_path, EXPERIMENT))
    (benchmark,) = experiment["benchmarks"]
    derivative, base = experiment["derivative"], experiment["base"]
    models = [*experiment["variants"], derivative, base]
    named = [(model, tmp_path / f"grades/{benchmark}/{model}.parquet") for model in models]
    options = {"ks": experiment["maj_k"], "repeats": experiment["repeats"]}
    for model, path in named:
        alone = tmp_path / f"metrics/{benchmark}/{model}.csv"
        evaluate_files([(model, path)], benchmark, output=alone, **options)
    together = tmp_path / "compared"
    options |= {"references": [base, derivative], "margin": experiment["margin"]}
    evaluate_files(named, benchmark, output=together, **options)

    found = gather(experiment, tmp_path)
    # What is added to a delta's summary is on the page, too.
    of_summary = found.summaries["rl"]
    added = [name for name in deltas_frame(found).columns if name not in of_summary]
    added = [re.sub(r"_r\d+", "_r<rank>", name) for name in added]
    assert documented("summary")[1] == list(dict.fromkeys(added))
    write_numbers(tmp_path / "comparisons.csv", comparisons_frame(found))
    again = (together / "comparisons.csv").read_bytes()
    assert again == (tmp_path / "comparisons.csv").read_bytes()
    alone = found.metrics.set_index("model").loc[models]
    pandas.testing.assert_frame_equal(
        read_table(together / "metrics.csv").set_index("model"), alone
    )
