"""Tables of grades to tables of metrics and comparisons, from files to files."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lowrank.claims import check_output, claim
from lowrank.comparisons import compare
from lowrank.errors import InputError
from lowrank.files import read_table, write_table
from lowrank.metrics import model_metrics
from lowrank.pools import matched

if TYPE_CHECKING:
    from pandas import DataFrame


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
        claim(target, inputs, ("metrics.csv", "comparisons.csv"))
    tables: dict[str, DataFrame] = {}
    for name, path in grades:
        if name in tables:
            raise InputError(f"--grades names {name!r} twice; every model needs its own name")
        tables[name] = read_table(path)
    common = matched(tables, intersect)
    for name, table in common.items():
        if len(table) < len(tables[name]):
            print(
                f"{name}: {len(table)} of {len(tables[name])} samples are kept, those that all "
                f"models have ({table['problem_id'].nunique()} problems)",
                file=sys.stderr,
            )
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


def write_numbers(path: str | Path, table: "DataFrame") -> None:
    """A CSV whose bytes depend on the numbers to ten decimals only."""
    text = table.copy()
    for column in text.columns[text.dtypes == "float64"]:
        text[column] = ["" if v != v else f"{v + 0.0:.10f}" for v in text[column].round(10)]
    write_table(path, text)
