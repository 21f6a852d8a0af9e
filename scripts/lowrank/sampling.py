"""Completions of one model on one benchmark: what is asked, what is kept, what is written."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank import engine, prompts
from lowrank.casting import check_compute_dtype
from lowrank.claims import check_output
from lowrank.engine import Complete, Request, Serving
from lowrank.errors import InputError
from lowrank.files import read_table, write_json, write_table
from lowrank.journal import Journal, open_journal
from lowrank.manifest import file_hashes, own_manifest
from lowrank.progress import Progress
from lowrank.seeds import request_seed

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "problem_id",
    "sample",
    "seed",
    "prompt_tokens",
    "completion",
    "completion_tokens",
    "finish_reason",
)
HEARTBEAT = 30.0  # seconds between progress lines while nothing finishes

GUARANTEE = {
    "cpu": "the same completions on this CPU and these versions, whatever the shards, the batch"
    " size, the order or an interruption",
    "cuda": "the same prompts and seeds, whatever the shards, the batch size, the order or an"
    " interruption; GPU kernels may round differently in another batch, so that a completion can"
    " part from its twin at a near tie",
}


@dataclass(frozen=True)
class Job:
    """One shard: samples first .. first + count - 1 of every problem of a benchmark.

    problems: table with problem_id and problem. output: the table to write (.parquet).
    system, user, think: see `prompts.prompt_text`.
    """

    serving: Serving
    tokenizer: Path
    problems: Path
    output: Path
    model_name: str
    benchmark: str
    first: int
    count: int
    seed: int
    temperature: float
    top_p: float
    max_tokens: int
    system: str
    user: str
    think: str


@dataclass(frozen=True)
class Prompt:
    """A problem as the engine sees it."""

    problem_id: str
    ids: tuple[int, ...]
    max_tokens: int  # what may be generated: the job's, or less where the context ends sooner


def sample(job: Job, start: Callable[[Serving, int], Complete] = engine.start) -> None:
    """Make the job's table and, beside it, its provenance (<shard>.json).

    Completions go to <shard>.partial.jsonl as they finish; a job that was killed goes on from
    there, and the file goes when the table is whole. Nothing left to make: no engine is started.
    start: how to get an engine for a number of completions.
    InputError, before the engine starts, for whatever the user can mend.
    """
    serving = job.serving
    engine.prepare_environment(serving.device, serving.threads)
    check_numbers(job)
    config = engine.read_config(serving.model, serving.max_model_len)
    if serving.adapter is not None:
        engine.adapter_rank(serving.adapter)
    problems = read_problems(job.problems)
    versions = engine.versions()
    device = engine.device_name(serving.device)
    with engine.collector_paused():
        tokenizer = prompts.load_tokenizer(job.tokenizer)
    ends = prompts.end_tokens(job.tokenizer, tokenizer)
    asked = [make_prompt(job, tokenizer, config, *problem) for problem in problems]
    made_of = determinants(job, versions, ends, asked)
    digest = prompts.digest(made_of)
    with open_journal(job.output.with_suffix(".partial.jsonl"), digest) as journal:
        missing = missing_requests(job, asked, ends, journal)
        total = len(asked) * job.count
        print(
            f"{job.model_name} on {job.benchmark}: {total} completions of {len(asked)} problems,"
            f" {total - len(missing)} of them already made",
            file=sys.stderr,
            flush=True,
        )
        if missing:
            journal.begin_run(device)
            make(job, tokenizer, asked, ends, missing, journal, start)
        table = completions_table(job, asked, journal)
        said = provenance(job, made_of, digest, tokenizer, asked, table, journal)
        print(
            ", ".join(
                f"{count} {name.replace('_', ' ')}" for name, count in said["counts"].items()
            ),
            file=sys.stderr,
            flush=True,
        )
        write_json(job.output.with_suffix(".json"), said)
        write_table(job.output, table)
        journal.remove()


def check_numbers(job: Job) -> None:
    """InputError for a number outside its range, named as the command line names it."""
    serving = job.serving
    wanted = {
        "--first": (job.first, job.first >= 0, "0 or more"),
        "--count": (job.count, job.count >= 1, "1 or more"),
        "--temperature": (job.temperature, job.temperature >= 0, "0 (greedy) or more"),
        "--top-p": (job.top_p, 0 < job.top_p <= 1, "above 0, at most 1"),
        "--max-tokens": (job.max_tokens, job.max_tokens >= 1, "1 or more"),
        "--max-model-len": (serving.max_model_len, serving.max_model_len >= 2, "2 or more"),
        "--max-num-seqs": (serving.max_num_seqs, serving.max_num_seqs >= 1, "1 or more"),
        "--threads": (serving.threads, serving.threads >= 1, "1 or more"),
    }
    for flag, (value, right, expected) in wanted.items():
        if not right:
            raise InputError(f"{flag} is {value}; {expected} was expected")
    check_compute_dtype(serving.dtype, serving.compute_dtype, "--compute-dtype")
    if job.output.suffix != ".parquet":
        raise InputError(f"--output is {job.output}; a name that ends in .parquet was expected")
    inputs = (serving.model, serving.adapter, job.tokenizer, job.problems)
    for suffix in (".parquet", ".json", ".partial.jsonl"):
        check_output(job.output.with_suffix(suffix), inputs)
    if "\\n" in job.think:
        raise InputError(
            f"--think-prefix {job.think!r} holds a backslash and an n; give a real line break"
            " (in bash: $'<think>\\n')"
        )


def read_problems(path: Path) -> list[tuple[str, str]]:
    """(problem_id, problem) in the table's order; InputError for a gap, a double or no rows."""
    table = read_table(path)
    for column in ("problem_id", "problem"):
        if column not in table:
            raise InputError(
                f"{path}: no column {column!r}, found {', '.join(map(str, table.columns))};"
                " make it with fetch_benchmark.py"
            )
        if table[column].isna().any():
            row = int(table[column].isna().to_numpy().argmax())
            raise InputError(f"{path}: {column} is missing in row {row + 1} of {len(table)}")
    if table.empty:
        raise InputError(f"{path}: no problems in it; at least one was expected")
    ids, texts = table["problem_id"].astype(str), table["problem"]
    if ids.duplicated().any():
        twice = ", ".join(sorted(set(ids[ids.duplicated()]))[:5])
        raise InputError(f"{path}: problem_id occurs more than once: {twice}; ids must be unique")
    for name, text in zip(ids, texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}: problem {name} is {text!r}; a text was expected")
    return list(zip(ids, texts, strict=True))


