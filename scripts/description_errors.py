"""What descriptions of a delta cost and how far they are from it, at the bytes of every rank."""

import argparse
import sys

from lowrank.errors import at_least_one, run
from lowrank.plan.controls import CONTROLS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

Written into the folder of the delta: descriptions.parquet, a row a matrix, description and rank:
its bytes and ||D - description||_F. The top directions (lowrank) are always among them.""",
        epilog="""example:
  python scripts/description_errors.py --delta results/mini/delta/sft --kinds sparse bitdelta \\
      --ranks 4 16 --base results/mini/models/pretrained --derivative results/mini/models/sft""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--delta", required=True, metavar="DIR", help="folder of delta_svd.py")
    parser.add_argument("--base", required=True, metavar="DIR", help="the delta's base")
    parser.add_argument("--derivative", required=True, metavar="DIR", help="and derivative")
    kinds = [control.name for control in CONTROLS.values() if control.packed]
    parser.add_argument("--kinds", nargs="+", required=True, choices=kinds)
    parser.add_argument(
        "--ranks", nargs="+", required=True, type=at_least_one, metavar="R", help="whose bytes"
    )
    parser.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (1)"
    )
    args = parser.parse_args()

    from lowrank.variants.description_errors import write_errors

    write_errors(
        args.delta, args.base, args.derivative, args.kinds, args.ranks, threads=args.threads
    )


if __name__ == "__main__":
    sys.exit(run(main))
