"""The report's last pages: a trace or two to read, and where everything came from."""

import json
import unicodedata
from typing import Any

import pandas as pd

from lowrank.errors import InputError
from lowrank.report.evidence import SAMPLES, Evidence, parts, table
from lowrank.report.findings import DASH, grid, percent, row
from lowrank.sampling.store import digest

# Of a longer trace, this many characters are shown of its beginning and of its end.
SHOWN = 3000


def traces(found: Evidence) -> dict[str, Any]:
    """One right and one wrong trace of the lowest-rank variant, and the rule they were chosen by.

    A model's text is not trusted: the page escapes it, and what would not show as a character
    (control characters, lone surrogates, marks that turn the direction) is spelled out here.
    """
    experiment = found.experiment
    benchmark = next(iter(experiment["benchmarks"]))
    model = min(found.lowrank, key=lambda name: found.lowrank[name]["rank"])
    grades = found.grades[benchmark, model]
    # The first problem with both, so that the two can be compared; else whatever comes first.
    mixed = grades.groupby("problem_id", sort=False)["correct"].transform(
        lambda c: 0 < c.mean() < 1
    )
    there = grades[mixed] if mixed.any() else grades
    shown = []
    for right in (True, False):
        rows = there[there["correct"] == right]
        if len(rows):
            shown.append(_trace(found, benchmark, model, rows.iloc[0]))
    which = "the first problem that it answers sometimes rightly, sometimes wrongly"
    return {
        "choice": f"Of {found.label(model)} on {which if mixed.any() else 'the first problem'}: its"
        " first right and first wrong completion, chosen by this rule and not by eye.",
        "shown": shown,
    }


def _trace(found: Evidence, benchmark: str, model: str, grade: pd.Series) -> dict[str, str]:
    """One completion with its problem, the right answer and the one it gave."""
    experiment = found.experiment
    problems = table(
        found.results / f"benchmarks/{benchmark}.parquet", ("problem_id", "problem", "answer")
    )
    problem = problems[problems["problem_id"] == grade["problem_id"]].iloc[0]
    names = parts(experiment)
    part = names[int(grade["sample"]) % len(names)]
    path = found.results / f"samples/{benchmark}/{model}/{part}.parquet"
    samples = table(path, SAMPLES)
    at = (samples["problem_id"] == grade["problem_id"]) & (samples["sample"] == grade["sample"])
    if at.sum() != 1:
        raise InputError(
            f"{path}: {at.sum()} rows of problem {grade['problem_id']}, sample {grade['sample']},"
            " one expected; sample the model again"
        )
    sample = samples[at].iloc[0]
    verdict = "right" if grade["correct"] else "wrong"
    answer = grade["answer"] if isinstance(grade["answer"], str) else "none"
    return {
        "title": f"Problem {grade['problem_id']}, sample {grade['sample']}: answered {answer}"
        f" ({verdict}; the answer is {problem['answer']}), {sample['completion_tokens']} tokens,"
        f" ended by {sample['finish_reason']}",
        "problem": visible(str(problem["problem"])),
        "completion": visible(_shortened(str(sample["completion"]))),
    }


def _shortened(text: str) -> str:
    if len(text) <= 2 * SHOWN:
        return text
    left_out = len(text) - 2 * SHOWN
    return f"{text[:SHOWN]}\n\n[... {left_out:,} characters left out ...]\n\n{text[-SHOWN:]}"


def visible(text: str) -> str:
    """Text in which every character that would not print, or would reorder others, is named.

    >>> visible("a" + chr(0) + "b" + chr(0x202E))
    'a[U+0000]b[U+202E]'
    """
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
        else f"[U+{ord(char):04X}]"
        for char in text
    )


def provenance(found: Evidence) -> dict[str, Any]:
    """Versions, revisions, seeds and hashes, read from the manifests and the samples' records."""
    experiment = found.experiment
    records = [record for parts_ in found.provenance.values() for record in parts_]
    settings = [_flat(_setting(record)) for record in records]
    common = {
        key: value
        for key, value in settings[0].items()
        if all(other.get(key) == value for other in settings)
    }
    differing = sorted({key for setting in settings for key in setting} - set(common))
    sampling = list(common.items())
    for key in differing:
        values = sorted({str(setting.get(key, DASH)) for setting in settings})
        sampling.append((key, "; ".join(values)))
    return {
        "models": _models(found),
        "sampling": [
            *sampling,
            *_prompts(found),
            ("seed of redraws and resamples", str(experiment["seed"])),
        ],
        "prompt": visible(records[0]["example"]["prompt"]),
        "pools": _pools(found),
        "deltas": _deltas(found),
        "experiment": json.dumps(experiment, indent=2, ensure_ascii=False),
    }


