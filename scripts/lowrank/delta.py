"""The difference of two checkpoints, factored once for every rank, a matrix at a time.

For a projection D = W_derivative - W_base (float32) the Gram matrix of its shorter side, in
float64, has the squared singular values of D as eigenvalues and that side's singular vectors as
eigenvectors. These are kept: the best approximation of any rank is D projected on the first of
them, so no rank needs another factorisation. Forming the Gram matrix squares the condition
number, which float64 affords: a singular value is good to about 1e-16 (sigma_1 / sigma)^2
relative, 1e-8 at one hundred-thousandth of the largest.
"""

import hashlib
import itertools
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank import spectrum
from lowrank.checkpoint import (
    MANIFEST,
    Checkpoint,
    layer_and_module,
    open_checkpoint,
    read_manifest,
)
from lowrank.errors import InputError
from lowrank.files import sha256, write_json, write_table
from lowrank.ledger import Pair, ledger_rows, pair_tensors
from lowrank.progress import Progress
from lowrank.tensorfile import read_header, read_tensor, write_tensors

if TYPE_CHECKING:
    import torch

METHOD = "float32 difference, float64 Gram matrix of the shorter side, eigh"
RECORD = "lowrank-basis-1"  # of the basis files' content; another one is never taken over
FATES = {"projection": "factored", "bias": "copied or kept", "other": "copied or kept"}


def difference(base: Checkpoint, derivative: Checkpoint, name: str) -> "torch.Tensor":
    """D = W_derivative - W_base, subtracted in float32; [out, in] as stored."""
    return derivative.read(name).sub_(base.read(name))


