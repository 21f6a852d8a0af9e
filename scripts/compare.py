"""Compare models, paired by problem: differences, tests, equivalence, power, a verdict in words.

One comparison a row, on mean accuracy, Maj@k and pass@k; the columns are documented in
docs/tables.md, and how a difference is judged in docs/statistics.md. Tests are adjusted for their
number. With two references, a base and its derivative in that order, each row against the
derivative also answers whether the model keeps what training gave. An empty cell means that the
value cannot be computed.
"""

import argparse
import sys

from lowrank.errors import InputError, run

EXAMPLE = """examples:
  python scripts/compare.py --benchmark aime_2024 sft=grades/sft.parquet rl=grades/rl.parquet \\
      r16=grades/r16.parquet --references sft rl --margin 0.05 --output aime_2024.csv

  python scripts/compare.py --benchmark aime2024 rl=24/rl.parquet r16=24/r16.parquet \\
      --benchmark aime2025 rl=25/rl.parquet r16=25/r16.parquet --name aime --output aime.csv
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--benchmark",
        required=True,
        nargs="+",
        action="append",
        metavar=("BENCHMARK", "NAME=FILE"),
        help="each model's table of grades on a benchmark, as written by grade.py. Given several "
        "times: the benchmarks are pooled, that is, compared as one in which only the spread "
        "within each counts",
    )
    add("--name", help="of the benchmark or the pool, as written (default: the benchmarks' names)")
    add(
        "--references",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="compare every model with these (default: with every other)",
    )
    add(
        "--k",
        nargs="+",
        type=int,
        default=[8, 16, 32],
        help="sizes of vote (default: 8 16 32)",
    )
    add(
        "--margin",
        type=float,
        default=0.05,
        help="largest difference that counts as none, a share (default: 0.05)",
    )
    add("--seed", type=int, default=0, help="of everything drawn (default: 0)")
    add(
        "--intersect",
        action="store_true",
        help="use the problems and samples that all models have (default: an error if they differ)",
    )
    add("--output", required=True, metavar="FILE", help="a .csv file")
    add(
        "--record",
        metavar="FILE",
        help="also write models, settings and the hash of every table, as JSON",
    )
    return parser.parse_args()


def graded(given: list[list[str]]) -> dict[str, dict[str, str]]:
    """benchmark -> model -> path; InputError for what is none, and for a name given twice."""
    grades: dict[str, dict[str, str]] = {}
    for benchmark, *entries in given:
        if benchmark in grades:
            raise InputError(f"--benchmark {benchmark} is given twice; name every model in one")
        grades[benchmark] = {}
        for entry in entries:
            name, _, path = entry.partition("=")
            if not name or not path:
                raise InputError(f"--benchmark {benchmark} {entry}: expected NAME=FILE")
            if name in grades[benchmark]:
                raise InputError(
                    f"--benchmark {benchmark} names {name!r} twice; every model needs its own name"
                )
            grades[benchmark][name] = path
        if not entries:
            raise InputError(f"--benchmark {benchmark}: has no models; expected NAME=FILE after it")
    return grades


def main() -> None:
    options = arguments()
    grades = graded(options.benchmark)
    from lowrank.metrics.evaluation import write_comparisons

    write_comparisons(
        grades,
        options.name or "+".join(grades),
        options.k,
        options.output,
        references=options.references,
        margin=options.margin,
        seed=options.seed,
        intersect=options.intersect,
        record=options.record,
    )


if __name__ == "__main__":
    sys.exit(run(main))
