"""Where the change from base to derivative lives, by what its parts do to the derivative's text.

For every matrix, every module over all layers, every layer, the rest (embeddings, head, norms,
biases) and the whole: how far the derivative is from itself with that part's change taken out, and
how far the base still is with that part's change alone put in (KL divergence a token, mean over
problems). Weights are exchanged in memory; no checkpoint is written. The table's columns:
docs/tables.md. A job that was stopped goes on from the last finished part.
"""

import argparse
from pathlib import Path

from lowrank.errors import at_least_one, run_and_leave

EXAMPLE = """example:
  python scripts/locate.py --base results/mini/models/sft --derivative results/mini/models/rl \\
      --reference results/mini/divergence/mini30/reference --samples 1 --tokens 512 \\
      --output locate.csv
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--base", type=Path, required=True, metavar="DIR", help="the base's checkpoint")
    add("--derivative", type=Path, required=True, metavar="DIR", help="the derivative's")
    add(
        "--reference",
        type=Path,
        required=True,
        metavar="DIR",
        help="what read_derivative.py wrote of the derivative",
    )
    add("--samples", type=at_least_one, default=1, metavar="N", help="completions a problem (1)")
    add("--tokens", type=at_least_one, default=512, metavar="N", help="of each at most (512)")
    add("--leave-out", nargs="+", default=[], metavar="PATTERN", help="tensors to do without")
    add(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        default="bfloat16",
        help="what both models are served as (default bfloat16)",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    add("--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (default 1)")
    add("--output", type=Path, required=True, metavar="FILE", help="the .csv to write")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    from lowrank.divergence.locate import locate

    locate(
        given.base,
        given.derivative,
        given.reference,
        given.output,
        given.dtype,
        given.leave_out,
        given.samples,
        given.tokens,
        given.device,
        given.threads,
    )


if __name__ == "__main__":
    run_and_leave(main)
