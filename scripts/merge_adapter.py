"""Merge somebody's PEFT adapter, LoRA or DoRA, into its base: a complete checkpoint."""

import argparse
import sys

from lowrank.errors import at_least_one, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

  LoRA  W + s B A                      s = alpha / r, with rsLoRA alpha / sqrt(r)
  DoRA  m (W + s B A) / ||W + s B A||  the norm over the inputs, a magnitude m an output
Merged in float32 and stored so. rank_pattern, alpha_pattern, modules trained whole and trained
biases are honoured; what cannot be is refused by name, and so is an adapter that was made for
another base. Written into --output: a complete Hugging Face checkpoint (configuration and tokenizer
are the base's), adapter.csv (the norms of B A and of the merged change, matrix by matrix) and
manifest.json, last.""",
        epilog="""example:
  python scripts/merge_adapter.py --base results/x/models/distill \\
      --adapter results/x/peft/theirs --output results/x/models/theirs""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", required=True, metavar="DIR", help="checkpoint folder")
    parser.add_argument(
        "--adapter",
        required=True,
        metavar="DIR",
        help="folder of adapter_config.json and adapter_model.safetensors",
    )
    parser.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (1)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the checkpoint")
    args = parser.parse_args()

    from lowrank.variants.adapted import write_adapted

    write_adapted(args.base, args.adapter, args.output, threads=args.threads)


if __name__ == "__main__":
    sys.exit(run(main))
