"""adapter_config.json of a PEFT adapter, read strictly: is it W + scale B A, and with what scale?

Every key that changes what an adapter means is honoured here or refused by its name (held against
LoraConfig of PEFT 0.21). PEFT itself is not needed to read one.
"""

import math
from pathlib import Path
from typing import Any

from lowrank.errors import InputError
from lowrank.files import read_json

# Of no effect on the product of the stored factors: where they belong their names say, and the
# rest is about training, or about an initialisation that `INITIALISATIONS` judges.
WITHOUT_EFFECT = {
    "peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision",
    "inference_mode", "target_modules", "exclude_modules", "lora_dropout", "layers_to_transform",
    "layers_pattern", "megatron_core", "qalora_group_size", "runtime_config", "loftq_config",
    "eva_config", "corda_config", "lora_ga_config",
}  # fmt: skip
HONOURED = {"r", "lora_alpha", "use_rslora", "init_lora_weights", "fan_in_fan_out"}
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
CONVERT = (
    "convert it with PEFT (save_pretrained with path_initial_model_for_weight_conversion), or merge"
    " it"
)


def read_lora_config(path: Path, transposed: bool = False) -> tuple[int, float]:
    """(r, scale) of an adapter that adds scale lora_B lora_A to each of its weights, nothing else.

    transposed: whether the model stores its weights input first, which fan_in_fan_out has to say.
    scale: lora_alpha / r, with use_rslora lora_alpha / sqrt(r) (Kalajdzievski, 2312.03732).
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
    for key, value in config.items():
        if key in WITHOUT_EFFECT | HONOURED or value in (None, False, "", "none", [], {}):
            continue
        meaning = REFUSED.get(key, "a key that is not known here")
        remedy = "it cannot be merged either" if key in WITHOUT_MERGE else MERGE
        raise InputError(
            f"{path}: {key} is {value!r} ({meaning}); only plain LoRA weights can be read without"
            f" dropping something: {remedy}"
        )
    r, alpha = config.get("r"), config.get("lora_alpha")
    if type(r) is not int or r < 1:
        raise InputError(f"{path}: r is {r!r}; a whole number from 1 expected")
    if alpha is None or not _finite(alpha):
        raise InputError(f"{path}: lora_alpha is {alpha!r}; a number expected")
    return r, alpha / (math.sqrt(r) if config.get("use_rslora") else r)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
