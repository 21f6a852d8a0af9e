#!/usr/bin/env python3
"""Fine-tune an embedded model on traces (trl's SFTTrainer).

Tied embeddings are untied first; the result is stored in bfloat16.

Example:
  python scripts/train_sft.py --settings experiments/training/mini.yaml --stage worked \\
      --base results/mini-training/pretrained --output results/mini-training/worked
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
    parser.add_argument(
        "--stage", required=True, choices=("worked", "sft"), help="which stage of the settings"
    )
    parser.add_argument("--base", required=True, type=Path, help="the checkpoint to start from")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--output", required=True, type=Path, help="folder of the checkpoint")
    arguments = parser.parse_args()
    claim_checkpoint(arguments.output, [arguments.settings, arguments.base])
    training.train_sft(
        read_settings(arguments.settings),
        arguments.stage,
        arguments.base,
        arguments.output,
        arguments.threads,
    )


if __name__ == "__main__":
    sys.exit(run(main))
