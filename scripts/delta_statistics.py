"""What a factored delta says: all its singular values, and a line of statistics a matrix."""

import argparse
import sys

from lowrank.errors import at_least_one, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

Written into the folder of the delta:
  spectrum.parquet  one row a singular value: sigma, energy kept up to it, and by noise
  summary.parquet   one row a matrix: norms, ratios to the base's weights, ranks, noise
  statistics.json   what each column of the tables says, and of which delta; written last""",
        epilog="""example:
  python scripts/delta_statistics.py --delta results/mini/delta/rl \\
      --base results/mini/models/sft --derivative results/mini/models/rl""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--delta", required=True, metavar="DIR", help="folder of delta_svd.py")
    parser.add_argument("--base", required=True, metavar="DIR", help="the delta's base")
    parser.add_argument("--derivative", required=True, metavar="DIR", help="and derivative")
    parser.add_argument(
        "--details",
        action="store_true",
        help="also the spectrum of the delta after shuffling its entries, the share of entries "
        "left unchanged and the alignment with the base's weights; takes longer than factoring",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (1)"
    )
    args = parser.parse_args()

    from lowrank.delta.statistics import write_statistics

    write_statistics(
        args.delta,
        args.base,
        args.derivative,
        threads=args.threads,
        device=args.device,
        details=args.details,
    )


if __name__ == "__main__":
    sys.exit(run(main))
