"""A model that is somebody's PEFT adapter on a base: merged in float32, a complete checkpoint.

LoRA: W + s B A. DoRA: m (W + s B A) / ||W + s B A||, the norm over the input dimension, a magnitude
m for each output (Liu et al. 2024, 2402.09353, eq. 5, as PEFT merges it). What was trained whole
takes the place of the base's tensor. Everything is stored as float32; it is cast where it is
served, like every model.
"""

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.claims import check_output, claim, clear
from lowrank.delta.spectra import largest_singular
from lowrank.errors import InputError
from lowrank.files import read_json, sha256, whole_file, write_json, write_table
from lowrank.models.architecture import input_first, matrix_name
from lowrank.models.checkpoint import Checkpoint, open_checkpoint, same_bytes
from lowrank.models.manifest import (
    checked_manifest,
    claim_checkpoint,
    gather_tokenizer,
    write_manifest,
)
from lowrank.models.safetensors_file import (
    DTYPE_BYTES,
    TORCH_NAMES,
    read_bytes,
    read_tensor,
    row_chunks,
    write_tensors,
)
from lowrank.plan.checkpoint_files import ADAPTER_RECORD, SINGLE, TOKENIZER, plain_file, taken
from lowrank.progress import Progress
from lowrank.variants.factors import CONFIG_FILE, WEIGHTS_FILE, Contents, Factors, read_contents
from lowrank.variants.merge import origin, stored_config

if TYPE_CHECKING:
    import torch

TABLE = "adapter.csv"
# What TABLE says of each matrix with factors. W: what they are merged into, the base's weight or
# one that was trained whole in its place. D: the merged change.
COLUMNS = {
    "tensor": "name of the weight",
    "r": "rank of the factors B and A",
    "alpha": "lora_alpha",
    "scale": "s: alpha / r, or alpha / sqrt(r) with rsLoRA",
    "dora": "whether magnitudes rescale the rows of W + s B A (DoRA)",
    "base_norm": "||W||_F",
    "ba_norm": "||s B A||_F",
    "ba_stable_rank": "||B A||_F^2 / sigma_1^2; empty where it is zero",
    "change_norm": "||D||_F: of what is stored minus W; without DoRA D is s B A",
    "change_relative": "||D||_F / ||W||_F",
    "change_stable_rank": "||D||_F^2 / sigma_1^2, to about 1e-3; empty where it is zero",
}
CHUNK = 1 << 20  # entries at work at a time where nothing is merged


def write_adapted(
    base_folder: str | Path, adapter_folder: str | Path, output: str | Path, threads: int = 1
) -> None:
    """Write a base with a PEFT adapter merged as a complete checkpoint; manifest.json comes last.

    One matrix is in memory at a time, never a model. adapter.csv says how large the product of the
    factors and the merged change are, matrix by matrix (`COLUMNS`).
    Raises InputError for an adapter that was made for another base, or whose configuration or file
    holds anything that would be dropped.
    """
    import pandas
    import torch

    torch.set_num_threads(threads)
    output, inputs = Path(output), (base_folder, adapter_folder)
    check_output(output, inputs)
    base = open_checkpoint(base_folder)
    adapter = read_contents(Path(adapter_folder), base, merging=True)
    check_base(adapter, base, Path(adapter_folder) / CONFIG_FILE)
    source = {
        "adapter": _source(Path(adapter_folder)),
        "base": origin(base),
        "dtype": "float32",
        "whole": sorted(adapter.whole),
    }
    tensors = {
        name: ("F32" if entry.dtype in TORCH_NAMES else entry.dtype, entry.shape)
        for name, entry in base.tensors.items()
    }
    size = sum(math.prod(shape) * DTYPE_BYTES[dtype] for dtype, shape in tensors.values())
    claim_checkpoint(output, inputs, needed=int(size))
    claim(output, (), (TABLE,))
    clear(output)

    rows: list[dict[str, Any]] = []
    progress = Progress(len(tensors), "tensors")

    def stream() -> Iterator["torch.Tensor"]:
        for name in tensors:
            yield from merged_tensor(base, adapter, name, rows)
            progress.step()

    _, digest = write_tensors(output / SINGLE, tensors, stream(), {"format": "pt"})
    write_json(output / "config.json", stored_config(base.config, "float32", base.tied), True)
    # Beside the tokenizer alone, where only what the rules name was brought here.
    for folder in filter(Path.is_dir, (base.folder / TOKENIZER, base.folder)):
        present = [path.name for path in folder.iterdir()]
        for name in taken([SINGLE], present):
            if name not in (SINGLE, "config.json"):
                with whole_file(output / name) as temporary:
                    temporary.write_bytes(plain_file(folder, name).read_bytes())
    gather_tokenizer(output)
    write_table(output / TABLE, pandas.DataFrame(rows, columns=list(COLUMNS)))
    write_manifest(output, source, {SINGLE: digest})


def merged_tensor(
    base: Checkpoint, adapter: Contents, name: str, rows: list[dict[str, Any]]
) -> Iterator["torch.Tensor"]:
    """A tensor of the merged model in pieces, float32; adds a row of `COLUMNS` a merged matrix."""
    entry = base.tensors[name]
    if entry.dtype not in TORCH_NAMES:
        yield read_bytes(entry)
    elif name in adapter.factors or name in adapter.whole:
        yield merged_matrix(base, adapter, name, rows)
    elif base.anatomy.parts[name].stacked:
        for one in (matrix_name(name, index) for index in range(entry.shape[0])):
            yield merged_matrix(base, adapter, one, rows)
    else:
        for first, stop in row_chunks(entry.shape, CHUNK):
            yield base.read(name, first, stop)


