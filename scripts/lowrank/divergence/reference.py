"""The derivative's pass: which text is read, and what its own distributions there are made of.

A benchmark's reference is a folder:

    reference.json     what all of it is of, how much is read, and a digest of that
    passages.parquet   a row a completion that is read: problem_id, sample, prompt_ids, ids, states
    config.json        the derivative's
    states/            <states>.safetensors: [len(ids), hidden] float32 of each completion, the
                       derivative's last hidden states, and its head's parameters

Logits are nowhere: a vocabulary is a hundred times as wide as a hidden state, and the head makes
them again. Each further model then costs one pass of its own.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank.claims import claim
from lowrank.devices import take_device
from lowrank.divergence import reader
from lowrank.divergence.kept import forget_others, key
from lowrank.divergence.passages import Passage, choose
from lowrank.errors import InputError
from lowrank.files import read_json, read_table, whole_file, write_json, write_table
from lowrank.models.manifest import file_hashes
from lowrank.models.safetensors_file import read_header, read_tensor, write_tensors
from lowrank.progress import Progress
from lowrank.sampling import prompts
from lowrank.sampling.store import digest, served, served_digest

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

FORMAT = "lowrank-divergence-1"
RECORD, PASSAGES, CONFIG, STATES = "reference.json", "passages.parquet", "config.json", "states"
# Where states lie until all are done: Snakemake removes what a job that failed was to make.
UNFINISHED = "unfinished"
COLUMNS = ("problem_id", "sample", "prompt_ids", "ids", "states")


@dataclass(frozen=True)
class Target:
    """A benchmark of a job. problems: its table; samples: the derivative's, all parts; output: the
    reference's folder."""

    benchmark: str
    problems: Path
    output: Path
    samples: tuple[Path, ...]


@dataclass(frozen=True)
class Reference:
    """A reference: what is read, and by what names the derivative's states and head are kept."""

    folder: Path
    record: dict[str, Any]
    passages: list[Passage]
    keys: list[str]  # of each passage

    @property
    def head(self) -> str:
        """The name of the derivative's head."""
        return key({"head of": self.record["model"], "versions": self.record["versions"]})

    def path(self, name: str) -> Path:
        """Where states or a head of that name are kept."""
        return self.folder / STATES / f"{name}.safetensors"

    @property
    def paths(self) -> list[Path]:
        """Everything that is kept for it, the head first."""
        return [self.path(name) for name in (self.head, *self.keys)]


def served_sha256(folder: Path) -> str:
    """What a model's or an adapter's folder serves, as the provenance of samples has it."""
    names = sorted(path.name for path in folder.iterdir() if served(path.name))
    return served_digest(file_hashes(folder, names))


@cache
def versions() -> dict[str, str]:
    """Of what computes here."""
    return {name: metadata.version(name) for name in ("torch", "transformers")}


def make_references(
    model: Path,
    name: str,
    dtype: str,
    tokenizer: Path,
    targets: Sequence[Target],
    count: int,
    tokens: int,
    device: str = "cpu",
    threads: int = 1,
) -> None:
    """Write the reference of every benchmark; model, name, dtype: the derivative as it is served.

    count: completions a problem; tokens: of each at most. InputError, before the model is loaded,
    for whatever the user can mend.
    """
    import torch

    torch.set_num_threads(threads)
    here = take_device(device, need=reader.need(model, device))
    if len({target.output for target in targets}) < len(targets):
        raise InputError("--benchmark: two have one output; give each a folder of its own")
    for target in targets:
        inputs = [model, tokenizer, target.problems, *target.samples]
        claim(target.output, inputs, (RECORD, PASSAGES, CONFIG))
    what = {"name": name, "sha256": served_sha256(model), "dtype": dtype}
    asked = {"samples": count, "tokens": tokens}
    references = [planned(target, what, tokenizer, asked, here) for target in targets]
    loaded = None
    for reference in references:
        if not all(path.is_file() for path in reference.paths):
            loaded = loaded or reader.load_served(model, dtype, device=device)
            make_states(loaded, reference)
        write_table(reference.folder / PASSAGES, passages_table(reference))
        with whole_file(reference.folder / CONFIG) as temporary:
            shutil.copyfile(model / CONFIG, temporary)
        write_json(reference.folder / RECORD, reference.record)
        forget_others(reference.folder / STATES, reference.paths)


