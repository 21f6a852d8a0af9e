"""What sample.py costs beside vLLM alone: the same requests through both, in one run, alternating.

Ours is all that the program does once its engine is up: feeding requests, decoding, the store
on disk, progress, table and provenance. The bare loop is `vllm.LLM(...).generate(...)` on the same
token ids, seeds and parameters, with an engine of the same arguments, its texts thrown away. On a
CPU ours also keeps matrix products to one shape (see lowrank/sampling/engine.py), which counts
against it.

Printed: seconds on the wall and of the CPU a round, tokens a second, and the ratio of throughputs
(ours / bare, the median over rounds). Exit status 1 where that, by the wall, is below --bar.

Without --model a random checkpoint of 2.4 M parameters is made, the size of the embedded ones.

Example:
  python benchmarks/sampling.py
  python benchmarks/sampling.py --problems results/mini/benchmarks/chains.parquet \\
      --model results/mini/models/rl --tokenizer results/mini/models/sft
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "scripts"), str(HERE / "tests")]

from lowrank.files import read_table  # noqa: E402
from lowrank.sampling import completions, engine  # noqa: E402
from lowrank.sampling.engine import Serving  # noqa: E402
from lowrank.sampling.feeding import Complete, Request  # noqa: E402
from lowrank.sampling.requests import Job, Target  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, metavar="DIR", help="checkpoint (default: a random one)")
    add("--tokenizer", type=Path, metavar="DIR", help="tokenizer (default: --model)")
    add("--problems", type=Path, metavar="FILE", help="problems (default: 30 made-up ones)")
    add("--samples", type=int, default=16, metavar="N", help="a problem (default 16)")
    add("--max-tokens", type=int, default=100, metavar="N", help="default 100")
    add("--max-model-len", type=int, default=256, metavar="N", help="default 256")
    add("--max-num-seqs", type=int, default=256, metavar="N", help="default 256")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    add("--dtype", default="bfloat16", help="served (default bfloat16)")
    add("--compute-dtype", help="computed in (default: as --dtype)")
    add("--threads", type=int, default=1, metavar="N", help="default 1")
    add("--rounds", type=int, default=9, metavar="N", help="of each, alternating (default 9)")
    add("--bar", type=float, default=0.97, metavar="RATIO", help="default 0.97")
    return parser.parse_args()


def subjects(given: argparse.Namespace, folder: Path) -> tuple[Path, Path, Path]:
    """Model, tokenizer and problems: those given, or random ones made in `folder`."""
    if given.model:
        return given.model, given.tokenizer or given.model, given.problems
    import pandas
    from tiny_checkpoint import make_model, make_tokenizer

    rows = {
        "problem_id": [str(number) for number in range(30)],
        "problem": [f"What is {number} * {number} - 7?" for number in range(30)],
    }
    pandas.DataFrame(rows).to_parquet(folder / "problems.parquet")
    model = make_model(folder / "model", dtype=given.dtype)
    return model, make_tokenizer(folder / "tokenizer"), folder / "problems.parquet"


def timed(work: Callable[[], int]) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds, and what `work` returns: tokens made."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = work()
    return time.perf_counter() - wall, time.process_time() - cpu, tokens


def bare(llm: "vllm.LLM", requests: list[Request]) -> int:  # noqa: F821
    """The loop a person would write; returns how many tokens it made."""
    from vllm import SamplingParams

    outputs = llm.generate(
        [{"prompt_token_ids": list(request.prompt)} for request in requests],
        [
            SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p,
                max_tokens=request.max_tokens,
                seed=request.seed,
                stop_token_ids=list(request.end_tokens),
                ignore_eos=True,
                detokenize=False,
            )
            for request in requests
        ],
        use_tqdm=False,
    )
    return sum(len(output.outputs[0].token_ids) for output in outputs)


def compare(given: argparse.Namespace, folder: Path) -> float:
    """Run both, print the table, return the ratio of throughputs."""
    model, tokenizer, problems = subjects(given, folder)
    serving = Serving(
        model=model,
        device=given.device,
        dtype=given.dtype,
        compute_dtype=given.compute_dtype or given.dtype,
        max_model_len=given.max_model_len,
        max_num_seqs=given.max_num_seqs,
        threads=given.threads,
        gpu_memory=0.45,  # both engines are there at once
    )
    job = Job(
        serving=serving,
        tokenizer=tokenizer,
        targets=(Target("b", problems, folder / "ours.parquet"),),
        store=folder / "store",
        model_name="m",
        samples=given.samples,
        part=1,
        parts=1,
        resample="always",
        seed=0,
        temperature=0.6,
        top_p=0.95,
        max_tokens=given.max_tokens,
        system="",
        user="{problem}",
        think="<think>\n",
    )
    requests: list[Request] = []
    began: list[float] = []
    running: list[Complete] = []

    def start(serving: Serving, sequences: int) -> Complete:
        if not running:
            running.append(engine.start(serving, sequences))

        def complete(asked):
            requests[:] = asked
            began[:] = [time.perf_counter(), time.process_time()]
            return running[0](requests)

        return complete

    def ours() -> tuple[float, float, int]:
        completions.sample(job, start)
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        table = read_table(folder / "ours.parquet")
        return wall, cpu, int(table["completion_tokens"].sum())

    ours()  # warms the engine up, and tells the requests
    from vllm import LLM

    config = engine.read_config(model, given.max_model_len)
    at_once = min(given.max_num_seqs, len(requests))
    llm = LLM(**engine.arguments(serving, config, at_once))
    bare(llm, requests)
    rows = []
    for number in range(given.rounds):
        pair = {}
        for name in ("ours", "bare")[:: 1 if number % 2 else -1]:
            pair[name] = ours() if name == "ours" else timed(lambda: bare(llm, requests))
        rows.append(pair)
        for name, (wall, cpu, tokens) in pair.items():
            print(
                f"round {number + 1} {name}: {wall:7.2f} s wall {cpu:7.2f} s CPU"
                f" {tokens:8d} tokens {tokens / wall:8.0f} tokens/s",
                flush=True,
            )
    for place, clock in ((1, "CPU"), (0, "wall")):
        ratios = [
            (pair["ours"][2] / pair["ours"][place]) / (pair["bare"][2] / pair["bare"][place])
            for pair in rows
        ]
        # The two of a round ran next to each other, in turns first: their ratio outlives what
        # other work on the machine does to both.
        ratio = statistics.median(ratios)
        print(
            f"ours / bare by {clock} time: median {ratio:.3f} of {len(rows)} rounds"
            f" ({min(ratios):.3f} to {max(ratios):.3f}); {len(requests)} requests"
        )
    return ratio


def main() -> int:
    given = parse()
    engine.prepare_environment(given.device, given.threads)
    with tempfile.TemporaryDirectory() as folder:
        ratio = compare(given, Path(folder))
    if ratio < given.bar:
        print(f"below the bar of {given.bar}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
