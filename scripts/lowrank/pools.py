"""What a whole pool of samples is, and one problem's pool as the estimators take it.

A short pool, a repeated sample, models with different problems: an error that lists them, never a
silent zero.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lowrank.errors import InputError
from lowrank.files import cell_text

if TYPE_CHECKING:
    from pandas import DataFrame, Series

CORRECT = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class Pool:
    """What a model gave on one problem.

    classes: [N] int64, the voting class of each sample in order of sample number, numbered
        alphabetically by answer; -1 without an answer.
    right: [classes] bool.
    correct: [N] bool.
    """

    problem_id: str
    classes: NDArray[np.int64]
    right: NDArray[np.bool_]
    correct: NDArray[np.bool_]

    @property
    def votes(self) -> list[int]:
        counted = np.bincount(self.classes[self.classes >= 0], minlength=len(self.right))
        return [int(count) for count in counted]

    @property
    def silent(self) -> int:
        return int((self.classes < 0).sum())


def pools(grades: "DataFrame", name: str = "the grades") -> list[Pool]:
    """The pools of a table of grades, ordered by problem_id; row order does not matter.

    grades: problem_id, sample, answer (null: none), correct (true, false, 0 or 1).
    Raises InputError for repeated samples, pools of different size, an answer that is right in one
    row and wrong in another, and, with its row, for a cell that is no answer or not true or false.
    """
    need_columns(grades, ("problem_id", "sample", "answer", "correct"), name)
    if not len(grades):
        raise InputError(f"{name} are empty; grade some samples first")
    grades = keyed(grades, name)
    table = grades.assign(
        answer=_cells(grades, "answer", cell_text, name),
        correct=_cells(grades, "correct", _is_correct, name),
    )
    table = table.sort_values(["problem_id", "sample"], kind="stable")
    twice = table[table.duplicated(["problem_id", "sample"])]
    if len(twice):
        keys = listed(f"{row.problem_id}#{row.sample}" for row in twice.itertuples())
        raise InputError(f"{name} hold samples more than once: {keys}")
    sizes = table.groupby("problem_id")["sample"].size()
    if sizes.nunique() > 1:
        short = listed(f"{problem} has {n}" for problem, n in sizes[sizes < sizes.max()].items())
        raise InputError(
            f"{name}: every problem needs {sizes.max()} samples, but {short}; "
            "sample and grade what is missing, or use what all have (compare.py --intersect)"
        )
    return [
        _pool(problem, rows["answer"].tolist(), rows["correct"].tolist(), name)
        for problem, rows in table.groupby("problem_id", sort=True)
    ]


def _cells(grades: "DataFrame", column: str, read: Callable[[object], Any], name: str) -> "Series":
    """A column read cell by cell; InputError names the row of what cannot be."""
    import pandas

    found = []
    rows = zip(grades["problem_id"], grades["sample"], grades[column], strict=True)
    for problem, sample, cell in rows:
        try:
            found.append(read(cell))
        except ValueError as error:
            raise InputError(f"{name}: `{column}` of {problem}#{sample} is {error}") from None
    return pandas.Series(found, index=grades.index, dtype=object)


def _is_correct(cell: object) -> bool:
    correct = CORRECT.get(str(cell).strip().lower())
    if correct is None:
        raise ValueError(f"{cell!r}; true, false, 0 or 1 is needed")
    return correct


def _pool(problem: str, answers: list[str | None], correct: list[bool], name: str) -> Pool:
    known: dict[str, bool] = {}
    for answer, is_right in zip(answers, correct, strict=True):
        if answer is None and is_right:
            raise InputError(f"{name}: problem {problem} has a right sample without an answer")
        if answer is not None and known.setdefault(answer, is_right) != is_right:
            raise InputError(
                f"{name}: problem {problem} has the answer {answer!r} once right, once wrong; "
                "equal answers must be right or wrong alike"
            )
    number = {answer: i for i, answer in enumerate(sorted(known))}
    classes = np.array([-1 if a is None else number[a] for a in answers], dtype=np.int64)
    right = np.array([known[answer] for answer in number], dtype=bool)
    return Pool(problem, classes, right, np.array(correct, dtype=bool))


def complete_pool(samples: "DataFrame", names: Sequence[str]) -> "DataFrame":
    """The samples in order of problem and sample number, if they are a whole pool.

    A pool is whole when every problem in `names` has the same samples, numbered 0, 1, 2 .. without
    a gap, once each. Otherwise InputError lists what is unknown, repeated or missing.
    """
    need_columns(samples, ("problem_id", "sample", "completion"), "the samples")
    samples = keyed(samples, "the samples")
    order = {name: i for i, name in enumerate(names)}
    unknown = sorted(set(samples["problem_id"]) - set(order))
    if unknown:
        raise InputError(f"samples of problems that are not in the table: {listed(unknown)}")
    keys = list(zip(samples["problem_id"], samples["sample"], strict=True))
    if len(set(keys)) < len(keys):
        twice = [key for key, count in Counter(keys).items() if count > 1]
        raise InputError(f"samples that occur more than once: {_keys(twice)}")
    last = max(samples["sample"], default=-1)
    if not keys or min(samples["sample"]) < 0:
        raise InputError("the samples must be numbered 0, 1, 2 .. and there must be some")
    if len(keys) < len(names) * (last + 1):
        present = set(keys)
        missing = [(n, s) for n in names for s in range(last + 1) if (n, s) not in present]
        raise InputError(
            f"{len(missing)} of {len(names)} x {last + 1} samples are missing: {_keys(missing)}; "
            "every problem needs the same samples, so pass every shard"
        )
    key = samples["problem_id"].map(order)
    columns = ["problem_id", "sample"]
    columns += [column for column in samples.columns if column not in columns]
    samples = samples.assign(_order=key).sort_values(["_order", "sample"], kind="stable")
    return samples[columns].reset_index(drop=True)


def matched(grades: "Mapping[str, DataFrame]", intersect: bool = False) -> "dict[str, DataFrame]":
    """The grades, if all models have the same (problem_id, sample); else InputError that says who
    lacks what.

    intersect: cut them down to what all have instead: the problems that every model has, and of
    these the sample numbers that every model has of every problem, so that the pools are whole.
    """
    grades = {name: keyed(table, f"the grades of {name}") for name, table in grades.items()}
    keys = {
        name: list(zip(table["problem_id"], table["sample"], strict=True))
        for name, table in grades.items()
    }
    if intersect:
        kept = _common(keys.values())
        return {name: table[[key in kept for key in keys[name]]] for name, table in grades.items()}
    present = {name: set(pairs) for name, pairs in keys.items()}
    everything = set.union(*present.values())
    lacking = []
    for name, pairs in present.items():
        missing = sorted(everything - pairs)
        problems = sorted({p for p, _ in missing} - {p for p, _ in pairs})
        if problems:
            lacking.append(f"{name} lacks problems {listed(problems, 5)}")
        elif missing:
            lacking.append(f"{name} lacks {listed((f'{p}#{s}' for p, s in missing), 5)}")
    if lacking:
        raise InputError(
            f"the models have different samples: {'; '.join(lacking)}; grade what is missing, "
            "or compare on what all have, explicitly, with --intersect"
        )
    return grades


def _common(tables: Iterable[list[tuple[str, int]]]) -> set[tuple[str, int]]:
    """The (problem_id, sample) that `matched` keeps."""
    samples: list[dict[str, set[int]]] = []
    for pairs in tables:
        samples.append({})
        for problem, sample in pairs:
            samples[-1].setdefault(problem, set()).add(sample)
    problems = set.intersection(*map(set, samples))
    if not problems:
        raise InputError("the models have no problem in common; --intersect leaves nothing")
    numbers = set.intersection(*(of[problem] for of in samples for problem in problems))
    if not numbers:
        raise InputError(
            "no sample number is there for every problem and model; --intersect leaves nothing"
        )
    return {(problem, number) for problem in problems for number in numbers}


def pooled(tables: "Mapping[str, DataFrame]") -> "tuple[DataFrame, dict[str, str]]":
    """One model's grades on several benchmarks as one table, and the benchmark of each problem.

    tables: benchmark -> grades. A problem is then called <benchmark>/<problem_id>.
    """
    import pandas

    parts: list[DataFrame] = []
    origin: dict[str, str] = {}
    for benchmark, table in tables.items():
        table = keyed(table, f"the grades on {benchmark}")
        names = [f"{benchmark}/{name}" for name in table["problem_id"]]
        origin |= dict.fromkeys(names, benchmark)
        parts.append(table.assign(problem_id=names))
    return pandas.concat(parts, ignore_index=True), origin


def check_ks(ks: Sequence[int], size: int, model: str) -> None:
    """InputError if a k is not in 1..size, the samples a problem has."""
    wrong = [str(k) for k in ks if not 1 <= k <= size]
    if wrong:
        raise InputError(
            f"k = {listed(wrong)} is not in 1..{size}, the number of samples that {model} has "
            "of each problem; choose a smaller k or sample more"
        )


def keyed(table: "DataFrame", what: str) -> "DataFrame":
    """The table with problem_id as text and sample as whole numbers, whatever they are stored as.

    Raises InputError for a row without one, or with another sample number.
    """
    import pandas

    need_columns(table, ("problem_id", "sample"), what)
    names, numbers = [], []
    rows: Iterable[tuple[Any, Any]] = zip(table["problem_id"], table["sample"], strict=True)
    for row, (name, number) in enumerate(rows):
        try:
            names.append(cell_text(name))
        except ValueError as error:
            raise InputError(f"{what}: problem_id of row {row} is {error}") from None
        if names[-1] is None:
            raise InputError(f"{what}: row {row} has no problem_id")
        try:
            numbers.append(int(number) if isinstance(number, Integral) else _whole(float(number)))
        except (TypeError, ValueError):
            raise InputError(
                f"{what}: `sample` is {number!r} in row {row}; the column `sample` must hold whole"
                " numbers 0, 1, 2 .."
            ) from None
    return table.assign(
        problem_id=pandas.Series(names, index=table.index, dtype=object),
        sample=pandas.Series(numbers, index=table.index, dtype="int64"),
    )


def _whole(number: float) -> int:
    if number % 1 != 0:  # so it is of what is not finite
        raise ValueError
    return int(number)


def problem_name(value: object) -> str:
    """A problem_id as text; 3.0 is 3, as a column that once had a gap holds it."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def need_columns(table: "DataFrame", columns: Sequence[str], what: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        found = ", ".join(map(str, table.columns))
        raise InputError(f"{what} lack the column {', '.join(missing)}; found: {found}")


def _keys(keys: Iterable[tuple[str, int]]) -> str:
    return listed(f"{name}#{sample}" for name, sample in keys)


def listed(items: Iterable[str], most: int = 10) -> str:
    """Items for a message: the first few by name, the others by number."""
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
