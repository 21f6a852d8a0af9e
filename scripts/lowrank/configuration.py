"""The configuration, validated and resolved: which models, variants, benchmarks and shards.

config.yaml asks the questions and experiments/<experiment>.yaml names the subjects; both are
checked against workflow/schemas and against each other before anything runs.
"""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from lowrank.digest import source_digest
from lowrank.errors import InputError

REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Variant:
    """A model made from the base and a part of the delta."""

    name: str
    rank: int
    other: str  # where embeddings, head and norms come from: copy | keep


@dataclass(frozen=True)
class Experiment:
    """Everything the workflow needs to know, resolved; see config.yaml and experiments/."""

    name: str
    config: dict[str, Any]  # config.yaml's keys
    subject: dict[str, Any]  # the experiment file's keys

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Checkpoints to fetch, by name."""
        return self.subject["models"]

    @property
    def deltas(self) -> dict[str, dict[str, Any]]:
        """Pairs whose difference is factored, by name."""
        return self.subject["deltas"]

    @property
    def benchmarks(self) -> dict[str, dict[str, Any]]:
        """Problem sets, by name."""
        return self.subject["benchmarks"]

    @property
    def sampling(self) -> dict[str, Any]:
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

    @property
    def variants(self) -> dict[str, Variant]:
        """Every variant, by name: other varies slowest, as in the post's tables."""
        made = [
            Variant(f"r{rank}-{other}", rank, other)
            for other in self.config["other"]
            for rank in self.config["ranks"]
        ]
        return {variant.name: variant for variant in made}

    @property
    def sampled(self) -> list[str]:
        """Every model that is sampled: the references, then the variants."""
        return [*self.subject["references"], *self.variants]

    @property
    def shards(self) -> list[str]:
        """Names of the pool's shards, `first-last` sample of every problem, both inclusive."""
        size = self.subject["samples_per_shard"]
        starts = range(0, self.config["samples"], size)
        return [f"{start:04d}-{start + size - 1:04d}" for start in starts]

    def model_folder(self, model: str) -> str:
        """Folder of a checkpoint: a variant's or a fetched model's."""
        kind = "variants" if model in self.variants else "models"
        return f"results/{self.name}/{kind}/{model}"

    def manifest(self, model: str) -> str:
        """The file that stands for a checkpoint in the rules' inputs."""
        return f"{self.model_folder(model)}/manifest.json"

    def adapter(self, variant: str) -> str:
        """The file that stands for the adapter a variant is made with."""
        rank = self.variants[variant].rank
        return f"results/{self.name}/adapters/{self.subject['delta']}/r{rank}/adapter.json"

    def samples(self, benchmark: str, model: str) -> list[str]:
        """The pool of a model on a benchmark, shard by shard."""
        folder = f"results/{self.name}/samples/{benchmark}/{model}"
        return [f"{folder}/{shard}.parquet" for shard in self.shards]

    def evidence(self) -> list[str]:
        """Every file that the report reads: what each phase says of what it made."""
        results = f"results/{self.name}"
        pairs = [(benchmark, model) for benchmark in self.benchmarks for model in self.sampled]
        shards = [path for pair in pairs for path in self.samples(*pair)]
        return [
            *(f"{results}/metrics/{benchmark}/{model}.csv" for benchmark, model in pairs),
            *(f"{results}/grades/{benchmark}/{model}.parquet" for benchmark, model in pairs),
            *shards,
            *(shard.removesuffix("parquet") + "json" for shard in shards),
            *(f"{results}/benchmarks/{benchmark}.parquet" for benchmark in self.benchmarks),
            *(
                f"{results}/delta/{delta}/{name}"
                for delta in self.deltas
                for name in ("manifest.json", "spectrum.parquet", "summary.parquet")
            ),
            *dict.fromkeys(self.adapter(variant) for variant in self.variants),
            *(f"{self.model_folder(variant)}/fidelity.json" for variant in self.variants),
            *(self.manifest(model) for model in [*self.models, *self.variants]),
        ]

    def source_content(self, group: str, name: str) -> str:
        """What identifies a source's content: a digest of a local one, a hub's revision."""
        source = self.subject[group][name]
        return source_digest(source["path"]) if "path" in source else source["revision"]

    def source_flags(self, group: str, name: str) -> str:
        """fetch_model.py's or fetch_benchmark.py's flags for a source."""
        source = self.subject[group][name]
        keys = ("path", "repo", "revision", "file", "problem_column", "answer_column", "id_column")
        return flags({key: source[key] for key in keys if key in source})

    def leave_out_flags(self, delta: str) -> str:
        """The tensors that a delta leaves out by configuration."""
        patterns = self.deltas[delta].get("leave_out", [])
        return flags({"leave_out": patterns} if patterns else {})

    def shard_flags(self, shard: str) -> str:
        """Which samples of every problem a shard holds."""
        first, last = map(int, shard.split("-"))
        return flags({"first": first, "count": last - first + 1})

    def sampling_flags(self) -> str:
        """sample.py's flags that are the same for all models; what a job may use is left out."""
        resources = {"threads", "mem_mb", "runtime"}
        settings = {key: value for key, value in self.sampling.items() if key not in resources}
        return flags({"seed": self.config["seed"], **settings})

    def grading_flags(self, benchmark: str) -> str:
        """grade.py's flags."""
        answer_type = self.benchmarks[benchmark]["answer_type"]
        return flags({"answer_type": answer_type, **self.subject["grading"]})

    @property
    def gpus(self) -> int:
        """GPUs that a sampling job asks for: one where the device is cuda, else none."""
        return int(self.sampling["device"] == "cuda")

    def description(self) -> str:
        """All of it as JSON, for the report and for the record."""
        variants = {
            name: {"rank": variant.rank, "other": variant.other, "kind": "lowrank"}
            for name, variant in self.variants.items()
        }
        resolved = {
            "name": self.name,
            **self.subject,
            "base": self.base,
            "derivative": self.derivative,
            "variants": variants,
            **{key: value for key, value in self.config.items() if key != "experiment"},
        }
        return json.dumps(resolved, ensure_ascii=False)


