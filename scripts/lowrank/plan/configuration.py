"""The configuration, read and validated.

config.yaml asks the questions and experiments/<experiment>.yaml names the subjects; both are
checked against workflow/schemas and against each other before anything runs.
"""

import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import jsonschema
import yaml

from lowrank.errors import InputError
from lowrank.places import ROOT, locate
from lowrank.plan.checkpoint_files import adapter_there
from lowrank.plan.controls import kinds_asked
from lowrank.plan.engine_settings import check_serving
from lowrank.plan.experiment import Experiment
from lowrank.plan.served import VLLM_RANKS, check_compute_dtype
from lowrank.plan.settings import Config, Model, Place, Subject
from lowrank.plan.strict_yaml import read_yaml

REVISION = re.compile(r"[0-9a-f]{40}")


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: Any, value: Any) -> bool:
    return _is_integer(_, value) or (isinstance(value, float) and math.isfinite(value))


# JSON Schema takes 1000.0 for an integer, and NaN for a number.
Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_integer, "number": _is_number}
    ),
)


def load(
    config: dict[str, Any],
    root: Path = ROOT,
    module: str | None = None,
    given: Collection[str] = (),
) -> Experiment:
    """Validate the configuration and the experiment it names, and resolve them.

    config: what was asked: config.yaml's content, with what --config and --configfile put on top.
    Keys that it lacks are answered as in the config.yaml that ships with the workflow.
    given: the keys of --config and --configfile. They come before the experiment's own answers
    (its `questions`), which come before config.yaml. A module's config is all given.
    root: the workflow's folder, with config.yaml, experiments/ and workflow/schemas/. Experiments
    in the working directory come first. module: as what another workflow uses this one.
    Raises InputError, one line naming the file and the key, for anything that cannot work.
    """
    asked = f"config of module {module}" if module else "config.yaml"
    given = config if module else given
    config = _typed(read_yaml(root / "config.yaml", "config.yaml") | config)
    schema = root / "workflow/schemas/config.schema.yaml"
    _check(config, schema, asked)
    path = _experiment_file(config["experiment"], root, asked)
    where = f"experiments/{path.name}"
    subject: Subject = read_yaml(path, where)
    _check(subject, root / "workflow/schemas/experiment.schema.yaml", where)
    own = subject.pop("questions", {})
    config |= {key: value for key, value in _typed(own).items() if key not in given}
    _check(config, schema, f"{where}: questions")
    experiment = Experiment(config["experiment"], cast("Config", config), subject)
    _check_subject(experiment, where)
    _check_sizes(experiment, where, asked)
    _check_paths(experiment, where, root)
    reads = bool(config["divergence"])
    check_serving(experiment.sampling, experiment.sampled, reads, where)
    _check_dtypes(experiment, where)
    _check_temperature(experiment, where)
    return experiment


def _typed(config: dict[str, Any]) -> dict[str, Any]:
    """`--config 'ranks=[8,16]' details=false` reaches us as strings; what they stand for."""
    config = dict(config)
    config |= {key: _numbers(config[key]) for key in ("ranks", "maj_k") if key in config}
    if isinstance(config.get("controls"), list):
        config["controls"] = [_ranks(entry) for entry in config["controls"]]
    for key in ("details", "keep_variants"):
        if config.get(key) in ("true", "false"):
            config[key] = config[key] == "true"
    for key in ("divergence", "locate"):
        if key in config:
            config[key] = _settings(config[key])
    return config


def _experiment_file(name: str, root: Path, asked: str) -> Path:
    """The user's experiments/<name>.yaml in the working directory, else the workflow's."""
    folders = [Path("experiments"), root / "experiments"]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    there = ", ".join(sorted({path.stem for f in folders for path in f.glob("*.yaml")}))
    raise InputError(
        f"{asked}: experiment is {name!r}, but there is no experiments/{name}.yaml; there are:"
        f" {there}"
    )


def _numbers(values: Any) -> Any:
    """A list with its digit strings as integers; anything else as it is."""
    if not isinstance(values, list):
        return values
    return [int(v) if isinstance(v, str) and v.isdecimal() else v for v in values]


