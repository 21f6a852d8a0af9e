#!/usr/bin/env python3
"""Fine-tune the embedded grandparent on worked traces (trl's SFTTrainer).

Its embeddings are untied first; the result is stored in bfloat16.

Example:
  python scripts/train_sft.py --settings experiments/training/mini.yaml --threads 1 \\
      --base results/mini-training/pretrained --output results/mini-training/sft
"""

import argparse
import sys
from pathlib import Path

from lowrank import training
from lowrank.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", required=True, help="training settings, a YAML file")
    parser.add_argument("--base", required=True, type=Path, help="the pretrained checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--output", required=True, type=Path, help="folder of the checkpoint")
    arguments = parser.parse_args()
    training.train_sft(
        training.read_settings(arguments.settings),
        arguments.base,
        arguments.output,
        arguments.threads,
    )


if __name__ == "__main__":
    sys.exit(run(main))
