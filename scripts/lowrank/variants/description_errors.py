"""How far each description of a delta is from it, and what it costs: a row a matrix, in a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.claims import claim
from lowrank.delta.factor import check_origin, checked_difference, read_directions, read_sigma
from lowrank.files import growing_table, read_json
from lowrank.models.architecture import layer_and_module
from lowrank.models.checkpoint import open_pair
from lowrank.models.manifest import MANIFEST
from lowrank.plan.controls import LOWRANK, kind_of
from lowrank.progress import Progress
from lowrank.variants.adapter import split
from lowrank.variants.packing import bytes_of, pack, rank_bytes, stored_as, unpack

if TYPE_CHECKING:
    import torch

TABLE = "descriptions.parquet"
# What each column says, as docs/tables.md has it.
COLUMNS = {
    "tensor": "name of the weight",
    "layer": "number of its layer, from 0",
    "module": "its name in the layer",
    "description": "`lowrank`, the top directions with factors in float32; or the control's name",
    "rank": "whose bytes it gets; 0 where it has bytes of its own",
    "bytes": "what it takes: values, positions, scales",
    "frobenius": "||D||_F",
    "error": "||D - what is described||_F",
}


def write_errors(
    delta_folder: str | Path,
    base_folder: str | Path,
    derivative_folder: str | Path,
    kinds: Sequence[str],
    ranks: Sequence[int],
    threads: int = 1,
) -> None:
    """Write descriptions.parquet into a delta's folder: low rank and these kinds at each rank.

    Nothing is stored of the descriptions themselves; a matrix at a time is in memory.
    Raises InputError if the delta was computed from other weights than those that are read.
    """
    import pandas
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    folder = Path(delta_folder)
    delta = read_json(folder / MANIFEST)
    base, derivative = open_pair(base_folder, derivative_folder)
    check_origin(delta, "base", base, folder)
    check_origin(delta, "derivative", derivative, folder)
    claim(folder, (base_folder, derivative_folder), (TABLE,))
    for left in folder.glob(".descriptions.*.tmp.parquet"):  # by a killed run
        left.unlink()
    progress = Progress(len(delta["matrices"]), "matrices")
    with threadpool_limits(threads), growing_table(folder / TABLE) as append:
        for name in delta["matrices"]:
            D = checked_difference(folder, base, derivative, name)
            append(pandas.DataFrame(matrix_rows(folder, name, D, kinds, ranks)))
            progress.step()


def matrix_rows(
    delta: Path, name: str, D: "torch.Tensor", kinds: Sequence[str], ranks: Sequence[int]
) -> list[dict[str, Any]]:
    """The rows of one matrix's change D [m, n], with COLUMNS."""
    import torch

    shape = (D.shape[0], D.shape[1])
    sigma = read_sigma(delta, name)
    layer, module = layer_and_module(name)
    place = {"tensor": name, "layer": layer, "module": module}
    rows = []

    def add(kind: str, rank: int, size: int, error: float) -> None:
        norm = float((sigma**2).sum()) ** 0.5
        measured = {"bytes": size, "frobenius": norm, "error": error}
        rows.append({**place, "description": kind, "rank": rank, **measured})

    for rank in ranks:
        add(LOWRANK.name, rank, rank_bytes(shape, rank), float((sigma[rank:] ** 2).sum()) ** 0.5)
    for kind in kinds:
        for rank in ranks if kind_of(kind).ranked else [0]:
            budget = rank_bytes(shape, rank)
            parts = pack(
                kind, D.numpy(), budget, lambda r: split(D, read_directions(delta, name, 0, r))
            )
            rest = D - torch.from_numpy(unpack(kind, parts, shape))
            add(kind, rank, bytes_of(stored_as(kind, shape, budget)), float(rest.double().norm()))
    return rows