def _setting(record: dict[str, Any]) -> dict[str, Any]:
    """What all pools of an experiment should share."""
    return {
        "sampling": record["sampling"],
        "prompt": {key: value for key, value in record["prompt"].items() if key != "ids_sha256"},
        "engine": record["engine"],
        "devices": ", ".join(record["devices"]),
        "guarantee": record["guarantee"],
    }


def _prompts(found: Evidence) -> list[tuple[str, str]]:
    """Of every benchmark, one hash over all prompts' token ids, and whether all models had it."""
    said = []
    for benchmark in found.experiment["benchmarks"]:
        pairs = {
            (model, digest(record["prompt"]["ids_sha256"]))
            for (name, model), records in found.provenance.items()
            for record in records
            if name == benchmark
        }
        hashes = sorted({each for _, each in pairs})
        label = found.experiment["benchmarks"][benchmark].get("label", benchmark)
        if len(hashes) == 1:
            what = f"{hashes[0]}, the same for every model and part"
        else:
            what = "NOT the same: " + ", ".join(f"{m} {h[:12]}" for m, h in sorted(pairs))
        said.append((f"hash of the prompts' token ids, {label}", what))
    return said


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys joined by dots, values as text."""
    flat = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            flat[name] = visible(text) or "(empty)"
    return flat


def _models(found: Evidence) -> dict[str, Any]:
    """Every model and variant: source, parameters, stored dtypes, hashes of the weight files."""
    rows = []
    for name, manifest in {**found.model_manifests, **found.variant_manifests}.items():
        source = manifest["source"]
        if name in found.variant_manifests:
            where = f"{found.label(found.experiment['base'])} + delta"
        elif "repo" in source:
            where = f"{source['repo']} @ {source['revision'][:12]}"
        else:
            where = str(source["path"])
        weights = {f: d for f, d in manifest["files"].items() if f.endswith(".safetensors")}
        hashes = ", ".join(entry["sha256"][:12] for entry in weights.values())
        dtypes = ", ".join(sorted({entry["dtype"] for entry in manifest["tensors"].values()}))
        parameters = f"{manifest['parameters']:,}"
        rows.append(row(found.label(name), where, parameters, dtypes, hashes))
    heads = ["model", "from", "parameters", "stored", "SHA-256 of the weight files"]
    return grid(heads, rows, caption="Models", kind="words")


def _pools(found: Evidence) -> dict[str, Any]:
    """What came back of every model: how many completions, how they ended, what had no answer."""
    rows = []
    for (benchmark, model), records in found.provenance.items():
        counts = {
            key: sum(record["counts"][key] for record in records)
            for key in ("completions", "truncated", "empty", "completion_tokens")
        }
        grades = found.grades[benchmark, model]
        unjudged = int(grades["unjudged"].notna().sum())
        total = counts["completions"]
        engine = records[0]["engine"]
        served = [records[0]["model"][key] for key in ("sha256", "adapter_sha256")]
        rows.append(
            row(
                found.label(model), benchmark,
                f"{total:,}", f"{found.distinct[benchmark, model]:,}",
                f"{counts['completion_tokens'] / total:,.0f}", percent(counts["truncated"] / total),
                percent(counts["empty"] / total), percent(grades["answer"].isna().mean()),
                str(int(grades["overlooked"].sum())), str(unjudged),
                engine["dtype"], engine["compute_dtype"],
                " + ".join(hashed[:12] for hashed in served if hashed),
            )
        )  # fmt: skip
    heads = ["model", "benchmark", "completions", "distinct", "mean tokens", "cut off", "empty",
             "no answer", "though right in the text", "not judged",
             "served as", "computed in", "SHA-256 of what was served"]  # fmt: skip
    return grid(heads, rows, caption="Pools")


def _deltas(found: Evidence) -> list[tuple[str, str]]:
    """How each delta was computed."""
    said = []
    for delta, manifest in found.delta_manifests.items():
        versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
        said.append(
            (
                found.delta_label(delta),
                f"{manifest['method']}; {len(manifest['matrices'])} matrices on"
                f" {manifest['device']}; {versions}",
            )
        )
    return said