def make_prompt(
    job: Job, tokenizer: Any, config: dict[str, Any], problem_id: str, problem: str
) -> Prompt:
    """One problem's prompt; InputError if the model has no room or no token for it."""
    try:
        ids = prompts.prompt_ids(tokenizer, job.system, job.user, job.think, problem)
    except InputError as error:
        raise InputError(f"{job.problems}: problem {problem_id}: {error}") from None
    longest = job.serving.max_model_len - 1
    if len(ids) > longest:
        raise InputError(
            f"{job.problems}: problem {problem_id}: the prompt is {len(ids)} tokens, at most"
            f" {longest} leave room for an answer in --max-model-len {longest + 1}; raise it or"
            " take the problem out"
        )
    size = config.get("vocab_size")
    if size is not None and max(ids) >= size:
        raise InputError(
            f"{job.serving.model}/config.json: vocab_size is {size}, but problem {problem_id}"
            f" has token {max(ids)} under {job.tokenizer}; use the tokenizer the model was"
            " trained with"
        )
    room = job.serving.max_model_len - len(ids)
    return Prompt(problem_id, tuple(ids), min(job.max_tokens, room))


def model_digest(folder: Path) -> str:
    """SHA-256 of what a model or adapter folder serves: its config and its weights.

    From the files as they are now, whatever a manifest says of them. InputError if a manifest of
    this workflow says something else: what was made of the old weights would be mixed with it.
    """
    there = {path.name for path in folder.iterdir()}
    listed = (own_manifest(folder) or {"files": {}})["files"]
    names = sorted(name for name in {*there, *listed} if _served(name))
    return prompts.digest(file_hashes(folder, names))


def _served(name: str) -> bool:
    weights = name.endswith((".safetensors", ".safetensors.index.json"))
    return weights or name in ("config.json", "adapter_config.json")


def determinants(
    job: Job, versions: dict[str, str], ends: list[int], asked: list[Prompt]
) -> dict[str, Any]:
    """All that a completion depends on, beside its problem and sample: the provenance's core.

    Threads, batch size and shard are not among it.
    """
    serving = job.serving
    return {
        "model": {
            "name": job.model_name,
            "sha256": model_digest(serving.model),
            "adapter_sha256": None if serving.adapter is None else model_digest(serving.adapter),
        },
        "benchmark": {"name": job.benchmark, "problems": len(asked)},
        "prompt": {
            "system": job.system,
            "user": job.user,
            "think_prefix": job.think,
            "tokenizer_sha256": prompts.tokenizer_digest(job.tokenizer),
            "end_tokens": ends,
            "ids_sha256": {prompt.problem_id: prompts.ids_digest(prompt.ids) for prompt in asked},
        },
        "sampling": {
            "seed": job.seed,
            "temperature": job.temperature,
            "top_p": job.top_p,
            "max_tokens": job.max_tokens,
            "max_model_len": serving.max_model_len,
        },
        "engine": {
            "device": serving.device,
            "dtype": serving.dtype,
            "compute_dtype": serving.compute_dtype,
            "versions": versions,
        },
    }


