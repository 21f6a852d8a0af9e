"""Cut a delta to a rank: a LoRA adapter that PEFT and vLLM load."""

import argparse
import sys

from lowrank.errors import at_least_one, run
from lowrank.plan.controls import CONTROLS


def directions() -> list[str]:
    """What a control's adapter may be made of."""
    every = (control.flags.get("directions") for control in CONTROLS.values())
    return sorted({each for each in every if each})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

The top RANK singular directions of every projection's delta, without another factorisation.
Written into --output: adapter_model.safetensors and adapter_config.json (PEFT; float32, alpha = r,
no bias, nothing but weights) and adapter.json (each matrix's effective rank and energy kept).
A rank above a matrix's shorter side is capped there.""",
        epilog="""example:
  python scripts/build_adapter.py --delta results/mini/delta/rl --base results/mini/models/sft \\
      --derivative results/mini/models/rl --rank 16 --output results/mini/adapters/rl/r16""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--delta", required=True, metavar="DIR", help="folder of delta_svd.py")
    parser.add_argument("--base", required=True, metavar="DIR", help="the delta's base")
    parser.add_argument("--derivative", required=True, metavar="DIR", help="and derivative")
    parser.add_argument(
        "--rank", required=True, type=at_least_one, metavar="R", help="directions to keep"
    )
    parser.add_argument(
        "--pad-rank",
        action="store_true",
        help="fill up with zeros to the next rank that vLLM can serve unmerged",
    )
    parser.add_argument(
        "--directions",
        choices=("top", *directions()),
        default="top",
        help="controls: the weakest RANK directions, or random ones with the strongest singular "
        "values (default: top)",
    )
    parser.add_argument(
        "--rescale",
        action="store_true",
        help="control: scale every matrix to the norm of its whole delta",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the random directions (default 0)"
    )
    parser.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (1)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the adapter")
    args = parser.parse_args()

    from lowrank.variants.adapter import write_adapter

    write_adapter(
        args.delta,
        args.base,
        args.derivative,
        args.rank,
        args.output,
        threads=args.threads,
        pad_rank=args.pad_rank,
        directions=args.directions,
        rescale=args.rescale,
        seed=args.seed,
    )


if __name__ == "__main__":
    sys.exit(run(main))
