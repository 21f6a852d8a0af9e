"""What the phase of divergences asks for: its files and flags, resolved from the experiment."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from lowrank.plan.controls import in_order
from lowrank.plan.experiment import Experiment
from lowrank.plan.flags import flags
from lowrank.plan.variant import Variant

TABLES = ("metrics", "contrasts", "ranks")


def asked(experiment: Experiment) -> dict[str, int] | None:
    """How much of the derivative's text is read: `count` samples a problem, `tokens` of each at
    most; None if nothing is. A pool that is smaller is read whole."""
    settings = experiment.config["divergence"]
    if not settings:
        return None
    count = min(settings["samples"], experiment.config["samples"])
    return {"count": count, "tokens": settings["tokens"]}


def results(experiment: Experiment) -> list[Path]:
    """Every file of the phase that the report reads."""
    if not asked(experiment):
        return []
    found = []
    for benchmark in experiment.benchmarks:
        here = experiment.layout.divergence(benchmark)
        found += [here.summary(table) for table in TABLES]
        found.append(here.reference)
        for model in experiment.read:
            found += [here.tokens(model), here.record(model)]
        if experiment.config["locate"]:
            found += [here.located, here.located_record]
    if experiment.described:
        found += [experiment.layout.delta(name).descriptions for name in experiment.deltas]
    return found


def asked_for(experiment: Experiment) -> list[str]:
    """The parts of the report that the configuration asks for; see report/outputs.py."""
    read = [key for key in ("divergence", "locate") if experiment.config[key]]
    described = ["descriptions"] * bool(experiment.described)
    return ["accuracy"] * experiment.accuracy + read + described


def served_flags(experiment: Experiment, model: str) -> str:
    """What a model is read as: the dtype it is served in, and the device."""
    served = {"dtype": experiment.served_dtype(model), "device": experiment.sampling["device"]}
    return flags(served)


def derivative_flags(experiment: Experiment) -> str:
    """read_derivative.py's flags but its files."""
    return f"{served_flags(experiment, experiment.derivative)} {flags(asked(experiment) or {})}"


def locate_flags(experiment: Experiment) -> str:
    """locate.py's flags but its files."""
    leave_out = experiment.left_out(experiment.subject["delta"])
    own = flags({**(experiment.config["locate"] or {}), "leave_out": leave_out})
    return f"{served_flags(experiment, experiment.derivative)} {own}"


def benchmark_flags(
    experiment: Experiment,
    problems: Sequence[str],
    samples: Sequence[str],
    records: Sequence[str],
) -> str:
    """read_derivative.py's files of every benchmark: problems, reference.json, parts of samples."""
    words, parts = [], len(experiment.parts)
    for i, (name, table, record) in enumerate(
        zip(experiment.benchmarks, problems, records, strict=True)
    ):
        folder = record.removesuffix("/reference.json")
        pool = samples[i * parts : (i + 1) * parts]
        words.append(flags({"benchmark": [name, table, folder, *pool]}))
    return " ".join(words)


def reference_flags(records: Sequence[str], tables: Sequence[str]) -> str:
    """divergence.py's files; records: reference.json of every benchmark."""
    pairs = zip(records, tables, strict=True)
    return " ".join(
        flags({"reference": [record.removesuffix("/reference.json"), table]})
        for record, table in pairs
    )


def ladders(experiment: Experiment) -> dict[str, dict[str, int]]:
    """Variants of the top directions that differ in rank alone, by a name for what they share."""
    found: dict[str, dict[str, int]] = {}
    for name, variant in experiment.variants.items():
        if variant.kind == "lowrank":
            found.setdefault(ladder_name(variant), {})[name] = variant.rank
    return found


def ladder_name(variant: Variant) -> str:
    """copy, keep; what is not as in the post is named too: copy-float32-adapter."""
    return variant.name.removeprefix(f"{variant.part}-")


def equal_bytes(experiment: Experiment) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Descriptions beside the variant whose bytes they have, and, of those with bytes of their
    own, the ladder that they are held against: (description, variant), (description, ladder)."""
    beside, apart = [], []
    for name, variant in experiment.variants.items():
        like = ladder_name(variant)
        if variant.description is None:
            continue
        if not variant.rank:
            apart.append((name, like))
        elif f"r{variant.rank}-{like}" in experiment.variants:
            beside.append((name, f"r{variant.rank}-{like}"))
    return beside, apart


def pairs(experiment: Experiment) -> list[tuple[str, str]]:
    """Variants that differ in where embeddings, head and norms come from: (copied, kept)."""
    alike: dict[tuple[Any, ...], dict[str, str]] = {}
    for name, variant in experiment.variants.items():
        same = (variant.kind, variant.rank, variant.dtype, variant.serve_as)
        alike.setdefault(same, {})[variant.other] = name
    return [
        (ways[one], ways[other])
        for ways in alike.values()
        for one, other in pairwise(in_order(ways))
    ]


def metrics_flags(experiment: Experiment, tables: Sequence[str]) -> str:
    """divergence_metrics.py's flags; tables: of every model that is read, in that order."""
    named = [f"{name}={path}" for name, path in zip(experiment.read, tables, strict=True)]
    given: list[dict[str, object]] = [
        {"tables": named, "base": experiment.base, "seed": experiment.config["seed"]}
    ]
    for name, ladder in ladders(experiment).items():
        given.append({"ladder": [name, *(f"{variant}={rank}" for variant, rank in ladder.items())]})
    given += [{"pair": list(pair)} for pair in pairs(experiment)]
    beside, apart = equal_bytes(experiment)
    given += [{"equal_bytes": list(each)} for each in beside]
    if apart:
        sizes = experiment.layout.delta(experiment.subject["delta"]).descriptions
        given.append({"sizes": str(sizes)})
        given += [
            {"own_bytes": [name, experiment.variants[name].kind, like]} for name, like in apart
        ]
    return " ".join(map(flags, given))