def _ranks(entry: Any) -> Any:
    """A control with its ranks as integers; one without as it is."""
    if not isinstance(entry, dict):
        return entry
    return {kind: _numbers(ranks) for kind, ranks in entry.items()}


def _settings(values: Any) -> Any:
    """A mapping with its digit strings as integers; null where false or null is written."""
    if isinstance(values, dict):
        return dict(zip(values, _numbers(list(values.values())), strict=True))
    return None if values in (False, "false", "null", "none") else values


def _check(content: Any, schema: Path, where: str) -> None:
    """Raise InputError for the first key of `content` that the schema refuses."""
    validator = Validator(yaml.safe_load(schema.read_text(encoding="utf-8")))
    for error in sorted(validator.iter_errors(content), key=lambda e: list(map(str, e.path))):
        key, path = _key(error.absolute_path), list(error.absolute_path)
        if error.validator == "required":
            path.append(next(name for name in error.validator_value if name not in error.instance))
        told = described(validator.schema, path)
        about = f" ({told[0]}: {told[1]})" if told else ""
        raise InputError(f"{where}: {key + ': ' if key else ''}{_reason(error)}{about}")


def described(schema: dict[str, Any], path: list[Any]) -> tuple[str, str] | None:
    """The last key of a path into the content that the schema describes, and what it says."""
    found = None
    for part in path:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        schema = properties.get(part) or (others if isinstance(others, dict) else {})
        if "description" in schema:
            found = str(part), " ".join(schema["description"].split()).removesuffix(".")
    return found


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
            there = f"has {len(error.instance)}" if error.instance else "is empty"
            return f"{there}; at least {wanted} expected"
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
        case "pattern":
            return f"is {found}, must {error.schema['$comment']}"
        case "minLength":
            return f"is {found}, must not be empty"
    return str(error.message)


def _check_subject(experiment: Experiment, where: str) -> None:
    """Names that must exist, sources that must be pinned."""
    subject = experiment.subject
    for name, problems in experiment.benchmarks.items():
        _check_source(problems, f"{where}: benchmarks.{name}", needs_file=True)
    for name, source in experiment.models.items():
        _check_model(experiment, name, source, f"{where}: models.{name}")
    named = []
    for delta in experiment.deltas:
        base, derivative = experiment.pair(delta)
        named += [(f"deltas.{delta}.base", base), (f"deltas.{delta}.derivative", derivative)]
    named += [("tokenizer", subject["tokenizer"])]
    named += [("references", reference) for reference in subject["references"]]
    for key, asked in named:
        if asked not in experiment.models:
            known = ", ".join(experiment.models)
            raise InputError(f"{where}: {key} is {asked!r}, which is none of models: {known}")
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
    for name, pool in subject.get("pools", {}).items():
        if name in experiment.benchmarks:
            raise InputError(f"{where}: pools.{name} has a benchmark's name; choose another")
        for benchmark in pool["benchmarks"]:
            if benchmark not in experiment.benchmarks:
                known = ", ".join(experiment.benchmarks)
                raise InputError(
                    f"{where}: pools.{name}.benchmarks has {benchmark!r}, which is none of"
                    f" benchmarks: {known}"
                )
    clash = set(experiment.variants) & set(experiment.models)
    if clash:
        raise InputError(f"{where}: models.{min(clash)} has a variant's name; choose another")


def _check_model(experiment: Experiment, name: str, source: Model, key: str) -> None:
    """A model is a checkpoint, or an adapter on another model; never on itself in the end."""
    if "adapter" not in source:
        if "on" in source:
            raise InputError(f"{key} is on {source['on']!r} and has no adapter; give it one")
        _check_source(source, key)
        return
    extra = sorted({"path", "repo", "revision", "shards"} & set(source))
    if extra:
        raise InputError(f"{key} has both adapter and {extra[0]}; give one source")
    _check_source(source["adapter"], f"{key}.adapter")
    if "on" not in source:
        raise InputError(f"{key} has an adapter and no `on`; name the model that it was made for")
    seen, below = [name], source["on"]
    while below not in seen:
        if below not in experiment.models:
            known = ", ".join(experiment.models)
            raise InputError(f"{key}.on is {below!r}, which is none of models: {known}")
        if "on" not in experiment.models[below]:
            return
        seen.append(below)
        below = experiment.models[below]["on"]
    raise InputError(f"{key}.on leads back to {below!r}; an adapter is on a checkpoint in the end")


