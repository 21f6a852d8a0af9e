"""Choose what is read of the derivative's completions, and keep its last hidden states there.

For every --benchmark a folder is written (passages.parquet, states/, config.json,
reference.json): the first --count samples of every problem, up to --tokens tokens of each, and
what the derivative's next-token distributions there are made of. divergence.py then reads the same
text through any other model.

Nothing is sampled. The prompts are made again from the problems and held against the samples'
provenance; samples of another model, prompt or tokenizer, or with rows missing, are refused. What
cannot be read back as the tokens that were generated (tables without completion_ids) is counted.

The model's weights are cast to --dtype, then everything is computed in float32. A job that was
stopped goes on from the last finished completion.
"""

import argparse
from pathlib import Path

from lowrank.errors import at_least_one, run_and_leave

EXAMPLE = """example:
  python scripts/read_derivative.py --model results/mini/models/rl --model-name rl \\
      --tokenizer results/mini/models/sft --count 4 --tokens 4096 \\
      --benchmark mini30 results/mini/benchmarks/mini30.parquet reference \\
          results/mini/samples/mini30/rl/1-of-1.parquet
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="the derivative's checkpoint")
    add("--model-name", required=True, metavar="NAME", help="what results call it")
    add("--tokenizer", type=Path, required=True, metavar="DIR", help="folder of the tokenizer")
    add(
        "--benchmark",
        nargs="+",
        action="append",
        required=True,
        metavar="ARG",
        help="NAME PROBLEMS OUTPUT SAMPLES..: its name, its table of problems, the folder to"
        " write, and every part of the derivative's samples of it",
    )
    add("--count", type=at_least_one, required=True, metavar="N", help="completions a problem")
    add("--tokens", type=at_least_one, required=True, metavar="N", help="of each at most")
    add(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        default="bfloat16",
        help="what the model is served as (default bfloat16)",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    add("--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (default 1)")
    given = parser.parse_args()
    if any(len(each) < 4 for each in given.benchmark):
        parser.error("--benchmark takes NAME PROBLEMS OUTPUT and at least one table of samples")
    return given


def main() -> None:
    given = arguments()
    from lowrank.divergence.reference import Target, make_references

    make_references(
        given.model,
        given.model_name,
        given.dtype,
        given.tokenizer,
        [
            Target(name, Path(problems), Path(output), tuple(map(Path, samples)))
            for name, problems, output, *samples in given.benchmark
        ],
        given.count,
        given.tokens,
        given.device,
        given.threads,
    )


if __name__ == "__main__":
    run_and_leave(main)
