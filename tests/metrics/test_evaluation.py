"""Files in, files out: every setting reaches the tables that are written."""

import numpy as np
import pandas as pd
import pytest

from lowrank.metrics.comparisons import compare
from lowrank.metrics.estimates import model_metrics
from lowrank.metrics.evaluation import write_comparisons, write_metrics
from lowrank.pools import pooled

MODELS = ("variant", "new", "base")
SETTINGS = {"margin": 0.3, "seed": 5}


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, pd.DataFrame]]:
    """benchmark -> model -> grades of six samples, on five problems and on three."""
    generator = np.random.default_rng(2)
    made = {}
    for benchmark, problems, shift in (("one", 5, 0.0), ("two", 3, 0.4)):
        made[benchmark] = {}
        for place, model in enumerate(MODELS):
            rows = []
            for i in range(problems):
                for sample in range(6):
                    right = bool(generator.random() < 0.55 - 0.2 * place + shift)
                    answer = "7" if right else str(generator.integers(8, 10))
                    row = {"problem_id": f"p{i}", "sample": sample, "answer": answer}
                    rows.append(row | {"correct": right})
            made[benchmark][model] = pd.DataFrame(rows)
    return made


@pytest.fixture
def paths(tables, tmp_path):
    """The same as files."""
    found = {}
    for benchmark, models in tables.items():
        for model, table in models.items():
            path = tmp_path / f"{benchmark}-{model}.parquet"
            table.to_parquet(path)
            found.setdefault(benchmark, {})[model] = path
    return found


def same(path, wanted: pd.DataFrame) -> None:
    """That a file holds a table, to ten decimals."""
    read = pd.read_csv(path)
    assert list(read.columns) == list(wanted.columns)
    for column in wanted:
        if wanted[column].dtype == "float64":
            numbers = read[column].to_numpy(float)
            assert numbers == pytest.approx(wanted[column].to_numpy(), abs=1e-9, nan_ok=True)
        else:
            assert read[column].fillna("").tolist() == wanted[column].fillna("").tolist(), column


@pytest.mark.parametrize("seed", [0, 5])
def test_metrics_are_written_as_they_are_told(tables, paths, tmp_path, seed):
    write_metrics(paths["one"]["new"], "new", "one", [2, 4], tmp_path / "m.csv", 7, seed)
    same(tmp_path / "m.csv", model_metrics(tables["one"]["new"], "new", "one", [2, 4], 7, seed))


@pytest.mark.parametrize("benchmarks", [["one"], ["one", "two"]])
def test_comparisons_are_written_as_they_are_told(tables, paths, tmp_path, benchmarks):
    """Of a benchmark, and of a pool, in which each problem belongs to its benchmark."""
    output = tmp_path / "c.csv"
    given = {name: paths[name] for name in benchmarks}
    write_comparisons(given, "all", [2, 4], output, ["base", "new"], **SETTINGS)
    if len(benchmarks) == 1:
        grades, origin = tables["one"], None
    else:
        parts = {m: pooled({name: tables[name][m] for name in benchmarks}) for m in MODELS}
        grades, origin = {m: part[0] for m, part in parts.items()}, parts["base"][1]
    wanted = compare(grades, ["base", "new"], [2, 4], **SETTINGS, benchmarks=origin)
    wanted.insert(0, "benchmark", "all")
    same(output, wanted)
    if origin:  # so that leaving them out shows
        whole = compare(grades, ["base", "new"], [2, 4], **SETTINGS)
        assert (whole["problems_low"] != wanted["problems_low"]).any()


def test_references_are_compared_in_the_order_given(paths, tmp_path):
    """The derivative is held against the base; without any, each model against all before it."""
    for references, pair in (
        (["base", "new"], ("new", "base")),
        (["new", "base"], ("base", "new")),
    ):
        write_comparisons({"one": paths["one"]}, "one", [2], tmp_path / "c.csv", references)
        made = pd.read_csv(tmp_path / "c.csv")
        assert pair in set(zip(made["model"], made["reference"], strict=True))
        assert pair[::-1] not in set(zip(made["model"], made["reference"], strict=True))
    write_comparisons({"one": paths["one"]}, "one", [2], tmp_path / "c.csv")
    made = pd.read_csv(tmp_path / "c.csv")
    pairs = set(zip(made["model"], made["reference"], strict=True))
    assert pairs == {("new", "variant"), ("base", "variant"), ("base", "new")}
