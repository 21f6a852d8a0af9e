"""What is read: completions of the derivative, with the very prompts that they were sampled from.

Of every problem the samples 0, 1, 2 .. are read, as many as asked for: each has a seed of its own,
so these are a draw like any other, the same for all models, and a grown pool does not change it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lowrank.errors import InputError
from lowrank.files import read_json, read_table
from lowrank.pools import keyed, listed, need_columns
from lowrank.sampling import prompts

if TYPE_CHECKING:
    from pandas import DataFrame
    from transformers import PreTrainedTokenizerFast

NEEDED = ("problem_id", "sample", "prompt_tokens", "completion", "completion_tokens",
          "finish_reason")  # fmt: skip
PROMPT = {"system", "user", "think_prefix", "tokenizer_sha256", "end_tokens", "ids_sha256"}
COUNTS = {"completions", "completion_tokens"}
REMEDY = "sample the derivative again: completions that are kept are taken"


@dataclass(frozen=True)
class Passage:
    """A completion as it is read: what was generated from a prompt, or its beginning.

    prompt, ids: int32 token ids; ids end with the end token where the completion ended by itself
    and all of it is read.
    """

    problem_id: str
    sample: int
    prompt: NDArray[np.int32]
    ids: NDArray[np.int32]

    @property
    def input(self) -> NDArray[np.int64]:
        """What a model is shown: its last len(ids) outputs are the distributions of ids."""
        shown: NDArray[np.int64] = np.concatenate([self.prompt, self.ids[:-1]]).astype(np.int64)
        return shown


@dataclass(frozen=True)
class Chosen:
    """The passages, by problem (in the benchmark's order) and sample; what could not be read."""

    passages: list[Passage]
    left_out: dict[str, int]  # reason -> completions


def choose(
    samples: Sequence[Path],
    problems: Path,
    tokenizer_folder: Path,
    model: dict[str, str],
    benchmark: str,
    count: int,
    tokens: int,
) -> tuple[Chosen, dict[str, Any]]:
    """Passages of a model's samples of a benchmark, and the prompts' part of their provenance.

    samples: all parts of the pool (.parquet), each with its provenance (.json) beside it.
    problems: table with problem_id and problem. model: name, sha256 (`served_digest`) and dtype of
    the model that must have made them, as it is served. count: completions a problem; tokens: of
    each at most.
    InputError for samples of another model, benchmark, prompt or tokenizer, for a table that lacks
    rows or whose ids do not fit its text's record, and if a problem has fewer than `count`.
    """
    records = [read_json(path.with_suffix(".json")) for path in samples]
    wanted = {
        "model": model["name"],
        "weights": model["sha256"],
        "dtype": model["dtype"],
        "benchmark": benchmark,
    }
    for path, record in zip(samples, records, strict=True):
        _check_record(path, record, wanted)
        if record["prompt"] != records[0]["prompt"]:
            raise InputError(f"{path}: was sampled with other prompts than {samples[0]}; {REMEDY}")
    shared = records[0]["prompt"]
    if prompts.tokenizer_digest(tokenizer_folder) != shared["tokenizer_sha256"]:
        raise InputError(
            f"{tokenizer_folder}: is another tokenizer than the one that {samples[0]} was sampled"
            " with; give that one"
        )
    tokenizer = prompts.load_tokenizer(tokenizer_folder)
    asked = rebuilt_prompts(problems, tokenizer, shared)
    tables = [_table(path, record) for path, record in zip(samples, records, strict=True)]
    rows = {
        (row["problem_id"], row["sample"]): row
        for table in tables
        for row in table[table["sample"] < count].to_dict("records")
    }
    lacking = [f"{p}#{n}" for p in asked for n in range(count) if (p, n) not in rows]
    if lacking:
        raise InputError(
            f"{samples[0].parent}: lacks {len(lacking)} of the {count} samples of every problem"
            f" that are to be read: {listed(lacking, 5)}; give every part, or read fewer"
        )
    made: list[Passage] = []
    left_out: Counter[str] = Counter()
    for problem, prompt in asked.items():
        for number in range(count):
            row, where = rows[problem, number], f"{samples[0].parent}: {problem}#{number}"
            if row["prompt_tokens"] != len(prompt):
                raise InputError(
                    f"{where} has a prompt of {row['prompt_tokens']} tokens, {len(prompt)} were"
                    f" expected; {REMEDY}"
                )
            ids, reason = generated_ids(row, tokenizer, shared["end_tokens"], where)
            if reason:
                left_out[reason] += 1
            else:
                made.append(Passage(problem, number, prompt, ids[:tokens]))
    empty = sorted(asked.keys() - {passage.problem_id for passage in made})
    if empty:
        raise InputError(
            f"{samples[0].parent}: no completion of {listed(empty, 5)} can be read back as tokens;"
            f" {REMEDY}"
        )
    return Chosen(made, dict(left_out)), shared


def _check_record(path: Path, record: dict[str, Any], wanted: dict[str, str]) -> None:
    """InputError unless a table's provenance says that it is of what is wanted."""
    try:
        found = {
            "model": record["model"]["name"],
            "weights": record["model"]["sha256"],
            "dtype": record["engine"]["dtype"],
            "benchmark": record["benchmark"]["name"],
        }
        whole = record["prompt"].keys() >= PROMPT and record["counts"].keys() >= COUNTS
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(
            f"{path.with_suffix('.json')}: is no provenance of a table of samples; {REMEDY}"
        )
    for what, value in wanted.items():
        if found[what] != value:
            raise InputError(
                f"{path}: its {what} is {found[what]!r}, {value!r} was expected; what is read must"
                " be completions of the derivative itself, as it is served"
            )


def rebuilt_prompts(
    problems: Path, tokenizer: "PreTrainedTokenizerFast", shared: dict[str, Any]
) -> dict[str, NDArray[np.int32]]:
    """problem_id -> token ids of its prompt, made as sampling makes them and held against it.

    shared: `prompt` of the provenance. InputError if a prompt is not the one that was sampled.
    """
    table = read_table(problems)
    need_columns(table, ("problem_id", "problem"), str(problems))
    ids = table["problem_id"].astype(str)
    if set(ids) != set(shared["ids_sha256"]) or ids.duplicated().any():
        raise InputError(f"{problems}: has other problems than were sampled; {REMEDY}")
    made = {}
    for problem_id, problem in zip(ids, table["problem"], strict=True):
        prompt = prompts.prompt_ids(
            tokenizer, shared["system"], shared["user"], shared["think_prefix"], problem
        )
        if prompts.ids_digest(prompt) != shared["ids_sha256"][problem_id]:
            raise InputError(
                f"{problems}: the prompt of problem {problem_id} is not the one that was sampled"
                f" (another text, template or tokenizer); {REMEDY}"
            )
        made[problem_id] = np.array(prompt, dtype=np.int32)
    return made


def _table(path: Path, record: dict[str, Any]) -> "DataFrame":
    """A table of samples that has what its provenance counts."""
    table = read_table(path)
    need_columns(table, NEEDED, str(path))
    table = keyed(table, str(path))
    said = record["counts"]
    found = len(table), int(table["completion_tokens"].sum())
    if found != (said["completions"], said["completion_tokens"]) or (
        table.duplicated(["problem_id", "sample"]).any()
    ):
        raise InputError(
            f"{path}: has {found[0]} completions of {found[1]} tokens in all, its provenance counts"
            f" {said['completions']} of {said['completion_tokens']}; {REMEDY}"
        )
    return table


def generated_ids(
    row: dict[str, Any], tokenizer: "PreTrainedTokenizerFast", ends: Sequence[int], where: str
) -> tuple[NDArray[np.int32], str]:
    """The token ids of a completion, its end token included; or why they are not known, in words.

    Tables made before ids were kept have the text alone: it is tokenised, which counts if it gives
    as many tokens as were generated and the same text again.
    InputError for ids that contradict the rest of the row.
    """
    ended = row["finish_reason"] == "stop"
    length = int(row["completion_tokens"])
    kept = row.get("completion_ids")
    if kept is None:
        text = row["completion"]
        ids = tokenizer.encode(text, add_special_tokens=False)
        if ended and len(ends) != 1:
            return np.empty(0, np.int32), "no ids are kept, and several tokens may have ended it"
        ids += list(ends) * ended
        if len(ids) != length or prompts.completion_text(tokenizer, ids, ends) != text:
            return np.empty(0, np.int32), "no ids are kept, and its text has other tokens"
        return np.array(ids, dtype=np.int32), ""
    ids = np.asarray(kept, dtype=np.int32)
    if len(ids) != length or (ended and (not length or int(ids[-1]) not in ends)):
        raise InputError(
            f"{where} has {len(ids)} token ids, {length} were generated"
            + (", the last one an end token" if ended else "")
            + f"; the table was changed or cut: {REMEDY}"
        )
    if not length:
        return ids, "nothing was generated"
    return ids, ""
