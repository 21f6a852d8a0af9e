"""A model's completions: what is kept is taken, what is missing is sampled, tables are written."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank import ending
from lowrank.devices import Need, take_device
from lowrank.errors import InputError
from lowrank.files import write_json, write_table
from lowrank.models.checkpoint import open_checkpoint
from lowrank.models.manifest import file_hashes, own_manifest
from lowrank.progress import Progress
from lowrank.sampling import engine, prompts, store, turns
from lowrank.sampling.engine import Serving
from lowrank.sampling.feeding import Complete
from lowrank.sampling.requests import (
    Asked,
    Job,
    Prompt,
    Target,
    asked,
    check_numbers,
    longest_first,
    make_prompts,
    read_problems,
)
from lowrank.variants.factors import read_factors

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "problem_id",
    "sample",
    "seed",
    "prompt_tokens",
    "completion",
    "completion_ids",
    "completion_tokens",
    "finish_reason",
)
SUSPICIOUS = 0.9  # share of a table's completions that are empty or cut off, to be warned of
HEARTBEAT = 30.0  # seconds between progress lines while nothing finishes
RESAMPLE = ("ask", "always", "when-versions-change", "never")

GUARANTEE = {
    "cpu": "the same completions on this CPU and these versions, whatever the parts, the batch"
    " size, the order or an interruption",
    "cuda": "the same prompts and seeds, whatever the parts, the batch size, the order or an"
    " interruption; GPU kernels may round differently in another batch, so that a completion can"
    " part from its twin at a near tie",
    "cuda, batch-invariant": "the same completions on the same kind and number of GPUs and these"
    " versions, whatever the parts, the batch size, the order or an interruption, as far as vLLM's"
    " batch-invariant kernels hold what they promise",
}


def sample(job: Job, start: Callable[[Serving, int], Complete] = engine.start) -> None:
    """Write a table a benchmark and, beside it, its provenance (.json instead of .parquet).

    Completions that the store has are taken; the others are sampled, and are in the store as soon
    as they are finished, so that a job that was killed goes on from there. With nothing missing no
    engine is started and no weights are needed.
    start: how to get an engine for a number of completions.
    InputError, before the engine starts, for whatever the user can mend.
    """
    serving = job.serving
    engine.prepare_environment(serving.device, serving.threads)
    check_numbers(job)
    config = engine.read_config(serving.model, serving.max_model_len, serving.tensor_parallel)
    if serving.adapter is not None:
        engine.adapter_rank(serving.adapter)
    with engine.collector_paused():
        tokenizer = prompts.load_tokenizer(job.tokenizer)
    ends = prompts.end_tokens(job.tokenizer, tokenizer)
    made = {target: make_prompts(job, target, tokenizer, config) for target in job.targets}
    say_frame(tokenizer, job, made)
    wanted = {target: list(asked(job, target, shown, ends)) for target, shown in made.items()}
    setting = determinants(job, ends)
    folder = store.setting_folder(job.store, job.model_name, setting)
    if differs := store.what_differs(folder, setting):
        print(
            f"what is kept of {job.model_name} was made otherwise ({differs}): it stays, and is"
            " not taken here",
            file=sys.stderr,
            flush=True,
        )
    with turns.claimed(folder, job.numbers):
        everything = {one.key: one for some in wanted.values() for one in some}
        found = take(folder, everything, engine.versions(), job.resample)
        missing = [one for key, one in everything.items() if key not in found]
        print(
            f"{job.model_name} on {', '.join(target.benchmark for target in job.targets)}:"
            f" {len(everything)} completions, {len(missing)} of them to be sampled",
            file=sys.stderr,
            flush=True,
        )
        if missing:
            waiting = longest_first(missing, job.targets)
            found |= make(job, tokenizer, ends, waiting, folder, start)
    here = prompts.tokenizer_digest(job.tokenizer)
    for target, shown in made.items():
        kept = [found[one.key] for one in wanted[target]]
        # Text of another tokenizer is written anew, from the ids.
        texts = [
            one.text
            if one.run.tokenizer == here
            else prompts.completion_text(tokenizer, one.ids.tolist(), ends)
            for one in kept
        ]
        lengths = {prompt.problem_id: len(prompt.ids) for prompt in shown}
        table = completions_table(wanted[target], lengths, found, texts)
        runs = [one.run for one in kept]
        said = provenance(job, target, setting, tokenizer, shown, table, runs)
        counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in said["counts"].items())
        print(f"{target.benchmark}: {counts}", file=sys.stderr, flush=True)
        for warning in said["warnings"]:
            print(f"WARNING: {target.benchmark}: {warning}", file=sys.stderr, flush=True)
        write_json(target.output.with_suffix(".json"), said)
        write_table(target.output, table)


def say_frame(tokenizer: Any, job: Job, made: dict[Target, list[Prompt]]) -> None:
    """Say what the chat template and the prefix put around the first problem."""
    target, shown = next(iter(made.items()))
    prompt = tokenizer.decode(
        shown[0].ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    problem = dict(read_problems(target.problems))[shown[0].problem_id]
    before, after = prompts.template_frame(prompt, job.user.replace(prompts.PLACEHOLDER, problem))
    print(f"every prompt is {before!r}, the user's message, {after!r}", file=sys.stderr, flush=True)


def take(
    folder: Path, wanted: dict[str, Asked], versions: dict[str, str], resample: str
) -> dict[str, store.Kept]:
    """The completions of a setting's folder that are wanted, by key; the oldest of equal ones.

    versions: of the packages here; empty where no engine is installed.
    resample: "never" takes all there are; "when-versions-change" those that these versions made;
    "ask" too, but raises InputError where others would be sampled anew; "always" takes none.
    """
    if resample == "always":
        return {}
    found, others = {}, {}
    for one in store.kept(folder):
        if one.key not in wanted or one.key in found:
            continue
        if resample == "never" or not versions or one.run.versions == versions:
            found[one.key] = one
        else:
            others[one.key] = one
    others = {key: one for key, one in others.items() if key not in found}
    if not others:
        return found
    told = "; ".join(sorted({spelled(one.run.versions) for one in others.values()}))
    what = f"{folder}: {len(others)} completions were made by {told}; here is {spelled(versions)}"
    if resample == "ask":
        raise InputError(
            f"{what}; set resample to never to take them as they are, or to when-versions-change"
            " to sample them anew"
        )
    print(f"{what}: sampled anew (resample: {resample})", file=sys.stderr, flush=True)
    return found


def spelled(versions: dict[str, str]) -> str:
    """Versions as a person writes them."""
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def make(
    job: Job,
    tokenizer: Any,
    ends: list[int],
    waiting: list[Asked],
    folder: Path,
    start: Callable[[Serving, int], Complete],
) -> dict[str, store.Kept]:
    """Start an engine and have it make what is missing, each completion into the store.

    SIGTERM ends it after a step of the engine, when all that is finished is in the store.
    """
    if job.serving.adapter is not None:
        read_factors(job.serving.adapter, open_checkpoint(job.serving.model))
    run = store.Run(
        take_device(
            job.serving.device, job.serving.tensor_parallel, Need(share=job.serving.gpu_memory)
        ),
        engine.versions(),
        prompts.tokenizer_digest(job.tokenizer),
    )
    complete = start(job.serving, len(waiting))
    asked_by = {one.request.name: one for one in waiting}
    progress = Progress(len(waiting), "completions")
    made: dict[str, store.Kept] = {}
    tokens, began = 0, time.monotonic()
    with store.segment(folder, run) as segment, ending.held() as may_end:
        for finished, unfinished in complete(one.request for one in waiting):
            block = []
            for completion in finished:
                one = asked_by[completion.name]
                block.append(
                    store.Kept(
                        one.key,
                        one.benchmark,
                        one.problem_id,
                        one.sample,
                        np.array(completion.ids, dtype=np.int32),
                        prompts.completion_text(tokenizer, completion.ids, ends),
                        completion.finish,
                        run,
                    )
                )
                tokens += len(completion.ids)
            segment.add(block)
            segment.sync()
            made |= {one.key: one for one in block}
            if finished or time.monotonic() - max(progress.said, began) >= HEARTBEAT:
                so_far = tokens + unfinished
                rate = so_far / max(time.monotonic() - began, 1e-9)
                progress.step(len(finished), f"{so_far} tokens, {rate:.0f}/s")
            may_end()
    print(f"{tokens} tokens after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return made


def model_digest(folder: Path) -> str:
    """SHA-256 of what a model or adapter folder serves: its config and its weights.

    From the files as they are now, whatever a manifest says of them; of weights that are gone, as
    they may be where nothing is to be sampled, from this workflow's manifest. InputError if the
    manifest says something else of a file: what was made of the old one would be mixed with it.
    """
    listed = (own_manifest(folder) or {"files": {}})["files"]
    there = sorted(path.name for path in folder.iterdir() if store.served(path.name))
    gone = {name: said["sha256"] for name, said in listed.items()}
    return store.served_digest(gone | file_hashes(folder, there))


def determinants(job: Job, ends: list[int]) -> dict[str, Any]:
    """The setting: all that a completion depends on, but its prompt, seed and length limit.

    Threads, batch size, parts, how many GPUs and versions are not among it: devices and versions
    stand with every completion.
    """
    serving = job.serving
    return {
        "model": {
            "name": job.model_name,
            "sha256": model_digest(serving.model),
            "adapter_sha256": None if serving.adapter is None else model_digest(serving.adapter),
        },
        "sampling": {
            "temperature": job.temperature,
            "top_p": job.top_p,
            "max_model_len": serving.max_model_len,
            "end_tokens": ends,
        },
        "engine": {
            "device": serving.device,
            "dtype": serving.dtype,
            "compute_dtype": serving.compute_dtype,
            # Named where they are asked for, so that what was made before they could be is found.
            **({"quantization": serving.quantization} if serving.quantization else {}),
            **({"batch_invariant": True} if serving.batch_invariant else {}),
        },
    }


def completions_table(
    wanted: list[Asked], lengths: dict[str, int], found: dict[str, store.Kept], texts: list[str]
) -> "pandas.DataFrame":
    """A benchmark's rows, by problem (in the benchmark's order) and sample.

    lengths: tokens of the prompt, by problem. texts: one a row.
    """
    import pandas

    rows = [
        (
            one.problem_id,
            one.sample,
            one.request.seed,
            lengths[one.problem_id],
            text,
            found[one.key].ids,
            len(found[one.key].ids),
            found[one.key].finish,
        )
        for one, text in zip(wanted, texts, strict=True)
    ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def provenance(
    job: Job,
    target: Target,
    setting: dict[str, Any],
    tokenizer: Any,
    shown: list[Prompt],
    table: "pandas.DataFrame",
    runs: list[store.Run],
) -> dict[str, Any]:
    """How a table came to be, and what in it a reader should know of. runs: one a completion."""
    finish = Counter(table["finish_reason"])
    versions: dict[str, set[str]] = {}
    for run in {id(run): run for run in runs}.values():
        for name, version in run.versions.items():
            versions.setdefault(name, set()).add(version)
    made_of = {
        "model": setting["model"],
        "benchmark": {"name": target.benchmark, "problems": len(shown)},
        "prompt": {
            "system": job.system,
            "user": job.user,
            "think_prefix": job.think,
            "tokenizer_sha256": prompts.tokenizer_digest(job.tokenizer),
            "end_tokens": setting["sampling"]["end_tokens"],
            "ids_sha256": {prompt.problem_id: prompts.ids_digest(prompt.ids) for prompt in shown},
        },
        "sampling": {
            "seed": job.seed,
            "temperature": job.temperature,
            "top_p": job.top_p,
            "max_tokens": job.max_tokens,
            "max_model_len": job.serving.max_model_len,
        },
        "engine": setting["engine"]
        | {"versions": {name: ", ".join(sorted(all_)) for name, all_ in sorted(versions.items())}},
    }
    counts = {
        "completions": len(table),
        "ended": finish["stop"],
        "truncated": finish["length"],
        "empty": int((table["completion"].str.strip() == "").sum()),
        "completion_tokens": int(table["completion_tokens"].sum()),
        "prompts_without_room": sum(prompt.max_tokens < job.max_tokens for prompt in shown),
    }
    example = tokenizer.decode(
        shown[0].ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return {
        "digest": store.digest(made_of),
        **made_of,
        "store": {"setting": store.digest(setting)},
        "part": {"part": job.part, "parts": job.parts, "samples": job.samples},
        "example": {"problem_id": shown[0].problem_id, "prompt": example},
        "counts": counts,
        "warnings": warnings(counts),
        "mean_tokens": {
            problem: round(float(tokens.mean()), 1)
            for problem, tokens in table.groupby("problem_id", sort=False)["completion_tokens"]
        },
        "devices": dict(Counter(run.device for run in runs)),
        "guarantee": GUARANTEE[
            job.serving.device + ", batch-invariant" * job.serving.batch_invariant
        ],
    }


def warnings(counts: dict[str, int]) -> list[str]:
    """What of a table's counts hardly any sound model gives, a sentence each."""
    said, total = [], counts["completions"]
    if counts["empty"] >= SUSPICIOUS * total:
        said.append(
            f"{counts['empty']} of {total} completions are empty; a model that ends at once was"
            " hardly meant: look at the prompt and the end tokens"
        )
    if counts["truncated"] >= SUSPICIOUS * total:
        said.append(
            f"{counts['truncated']} of {total} completions were cut off; what they would have"
            " answered is not known: raise max_tokens, or look at what the model writes"
        )
    return said
