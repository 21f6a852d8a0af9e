"""Grades to metrics: one figure a row, with what it was computed from and how far to trust it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lowrank.errors import InputError
from lowrank.majority import drawn_majority, g_pass_at_k, majority_curve, pass_at_k

if TYPE_CHECKING:
    from pandas import DataFrame

THRESHOLDS = (0.5, 0.75, 1.0)  # tau of G-Pass@k that are reported
COLUMNS = (
    "model",
    "benchmark",
    "metric",
    "k",
    "estimator",
    "value",
    "traces_low",
    "traces_high",
    "problems_low",
    "problems_high",
    "repeats_sd",
    "repeats_low",
    "repeats_high",
    "n_problems",
    "n_samples",
)


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
        return np.bincount(self.classes[self.classes >= 0], minlength=len(self.right)).tolist()

    @property
    def silent(self) -> int:
        return int((self.classes < 0).sum())


def pools(grades: "DataFrame", name: str = "the grades") -> list[Pool]:
    """The pools of a table of grades, ordered by problem_id; row order does not matter.

    grades: problem_id, sample, answer (null: none), correct.
    Raises InputError for repeated samples, pools of different size, and an answer that is right in
    one row and wrong in another.
    """
    missing = {"problem_id", "sample", "answer", "correct"} - set(grades.columns)
    if missing:
        raise InputError(f"{name} lack the column {', '.join(sorted(missing))}")
    if not len(grades):
        raise InputError(f"{name} are empty; grade some samples first")
    table = grades.assign(problem_id=grades["problem_id"].astype(str))
    table = table.sort_values(["problem_id", "sample"], kind="stable")
    twice = table[table.duplicated(["problem_id", "sample"])]
    if len(twice):
        keys = _listed(f"{row.problem_id}#{row.sample}" for row in twice.itertuples())
        raise InputError(f"{name} hold samples more than once: {keys}")
    sizes = table.groupby("problem_id")["sample"].size()
    if sizes.nunique() > 1:
        short = _listed(f"{problem} has {n}" for problem, n in sizes[sizes < sizes.max()].items())
        raise InputError(
            f"{name}: every problem needs {sizes.max()} samples, but {short}; "
            "sample and grade what is missing"
        )
    return [
        _pool(problem, rows["answer"].tolist(), rows["correct"].tolist(), name)
        for problem, rows in table.groupby("problem_id", sort=True)
    ]


def _pool(problem: str, answers: list, correct: list, name: str) -> Pool:
    given = [str(a) if a is not None and a == a else None for a in answers]
    verdicts: dict[str, bool] = {}
    for answer, verdict in zip(given, correct, strict=True):
        if answer is None and verdict:
            raise InputError(f"{name}: problem {problem} has a right sample without an answer")
        if answer is not None and verdicts.setdefault(answer, bool(verdict)) != bool(verdict):
            raise InputError(
                f"{name}: problem {problem} has the answer {answer!r} once right, once wrong; "
                "equal answers must have equal verdicts"
            )
    number = {answer: i for i, answer in enumerate(sorted(verdicts))}
    classes = np.array([-1 if a is None else number[a] for a in given], dtype=np.int64)
    right = np.array([verdicts[answer] for answer in number], dtype=bool)
    return Pool(problem, classes, right, np.array(correct, dtype=bool))


def _listed(items: Sequence[str], most: int = 10) -> str:
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A random generator for what `names` name: the same wherever and in whatever order it runs."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def model_metrics(
    grades: "DataFrame",
    model: str,
    benchmark: str,
    ks: Sequence[int],
    repeats: int = 16,
    seed: int = 0,
) -> "DataFrame":
    """All metrics of one model on one benchmark, one row each, in the order of `COLUMNS`."""
    import pandas

    whole = pools(grades, f"the grades of {model}")
    size = len(whole[0].classes)
    ks = sorted(set(ks))
    too_large = [k for k in ks if not 1 <= k <= size]
    if too_large:
        raise InputError(
            f"k = {_listed(map(str, too_large))} is not in 1..{size}, the number of samples "
            f"{model} has of each problem"
        )
    rows = []

    def row(metric: str, k: int, estimator: str, per_problem: NDArray, **more: float) -> None:
        value = math.fsum(per_problem) / len(per_problem)
        rows.append({"metric": metric, "k": k, "estimator": estimator, "value": value, **more})

    right = np.array([pool.correct.sum() for pool in whole])
    row("mean", 1, "exact", right / size)
    for k, values in zip(ks, pass_at_k(right, size, ks), strict=True):
        row("pass", k, "exact", values)
    with_pool = sorted({*ks, size})
    curves = np.array([majority_curve(p.votes, p.right, with_pool, p.silent) for p in whole])
    for i, k in enumerate(with_pool):
        row("maj", k, "exact", curves[:, i])
    for k in ks:
        draws = np.mean(
            [
                drawn_majority(
                    pool.classes,
                    pool.right,
                    k,
                    repeats,
                    generator(seed, model, benchmark, "protocol", k, pool.problem_id),
                )
                for pool in whole
            ],
            axis=0,
        )
        row(
            "maj",
            k,
            "protocol",
            draws,
            repeats_sd=float(draws.std(ddof=1)) if repeats > 1 else 0.0,
            repeats_low=float(draws.min()),
            repeats_high=float(draws.max()),
        )
    for k in ks:
        tails = np.array([g_pass_at_k(int(c), size, k) for c in right])
        for tau in THRESHOLDS:
            row(f"gpass-{tau:g}", k, "exact", tails[:, math.ceil(tau * k)])
        row("mgpass", k, "exact", 2 / k * tails[:, math.ceil(k / 2) + 1 :].sum(axis=1))
    row("no_answer", 1, "exact", np.array([pool.silent / size for pool in whole]))
    by_problem = grades.assign(problem_id=grades["problem_id"].astype(str))
    if "unjudged" in grades:
        _column(row, "unjudged", by_problem, by_problem["unjudged"].notna())
    if "finish_reason" in grades:
        _column(row, "truncated", by_problem, by_problem["finish_reason"] == "length")
    if "completion_tokens" in grades:
        _column(row, "completion_tokens", by_problem, by_problem["completion_tokens"])

    table = pandas.DataFrame(rows)
    table = table.assign(
        model=model, benchmark=benchmark, n_problems=len(whole), n_samples=size
    ).reindex(columns=COLUMNS)
    return table


def _column(row, metric: str, grades: "DataFrame", values: "DataFrame") -> None:
    per_problem = values.astype(float).groupby(grades["problem_id"], sort=True).mean()
    row(metric, 1, "exact", per_problem.to_numpy())


def write_metrics(path: str, table: "DataFrame") -> None:
    """A CSV whose bytes depend on the numbers to ten decimals only."""
    from lowrank.files import write_table

    text = table.copy()
    for column in text.columns[text.dtypes == "float64"]:
        text[column] = ["" if v != v else f"{v + 0.0:.10f}" for v in text[column].round(10)]
    write_table(path, text)


def metrics_of_files(
    grades: Sequence[tuple[str, str]],
    benchmark: str,
    ks: Sequence[int],
    output: str,
    repeats: int = 16,
    seed: int = 0,
) -> None:
    """The metrics of several models' grades, (name, path) each, to a CSV file or a folder."""
    from pathlib import Path

    import pandas

    from lowrank.files import read_table

    tables = {}
    for name, path in grades:
        if name in tables:
            raise InputError(f"--grades names {name!r} twice; every model needs its own name")
        tables[name] = read_table(path)
    results = [
        model_metrics(table, name, benchmark, ks, repeats, seed) for name, table in tables.items()
    ]
    target = Path(output)
    if target.suffix != ".csv":
        target = target / "metrics.csv"
    write_metrics(str(target), pandas.concat(results, ignore_index=True))
