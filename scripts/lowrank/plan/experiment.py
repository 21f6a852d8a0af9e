"""An experiment, resolved: which models, variants, benchmarks and parts, where their files are.

What the rules ask for: paths of inputs and the flags of every program. configuration.py makes one
from config.yaml and experiments/<experiment>.yaml.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

from lowrank.places import locate
from lowrank.plan.checkpoint_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, SINGLE, taken
from lowrank.plan.controls import LOWRANK, kind_of, kinds_asked, names
from lowrank.plan.digest import source_digest
from lowrank.plan.engine_settings import SPEED, deciding, engine_words, of_model
from lowrank.plan.flags import flags
from lowrank.plan.layout import Adapter, Checkpoint, Description, Layout
from lowrank.plan.settings import (
    Benchmark,
    Config,
    Delta,
    Factoring,
    Model,
    Place,
    Sampling,
    Subject,
)  # fmt: skip
from lowrank.plan.sources import weight_names_of
from lowrank.plan.variant import Variant

# Of config.yaml, what changes no result.
NO_QUESTION = ("experiment", "keep_variants", "results", "completions")
# What a job may use.
RESOURCES = ("threads", "mem_mb", "runtime")


@dataclass(frozen=True)
class Experiment:
    """Everything the workflow needs to know, resolved; see config.yaml and experiments/."""

    name: str
    config: Config
    subject: Subject

    @property
    def models(self) -> dict[str, Model]:
        """Checkpoints to fetch, and adapters to merge into them, by name."""
        return self.subject["models"]

    @cached_property
    def adapted(self) -> list[str]:
        """The models that are an adapter on another one."""
        return [name for name, source in self.models.items() if "adapter" in source]

    @cached_property
    def fetched(self) -> list[str]:
        """The models that are checkpoints of their own."""
        return [name for name in self.models if name not in self.adapted]

    @property
    def deltas(self) -> dict[str, Delta]:
        """Pairs whose difference is factored, by name."""
        return self.subject["deltas"]

    @property
    def benchmarks(self) -> dict[str, Benchmark]:
        """Problem sets, by name."""
        return self.subject["benchmarks"]

    @property
    def factoring(self) -> Factoring:
        """What the jobs that make deltas, adapters and variants may use, and the deltas' device."""
        return self.subject["factoring"]

    @property
    def sampling(self) -> Sampling:
        """The sampling settings, shared by all models."""
        return self.subject["sampling"]

    @property
    def base(self) -> str:
        """The model the variants start from."""
        return self.deltas[self.subject["delta"]]["base"]

    @property
    def derivative(self) -> str:
        """The model whose training is cut to its top directions."""
        return self.deltas[self.subject["delta"]]["derivative"]

    def pair(self, delta: str) -> tuple[str, str]:
        """The base and the derivative of a delta."""
        return self.deltas[delta]["base"], self.deltas[delta]["derivative"]

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """Every variant, by name: the post's in the order of its tables, then the controls."""
        config, made = self.config, []
        asked = {LOWRANK.name: None} | kinds_asked(config["controls"])
        for kind, limited in asked.items():
            ways, others, ranks = config["serve_as"], config["other"], limited or config["ranks"]
            dtypes, control = config["serve_dtype"], kind_of(kind)
            others = others[:1] if limited else others
            if control.packed:  # one beside the first form of each rank
                ways, others, dtypes = ["merged"], others[:1], dtypes[:1]
            if control.other:  # there is nothing to keep apart from the weights
                ways, others = ["merged"], [control.other]
            if control.other or not control.ranked:
                ranks = [0]
            further = self.further_ranks if kind == LOWRANK.name else []
            made += [
                Variant(kind, rank, other, dtype, serve_as)
                for serve_as, dtype, other in product(ways, dtypes, others)
                for rank in ([*further, *ranks] if other == others[0] else ranks)
            ]
        # Without divergence nothing would be known of what is only read.
        return {v.name: v for v in made if config["divergence"] or not self._only_read(v)}

    @property
    def further_ranks(self) -> list[int]:
        """The ranks that the first of the other layers' ways has beside `ranks`."""
        further = self.config.get("further_ranks", [])
        return [rank for rank in further if rank not in self.config["ranks"]]

    def _only_read(self, variant: Variant) -> bool:
        return names(self.config["only_read"], variant.kind, variant.rank)

    @cached_property
    def read(self) -> list[str]:
        """Every model that is sampled or read: the references, then the variants."""
        return [*self.subject["references"], *self.variants]

    @cached_property
    def sampled(self) -> list[str]:
        """Every model that answers the benchmarks: those that are not only read."""
        answering = [name for name, v in self.variants.items() if not self._only_read(v)]
        return [*self.subject["references"], *answering]

    @property
    def accuracy(self) -> bool:
        """Whether answers are graded and compared; where variants are only read they are not."""
        return any(v.kind == LOWRANK.name for v in self.variants.values() if not self._only_read(v))

    @cached_property
    def parts(self) -> list[str]:
        """Names of the parts that each model's completions are cut into, a job each: 1-of-1."""
        count = self.sampling.get("parts", 1)
        return [f"{part}-of-{count}" for part in range(1, count + 1)]

    @cached_property
    def layout(self) -> Layout:
        """Where the experiment's files lie."""
        return Layout(Path(self.config["results"]) / self.name)

    def checkpoint(self, model: str) -> Checkpoint:
        """Where a model lies: a variant or a fetched one."""
        made = model in self.variants
        return self.layout.variant(model) if made else self.layout.model(model)

    def manifest(self, model: str) -> Path:
        """The file that stands for a checkpoint in the rules' inputs."""
        return self.checkpoint(model).manifest

    @cached_property
    def weight_names(self) -> dict[str, list[str]]:
        """Names of every fetched model's weight files: those in its folder, or as `shards` says.

        Raises InputError for a folder that holds no weights.
        """
        return {name: weight_names_of(source) for name, source in self.models.items()}

    def weights(self, *models: str) -> list[Path]:
        """The weight files of checkpoints."""
        return [
            self.checkpoint(model).weights(name)
            for model in models
            for name in ([SINGLE] if model in self.variants else self.weight_names[model])
        ]

    def files(self, *models: str) -> list[Path]:
        """All that is read of checkpoints but their manifests: configuration, index, weights."""
        described = []
        for model in models:
            checkpoint = self.checkpoint(model)
            described.append(checkpoint.config)
            described += [checkpoint.index] if model in self.fetched else []
        return described + self.weights(*models)

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer of all models."""
        return self.layout.model(self.subject["tokenizer"]).tokenizer

    @cached_property
    def adapters(self) -> dict[str, Variant]:
        """Every adapter by name, with a variant that it is made for."""
        return {v.adapter: v for v in self.variants.values() if v.adapter}

    def adapter(self, variant: str) -> list[Adapter]:
        """The adapter of a variant; none if its rank is 0."""
        name = self.variants[variant].adapter
        return [self.layout.adapter(self.subject["delta"], name)] if name else []

    @cached_property
    def descriptions(self) -> dict[str, Variant]:
        """Every description by name, with the variant that it is made for."""
        return {v.description: v for v in self.variants.values() if v.description}

    @cached_property
    def described(self) -> list[str]:
        """The kinds of descriptions that are asked for."""
        return list(dict.fromkeys(v.kind for v in self.descriptions.values()))

    @cached_property
    def bytes_of_ranks(self) -> list[int]:
        """The ranks at whose bytes descriptions are measured: every rank that is asked for."""
        limited = {v.rank for v in self.descriptions.values() if v.rank}
        return sorted({*self.config["ranks"], *self.further_ranks, *limited})

    def description_of(self, variant: str) -> list[Description]:
        """The description that a variant is made of; none for most."""
        name = self.variants[variant].description
        return [self.layout.description(self.subject["delta"], name)] if name else []

    def unmerged(self, model: str) -> list[Adapter]:
        """The adapter that is served on a model, not merged into it; none for most."""
        served = model in self.variants and self.variants[model].unmerged
        return self.adapter(model) if served else []

    def samples(self, benchmark: str, model: str) -> list[Path]:
        """The pool of a model on a benchmark, part by part."""
        return [self.layout.samples(benchmark, model, part) for part in self.parts]

    def evidence(self) -> list[Path]:
        """Every file that the report reads: what each phase says of what it made."""
        layout = self.layout
        pairs = [(benchmark, model) for benchmark in self.benchmarks for model in self.sampled]
        pieces = [(*pair, part) for pair in pairs for part in self.parts]
        graded = pairs if self.accuracy else []
        deltas = [layout.delta(name) for name in self.deltas]
        adapters = [layout.adapter(self.subject["delta"], name) for name in self.adapters]
        return [
            *(layout.metrics(*pair) for pair in graded),
            *(layout.grades(*pair) for pair in graded),
            *(layout.samples(*piece) for piece in pieces),
            *(layout.provenance(*piece) for piece in pieces),
            *(layout.problems(benchmark) for benchmark in self.benchmarks),
            *(
                path
                for delta in deltas
                for path in (delta.manifest, delta.spectrum, delta.summary, delta.ledger)
            ),
            *(adapter.record for adapter in adapters),
            *(layout.variant(variant).fidelity for variant in self.variants),
            *(self.manifest(model) for model in [*self.models, *self.variants]),
            *(layout.model(model).adapter for model in self.adapted),
        ]

    def source(self, group: str, name: str) -> Place:
        """Where a model (group "models"), its adapter or a benchmark ("benchmarks") comes from."""
        if group == "benchmarks":
            return self.benchmarks[name]
        place: Place = self.models[name]
        if "adapter" in self.models[name]:
            place = self.models[name]["adapter"]
        return place

    def source_content(self, group: str, name: str, file: str | None = None) -> str:
        """What identifies a source's content: a digest of a local one, a hub's revision.

        Of a model's folder the files that are taken from it, or one of them, and no other.
        """
        source = self.source(group, name)
        if "path" not in source:
            return source["revision"]
        path = locate(source["path"])
        if group == "benchmarks":
            return source_digest(path)
        if name in self.adapted:
            folder = path / self.models[name]["adapter"].get("subfolder", "")
            return source_digest(folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS)
        weights, present = self.weight_names[name], [found.name for found in path.iterdir()]
        return source_digest(*(path / n for n in ([file] if file else taken(weights, present))))

    def published_content(self) -> str | None:
        """A digest of the published figures that the report shows beside its own; None without."""
        published = self.subject.get("published")
        return source_digest(locate(published)) if published else None

    def source_flags(self, group: str, name: str) -> str:
        """The flags for a source of fetch_model.py, fetch_adapter.py or fetch_benchmark.py."""
        source = self.source(group, name)
        keys = ("path", "repo", "revision", "subfolder", "file", "problem_column", "answer_column",
                "id_column", "problems")  # fmt: skip
        return flags({key: value for key, value in source.items() if key in keys})

    def left_out(self, delta: str) -> list[str]:
        """The tensors that a delta leaves out by configuration."""
        return self.deltas[delta].get("leave_out", [])

    def control_flags(self, adapter: str) -> str:
        """build_adapter.py's flags for the adapter of a control; none for the top directions."""
        kind = kind_of(self.adapters[adapter].kind)
        return flags({**kind.flags, "seed": self.config["seed"] if kind.seeded else None})

    @property
    def plan(self) -> str:
        """What sampling asks for, in a sentence."""
        starts = len(self.sampled) * len(self.parts)
        read = len(self.read) - len(self.sampled)
        return (
            f"{len(self.sampled)} models{f' ({read} more are only read)' * bool(read)},"
            f" {self.config['samples']} completions a problem of"
            f" {', '.join(self.benchmarks)}, up to {self.sampling['max_tokens']:,} tokens each; at"
            f" most {starts} starts of vLLM: a job whose completions are kept starts none."
            + (f" It needs {self.subject['needs']}." if self.subject.get("needs") else "")
        )

    def benchmark_flags(self, problems: Sequence[str], tables: Sequence[str]) -> str:
        """The problems and the table of every benchmark, in the experiment's order."""
        asked = zip(self.benchmarks, problems, tables, strict=True)
        return " ".join(flags({"benchmark": list(target)}) for target in asked)

    def served_dtype(self, model: str) -> str:
        """What a model's weights are cast to before it is served."""
        made = self.variants.get(model)
        return made.dtype if made else self.sampling["dtype"]

    def compute_dtype(self, model: str) -> str:
        """What the engine computes in."""
        return self.engine(model).get("compute_dtype") or self.served_dtype(model)

    def engine(self, model: str) -> Sampling:
        """The sampling settings of a model."""
        return of_model(self.sampling, model)

    def gpus(self, model: str) -> int:
        """GPUs that sampling a model takes; none on a CPU."""
        return self.engine(model).get("tensor_parallel", 1) if self.samples_on_gpu else 0

    @property
    def samples_on_gpu(self) -> bool:
        return self.sampling["device"] == "cuda"

    @property
    def most_gpus(self) -> int:
        """GPUs that the job which takes most of them takes."""
        factoring = int(self.factoring["device"] == "cuda")
        return max(factoring, *(self.gpus(model) for model in self.sampled))

    def grading_flags(self, benchmark: str) -> str:
        """grade.py's flags."""
        answer_type = self.benchmarks[benchmark]["answer_type"]
        return flags({"answer_type": answer_type, **self.subject["grading"]})

    def grading_workers(self, benchmark: str) -> int:
        """Processes that judge answers; integers are compared without any."""
        return 2 if self.benchmarks[benchmark]["answer_type"] == "any" else 1

    def speed_flags(self, model: str) -> str:
        """sample.py's flags that change speed and memory, never a completion's meaning."""
        settings = self.engine(model)
        words = engine_words(settings.get("engine", {}))
        return flags({key: settings.get(key) for key in SPEED} | {"engine": words})

    def kernel_flags(self, model: str) -> str:
        """sample.py's flags that change how a completion is computed, where they are given."""
        settings = self.engine(model)
        return flags({key: settings.get(key) for key in ("quantization", "batch_invariant")})

    @cached_property
    def question(self) -> str:
        """A digest of all that the results depend on; the order of keys is not part of it."""
        content = json.dumps(json.loads(self.description()), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def description(self) -> str:
        """All that the results depend on as JSON, for the report and for the record."""
        variants = {
            name: {**asdict(variant), "adapter": variant.adapter}
            for name, variant in self.variants.items()
        }
        resolved = {
            "name": self.name,
            **{k: v for k, v in self.subject.items() if k not in ("factoring", "needs")},
            "sampling": {k: v for k, v in deciding(self.sampling).items() if k not in RESOURCES},
            "base": self.base,
            "derivative": self.derivative,
            "variants": variants,
            "descriptions": self.described,
            **{k: v for k, v in self.config.items() if k not in NO_QUESTION},
        }
        return json.dumps(resolved, ensure_ascii=False)
