"""Where the change lives: the derivative without a part of it, the base with that part alone.

A part is a matrix's change, all changes of a module in every layer, or all of a layer; "rest" is
what is no matrix of a layer (embeddings, head, norms, biases). Weights are exchanged in memory, in
a model of the derivative's configuration, and the derivative's own text is read through each. No
checkpoint is written.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank.claims import check_output
from lowrank.delta.pairing import Pair, pair_tensors
from lowrank.devices import take_device
from lowrank.divergence import reader
from lowrank.divergence.kept import forget_others, key
from lowrank.divergence.reading import read_passage
from lowrank.divergence.reference import (
    FORMAT,
    Reference,
    kept,
    read_reference,
    served_sha256,
    versions,
)
from lowrank.errors import InputError
from lowrank.files import read_json, write_json, write_table
from lowrank.models.architecture import layer_and_module, merged_only, paths_in_memory
from lowrank.models.checkpoint import Checkpoint, open_pair
from lowrank.progress import Progress

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

COLUMNS = (
    "level",
    "layer",
    "module",
    "tensors",
    "kl_without",
    "kl_with",
    "recovered_with",
    "n_problems",
    "n_tokens",
)
DIRECTIONS = ("without", "with")


@dataclass(frozen=True)
class Unit:
    """A part of the change. level: matrix | module | layer | rest | whole."""

    level: str
    layer: int | None
    module: str | None
    names: tuple[str, ...]  # of tensors, as the base has them


def units(pairs: Sequence[Pair]) -> list[Unit]:
    """Every matrix, module and layer, the rest, and the whole of it.

    InputError for matrices that are a part of a larger tensor in memory (experts).
    """
    parts = [pair for pair in pairs if not pair.left_out and pair.base and pair.derivative]
    matrices = {pair.name: layer_and_module(pair.name) for pair in parts
                if pair.role == "projection"}  # fmt: skip
    if reason := merged_only(list(matrices)):
        raise InputError(f"cannot be taken apart in memory: {reason}; set locate to null")
    rest = tuple(pair.name for pair in parts if pair.name not in matrices)
    layers = sorted({layer for layer, _ in matrices.values()})
    modules = list(dict.fromkeys(module for _, module in matrices.values()))
    found = [Unit("matrix", *place, (name,)) for name, place in matrices.items()]
    for module in modules:
        names = tuple(name for name, place in matrices.items() if place[1] == module)
        found.append(Unit("module", None, module, names))
    for layer in layers:
        names = tuple(name for name, place in matrices.items() if place[0] == layer)
        found.append(Unit("layer", layer, None, names))
    if rest:
        found.append(Unit("rest", None, None, rest))
    return [*found, Unit("whole", None, None, (*matrices, *rest))]


def locate(
    base_folder: Path,
    derivative_folder: Path,
    reference_folder: Path,
    output: Path,
    dtype: str,
    leave_out: Sequence[str] = (),
    samples: int = 1,
    tokens: int = 512,
    device: str = "cpu",
    threads: int = 1,
) -> None:
    """Write a table with a row a unit, in the columns COLUMNS, and beside it of what it is (.json).

    kl_without: the derivative with the unit's weights as in the base; kl_with: the base with the
    unit's weights as in the derivative: mean over problems of KL(derivative || model) in nats a
    token. recovered_with: what share of the way from the base the latter goes.
    dtype: what both models are served as. Read are the reference's first `samples` completions of
    every problem, `tokens` tokens of each at most. What was finished of a job that was stopped is
    not done again. InputError for a derivative that the reference is not of.
    """
    import torch

    torch.set_num_threads(threads)
    here = take_device(device, need=reader.need(derivative_folder, device))
    check_output(output, [base_folder, derivative_folder, reference_folder])
    reference = shortened(read_reference(reference_folder), samples, tokens)
    base, derivative = open_pair(base_folder, derivative_folder)
    found = units(pair_tensors(base, derivative, leave_out))
    said = reference.record["model"]
    if (said["sha256"], said["dtype"]) != (served_sha256(derivative_folder), dtype):
        raise InputError(
            f"{reference_folder}: is of another derivative than {derivative_folder} as {dtype};"
            " give the model whose text was read"
        )
    if derivative.tied and not base.tied:
        raise InputError(
            f"{derivative_folder}: its head is its embedding, and that of {base_folder} is not;"
            " there is no one model to exchange them in: set locate to null"
        )
    where = output.parent / "read"
    where.mkdir(parents=True, exist_ok=True)
    content = [FORMAT, reference.keys, tokens, served_sha256(base_folder), said, versions()]
    paths = {
        (direction, unit): where / f"{key([*content, direction, unit.names])}.json"
        for direction in DIRECTIONS
        for unit in found
    }
    total = sum(len(passage.ids) for passage in reference.passages)
    missing = sum(not path.is_file() for path in paths.values())
    print(
        f"{len(found)} parts, {len(paths)} models in memory, {missing} of them to be read,"
        f" {total} tokens each",
        file=sys.stderr,
        flush=True,
    )
    if missing:
        model = reader.load_served(derivative_folder, dtype, device=device)
        head = reader.with_head(reference.folder, kept(reference.path(reference.head)), device)
        progress = Progress(len(paths) * total, "tokens", done=(len(paths) - missing) * total)
        exchanged = _exchanged(model, base, derivative, found, dtype, paths)
        for direction, unit in exchanged:
            means = by_problem(model, head, reference)
            write_json(paths[direction, unit], {"kl": means})
            progress.step(total)
    record = {
        "reference": reference.record["digest"],
        "base_sha256": served_sha256(base_folder),
        "asked": {"samples": samples, "tokens": tokens},
        "versions": versions(),
        "device": here,
    }
    write_json(output.with_suffix(".json"), record)
    write_table(output, summed_up(found, paths, total))
    forget_others(where, paths.values())


def shortened(reference: Reference, samples: int, tokens: int) -> Reference:
    """A reference of fewer completions and tokens."""
    both = [
        (replace(passage, ids=passage.ids[:tokens]), name)
        for passage, name in zip(reference.passages, reference.keys, strict=True)
        if passage.sample < samples
    ]
    if not both:
        raise InputError(f"{reference.folder}: has no completion of the first {samples}")
    passages, keys = map(list, zip(*both, strict=True))
    return replace(reference, passages=passages, keys=keys)


def _exchanged(
    model: Any,
    base: Checkpoint,
    derivative: Checkpoint,
    found: Sequence[Unit],
    dtype: str,
    paths: dict[tuple[str, Unit], Path],
) -> Iterator[tuple[str, Unit]]:
    """Bring a model, the derivative at first, into every state that is missing, one by one."""
    whole = found[-1]
    for direction, home, other in (("without", derivative, base), ("with", base, derivative)):
        put(model, home, whole.names, dtype)
        for unit in found:
            if not paths[direction, unit].is_file():
                put(model, other, unit.names, dtype)
                yield direction, unit
                put(model, home, unit.names, dtype)


def put(model: Any, source: Checkpoint, names: Sequence[str], dtype: str) -> None:
    """Set weights of a model in memory to a checkpoint's, cast to what is served.

    Of a vocabulary that the two models fill up differently, the rows that both have.
    """
    import torch

    for name in names:
        there = parameter_of(model, source.config, name)
        values = source.read(name).to(getattr(torch, dtype)).float()
        rows = slice(min(len(values), len(there))) if values.dim() else ...
        there[rows].copy_(values[rows])


def parameter_of(model: Any, config: dict[str, Any], name: str) -> "Tensor":
    """The tensor in memory that has a name in the checkpoint."""
    for path in paths_in_memory(config, name):
        for candidate in (path, f"{path}.weight"):
            for get in (model.get_parameter, model.get_buffer):
                try:
                    found: Tensor = get(candidate).data
                    return found
                except AttributeError:
                    continue
    raise InputError(
        f"{name}: is no tensor of its own as transformers holds the model; set locate to null"
    )


def by_problem(model: Any, head: Any, reference: Reference) -> dict[str, float]:
    """problem_id -> mean of KL(derivative || model) over the problem's tokens."""
    parts: dict[str, list[np.ndarray]] = {}
    for passage, name in zip(reference.passages, reference.keys, strict=True):
        states = kept(reference.path(name))["states"][: len(passage.ids)]
        found = read_passage(model, head, passage, states).kl.astype(np.float64)
        parts.setdefault(passage.problem_id, []).append(found)
    return {problem: float(np.concatenate(kl).mean()) for problem, kl in parts.items()}


def summed_up(
    found: Sequence[Unit], paths: dict[tuple[str, Unit], Path], tokens: int
) -> "pandas.DataFrame":
    """A row a unit, from what was read of it, in the columns COLUMNS."""
    import pandas

    kl = {at: list(read_json(path)["kl"].values()) for at, path in paths.items()}
    whole = float(np.mean(kl["without", found[-1]]))
    rows = []
    for unit in found:
        without, alone = (float(np.mean(kl[direction, unit])) for direction in DIRECTIONS)
        recovered = 1 - alone / whole if whole > 0 else float("nan")
        place = (unit.level, unit.layer, unit.module, len(unit.names))
        rows.append((*place, without, alone, recovered, len(kl["with", unit]), tokens))
    return pandas.DataFrame(rows, columns=list(COLUMNS)).astype({"layer": "Int64"})
