"""Jobs of sampling in a folder of a test: their command line, a pretended engine, a kill."""

import json
import random
import subprocess
import time
from pathlib import Path

import pandas
from tiny_checkpoint import make_tokenizer

import sample as program
from lowrank import sampling
from lowrank.engine import Completion

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
    """Command line of a job; what `more` says counts over what stands here."""
    return [
        *("--model", str(folder / "model"), "--tokenizer", str(folder / "tokenizer")),
        *("--problems", str(folder / "problems.parquet"), "--output", str(folder / output)),
        *("--model-name", "m", "--benchmark", "b", "--first", "0", "--count", "4"),
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
            yield []
            yield [Completion(request.name, ids + (1,) * ended, "stop" if ended else "length")]

    return complete


def no_engine(serving, sequences):
    raise AssertionError("an engine was started")


def run(folder, output, *more, start=pretend):
    sampling.sample(job(folder, output, *more), start)
    return pandas.read_parquet(folder / output)


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_at(command, partial, wanted, seconds=90):
    """Run a command and kill -9 it as soon as its journal has `wanted` lines; its exit status."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + seconds
        while lines(partial) < wanted and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
    finally:
        process.kill()
    return process.wait()