def merged_matrix(
    base: Checkpoint, adapter: Contents, name: str, rows: list[dict[str, Any]]
) -> "torch.Tensor":
    """A tensor with what the adapter has for it, float32, as the base stores it."""
    whole, factors = adapter.whole.get(name), adapter.factors.get(name)
    trained = finite(read_tensor(whole).float(), name) if whole else base.read(name)
    if factors is None:
        return trained
    turned = input_first(base.config)
    W = trained.T if turned else trained  # [out, in]
    A, B = (read_tensor(entry).float() for entry in (factors.A, factors.B))
    magnitude = read_tensor(factors.magnitude).float() if factors.magnitude else None
    merged = finite(merge(W, A, B, factors.scale, magnitude), name)
    rows.append(measured(name, factors, A, B, W, merged))
    return merged.T.contiguous() if turned else merged


def merge(
    W: "torch.Tensor",
    A: "torch.Tensor",
    B: "torch.Tensor",
    scale: float,
    magnitude: "torch.Tensor | None" = None,
) -> "torch.Tensor":
    """W + scale B A; with magnitudes its rows at these lengths.

    W [out, in], A [r, in], B [out, r], magnitude [out]; float32.
    """
    merged = W + scale * (B @ A)
    if magnitude is not None:
        merged = (magnitude / merged.norm(dim=1))[:, None] * merged
    return merged


def measured(
    name: str,
    factors: Factors,
    A: "torch.Tensor",
    B: "torch.Tensor",
    W: "torch.Tensor",
    merged: "torch.Tensor",
) -> dict[str, Any]:
    """A row of TABLE; W [out, in] is what the factors were merged into."""
    import torch

    # The singular values of B A are those of the small product of both factors' triangles.
    left, right = (torch.linalg.qr(factor.double()).R for factor in (B, A.T))
    sigma = factors.scale * torch.linalg.svdvals(left @ right.T)
    change = merged - W
    base_norm, change_norm = (float(M.double().norm()) for M in (W, change))
    return {
        "tensor": name,
        "r": factors.r,
        "alpha": factors.alpha,
        "scale": factors.scale,
        "dora": factors.magnitude is not None,
        "base_norm": base_norm,
        "ba_norm": float(sigma.norm()),
        "ba_stable_rank": stable_rank(float(sigma.norm()), float(sigma[0])),
        "change_norm": change_norm,
        "change_relative": change_norm / base_norm if base_norm else None,
        "change_stable_rank": stable_rank(change_norm, largest_singular(change)),
    }


def stable_rank(norm: float, largest: float) -> float | None:
    """||D||_F^2 / sigma_1^2; None of a matrix of zeros."""
    return (norm / largest) ** 2 if largest else None


def finite(values: "torch.Tensor", name: str) -> "torch.Tensor":
    """The values; InputError if any is NaN or Inf."""
    import torch

    if not torch.isfinite(values).all():
        raise InputError(
            f"{WEIGHTS_FILE}: {name} would hold NaN or Inf with this adapter merged; get a sound"
            " copy of it, or another checkpoint of its training"
        )
    return values


def check_base(adapter: Contents, base: Checkpoint, where: Path) -> None:
    """InputError if an adapter's configuration names another base than the one it is merged into.

    What it names is often a folder of its author's. If there is such a checkpoint here, every
    tensor has to be equal. The name of a repository has to be that of the base's own, whoever owns
    it: copies keep the name. Anything else cannot be told and is only noted in the log; that names
    and shapes fit was seen before.
    """
    named = adapter.config.base
    if not named:
        return
    if (other := _checkpoint(Path(named))) is not None:
        differing = next((name for name in base.tensors if not _equal(base, other, name)), None)
        if differing:
            raise InputError(
                f"{where}: was made for {named} (base_model_name_or_path), whose {differing} has"
                f" other values than that of {base.folder}; put it on the model that it was made"
                " for"
            )
        return
    known = _repositories(checked_manifest(base)["source"])
    short = named.rpartition("/")[2].lower()
    if short in {repo.rpartition("/")[2].lower() for repo in known}:
        return
    if known and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", named):
        raise InputError(
            f"{where}: was made for {named} (base_model_name_or_path), and {base.folder} is"
            f" {known[0]}; put it on the model that it was made for (if that is the same model"
            " under another name, correct the name in a local copy of the adapter)"
        )
    print(f"{where}: its base is called {named} there, here {base.folder}", file=sys.stderr)


def _checkpoint(folder: Path) -> Checkpoint | None:
    """A folder of this machine as a checkpoint, if it is one."""
    if not (folder / "config.json").is_file():
        return None
    try:
        return open_checkpoint(folder)
    except InputError:
        return None


def _equal(base: Checkpoint, other: Checkpoint, name: str) -> bool:
    """Whether a tensor has the same values in two models, whatever they are stored as."""
    import torch

    one, two = base.entry(name), other.find(name)
    if two is None or one.shape != two.shape:
        return False
    if one.dtype not in TORCH_NAMES:
        return same_bytes(one, two)
    chunks = row_chunks(one.shape, CHUNK)
    return all(torch.equal(base.read(name, *rows), other.read(name, *rows)) for rows in chunks)


def _repositories(source: dict[str, Any]) -> list[str]:
    """The repositories that a model came from: its own, or those of base and adapter."""
    if "adapter" not in source:
        return [source["repo"]] if "repo" in source else []
    below = _repositories(source["base"]["source"])
    return [*_repositories(source["adapter"]["source"]), *below]


def _source(folder: Path) -> dict[str, Any]:
    """Where an adapter came from, and the hashes of its files as they are now."""
    record = folder / ADAPTER_RECORD
    source = read_json(record)["source"] if record.is_file() else {"path": str(folder)}
    return {
        "source": source,
        "files": {name: sha256(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE)},
    }
