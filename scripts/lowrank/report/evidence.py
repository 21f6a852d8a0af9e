"""Everything the report shows, read from the files of the phases before it.

What is read follows from the resolved experiment alone, never from what lies in a folder, so
that leftovers of removed ranks cannot show. Whatever is missing is an InputError naming it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lowrank.errors import InputError
from lowrank.files import read_json, read_table
from lowrank.metrics import comparisons
from lowrank.places import locate
from lowrank.plan.checkpoint_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from lowrank.plan.controls import LOWRANK, kind_of, names, prefix
from lowrank.plan.layout import Layout
from lowrank.plan.settings import Described, VariantForm
from lowrank.sampling.store import served_digest

SPECTRUM = ("tensor", "layer", "module", "index", "sigma", "energy_kept_gaussian")
SUMMARY = (
    "tensor", "layer", "module", "rows", "columns", "frobenius", "relative_frobenius", "sigma_1",
    "sigma_1_ratio", "stable_rank", "entropy_rank", "rank_50", "rank_90", "rank_99",
    "rank_above_noise", "energy_above_noise", "optimal_rank",
)  # fmt: skip
LEDGER = ("tensor", "role", "what", "fate", "layer", "share_of_parameters", "share_of_change")
ADAPTED = (
    "tensor", "r", "alpha", "scale", "dora", "base_norm", "ba_norm", "ba_stable_rank",
    "change_norm", "change_stable_rank",
)  # fmt: skip
METRICS = (
    "model", "benchmark", "metric", "k", "estimator", "value", "traces_low", "traces_high",
    "problems_low", "problems_high", "repeats_sd", "n_problems", "n_samples",
)  # fmt: skip
COMPARISONS = ("benchmark", *comparisons.COLUMNS)
GRADES = ("problem_id", "sample", "answer", "correct")
SAMPLES = ("problem_id", "sample", "completion", "completion_tokens", "finish_reason")
PUBLISHED = ("benchmark", "model", "metric", "k", "value", "source", "note")


@dataclass(frozen=True)
class Evidence:
    """What was asked and everything that was found."""

    experiment: Described
    layout: Layout  # where the results lie
    spectra: dict[str, pd.DataFrame]  # delta -> a row a singular value
    summaries: dict[str, pd.DataFrame]  # delta -> a row a matrix
    ledgers: dict[str, pd.DataFrame]  # delta -> a row a tensor
    delta_manifests: dict[str, dict[str, Any]]
    model_manifests: dict[str, dict[str, Any]]  # every model of the experiment
    adapted: dict[str, pd.DataFrame]  # model that is an adapter on another -> a row a matrix
    variant_manifests: dict[str, dict[str, Any]]
    fidelity: dict[str, dict[str, Any]]  # variant -> fidelity.json
    adapters: dict[int, dict[str, Any]]  # rank -> adapter.json
    unmerged: dict[str, dict[str, Any]]  # variant -> adapter.json of what is served beside it
    metrics: pd.DataFrame  # what answers, on all benchmarks, in the experiment's order
    comparisons: pd.DataFrame  # on all benchmarks and pools, in the experiment's order
    comparison_records: dict[str, dict[str, Any]]  # benchmark or pool -> how they were made
    grades: dict[tuple[str, str], pd.DataFrame]  # (benchmark, model)
    provenance: dict[tuple[str, str], list[dict[str, Any]]]  # (benchmark, model) -> a part each
    published: pd.DataFrame | None
    distinct: dict[tuple[str, str], int]  # (benchmark, model) -> completions that differ

    @property
    def read(self) -> list[str]:
        """The references, then the variants."""
        return [*self.experiment["references"], *self.experiment["variants"]]

    @property
    def sampled(self) -> list[str]:
        """The models that answer: the references, then the variants that are not only read."""
        return sampled(self.experiment)

    @property
    def answering(self) -> list[str]:
        """The variants that answer."""
        return [name for name in self.experiment["variants"] if name in self.sampled]

    @property
    def accuracy(self) -> bool:
        """Whether answers are graded and compared."""
        return accuracy(self.experiment)

    @property
    def lowrank(self) -> dict[str, VariantForm]:
        """The variants that the answer is about: the top directions, served in the first form.

        Those served otherwise and the controls are shown beside them.
        """
        return lowrank(self.experiment)

    @property
    def answered(self) -> dict[str, VariantForm]:
        """Those of them that answer the benchmarks: that are not only read."""
        return {name: v for name, v in self.lowrank.items() if name in self.sampled}

    @property
    def controls(self) -> dict[str, VariantForm]:
        """The variants that are not the delta's top directions at their own size."""
        variants = self.experiment["variants"]
        return {name: v for name, v in variants.items() if v["kind"] != LOWRANK.name}

    @property
    def judged(self) -> dict[str, str]:
        """What has verdicts, with what people call it: every benchmark, then every pool of some."""
        return judged(self.experiment)

    def served(self, model: str) -> dict[str, str | None]:
        """Digests of what a model's folder and its unmerged adapter serve, as their records say."""
        manifest = (self.variant_manifests | self.model_manifests)[model]
        files = {name: file["sha256"] for name, file in manifest["files"].items()}
        adapter = self.unmerged.get(model)
        factors = adapter and {
            ADAPTER_WEIGHTS: adapter["weights"]["sha256"],
            ADAPTER_CONFIG: adapter["config"]["sha256"],
        }
        return {
            "sha256": served_digest(files),
            "adapter_sha256": served_digest(factors) if factors else None,
        }

    @property
    def computed_in(self) -> list[str]:
        """The dtypes that the engines computed in, as the samples' records say."""
        records = [record for shards in self.provenance.values() for record in shards]
        return list(dict.fromkeys(record["engine"]["compute_dtype"] for record in records))

    def label(self, model: str) -> str:
        """What a person calls a model or variant; a form that is not the first is named."""
        experiment = self.experiment
        if model not in experiment["variants"]:
            return experiment["models"][model]["label"]
        variant = experiment["variants"][model]
        kind, control = kind_of(variant["kind"]), prefix(variant["kind"])
        rank = f"bytes of r = {variant['rank']}" if kind.packed else f"r = {variant['rank']}"
        words = [control] * bool(control) + [rank] * kind.ranked + [variant["other"]]
        words += [variant["dtype"]] * (variant["dtype"] != experiment["serve_dtype"][0])
        unlike = variant["rank"] > 0 and variant["serve_as"] != experiment["serve_as"][0]
        return ", ".join(words + [variant["serve_as"]] * unlike)

    def delta_label(self, delta: str) -> str:
        """A delta by its two models."""
        pair = self.experiment["deltas"][delta]
        return f"{self.label(pair['base'])} → {self.label(pair['derivative'])}"


