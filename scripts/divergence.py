"""How far a model's next-token distributions are from the derivative's, on the derivative's text.

For every --reference (a folder that read_derivative.py wrote) a table is written, a row a token
that is read: KL(derivative || model) over the whole vocabulary at temperature 1, in nats, and what
both models say of the token that stands there. Its columns: docs/tables.md. Beside it .json: what
was read, of which weights, with which versions.

The weights, and the factors of an adapter, are cast to --dtype, then everything is computed in
float32. Each completion goes through the model alone: the numbers depend on no batch and no order.
A job that was stopped goes on from the last finished completion.
"""

import argparse
from pathlib import Path

from lowrank.errors import at_least_one, run_and_leave

EXAMPLE = """example:
  python scripts/divergence.py --model results/mini/variants/r16-copy --model-name r16-copy \\
      --tokenizer results/mini/models/sft --reference reference r16-copy.parquet
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint to read with")
    add(
        "--adapter",
        type=Path,
        metavar="DIR",
        help="PEFT LoRA that is served unmerged on --model (which then holds everything else)",
    )
    add("--model-name", required=True, metavar="NAME", help="what results call it")
    add("--tokenizer", type=Path, required=True, metavar="DIR", help="folder of the tokenizer")
    add(
        "--reference",
        nargs=2,
        type=Path,
        action="append",
        required=True,
        metavar=("DIR", "OUTPUT"),
        help="what read_derivative.py wrote, and the .parquet to write",
    )
    add(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        default="bfloat16",
        help="what the model is served as (default bfloat16)",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    add("--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (default 1)")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    from lowrank.divergence.reading import read_model

    read_model(
        given.model,
        given.model_name,
        given.dtype,
        given.tokenizer,
        [tuple(pair) for pair in given.reference],
        given.adapter,
        given.device,
        given.threads,
    )


if __name__ == "__main__":
    run_and_leave(main)
