"""Whether what the report reads was made as the configuration says, and all of it alike.

Snakemake knows from its own notes what was made under which settings. Notes can be lost (a removed
.snakemake, `--cleanup-metadata`), and then it finds nothing to do. What was made says itself how:
each table of samples has its provenance beside it. A page is drawn only if that agrees.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from lowrank.errors import InputError
from lowrank.files import sha256
from lowrank.plan.engine_settings import of_model
from lowrank.report.evidence import Evidence, parts

SHOWN = 5  # differences that an error lists
SAMPLE = (
    "make them again with `snakemake --cores all --forcerun sample`: what is kept under the"
    " configured settings is taken, only what is missing is sampled"
)
# What says which weights there are.
RECORDS = {"sha256": "the model's manifest", "adapter_sha256": "the adapter's record"}
MEASURE = "make them again with `snakemake --cores all --forcerun metrics`"
COMPARE = "make them again with `snakemake --cores all --forcerun compare`"


def check(found: Evidence) -> None:
    """InputError that names files and values, where results differ from what is configured."""
    for differences, remedy in (
        ([*_from_configuration(found), *_from_each_other(found)], SAMPLE),
        ([*_metrics(found)], MEASURE),
        ([*_comparisons(found)], COMPARE),
    ):
        if differences:
            more = len(differences) - SHOWN
            told = "; ".join(differences[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
            raise InputError(f"{told}. A page would mix them: {remedy}")


def _records(found: Evidence) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """(path, benchmark, model, provenance) of every table of samples."""
    names = parts(found.experiment)
    for (benchmark, model), records in found.provenance.items():
        for part, record in zip(names, records, strict=True):
            path = found.layout.provenance(benchmark, model, part)
            yield str(path), benchmark, model, record


def _from_configuration(found: Evidence) -> Iterator[str]:
    """What a table was made with, where the configuration says otherwise."""
    experiment = found.experiment
    sampling = experiment["sampling"]
    for path, _, model, record in _records(found):
        variant = experiment["variants"].get(model)
        dtype = variant["dtype"] if variant else sampling["dtype"]
        settings = of_model(sampling, model)
        wanted: dict[str, dict[str, object]] = {
            "sampling": {
                "seed": experiment["seed"],
                **{key: sampling[key] for key in ("temperature", "top_p", "max_tokens")},
                "max_model_len": sampling["max_model_len"],
            },
            "prompt": {key: sampling[key] for key in ("system", "user", "think_prefix")},
            "engine": {
                "device": sampling["device"],
                "dtype": dtype,
                "compute_dtype": settings.get("compute_dtype") or dtype,
                "quantization": settings.get("quantization"),
                "batch_invariant": settings.get("batch_invariant") or None,
            },
            "part": {"samples": experiment["samples"], "parts": len(parts(experiment))},
        }
        wanted["model"] = {**found.served(model)}
        for group, keys in wanted.items():
            for key, value in keys.items():
                made = record[group].get(key)
                if made != value:
                    says = RECORDS.get(key, "the configuration")
                    yield f"{path}: {group}.{key} is {made!r}, {says} says {value!r}"


def _from_each_other(found: Evidence) -> Iterator[str]:
    """What differs between tables that have to be alike: versions, prompts, the tokenizer."""
    alike: dict[str, tuple[str, Any]] = {}
    for path, benchmark, _, record in _records(found):
        shared = {
            "prompt.tokenizer_sha256": record["prompt"]["tokenizer_sha256"],
            "prompt.end_tokens": record["prompt"]["end_tokens"],
            f"prompts of {benchmark}": record["prompt"]["ids_sha256"],
        }
        if found.experiment["resample"] != "never":  # then a mixture is what was asked for
            shared["engine.versions"] = record["engine"]["versions"]
        for key, value in shared.items():
            first, other = alike.setdefault(key, (path, value))
            if other != value:
                yield f"{path}: {key} differs from that in {first} ({_unlike(value, other)})"


def _metrics(found: Evidence) -> Iterator[str]:
    """Metrics of other votes or of another pool than the configuration's."""
    experiment = found.experiment
    for (benchmark, model), rows in found.metrics.groupby(["benchmark", "model"], sort=False):
        path = found.layout.metrics(benchmark, model)
        ks = sorted(rows.loc[rows["metric"] == "pass", "k"].dropna().astype(int).unique().tolist())
        if ks != sorted(experiment["maj_k"]):
            yield f"{path}: has pass@k for k of {ks}, the configuration says {experiment['maj_k']}"
        sizes = sorted(rows["n_samples"].unique().tolist())
        if sizes != [experiment["samples"]]:
            yield f"{path}: n_samples is {sizes}, the configuration says {experiment['samples']}"


def _comparisons(found: Evidence) -> Iterator[str]:
    """Comparisons of other models, under other settings or from other grades than the page's."""
    experiment = found.experiment
    models = {*found.answering, experiment["derivative"], experiment["base"]}
    wanted = {
        "references": [experiment["base"], experiment["derivative"]],
        "ks": sorted(experiment["maj_k"]),
        "margin": experiment["margin"],
        "seed": experiment["seed"],
        "intersect": False,
    }
    pools = experiment.get("pools", {})
    for name, record in found.comparison_records.items():
        path = found.layout.comparisons(name)
        made = set(record["models"])
        for model in sorted(models - made):
            yield f"{path}: lacks {model}"
        for model in sorted(made - models):
            yield f"{path}: has {model}, which the configuration does not ask for"
        for key, value in wanted.items():
            if record[key] != value:
                yield f"{path}: {key} is {record[key]!r}, the configuration says {value!r}"
        if record["sha256"] != sha256(path):
            yield f"{path}: is not the table that {path.with_suffix('.json').name} was written for"
        benchmarks = pools[name]["benchmarks"] if name in pools else [name]
        for benchmark, model in product(benchmarks, sorted(models & made)):
            grades = found.layout.grades(benchmark, model)
            if record["grades"].get(benchmark, {}).get(model) != sha256(grades):
                yield f"{path}: was made from other grades than {grades}"


def _unlike(one: Any, other: Any) -> str:
    """The first entry in which two values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            if one.get(key) != other.get(key):
                return f"{key}: {one.get(key)} and {other.get(key)}"
    return f"{one} and {other}"
