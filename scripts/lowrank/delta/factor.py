"""The difference of two checkpoints, factored once for every rank, a matrix at a time.

lowrank.delta.svd says how one matrix D = W_derivative - W_base is factored. Here every matrix
of a pair is read, identified by its content, factored (or taken over from an interrupted run) and
written before the next one is read, so that memory follows the largest matrix.
"""

import hashlib
import math
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank.claims import check_space, claim
from lowrank.delta.pairing import Pair, ledger_rows, pair_tensors, squared_changes
from lowrank.delta.svd import METHOD, directions, factor
from lowrank.devices import Need, take_device
from lowrank.errors import InputError
from lowrank.files import sha256, write_json, write_table
from lowrank.models.checkpoint import Checkpoint, open_pair
from lowrank.models.manifest import MANIFEST, checked_manifest, read_manifest
from lowrank.models.safetensors_file import (
    SAFETENSORS_NAMES,
    TensorEntry,
    read_header,
    read_tensor,
    write_tensors,
)
from lowrank.progress import Progress

if TYPE_CHECKING:
    import torch

RECORD = "lowrank-basis-2"  # of the basis files' content; another one is never taken over
LEDGER = "ledger.parquet"
# Where bases lie until all are done; then it is renamed to BASIS.
UNFINISHED, BASIS = "unfinished", "basis"
FATES = {"projection": "factored", "bias": "copied or kept", "other": "copied or kept"}


@dataclass(frozen=True)
class Factored:
    """What a finished matrix adds to the ledger and the manifest."""

    energy: float  # ||D||_F^2
    file_size: int  # bytes of its basis file
    file_hash: str  # and its SHA-256
    taken_over: bool = False  # from an earlier run


def content_digest(entry: TensorEntry) -> "hashlib._Hash":
    """A SHA-256 that has seen a tensor's dtype and shape and waits for its stored bytes.

    A weight is known by this digest: names, files and manifests can stay while weights change.
    """
    return hashlib.sha256(f"{entry.dtype} {list(entry.shape)}\n".encode())


def read_weight(checkpoint: Checkpoint, name: str) -> tuple["torch.Tensor", str]:
    """A weight as float32 [out, in], and the hexadecimal content_digest of what was read."""
    digest = content_digest(checkpoint.entry(name))
    values = checkpoint.read(name, digest=digest)
    return values, digest.hexdigest()


def difference(base: Checkpoint, derivative: Checkpoint, name: str) -> "torch.Tensor":
    """D = W_derivative - W_base, subtracted in float32; [out, in] as stored."""
    return derivative.read(name).sub_(base.read(name))


def basis_file(delta: str | Path, tensor: str) -> Path:
    """Where what is kept of a factored matrix lies in a delta's folder."""
    return Path(delta) / BASIS / f"{tensor}.safetensors"


def read_factored(delta: str | Path, tensor: str) -> dict[str, "torch.Tensor"]:
    """All that is kept of a factored matrix; see lowrank.delta.svd.factor.

    InputError if it is no longer what was written.
    """
    path = basis_file(delta, tensor)
    entries, metadata = read_header(path)
    tensors = {name: read_tensor(entry) for name, entry in entries.items()}
    if metadata.get("content") != _payload_hash(tensors):
        raise InputError(f"{path}: damaged (its content's hash differs); run delta_svd.py again")
    return tensors


def read_sigma(delta: str | Path, tensor: str) -> np.ndarray:
    """All singular values of a tensor's delta, float64, largest first."""
    return read_factored(delta, tensor)["sigma"].numpy()


def read_directions(delta: str | Path, tensor: str, first: int, stop: int) -> "torch.Tensor":
    """Directions [first, stop) of a tensor's delta, strongest first, as rows of float32."""
    return directions(read_factored(delta, tensor), first, stop)


