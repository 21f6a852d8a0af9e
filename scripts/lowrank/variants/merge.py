"""A complete checkpoint made of a base, a low-rank delta, and copied or kept other weights.

Every number is formed in float32 and cast once to the dtype that is served; what a model keeps in
float32 beside bfloat16 stays so. What the cast did to the delta is measured while the tensor is at
hand and written to fidelity.json.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.claims import check_output, clear
from lowrank.delta.factor import check_content, content_digest
from lowrank.delta.pairing import Pair, pair_tensors
from lowrank.errors import InputError
from lowrank.files import plain_json, read_json, sha256, whole_file, write_json
from lowrank.models.architecture import merged_only, text_config
from lowrank.models.checkpoint import Checkpoint, open_pair
from lowrank.models.manifest import claim_checkpoint, read_manifest, weight_hashes, write_manifest
from lowrank.models.safetensors_file import (
    DTYPE_BYTES,
    TORCH_NAMES,
    read_bytes,
    row_chunks,
    write_tensors,
)
from lowrank.plan.checkpoint_files import (
    GENERATION,
    SINGLE,
    TOKENIZER,
    TOKENIZER_FILES,
    plain_file,
)
from lowrank.progress import Progress
from lowrank.variants.adapter import Adapter, open_adapter
from lowrank.variants.description import Description, open_description
from lowrank.variants.fidelity import Fidelity
from lowrank.variants.recipe import Fate, Recipe, Stored, fate, plan

if TYPE_CHECKING:
    import torch

CHUNK = 1 << 18  # entries at work at a time: 1 MiB as float32, which stays in the cache
# Two models that differ in one of these cannot share weights, whatever their shapes say.
STRUCTURE = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "n_layer", "n_head",
    "qk_rope_head_dim", "v_head_dim",
)  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Some rows of a tensor in float32: what is stored, and what its fidelity is counted from.

    base, change: of the rows that the base has too, the base's value and the change meant for it.
    beside: what an unmerged adapter adds to the stored rows; None without one.
    """

    value: "torch.Tensor"
    base: "torch.Tensor"
    change: "torch.Tensor"
    beside: "torch.Tensor | None" = None


def rows_of(recipe: Recipe, item: Stored) -> Iterator[Rows]:
    """A tensor's rows, a chunk at a time, as its fate has them."""
    read = {Fate.FACTORED: factored_rows, Fate.COPIED: copied_rows}.get(item.fate, kept_rows)
    yield from read(recipe, item)


def kept_rows(recipe: Recipe, item: Stored) -> Iterator[Rows]:
    """The base's rows as they are."""
    import torch

    for first, stop in row_chunks(item.shape, CHUNK):
        base = recipe.base.read(item.pair.name, first, stop)
        yield Rows(base, base, torch.zeros_like(base))


def copied_rows(recipe: Recipe, item: Stored) -> Iterator[Rows]:
    """The derivative's rows; those beyond the base's vocabulary have no base to compare with."""
    name, base = item.pair.name, item.pair.base
    base_rows = base.shape[0] if base and base.shape else 1
    for first, stop in row_chunks(item.shape, CHUNK):
        value = recipe.derivative.read(name, first, stop)
        common = max(min(stop, base_rows) - first, 0)
        before = recipe.base.read(name, first, first + common) if common else value[:0]
        yield Rows(value, before, value[:common] - before)


def factored_rows(recipe: Recipe, item: Stored) -> Iterator[Rows]:
    """The base's rows with the adapter's change: added to them, or served beside them.

    Raises InputError if the adapter was computed from another content of the base's weight.
    """
    import torch

    adapter, name = recipe.adapter, item.pair.name
    assert adapter is not None  # without one nothing is Fate.FACTORED
    change_of = adapter.rows(name)
    if recipe.unmerged:  # an engine holds the factors in the dtype it serves
        assert isinstance(adapter, Adapter)  # a description is always merged
        served_of = adapter.rows(name, getattr(torch, recipe.dtype))
    known = adapter.bases.get(name)
    content = content_digest(recipe.base.entry(name)) if known else None
    for first, stop in row_chunks(item.shape, CHUNK):
        base = recipe.base.read(name, first, stop, content)
        change = change_of(first, stop)
        if recipe.unmerged:
            yield Rows(base, base, change, served_of(first, stop))
        else:
            yield Rows(base + change, base, change)
    if known and content:
        check_content(adapter.folder, "base", recipe.base, name, known, content.hexdigest())


