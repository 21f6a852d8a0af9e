"""From other tools' files to our tables of grades, completions and problems."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lowrank.claims import check_output
from lowrank.errors import InputError
from lowrank.files import write_table
from lowrank.grading.foreign import Line, Log, read
from lowrank.grading.grade import grade
from lowrank.pools import listed

if TYPE_CHECKING:
    import pandas

CLOSE = 1e-6  # scores are equal up to this


def import_files(
    inputs: Sequence[str],
    form: str,
    output: str,
    problems: str | None = None,
    metric: str | None = None,
    filter_name: str | None = None,
    ungraded: bool = False,
    workers: int = 1,
) -> None:
    """Write the table of grades (or, `ungraded`, of completions) of a tool's files.

    Several files are one pool: each adds samples to the problems of those before it.
    problems: where to write problem_id, problem (where known) and answer, for grade.py.
    Says on stderr what was read, the tool's own accuracy, and what was left out.
    """
    for target in [output, problems] if problems else [output]:
        check_output(target, inputs)
    if filter_name and form != "lm-eval":
        raise InputError(f"--filter {filter_name}: only lm-eval has filters, {form} has none")
    paths = [Path(path).resolve() for path in inputs]
    if len(set(paths)) < len(paths):
        raise InputError("--input names a file twice; its samples would count twice")
    logs = [read(path, form, metric, filter_name) for path in inputs]
    for path, log in zip(inputs, logs, strict=True):
        check_accuracy(path, log)
        print(f"{path}: {form}'s own accuracy ({log.metric}): {log.accuracy:.6f}", file=sys.stderr)
        for sentence in log.said:
            print(f"{path}: {sentence}", file=sys.stderr)
    lines = pooled(logs)
    golds = problems_of(lines)
    table = completions(lines) if ungraded else grades(lines, logs[0].metric, workers)
    if problems:
        write_table(problems, golds)
    write_table(output, table)
    said = f"{len(table)} samples of {len(golds)} problems"
    if not ungraded:
        said += f", accuracy {table.groupby('problem_id')['correct'].mean().mean():.6f}"
    print(said, file=sys.stderr)


def pooled(logs: Sequence[Log]) -> list[Line]:
    """The lines of several files, each numbered after the samples of those before it."""
    lines: list[Line] = []
    ends: dict[str, int] = {}
    for log in logs:
        before = dict(ends)
        for line in log.lines:
            line = replace(line, sample=before.get(line.problem_id, 0) + line.sample)
            end = line.sample + len(line.completions)
            ends[line.problem_id] = max(ends.get(line.problem_id, 0), end)
            lines.append(line)
    return lines


def grades(lines: Sequence[Line], metric: str, workers: int = 1) -> "pandas.DataFrame":
    """problem_id, sample, answer, correct, extracted, completion: a row a completion judged.

    correct: what the tool says; where it keeps only how many of several are right, see `settled`.
    answer: the gold where it is right, else what was extracted; null where that is the gold's text,
        which the tool did not accept. Equal texts are one vote, other writings of a value are not.
    """
    import pandas

    known = settled(lines, metric, workers)
    rows = []
    for line, right in zip(lines, known, strict=True):
        whole = len(line.completions) == len(line.answers)
        for i, (answer, correct) in enumerate(zip(line.answers, right, strict=True)):
            vote = line.gold if correct else (answer if answer != line.gold else None)
            text = line.completions[i] if whole else None
            rows.append((line.problem_id, line.sample + i, vote, correct, answer, text))
    columns = ["problem_id", "sample", "answer", "correct", "extracted", "completion"]
    table = pandas.DataFrame(rows, columns=columns)
    twice = table[table.duplicated(["problem_id", "sample"])]
    if len(twice):
        keys = listed(f"{row.problem_id}#{row.sample}" for row in twice.itertuples())
        raise InputError(f"samples that occur more than once in a file: {keys}")
    return table


def completions(lines: Sequence[Line]) -> "pandas.DataFrame":
    """problem_id, sample, completion of everything sampled, judged or not."""
    import pandas

    rows = [
        (line.problem_id, line.sample + i, text)
        for line in lines
        for i, text in enumerate(line.completions)
    ]
    return pandas.DataFrame(rows, columns=["problem_id", "sample", "completion"])


def settled(lines: Sequence[Line], metric: str, workers: int = 1) -> list[list[bool]]:
    """Whether each completion that was judged is right.

    A tool that keeps a mean over several completions does not say which of them are right, but
    where none or all are. Elsewhere they are judged here, and must be as many as the tool counts.
    Raises InputError where they are not, and for a score that does not say so.
    """
    known: list[list[bool]] = []
    unsaid = []
    for i, line in enumerate(lines):
        judged = len(line.answers)
        right = line.score * judged
        if not judged or abs(right - round(right)) > CLOSE * judged or not 0 <= right <= judged:
            raise InputError(
                f"problem {line.problem_id}: {metric} is {line.score:g} over {judged} completions;"
                " a share of right ones is needed: name another with --metric, or write the"
                " completions alone with --ungraded"
            )
        known.append([round(right) == judged] * judged)
        if 0 < round(right) < judged:
            unsaid.append(i)
    ours = _judged([lines[i] for i in unsaid], workers)
    differ = []
    for i, found in zip(unsaid, ours, strict=True):
        known[i] = found
        right = round(lines[i].score * len(found))
        if sum(found) != right:
            differ.append(f"{lines[i].problem_id} ({right} of {len(found)}, here {sum(found)})")
    if differ:
        raise InputError(
            f"{metric} is kept for several completions at once, and of the problems"
            f" {listed(differ, 5)} it cannot be told which are right; write the completions alone"
            " with --ungraded and judge them with grade.py"
        )
    return known


def _judged(lines: Sequence[Line], workers: int) -> list[list[bool]]:
    """Whether `grade` takes the answers that were extracted for right."""
    import pandas

    found: dict[int, list[bool]] = {}
    for size in {len(line.answers) for line in lines}:  # `grade` takes pools of one size
        chosen = [i for i, line in enumerate(lines) if len(line.answers) == size]
        rows = [
            (str(i), number, None if answer is None else f"\\boxed{{{answer}}}")
            for i in chosen
            for number, answer in enumerate(lines[i].answers)
        ]
        samples = pandas.DataFrame(rows, columns=["problem_id", "sample", "completion"])
        golds = {"problem_id": [str(i) for i in chosen], "answer": [lines[i].gold for i in chosen]}
        graded = grade(samples, pandas.DataFrame(golds), workers=workers)
        for i in chosen:
            found[i] = graded["correct"][graded["problem_id"] == str(i)].tolist()
    return [found[i] for i in range(len(lines))]


def problems_of(lines: Sequence[Line]) -> "pandas.DataFrame":
    """problem_id, problem, answer; InputError where a problem has two answers."""
    import pandas

    known: dict[str, Line] = {}
    for line in lines:
        first = known.setdefault(line.problem_id, line)
        if (first.gold, first.task) != (line.gold, line.task):
            raise InputError(
                f"problem {line.problem_id} has the answers {first.gold!r} and {line.gold!r}"
                f" ({first.task} {line.task}): these are several tasks; import each on its own"
            )
    rows = [(name, line.question, line.gold) for name, line in known.items()]
    return pandas.DataFrame(rows, columns=["problem_id", "problem", "answer"])


def check_accuracy(path: str, log: Log) -> None:
    """The mean over problems of their samples' scores is what the tool itself reports."""
    scores: dict[str, list[float]] = {}
    for line in log.lines:
        scores.setdefault(line.problem_id, []).append(line.score)
    means = [sum(values) / len(values) for values in scores.values()]
    mean = sum(means) / len(means)
    if abs(mean - log.accuracy) > CLOSE:
        raise InputError(
            f"{path}: says that its accuracy is {log.accuracy:.6f}, but the scores of its samples"
            f" give {mean:.6f}; it may have been cut or edited"
        )
