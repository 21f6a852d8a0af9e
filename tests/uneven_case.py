"""Results of an experiment in which no two models, deltas or matrices are alike.

Every model has another accuracy, another share of silence and other wrong answers; some problems
are all right or all silent; one variant keeps the gain, one loses it, one is better, one is open;
one control lies above the base and one below. So a number or a name in a wrong place shows.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from report_case import EXPERIMENT, evaluate, make_results, variant

from lowrank.files import read_json, write_json, write_table

SAMPLES = 8
SEED = 7
PROBLEMS = {"sums": 90, "hard": 12}
PUBLISHED = [
    ("sums", "r2-copy", "avg_maj", 3, 0.411, "A post", ""),
    ("sums", "r2-copy", "avg_maj", 5, 0.512, "A post", ""),
    ("sums", "r8-copy", "avg_maj", 5, 0.634, "A post", ""),
    ("sums", "new", "avg_maj", 5, 0.601, "A post", ""),
    ("sums", "new", "mean", np.nan, 0.487, "A paper", "64 samples"),
    ("sums", "mid", "maj", 64, 0.527, "Another paper", "cons@64"),
    ("hard", "new", "avg_maj", 5, 0.222, "A post", ""),
]


def experiment_of(folder: Path) -> dict[str, Any]:
    """What is asked: two benchmarks, a pool of both, three references, controls."""
    experiment = copy.deepcopy(EXPERIMENT)
    experiment["variants"] |= {
        "r0-copy": variant(0, "copy", "other"),
        "r0-keep": variant(0, "keep", "biases"),
        "random-r2-copy": variant(2, "copy", "random"),
    }
    experiment["benchmarks"]["hard"] = {**experiment["benchmarks"]["sums"], "label": "Hard sums"}
    return experiment | {
        "references": ["old", "mid", "new"],
        "pools": {"both": {"label": "Both kinds", "benchmarks": ["sums", "hard"]}},
        "controls": ["other", "biases", "random"],
        "samples": SAMPLES,
        "maj_k": [3, 5],
        "repeats": 16,
        "seed": SEED,
        "margin": 0.08,
        "published": str(folder / "published.csv"),
    }


def make_uneven(folder: Path) -> Path:
    """Write the results of every phase before the report; returns experiment.json's path."""
    experiment = experiment_of(folder)
    columns = ["benchmark", "model", "metric", "k", "value", "source", "note"]
    pd.DataFrame(PUBLISHED, columns=columns).to_csv(folder / "published.csv", index=False)
    path = make_results(folder, experiment)
    generator = np.random.default_rng(11)
    for number, delta in enumerate(experiment["deltas"]):
        _uneven_delta(folder / "delta" / delta, generator, number)
    for name, made in experiment["variants"].items():
        _uneven_fidelity(folder / f"variants/{name}/fidelity.json", made, generator)
    for benchmark, problems in PROBLEMS.items():
        names = [f"q{i:02d}" for i in range(problems)]
        texts = [f"What is {i} + 1?" for i in range(problems)]
        table = {
            "problem_id": names,
            "problem": texts,
            "answer": [str(i + 1) for i in range(problems)],
        }
        write_table(folder / f"benchmarks/{benchmark}.parquet", pd.DataFrame(table))
        rights = _rights(problems, generator) if benchmark == "sums" else _hard(problems, generator)
        for number, model in enumerate(rights):
            _uneven_pool(folder, benchmark, model, rights[model], 0.05 + 0.05 * number, generator)
    evaluate(folder, experiment)
    return path


