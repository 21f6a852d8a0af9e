"""Where everything came from: models, sampling, prompts, pools and deltas, as the records say."""

import json
from collections.abc import Callable
from typing import Any

from lowrank.report.cells import DASH, Column, percent, tabulate
from lowrank.report.evidence import Evidence
from lowrank.report.traces import visible
from lowrank.sampling.store import digest


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
        label = found.experiment["benchmarks"][benchmark]["label"]
        if len(hashes) == 1:
            what = f"{hashes[0]}, the same for every model and part"
        else:
            what = "NOT the same: " + ", ".join(f"{m} {h[:12]}" for m, h in sorted(pairs))
        said.append((f"hash of the prompts' token ids, {label}", what))
    return said


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys joined by dots, values as text."""
    flat: dict[str, str] = {}
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
    manifests = {**found.model_manifests, **found.variant_manifests}

    def origin(name: str) -> str:
        source = manifests[name]["source"]
        if name in found.variant_manifests:
            return f"{found.label(found.experiment['base'])} + delta"
        if "adapter" in source:
            on = found.label(found.experiment["models"][name]["on"])
            return f"{on} + {_place(source['adapter']['source'])}"
        return _place(source)

    def dtypes(name: str) -> str:
        return ", ".join(sorted({entry["dtype"] for entry in manifests[name]["tensors"].values()}))

    def hashes(name: str) -> str:
        files = manifests[name]["files"].items()
        return ", ".join(
            entry["sha256"][:12] for file, entry in files if file.endswith(".safetensors")
        )

    columns = [
        Column("model", found.label),
        Column("from", origin),
        Column("parameters", lambda name: f"{manifests[name]['parameters']:,}"),
        Column("stored", dtypes),
        Column("SHA-256 of the weight files", hashes),
    ]
    return tabulate(columns, manifests, caption="Models", kind="words")


def _place(source: dict[str, Any]) -> str:
    """A repository at its revision, or a local path."""
    place = f"{source['repo']} @ {source['revision'][:12]}" if "repo" in source else source["path"]
    return " ".join(filter(None, [place, source.get("subfolder")]))


def _pools(found: Evidence) -> dict[str, Any]:
    """What came back of every model: how many completions, how they ended, what had no answer."""
    lines = []
    for (benchmark, model), records in found.provenance.items():
        counts = {
            key: sum(record["counts"][key] for record in records)
            for key in ("completions", "truncated", "empty", "completion_tokens")
        }
        served = [records[0]["model"][key] for key in ("sha256", "adapter_sha256")]
        lines.append(
            counts
            | {
                "model": found.label(model),
                "benchmark": benchmark,
                "distinct": found.distinct[benchmark, model],
                "grades": found.grades.get((benchmark, model)),
                "engine": records[0]["engine"],
                "served": " + ".join(hashed[:12] for hashed in served if hashed),
            }
        )

    def share(key: str) -> Callable[[dict[str, Any]], str]:
        return lambda line: percent(line[key] / line["completions"])

    graded = [
        Column("no answer", lambda line: percent(line["grades"]["answer"].isna().mean())),
        Column(
            "though right in the text", lambda line: str(int(line["grades"]["overlooked"].sum()))
        ),
        Column("not judged", lambda line: str(int(line["grades"]["unjudged"].notna().sum()))),
    ]
    columns = [
        Column("model", lambda line: line["model"]),
        Column("benchmark", lambda line: line["benchmark"]),
        Column("completions", lambda line: f"{line['completions']:,}"),
        Column("distinct", lambda line: f"{line['distinct']:,}"),
        Column(
            "mean tokens", lambda line: f"{line['completion_tokens'] / line['completions']:,.0f}"
        ),
        Column("cut off", share("truncated")),
        Column("empty", share("empty")),
        *(graded if found.accuracy else ()),
        Column("served as", lambda line: served_as(line["engine"])),
        Column("computed in", lambda line: line["engine"]["compute_dtype"]),
        Column("SHA-256 of what was served", lambda line: line["served"]),
    ]
    return tabulate(columns, lines, caption="Pools")


def served_as(engine: dict[str, Any]) -> str:
    """What weights are served as, by the record of an engine: bfloat16, quantised to fp8."""
    quantised = engine.get("quantization")
    return f"{engine['dtype']}{f', quantised to {quantised}' if quantised else ''}"


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
