"""A model's pass: its distributions against the derivative's, at every token that is read."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank.claims import check_output
from lowrank.devices import take_device
from lowrank.divergence import reader
from lowrank.divergence.kept import forget_others, key
from lowrank.divergence.kl import Compared, chunk_of, compare
from lowrank.divergence.passages import Passage
from lowrank.divergence.reference import (
    FORMAT,
    Reference,
    kept,
    read_reference,
    served_sha256,
    versions,
)
from lowrank.errors import InputError
from lowrank.files import read_table, write_json, write_table
from lowrank.progress import Progress
from lowrank.sampling import prompts

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

COLUMNS = (
    "problem_id",
    "sample",
    "position",
    "kl",
    "logp_derivative",
    "logp_model",
    "equal_top",
    "token",
    "text",
)


def read_model(
    model: Path,
    name: str,
    dtype: str,
    tokenizer: Path,
    targets: Sequence[tuple[Path, Path]],
    adapter: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    chunk: int | None = None,
) -> None:
    """Write a table, and beside it how it came to be (.json), for every reference.

    model, name, dtype, adapter: the model as it is served. targets: (folder of a reference, table
    to write). chunk: positions whose logits are in memory at a time; None: what 64 MiB hold.
    A completion that was read before is not read again: see lowrank.divergence.kept.
    InputError for a reference of another tokenizer, a token that the model does not know, and
    where a comparison gives no number.
    """
    import torch

    torch.set_num_threads(threads)
    here = take_device(device, need=reader.need(model, device))
    references = [read_reference(folder) for folder, _ in targets]
    for reference, (folder, output) in zip(references, targets, strict=True):
        check_output(output, [model, adapter, tokenizer, folder])
        if output.suffix != ".parquet":
            raise InputError(f"--reference: writes {output}; a name that ends in .parquet expected")
        if prompts.tokenizer_digest(tokenizer) != reference.record["prompt"]["tokenizer_sha256"]:
            raise InputError(f"{tokenizer}: is another tokenizer than that of {folder}; give that")
    what = {
        "name": name,
        "sha256": served_sha256(model),
        "adapter_sha256": None if adapter is None else served_sha256(adapter),
        "dtype": dtype,
    }
    loaded = None
    for reference, (_, output) in zip(references, targets, strict=True):
        folder = output.parent / "read" / output.stem
        folder.mkdir(parents=True, exist_ok=True)
        paths = [
            folder / f"{key([FORMAT, states, what, versions()])}.parquet"
            for states in reference.keys
        ]
        missing = sum(not path.is_file() for path in paths)
        print(
            f"{name} on {reference.record['benchmark']}: {len(paths)} completions, {missing} of"
            " them to be read",
            file=sys.stderr,
            flush=True,
        )
        if missing:
            loaded = loaded or reader.load_served(model, dtype, adapter, device)
            read_missing(loaded, reference, paths, tokenizer, model, chunk)
        table = numbered(reference, paths)
        said = {
            "reference": reference.record["digest"],
            "asked": reference.record["asked"],
            "model": what,
            "versions": versions(),
            "counts": {"completions": len(paths), "tokens": len(table)},
            "device": here,
        }
        write_json(output.with_suffix(".json"), said)
        write_table(output, table)
        forget_others(folder, paths)


def read_missing(
    model: Any,
    reference: Reference,
    paths: Sequence[Path],
    tokenizer: Path,
    folder: Path,
    chunk: int | None,
) -> None:
    """Read every passage that has no file yet, each into its own. folder: the model's."""
    known = model.get_input_embeddings().weight.shape[0]
    highest = max(int(max(p.prompt.max(), p.ids.max())) for p in reference.passages)
    if highest >= known:
        raise InputError(
            f"{folder}: knows {known} tokens, and token {highest} stands in {reference.folder}; the"
            " two cannot be compared there: set divergence to null in config.yaml"
        )
    words = prompts.load_tokenizer(tokenizer)
    head = reader.with_head(reference.folder, kept(reference.path(reference.head)), model.device)
    tokens = sum(len(passage.ids) for passage in reference.passages)
    progress = Progress(tokens, "tokens")
    for passage, states, path in zip(reference.passages, reference.keys, paths, strict=True):
        if path.is_file():
            progress.take_over(len(passage.ids))
            continue
        derivative = kept(reference.path(states))["states"]
        found = read_passage(model, head, passage, derivative, chunk)
        if not np.isfinite(found.kl).all():
            raise InputError(
                f"{folder}: no finite divergence at a token of problem {passage.problem_id}, sample"
                f" {passage.sample}; its logits are not all numbers"
            )
        write_table(path, rows(passage, found, words))
        progress.step(len(passage.ids))


def read_passage(
    model: Any, head: Any, passage: Passage, derivative: "Tensor", chunk: int | None = None
) -> Compared:
    """A model against the derivative at every token of a passage.

    head: the derivative's, as `reader.with_head` makes it; derivative: [len(ids), hidden], its
    last hidden states. The passage goes through the model alone, so nothing depends on what is
    read before or beside it; its logits are made chunk by chunk.
    """
    import torch

    ids = torch.from_numpy(passage.ids.astype(np.int64)).to(model.device)
    shown = torch.from_numpy(passage.input).to(model.device)
    ours = reader.hidden_states(model, shown)[-len(ids) :]
    theirs = derivative.to(model.device)
    size = chunk or chunk_of(model.get_output_embeddings().weight.shape[0])
    parts = []
    for at in range(0, len(ids), size):
        here = slice(at, at + size)
        both = reader.logits(head, theirs[here]), reader.logits(model, ours[here])
        parts.append(compare(*both, ids[here]))
    return Compared.joined(parts)


def rows(passage: Passage, found: Compared, tokenizer: Any) -> "pandas.DataFrame":
    """A row a token of a passage; columns as COLUMNS from `position` on."""
    import pandas

    texts = [prompts.completion_text(tokenizer, [token], ()) for token in passage.ids.tolist()]
    return pandas.DataFrame(
        {
            "position": np.arange(len(passage.ids), dtype=np.int32),
            "kl": found.kl,
            "logp_derivative": found.logp_derivative,
            "logp_model": found.logp_model,
            "equal_top": found.equal_top,
            "token": passage.ids.astype(np.int32),
            "text": texts,
        }
    )


def numbered(reference: Reference, paths: Sequence[Path]) -> "pandas.DataFrame":
    """All passages' rows below each other, in the columns COLUMNS."""
    import pandas

    parts = [
        read_table(path).assign(problem_id=passage.problem_id, sample=np.int32(passage.sample))
        for passage, path in zip(reference.passages, paths, strict=True)
    ]
    return pandas.concat(parts, ignore_index=True)[list(COLUMNS)]
