"""A complete checkpoint made of a base, a low-rank delta, and copied or kept other weights.

Every number is formed in float32 and cast once to the dtype that is served; what a model keeps in
float32 beside bfloat16 stays so. What the cast did to the delta is measured while the tensor is at
hand and written to fidelity.json.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.claims import check_output, clear
from lowrank.delta.factor import check_content, content_digest
from lowrank.delta.pairing import LEFT_OUT, Pair, pair_tensors
from lowrank.errors import InputError
from lowrank.files import plain_json, read_json, sha256, whole_file, write_json
from lowrank.models.architecture import merged_only, text_config
from lowrank.models.checkpoint import Checkpoint, open_pair
from lowrank.models.manifest import claim_checkpoint, read_manifest, weight_hashes, write_manifest
from lowrank.models.safetensors_file import (
    DTYPE_BYTES,
    SAFETENSORS_NAMES,
    TORCH_NAMES,
    TensorEntry,
    read_bytes,
    row_chunks,
    write_tensors,
)
from lowrank.plan.checkpoint_files import SINGLE, TOKENIZER_FILES, plain_file
from lowrank.progress import Progress
from lowrank.variants.adapter import Adapter, open_adapter
from lowrank.variants.fidelity import Fidelity

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
class Recipe:
    """What a variant is made of."""

    base: Checkpoint
    derivative: Checkpoint
    adapter: Adapter | None
    copy_others: bool
    copy_biases: bool
    dtype: str  # torch's name of what is stored
    carrier: bool  # the adapter is served beside the checkpoint, not merged into it

    @property
    def tied(self) -> bool:
        """Whether the stored head is the embedding: only if that holds for all that is stored."""
        return self.base.tied and (self.derivative.tied or not self.copy_others)


@dataclass(frozen=True)
class Stored:
    """A tensor of the variant: where it comes from, and what became of it."""

    pair: Pair
    fate: str  # factored | copied | kept | left out by configuration
    shape: tuple[int, ...]
    dtype: str  # as safetensors writes it
    fidelity: Fidelity = field(default_factory=Fidelity)


def fate(recipe: Recipe, pair: Pair) -> str:
    """What becomes of a tensor: factored | copied | kept | left out by configuration."""
    if pair.left_out:
        return LEFT_OUT
    if pair.role == "projection":
        return "factored" if recipe.adapter else "kept"
    copied = recipe.copy_biases if pair.role == "bias" else recipe.copy_others
    return "copied" if copied else "kept"


def stored_dtype(recipe: Recipe, name: str, source: TensorEntry) -> str:
    """The dtype a tensor is stored in, as safetensors writes it; source: what it is made of.

    The recipe's, but for what is no weight (integers stay as they are) and for what one of the two
    models stores wider than the rest of it: that stays float32, as in the model it comes from.
    """
    if source.dtype not in TORCH_NAMES:
        return source.dtype
    wide = recipe.base.is_wide(name) or recipe.derivative.is_wide(name)
    return "F32" if wide else SAFETENSORS_NAMES[recipe.dtype]


def plan(recipe: Recipe, pairs: Sequence[Pair]) -> list[Stored]:
    """The tensors of a variant, sorted by name. InputError if they would not fit together."""
    stored = []
    for pair in pairs:
        decided = fate(recipe, pair)
        source = pair.derivative if decided == "copied" else pair.base
        if source is None or (pair.name == recipe.base.head and recipe.tied):
            continue
        stored.append(Stored(pair, decided, source.shape, stored_dtype(recipe, pair.name, source)))
    shapes = {item.pair.name: item.shape for item in stored}
    head, embedding = recipe.base.head, recipe.base.embedding
    models = (recipe.base, recipe.derivative)
    both = [(model.find(head).shape, model.find(embedding).shape) for model in models]
    if head in shapes and (shapes[head], shapes[embedding]) not in both:
        raise InputError(
            f"{head} would be {list(shapes[head])} and {embedding} {list(shapes[embedding])}; "
            "leave out both or none"
        )
    if recipe.adapter:
        wanted = {item.pair.name for item in stored if item.fate == "factored"}
        given = set(recipe.adapter.factors)
        if wanted != given:
            name = sorted(wanted ^ given)[0]
            raise InputError(
                f"{recipe.adapter.folder}: tensor {name} is "
                + ("missing in it" if name in wanted else "in it, but left out here")
                + "; build the adapter with the same leave_out"
            )
    return stored


def pieces(recipe: Recipe, item: Stored) -> Iterator["torch.Tensor"]:
    """The rows of one tensor in the stored dtype, counted in its fidelity as they pass."""
    import torch

    if item.dtype not in TORCH_NAMES:  # no weight: its bytes as they are
        source = item.pair.derivative if item.fate == "copied" else item.pair.base
        for first, stop in row_chunks(item.shape, CHUNK):
            yield read_bytes(source, first, stop) if item.shape else read_bytes(source)
        return
    dtype = getattr(torch, TORCH_NAMES[item.dtype])
    name, merged = item.pair.name, item.fate == "factored"
    if merged:
        A, B = recipe.adapter.read(name)
        if recipe.carrier:  # the engine holds the factors in the dtype it serves
            served = getattr(torch, recipe.dtype)
            served_A, served_B = A.to(served).float(), B.to(served).float()
    base_rows = item.pair.base.shape[0] if item.pair.base and item.pair.base.shape else 1
    known = recipe.adapter.bases.get(name) if merged else None
    content = content_digest(item.pair.base) if known else None
    for first, stop in row_chunks(item.shape, CHUNK):
        if item.fate == "copied":
            value = recipe.derivative.read(name, first, stop)
        else:
            value = recipe.base.read(name, first, stop, content)
        # Rows beyond the base's vocabulary have no base to be compared with.
        common = max(min(stop, base_rows) - first, 0)
        if item.fate == "copied":
            base = recipe.base.read(name, first, first + common) if common else value[:0]
            meant = value[:common] - base
        else:
            base = value[:common]
            meant = B[first:stop] @ A if merged else torch.zeros_like(value)
        if merged and not recipe.carrier:
            value = value + meant
        piece = value.to(dtype)
        final = piece.float()
        if not (torch.isfinite(final.sum()) or torch.isfinite(final).all()):
            raise InputError(
                f"tensor {name}: a value beyond the range of {TORCH_NAMES[item.dtype]}; serve it "
                "as bfloat16 or float32"
            )
        served, untouched = final[:common], base.to(dtype).float()
        if merged and recipe.carrier:
            served = served + served_B[first:stop] @ served_A
        item.fidelity.add(base, meant, served, untouched)
        yield piece
    if known:
        check_content(recipe.adapter.folder, "base", recipe.base, name, known, content.hexdigest())


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
    carrier: bool = False,
    threads: int = 1,
) -> None:
    """Write a checkpoint: the base with an adapter merged, other weights and biases copied or kept.

    Without an adapter (or with `carrier`, where the adapter is served beside it) the projections
    stay the base's. Rows of a tensor are in memory, never a model. manifest.json comes last.
    Raises InputError if base, derivative and adapter do not fit each other.
    """
    import torch

    torch.set_num_threads(threads)
    output = Path(output)
    inputs = (base_folder, derivative_folder, tokenizer_folder, adapter_folder)
    check_output(output, inputs)
    base, derivative = open_pair(base_folder, derivative_folder)
    adapter = open_adapter(adapter_folder, base) if adapter_folder else None
    recipe = Recipe(base, derivative, adapter, other == "copy", biases == "copy", dtype, carrier)
    pairs = pair_tensors(base, derivative, leave_out)
    stored = plan(recipe, pairs)
    if carrier and adapter and (reason := merged_only(list(adapter.factors))):
        raise InputError(
            f"{adapter.folder}: cannot be served unmerged: {reason}; take adapter out of serve_as, "
            "or leave these weights out (leave_out)"
        )
    rows = next(item.shape[0] for item in stored if item.pair.name == base.embedding)
    config, differences = model_config(recipe, rows)
    tokenizer = _tokenizer_files(tokenizer_folder)
    origins = {"base": _origin(base), "derivative": _origin(derivative)}
    size = sum(math.prod(item.shape) * DTYPE_BYTES[item.dtype] for item in stored)
    claim_checkpoint(output, inputs, needed=size)
    clear(output)

    hashes = _write_weights(recipe, stored, output)
    write_json(output / "config.json", config, foreign=True)
    if (derivative.folder / "generation_config.json").exists():
        generation = read_json(plain_file(derivative.folder, "generation_config.json"))
        write_json(output / "generation_config.json", generation, foreign=True)
    for path in tokenizer:
        with whole_file(output / path.name) as temporary:
            temporary.write_bytes(path.read_bytes())
    kept = {item.pair.name: item for item in stored}
    report = {
        "dtype": dtype,
        "served": "adapter" if carrier else "merged",
        "all": sum((item.fidelity for item in stored), Fidelity()).report(),
        "roles": {
            role: sum((i.fidelity for i in stored if i.pair.role == role), Fidelity()).report()
            for role in ("projection", "bias", "other")
        },
        "tensors": {
            pair.name: {"fate": fate(recipe, pair), "role": pair.role}
            | (kept[pair.name].fidelity.report() if pair.name in kept else {"stored": False})
            for pair in pairs
        },
    }
    write_json(output / "fidelity.json", report)
    source = {
        **origins,
        "adapter": _hash_of(adapter) if adapter else None,
        "other": other,
        "biases": biases,
        "dtype": dtype,
        "served": report["served"],
        "leave_out": list(leave_out),
        "config_differences": differences,
    }
    write_manifest(output, source, hashes)


def _write_weights(recipe: Recipe, stored: Sequence[Stored], output: Path) -> dict[str, str]:
    """Write one file, whatever its size: its name is known before; SHA-256 by file name."""
    progress = Progress(len(stored), "tensors")

    def stream() -> Iterator["torch.Tensor"]:
        for item in stored:
            yield from pieces(recipe, item)
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
    config = json.loads(json.dumps(derivative))
    # What is stored is plain, even where a quantization_config was left in; no code comes along.
    config.pop("auto_map", None)
    text = text_config(config)  # this very dictionary, or one within it
    for part in (text, config):
        for key in ("dtype", "quantization_config"):
            part.pop(key, None)
        part |= {"torch_dtype": recipe.dtype, "tie_word_embeddings": recipe.tied}
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


def _tokenizer_files(folder: str | Path) -> list[Path]:
    folder = Path(folder)
    found = [plain_file(folder, name) for name in TOKENIZER_FILES if (folder / name).exists()]
    if not {path.name for path in found} & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        raise InputError(f"{folder}: holds no tokenizer.json; a folder with a tokenizer expected")
    return found


def _origin(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where a model came from, and the hashes of its weight files as they are now."""
    return {
        "source": read_manifest(checkpoint)["source"],
        "weights": weight_hashes(checkpoint),
    }


def _hash_of(adapter: Adapter) -> dict[str, str]:
    file = next(iter(adapter.factors.values()))[0].file
    return {"folder": str(adapter.folder), "sha256": sha256(file)}
