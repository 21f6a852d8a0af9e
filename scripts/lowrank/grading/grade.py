"""Completions to grades: the answer each gives, its voting class, and whether it is right."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lowrank.errors import InputError
from lowrank.files import cell_text, read_table, write_table
from lowrank.grading.answers import RULES, extract, overlooked
from lowrank.grading.equality import Judged, judge_any, judge_integers, shown
from lowrank.grading.judges import Judges
from lowrank.pools import complete_pool, listed, need_columns, problem_name

if TYPE_CHECKING:
    from pandas import DataFrame

ANSWER_TYPES = ("any", "integer")
LEAST_MEMORY = 256 * 2**20  # bytes; math-verify itself takes half of that
GRADED = ("answer", "correct", "extracted", "unjudged", "overlooked")
EXAMPLES = 5  # refused answers that a log shows


def grade(
    samples: "DataFrame",
    problems: "DataFrame",
    *,
    answer_type: str = "any",
    reasoning_end: str | None = None,
    rule: str = "last",
    workers: int = 1,
    time_limit: float = 3.0,
    memory_limit: int = 2**30,
) -> "DataFrame":
    """Grade completions against the problems' answers.

    samples: problem_id, sample (0, 1, .. for every problem), completion; other columns are carried
        along (one named like a column below as samples_<name>), `completion` is not.
    problems: problem_id, answer (text or a number).
    answer_type "integer": only integers are answers, compared as integers. "any": whatever is
        equal to the gold (see `equality`).
    reasoning_end, rule: see `answers.extract`. time_limit, memory_limit: see `Judges`.

    Returns one row a sample, ordered by problem (as in `problems`) and sample:
        answer (str): the voting class: answers of a problem that mean the same have the same text,
            the right ones the gold's; null where no answer was given.
        correct (bool)
        extracted (str): the answer as written.
        unjudged (str): why an answer could not be judged; null where it could. It is not correct.
        overlooked (bool): no answer, but the text holds the right one (see `answers.overlooked`).
    Raises InputError for duplicate or missing samples, unknown problems, and golds that cannot be
    read, listing them.
    """
    if not time_limit > 0 or memory_limit < LEAST_MEMORY:
        raise InputError(
            f"the limits are {time_limit:g} s and {memory_limit / 2**20:.0f} MiB an answer; "
            f"more than 0 s and at least {LEAST_MEMORY / 2**20:.0f} MiB are needed"
        )
    if answer_type not in ANSWER_TYPES or rule not in RULES:
        raise InputError(
            f"answer_type {answer_type!r} must be one of {', '.join(ANSWER_TYPES)} "
            f"and rule {rule!r} one of {', '.join(RULES)}"
        )
    golds = gold_answers(problems)
    samples = complete_pool(samples, list(golds))
    written = [extract(text, reasoning_end, rule) for text in _texts(samples)]
    pairs = list(zip(samples["problem_id"], written, strict=True))
    if answer_type == "integer":
        judged = judge_integers(golds, pairs)
    else:
        with Judges(workers, time_limit, memory_limit) as judges:
            judged = judge_any(golds, pairs, judges)
    return _table(samples, golds, pairs, judged)


def _table(
    samples: "DataFrame",
    golds: Mapping[str, str],
    pairs: Sequence[tuple[str, str | None]],
    judged: Judged,
) -> "DataFrame":
    """The table that `grade` returns; pairs: every sample's problem and the answer as written."""
    grades = samples.drop(columns=["completion", "completion_ids"], errors="ignore").rename(
        columns=_spared(samples.columns)
    )
    nothing = (None, False, None)
    graded = [nothing if pair[1] is None else judged[pair] for pair in pairs]
    grades.insert(2, "answer", [answer for answer, _, _ in graded])
    grades.insert(3, "correct", [correct for _, correct, _ in graded])
    grades.insert(4, "extracted", [None if text is None else shown(text) for _, text in pairs])
    grades.insert(5, "unjudged", [reason for _, _, reason in graded])
    audit = [
        answer is None and overlooked(text, golds[name])
        for (answer, _, _), text, (name, _) in zip(graded, _texts(samples), pairs, strict=True)
    ]
    grades.insert(6, "overlooked", audit)
    for column in grades.select_dtypes("object"):
        grades[column] = _storable(grades[column].tolist())
    return grades


