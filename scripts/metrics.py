"""Metrics of graded samples: accuracy, pass@k, majority voting, and how far to trust each.

One CSV, one figure a row: model, benchmark, metric, k, estimator, value, intervals, counts.
"""

import argparse
import sys

from lowrank.errors import InputError, run

EXAMPLE = """example:
  python scripts/metrics.py --grades base=grades/base.parquet rl=grades/rl.parquet \\
      --benchmark aime_2024 --k 8 16 32 --output metrics/
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--grades",
        nargs="+",
        required=True,
        metavar="NAME=FILE",
        help="tables of grades, as written by grade.py, each with its model's name",
    )
    parser.add_argument("--benchmark", default="benchmark", help="name written into the table")
    parser.add_argument("--k", nargs="+", type=int, default=[8, 16, 32], help="votes (8 16 32)")
    parser.add_argument(
        "--repeats", type=int, default=16, help="draws of the post's protocol (default: 16)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default: 0)")
    parser.add_argument("--output", required=True, help="a .csv file, or a folder")
    return parser.parse_args()


def named(grades: list[str]) -> list[tuple[str, str]]:
    pairs = [entry.partition("=")[::2] for entry in grades]
    for entry, (name, path) in zip(grades, pairs, strict=True):
        if not name or not path:
            raise InputError(f"--grades {entry}: expected NAME=FILE")
    return pairs


def main() -> None:
    options = arguments()
    from lowrank.evaluation import metrics_of_files

    metrics_of_files(
        named(options.grades),
        options.benchmark,
        options.k,
        options.output,
        repeats=options.repeats,
        seed=options.seed,
    )


if __name__ == "__main__":
    sys.exit(run(main))