def gram(D: "torch.Tensor", chunk: int = 2240, blocks: int = 4) -> "torch.Tensor":
    """Lower triangle of the float64 Gram matrix of D's shorter side: D^T D, or D D^T if wide.

    D: [m, n] float32. Returns [s, s] float64, s = min(m, n); above the diagonal blocks it is 0.
    `chunk` rows of the longer side are widened to float64 at a time; of the symmetric result only
    the blocks on and below the diagonal are computed, 5/8 of the work with four blocks.
    """
    import torch

    tall = D if D.shape[0] >= D.shape[1] else D.T
    side = tall.shape[1]
    G = torch.zeros(side, side, dtype=torch.float64, device=D.device)
    edges = [side * i // blocks for i in range(blocks + 1)]
    for first in range(0, tall.shape[0], chunk):
        X = tall[first : first + chunk].to(torch.float64)
        for begin, end in itertools.pairwise(edges):
            G[begin:end, :end].addmm_(X[:, begin:end].T, X[:, :end])
    return G


def factor(D: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
    """Singular values and shorter-side singular vectors of D [m, n], largest first.

    Returns sigma float64 [s] and basis float32 [s, s], s = min(m, n), whose ROW i is the i-th
    right singular vector (the left one if m < n), so that the first r rows serve rank r.
    Values under about 1e-8 of the largest are rounding, not data.
    """
    import torch

    values, vectors = torch.linalg.eigh(gram(D), UPLO="L")
    sigma = values.flip(0).clamp_min(0).sqrt()
    return sigma, vectors.T.flip(0).to(torch.float32).contiguous()


def basis_file(delta: str | Path, tensor: str) -> Path:
    """Where the basis of a tensor lies in a delta's folder."""
    return Path(delta) / "basis" / f"{tensor}.safetensors"


def read_sigma(delta: str | Path, tensor: str) -> np.ndarray:
    """All singular values of a tensor's delta, float64, largest first."""
    return read_tensor(read_header(basis_file(delta, tensor))[0]["sigma"]).numpy()


def read_directions(delta: str | Path, tensor: str, rank: int) -> "torch.Tensor":
    """The first `rank` directions of a tensor's delta, as rows: float32 [rank, shorter side]."""
    return read_tensor(read_header(basis_file(delta, tensor))[0]["basis"], 0, rank)


def _fingerprint(manifests: Sequence[dict[str, Any]], pair: Pair) -> str:
    """Names what a basis and its summary were computed from: the two weights, and the code."""
    parts = [RECORD, pair.name, sha256(__file__), sha256(spectrum.__file__)]
    for manifest, entry in zip(manifests, (pair.base, pair.derivative), strict=True):
        parts += [manifest["files"][entry.file.name]["sha256"], entry.name]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _payload_hash(sigma: "torch.Tensor", basis: "torch.Tensor") -> str:
    digest = hashlib.sha256(sigma.numpy())
    digest.update(basis.numpy())
    return digest.hexdigest()


def _finished(path: Path, fingerprint: str) -> tuple[np.ndarray, dict[str, Any], str] | None:
    """A matrix that an earlier run finished: its sigma, summary and file hash; None to redo it."""
    if not path.is_file():
        return None
    try:
        entries, metadata = read_header(path)
        if metadata.get("fingerprint") != fingerprint:
            return None
        sigma = read_tensor(entries["sigma"])
        content = _payload_hash(sigma, read_tensor(entries["basis"]))
        summary = json.loads(metadata["summary"])
    except (InputError, KeyError, ValueError) as error:
        print(f"{path.name}: damaged, done again ({error})", file=sys.stderr)
        return None
    if metadata.get("content") != content:
        print(f"{path.name}: damaged, done again (its content's hash differs)", file=sys.stderr)
        return None
    return sigma.numpy(), summary, sha256(path)


def _factor_matrix(
    path: Path, base: Checkpoint, derivative: Checkpoint, pair: Pair, fingerprint: str, device: str
) -> tuple[np.ndarray, dict[str, Any], str]:
    """Factor one matrix and write its basis file; as _finished returns it."""
    W = base.read(pair.name).to(device)
    D = derivative.read(pair.name).to(device).sub_(W)
    _, top, _ = spectrum.leading_singular(W, 1)
    frobenius = float(W.norm())
    del W
    sigma, basis = (part.cpu() for part in factor(D))
    values = sigma.numpy()
    summary = spectrum.summarise(values)
    summary["relative_frobenius"] = summary["frobenius"] / frobenius if frobenius else None
    summary["sigma_1_base"] = float(top[0])
    summary["sigma_1_ratio"] = summary["sigma_1"] / float(top[0]) if top[0] > 0 else None
    metadata = {
        "fingerprint": fingerprint,
        "content": _payload_hash(sigma, basis),
        "summary": json.dumps(summary),
    }
    tensors = {"sigma": ("F64", sigma.shape), "basis": ("F32", basis.shape)}
    _, file_hash = write_tensors(path, tensors, (sigma, basis), metadata)
    return values, summary, file_hash


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import safetensors
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    }


def factor_pair(
    base_folder: str | Path,
    derivative_folder: str | Path,
    output: str | Path,
    leave_out: Sequence[str] = (),
    threads: int = 1,
    device: str = "cpu",
) -> None:
    """Factor every projection of a pair of checkpoints into the folder `output`.

    Matrices that an earlier, interrupted run finished on the same weights are taken over after a
    check of their hash. manifest.json, spectrum.parquet, summary.parquet and ledger.parquet are
    written when all are done. Peak memory grows with the largest projection, not with the model.
    Raises InputError for checkpoints that cannot be read or do not fit each other.
    """
    import pandas
    import torch

    torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda, but torch sees none here; set device to cpu")
    base, derivative = open_checkpoint(base_folder), open_checkpoint(derivative_folder)
    manifests = read_manifest(base), read_manifest(derivative)
    pairs = pair_tensors(base, derivative, leave_out)
    ledger = ledger_rows(base, derivative, pairs, FATES)
    factored = [pair for pair in pairs if pair.role == "projection" and not pair.left_out]

    output = Path(output)
    todo, results = [], {}
    for pair in factored:
        path, fingerprint = basis_file(output, pair.name), _fingerprint(manifests, pair)
        found = _finished(path, fingerprint)
        if found:
            results[pair.name] = found
        else:
            todo.append((pair, path, fingerprint))
    if results:
        print(f"{len(results)} matrices finished earlier are taken over", file=sys.stderr)
    progress = Progress(len(factored), "matrices", done=len(results))
    for pair, path, fingerprint in todo:
        results[pair.name] = _factor_matrix(path, base, derivative, pair, fingerprint, device)
        progress.step()

    matrices, spectra, summaries = {}, [], []
    for pair in factored:
        sigma, summary, file_hash = results[pair.name]
        layer, module = layer_and_module(pair.name)
        rows, columns = pair.base.shape
        place = {"tensor": pair.name, "layer": layer, "module": module}
        matrices[pair.name] = {
            "shape": [rows, columns],
            "file": f"basis/{pair.name}.safetensors",
            "sha256": file_hash,
        }
        spectra.append(pandas.DataFrame({**place, "index": np.arange(len(sigma)), "sigma": sigma}))
        summaries.append({**place, "rows": rows, "columns": columns, **summary})
    write_table(output / "spectrum.parquet", pandas.concat(spectra, ignore_index=True))
    write_table(output / "summary.parquet", pandas.DataFrame(summaries))
    write_table(output / "ledger.parquet", pandas.DataFrame(ledger))
    write_json(
        output / MANIFEST,
        {
            "base": _origin(base, manifests[0]),
            "derivative": _origin(derivative, manifests[1]),
            "method": METHOD,
            "leave_out": list(leave_out),
            "device": device,
            "threads": threads,
            "versions": versions(),
            "matrices": matrices,
        },
    )
    _forget_others(output / "basis", {f"{pair.name}.safetensors" for pair in factored})


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