def grade_files(
    samples: Sequence[str],
    problems: str,
    output: str,
    reasoning_end: str | None = None,
    **options: Any,
) -> None:
    """`grade` from files (shards of one pool) to a file; says on stderr what was found."""
    import pandas

    pool = pandas.concat([read_table(path) for path in samples], ignore_index=True)
    grades = grade(pool, read_table(problems), reasoning_end=reasoning_end, **options)
    write_table(output, grades)
    print(summary(grades), file=sys.stderr)
    if reasoning_end:
        open_ended = sum(reasoning_end not in (text or "") for text in _texts(pool))
        if open_ended:
            said = f"no `{reasoning_end}` in {open_ended} of {len(pool)} completions: no answer"
            print(said, file=sys.stderr)


def summary(grades: "DataFrame") -> str:
    """Lines for a log: counts, examples of what was refused, every answer that was not judged."""
    given, written = grades["answer"].notna(), grades["extracted"].notna()
    unjudged = grades[grades["unjudged"].notna()]
    lines = [
        f"{len(grades)} completions: {grades['correct'].sum()} right, "
        f"{given.sum() - grades['correct'].sum()} wrong, {(~written).sum()} without an answer, "
        f"{(written & ~given).sum()} whose answer is not of the benchmark's type; "
        f"{len(unjudged)} could not be judged and count as wrong"
    ]
    refused = grades[written & ~given].drop_duplicates("extracted")
    for row in refused.head(EXAMPLES).itertuples():
        lines.append(f"  {row.problem_id}#{row.sample}: not of the type: {_start(row.extracted)}")
    if grades["overlooked"].any():
        lines.append(
            f"  {grades['overlooked'].sum()} without an answer hold the right one in their text"
        )
    for row in unjudged.itertuples():
        start = _start(row.extracted)
        lines.append(f"  {row.problem_id}#{row.sample}: {row.unjudged}: {start}")
    return "\n".join(lines)


def _start(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:60])


# --- what is checked of the tables ------------------------------------------------------------


def gold_answers(problems: "DataFrame") -> dict[str, str]:
    """problem_id -> answer as text; InputError for a missing column, answer or a repeated id."""
    need_columns(problems, ("problem_id", "answer"), "the problems")
    golds: dict[str, str] = {}
    for name, answer in zip(problems["problem_id"], problems["answer"], strict=True):
        name = problem_name(name)
        if name in golds:
            raise InputError(f"the problems name {name!r} twice; every problem_id must be unique")
        try:
            gold = cell_text(answer)
        except ValueError as error:
            raise InputError(f"the answer of problem {name!r} is {error}") from None
        if gold is None or not gold.strip():
            raise InputError(f"problem {name!r} has no answer in the table of problems")
        golds[name] = gold
    return golds


def _texts(samples: "DataFrame") -> list[str | None]:
    """Completions as text; a missing one is an empty one; InputError for anything else."""
    completions = samples["completion"]
    wrong = [
        f"{name}#{number}"
        for name, number, text in zip(
            samples["problem_id"], samples["sample"], completions, strict=True
        )
        if not isinstance(text, str) and not _is_missing(text)
    ]
    if wrong:
        raise InputError(f"completions that are no text: {listed(wrong)}")
    return [text if isinstance(text, str) else None for text in completions]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)


# --- the samples' other columns ---------------------------------------------------------------


def _spared(columns: Iterable[str]) -> dict[str, str]:
    """New names for columns that the grades have under the same name: samples_answer."""
    names = {}
    for column in GRADED:
        if column in columns:
            names[column] = f"samples_{column}"
            while names[column] in columns:
                names[column] = f"samples_{names[column]}"
    return names


def _storable(values: list[Any]) -> list[Any]:
    """A column as a file can hold it: text without lone surrogates; what Parquet has no type for
    (lists of different things, text among numbers) as JSON."""
    import pyarrow
    import pyarrow.parquet

    if all(isinstance(value, str) or _is_missing(value) for value in values):
        return [
            value.encode("utf-8", "replace").decode() if isinstance(value, str) else None
            for value in values
        ]
    try:
        column = pyarrow.table({"": pyarrow.array(values, from_pandas=True)})
        pyarrow.parquet.write_table(column, pyarrow.BufferOutputStream())
    except (pyarrow.ArrowException, UnicodeError, OverflowError):
        return [None if _is_missing(value) else _json(value) for value in values]
    return values


def _json(value: object) -> str:
    return json.dumps(value, default=lambda part: getattr(part, "tolist", part.__str__)())
