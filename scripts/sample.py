"""Sample the completions of one model with vLLM, or take those that were made before.

For every --benchmark a table is written: samples 0 .. SAMPLES - 1 of every problem (of these, the
part PART of PARTS). Each has a seed of its own, made from SEED, the benchmark's and model's name,
the problem's id and the sample's number: however the work is cut, grown or interrupted, the pool
is the same (on a GPU: up to rounding).

Finished completions go to --store at once and stay there. What it has is taken and never sampled
again; with nothing missing, no engine starts and no weights are needed. `completions.py` lists it.

The prompt is the system and the user message in the chat template of --tokenizer, the reasoning
opened by --think-prefix unless the template opens it. The engine is given token ids. A completion
ends at the end tokens of the tokenizer's folder; its text is all that was generated, special tokens
such as </think> included, without that end token.

A table has the columns problem_id, sample, seed, prompt_tokens, completion, completion_ids,
completion_tokens (the end token included) and finish_reason (stop, or length for one cut off);
beside it .json: versions, hashes, parameters, a decoded prompt, counts.

The weights, and the factors of an adapter, are cast to --dtype, whatever they are stored in and
whatever --compute-dtype the engine computes in.

Nothing is fetched, no code of a model is run, weights are read from safetensors only.

Example:
  python scripts/sample.py --model results/mini/models/rl --tokenizer results/mini/models/sft \\
      --benchmark chains results/mini/benchmarks/chains.parquet chains-rl.parquet \\
      --model-name rl --samples 64 --seed 0 --store results/completions \\
      --device cpu --dtype bfloat16 --temperature 0.6 --top-p 0.95 \\
      --max-tokens 160 --max-model-len 256 --max-num-seqs 512 \\
      --system '' --user '{problem}' --think-prefix $'<think>\\n'
"""

import argparse
from pathlib import Path

from lowrank.errors import run_and_leave
from lowrank.plan.engine_settings import ENGINE, read_engine_words
from lowrank.sampling.completions import RESAMPLE, sample
from lowrank.sampling.engine import Serving
from lowrank.sampling.requests import Job, Target

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
    add("--model-name", required=True, metavar="NAME", help="what results call the model")
    add(
        "--benchmark",
        nargs=3,
        action="append",
        required=True,
        metavar=("NAME", "PROBLEMS", "OUTPUT"),
        help="what results call the benchmark, its table of problems, the .parquet to write",
    )
    add("--samples", type=int, required=True, metavar="N", help="samples a problem: the pool")
    add("--part", type=int, default=1, metavar="I", help="which part of them, from 1 (default 1)")
    add("--parts", type=int, default=1, metavar="N", help="parts they are cut into (default 1)")
    add("--store", type=Path, required=True, metavar="DIR", help="where completions are kept")
    add(
        "--resample",
        choices=RESAMPLE,
        default="ask",
        help="whether kept completions of other versions are made anew; ask: stop and say so"
        " (default); always: nothing that is kept is taken",
    )
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
        " most half of what is free beside the weights)",
    )
    add(
        "--memory-mb",
        type=int,
        metavar="MIB",
        help="what the job may use in all, on a CPU (default: what is free)",
    )
    add(
        "--gpu-memory",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="share of each GPU's memory to use (default 0.9)",
    )
    add(
        "--tensor-parallel",
        type=int,
        default=1,
        metavar="N",
        help="GPUs to spread the model over; on CUDA sums round otherwise then (default 1)",
    )
    add("--quantization", choices=("fp8",), help="quantise weights on loading (default: do not)")
    add(
        "--batch-invariant",
        action="store_true",
        help="CUDA: vLLM's kernels that round the same way in any batch; slower",
    )
    add(
        "--engine",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further arguments of vLLM's engine that change no completion but by rounding:"
        f" {', '.join(ENGINE)}",
    )
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
            memory_mb=given.memory_mb,
            tensor_parallel=given.tensor_parallel,
            quantization=given.quantization,
            batch_invariant=given.batch_invariant,
            more=read_engine_words(given.engine),
        ),
        tokenizer=given.tokenizer,
        targets=tuple(
            Target(name, Path(problems), Path(output)) for name, problems, output in given.benchmark
        ),
        store=given.store,
        model_name=given.model_name,
        samples=given.samples,
        part=given.part,
        parts=given.parts,
        resample=given.resample,
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
    run_and_leave(main)
