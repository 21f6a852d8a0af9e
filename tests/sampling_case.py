"""Jobs of sampling in a folder of a test: their command line, a pretended engine, a kill."""

import json
import random
import subprocess
import time
from pathlib import Path

import pandas
from tiny_checkpoint import make_tokenizer

import sample as program
from lowrank.sampling import completions, store
from lowrank.sampling.feeding import Completion

SCRIPTS = Path(__file__).parent.parent / "scripts"
PROBLEMS = {"p2": "What is 1 + 2?", "p10": "3 * 4 - 1", "p1": "7 + 7 * 2, and what is it mod 10?"}


def make_folder(folder: Path) -> Path:
    """Everything a job needs but an engine: tokenizer, problems, a model of no real weights."""
    make_tokenizer(folder / "tokenizer")
    rows = {"problem_id": list(PROBLEMS), "problem": list(PROBLEMS.values())}
    pandas.DataFrame(rows).to_parquet(folder / "problems.parquet")
    (folder / "model").mkdir()
    config = {"vocab_size": 272, "max_position_embeddings": 256}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    return folder


def arguments(folder: Path, output: str, *more: str) -> list[str]:
    """Command line of a job of benchmark b with a store of its own; `more` counts over it."""
    if "--benchmark" not in more:
        more = ("--benchmark", "b", str(folder / "problems.parquet"), str(folder / output), *more)
    return [
        *("--model", str(folder / "model"), "--tokenizer", str(folder / "tokenizer")),
        *("--store", str(folder / f"{output}.store"), "--model-name", "m", "--samples", "4"),
        *("--max-tokens", "100", "--max-model-len", "150", "--max-num-seqs", "64"),
        *("--temperature", "1.0", "--top-p", "0.95", "--think-prefix", "<think>\n", *more),
    ]


def job(folder, output, *more):
    return program.job(program.parse(arguments(folder, str(output), *more)))


def pretend(serving, sequences, seen=None):
    """An engine that makes a text of a request's seed, and finishes in an order of its own."""

    def complete(requests):
        waiting = list(requests)
        random.Random(len(waiting)).shuffle(waiting)
        for request in waiting:
            if seen is not None:
                seen.append(request.name)
            draw = random.Random(request.seed)
            ids = tuple(draw.randrange(5, 272) for _ in range(draw.randrange(1, 20)))
            ended = draw.random() < 0.7
            yield [], len(ids)
            yield [Completion(request.name, ids + (1,) * ended, "stop" if ended else "length")], 0

    return complete


def no_engine(serving, sequences):
    raise AssertionError("an engine was started")


def run(folder, output, *more, start=pretend):
    completions.sample(job(folder, output, *more), start)
    return pandas.read_parquet(folder / output)


def kept(output: Path) -> list[store.Kept]:
    """Every completion in the store of a job."""
    settings = output.with_name(f"{output.name}.store").glob("*/")
    return [one for setting in settings for one in store.kept(setting)]


def counting(made: list):
    """A pretended engine that tells in `made` what it was asked for."""
    return lambda serving, sequences: pretend(serving, sequences, made)


def kill_at(command, output: Path, wanted: int, seconds: int = 90) -> int:
    """Run a command and kill -9 it as soon as its store holds so many; its exit status."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + seconds
        while len(kept(output)) < wanted and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        process.kill()
    return process.wait()