def planned(
    target: Target, what: dict[str, str], tokenizer: Path, asked: dict[str, int], device: str
) -> Reference:
    """What is to be read of a benchmark; says so on stderr. what: the derivative."""
    chosen, prompt = choose(
        target.samples, target.problems, tokenizer, what, target.benchmark, asked["samples"],
        asked["tokens"],
    )  # fmt: skip
    passages = chosen.passages
    determinants = {
        "format": FORMAT,
        "model": what,
        "benchmark": target.benchmark,
        "asked": asked,
        "prompt": prompt,
        "read": read_digest(passages),
        "versions": versions(),
    }
    counts = {
        "problems": len({passage.problem_id for passage in passages}),
        "completions": len(passages),
        "tokens": sum(len(passage.ids) for passage in passages),
        "left_out": chosen.left_out,
    }
    record = {"digest": digest(determinants), **determinants, "counts": counts, "device": device}
    print(
        f"{target.benchmark}: {counts['completions']} completions of {counts['problems']} problems,"
        f" {counts['tokens']} tokens to be read",
        file=sys.stderr,
    )
    for reason, number in chosen.left_out.items():
        print(f"WARNING: {target.benchmark}: {number} left out: {reason}", file=sys.stderr)
    sys.stderr.flush()
    keys = [
        key([FORMAT, what, versions(), passage.prompt.tolist(), passage.ids.tolist()])
        for passage in passages
    ]
    return Reference(target.output, record, passages, keys)


def read_digest(passages: Sequence[Passage]) -> str:
    """A digest of which completions are read, and of their tokens."""
    return digest([[p.problem_id, p.sample, prompts.ids_digest(p.ids)] for p in passages])


def make_states(model: Any, reference: Reference) -> None:
    """Make the hidden states that are missing, a passage at a time, and the head's file."""
    import torch

    record, work = reference.record, reference.folder / UNFINISHED
    work.mkdir(parents=True, exist_ok=True)
    progress = Progress(record["counts"]["tokens"], f"tokens of {record['benchmark']}")
    for passage, name in zip(reference.passages, reference.keys, strict=True):
        path = work / reference.path(name).name
        if path.is_file() or reference.path(name).is_file():
            progress.take_over(len(passage.ids))
            continue
        ids = torch.from_numpy(passage.input).to(model.device)
        keep(path, states=reader.hidden_states(model, ids)[-len(passage.ids) :])
        progress.step(len(passage.ids))
    keep(work / reference.path(reference.head).name, **reader.head_weights(model))
    (reference.folder / STATES).mkdir(exist_ok=True)
    for path in work.iterdir():
        path.replace(reference.folder / STATES / path.name)
    work.rmdir()


def keep(path: Path, **tensors: "Tensor") -> None:
    """Write float32 tensors by name."""
    shapes = {name: ("F32", tuple(tensor.shape)) for name, tensor in tensors.items()}
    write_tensors(path, shapes, tensors.values())


def kept(path: Path) -> "dict[str, Tensor]":
    """What `keep` wrote."""
    return {name: read_tensor(entry) for name, entry in read_header(path)[0].items()}


def passages_table(reference: Reference) -> "DataFrame":
    """A row a passage, in the columns COLUMNS."""
    import pandas

    both = zip(reference.passages, reference.keys, strict=True)
    rows = [(p.problem_id, p.sample, p.prompt, p.ids, name) for p, name in both]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def read_reference(folder: Path) -> Reference:
    """A reference that was written; InputError if its files are not of one, or states are gone."""
    remedy = f"remove {folder / RECORD} and make it again (read_derivative.py)"
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{folder / RECORD}: is no {FORMAT}; {remedy}")
    table = read_table(folder / PASSAGES)
    passages = [
        Passage(str(row.problem_id), int(row.sample), *map(np.asarray, (row.prompt_ids, row.ids)))
        for row in table.itertuples()
    ]
    if read_digest(passages) != record["read"]:
        raise InputError(f"{folder}: its files are not of one reference; {remedy}")
    reference = Reference(folder, record, passages, table["states"].tolist())
    missing = [path for path in reference.paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{folder / STATES}: lacks {len(missing)} of the {len(reference.paths)} files that the"
            f" reference needs, such as {missing[0].name}; {remedy}"
        )
    return reference