def flags(values: dict[str, Any]) -> str:
    """Keys and values as quoted command-line flags; None is left out, a list repeats values."""
    words: list[str] = []
    for key, value in values.items():
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, list):
            words += [flag, *map(str, value)]
        elif value is not None:
            words.append(f"{flag}={value}")
    return shlex.join(words)


def load(config: dict[str, Any], root: str | Path = ".") -> Experiment:
    """Validate the configuration and the experiment it names, and resolve them.

    config: config.yaml's content, with what --config and --configfile put on top.
    root: the folder that holds experiments/ and workflow/schemas/.
    Raises InputError, one line naming the file and the key, for anything that cannot work.
    """
    root = Path(root)
    # `--config 'ranks=[8,16]'` reaches us as a list of strings.
    config = config | {key: _numbers(config[key]) for key in ("ranks", "maj_k") if key in config}
    _check(config, root / "workflow/schemas/config.schema.yaml", "config.yaml")
    path = root / "experiments" / f"{config['experiment']}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise InputError(
            f"config.yaml: experiment is {config['experiment']!r}, but there is no"
            f" experiments/{path.name}; there are: {there}"
        )
    where = f"experiments/{path.name}"
    subject = _read_yaml(path, where)
    _check(subject, root / "workflow/schemas/experiment.schema.yaml", where)
    experiment = Experiment(config["experiment"], config, subject)
    _check_subject(experiment, where)
    _check_pool(experiment, where)
    return experiment


def _numbers(values: Any) -> Any:
    """A list with its digit strings as integers; anything else as it is."""
    if not isinstance(values, list):
        return values
    return [int(v) if isinstance(v, str) and v.isdecimal() else v for v in values]


def _read_yaml(path: Path, where: str) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not valid YAML ({error})") from None


def _check(content: Any, schema: Path, where: str) -> None:
    """Raise InputError for the first key of `content` that the schema refuses."""
    validator = jsonschema.Draft202012Validator(yaml.safe_load(schema.read_text(encoding="utf-8")))
    for error in sorted(validator.iter_errors(content), key=lambda e: list(map(str, e.path))):
        key = _key(error.absolute_path)
        raise InputError(f"{where}: {key + ': ' if key else ''}{_reason(error)}")