def stored_rows(recipe: Recipe, item: Stored) -> Iterator["torch.Tensor"]:
    """The rows of one tensor in the stored dtype, counted in its fidelity as they pass."""
    import torch

    if item.dtype not in TORCH_NAMES:  # no weight: its bytes as they are
        model = recipe.derivative if item.fate is Fate.COPIED else recipe.base
        source = model.entry(item.pair.name)
        for first, stop in row_chunks(item.shape, CHUNK):
            yield read_bytes(source, first, stop) if item.shape else read_bytes(source)
        return
    dtype = getattr(torch, TORCH_NAMES[item.dtype])
    for rows in rows_of(recipe, item):
        stored = rows.value.to(dtype)
        served = stored.float()
        if not (torch.isfinite(served.sum()) or torch.isfinite(served).all()):
            raise InputError(
                f"tensor {item.pair.name}: a value beyond the range of {TORCH_NAMES[item.dtype]};"
                " serve it as bfloat16 or float32"
            )
        served = served[: len(rows.base)] if rows.base.ndim else served
        if rows.beside is not None:
            served = served + rows.beside
        item.fidelity.add(rows.base, rows.change, served, rows.base.to(dtype).float())
        yield stored


def write_variant(
    base_folder: str | Path,
    derivative_folder: str | Path,
    output: str | Path,
    tokenizer_folder: str | Path,
    adapter_folder: str | Path | None = None,
    other: str = "copy",
    biases: str = "copy",
    dtype: str = "bfloat16",
    leave_out: Sequence[str] = (),
    unmerged: bool = False,
    threads: int = 1,
    description_folder: str | Path | None = None,
) -> None:
    """Write a checkpoint: the base with a change merged, other weights and biases copied or kept.

    The change is an adapter's, or a description's (lowrank.variants.description).
    Without one (or with `unmerged`, where the adapter is served beside it) the projections
    stay the base's. Rows of a tensor are in memory, never a model. manifest.json comes last.
    Raises InputError if base, derivative and change do not fit each other.
    """
    import torch

    torch.set_num_threads(threads)
    output = Path(output)
    inputs = (
        base_folder, derivative_folder, tokenizer_folder, adapter_folder, description_folder,
    )  # fmt: skip
    check_output(output, inputs)
    base, derivative = open_pair(base_folder, derivative_folder)
    adapter: Adapter | Description | None = None
    if adapter_folder:
        adapter = open_adapter(adapter_folder, base)
    elif description_folder:
        adapter = open_description(description_folder, base)
    recipe = Recipe(base, derivative, adapter, other == "copy", biases == "copy", dtype, unmerged)
    pairs = pair_tensors(base, derivative, leave_out)
    stored = plan(recipe, pairs)
    if unmerged and adapter and (reason := merged_only(adapter.names)):
        raise InputError(
            f"{adapter.folder}: cannot be served unmerged: {reason}; take adapter out of serve_as, "
            "or leave these weights out (leave_out)"
        )
    rows = next(item.shape[0] for item in stored if item.pair.name == base.embedding)
    config, differences = model_config(recipe, rows)
    tokenizer = _tokenizer_files(tokenizer_folder)
    origins = {"base": origin(base), "derivative": origin(derivative)}
    size = sum(math.ceil(math.prod(item.shape) * DTYPE_BYTES[item.dtype]) for item in stored)
    claim_checkpoint(output, inputs, needed=size)
    clear(output)

    hashes = _write_weights(recipe, stored, output)
    write_json(output / "config.json", config, foreign=True)
    # Beside the tokenizer, where only what the rules name was brought here.
    for folder in (derivative.folder, derivative.folder / TOKENIZER):
        if (folder / GENERATION).exists():
            generation = read_json(plain_file(folder, GENERATION))
            write_json(output / GENERATION, generation, foreign=True)
            break
    for path in tokenizer:
        with whole_file(output / path.name) as temporary:
            temporary.write_bytes(path.read_bytes())
    write_json(output / "fidelity.json", fidelity_report(recipe, pairs, stored))
    source = {
        **origins,
        ("description" if description_folder else "adapter"): _hash_of(adapter)
        if adapter
        else None,
        "other": other,
        "biases": biases,
        "dtype": dtype,
        "serve_as": recipe.serve_as,
        "leave_out": list(leave_out),
        "config_differences": differences,
    }
    write_manifest(output, source, hashes)


