#!/usr/bin/env python3
"""Train the embedded grandparent from nothing: arithmetic facts in plain text.

Stored in bfloat16 with tied embeddings (no lm_head tensor).

Example:
  python scripts/train_pretrained.py --settings experiments/training/mini.yaml \\
      --threads 1 --output results/mini-training/pretrained
"""

import argparse
import sys
from pathlib import Path

from lowrank.errors import run
from lowrank.models.manifest import claim_checkpoint
from lowrank.train import training
from lowrank.train.settings import read_settings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", required=True, help="training settings, a YAML file")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--output", required=True, type=Path, help="folder of the checkpoint")
    arguments = parser.parse_args()
    claim_checkpoint(arguments.output, [arguments.settings])
    training.train_pretrained(
        read_settings(arguments.settings), arguments.output, arguments.threads
    )


if __name__ == "__main__":
    sys.exit(run(main))
