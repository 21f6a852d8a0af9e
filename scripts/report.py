"""The report of an experiment: one self-contained page, its figures and its tables.

Everything shown is read from the results of the phases before. Which models, deltas and benchmarks
are shown comes from the resolved experiment alone, so leftovers of earlier runs never appear. The
same results give the same bytes.
"""

import argparse
import sys

from lowrank.errors import run

EXAMPLE = """example:
  python scripts/report.py --experiment results/mini/experiment.json \\
      --results results/mini --output results/mini/report
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiment",
        required=True,
        metavar="FILE",
        help="the resolved experiment, JSON, as the workflow writes it",
    )
    parser.add_argument(
        "--results", required=True, metavar="DIR", help="folder of the experiment's results"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="for report.html, figures/ and tables/"
    )
    return parser.parse_args()


def main() -> None:
    given = arguments()
    from lowrank.report.page import build

    page = build(given.experiment, given.results, given.output)
    print(f"report: {page}")


if __name__ == "__main__":
    sys.exit(run(main))