def _rights(problems: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """How many of the samples of each problem are right, by model."""
    draw = generator.binomial
    base = draw(4, 0.6, problems)
    new = base + draw(SAMPLES - base, 0.65)
    same = new.copy()
    same[10:16] += np.where(same[10:16] < SAMPLES, 1, -1) * np.array([1, 1, -1, 1, -1, 1])
    rights = {
        "mid": base,
        "new": new,
        "r2-copy": base + draw(new - base, 0.4),
        "r8-copy": np.clip(same, 0, SAMPLES),
        "r2-keep": generator.permutation(
            np.where(np.arange(problems) < new.sum() / SAMPLES, SAMPLES, 0)
        ),
        "r8-keep": new + draw(SAMPLES - new, 0.8),
        "r0-copy": base + draw(new - base, 0.2),
        "r0-keep": draw(base, 0.5),
        "random-r2-copy": generator.permutation(base),
        "old": draw(SAMPLES, 0.1, problems),
    }
    for right in rights.values():
        right[0], right[1] = SAMPLES, 0
    return rights


def _hard(problems: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """The base can do nothing, the derivative a little, one variant nearly all."""
    solved = np.arange(problems)
    return {
        "mid": 0 * solved,
        "new": np.where(solved < 3, [6, 3, 1] * 4, 0),
        "r2-copy": np.where(solved < 2, 5, 0),
        "r8-copy": np.where(solved < 3, [6, 3, 2] * 4, 0),
        "r2-keep": generator.binomial(SAMPLES, 0.3, problems),
        "r8-keep": np.where(solved == 4, 0, SAMPLES),
        "r0-copy": np.where(solved < 1, 2, 0),
        "r0-keep": 0 * solved,
        "random-r2-copy": np.where(solved == 7, 1, 0),
        "old": np.where(solved % 2, 1, 0),
    }


def _uneven_pool(
    folder: Path,
    benchmark: str,
    model: str,
    right: np.ndarray,
    silence: float,
    generator: np.random.Generator,
) -> None:
    rows = []
    for i, number in enumerate(right):
        correct = generator.permutation(np.arange(SAMPLES) < number)
        for sample, good in enumerate(correct):
            wrong = generator.choice(["901", "902", "903"], p=[0.5, 0.25, 0.25])
            # Of one problem nobody says anything.
            silent = not good and (i == 1 or generator.random() < silence)
            answer = None if silent else str(i + 1) if good else wrong
            text = (
                "" if silent and sample % 2 else f"<think> {model} {sample % 3} </think> {answer}"
            )
            rows.append(
                {
                    "problem_id": f"q{i:02d}", "sample": sample, "seed": sample, "prompt_tokens": 5,
                    "completion": text, "completion_tokens": int(generator.integers(0, 50)),
                    "finish_reason": "length" if silent else "stop", "answer": answer,
                    "correct": bool(good), "extracted": answer,
                    "unjudged": "odd" if not good and generator.random() < silence / 3 else None,
                    "overlooked": bool(silent and generator.random() < 0.3),
                }
            )  # fmt: skip
    table = pd.DataFrame(rows)
    for part in (1, 2):
        here = table[table["sample"] % 2 == part - 1]
        path = folder / f"samples/{benchmark}/{model}/{part}-of-2.parquet"
        graded = ["answer", "correct", "extracted", "unjudged", "overlooked"]
        write_table(path, here.drop(columns=graded))
        counts = {
            "completions": len(here),
            "truncated": int((here["finish_reason"] == "length").sum()),
            "empty": int((here["completion"] == "").sum()),
            "completion_tokens": int(here["completion_tokens"].sum()),
        }
        record = read_json(path.with_suffix(".json"))
        record["counts"] |= counts
        record["sampling"]["seed"] = SEED
        write_json(path.with_suffix(".json"), record)
    grades = table.drop(columns=["completion", "seed", "prompt_tokens"])
    write_table(folder / f"grades/{benchmark}/{model}.parquet", grades)


def _uneven_delta(folder: Path, generator: np.random.Generator, number: int) -> None:
    """Other singular values and other statistics in every matrix, and no square one."""
    spectrum, summary = (pd.read_parquet(folder / f"{n}.parquet") for n in ("spectrum", "summary"))
    summary.loc[summary["rows"] == summary["columns"], "rows"] += 16
    parts = []
    for i, line in summary.iterrows():
        rows = spectrum[spectrum["tensor"] == line["tensor"]].copy()
        sigma = np.sort(generator.gamma(1 + number, 0.1 * (i + 1), len(rows)))[::-1]
        energy = np.cumsum(sigma**2) / np.sum(sigma**2)
        rows["sigma"] = sigma
        for null, power in (("gaussian", 0.8), ("shuffled", 0.7)):
            share = np.arange(1, len(rows) + 1) / len(rows)
            rows[f"energy_kept_{null}"] = share ** (power + 0.02 * i)
        parts.append(rows)
        norm = np.sqrt(np.sum(sigma**2))
        summary.loc[i, ["frobenius", "sigma_1"]] = norm, sigma[0]
        summary.loc[i, "stable_rank"] = norm**2 / sigma[0] ** 2
        for share in (50, 90, 99):
            summary.loc[i, f"rank_{share}"] = int((energy < share / 100).sum()) + 1
    for column in ("entropy_rank", "participation_ratio", "energy_above_noise", "unchanged",
                   "unchanged_bfloat16", "overlap_left", "overlap_right", "aligned_energy",
                   "relative_frobenius", "sigma_1_ratio"):  # fmt: skip
        summary[column] = generator.random(len(summary))
    for column in ("rank_above_noise", "optimal_rank"):
        summary[column] = generator.permutation(np.arange(1, len(summary) + 1))
    write_table(folder / "spectrum.parquet", pd.concat(parts, ignore_index=True))
    write_table(folder / "summary.parquet", summary)
    ledger = pd.read_parquet(folder / "ledger.parquet")
    bias = {"tensor": "bias", "role": "bias", "what": "bias", "fate": "copied or kept", "layer": 0}
    left = {**ledger.iloc[0].to_dict(), "tensor": "left", "fate": "left out by configuration"}
    ledger = pd.concat([ledger, pd.DataFrame([bias, left])], ignore_index=True)
    for column in ("share_of_parameters", "share_of_change"):
        shares = generator.random(len(ledger)) + 0.1
        ledger[column] = shares / shares.sum()
    write_table(folder / "ledger.parquet", ledger.astype({"layer": "Int64"}))


def _uneven_fidelity(path: Path, made: dict[str, Any], generator: np.random.Generator) -> None:
    content = read_json(path)
    scopes = [content, *[content["roles"]] * len(content["roles"])]
    for scope, key in zip(scopes, ["all", *content["roles"]], strict=True):
        if scope[key]["relative_error"] is not None:
            numbers = dict(
                zip(("relative_error", "left_at_base", "cosine"), generator.random(3), strict=True)
            )
            scope[key] = scope[key] | numbers
    write_json(path, content)
