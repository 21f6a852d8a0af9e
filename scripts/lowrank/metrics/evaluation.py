"""Tables of grades to tables of metrics and comparisons, from files to files."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lowrank.claims import check_output, claim
from lowrank.errors import InputError
from lowrank.files import read_table, write_table
from lowrank.metrics.comparisons import compare
from lowrank.metrics.estimates import model_metrics
from lowrank.pools import listed, matched, pooled

if TYPE_CHECKING:
    from pandas import DataFrame

WRITTEN = ("metrics.csv", "comparisons.csv")


def evaluate_files(
    grades: Sequence[tuple[str, str]],
    benchmark: str,
    ks: Sequence[int],
    output: str,
    repeats: int = 16,
    seed: int = 0,
    references: Sequence[str] = (),
    margin: float = 0.05,
    intersect: bool = False,
) -> None:
    """Metrics of the grades of several models, (name, path) each, and comparisons between them.

    output: a .csv file for the metrics; or a folder for metrics.csv and, with several models,
    comparisons.csv against `references` (all models if none are named).
    """
    import pandas

    target = Path(output)
    inputs = [path for _, path in grades]
    check_output(target, inputs)
    if target.suffix != ".csv":
        claim(target, inputs, WRITTEN)
    common = _common(_tables(grades), intersect)
    results = [
        model_metrics(table, name, benchmark, ks, repeats, seed) for name, table in common.items()
    ]
    metrics = pandas.concat(results, ignore_index=True)
    if target.suffix == ".csv":
        write_numbers(target, metrics)
        return
    if len(common) > 1:
        compared = compare(common, references or list(common), ks, margin, seed)
        compared.insert(0, "benchmark", benchmark)
        write_numbers(target / "comparisons.csv", compared)
    write_numbers(target / "metrics.csv", metrics)


def evaluate_pool(
    grades: Mapping[str, Sequence[tuple[str, str]]],
    benchmark: str,
    ks: Sequence[int],
    output: str,
    repeats: int = 16,
    seed: int = 0,
    references: Sequence[str] = (),
    margin: float = 0.05,
    intersect: bool = False,
) -> None:
    """Models compared on several benchmarks at once, as `comparisons.compare` does with a pool.

    grades: benchmark -> (name, path) of every model. benchmark: the pool's name.
    output: a folder; metrics.csv has every benchmark's metrics, comparisons.csv the pool's rows.
    """
    import pandas

    target = Path(output)
    inputs = [path for each in grades.values() for _, path in each]
    check_output(target, inputs)
    claim(target, inputs, WRITTEN)
    tables = {name: _tables(each) for name, each in grades.items()}
    models = list(next(iter(tables.values())))
    for name, each in tables.items():
        if set(each) != set(models):
            raise InputError(
                f"--pool {name} has the models {listed(each)}, but the first has {listed(models)};"
                " a pool needs every model on every benchmark"
            )
    whole: dict[str, DataFrame] = {}
    for model in models:
        parts = {name: each[model] for name, each in tables.items()}
        whole[model], benchmarks = pooled(parts)
    common = _common(whole, intersect)
    metrics = []
    for name in grades:
        for model, table in common.items():
            part = table[table["problem_id"].map(benchmarks) == name]
            own = part["problem_id"].str.removeprefix(f"{name}/")
            part = part.assign(problem_id=own)
            metrics.append(model_metrics(part, model, name, ks, repeats, seed))
    compared = compare(common, references or models, ks, margin, seed, benchmarks=benchmarks)
    compared.insert(0, "benchmark", benchmark)
    write_numbers(target / "comparisons.csv", compared)
    write_numbers(target / "metrics.csv", pandas.concat(metrics, ignore_index=True))


def _tables(grades: Sequence[tuple[str, str]]) -> "dict[str, DataFrame]":
    """The tables by name."""
    tables: dict[str, DataFrame] = {}
    for name, path in grades:
        if name in tables:
            raise InputError(f"--grades names {name!r} twice; every model needs its own name")
        tables[name] = read_table(path)
    return tables


def _common(tables: "dict[str, DataFrame]", intersect: bool) -> "dict[str, DataFrame]":
    """`matched`; says on stderr what is left out."""
    common = matched(tables, intersect)
    for name, table in common.items():
        if len(table) < len(tables[name]):
            print(
                f"{name}: {len(table)} of {len(tables[name])} samples are kept, those that all "
                f"models have ({table['problem_id'].nunique()} problems)",
                file=sys.stderr,
            )
    return common


def write_numbers(path: str | Path, table: "DataFrame") -> None:
    """A CSV whose bytes depend on the numbers to ten decimals only."""
    text = table.copy()
    for column in text.columns[text.dtypes == "float64"]:
        text[column] = ["" if v != v else f"{v + 0.0:.10f}" for v in text[column].round(10)]
    write_table(path, text)
