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
from lowrank.checkpoint import Checkpoint, open_pair
from lowrank.claims import check_space, claim
from lowrank.delta_tables import COLUMNS, Factored, spectrum_table, summary_table
from lowrank.errors import InputError
from lowrank.files import sha256, write_json, write_table
from lowrank.ledger import Pair, ledger_rows, pair_tensors, squared_changes
from lowrank.manifest import MANIFEST, read_manifest
from lowrank.progress import Progress
from lowrank.tensorfile import read_header, read_tensor, write_tensors

if TYPE_CHECKING:
    import torch

METHOD = "float32 difference, float64 Gram matrix of the shorter side, eigh"
ALIGNED = 16  # leading directions of D and W that are compared
RECORD = "lowrank-basis-1"  # of the basis files' content; another one is never taken over
TABLES = ("spectrum.parquet", "summary.parquet", "ledger.parquet")
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


def read_directions(delta: str | Path, tensor: str, first: int, stop: int) -> "torch.Tensor":
    """Directions [first, stop) of a tensor's delta, strongest first, as rows of float32."""
    return read_tensor(read_header(basis_file(delta, tensor))[0]["basis"], first, stop)


def _fingerprint(manifests: Sequence[dict[str, Any]], pair: Pair, details: bool) -> str:
    """Names what a basis and its summary were computed from: the two weights, and the code."""
    parts = [RECORD, pair.name, str(details), sha256(__file__), sha256(spectrum.__file__)]
    for manifest, entry in zip(manifests, (pair.base, pair.derivative), strict=True):
        parts += [manifest["files"][entry.file.name]["sha256"], entry.name]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _payload_hash(tensors: dict[str, "torch.Tensor"]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy())
    return digest.hexdigest()


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
        summary = json.loads(metadata["summary"])
    except (InputError, KeyError, ValueError) as error:
        print(f"{path.name}: damaged, done again ({error})", file=sys.stderr)
        return None
    if metadata.get("content") != content:
        print(f"{path.name}: damaged, done again (its content's hash differs)", file=sys.stderr)
        return None
    return Factored(tensors["sigma"].numpy(), summary, sha256(path), _shuffled(tensors))


def _shuffled(tensors: dict[str, "torch.Tensor"]) -> np.ndarray | None:
    return tensors["sigma_shuffled"].numpy() if "sigma_shuffled" in tensors else None


def _factor_matrix(
    path: Path,
    base: Checkpoint,
    derivative: Checkpoint,
    pair: Pair,
    fingerprint: str,
    device: str = "cpu",
    details: bool = False,
) -> Factored:
    """Factor one matrix and write its basis file."""
    W = base.read(pair.name).to(device)
    V = derivative.read(pair.name).to(device)
    extra = spectrum.entry_shares(W, V) if details else {}
    D = V.sub_(W)
    frobenius, largest = float(W.norm()), spectrum.largest_singular(W)
    if not details:
        del W  # the largest allocations are yet to come
    sigma, basis = factor(D)
    values = sigma.cpu().numpy()
    tensors = {"sigma": sigma.cpu(), "basis": basis.cpu()}
    if details:
        extra |= leading_overlap(W, D, sigma, basis)
        tensors["sigma_shuffled"] = shuffled_singular(D).cpu()
    summary = spectrum.summarise(values, tuple(D.shape))
    summary |= {
        "relative_frobenius": summary["frobenius"] / frobenius if frobenius else None,
        "sigma_1_base": largest,
        "sigma_1_ratio": summary["sigma_1"] / largest if largest else None,
        **extra,
    }
    metadata = {
        "fingerprint": fingerprint,
        "content": _payload_hash(tensors),
        "summary": json.dumps(summary),
    }
    header = {
        name: ("F32" if name == "basis" else "F64", tensor.shape)
        for name, tensor in tensors.items()
    }
    _, file_hash = write_tensors(path, header, tensors.values(), metadata)
    return Factored(values, summary, file_hash, _shuffled(tensors))


