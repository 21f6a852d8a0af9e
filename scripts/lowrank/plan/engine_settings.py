"""How the engine runs each model: the experiment's settings for all, and those for one.

What changes speed and memory alone is kept apart from what changes completions. The former is
never a reason to run a job again or to make a completion anew. On how many GPUs a model lies is of
that kind, as which GPU it is: both change how sums are rounded, on CUDA not more than another
batch does, and stand in the provenance of every table (`devices`).
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, cast

from lowrank.errors import InputError
from lowrank.plan.settings import Completing, Sampling

SPEED = ("max_num_seqs", "kv_cache_gib", "gpu_memory", "tensor_parallel", "engine")
# What a CPU has none of, or where it would break the promise that no batch changes a completion.
OF_GPUS = ("tensor_parallel", "engine", "quantization", "batch_invariant")

# Arguments of vLLM's engine (0.32) that `engine` may hold, with their types. Each decides what is
# computed when and where, by which kernel or from which memory; none decides what is computed. The
# schema says of each what it does. Any other is refused: it would change what a model is (dtype,
# quantization, kv_cache_dtype, hf_overrides, revision), what is drawn (seed, speculative_config,
# logits_processors, generation_config), or is another key of the experiment (max_num_seqs).
ENGINE: dict[str, type] = {
    "max_num_batched_tokens": int,
    "enable_chunked_prefill": bool,
    "enable_prefix_caching": bool,
    "enforce_eager": bool,
    "async_scheduling": bool,
    "block_size": int,
    "cpu_offload_gb": float,
    "kv_cache_memory_bytes": int,
    "disable_custom_all_reduce": bool,
}


def of_model(sampling: Completing, model: str) -> Sampling:
    """The sampling settings of a model: those for all, under those of `models` that name it."""
    settings: dict[str, Any] = {k: v for k, v in sampling.items() if k != "models"}
    for pattern, own in sampling.get("models", {}).items():
        if fnmatchcase(model, pattern):
            engine = {**settings.get("engine", {}), **own.get("engine", {})}
            settings |= {**own, "engine": engine}
    return cast(Sampling, settings)


def engine_words(engine: Mapping[str, object]) -> list[str]:
    """Arguments of the engine as sample.py takes them: key=value, by name."""
    return [f"{key}={str(value).lower()}" for key, value in sorted(engine.items())]


def read_engine_words(words: list[str]) -> dict[str, Any]:
    """The arguments that `engine_words` wrote; InputError for one that is not to be set."""
    found: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        if key not in ENGINE:
            raise InputError(
                f"--engine {word}: {key} is not to be set here, as it could change what a"
                f" completion says; what can be set is {', '.join(ENGINE)}"
            )
        try:
            made = {"true": True, "false": False}[text] if ENGINE[key] is bool else None
            found[key] = ENGINE[key](text) if made is None else made
        except (KeyError, ValueError):
            wanted = {bool: "true or false", int: "a whole number", float: "a number"}
            raise InputError(f"--engine {word}: {wanted[ENGINE[key]]} was expected") from None
    return found


def deciding(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that change speed alone, or nothing."""
    kept = {key: value for key, value in sampling.items() if key not in SPEED}
    for key in ("quantization", "batch_invariant"):
        if not kept.get(key, True):
            del kept[key]
    if "models" in kept:
        own = {pattern: deciding(settings) for pattern, settings in kept.pop("models").items()}
        kept |= {"models": own} if any(own.values()) else {}
    return kept


def check_serving(sampling: Sampling, sampled: list[str], divergence: bool, where: str) -> None:
    """InputError, beginning with `where`, for settings of the engine that do not go together."""
    for pattern in sampling.get("models", {}):
        if not any(fnmatchcase(model, pattern) for model in sampled):
            raise InputError(
                f"{where}: sampling.models has {pattern!r}, which is none of the models that are"
                f" sampled: {', '.join(sampled)}"
            )
    for model in sampled:
        settings: Mapping[str, Any] = of_model(sampling, model)
        for key in OF_GPUS if settings["device"] == "cpu" else ():
            if settings.get(key) and (key, settings[key]) != ("tensor_parallel", 1):
                raise InputError(
                    f"{where}: sampling.{key} is {settings[key]!r} for {model}, which is of GPUs,"
                    " and sampling.device is cpu; take it out"
                )
        if settings.get("quantization") and settings.get("compute_dtype"):
            raise InputError(
                f"{where}: sampling has both quantization and compute_dtype for {model}; weights"
                " are quantised from what is served: set compute_dtype to null"
            )
        if settings.get("quantization") and divergence:
            raise InputError(
                f"{where}: sampling.quantization is {settings['quantization']} for {model}, and"
                " divergence reads models as they are served, but not quantised ones; set"
                " divergence and locate to null"
            )
