"""A delta described in the bytes of a rank, but otherwise: a file of packed parts.

description.safetensors has the parts of every matrix (lowrank.variants.packing), named
<tensor>.<part>; description.json says of what they are and what each costs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lowrank.claims import check_output, check_space, claim
from lowrank.delta.factor import (
    basis_file,
    check_origin,
    checked_difference,
    read_directions,
)
from lowrank.errors import InputError
from lowrank.files import read_json, sha256, write_json
from lowrank.models.checkpoint import Checkpoint, open_pair
from lowrank.models.manifest import MANIFEST
from lowrank.models.safetensors_file import TensorEntry, read_bytes, read_header, write_tensors
from lowrank.variants.adapter import check_recorded, split
from lowrank.variants.packing import (
    KINDS,
    NUMPY,
    Parts,
    bytes_of,
    pack,
    rank_bytes,
    stored_as,
    unpack,
)

if TYPE_CHECKING:
    import torch

PACKED_FILE, RECORD_FILE = "description.safetensors", "description.json"


def write_description(
    delta_folder: str | Path,
    base_folder: str | Path,
    derivative_folder: str | Path,
    kind: str,
    rank: int,
    output: str | Path,
    threads: int = 1,
) -> None:
    """Describe each matrix of a delta in the bytes that its `rank` directions cost; one at a time.

    kind: of packing.KINDS; bitdelta takes its own bytes and no notice of the rank.
    Raises InputError if the delta was computed from other weights than those that are read.
    """
    import torch

    torch.set_num_threads(threads)
    delta_folder, output = Path(delta_folder), Path(output)
    if kind not in KINDS:
        raise InputError(f"kind {kind!r}: must be one of {', '.join(KINDS)}")
    if rank < 1:
        raise InputError(f"rank {rank}: a rank of at least 1 expected")
    inputs = (delta_folder, base_folder, derivative_folder)
    check_output(output, inputs)
    delta = read_json(delta_folder / MANIFEST)
    base, derivative = open_pair(base_folder, derivative_folder)
    check_origin(delta, "base", base, delta_folder)
    check_origin(delta, "derivative", derivative, delta_folder)
    shapes = {name: tuple(matrix["shape"]) for name, matrix in delta["matrices"].items()}
    stored = {name: stored_as(kind, s, rank_bytes(s, rank)) for name, s in shapes.items()}
    tensors = {
        f"{name}.{part}": as_ for name, parts in stored.items() for part, as_ in parts.items()
    }
    check_space(output, bytes_of(tensors))
    claim(output, inputs, (PACKED_FILE, RECORD_FILE))
    for left in output.glob(f".{Path(PACKED_FILE).stem}.*.tmp*"):  # by a killed run
        left.unlink()

    def pieces() -> Iterator["torch.Tensor"]:
        for name, shape in shapes.items():
            D = checked_difference(delta_folder, base, derivative, name)
            parts = packed(kind, delta_folder, name, D, rank_bytes(shape, rank))
            for part in parts.values():
                yield torch.from_numpy(np.ascontiguousarray(part).reshape(-1).view(np.uint8))

    size, weights_hash = write_tensors(output / PACKED_FILE, tensors, pieces())
    write_json(
        output / RECORD_FILE,
        {
            "kind": kind,
            "rank": rank,
            "bytes": bytes_of(tensors),
            "delta": {
                "manifest": sha256(delta_folder / MANIFEST),
                "base": delta["base"],
                "derivative": delta["derivative"],
            },
            "weights": {"size": size, "sha256": weights_hash},
            "matrices": {
                name: {
                    "bytes": bytes_of(parts),
                    "base": read_header(basis_file(delta_folder, name))[1].get("base"),
                }
                for name, parts in stored.items()
            },
        },
    )


def packed(kind: str, delta: Path, name: str, D: "torch.Tensor", budget: int) -> Parts:
    """The parts of one matrix's change D [m, n] in `budget` bytes."""
    return pack(
        kind,
        D.numpy(),
        budget,
        lambda count: split(D, read_directions(delta, name, 0, count)),
    )


@dataclass(frozen=True)
class Description:
    """A description on disk: by weight name its parts, and the content of the base that it is for.

    bases: see lowrank.variants.adapter.Adapter.
    """

    folder: Path
    kind: str
    parts: dict[str, dict[str, TensorEntry]]
    shapes: dict[str, tuple[int, int]]
    bases: dict[str, str | None]

    @property
    def names(self) -> list[str]:
        """The weights that are described."""
        return list(self.parts)

    @property
    def file(self) -> Path:
        """Where the parts lie."""
        return self.folder / PACKED_FILE

    def rows(self, name: str) -> "Callable[[int, int], torch.Tensor]":
        """Rows [first, stop) of the change of a weight as stored, float32."""
        import torch

        found = {
            part: read_bytes(entry).numpy().view(NUMPY[entry.dtype]).reshape(entry.shape)
            for part, entry in self.parts[name].items()
        }
        change = torch.from_numpy(unpack(self.kind, found, self.shapes[name]))
        return lambda first, stop: change[first:stop]


def open_description(folder: str | Path, base: Checkpoint) -> Description:
    """Open a description and check that it is of this base.

    Raises InputError for one of other weights, or whose file is not what its record says.
    """
    folder = Path(folder)
    record = read_json(folder / RECORD_FILE)
    check_origin(record["delta"], "base", base, folder)
    path = folder / PACKED_FILE
    check_recorded(path, record["weights"]["sha256"], RECORD_FILE)
    entries, _ = read_header(path)
    parts: dict[str, dict[str, TensorEntry]] = {}
    shapes = {}
    for name in record["matrices"]:
        rows, columns = base.entry(name).shape
        shapes[name] = (rows, columns)
        budget = rank_bytes(shapes[name], record["rank"])
        stored = stored_as(record["kind"], shapes[name], budget)
        parts[name] = {part: entries[f"{name}.{part}"] for part in stored}
    bases = {name: matrix.get("base") for name, matrix in record["matrices"].items()}
    return Description(folder, record["kind"], parts, shapes, bases)
