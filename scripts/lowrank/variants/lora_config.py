"""adapter_config.json of a PEFT adapter, read strictly: what is done with its factors?

Every key that changes what an adapter means is honoured here or refused by its name (held against
LoraConfig of PEFT 0.21). PEFT itself is not needed to read one.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowrank.errors import InputError
from lowrank.files import read_json

# Of no effect on the product of the stored factors: about training, or about an initialisation that
# `INITIALISATIONS` judges.
WITHOUT_EFFECT = {
    "peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision",
    "inference_mode", "lora_dropout", "megatron_core", "qalora_group_size", "runtime_config",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config",
}  # fmt: skip
HONOURED = {
    "r", "lora_alpha", "use_rslora", "init_lora_weights", "fan_in_fan_out", "target_modules",
    "exclude_modules", "layers_to_transform", "layers_pattern",
}  # fmt: skip
# Honoured where an adapter is merged; an engine that serves one unmerged knows none of them.
MERGED = {"use_dora", "rank_pattern", "alpha_pattern", "bias", "modules_to_save"}
# How training began. The others (pissa, olora, corda, loftq, lora_ga) take a part out of the base's
# weights, which PEFT does again when it loads them: their factors alone are not the change.
INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
REFUSED = {
    "bias": "trained biases",
    "modules_to_save": "modules trained whole",
    "trainable_token_indices": "trained tokens",
    "use_dora": "DoRA, whose magnitudes scale the weights",
    "lora_bias": "biases of lora_B",
    "alora_invocation_tokens": "aLoRA, which is active after its invocation only",
    "layer_replication": "a stack of repeated layers",
    "target_parameters": "factors of parameters that are no module's weight",
    "rank_pattern": "ranks, and so scales, of their own for some modules",
    "alpha_pattern": "scales of their own for some modules",
    "use_qalora": "QALoRA, with pooled inputs",
    "use_bdlora": "BD-LoRA, with block-diagonal factors",
    "arrow_config": "Arrow, which routes among adapters",
    "monteclora_config": "MonteCLoRA, which samples its weights",
    "kasa_config": "KaSA, which cuts the base's weights",
    "ensure_weight_tying": "an adapter shared by tied weights",
}
WITHOUT_MERGE = {"alora_invocation_tokens", "arrow_config"}
MERGE = "merge it with PEFT (merge_and_unload, save_pretrained) and compare the merged model"
OURS = "merge it with merge_adapter.py (`adapter` and `on` of a model in an experiment)"
CONVERT = (
    "convert it with PEFT (save_pretrained with path_initial_model_for_weight_conversion), or merge"
    " it"
)


@dataclass(frozen=True)
class LoraConfig:
    """What a configuration says of the factors of each module, known by its path in the model."""

    r: int
    alpha: float
    rslora: bool
    dora: bool
    ranks: Mapping[str, int]  # rank_pattern
    alphas: Mapping[str, float]  # alpha_pattern
    saved: tuple[str, ...]  # ends of the paths of modules that were trained whole
    base: str | None  # what its author called the model
    given: Mapping[str, Any]  # everything

    def rank(self, path: str) -> int:
        """The rank of a module's factors."""
        return self.ranks.get(_key(self.ranks, path), self.r)

    def alpha_of(self, path: str) -> float:
        """The module's lora_alpha."""
        return self.alphas.get(_key(self.alphas, path), self.alpha)

    def scale(self, path: str) -> float:
        """lora_alpha / r, with use_rslora lora_alpha / sqrt(r) (Kalajdzievski, 2312.03732)."""
        r = self.rank(path)
        return self.alpha_of(path) / (math.sqrt(r) if self.rslora else r)

    def targets(self, path: str) -> bool:
        """Whether PEFT puts factors on a module (as its check_target_module_exists says)."""
        excluded, wanted = self.given.get("exclude_modules"), self.given.get("target_modules")
        if excluded and _named(excluded, path):
            return False
        if any(re.match(rf"(.*\.)?{module}($|\..*)", path) for module in self.saved):
            return False
        if isinstance(wanted, str):
            return wanted.lower() == "all-linear" or re.fullmatch(wanted, path) is not None
        if wanted is None or path in wanted:  # without targets PEFT has its own for each model
            return True
        layers = self.given.get("layers_to_transform")
        if layers is None or layers == []:
            return _named(wanted, path)
        number = _layer(self.given.get("layers_pattern"), path)
        return _named(wanted, path) and number in (layers if isinstance(layers, list) else [layers])


