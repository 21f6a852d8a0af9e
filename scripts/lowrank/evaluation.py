"""Tables of grades to tables of metrics and comparisons, from files to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lowrank.errors import InputError
from lowrank.files import read_table, write_table
from lowrank.metrics import model_metrics

if TYPE_CHECKING:
    from pandas import DataFrame


def metrics_of_files(
    grades: Sequence[tuple[str, str]],
    benchmark: str,
    ks: Sequence[int],
    output: str,
    repeats: int = 16,
    seed: int = 0,
) -> None:
    """The metrics of several models' grades, (name, path) each, to a CSV file or a folder."""
    import pandas

    tables: dict[str, DataFrame] = {}
    for name, path in grades:
        if name in tables:
            raise InputError(f"--grades names {name!r} twice; every model needs its own name")
        tables[name] = read_table(path)
    results = [
        model_metrics(table, name, benchmark, ks, repeats, seed) for name, table in tables.items()
    ]
    target = Path(output)
    if target.suffix != ".csv":
        target = target / "metrics.csv"
    write_numbers(target, pandas.concat(results, ignore_index=True))


def write_numbers(path: str | Path, table: "DataFrame") -> None:
    """A CSV whose bytes depend on the numbers to ten decimals only."""
    text = table.copy()
    for column in text.columns[text.dtypes == "float64"]:
        text[column] = ["" if v != v else f"{v + 0.0:.10f}" for v in text[column].round(10)]
    write_table(path, text)
