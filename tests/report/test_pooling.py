"""Several benchmarks, pooled for one verdict, from the experiment to the page."""

import copy
from collections import defaultdict

import pandas as pd
from report_case import EXPERIMENT, results_of

from lowrank.metrics.evaluation import write_comparisons
from lowrank.report.page import build


def test_pooled_benchmarks_have_verdicts_of_their_own(tmp_path, monkeypatch):
    """On the page and in its tables, and the same by hand."""
    drawings = defaultdict(lambda: "<svg></svg>")
    monkeypatch.setattr("lowrank.report.page._draw", lambda *_: drawings)
    experiment = copy.deepcopy(EXPERIMENT)
    experiment["benchmarks"]["more"] = {**experiment["benchmarks"]["sums"], "label": "More sums"}
    experiment["pools"] = {"all": {"label": "Both kinds", "benchmarks": ["sums", "more"]}}
    page = build(results_of(tmp_path, experiment), tmp_path, tmp_path / "report")
    said = page.read_text()
    assert "All of Both kinds together. Mean accuracy" in said
    assert "Both kinds has 12 problems" in said
    compared = pd.read_csv(tmp_path / "report/tables/comparisons.csv")
    sizes = compared.groupby("benchmark")["n_problems"].unique()
    assert sizes.map(list).to_dict() == {"sums": [6], "more": [6], "all": [12]}
    metrics = pd.read_csv(tmp_path / "report/tables/metrics.csv")
    assert set(metrics["benchmark"]) == {"sums", "more"}
    # The program gives the same rows from the grades.
    models = [*experiment["variants"], "new", "mid"]
    grades = {
        name: {model: tmp_path / f"grades/{name}/{model}.parquet" for model in models}
        for name in ("sums", "more")
    }
    write_comparisons(grades, "all", experiment["maj_k"], tmp_path / "all.csv", ["mid", "new"])
    header, *rows = (tmp_path / "all.csv").read_text().splitlines()
    page = (tmp_path / "report/tables/comparisons.csv").read_text().splitlines()
    assert page[0] == header
    assert [line for line in page if line.startswith("all,")] == rows
