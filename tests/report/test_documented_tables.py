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
from lowrank.divergence import locate, reading
from lowrank.grading.grade import grade
from lowrank.metrics import comparisons, divergence_contrasts, divergences, estimates
from lowrank.models.checkpoint import open_pair
from lowrank.report import deltas, results
from lowrank.report.evidence import gather, read_experiment
from lowrank.report.page import build
from lowrank.report.verdicts import SAYS
from lowrank.sampling import completions
from lowrank.variants import adapted, description_errors
from lowrank.variants.merge import Fidelity

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tables.md").read_text()


def described(heading: str) -> list[dict[str, str]]:
    """Name -> text of every table of a section."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    tables = re.findall(r"^\| \w+ \| \|\n\|---\|---\|\n((?:\|.*\n)+)", section, re.MULTILINE)
    found = []
    for table in tables:
        rows = [re.fullmatch(r"\| (.+?) \| (.+) \|", line).groups() for line in table.splitlines()]
        rows = [(names, text.replace(r"\|", "|")) for names, text in rows]
        found.append({name: text for names, text in rows for name in re.findall("`(.+?)`", names)})
    return found


def documented(heading: str) -> list[list[str]]:
    """The names in the first column of every table of a section."""
    return [list(table) for table in described(heading)]


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
        ("divergence", reading.COLUMNS),
        ("divergence metrics", divergences.COLUMNS),
        ("divergence contrasts", divergence_contrasts.CONTRASTS),
        ("divergence ranks", divergence_contrasts.RANKS),
        ("locate", locate.COLUMNS),
        ("descriptions", description_errors.COLUMNS),
        ("adapter", adapted.COLUMNS),
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


def test_every_metric_of_divergence_is_documented_and_no_other():
    tokens = {"problem_id": ["a", "b"], "sample": 0, "position": 0, "kl": [0.1, 0.2], "token": 5}
    one = divergences.of_problems(pandas.DataFrame(tokens | {"equal_top": True}))
    found = divergences.figures({"base": one}, "base", "b")["metric"]
    assert documented("divergence metrics")[1] == list(dict.fromkeys(found))


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


@pytest.mark.parametrize(
    ("heading", "place", "records"),
    [
        ("metrics", 0, estimates.COLUMNS),
        ("metrics", 1, estimates.METRICS),
        ("comparisons", 0, comparisons.COLUMNS),
        ("results", 0, results.COLUMNS),
        ("summary", 1, deltas.ADDED),
        ("descriptions", 0, description_errors.COLUMNS),
        ("adapter", 0, adapted.COLUMNS),
    ],
)
def test_the_page_says_of_a_column_what_its_record_says(heading, place, records):
    said = described(heading)[place]
    said.pop("benchmark" if heading == "comparisons" else "", None)
    assert said == dict(records)


def test_tables_of_the_report_have_the_columns_of_their_records(tmp_path):
    found = gather(read_experiment(results_of(tmp_path)), tmp_path)
    frames = {"added": deltas.deltas_frame(found), "results": results.results_frame(found, "sums")}
    frames["added"] = frames["added"].drop(columns=found.summaries["rl"].columns)
    for name, records in (("added", deltas.ADDED), ("results", results.COLUMNS)):
        written = [re.sub(r"(_r|@)\d+", r"\1<>", column) for column in frames[name].columns]
        known = [re.sub("<(k|rank)>", "<>", column) for column in records]
        # Those of every k or rank follow each other; here each is named once.
        assert sorted(set(written)) == sorted(known)


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
