"""The factors of a LoRA adapter on disk, held against the checkpoint that they are for."""

from pathlib import Path

from lowrank.errors import InputError
from lowrank.models.architecture import input_first, matrix_name, paths_in_memory
from lowrank.models.checkpoint import Checkpoint
from lowrank.models.safetensors_file import TensorEntry, read_header
from lowrank.variants.lora_config import read_lora_config

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
PREFIX = "base_model.model."  # PEFT's name of the model that it wraps


def read_factors(
    folder: Path, base: Checkpoint
) -> tuple[dict[str, tuple[TensorEntry, TensorEntry]], float]:
    """By weight name lora_A [r, in] and lora_B [out, r], and what scales their product.

    Raises InputError for anything but a pair of factors for weights that the base has, in their
    shapes: an engine would leave out in silence what does not fit.
    """
    turned = input_first(base.config)
    rank, scale = read_lora_config(folder / CONFIG_FILE, turned)
    entries, _ = read_header(folder / WEIGHTS_FILE)
    names = {path: n for n in matrix_names(base) for path in paths_in_memory(base.config, n)}
    factors = {}
    for key in sorted(entries):
        path, ending = key.removeprefix(PREFIX), ".lora_A.weight"
        name = names.get(path.removesuffix(ending))
        if key.startswith(PREFIX) and path.endswith(".lora_B.weight"):
            if key.replace(".lora_B.", ".lora_A.") in entries:
                continue
        elif key.startswith(PREFIX) and path.endswith(ending) and name is not None:
            A, B = entries[key], entries.get(key.replace(".lora_A.", ".lora_B."))
            rows, columns = base.entry(name).shape
            if turned:
                rows, columns = columns, rows
            if B is not None and (A.shape, B.shape) == ((rank, columns), (rows, rank)):
                factors[name] = (A, B)
                continue
        raise InputError(
            f"{folder / WEIGHTS_FILE}: tensor {key} does not fit {base.folder}: a pair lora_A "
            f"[{rank}, in], lora_B [out, {rank}] for each of its weights expected; nothing is "
            "dropped in silence"
        )
    return factors, scale


def matrix_names(base: Checkpoint) -> list[str]:
    """Names of everything that an adapter may be for: tensors, and the matrices of stacks."""
    names = list(base.tensors)
    for tensor, part in base.anatomy.parts.items():
        if part.stacked:
            names += [matrix_name(tensor, i) for i in range(base.tensors[tensor].shape[0])]
    return names
