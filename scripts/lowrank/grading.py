"""Completions to grades: the answer each gives, its voting class, and whether it is right."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

from lowrank.answers import RULES, extract, integer, rational, tidy
from lowrank.errors import InputError
from lowrank.judges import NUMBER, Judges, Place, Verdict
from lowrank.pools import complete_pool, listed, need_columns, problem_name

if TYPE_CHECKING:
    from pandas import DataFrame

ANSWER_TYPES = ("any", "integer")
LONGEST_ANSWER = 2000  # characters that are still handed to math-verify
LEAST_MEMORY = 256 * 2**20  # bytes; math-verify itself takes half of that
DEEPEST_ANSWER = 100  # and nested braces
VERDICTS = ("answer", "correct", "extracted", "unjudged")
SHOWN = 200  # characters of an overlong answer that are kept in the table


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
    problems: problem_id, answer (text, or a whole number).
    answer_type "integer": only integers are answers, compared as integers. "any": whatever is
        equal to the gold in spelling, as an integer, or by math-verify.
    reasoning_end, rule: see `answers.extract`. time_limit, memory_limit: see `judges.ask`.

    Returns one row a sample, ordered by problem (as in `problems`) and sample:
        answer (str): the voting class: answers of a problem that mean the same have the same text,
            the right ones the gold's; null where no answer was given.
        correct (bool)
        extracted (str): the answer as written.
        unjudged (str): why an answer could not be judged; null where it could. It is not correct.
    Raises InputError for duplicate or missing samples and unknown problems, listing them.
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

    grades = samples.drop(columns=["completion", "completion_ids"], errors="ignore").rename(
        columns=_spared(samples.columns)
    )
    nothing = (None, False, None)
    verdicts = [nothing if pair[1] is None else judged[pair] for pair in pairs]
    grades.insert(2, "answer", [verdict[0] for verdict in verdicts])
    grades.insert(3, "correct", [verdict[1] for verdict in verdicts])
    grades.insert(4, "extracted", [None if text is None else _shown(text) for text in written])
    grades.insert(5, "unjudged", [verdict[2] for verdict in verdicts])
    for column in grades.select_dtypes("object"):
        grades[column] = _storable(grades[column].tolist())
    return grades


def grade_files(
    samples: Sequence[str], problems: str, output: str, **options: str | float | None
) -> None:
    """`grade` from files (shards of one pool) to a file; says on stderr what was found."""
    import sys

    import pandas

    from lowrank.files import read_table, write_table

    pool = pandas.concat([read_table(path) for path in samples], ignore_index=True)
    grades = grade(pool, read_table(problems), **options)
    write_table(output, grades)
    print(summary(grades), file=sys.stderr)


def summary(grades: "DataFrame") -> str:
    """A few lines for a log: counts, and every answer that could not be judged."""
    given, written = grades["answer"].notna().sum(), grades["extracted"].notna().sum()
    unjudged = grades[grades["unjudged"].notna()]
    lines = [
        f"{len(grades)} completions: {grades['correct'].sum()} right, "
        f"{given - grades['correct'].sum()} wrong, {len(grades) - written} without an answer, "
        f"{written - given} whose answer is not of the benchmark's type; "
        f"{len(unjudged)} could not be judged and count as wrong"
    ]
    for row in unjudged.itertuples():
        start = "".join(c if c.isprintable() else "?" for c in row.extracted[:60])
        lines.append(f"  {row.problem_id}#{row.sample}: {row.unjudged}: {start}")
    return "\n".join(lines)


# --- what is checked of the tables ------------------------------------------------------------


def gold_answers(problems: "DataFrame") -> dict[str, str]:
    """problem_id -> answer as text; InputError for a missing column, answer or a repeated id."""
    need_columns(problems, ("problem_id", "answer"), "the problems")
    golds: dict[str, str] = {}
    for name, answer in zip(problems["problem_id"], problems["answer"], strict=True):
        name = problem_name(name)
        if name in golds:
            raise InputError(f"the problems name {name!r} twice; every problem_id must be unique")
        if isinstance(answer, float) and answer.is_integer():
            answer = int(answer)
        if answer is None or answer != answer or not str(answer).strip():
            raise InputError(f"problem {name!r} has no answer in the table of problems")
        golds[name] = str(answer)
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


# --- judging ----------------------------------------------------------------------------------

Judged = dict[tuple[str, str | None], tuple[str | None, bool, str | None]]
"""(problem_id, answer as written) -> (voting class, correct, why it could not be judged)."""


def judge_integers(golds: dict[str, str], pairs: Iterable[tuple[str, str | None]]) -> Judged:
    """Answers of an integer benchmark: anything but an integer is no answer."""
    right = {name: integer(gold, equation=True) for name, gold in golds.items()}
    wrong_type = [name for name, gold in right.items() if gold is None]
    if wrong_type:
        raise InputError(
            f"the answers of problems {listed(wrong_type)} are no integers; "
            "grade these problems with --answer-type any"
        )
    judged: Judged = {}
    for name, text in set(pairs):
        if text is not None:
            number = integer(text, equation=True)
            judged[name, text] = (number, number == right[name], None)
    return judged


def judge_any(
    golds: dict[str, str],
    pairs: Iterable[tuple[str, str | None]],
    judges: Judges,
) -> Judged:
    """Answers of any kind: by spelling, as integers, else by math-verify."""
    written: dict[str, dict[str, list[str]]] = {name: {} for name in golds}
    for name, text in sorted({pair for pair in pairs if pair[1] is not None}):
        written[name].setdefault(_plain(text), []).append(text)

    correct: dict[tuple[str, str], bool] = {}
    unjudged: dict[tuple[str, str], str] = {}
    places: dict[tuple[str, str], Place] = {}
    asked: list[tuple[str, str]] = []
    for name, gold in golds.items():
        for text in written[name]:
            key = name, text
            known = _same_by_sight(text, tidy(gold))
            if known is not None:
                correct[key] = known
            elif reason := _out_of_bounds(text):
                correct[key], unjudged[key] = False, reason
            else:
                asked.append(key)
    for key, verdict in _right(golds, asked, judges).items():
        correct[key] = verdict.value is True
        if verdict.reason:
            unjudged[key] = verdict.reason
        elif not correct[key]:
            places[key] = verdict.value

    wrong = {
        name: [t for t in texts if not correct[name, t] and (name, t) not in unjudged]
        for name, texts in written.items()
    }
    classes = voting_classes(wrong, places, judges)
    judged: Judged = {}
    for name, texts in written.items():
        gold = integer(golds[name]) or _shown(tidy(golds[name]))
        for text, spellings in texts.items():
            vote = gold if correct[name, text] else classes.get((name, text), _shown(text))
            for spelling in spellings:
                judged[name, spelling] = (vote, correct[name, text], unjudged.get((name, text)))
    return judged


def _right(
    golds: dict[str, str], asked: list[tuple[str, str]], judges: Judges
) -> dict[tuple[str, str], Verdict]:
    """math-verify's verdicts on (problem_id, answer).

    What cannot be judged against a gold that is a plain integer is not tried against another.
    """

    def ask(keys: list[tuple[str, str]]) -> list[Verdict]:
        return judges.ask([("right", tidy(golds[name]), text) for name, text in keys])

    plain = {name for name, gold in golds.items() if integer(gold) is not None}
    first = {text: (name, text) for name, text in reversed(asked) if name in plain}
    tried = sorted(first.values())
    verdicts = dict(zip(tried, ask(tried), strict=True))
    rest = []
    for key in asked:
        if key not in verdicts:
            earlier = verdicts.get(first.get(key[1], key))
            if earlier and earlier.reason:
                verdicts[key] = earlier
            else:
                rest.append(key)
    verdicts.update(zip(rest, ask(rest), strict=True))
    return verdicts


def _same_by_sight(first: str, second: str) -> bool | None:
    """Whether two answers are the same, where spelling or arithmetic decides it; else None."""
    if first == second or _words(first) == _words(second) != "":
        return True
    integers = integer(first), integer(second)
    if None not in integers:
        return integers[0] == integers[1]
    numbers = rational(first), rational(second)
    if None in numbers:
        return None
    if numbers[0] == numbers[1]:
        return True
    # 0.333333 for 1/3 is math-verify's to judge.
    return None if _near(*numbers) else False


def voting_classes(
    answers: dict[str, list[str]], places: dict[tuple[str, str], Place], judges: Judges
) -> dict[tuple[str, str], str]:
    """One name for all spellings of one answer: (problem_id, answer) -> voting class.

    answers: the distinct (tidy) answers of each problem. places: as `judges` gives them. Two are
    one class if they verify equal, or if a chain of such pairs connects them, so the order of
    arrival changes nothing. The class is named by an integer if it holds one, else by its
    shortest, then alphabetically first member.
    """
    numbers = {(n, t): integer(t) for n, texts in answers.items() for t in texts}
    # Only answers of one problem, one kind and (where they have one) one value can be the same.
    kinds: dict[tuple[str, str], list[tuple[complex | str, str]]] = {}
    for name, texts in answers.items():
        for text in texts:
            if words := _words(text):
                kinds.setdefault((name, f"words {words}"), []).append((text, text))
            if (value := rational(text)) is not None:
                kinds.setdefault((name, NUMBER), []).append((value, text))
            elif (name, text) in places:
                kind, value = places[name, text]
                kinds.setdefault((name, kind), []).append((value, text))
    same: list[tuple[tuple[str, str], tuple[str, str]]] = []
    candidates: list[tuple[str, str, str]] = []
    for (name, _), members in sorted(kinds.items()):
        for first, second in combinations(sorted(members, key=lambda member: member[1]), 2):
            if not _near(first[0], second[0]):
                continue
            known = _same_by_sight(first[1], second[1])
            if known:
                same.append(((name, first[1]), (name, second[1])))
            elif known is None:
                candidates.append((name, first[1], second[1]))
    verdicts = judges.ask([("same", a, b) for _, a, b in candidates])
    for (name, first, second), verdict in zip(candidates, verdicts, strict=True):
        if verdict.value:
            same.append(((name, first), (name, second)))
    parent = {key: key for key in numbers}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    for first, second in same:
        parent[root(first)] = root(second)
    members: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for key in numbers:
        members.setdefault(root(key), []).append(key)
    names: dict[tuple[str, str], str] = {}
    for keys in members.values():
        integers = sorted({numbers[key] for key in keys} - {None}, key=lambda n: (len(n), n))
        shortest = min((key[1] for key in keys), key=lambda text: (len(text), text))
        names.update(dict.fromkeys(keys, integers[0] if integers else shortest))
    return names


def _near(first: complex | Fraction | str, second: complex | Fraction | str) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return True  # no number to tell them apart by
    try:
        return abs(first - second) * 10_000 <= max(1, abs(first), abs(second))
    except OverflowError:
        return False  # one of them is too large for a float, the other is one


def _words(text: str) -> str:
    r"""An answer in words, undressed: \text{(B)}, (B) and b are one; "" if it is not in words."""
    for command in (r"\text", r"\textbf", r"\mathrm", r"\textit", r"\mathbf", r"\mbox"):
        text = text.replace(command + "{", "{")
    text = " ".join(text.replace(",", " ").strip("(){} .").split()).casefold()
    return text if text.replace(" ", "").replace("-", "").isalpha() else ""


def _plain(text: str) -> str:
    """An answer tidied, unless it is too long to be judged anyway."""
    return tidy(text) if len(text) <= LONGEST_ANSWER else text


def _out_of_bounds(text: str) -> str | None:
    """Why an answer is not even handed to math-verify; None if it is."""
    if len(text) > LONGEST_ANSWER:
        return f"longer than {LONGEST_ANSWER} characters"
    depth = deepest = 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    return f"nested deeper than {DEEPEST_ANSWER}" if deepest > DEEPEST_ANSWER else None


def _shown(text: str) -> str:
    """An answer for the table: whole, or if overlong its start and a digest."""
    if len(text) <= LONGEST_ANSWER:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[:SHOWN]}... ({len(text)} characters, sha256 {digest})"


# --- the samples' other columns ---------------------------------------------------------------


def _spared(columns: Iterable[str]) -> dict[str, str]:
    """New names for columns that the grades have under the same name: samples_answer."""
    names = {}
    for column in VERDICTS:
        if column in columns:
            names[column] = f"samples_{column}"
            while names[column] in columns:
                names[column] = f"samples_{names[column]}"
    return names


def _storable(values: list) -> list:
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
