"""The tensors of a LoRA adapter on disk, held against the checkpoint that they are for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lowrank.errors import InputError
from lowrank.models.architecture import input_first, matrix_name, paths_in_memory
from lowrank.models.checkpoint import Checkpoint
from lowrank.models.safetensors_file import TensorEntry, read_header
from lowrank.plan.checkpoint_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from lowrank.variants.lora_config import LoraConfig, read_lora_config

WEIGHTS_FILE = ADAPTER_WEIGHTS
CONFIG_FILE = ADAPTER_CONFIG
PREFIX = "base_model.model."  # PEFT's name of the model that it wraps


@dataclass(frozen=True)
class Factors:
    """What an adapter holds for one weight [out, in]."""

    A: TensorEntry  # [r, in]
    B: TensorEntry  # [out, r]
    magnitude: TensorEntry | None  # [out], of DoRA
    r: int
    alpha: float
    scale: float  # of the product of B and A


@dataclass(frozen=True)
class Contents:
    """All that an adapter's file holds, by the names of the base's tensors."""

    config: LoraConfig
    factors: dict[str, Factors]
    whole: dict[str, TensorEntry]  # what takes the place of the base's; factors may come on top


def read_factors(
    folder: Path, base: Checkpoint
) -> tuple[dict[str, tuple[TensorEntry, TensorEntry]], float]:
    """By weight name lora_A [r, in] and lora_B [out, r], and what scales their product.

    For an adapter that is served as it is: InputError for anything but a pair of factors of one
    rank for weights that the base has, in their shapes: an engine would leave out in silence what
    does not fit.
    """
    found = read_contents(folder, base)
    pairs = {name: (each.A, each.B) for name, each in found.factors.items()}
    return pairs, found.config.scale("")


def read_contents(folder: Path, base: Checkpoint, merging: bool = False) -> Contents:
    """What an adapter holds. merging: also what only a merged model can hold (`MERGED`).

    Raises InputError for anything that does not fit the base or its own configuration: nothing is
    dropped in silence.
    """
    config = read_lora_config(folder / CONFIG_FILE, input_first(base.config), merging)
    entries, _ = read_header(folder / WEIGHTS_FILE)
    names = {path: n for n in matrix_names(base) for path in paths_in_memory(base.config, n)}
    parts: dict[str, dict[str, TensorEntry]] = {}
    whole = {}
    for key, entry in sorted(entries.items()):
        path, factor, kind = key.removeprefix(PREFIX).partition(".lora_")
        if factor and key.startswith(PREFIX):
            parts.setdefault(path, {})[kind] = entry
        elif merging and key.startswith(PREFIX):
            name = names.get(path.replace(".base_layer.", ".").removesuffix(".weight"), "")
            _check_whole(folder, entry, base, name)
            whole[name] = entry
        else:
            raise _misfit(folder, key, base, config, "")
    factors = {}
    for path, given in parts.items():
        name = names.get(path, "")
        found = _factors(config, path, given, base, name) if name else None
        if found is None:
            kinds = sorted(given, key=lambda kind: kind in ("A.weight", "B.weight"))
            raise _misfit(folder, f"{PREFIX}{path}.lora_{kinds[0]}", base, config, path)
        if merging and not config.targets(path):
            raise InputError(
                f"{folder / WEIGHTS_FILE}: holds factors of {path}, which {CONFIG_FILE} leaves out"
                " (target_modules, exclude_modules, layers_to_transform); PEFT would drop them:"
                " correct the one or the other"
            )
        factors[name] = found
    contents = Contents(config, factors, whole)
    _check_complete(folder, base, contents)
    return contents


def _factors(
    config: LoraConfig,
    path: str,
    given: Mapping[str, TensorEntry],
    base: Checkpoint,
    name: str,
) -> Factors | None:
    """The factors of a weight of the base; None if anything is missing, too much or misshapen."""
    shape = base.entry(name).shape
    rows, columns = shape if len(shape) == 2 else (0, 0)
    if input_first(base.config):
        rows, columns = columns, rows
    r = config.rank(path)
    wanted: dict[str, tuple[int, ...]] = {"A.weight": (r, columns), "B.weight": (rows, r)}
    wanted |= {"magnitude_vector": (rows,)} if config.dora else {}
    # The name that the magnitudes have in memory, in files of other tools.
    plain = {kind.replace("magnitude_vector.weight", "magnitude_vector"): e
             for kind, e in given.items()}  # fmt: skip
    if {kind: entry.shape for kind, entry in plain.items()} != wanted:
        return None
    magnitude = plain.get("magnitude_vector")
    alpha, scale = config.alpha_of(path), config.scale(path)
    return Factors(plain["A.weight"], plain["B.weight"], magnitude, r, alpha, scale)


def _check_whole(folder: Path, entry: TensorEntry, base: Checkpoint, name: str) -> None:
    """InputError for a tensor trained whole that is not the base's tensor `name`, or shaped so."""
    there = base.tensors.get(name)
    if there is None or there.shape != entry.shape:
        has = f"it is {list(there.shape)}" if there else "there is no such tensor"
        raise InputError(
            f"{folder / WEIGHTS_FILE}: tensor {entry.name}, trained whole, is {list(entry.shape)},"
            f" and in {base.folder} {has}; it was made for another base"
        )


def _check_complete(folder: Path, base: Checkpoint, contents: Contents) -> None:
    """InputError where something trained is missing, or it is not said what it changes."""
    path = folder / WEIGHTS_FILE
    for module in contents.config.saved:
        if not any(name.rpartition(".")[0].endswith(module) for name in contents.whole):
            raise InputError(
                f"{path}: modules_to_save names {module}, and no tensor of it is there; get the"
                " whole adapter"
            )
    if base.tied and base.embedding in {*contents.factors, *contents.whole}:
        raise InputError(
            f"{path}: changes {base.embedding}, which in {base.folder} is the output head, too;"
            " whether it changes both is not said: merge it with PEFT (merge_and_unload,"
            " save_pretrained) and give the merged model"
        )
    if not contents.factors:
        raise InputError(f"{path}: holds no factors (lora_A, lora_B); get the whole adapter")


def _misfit(folder: Path, key: str, base: Checkpoint, config: LoraConfig, path: str) -> InputError:
    """What to say of a tensor that has no place; path: of its module."""
    r, more = config.rank(path), ", lora_magnitude_vector [out]" if config.dora else ""
    return InputError(
        f"{folder / WEIGHTS_FILE}: tensor {key} does not fit {base.folder}: a pair lora_A "
        f"[{r}, in], lora_B [out, {r}]{more} for each of its weights expected; nothing is "
        "dropped in silence"
    )


def matrix_names(base: Checkpoint) -> list[str]:
    """Names of everything that an adapter may be for: tensors, and the matrices of stacks."""
    names = list(base.tensors)
    for tensor, part in base.anatomy.parts.items():
        if part.stacked:
            names += [matrix_name(tensor, i) for i in range(base.tensors[tensor].shape[0])]
    return names
