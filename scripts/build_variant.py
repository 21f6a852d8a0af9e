"""Make a checkpoint to serve: base + low-rank delta, everything else copied or kept."""

import argparse
import sys

from lowrank.errors import at_least_one, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

  projections  base + adapter, added in float32 and cast once (without --adapter: the base's);
               --description: a change that is described otherwise
  biases       of the projections: the derivative's (copy) or the base's (keep)
  other        embeddings, head and norms: the derivative's (copy) or the base's (keep)
What one of the two models stores in float32 beside bfloat16 stays float32; integer buffers stay as
they are.
Written into --output: a complete Hugging Face checkpoint, fidelity.json (how far what is stored
lies from what was meant: per tensor the relative error of the delta, the share of entries the
cast left at the base's value, the cosine) and manifest.json, last.""",
        epilog="""example:
  python scripts/build_variant.py --base results/mini/models/sft \\
      --derivative results/mini/models/rl --adapter results/mini/adapters/rl/r16 \\
      --other copy --dtype bfloat16 \\
      --tokenizer results/mini/models/sft --output results/mini/variants/r16-copy""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", required=True, metavar="DIR", help="checkpoint folder")
    parser.add_argument("--derivative", required=True, metavar="DIR", help="checkpoint folder")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--adapter", metavar="DIR", help="folder of build_adapter.py")
    change.add_argument("--description", metavar="DIR", help="folder of build_description.py")
    parser.add_argument("--other", required=True, choices=("copy", "keep"))
    parser.add_argument("--biases", choices=("copy", "keep"), default="copy", help="default: copy")
    parser.add_argument(
        "--dtype",
        required=True,
        choices=("bfloat16", "float16", "float32"),
        help="what is stored and served",
    )
    parser.add_argument(
        "--tokenizer", required=True, metavar="DIR", help="whose tokenizer files to take"
    )
    parser.add_argument(
        "--unmerged",
        action="store_true",
        help="leave the projections the base's, to serve the adapter unmerged on top; with "
        "--adapter, fidelity.json is about the two together",
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        nargs="*",
        default=[],
        metavar="PATTERN",
        help="tensors to do without, as for delta_svd.py",
    )
    parser.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (1)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the checkpoint")
    args = parser.parse_args()

    from lowrank.variants.merge import write_variant

    write_variant(
        args.base,
        args.derivative,
        args.output,
        args.tokenizer,
        adapter_folder=args.adapter,
        other=args.other,
        biases=args.biases,
        dtype=args.dtype,
        leave_out=[pattern for group in args.leave_out for pattern in group],
        unmerged=args.unmerged,
        threads=args.threads,
        description_folder=args.description,
    )


if __name__ == "__main__":
    sys.exit(run(main))
