#!/usr/bin/env python3
"""Draw the embedded benchmark: chains of single-digit operations that no training ever sees.

Example:
  python scripts/make_problems.py --settings experiments/training/mini.yaml \\
      --output results/mini-training/problems.jsonl
"""

import argparse
import json
import sys

from lowrank.claims import check_output
from lowrank.errors import run
from lowrank.files import whole_file
from lowrank.train import training
from lowrank.train.settings import read_settings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", required=True, help="training settings, a YAML file")
    parser.add_argument("--output", required=True, help="JSONL: problem_id, problem, answer")
    arguments = parser.parse_args()

    check_output(arguments.output, [arguments.settings])
    rows = training.benchmark(read_settings(arguments.settings))
    with whole_file(arguments.output) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run(main))
