"""Metrics of one model's graded samples: accuracy, pass@k, majority voting, how far to trust each.

One estimate a row; the columns and the metrics are documented in docs/tables.md. Models are held
against each other by compare.py.
"""

import argparse
import sys

from lowrank.errors import InputError, run

EXAMPLE = """example:
  python scripts/metrics.py --grades rl=grades/rl.parquet --benchmark aime_2024 --k 8 16 32 \\
      --output metrics/rl.csv
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--grades",
        required=True,
        metavar="NAME=FILE",
        help="table of grades, as written by grade.py, with the model's name",
    )
    add("--benchmark", default="benchmark", help="name written into the table")
    add(
        "--k",
        nargs="+",
        type=int,
        default=[8, 16, 32],
        help="sizes of vote (default: 8 16 32)",
    )
    add("--repeats", type=int, default=16, help="draws of the post's protocol (default: 16)")
    add("--seed", type=int, default=0, help="of everything drawn (default: 0)")
    add("--output", required=True, metavar="FILE", help="a .csv file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    model, _, path = options.grades.partition("=")
    if not model or not path:
        raise InputError(f"--grades {options.grades}: expected NAME=FILE")
    if options.repeats < 1:
        raise InputError(f"--repeats {options.repeats}: at least one draw is needed")
    from lowrank.metrics.evaluation import write_metrics

    write_metrics(
        path,
        model,
        options.benchmark,
        options.k,
        options.output,
        repeats=options.repeats,
        seed=options.seed,
    )


if __name__ == "__main__":
    sys.exit(run(main))