def fidelity_report(
    recipe: Recipe, pairs: Sequence[Pair], stored: Sequence[Stored]
) -> dict[str, Any]:
    """What fidelity.json holds: of all tensors together, of each role, and of each tensor."""
    of_tensor = {item.pair.name: item.fidelity.report() for item in stored}
    return {
        "dtype": recipe.dtype,
        "serve_as": recipe.serve_as,
        "all": sum((item.fidelity for item in stored), Fidelity()).report(),
        "roles": {
            role: sum((i.fidelity for i in stored if i.pair.role == role), Fidelity()).report()
            for role in ("projection", "bias", "other")
        },
        "tensors": {
            pair.name: {"fate": fate(recipe, pair), "role": pair.role}
            | of_tensor.get(pair.name, {"stored": False})
            for pair in pairs
        },
    }


def _write_weights(recipe: Recipe, stored: Sequence[Stored], output: Path) -> dict[str, str]:
    """Write one file, whatever its size: its name is known before; SHA-256 by file name."""
    progress = Progress(len(stored), "tensors")

    def stream() -> Iterator["torch.Tensor"]:
        for item in stored:
            yield from stored_rows(recipe, item)
            progress.step()

    tensors = stored_tensors(stored)
    _, digest = write_tensors(output / SINGLE, tensors, stream(), {"format": "pt"})
    return {SINGLE: digest}


def stored_tensors(stored: Sequence[Stored]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of the tensors that are written; the matrices of a stack make one tensor."""
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for item in stored:
        name, shape = item.pair.tensor, item.shape
        if item.pair.name != name:  # one more matrix of this stack
            before = tensors[name][1][0] if name in tensors else 0
            shape = (before + 1, *shape)
        tensors[name] = (item.dtype, shape)
    return tensors


def model_config(recipe: Recipe, vocabulary: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json of a variant, and where the two models' configurations differ.

    The derivative's configuration is taken: its positions, rotary base and end-of-text tokens are
    those under which the delta was trained, and a full-rank variant has to be the derivative in
    them too. Only what describes the stored tensors is set: dtype, tied embeddings, vocabulary.
    Raises InputError if the two models differ in structure.
    """
    base, derivative = recipe.base.config, recipe.derivative.config
    for one, other in ((base, derivative), (text_config(base), text_config(derivative))):
        for key in STRUCTURE:
            if key in one and key in other and one[key] != other[key]:
                raise InputError(
                    f"{recipe.derivative.folder}/config.json: {key} is {other[key]!r}, the base "
                    f"has {one[key]!r}; compare models of one architecture"
                )
    config = stored_config(derivative, recipe.dtype, recipe.tied)
    text = text_config(config)  # this very dictionary, or one within it
    # Some models' embedding has more rows than their vocabulary.
    if vocabulary != recipe.derivative.tensors[recipe.derivative.embedding].shape[0]:
        text["vocab_size"] = vocabulary
    differences = {
        key: {"base": base.get(key), "derivative": derivative.get(key), "stored": config.get(key)}
        for key in sorted({*base, *derivative})
        if json.dumps(base.get(key)) != json.dumps(derivative.get(key))
        and key != "transformers_version"
    }
    return config, plain_json(differences)


def stored_config(config: dict[str, Any], dtype: str, tied: bool) -> dict[str, Any]:
    """A copy of config.json that describes what is stored: plain weights of a dtype.

    Even where a quantization_config was left in; no code comes along.
    """
    config = json.loads(json.dumps(config))
    config.pop("auto_map", None)
    for part in (text_config(config), config):
        for key in ("dtype", "quantization_config"):
            part.pop(key, None)
        part |= {"torch_dtype": dtype, "tie_word_embeddings": tied}
    return config


def _tokenizer_files(folder: str | Path) -> list[Path]:
    folder = Path(folder)
    found = [plain_file(folder, name) for name in TOKENIZER_FILES if (folder / name).exists()]
    if not {path.name for path in found} & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        raise InputError(f"{folder}: holds no tokenizer.json; a folder with a tokenizer expected")
    return found


def origin(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where a model came from, and the hashes of its weight files as they are now."""
    return {
        "source": read_manifest(checkpoint)["source"],
        "weights": weight_hashes(checkpoint),
    }


def _hash_of(adapter: Adapter | Description) -> dict[str, str]:
    return {"folder": str(adapter.folder), "sha256": sha256(adapter.file)}