def _check_source(source: Place, key: str, needs_file: bool = False) -> None:
    """A source is a local path or a hub repository at a pinned revision."""
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


def _check_sizes(experiment: Experiment, where: str, asked: str) -> None:
    """The pool must hold what is drawn from it, and as many parts; vLLM must serve the ranks."""
    samples, parts = experiment.config["samples"], len(experiment.parts)
    for k in experiment.config["maj_k"]:
        if k > samples:
            raise InputError(
                f"{asked}: maj_k has {k}, more than samples: {samples}; a vote of k needs a"
                " pool of at least k"
            )
    named = [kind for entry in experiment.config["controls"] for kind in kinds_asked([entry])]
    if twice := [kind for kind in named if named.count(kind) > 1]:
        raise InputError(f"{asked}: controls names {twice[0]} twice; give it once, with all ranks")
    unmerged = [v.rank for v in experiment.variants.values() if v.unmerged]
    too_high = [rank for rank in unmerged if rank > VLLM_RANKS[-1]]
    if too_high:
        raise InputError(
            f"{asked}: rank {too_high[0]} is asked for, but vLLM serves an adapter unmerged up to"
            f" rank {VLLM_RANKS[-1]}; take adapter out of serve_as"
        )
    if not experiment.accuracy and not experiment.config["divergence"]:
        raise InputError(
            f"{asked}: only_read has lowrank, which would be neither sampled nor read, as"
            " divergence is null; set divergence, or take it out of only_read"
        )
    sampled = [v.kind for v in experiment.variants.values() if v.name in experiment.sampled]
    if sampled and not experiment.accuracy:
        raise InputError(
            f"{asked}: only_read has lowrank, but not {sampled[0]}; controls answer for comparison"
            f" with the variants of the top directions: add {sampled[0]}, or take lowrank out"
        )
    if experiment.config["locate"] and not experiment.config["divergence"]:
        raise InputError(
            f"{asked}: locate reads what divergence reads, and divergence is null; set both"
        )
    if parts > samples:
        raise InputError(
            f"{where}: sampling.parts is {parts}, more than samples: {samples} ({asked}); a part"
            " needs at least one sample"
        )


def _check_paths(experiment: Experiment, where: str, root: Path) -> None:
    """Local sources must be there before anything that was made from them is made again."""
    for group, sources in (("models", experiment.models), ("benchmarks", experiment.benchmarks)):
        for name, source in sources.items():
            if "path" in source:
                _check_path(source["path"], f"{where}: {group}.{name}.path", root)
    for name in experiment.adapted:
        adapter, key = experiment.models[name]["adapter"], f"{where}: models.{name}.adapter"
        if "path" in adapter:
            _check_path(adapter["path"], f"{key}.path", root)
            _check_adapter(locate(adapter["path"], root) / adapter.get("subfolder", ""), key)
    try:
        experiment.weights(*experiment.models)  # a folder without weights is refused here
    except InputError as error:
        raise InputError(f"{where}: models: {error}") from None
    if published := experiment.subject.get("published"):
        _check_path(published, f"{where}: published", root)


def _check_path(path: str, key: str, root: Path) -> None:
    try:
        locate(path, root)
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def _check_adapter(folder: Path, key: str) -> None:
    try:
        adapter_there(str(folder), "", (path.name for path in folder.iterdir()))
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
    except OSError as error:
        raise InputError(f"{key}: {folder}: {error.strerror}; a folder expected") from None


def _check_temperature(experiment: Experiment, where: str) -> None:
    temperature = experiment.sampling["temperature"]
    if 0 < temperature < 0.01:
        raise InputError(
            f"{where}: sampling.temperature is {temperature}; the engine would take 0.01 for it:"
            " give 0 (greedy), or 0.01 to 2"
        )


def _check_dtypes(experiment: Experiment, where: str) -> None:
    """What is computed in must hold what any model is served as."""
    for model in experiment.sampled:
        dtype, computed = experiment.served_dtype(model), experiment.compute_dtype(model)
        check_compute_dtype(dtype, computed, f"{where}: sampling.compute_dtype of {model}")
