"""Whether a checkpoint's weights are quantised, and how: seen from names and dtypes alone."""

from collections.abc import Mapping
from typing import Any

from lowrank.models.safetensors_file import TORCH_NAMES, TensorEntry

# Ends of tensor names that a method of quantisation leaves, the telling ones first.
MARKS = {
    ".g_idx": "GPTQ",
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".weight_packed": "compressed-tensors",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    "_blocks": "MXFP4",
    ".W_q": "HQQ",
    ".codes": "AQLM",
    "._data": "quanto",
    ".weight_scale_inv": "FP8",
    ".weight_scale": "FP8 or compressed-tensors",
}


def quantisation(
    config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]
) -> tuple[str, TensorEntry] | None:
    """(method, a tensor that shows it) of quantised weights; None for plain ones.

    Weights stored as integers, or in 8 bits or fewer, are quantised. An integer tensor that neither
    is named like a weight nor has scales is a buffer (position_ids, masks). The quantization
    entry of config.json does not decide, as it is often left in after dequantisation; it only
    gives the method its name.
    """
    said = config.get("quantization_config")
    said = said.get("quant_method") if isinstance(said, dict) else None
    for ending, method in MARKS.items():
        for name, entry in tensors.items():
            if name.endswith(ending) and _beside(name, ending, tensors):
                return said or method, entry
    for name, entry in tensors.items():
        if entry.dtype in TORCH_NAMES:
            continue
        if entry.dtype.startswith("F"):
            return said or f"{entry.dtype} weights", entry
        if name.endswith(".weight") and len(entry.shape) > 1:
            return said or f"{entry.dtype} weights", entry
    return None


def _beside(name: str, ending: str, tensors: Mapping[str, TensorEntry]) -> bool:
    """Whether a telling name has packed numbers with it: itself, or the weight it scales."""
    stem = name.removesuffix(ending)
    near = (tensors.get(stem + tail) for tail in (ending, ".weight", "", ".qweight"))
    return any(entry is not None and entry.dtype not in TORCH_NAMES for entry in near)
