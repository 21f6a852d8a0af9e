"""Describe a delta in the bytes that a rank costs, but not by its top directions."""

import argparse
import sys

from lowrank.errors import at_least_one, run
from lowrank.plan.controls import CONTROLS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

Each matrix gets the bytes of its two factors of RANK in float32; all that a description needs is
counted: values, positions, scales.

  sparse      the largest entries alone
  bitdelta    the sign of every entry and one scale a matrix; its own bytes, whatever the rank
  quantised8  more directions, their factors rounded to 8 bits (a scale for 128 entries)
  quantised4  the same with 4 bits
Written into --output: description.safetensors (the packed parts) and description.json (bytes).""",
        epilog="""example:
  python scripts/build_description.py --delta results/mini/delta/rl --kind sparse --rank 16 \\
      --base results/mini/models/sft --derivative results/mini/models/rl \\
      --output results/mini/descriptions/rl/sparse-r16""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--delta", required=True, metavar="DIR", help="folder of delta_svd.py")
    parser.add_argument("--base", required=True, metavar="DIR", help="the delta's base")
    parser.add_argument("--derivative", required=True, metavar="DIR", help="and derivative")
    kinds = [control.name for control in CONTROLS.values() if control.packed]
    parser.add_argument("--kind", required=True, choices=kinds)
    parser.add_argument(
        "--rank", type=at_least_one, default=1, metavar="R", help="whose bytes it gets (1)"
    )
    parser.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (1)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the description")
    args = parser.parse_args()

    from lowrank.variants.description import write_description

    write_description(
        args.delta,
        args.base,
        args.derivative,
        args.kind,
        args.rank,
        args.output,
        threads=args.threads,
    )


if __name__ == "__main__":
    sys.exit(run(main))