def sampled(experiment: Described) -> list[str]:
    """The models that answer the benchmarks: the references, then what is not only read."""
    answering = [
        name
        for name, variant in experiment["variants"].items()
        if not names(experiment["only_read"], variant["kind"], variant["rank"])
    ]
    return [*experiment["references"], *answering]


def accuracy(experiment: Described) -> bool:
    """Whether answers are graded and compared; where variants are only read they are not."""
    return any(name in sampled(experiment) for name in lowrank(experiment))


def judged(experiment: Described) -> dict[str, str]:
    """Labels of the benchmarks, then of the pools of some, by name."""
    labels = {name: entry["label"] for name, entry in experiment["benchmarks"].items()}
    return labels | {name: pool["label"] for name, pool in experiment.get("pools", {}).items()}


def lowrank(experiment: Described) -> dict[str, VariantForm]:
    """The variants of the delta's top directions that are served in the first form named."""
    form = {"dtype": experiment["serve_dtype"][0], "serve_as": experiment["serve_as"][0]}
    wanted = {"kind": LOWRANK.name, **form}
    return {
        name: variant
        for name, variant in experiment["variants"].items()
        if wanted.items() <= variant.items()
    }


def parts(experiment: Described) -> list[str]:
    """Names of the parts that each model's completions are cut into: 1-of-1."""
    count = experiment["sampling"].get("parts", 1)
    return [f"{part}-of-{count}" for part in range(1, count + 1)]