def missing_requests(
    job: Job, asked: list[Prompt], ends: list[int], journal: Journal
) -> dict[str, tuple[tuple[str, int], Request]]:
    """What the journal lacks, by request name: (problem_id, sample) and the engine's request."""
    missing = {}
    for index, prompt in enumerate(asked):
        for number in range(job.first, job.first + job.count):
            if (prompt.problem_id, number) in journal.done:
                continue
            name = f"{index}-{number}"
            request = Request(
                name=name,
                prompt=prompt.ids,
                seed=request_seed(
                    job.seed, job.benchmark, job.model_name, prompt.problem_id, number
                ),
                max_tokens=prompt.max_tokens,
                temperature=job.temperature,
                top_p=job.top_p,
                end_tokens=tuple(ends),
            )
            missing[name] = ((prompt.problem_id, number), request)
    return missing


def make(
    job: Job,
    tokenizer: Any,
    asked: list[Prompt],
    ends: list[int],
    missing: dict[str, tuple[tuple[str, int], Request]],
    journal: Journal,
    start: Callable[[Serving, int], Complete],
) -> None:
    """Start an engine and have it make what is missing, each completion into the journal."""
    complete = start(job.serving, len(missing))
    total = len(asked) * job.count
    progress = Progress(total, "completions", done=total - len(missing))
    dropped = {*ends, tokenizer.pad_token_id}
    tokens, began = 0, time.monotonic()
    requests = (request for _, request in missing.values())
    for finished in complete(requests):
        for completion in finished:
            text = prompts.completion_text(tokenizer, completion.ids, dropped)
            key, _ = missing[completion.name]
            journal.add(key, text, len(completion.ids), completion.finish)
            tokens += len(completion.ids)
        journal.sync()
        if finished or time.monotonic() - max(progress.said, began) >= HEARTBEAT:
            rate = tokens / max(time.monotonic() - began, 1e-9)
            progress.what = f"completions, {rate:.0f} tokens/s"
            progress.step(len(finished))
    print(f"{tokens} tokens after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


def completions_table(job: Job, asked: list[Prompt], journal: Journal) -> "pandas.DataFrame":
    """The shard's rows from its journal, by problem (in the benchmark's order) and sample."""
    import pandas

    rows = []
    for prompt in asked:
        for number in range(job.first, job.first + job.count):
            made = journal.done[prompt.problem_id, number]
            seed = request_seed(job.seed, job.benchmark, job.model_name, prompt.problem_id, number)
            rows.append(
                (
                    prompt.problem_id,
                    number,
                    seed,
                    len(prompt.ids),
                    made["text"],
                    made["tokens"],
                    made["finish"],
                )
            )
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def provenance(
    job: Job,
    made_of: dict[str, Any],
    digest: str,
    tokenizer: Any,
    asked: list[Prompt],
    table: "pandas.DataFrame",
    journal: Journal,
) -> dict[str, Any]:
    """How the table came to be, and what in it a reader should know of."""
    finish = Counter(table["finish_reason"])
    by_device: Counter[str] = Counter()
    for run in journal.runs:
        by_device[run["device"]] += run["completions"]
    return {
        "digest": digest,
        **made_of,
        "shard": {"first": job.first, "count": job.count},
        "speed": {"max_num_seqs": job.serving.max_num_seqs, "threads": job.serving.threads},
        "example": {
            "problem_id": asked[0].problem_id,
            "prompt": tokenizer.decode(
                asked[0].ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            ),
        },
        "counts": {
            "completions": len(table),
            "ended": finish["stop"],
            "truncated": finish["length"],
            "empty": int((table["completion"].str.strip() == "").sum()),
            "completion_tokens": int(table["completion_tokens"].sum()),
            "prompts_without_room": sum(prompt.max_tokens < job.max_tokens for prompt in asked),
        },
        "devices": dict(by_device),
        "guarantee": GUARANTEE[job.serving.device],
    }