def _key(patterns: Iterable[str], path: str) -> str:
    """The first of rank_pattern's or alpha_pattern's keys that fits the end of a path; else it."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", path)), path)


def _named(modules: str | list[str], path: str) -> bool:
    """Whether a path is one of the modules, or ends in its name; text is a pattern of a path."""
    if isinstance(modules, str):
        return re.fullmatch(modules, path) is not None
    return any(path == module or path.endswith(f".{module}") for module in modules)


def _layer(names: str | list[str] | None, path: str) -> int | None:
    """The first layer's number in a path: behind a list of these names, or of any."""
    names = [names] if isinstance(names, str) else names
    starts = [rf"(?:^|.*?\.){name}" for name in names] if names else [r".*?\.[^.]*"]
    found = [match for start in starts if (match := re.match(rf"{start}\.(\d+)\.", path))]
    return int(found[0][1]) if found else None


def read_lora_config(path: Path, transposed: bool = False, merging: bool = False) -> LoraConfig:
    """What is to be done with the factors of an adapter, and nothing else.

    merging: whether also what only a merged model can hold is honoured (`MERGED`). Without, it is
    an adapter that adds lora_alpha / r lora_B lora_A to its weights, and all have the same r.
    transposed: whether the model stores its weights input first, which fan_in_fan_out has to say.
    InputError that names the key for any other adapter.
    """
    config = read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: no JSON object; PEFT's configuration of an adapter expected")
    kind = config.get("peft_type")
    if kind != "LORA":
        raise InputError(f"{path}: peft_type is {kind!r}; only 'LORA' can be read here: {MERGE}")
    start = config.get("init_lora_weights")
    if start not in INITIALISATIONS:
        raise InputError(
            f"{path}: init_lora_weights is {start!r}, which begins by changing the base's weights,"
            f" so that the factors alone are not the change; {CONVERT}"
        )
    if transposed != bool(config.get("fan_in_fan_out")):
        raise InputError(
            f"{path}: fan_in_fan_out is {config.get('fan_in_fan_out')!r}, but the model stores its"
            f" weights {'input' if transposed else 'output'} first; it was made for another model"
        )
    known = WITHOUT_EFFECT | HONOURED | (MERGED if merging else set())
    for key, value in config.items():
        if key in known or value in (None, False, "", "none", [], {}):
            continue
        meaning = REFUSED.get(key, "a key that is not known here")
        remedy = OURS if key in MERGED else MERGE
        remedy = "it cannot be merged either" if key in WITHOUT_MERGE else remedy
        raise InputError(
            f"{path}: {key} is {value!r} ({meaning}); only plain LoRA weights can be read without"
            f" dropping something: {remedy}"
        )
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    saved = config.get("modules_to_save") or []
    _check_patterns(path, config)
    for name, r in {"r": config.get("r"), **ranks}.items():
        if type(r) is not int or r < 1:
            raise InputError(f"{path}: {name} is {r!r}; a whole number from 1 expected")
    for name, alpha in {"lora_alpha": config.get("lora_alpha"), **alphas}.items():
        if not _finite(alpha):
            raise InputError(f"{path}: {name} is {alpha!r}; a number expected")
    return LoraConfig(
        r=config["r"],
        alpha=config["lora_alpha"],
        rslora=bool(config.get("use_rslora")),
        dora=bool(config.get("use_dora")),
        ranks=ranks,
        alphas=alphas,
        saved=(saved,) if isinstance(saved, str) else tuple(saved),
        base=config.get("base_model_name_or_path"),
        given=config,
    )


def _check_patterns(path: Path, config: Mapping[str, Any]) -> None:
    """InputError for what should be patterns of modules and is not."""
    for key in ("rank_pattern", "alpha_pattern", "target_modules", "exclude_modules"):
        given = config.get(key) or {}
        if key.endswith("_pattern") and not isinstance(given, dict):
            raise InputError(f"{path}: {key} is {given!r}; a number for each pattern expected")
        patterns = [given] if isinstance(given, str) else given if isinstance(given, dict) else []
        for pattern in patterns:  # a list has names
            try:
                re.compile(pattern)
            except re.error:
                raise InputError(f"{path}: {key} has {pattern!r}, no pattern of a name") from None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
