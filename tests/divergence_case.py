"""Completions of a tiny derivative, made by a pretended engine, and how they are read."""

import random
from pathlib import Path

import pandas

import sample as program
from lowrank.divergence.reading import read_model
from lowrank.divergence.reference import Target, make_references
from lowrank.sampling import completions
from lowrank.sampling.feeding import Completion

PROBLEMS = {"p2": "1 + 2", "p10": "3 * 4 - 1", "p1": "7 + 7 * 2 = ?"}


def pretend(serving, sequences):
    """An engine that draws characters of the tiny tokenizer; most completions end by themselves."""

    def complete(requests):
        for request in requests:
            draw = random.Random(request.seed)
            ids = tuple(draw.randrange(4, 100) for _ in range(draw.randrange(1, 30)))
            ended = draw.random() < 0.7
            yield [Completion(request.name, ids + (1,) * ended, "stop" if ended else "length")], 0

    return complete


def make_samples(folder: Path, model: Path, samples: int = 3, parts: int = 1) -> list[Path]:
    """Problems and a pool of `model`, called rl, of them; its parts."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"problem_id": list(PROBLEMS), "problem": list(PROBLEMS.values())}
    pandas.DataFrame(rows).to_parquet(folder / "problems.parquet")
    tables = [folder / f"{part}-of-{parts}.parquet" for part in range(1, parts + 1)]
    for part, table in enumerate(tables, 1):
        words = [
            *("--model", model, "--tokenizer", model, "--model-name", "rl", "--samples", samples),
            *("--benchmark", "b", folder / "problems.parquet", table, "--part", part),
            *("--parts", parts, "--store", folder / "store", "--max-tokens", "40"),
            *("--max-model-len", "100", "--system", "", "--user", "{problem}"),
            *("--think-prefix", "<think>\n", "--dtype", "float32"),
        ]
        completions.sample(program.job(program.parse([str(word) for word in words])), pretend)
    return tables


def make_reference(folder: Path, model: Path, samples: list[Path], count=3, tokens=100, **more):
    """The reference of a pool, below `folder`; dtype float32 unless said otherwise."""
    dtype = more.pop("dtype", "float32")
    problems = samples[0].parent / "problems.parquet"
    target = Target("b", problems, folder, tuple(samples))
    tokenizer = more.pop("tokenizer", model)
    make_references(model, "rl", dtype, tokenizer, [target], count, tokens, **more)
    return folder


def read(reference: Path, model: Path, output: Path, tokenizer: Path | None = None, **more):
    """The table of a model against a reference; dtype float32 unless said otherwise."""
    dtype = more.pop("dtype", "float32")
    targets = [(reference, output)]
    read_model(model, output.stem, dtype, tokenizer or model, targets, **more)
    return pandas.read_parquet(output)
