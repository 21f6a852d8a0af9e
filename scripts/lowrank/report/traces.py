"""One right and one wrong completion to read, fit to be shown whatever a model wrote."""

import unicodedata
from typing import Any

import pandas as pd

from lowrank.errors import InputError
from lowrank.report.evidence import SAMPLES, Evidence, parts, table

# Of a longer trace, this many characters are shown of its beginning and of its end.
SHOWN = 3000


def traces(found: Evidence) -> dict[str, Any]:
    """One right and one wrong trace of the lowest-rank variant, and the rule they were chosen by.

    A model's text is not trusted: the page escapes it, and what would not show as a character
    (control characters, lone surrogates, marks that turn the direction) is spelled out here.
    """
    experiment = found.experiment
    benchmark = next(iter(experiment["benchmarks"]))
    model = min(found.answered, key=lambda name: found.answered[name]["rank"])
    grades = found.grades[benchmark, model]
    # The first problem with both, so that the two can be compared; else the first of each.
    mixed = grades.groupby("problem_id", sort=False)["correct"].transform(
        lambda c: 0 < c.mean() < 1
    )
    there = grades[mixed] if mixed.any() else grades
    shown = []
    for right in (True, False):
        rows = there[there["correct"] == right]
        if len(rows):
            shown.append(_trace(found, benchmark, model, rows.iloc[0]))
    where = " on the first problem that it answers sometimes rightly, sometimes wrongly"
    return {
        "choice": f"Of {found.label(model)}{where if mixed.any() else ''}: its first right and"
        " first wrong completion, chosen by this rule and not by eye.",
        "shown": shown,
    }


def _trace(found: Evidence, benchmark: str, model: str, grade: pd.Series) -> dict[str, str]:
    """One completion with its problem, the right answer and the one it gave."""
    experiment = found.experiment
    problems = table(found.layout.problems(benchmark), ("problem_id", "problem", "answer"))
    problem = problems[problems["problem_id"] == grade["problem_id"]].iloc[0]
    names = parts(experiment)
    part = names[int(grade["sample"]) % len(names)]
    path = found.layout.samples(benchmark, model, part)
    samples = table(path, SAMPLES)
    at = (samples["problem_id"] == grade["problem_id"]) & (samples["sample"] == grade["sample"])
    if at.sum() != 1:
        raise InputError(
            f"{path}: {at.sum()} rows of problem {grade['problem_id']}, sample {grade['sample']},"
            " one expected; sample the model again"
        )
    sample = samples[at].iloc[0]
    judged = "right" if grade["correct"] else "wrong"
    answer = grade["answer"] if isinstance(grade["answer"], str) else "none"
    return {
        "title": f"Problem {grade['problem_id']}, sample {grade['sample']}: answered {answer}"
        f" ({judged}; the answer is {problem['answer']}), {sample['completion_tokens']} tokens,"
        f" ended by {sample['finish_reason']}",
        "problem": visible(str(problem["problem"])),
        "completion": visible(_shortened(str(sample["completion"]))),
    }


def _shortened(text: str) -> str:
    if len(text) <= 2 * SHOWN:
        return text
    left_out = len(text) - 2 * SHOWN
    return f"{text[:SHOWN]}\n\n[... {left_out:,} characters left out ...]\n\n{text[-SHOWN:]}"


def visible(text: str) -> str:
    """Text in which every character that would not print, or would reorder others, is named.

    >>> visible("a" + chr(0) + "b" + chr(0x202E))
    'a[U+0000]b[U+202E]'
    """
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
        else f"[U+{ord(char):04X}]"
        for char in text
    )
