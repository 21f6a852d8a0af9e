"""What a factored delta says, in tables: all singular values, and a line of statistics a matrix.

Apart from the factoring: another statistic, or more of them, leaves alone what adapters are
built from.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.claims import claim
from lowrank.delta import spectra
from lowrank.delta.factor import check_origin, checked_weights, need, read_factored, versions
from lowrank.delta.svd import directions, factor, gram, singular_values
from lowrank.delta.tables import COLUMNS, spectrum_rows, summary_table
from lowrank.devices import take_device
from lowrank.files import growing_table, read_json, sha256, write_json, write_table
from lowrank.models.checkpoint import Checkpoint, open_pair
from lowrank.models.manifest import MANIFEST
from lowrank.progress import Progress

if TYPE_CHECKING:
    import torch

    from lowrank.delta.svd import Factored

ALIGNED = 16  # leading directions of D and W that are compared
SPECTRUM, SUMMARY, RECORD = "spectrum.parquet", "summary.parquet", "statistics.json"


def write_statistics(
    delta_folder: str | Path,
    base_folder: str | Path,
    derivative_folder: str | Path,
    threads: int = 1,
    device: str = "cpu",
    details: bool = False,
) -> None:
    """Write the tables of a delta into its folder; statistics.json, which explains them, is last.

    With `details`, also what needs more than D's own factorisation: its entries shuffled, shares
    of entries unchanged, alignment with W. Peak memory grows with the largest matrix.
    Raises InputError if the delta was computed from other weights than those that are read.
    """
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    folder = Path(delta_folder)
    delta = read_json(folder / MANIFEST)
    base, derivative = open_pair(base_folder, derivative_folder)
    take_device(device, need=need(matrix["shape"] for matrix in delta["matrices"].values()))
    check_origin(delta, "base", base, folder)
    check_origin(delta, "derivative", derivative, folder)
    claim(folder, (base_folder, derivative_folder), (SPECTRUM, SUMMARY, RECORD))
    for left in folder.glob(".spectrum.*.tmp.parquet"):  # by a killed run
        left.unlink()

    summaries = {}
    progress = Progress(len(delta["matrices"]), "matrices")
    with threadpool_limits(threads), growing_table(folder / SPECTRUM) as append:
        for name, matrix in delta["matrices"].items():
            shape, kept = tuple(matrix["shape"]), read_factored(folder, name)
            summary, shuffled = measure(folder, base, derivative, name, kept, device, details)
            append(spectrum_rows(name, shape, kept["sigma"].numpy(), shuffled))
            summaries[name] = (shape, summary)
            progress.step()
    write_table(folder / SUMMARY, summary_table(summaries))
    write_json(
        folder / RECORD,
        {
            "delta": sha256(folder / MANIFEST),
            "details": details,
            "device": device,
            "threads": threads,
            "versions": versions(),
            "columns": COLUMNS,
        },
    )


def measure(
    folder: Path,
    base: Checkpoint,
    derivative: Checkpoint,
    name: str,
    kept: "Factored",
    device: str,
    details: bool,
) -> tuple[dict[str, Any], Any]:
    """The summary of one matrix, and the singular values of its shuffled null or None.

    kept: what lowrank.delta.svd.factor gave for it.
    """
    W, V = (weight.to(device) for weight in checked_weights(folder, base, derivative, name))
    extra = spectra.entry_shares(W, V) if details else {}
    rounding = spectra.rounding_edge(V, derivative.entry(name).dtype)
    D = V.sub_(W)
    frobenius, largest = float(W.norm()), spectra.largest_singular(W)
    shuffled = None
    if details:
        extra |= leading_overlap(W, D, kept)
        shuffled = shuffled_singular(D).numpy()
    found = spectra.summarise(kept["sigma"].numpy(), (D.shape[0], D.shape[1]), rounding)
    summary: dict[str, float | None] = {
        **found,
        "relative_frobenius": found["frobenius"] / frobenius if frobenius else None,
        "sigma_1_base": largest,
        "sigma_1_ratio": found["sigma_1"] / largest if largest else None,
        **extra,
    }
    return summary, shuffled


def leading_overlap(
    W: "torch.Tensor", D: "torch.Tensor", kept: "Factored"
) -> dict[str, float | int]:
    """lowrank.delta.spectra.alignment of D and W in their ALIGNED leading directions.

    W, D: [m, n]; kept: what `factor` gave for D; W is factored here.
    """
    k = min(ALIGNED, *D.shape)

    def sides(M: "torch.Tensor", of: "Factored") -> list["torch.Tensor"]:
        tall = M.shape[0] >= M.shape[1]
        near = directions(of, 0, k).to(M.device).T
        s = of["sigma"][:k].to(M.device, M.dtype)
        far = (M if tall else M.T) @ near / s.clamp_min(1e-30)
        return [far, near] if tall else [near, far]

    return {"aligned_k": k} | spectra.alignment(D, *sides(D, kept), *sides(W, factor(W)))


def shuffled_singular(D: "torch.Tensor") -> "torch.Tensor":
    """Singular values of D with its entries in random order (a fixed seed), float64: a null.

    It keeps D's distribution of entries, heavy tails too, and none of its structure.
    """
    import torch

    order = torch.randperm(D.numel(), generator=torch.Generator().manual_seed(0))
    mixed = D.reshape(-1)[order.to(D.device)].reshape(D.shape)
    return singular_values(torch.linalg.eigvalsh(gram(mixed), UPLO="U")).cpu()
