"""A small, made-up folder of results in the documented forms, for the tests of the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lowrank.files import write_json, write_table
from lowrank.metrics.evaluation import write_comparisons, write_metrics
from lowrank.plan.controls import kinds_asked
from lowrank.sampling.store import served_digest

SHAPES = {"q_proj": (24, 24), "k_proj": (8, 24), "down_proj": (24, 64)}
LAYERS = 2


def variant(rank: int, other: str, kind: str = "lowrank", **form: Any) -> dict[str, Any]:
    """A variant as the resolved experiment has it."""
    control = "" if kind == "lowrank" else f"{kind}-"
    return {
        "kind": kind, "rank": rank, "other": other, "dtype": "bfloat16", "serve_as": "merged",
        "adapter": f"{control}r{rank}" if rank else None, **form,
    }  # fmt: skip


EXPERIMENT: dict[str, Any] = {
    "name": "toy",
    "title": "A toy",
    "models": {
        "old": {"label": "Old one", "path": "resources/old"},
        "mid": {"label": "Middle one", "repo": "some/middle", "revision": "a" * 40},
        "new": {"label": "New one", "path": "resources/new"},
    },
    "deltas": {
        "sft": {"base": "old", "derivative": "mid"},
        "rl": {"base": "mid", "derivative": "new"},
    },
    "delta": "rl",
    "base": "mid",
    "derivative": "new",
    "references": ["mid", "new"],
    "tokenizer": "mid",
    "variants": {
        f"r{rank}-{other}": variant(rank, other) for other in ("copy", "keep") for rank in (2, 8)
    },
    "benchmarks": {"sums": {"label": "Sums", "path": "sums.jsonl", "answer_type": "integer"}},
    "grading": {"reasoning_end": "</think>", "rule": "last"},
    "samples": 8,
    "maj_k": [2, 4],
    "repeats": 4,
    "seed": 0,
    "margin": 0.05,
    "ranks": [2, 8],
    "other": ["copy", "keep"],
    "serve_dtype": ["bfloat16"],
    "serve_as": ["merged"],
    "controls": [],
    "only_read": [],
    "details": True,
    "resample": "ask",
    "divergence": None,
    "locate": None,
    "descriptions": [],
    "sampling": {
        "device": "cpu",
        "dtype": "bfloat16",
        "compute_dtype": "float32",
        "temperature": 0.6,
        "top_p": 0.95,
        "max_tokens": 50,
        "max_model_len": 90,
        "system": "",
        "user": "{problem}",
        "think_prefix": "<think>\n",
        "parts": 2,
    },
    "published": None,
}
PROBLEMS = 6


def sampled(experiment: dict[str, Any]) -> list[str]:
    """The models that have samples: the references, then the variants that are not only read."""
    read = kinds_asked(experiment["only_read"])
    answering = [
        name
        for name, v in experiment["variants"].items()
        if v["kind"] not in read or (read[v["kind"]] and v["rank"] not in read[v["kind"]])
    ]
    return [*experiment["references"], *answering]


SERVED = served_digest({"model.safetensors": "0123456789abcdef" * 4})
FACTORS = {"adapter_model.safetensors": "c" * 64, "adapter_config.json": "e" * 64}
RATES = {"mid": 0.4, "new": 0.7, "r2-copy": 0.6, "r8-copy": 0.7, "r2-keep": 0.5, "r8-keep": 0.6}


def make_results(
    folder: Path, experiment: dict[str, Any], trace: str = "<think> 1+1 </think>"
) -> Path:
    """Write results of every phase but the last below `folder`; returns experiment.json's path.

    trace: what every completion begins with.
    """
    generator = np.random.default_rng(0)
    for model in experiment["models"]:
        write_json(
            folder / f"models/{model}/manifest.json", _manifest({"path": f"resources/{model}"})
        )
    for number, delta in enumerate(experiment["deltas"]):
        _make_delta(folder / "delta" / delta, decay=(20.0, 1.5)[number % 2])
    for name, variant in experiment["variants"].items():
        _make_variant(folder, name, variant, experiment["delta"])
    for benchmark in experiment["benchmarks"]:
        problems = pd.DataFrame(
            {
                "problem_id": [f"p{i}" for i in range(PROBLEMS)],
                "problem": [f"What is {i} + 1? <b>" for i in range(PROBLEMS)],
                "answer": [str(i + 1) for i in range(PROBLEMS)],
            }
        )
        write_table(folder / f"benchmarks/{benchmark}.parquet", problems)
        for model in sampled(experiment):
            _make_pool(folder, experiment, benchmark, model, problems, generator, trace)
    write_json(folder / "experiment.json", experiment)
    return folder / "experiment.json"


def _manifest(source: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": source,
        "files": {"model.safetensors": {"size": 8, "sha256": "0123456789abcdef" * 4}},
        "tensors": {"lm_head.weight": {"file": "model.safetensors", "dtype": "BF16", "shape": [4]}},
        "parameters": 1234567,
        "config": {"model_type": "qwen2"},
    }


def _make_delta(folder: Path, decay: float) -> None:
    spectra, summaries = [], []
    for layer in range(LAYERS):
        for module, (rows, columns) in SHAPES.items():
            sigma = (layer + 1) * np.exp(-np.arange(min(rows, columns)) / decay)
            energy = np.cumsum(sigma**2) / np.sum(sigma**2)
            place = {"tensor": f"model.layers.{layer}.x.{module}.weight", "layer": layer}
            place["module"] = module
            values = {"index": np.arange(len(sigma)), "sigma": sigma}
            values["energy_kept_gaussian"] = np.linspace(0, 1, len(sigma) + 1)[1:]
            values["energy_kept_shuffled"] = np.linspace(0, 1, len(sigma) + 1)[1:] ** 0.9
            spectra.append(pd.DataFrame({**place, **values}))
            norm = float(np.sqrt(np.sum(sigma**2)))
            summaries.append(
                {
                    **place, "rows": rows, "columns": columns, "frobenius": norm,
                    "sigma_1": sigma[0], "stable_rank": norm**2 / sigma[0] ** 2,
                    "entropy_rank": 2.0, "participation_ratio": 2.0,
                    **{f"rank_{s}": int((energy < s / 100).sum() + 1) for s in (50, 90, 99)},
                    "rank_above_noise": 3, "energy_above_noise": 0.5, "optimal_rank": 2,
                    "unchanged": 0.1, "unchanged_bfloat16": 0.75, "aligned_k": 8,
                    "overlap_left": 0.4, "overlap_right": 0.3, "aligned_energy": 0.1,
                    "relative_frobenius": norm / 50, "sigma_1_base": 9.0,
                    "sigma_1_ratio": sigma[0] / 9,
                }
            )  # fmt: skip
    write_table(folder / "spectrum.parquet", pd.concat(spectra, ignore_index=True))
    write_table(folder / "summary.parquet", pd.DataFrame(summaries))
    ledger = [
        {"tensor": line["tensor"], "role": "projection", "what": "projection", "fate": "factored",
         "layer": line["layer"], "share_of_parameters": 0.1, "share_of_change": 0.15}
        for line in summaries
    ] + [
        {"tensor": name, "role": "other", "what": what, "fate": "copied or kept", "layer": None,
         "share_of_parameters": 0.2, "share_of_change": 0.05}
        for name, what in (("embed", "embedding"), ("norm", "norm"))
    ]  # fmt: skip
    write_table(folder / "ledger.parquet", pd.DataFrame(ledger).astype({"layer": "Int64"}))
    matrices = {line["tensor"]: {} for line in summaries}
    manifest = {"method": "by hand", "device": "cpu", "versions": {"numpy": "2"}}
    write_json(folder / "manifest.json", manifest | {"matrices": matrices})


def _make_variant(folder: Path, name: str, variant: dict[str, Any], delta: str) -> None:
    numbers = {"entries": 9, "meant_norm": 1.0, "error_norm": 0.7, "relative_error": 0.7,
               "left_at_base": 0.75, "cosine": 0.8}  # fmt: skip
    nothing = numbers | {"relative_error": None, "left_at_base": None, "cosine": None}
    roles = {"projection": numbers, "bias": numbers}
    roles["other"] = numbers if variant["other"] == "copy" else nothing
    write_json(
        folder / f"variants/{name}/fidelity.json",
        {"dtype": "bfloat16", "serve_as": "merged", "all": numbers, "roles": roles, "tensors": {}},
    )
    write_json(folder / f"variants/{name}/manifest.json", _manifest({"base": {}, "other": "copy"}))
    rank = variant["rank"]
    if variant["adapter"] is None:
        return
    matrices = {
        f"model.layers.{layer}.x.{module}.weight": {
            "rank": min(rank, *shape), "capped": min(shape) < rank, "energy_kept": 1.0
        }
        for layer in range(LAYERS)
        for module, shape in SHAPES.items()
    }  # fmt: skip
    record = {"rank": rank, "stored_rank": rank, "matrices": matrices}
    record |= {
        part: {"sha256": digest}
        for part, digest in zip(("weights", "config"), FACTORS.values(), strict=True)
    }
    write_json(folder / f"adapters/{delta}/{variant['adapter']}/adapter.json", record)


def _make_pool(
    folder: Path,
    experiment: dict[str, Any],
    benchmark: str,
    model: str,
    problems: pd.DataFrame,
    generator: np.random.Generator,
    trace: str,
) -> None:
    rows = []
    for problem in problems.itertuples():
        for sample in range(experiment["samples"]):
            right = bool(generator.random() < RATES.get(model, 0.5))
            answer = problem.answer if right else str(generator.integers(100, 103))
            rows.append(
                {
                    "problem_id": problem.problem_id, "sample": sample, "seed": sample,
                    "prompt_tokens": 5, "completion": f"{trace} \\boxed{{{answer}}}",
                    "completion_tokens": 9, "finish_reason": "stop", "answer": answer,
                    "correct": right, "extracted": answer, "unjudged": None, "overlooked": False,
                }
            )  # fmt: skip
    table = pd.DataFrame(rows)
    parts = experiment["sampling"]["parts"]
    for part in range(1, parts + 1):
        path = folder / f"samples/{benchmark}/{model}/{part}-of-{parts}"
        here = table[table["sample"] % parts == part - 1]
        made = here.drop(columns=["answer", "correct", "extracted", "unjudged", "overlooked"])
        write_table(path.with_suffix(".parquet"), made)
        write_json(path.with_suffix(".json"), _record(experiment, benchmark, model, len(made)))
    grades = table.drop(columns=["completion", "seed", "prompt_tokens"])
    write_table(folder / f"grades/{benchmark}/{model}.parquet", grades)


def results_of(folder: Path, experiment: dict[str, Any] = EXPERIMENT, **more: str) -> Path:
    """Results of every phase before the report, the last two by their own functions."""
    path = make_results(folder, experiment, **more)
    evaluate(folder, experiment)
    return path


def evaluate(folder: Path, experiment: dict[str, Any] = EXPERIMENT) -> None:
    """Metrics and comparisons of the grades below `folder`, as the workflow has them made."""
    ks, repeats, seed = (experiment[key] for key in ("maj_k", "repeats", "seed"))
    for benchmark in experiment["benchmarks"]:
        for model in sampled(experiment):
            grades = folder / f"grades/{benchmark}/{model}.parquet"
            output = folder / f"metrics/{benchmark}/{model}.csv"
            write_metrics(grades, model, benchmark, ks, output, repeats, seed)
    compared = {benchmark: [benchmark] for benchmark in experiment["benchmarks"]}
    pools = experiment.get("pools", {})
    for name, benchmarks in (
        compared | {name: pool["benchmarks"] for name, pool in pools.items()}
    ).items():
        references = [experiment["base"], experiment["derivative"]]
        variants = [name for name in sampled(experiment) if name in experiment["variants"]]
        models = [*variants, *reversed(references)]
        write_comparisons(
            {b: {m: folder / f"grades/{b}/{m}.parquet" for m in models} for b in benchmarks},
            name, ks, folder / f"comparisons/{name}.csv", references, experiment["margin"], seed,
            record=folder / f"comparisons/{name}.json",
        )  # fmt: skip


def _record(experiment: dict[str, Any], benchmark: str, model: str, count: int) -> dict[str, Any]:
    variant = experiment["variants"].get(model, {"dtype": "bfloat16", "serve_as": "merged"})
    unmerged = variant["serve_as"] == "adapter"
    hashes = {f"p{i}": f"{i:064d}" for i in range(PROBLEMS)}
    return {
        "digest": "d" * 64,
        "model": {
            "name": model,
            "sha256": SERVED,
            "adapter_sha256": served_digest(FACTORS) if unmerged else None,
        },
        "benchmark": {"name": benchmark, "problems": PROBLEMS},
        "prompt": {"system": "", "user": "{problem}", "think_prefix": "<think>\n",
                   "tokenizer_sha256": "f" * 64, "end_tokens": [2], "ids_sha256": hashes},
        "sampling": {"seed": 0, "temperature": 0.6, "top_p": 0.95, "max_tokens": 50,
                     "max_model_len": 90},
        "part": {"part": 1, "parts": 2, "samples": 8},
        "engine": {"device": "cpu", "dtype": variant["dtype"], "compute_dtype": "float32",
                   "versions": {"vllm": "0"}},
        "warnings": [],
        "example": {"problem_id": "p0", "prompt": "<|user|>What is 0 + 1?<|assistant|><think>\n"},
        "counts": {"completions": count, "ended": count, "truncated": 0, "empty": 0,
                   "completion_tokens": 9 * count, "prompts_without_room": 0},
        "devices": {"some CPU": count},
        "guarantee": "the same completions",
    }  # fmt: skip