def read_experiment(path: str | Path) -> Described:
    """The resolved experiment; InputError names a key that is missing."""
    experiment: Described = read_json(path)
    missing = [key for key in sorted(Described.__required_keys__) if key not in experiment]
    if missing:
        raise InputError(
            f"{path}: lacks {', '.join(missing)}; the workflow writes this file for its report,"
            " let it make it anew"
        )
    labels = [model["label"] for model in experiment["models"].values()]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"{path}: two models have the label {twice!r}; give each its own")
    return experiment


def gather(experiment: Described, results: Path) -> Evidence:
    """Read everything in the experiment's folder of results that its report shows."""
    layout = Layout(results)
    benchmarks, models = list(experiment["benchmarks"]), experiment["models"]
    variants, deltas = experiment["variants"], experiment["deltas"]
    pairs = [(benchmark, model) for benchmark in benchmarks for model in sampled(experiment)]
    graded = pairs if accuracy(experiment) else []
    changes = {name: layout.delta(name) for name in deltas}
    adapters = {
        variant["rank"]: layout.adapter(experiment["delta"], variant["adapter"])
        for variant in lowrank(experiment).values()
        if variant["adapter"]
    }
    unmerged = {
        name: layout.adapter(experiment["delta"], variant["adapter"])
        for name, variant in variants.items()
        if variant["serve_as"] == "adapter" and variant["adapter"]
    }
    compared = list(judged(experiment)) if graded else []
    published = experiment.get("published")
    return Evidence(
        experiment=experiment,
        layout=layout,
        spectra={name: table(delta.spectrum, SPECTRUM) for name, delta in changes.items()},
        summaries={name: table(delta.summary, SUMMARY) for name, delta in changes.items()},
        ledgers={name: table(delta.ledger, LEDGER) for name, delta in changes.items()},
        delta_manifests={name: read_json(delta.manifest) for name, delta in changes.items()},
        model_manifests={name: read_json(layout.model(name).manifest) for name in models},
        adapted={
            name: table(layout.model(name).adapter, ADAPTED)
            for name, model in models.items()
            if "adapter" in model
        },
        variant_manifests={name: read_json(layout.variant(name).manifest) for name in variants},
        fidelity={name: read_json(layout.variant(name).fidelity) for name in variants},
        adapters={rank: read_json(adapter.record) for rank, adapter in adapters.items()},
        unmerged={name: read_json(adapter.record) for name, adapter in unmerged.items()},
        metrics=stacked([table(layout.metrics(*pair), METRICS) for pair in graded], METRICS),
        comparisons=stacked(
            [table(layout.comparisons(name), COMPARISONS) for name in compared], COMPARISONS
        ),
        comparison_records={name: read_json(layout.comparisons_record(name)) for name in compared},
        grades={pair: table(layout.grades(*pair), GRADES) for pair in graded},
        provenance={
            pair: [read_json(layout.provenance(*pair, part)) for part in parts(experiment)]
            for pair in pairs
        },
        published=table(locate(published), PUBLISHED) if published else None,
        distinct={pair: distinct(experiment, layout, *pair) for pair in pairs},
    )


def stacked(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Tables below each other; without any, none of the `columns` has a value."""
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(columns))


def distinct(experiment: Described, layout: Layout, benchmark: str, model: str) -> int:
    """How many of a model's completions differ in text from all others of the same problem.

    A part is read at a time, and of a completion only a hash is kept.
    """
    seen: set[tuple[str, bytes]] = set()
    for part in parts(experiment):
        samples = table(layout.samples(benchmark, model, part), SAMPLES)
        for problem, text in zip(samples["problem_id"], samples["completion"], strict=True):
            seen.add((problem, hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()))
    return len(seen)


def table(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table and see that it has `columns`; InputError names those it lacks.

    Names of models and benchmarks are text, whatever they look like.
    """
    content = read_table(path, text=("model", "benchmark", "reference"))
    missing = [column for column in columns if column not in content.columns]
    if missing:
        raise InputError(
            f"{path}: lacks the column {', '.join(missing)}; it has {', '.join(content.columns)}"
        )
    return content
