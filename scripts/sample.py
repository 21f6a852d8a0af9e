"""Sample completions of one model on one benchmark with vLLM: one shard of the pool, one table.

Every problem gets the samples FIRST .. FIRST + COUNT - 1. Each has a seed of its own, made from
SEED, the benchmark's and model's name, the problem's id and the sample's number; a pool grown in
shards is the pool made at once, and a pool made twice is the same pool (on a GPU: up to rounding).

The prompt is the system and the user message in the chat template of --tokenizer, the reasoning
opened by --think-prefix unless the template opens it. The engine is given token ids. A completion
ends at the end tokens of the tokenizer's folder; its text keeps special tokens such as </think>,
without end and padding tokens.

Written: the table, with the columns problem_id, sample, seed, prompt_tokens, completion,
completion_tokens (the end token included) and finish_reason (stop, or length for one cut off);
beside it <shard>.json: versions, hashes, parameters, a decoded prompt, counts. While the job runs,
finished completions stand in <shard>.partial.jsonl: started again after a kill, it goes on there.

The weights, and the factors of an adapter, are cast to --dtype, whatever they are stored in and
whatever --compute-dtype the engine computes in.

Nothing is fetched, no code of a model is run, weights are read from safetensors only.

Example:
  python scripts/sample.py --model results/mini/models/rl --tokenizer results/mini/models/sft \\
      --problems results/mini/benchmarks/chains.parquet --model-name rl --benchmark chains \\
      --first 0 --count 64 --seed 0 --device cpu --dtype bfloat16 --temperature 0.6 --top-p 0.95 \\
      --max-tokens 160 --max-model-len 256 --max-num-seqs 512 \\
      --system '' --user '{problem}' --think-prefix $'<think>\\n' \\
      --output results/mini/samples/chains/rl/0000-0063.parquet
"""

import argparse
import os
import sys
from pathlib import Path

from lowrank.engine import Serving
from lowrank.errors import run
from lowrank.sampling import Job, sample

DTYPES = ("bfloat16", "float16", "float32")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint folder to serve")
    add(
        "--adapter",
        type=Path,
        metavar="DIR",
        help="PEFT LoRA to serve unmerged on --model (which then holds everything else)",
    )
    add("--tokenizer", type=Path, required=True, metavar="DIR", help="folder of the tokenizer")
    add("--problems", type=Path, required=True, metavar="FILE", help="problem_id, problem, ...")
    add("--model-name", required=True, metavar="NAME", help="what results call the model")
    add("--benchmark", required=True, metavar="NAME", help="what results call the benchmark")
    add("--first", type=int, default=0, metavar="N", help="first sample's number (default 0)")
    add("--count", type=int, required=True, metavar="N", help="samples a problem")
    add("--seed", type=int, default=0, metavar="N", help="the experiment's seed (default 0)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    add(
        "--dtype",
        choices=DTYPES,
        default="bfloat16",
        help="to serve: what the weights are cast to (default bfloat16)",
    )
    add(
        "--compute-dtype",
        choices=DTYPES,
        help="to compute in; must hold the values that are served (default: as --dtype)",
    )
    add("--temperature", type=float, default=0.6, metavar="T", help="0 is greedy (default 0.6)")
    add("--top-p", type=float, default=0.95, metavar="P", help="nucleus (default 0.95)")
    add("--max-tokens", type=int, required=True, metavar="N", help="longest completion, in tokens")
    add(
        "--max-model-len",
        type=int,
        required=True,
        metavar="N",
        help="longest prompt and completion together, in tokens",
    )
    add(
        "--max-num-seqs",
        type=int,
        default=256,
        metavar="N",
        help="completions in progress at once; changes speed and memory only (default 256)",
    )
    add("--system", default="", metavar="TEXT", help="system message (default: none)")
    add(
        "--user",
        default="{problem}",
        metavar="TEXT",
        help="user message, {problem} where the problem goes (default {problem})",
    )
    add(
        "--think-prefix",
        default="",
        metavar="TEXT",
        help="what generation begins inside, e.g. $'<think>\\n' (default: nothing forced)",
    )
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default 1)")
    add(
        "--kv-cache-gib",
        type=float,
        metavar="GIB",
        help="CPU memory for keys and values (default: what max-num-seqs full sequences need, at"
        " most half of the free memory)",
    )
    add(
        "--gpu-memory",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="share of the GPU's memory to use (default 0.9)",
    )
    add("--output", type=Path, required=True, metavar="FILE", help="the table, .parquet")
    return parser.parse_args(arguments)


def job(given: argparse.Namespace) -> Job:
    return Job(
        serving=Serving(
            model=given.model,
            adapter=given.adapter,
            device=given.device,
            dtype=given.dtype,
            compute_dtype=given.compute_dtype or given.dtype,
            max_model_len=given.max_model_len,
            max_num_seqs=given.max_num_seqs,
            threads=given.threads,
            kv_cache_gib=given.kv_cache_gib,
            gpu_memory=given.gpu_memory,
        ),
        tokenizer=given.tokenizer,
        problems=given.problems,
        output=given.output,
        model_name=given.model_name,
        benchmark=given.benchmark,
        first=given.first,
        count=given.count,
        seed=given.seed,
        temperature=given.temperature,
        top_p=given.top_p,
        max_tokens=given.max_tokens,
        system=given.system,
        user=given.user,
        think=given.think_prefix,
    )


def main() -> None:
    sample(job(parse()))


if __name__ == "__main__":
    status = run(main)
    # Every file is whole by now; torch and vLLM would take seconds more to take themselves apart.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