def leading_overlap(
    W: "torch.Tensor", D: "torch.Tensor", sigma: "torch.Tensor", basis: "torch.Tensor"
) -> dict[str, float | int]:
    """lowrank.spectrum.alignment of D and W in their ALIGNED leading directions.

    W, D: [m, n]; sigma and basis as `factor` gives them for D; W is factored here.
    """
    k = min(ALIGNED, *D.shape)

    def sides(M: "torch.Tensor", s: "torch.Tensor", near: "torch.Tensor") -> list["torch.Tensor"]:
        tall = M.shape[0] >= M.shape[1]
        near = near[:k].T
        far = (M if tall else M.T) @ near / s[:k].clamp_min(1e-30).float()
        return [far, near] if tall else [near, far]

    of_delta, of_weights = sides(D, sigma, basis), sides(W, *factor(W))
    return {"aligned_k": k} | spectrum.alignment(D, *of_delta, *of_weights)


def shuffled_singular(D: "torch.Tensor") -> "torch.Tensor":
    """Singular values of D with its entries in random order (a fixed seed), float64: a null.

    It keeps D's distribution of entries, heavy tails too, and none of its structure.
    """
    import torch

    order = torch.randperm(D.numel(), generator=torch.Generator().manual_seed(0))
    mixed = D.reshape(-1)[order.to(D.device)].reshape(D.shape)
    return torch.linalg.eigvalsh(gram(mixed), UPLO="L").flip(0).clamp_min(0).sqrt()


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
    details: bool = False,
) -> None:
    """Factor every matrix of the layers of a pair of checkpoints into the folder `output`.

    Matrices that an earlier, interrupted run finished on the same weights are taken over after a
    check of their hash. manifest.json, spectrum.parquet, summary.parquet and ledger.parquet are
    written when all are done. With `details`, also the statistics that need more than D's own
    factorisation: its entries shuffled, shares of entries unchanged, alignment with W.
    Peak memory grows with the largest projection, not with the model.
    Raises InputError for checkpoints that cannot be read or do not fit each other.
    """
    import pandas
    import torch

    torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda, but torch sees none here; set device to cpu")
    base, derivative = open_pair(base_folder, derivative_folder)
    manifests = read_manifest(base), read_manifest(derivative)
    pairs = pair_tensors(base, derivative, leave_out)
    factored = [pair for pair in pairs if pair.role == "projection" and not pair.left_out]
    # Before the long work: what is not finite stops here.
    changes = squared_changes(
        base, derivative, [p for p in pairs if p.role != "projection" or p.left_out]
    )

    output = Path(output)
    claim(output, (base_folder, derivative_folder), (MANIFEST, *TABLES))
    todo, results = [], {}
    for pair in factored:
        path, fingerprint = (
            basis_file(output, pair.name),
            _fingerprint(manifests, pair, details),
        )
        found = _finished(path, fingerprint)
        if found:
            results[pair.name] = found
        else:
            todo.append((pair, path, fingerprint))
    check_space(output, sum(4 * min(pair.base.shape) ** 2 for pair, *_ in todo))
    if results:
        print(f"{len(results)} matrices finished earlier are taken over", file=sys.stderr)
    progress = Progress(len(factored), "matrices", done=len(results))
    for pair, path, fingerprint in todo:
        results[pair.name] = _factor_matrix(
            path, base, derivative, pair, fingerprint, device, details
        )
        progress.step()

    matrices = {
        pair.name: {
            "shape": list(pair.base.shape),
            "file": f"basis/{pair.name}.safetensors",
            "sha256": results[pair.name].file_hash,
        }
        for pair in factored
    }
    shapes = {name: tuple(matrix["shape"]) for name, matrix in matrices.items()}
    write_table(output / "spectrum.parquet", spectrum_table(shapes, results))
    summary = summary_table(shapes, results)
    write_table(output / "summary.parquet", summary)
    changes |= dict(zip(summary["tensor"], summary["frobenius"] ** 2, strict=True))
    ledger = pandas.DataFrame(ledger_rows(base, derivative, pairs, FATES, changes))
    ledger["layer"] = ledger["layer"].astype("Int64")  # null outside the layers
    write_table(output / "ledger.parquet", ledger)
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
            "columns": COLUMNS,
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
