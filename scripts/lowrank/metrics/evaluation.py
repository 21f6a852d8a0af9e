"""Tables of grades to tables of metrics and of comparisons, from files to files."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lowrank.claims import check_output
from lowrank.errors import InputError
from lowrank.files import read_table, sha256, write_json, write_table
from lowrank.metrics.comparisons import compare
from lowrank.metrics.estimates import model_metrics
from lowrank.pools import listed, matched, pooled

if TYPE_CHECKING:
    from pandas import DataFrame


def write_metrics(
    grades: str | Path,
    model: str,
    benchmark: str,
    ks: Sequence[int],
    output: str | Path,
    repeats: int = 16,
    seed: int = 0,
) -> None:
    """One model's metrics on one benchmark, a CSV, from its table of grades."""
    _check_csv(output, [grades])
    table = model_metrics(read_table(grades), model, benchmark, ks, repeats, seed)
    write_numbers(output, table)


def write_comparisons(
    grades: Mapping[str, Mapping[str, str | Path]],
    name: str,
    ks: Sequence[int],
    output: str | Path,
    references: Sequence[str] = (),
    margin: float = 0.05,
    seed: int = 0,
    intersect: bool = False,
    record: str | Path | None = None,
) -> None:
    """Models against models, a CSV with the columns of `comparisons.compare` after `benchmark`.

    grades: benchmark -> model -> its table. Several benchmarks are pooled: compared as one, in
    which only the spread within each counts. name: of the benchmark or the pool, as it is written.
    references: against which; all models if none are named. intersect: as in `compare`.
    record: a JSON file for what the comparisons were made of: models, settings, the SHA-256 of the
    table and of each table of grades.
    Raises InputError if a benchmark lacks one of the models.
    """
    files = [path for models in grades.values() for path in models.values()]
    _check_csv(output, files)
    if record:
        check_output(record, files)
    models = list(next(iter(grades.values())))
    references = list(references or models)
    tables, benchmarks = _read(grades)
    common = matched(tables, intersect)
    _say_left_out(tables, common)
    compared = compare(common, references, ks, margin, seed, benchmarks=benchmarks)
    compared.insert(0, "benchmark", name)
    write_numbers(output, compared)
    if record:
        content = {
            "models": models,
            "references": references,
            "ks": sorted(set(ks)),
            "margin": margin,
            "seed": seed,
            "intersect": intersect,
            "sha256": sha256(output),
            "grades": {
                benchmark: {model: sha256(path) for model, path in each.items()}
                for benchmark, each in grades.items()
            },
        }
        write_json(record, content)


def _check_csv(output: str | Path, inputs: Sequence[str | Path]) -> None:
    """InputError if an output is no .csv file, or is an input."""
    if Path(output).suffix != ".csv":
        raise InputError(f"--output {output}: the name of a .csv file is needed")
    check_output(output, inputs)


def _read(
    grades: Mapping[str, Mapping[str, str | Path]],
) -> "tuple[dict[str, DataFrame], dict[str, str] | None]":
    """Every model's grades, and of several benchmarks which each problem is of."""
    models = list(next(iter(grades.values())))
    for benchmark, each in grades.items():
        if set(each) != set(models):
            raise InputError(
                f"--benchmark {benchmark} has the models {listed(each)}, but the first has"
                f" {listed(models)}; a pool needs every model on every benchmark"
            )
    tables, benchmarks = {}, None
    for model in models:
        parts = {benchmark: read_table(each[model]) for benchmark, each in grades.items()}
        if len(parts) > 1:
            tables[model], benchmarks = pooled(parts)
        else:
            (tables[model],) = parts.values()
    return tables, benchmarks


def _say_left_out(tables: "Mapping[str, DataFrame]", common: "Mapping[str, DataFrame]") -> None:
    """On stderr, how much of each model's samples is compared where it is not all."""
    for name, table in common.items():
        if len(table) < len(tables[name]):
            print(
                f"{name}: {len(table)} of {len(tables[name])} samples are kept, those that all "
                f"models have ({table['problem_id'].nunique()} problems)",
                file=sys.stderr,
            )


def write_numbers(path: str | Path, table: "DataFrame") -> None:
    """A CSV whose bytes depend on the numbers to ten decimals only."""
    text = table.copy()
    for column in text.columns[text.dtypes == "float64"]:
        text[column] = ["" if v != v else f"{v + 0.0:.10f}" for v in text[column].round(10)]
    write_table(path, text)