def _key(path: Any) -> str:
    """A path into the content as a person writes it: models.rl, ranks[0]."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _reason(error: jsonschema.ValidationError) -> str:
    """What is wrong with a value and what was expected, in a few words."""
    found = json.dumps(error.instance, ensure_ascii=False, default=str)
    wanted = error.validator_value
    match error.validator:
        case "additionalProperties":
            known = error.schema["properties"]
            unknown = ", ".join(sorted(str(key) for key in set(error.instance) - set(known)))
            return f"unknown key {unknown}; known are {', '.join(known)}"
        case "required":
            missing = [key for key in wanted if key not in error.instance]
            return f"missing key {', '.join(missing)}"
        case "minItems" | "minProperties":
            return f"is empty; at least {wanted} expected"
        case "uniqueItems":
            return f"{found} names a value twice"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            relation = {
                "minimum": "at least",
                "maximum": "at most",
                "exclusiveMinimum": "more than",
                "exclusiveMaximum": "less than",
            }[error.validator]
            return f"is {found}, must be {relation} {wanted}"
        case "enum":
            return f"is {found}, must be one of {', '.join(map(str, wanted))}"
        case "type":
            wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
            return f"is {found}, must be of type {wanted}"
        case "pattern" if "{problem}" in wanted.replace("\\", ""):
            return f"is {found}, must contain {{problem}}"
        case "pattern" if "/" in wanted:
            return f"is {found}, must be a hub repository, owner/name"
        case "pattern":
            return (
                f"is {found}, must be a name of letters, digits, '.', '_' and '-', as it becomes"
                " a folder"
            )
    return error.message


def _check_subject(experiment: Experiment, where: str) -> None:
    """Names that must exist, sources that must be pinned."""
    subject = experiment.subject
    for group in ("models", "benchmarks"):
        for name, source in subject[group].items():
            _check_source(source, f"{where}: {group}.{name}", needs_file=group == "benchmarks")
    named = [(f"deltas.{d}.{side}", pair[side]) for d, pair in experiment.deltas.items()
             for side in ("base", "derivative")]  # fmt: skip
    named += [("tokenizer", subject["tokenizer"])]
    named += [("references", reference) for reference in subject["references"]]
    for key, model in named:
        if model not in experiment.models:
            known = ", ".join(experiment.models)
            raise InputError(f"{where}: {key} is {model!r}, which is none of models: {known}")
    if subject["delta"] not in experiment.deltas:
        known = ", ".join(experiment.deltas)
        raise InputError(
            f"{where}: delta is {subject['delta']!r}, which is none of deltas: {known}"
        )
    for model in (experiment.base, experiment.derivative):
        if model not in subject["references"]:
            raise InputError(
                f"{where}: references lacks {model!r}; the variants are compared with the base"
                " and the derivative, so both must be sampled"
            )
    clash = set(experiment.variants) & set(experiment.models)
    if clash:
        raise InputError(f"{where}: models.{min(clash)} has a variant's name; choose another")


def _check_source(source: dict[str, Any], key: str, needs_file: bool) -> None:
    """A model or benchmark is a local path or a hub repository at a pinned revision."""
    if "path" in source:
        extra = sorted({"repo", "revision", "file"} & set(source))
        if extra:
            raise InputError(f"{key} has both path and {extra[0]}; give one source")
        return
    if "repo" not in source:
        raise InputError(f"{key} has no source; give path, or repo and revision")
    revision = source.get("revision")
    if revision is None or not REVISION.fullmatch(revision):
        raise InputError(
            f"{key}.revision is {revision!r}; a 40-digit commit is needed so that the run can be"
            " repeated (see the repository's commit page)"
        )
    if needs_file and "file" not in source:
        raise InputError(f"{key} has no file; name the data file in the repository")


def _check_pool(experiment: Experiment, where: str) -> None:
    """The pool must hold what is drawn from it, and be cut into whole shards."""
    samples, size = experiment.config["samples"], experiment.subject["samples_per_shard"]
    for k in experiment.config["maj_k"]:
        if k > samples:
            raise InputError(
                f"config.yaml: maj_k has {k}, more than samples: {samples}; a vote of k needs a"
                " pool of at least k"
            )
    if samples % size:
        raise InputError(
            f"config.yaml: samples is {samples}, not a multiple of samples_per_shard: {size}"
            f" ({where}); nearest: {max(size, samples // size * size)}"
        )
