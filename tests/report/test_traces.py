"""Traces: long ones are cut in the middle, and the right rows are read or none."""

import pandas as pd
import pytest
from report_case import EXPERIMENT, results_of

from lowrank.errors import InputError
from lowrank.report.evidence import gather, read_experiment
from lowrank.report.traces import SHOWN, traces


def shown(folder):
    return traces(gather(read_experiment(folder / "experiment.json"), folder))


def test_a_long_trace_is_shown_from_both_ends(tmp_path):
    long = "begin" + "x" * (2 * SHOWN + 1234) + "y" * 50
    results_of(tmp_path, EXPERIMENT, trace=long)
    for trace in shown(tmp_path)["shown"]:
        head, left_out, tail = trace["completion"].split("\n\n")
        assert head == long[:SHOWN]
        assert len(tail) == SHOWN
        assert tail.startswith("x")
        assert "y" * 50 + " \\boxed{" in tail
        whole = len(long) + len(tail.split("y" * 50)[1])
        assert left_out == f"[... {whole - 2 * SHOWN:,} characters left out ...]"


def test_a_trace_that_just_fits_is_whole(tmp_path):
    fits = "z" * (2 * SHOWN - len(" \\boxed{123}"))
    results_of(tmp_path, EXPERIMENT, trace=fits)
    for trace in shown(tmp_path)["shown"]:
        assert trace["completion"].startswith(fits + " \\boxed{")
        assert "left out" not in trace["completion"]


def test_samples_that_lack_the_row_or_have_it_twice_are_refused(tmp_path):
    results_of(tmp_path, EXPERIMENT)
    paths = [tmp_path / f"samples/sums/r2-copy/{part}-of-2.parquet" for part in (1, 2)]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        table = pd.read_parquet(path)
        pd.concat([table, table]).to_parquet(path)
    with pytest.raises(InputError, match=r"r2-copy/\d-of-2\.parquet: 2 rows of problem p\d"):
        shown(tmp_path)
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content)
        table = pd.read_parquet(path)
        table.assign(problem_id="q" + table["problem_id"]).to_parquet(path)
    with pytest.raises(InputError, match=r"0 rows of problem .* sample the model again"):
        shown(tmp_path)


def test_where_no_problem_has_both_the_first_of_each_is_shown(tmp_path):
    """As with a completion a problem. They are of two problems, and the rule says nothing else."""
    results_of(tmp_path, EXPERIMENT)
    path = tmp_path / "grades/sums/r2-copy.parquet"
    grades = pd.read_parquet(path)
    right = grades["problem_id"] > "p2"
    grades.assign(correct=right, answer=grades["answer"].where(right)).to_parquet(path)
    told = shown(tmp_path)
    assert told["choice"].startswith("Of r = 2, copy: its first right and first wrong completion,")
    titles = [trace["title"] for trace in told["shown"]]
    assert titles[0].startswith("Problem p3, sample 0: answered ")
    assert titles[1] == (
        "Problem p0, sample 0: answered none (wrong; the answer is 1), 9 tokens, ended by stop"
    )
    grades.assign(correct=False).to_parquet(path)
    assert len(shown(tmp_path)["shown"]) == 1
