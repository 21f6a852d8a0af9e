"""Metrics of graded samples: accuracy, pass@k, majority voting, and how far to trust each.

metrics.csv holds one figure a row:
  model, benchmark
  metric           mean (accuracy), pass (pass@k), maj (majority of k votes, ties split evenly; at
                   k = n_samples the vote of the whole pool), gpass-0.5, gpass-0.75, gpass-1 (at
                   least that share of k samples right), mgpass, no_answer, unjudged, truncated
                   (shares), completion_tokens (mean length)
  k                samples a figure is about; 1 for plain shares and means
  estimator        exact: the average over every k-subset of the pool; protocol: k samples drawn
                   without replacement, --repeats times, averaged, as the post did
  value
  traces_low/high  95 % interval: the same problems, sampled again
  problems_low/high  95 % interval: other problems like these
  problems_method  bca (resampled problems); gaffke (next to 0 or 1, a bound that needs no other
                   problem to be seen)
  repeats_sd/low/high  spread of the protocol's repeats: noise of the draws, not a confidence
  n_problems, n_samples

comparisons.csv (several models, --output a folder) holds one comparison a row: differences, their
intervals, tests adjusted for their number, a verdict in words, and, with two references (a base and
its derivative, in that order), whether what training gave is kept. Its columns: docs/tables.md; how
it is decided: docs/statistics.md. An empty cell: nothing can be told.
"""

import argparse
import sys

from lowrank.errors import InputError, run

EXAMPLE = """examples:
  python scripts/metrics.py --grades base=grades/base.parquet rl=grades/rl.parquet \\
      r16=grades/r16.parquet --benchmark aime_2024 --k 8 16 32 \\
      --references base rl --margin 0.05 --output metrics/

  python scripts/metrics.py --pool aime2024 rl=24/rl.parquet r16=24/r16.parquet \\
      --pool aime2025 rl=25/rl.parquet r16=25/r16.parquet --benchmark aime --output metrics/
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--grades",
        nargs="+",
        metavar="NAME=FILE",
        help="tables of grades, as written by grade.py, each with its model's name",
    )
    given.add_argument(
        "--pool",
        nargs="+",
        action="append",
        metavar=("BENCHMARK", "NAME=FILE"),
        help="or the same on one of several benchmarks; once for each. They are compared as one, "
        "called --benchmark, in which only the spread within each counts",
    )
    parser.add_argument("--benchmark", default="benchmark", help="name written into the tables")
    parser.add_argument(
        "--k", nargs="+", type=int, default=[8, 16, 32], help="sizes of vote (default: 8 16 32)"
    )
    parser.add_argument(
        "--repeats", type=int, default=16, help="draws of the post's protocol (default: 16)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default: 0)")
    parser.add_argument(
        "--references",
        nargs="+",
        default=[],
        metavar="NAME",
        help="compare every model with these (default: with every other)",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=0.05,
        help="largest difference that counts as none, a share (default: 0.05)",
    )
    parser.add_argument(
        "--intersect",
        action="store_true",
        help="use the problems and samples that all models have (default: an error if they differ)",
    )
    parser.add_argument(
        "--output", required=True, help="a folder, or a .csv file for the metrics alone"
    )
    return parser.parse_args()


def named(grades: list[str]) -> list[tuple[str, str]]:
    pairs = [entry.partition("=")[::2] for entry in grades]
    for entry, (name, path) in zip(grades, pairs, strict=True):
        if not name or not path:
            raise InputError(f"--grades {entry}: expected NAME=FILE")
    return pairs


def main() -> None:
    options = arguments()
    if options.repeats < 1:
        raise InputError(f"--repeats {options.repeats}: at least one draw is needed")
    from lowrank.metrics.evaluation import evaluate_files, evaluate_pool

    if options.pool:
        grades = {name: named(entries) for name, *entries in options.pool}
        if len(grades) < max(2, len(options.pool)) or not all(grades.values()):
            raise InputError("--pool: two benchmarks or more are needed, each with its own grades")
    else:
        grades = named(options.grades)
    evaluate = evaluate_pool if options.pool else evaluate_files
    evaluate(
        grades,
        options.benchmark,
        options.k,
        options.output,
        repeats=options.repeats,
        seed=options.seed,
        references=options.references,
        margin=options.margin,
        intersect=options.intersect,
    )


if __name__ == "__main__":
    sys.exit(run(main))
