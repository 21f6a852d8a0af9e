"""Factor the difference of two checkpoints: all singular values, and adapters of any rank."""

import argparse
import sys

from lowrank.errors import at_least_one, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

For the seven projections (q, k, v, o, gate, up, down) of every layer, D = W_derivative - W_base
is factored once. Written into --output:
  ledger.parquet    one row a tensor of either model, and what becomes of it
  basis/            all singular values, and what build_adapter.py needs for any rank
  manifest.json     the weights' hashes, the method, versions; written last
delta_statistics.py makes tables of it.
Interrupted, it goes on from the matrices already done, as long as their weights are the same.""",
        epilog="""example:
  python scripts/delta_svd.py --base results/mini/models/sft --derivative results/mini/models/rl \\
      --threads 2 --output results/mini/delta/rl""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", required=True, metavar="DIR", help="checkpoint folder before")
    parser.add_argument("--derivative", required=True, metavar="DIR", help="and after training")
    parser.add_argument(
        "--leave-out",
        action="append",
        nargs="*",
        default=[],
        metavar="PATTERN",
        help="tensors to do without, as shell patterns such as '*.inv_freq'; without it a tensor "
        "that only one model has, or in another shape, is an error",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (1)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the delta")
    args = parser.parse_args()

    from lowrank.delta.factor import factor_pair

    factor_pair(
        args.base,
        args.derivative,
        args.output,
        leave_out=[pattern for group in args.leave_out for pattern in group],
        threads=args.threads,
        device=args.device,
    )


if __name__ == "__main__":
    sys.exit(run(main))
