#!/usr/bin/env python3
"""Train the embedded base further by reinforcement learning (trl's GRPOTrainer).

The reward is by rule alone: 1 for the right boxed answer in a well-formed trace, else 0.
Starts from the stored bfloat16 values, so that the difference to them is this training's alone;
stored in float32, in two shards.

Example:
  python scripts/train_rl.py --settings experiments/training/mini.yaml --threads 1 \\
      --base results/mini-training/sft --output results/mini-training/rl
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
    parser.add_argument("--base", required=True, type=Path, help="the SFT checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--output", required=True, type=Path, help="folder of the checkpoint")
    arguments = parser.parse_args()
    claim_checkpoint(arguments.output, [arguments.settings, arguments.base])
    training.train_rl(
        read_settings(arguments.settings),
        arguments.base,
        arguments.output,
        arguments.threads,
    )


if __name__ == "__main__":
    sys.exit(run(main))