def checked_weights(
    delta: str | Path, base: Checkpoint, derivative: Checkpoint, name: str
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """W_base and W_derivative, float32: the very weights that a matrix was factored from.

    InputError if a weight's content is another one, whatever its checkpoint's manifest says.
    """
    path = basis_file(delta, name)
    known = read_header(path)[1]
    W, W_content = read_weight(base, name)
    V, V_content = read_weight(derivative, name)
    check_content(path, "base", base, name, known.get("base"), W_content)
    check_content(path, "derivative", derivative, name, known.get("derivative"), V_content)
    return W, V


def checked_difference(
    delta: str | Path, base: Checkpoint, derivative: Checkpoint, name: str
) -> "torch.Tensor":
    """`difference` of the very weights that a matrix of a delta was factored from."""
    W, V = checked_weights(delta, base, derivative, name)
    return V.sub_(W)


def check_content(
    where: Path, side: str, checkpoint: Checkpoint, name: str, known: str | None, found: str
) -> None:
    """InputError unless a weight that was read is the one that `where` was made from."""
    if found != known:
        raise InputError(
            f"{where}: was computed from another {side} than {checkpoint.folder}: the values of "
            f"{name} differ; run delta_svd.py again, and build_adapter.py after it"
        )


def _fingerprint(pair: Pair, contents: Sequence[str], device: str) -> str:
    """Names what a basis file was computed from: the two weights' contents, and the method."""
    parts = [RECORD, METHOD[device], pair.name, *contents]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _payload_hash(tensors: dict[str, "torch.Tensor"]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


def _energy(sigma: "torch.Tensor") -> float:
    return float((sigma.numpy() ** 2).sum())


def _finished(path: Path, fingerprint: str) -> Factored | None:
    """A matrix that an earlier run finished; None if it has to be done again."""
    if not path.is_file():
        return None
    try:
        entries, metadata = read_header(path)
        if metadata.get("fingerprint") != fingerprint:
            return None
        tensors = {name: read_tensor(entry) for name, entry in entries.items()}
        content = _payload_hash(tensors)
    except (InputError, ValueError) as error:
        print(f"{path.name}: damaged, done again ({error})", file=sys.stderr)
        return None
    if metadata.get("content") != content:
        print(f"{path.name}: damaged, done again (its content's hash differs)", file=sys.stderr)
        return None
    return Factored(_energy(tensors["sigma"]), path.stat().st_size, sha256(path), taken_over=True)


def factor_matrix(
    path: Path, base: Checkpoint, derivative: Checkpoint, pair: Pair, device: str = "cpu"
) -> Factored:
    """Read one matrix of a pair, factor it and write its basis file; or take that file over.

    It is taken over if it was made of the same contents by the same method and is not damaged.
    """
    W, W_content = read_weight(base, pair.name)
    V, V_content = read_weight(derivative, pair.name)
    fingerprint = _fingerprint(pair, (W_content, V_content), device)
    if found := _finished(path, fingerprint):
        return found

    D = V.to(device).sub_(W.to(device))
    del W, V  # the largest allocations are yet to come
    tensors = factor(D)
    metadata = {
        "fingerprint": fingerprint,
        "base": W_content,
        "derivative": V_content,
        "content": _payload_hash(tensors),
    }
    header = {
        name: (SAFETENSORS_NAMES[str(tensor.dtype).removeprefix("torch.")], tensor.shape)
        for name, tensor in tensors.items()
    }
    _, file_hash = write_tensors(path, header, tensors.values(), metadata)
    return Factored(_energy(tensors["sigma"]), path.stat().st_size, file_hash)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import safetensors
    import scipy
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    }


def need(shapes: Iterable[Sequence[int]]) -> Need:
    """The memory of a GPU that the largest of these matrices takes: a few copies in float64, and
    CUDA itself."""
    return Need(bytes=2**30 + 48 * max(map(math.prod, shapes), default=0))


def factor_pair(
    base_folder: str | Path,
    derivative_folder: str | Path,
    output: str | Path,
    leave_out: Sequence[str] = (),
    threads: int = 1,
    device: str = "cpu",
) -> None:
    """Factor every matrix of the layers of a pair of checkpoints into the folder `output`.

    Matrices that an earlier, interrupted run finished on the same weights are taken over after a
    check of their hash. basis/, ledger.parquet and manifest.json appear when all are done; until
    then the matrices lie in unfinished/. Statistics are made apart: see lowrank.delta.statistics.
    Peak memory grows with the largest projection, not with the model.
    Raises InputError for checkpoints that cannot be read, do not fit each other, or hold the same
    values in every projection.
    """
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    base, derivative = open_pair(base_folder, derivative_folder)
    manifests = checked_manifest(base), checked_manifest(derivative)
    pairs = pair_tensors(base, derivative, leave_out)
    factored = [pair for pair in pairs if pair.role == "projection" and not pair.left_out]
    take_device(device, need=need(base.entry(pair.name).shape for pair in factored))
    # Before the long work: what is not finite, and a delta of zero, stop here.
    changes = squared_changes(
        base, derivative, [p for p in pairs if p.role != "projection" or p.left_out]
    )
    _must_differ(base, derivative, factored)

    output = Path(output)
    claim(output, (base_folder, derivative_folder), (MANIFEST, LEDGER))
    work = output / UNFINISHED
    _gather(output / BASIS, work)
    undone = [pair for pair in factored if not (work / f"{pair.name}.safetensors").exists()]
    check_space(output, sum(2 * min(base.entry(pair.name).shape) ** 2 for pair in undone))
    with threadpool_limits(threads):
        results = factor_matrices(work, base, derivative, factored, device)
    _forget_others(work, {f"{pair.name}.safetensors" for pair in factored})
    work.rename(output / BASIS)

    changes |= {name: result.energy for name, result in results.items()}
    _write_ledger(output / LEDGER, base, derivative, pairs, changes)
    made = {
        "base": _origin(base, manifests[0]),
        "derivative": _origin(derivative, manifests[1]),
        "method": METHOD[device],
        "leave_out": list(leave_out),
        "device": device,
        "threads": threads,
        "versions": versions(),
    }
    matrices = {name: _basis_file(base, name, result) for name, result in results.items()}
    write_json(output / MANIFEST, made | {"matrices": matrices})


def _basis_file(base: Checkpoint, name: str, result: Factored) -> dict[str, Any]:
    """What the manifest says of a factored matrix."""
    return {
        "shape": list(base.entry(name).shape),
        "file": f"{BASIS}/{name}.safetensors",
        "size": result.file_size,
        "sha256": result.file_hash,
    }


def factor_matrices(
    work: Path, base: Checkpoint, derivative: Checkpoint, factored: Sequence[Pair], device: str
) -> dict[str, Factored]:
    """Factor matrices one after another into the folder `work`; what is done by tensor name."""
    results: dict[str, Factored] = {}
    progress = Progress(len(factored), "matrices")
    for pair in factored:
        result = factor_matrix(work / f"{pair.name}.safetensors", base, derivative, pair, device)
        results[pair.name] = result
        if result.taken_over:
            progress.take_over()
        else:
            progress.step()
    taken_over = sum(result.taken_over for result in results.values())
    unchanged = sum(result.energy == 0 for result in results.values())
    if taken_over:
        print(f"{taken_over} matrices finished earlier are taken over", file=sys.stderr)
    if unchanged:
        print(f"{unchanged} of {len(factored)} matrices did not change", file=sys.stderr)
    return results


def _write_ledger(
    path: Path,
    base: Checkpoint,
    derivative: Checkpoint,
    pairs: Sequence[Pair],
    changes: Mapping[str, float | None],
) -> None:
    import pandas

    ledger = pandas.DataFrame(ledger_rows(base, derivative, pairs, FATES, changes))
    ledger["layer"] = ledger["layer"].astype("Int64")  # null outside the layers
    write_table(path, ledger)


def _gather(basis: Path, work: Path) -> None:
    """Put the basis files of an earlier run where this one looks for what is done already."""
    work.mkdir(parents=True, exist_ok=True)
    if basis.is_dir():
        for path in basis.iterdir():
            path.replace(work / path.name)
        basis.rmdir()


def _must_differ(base: Checkpoint, derivative: Checkpoint, factored: Sequence[Pair]) -> None:
    """InputError if no projection changed; reads up to the first that did."""
    import torch

    if all(torch.equal(base.read(pair.name), derivative.read(pair.name)) for pair in factored):
        raise InputError(
            f"{derivative.folder}: each of its {len(factored)} projections has the values that "
            f"{base.folder} has: a delta of zero. Is it the same model twice, or base weights "
            "beside an adapter that was never merged?"
        )


def _origin(checkpoint: Checkpoint, manifest: dict[str, Any]) -> dict[str, Any]:
    """Which weights a delta was computed from: the source and the hashes of the weight files."""
    files = sorted({entry.file.name for entry in checkpoint.tensors.values()})
    return {
        "source": manifest["source"],
        "parameters": checkpoint.parameters,
        "tied": checkpoint.tied,
        "weights": {name: manifest["files"][name]["sha256"] for name in files},
    }


def check_origin(delta: dict[str, Any], side: str, checkpoint: Checkpoint, where: Path) -> None:
    """InputError unless a delta's manifest names these very weights as its `side`."""
    weights = _origin(checkpoint, read_manifest(checkpoint))["weights"]
    if weights != delta[side]["weights"]:
        raise InputError(
            f"{where}: was computed from another {side} than {checkpoint.folder} (the weight "
            "files' hashes differ); run delta_svd.py again"
        )


def _forget_others(folder: Path, names: set[str]) -> None:
    """Remove basis files of tensors that are no longer part of the pair; leave all else alone."""
    for path in folder.iterdir():
        if path.name in names or path.suffix != ".safetensors":
            continue
        try:
            ours = "fingerprint" in read_header(path)[1]
        except InputError:
            ours = path.name.startswith(".") and ".tmp" in path.name
        if ours:
            path.unlink()
