"""Which answers are the same: judging against the gold and voting among the rest, by one equality.

Every answer is read once into a form (`readings` by sight, `algebra` in a killable process), and
equal forms are equal answers: nothing is compared in pairs. Only what has no form is, by
math-verify, and of that a bounded number.
"""

import hashlib
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from typing import TypeVar

from lowrank.errors import InputError
from lowrank.grading.forms import OTHER, Form, alike, kind, numbers, ordered
from lowrank.grading.judges import UNREADABLE, Judges
from lowrank.grading.numerals import bare, integer
from lowrank.grading.readings import (
    LONGEST_ANSWER,
    Gold,
    Reading,
    beside,
    is_variable,
    plain,
    read,
    stated,
)
from lowrank.pools import listed

Key = TypeVar("Key")

COMPARISONS = 300  # pairs of a problem's answers without a form that math-verify is asked about
SHOWN = 200  # characters of an overlong answer that are kept in the table

Judged = dict[tuple[str, str | None], tuple[str | None, bool, str | None]]
"""(problem_id, answer as written) -> (voting class, correct, why it could not be judged)."""


def judge_integers(golds: Mapping[str, str], pairs: Iterable[tuple[str, str | None]]) -> Judged:
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
    golds: Mapping[str, str], pairs: Iterable[tuple[str, str | None]], judges: Judges
) -> Judged:
    """Answers of any kind; InputError for golds that cannot be read, before anything is judged."""
    known = read_golds(golds, judges)
    written: dict[str, dict[str, list[str]]] = {name: {} for name in golds}
    for name, text in sorted({(name, text) for name, text in pairs if text is not None}):
        written[name].setdefault(plain(text), []).append(text)
    readings = {
        (name, text): read(text, known[name]) for name, texts in written.items() for text in texts
    }
    readings = _with_algebra(readings, judges)
    judged: Judged = {}
    for name, texts in written.items():
        gold = known[name]
        votes = _problem(gold, {text: readings[name, text] for text in texts}, name, judges)
        right = integer(golds[name]) or shown(gold.spelling)
        for text, spellings in texts.items():
            vote, reason = votes[text]
            for spelling in spellings:
                judged[name, spelling] = (vote or right, vote is None, reason)
    return judged


def read_golds(golds: Mapping[str, str], judges: Judges) -> dict[str, Gold]:
    """The golds as answers are read beside them; InputError names those that cannot be read."""
    spellings = {name: plain(gold) for name, gold in golds.items()}
    readings = _with_algebra({name: read(text) for name, text in spellings.items()}, judges)
    unread = [
        f"{name} ({readings[name].reason}: {shown(golds[name], 60)})"
        for name in golds
        if readings[name].reason
    ]
    if unread:
        raise InputError(
            f"the right answers of problems {listed(unread)} cannot be read; "
            "correct them in the table of problems (or raise the limits), nothing is graded before"
        )
    names = {name: stated(bare(text))[0] for name, text in spellings.items()}
    equations = _with_algebra(
        {
            name: Reading(algebra=text)
            for name, text in spellings.items()
            if is_variable(names[name])
        },
        judges,
    )
    return {
        name: Gold(
            text,
            names[name],
            readings[name].form,
            equations[name].form if name in equations else None,
        )
        for name, text in spellings.items()
    }


def _with_algebra(readings: dict[Key, Reading], judges: Judges) -> dict[Key, Reading]:
    """Readings with the forms that `algebra` gives; every text is read once."""
    texts = sorted({reading.algebra for reading in readings.values() if reading.algebra})
    found = dict(zip(texts, judges.ask([("form", text) for text in texts]), strict=True))
    return {
        key: replace(
            reading, form=found[reading.algebra].value, reason=found[reading.algebra].reason
        )
        if reading.algebra
        else reading
        for key, reading in readings.items()
    }


def _problem(
    gold: Gold, readings: Mapping[str, Reading], name: str, judges: Judges
) -> dict[str, tuple[str | None, str | None]]:
    """answer -> (voting class, None for the right one; why it could not be judged)."""
    votes: dict[str, tuple[str | None, str | None]] = {}
    forms: dict[str, Form] = {}
    for text, reading in readings.items():
        if text == gold.spelling:
            votes[text] = (None, None)
        elif reading.form is None:
            # Beside a gold in words, what is no mathematics has been compared by its words.
            known = reading.reason == UNREADABLE and kind(gold.form) == "words"
            votes[text] = (shown(text), None if known else reading.reason)
        else:
            forms[text] = beside(reading.form, gold.form)
            if alike(gold.form, forms[text]) or alike(gold.equation, forms[text]):
                votes[text] = (None, None)
    # What has no form is math-verify's to compare.
    formless = sorted(text for text, form in forms.items() if form == OTHER)
    if gold.form == OTHER:
        found = judges.ask([("same", gold.spelling, text) for text in formless])
        alike_gold = [text for text, same in zip(formless, found, strict=True) if same.value]
        votes |= dict.fromkeys(alike_gold, (None, None))
    wrong = {text: form for text, form in forms.items() if text not in votes}
    first = _by_math_verify([text for text in formless if text in wrong], name, judges)
    named = voting_classes(wrong, first)
    return votes | {text: (named[text], None) for text in wrong}


def _by_math_verify(texts: Sequence[str], name: str, judges: Judges) -> dict[str, str]:
    """answer without a form -> the first of them that it is the same as."""
    pairs = list(combinations(texts, 2))
    if len(pairs) > COMPARISONS:
        print(
            f"problem {name}: {len(pairs)} pairs of answers of unusual kinds; {COMPARISONS} are "
            "compared, in the others different spellings are different answers",
            file=sys.stderr,
        )
    replies = judges.ask([("same", *pair) for pair in pairs[:COMPARISONS]])
    first = {text: text for text in texts}
    for (one, other), reply in zip(pairs, replies, strict=False):
        if reply.value:
            new, old = sorted((first[one], first[other]))
            first = {text: new if kept == old else kept for text, kept in first.items()}
    return first


# --- voting -----------------------------------------------------------------------------------


def voting_classes(forms: Mapping[str, Form], first: Mapping[str, str]) -> dict[str, str]:
    """answer -> voting class: one name for all writings of one answer.

    forms: of the wrong answers of a problem. first: see `_by_math_verify`. Long decimals join what
    they round (`forms.alike`), an exact value if there is one. A class is named by an integer if
    it holds one, else by its shortest, then alphabetically first member.
    """
    groups: dict[Form, list[str]] = {}
    for text in sorted(forms):
        form = (*OTHER, first[text]) if text in first else forms[text]
        groups.setdefault(form, []).append(text)
    names: dict[str, str] = {}
    for classes in _merged(groups, forms):
        members = [text for form in classes for text in groups[form]]
        whole = {number for text in members if (number := integer(text)) is not None}
        integers = sorted(whole, key=lambda n: (len(n), n))
        shortest = min(members, key=lambda text: (len(text), text))
        names.update(dict.fromkeys(members, integers[0] if integers else shown(shortest)))
    return names


def _merged(groups: Mapping[Form, list[str]], forms: Mapping[str, Form]) -> list[list[Form]]:
    """The groups that are one class."""
    loose = {
        form
        for form, texts in groups.items()
        if all(any(number.rounded for number in numbers(forms[text])) for text in texts)
    }
    classes = [[form] for form in groups if form not in loose]
    # Only long decimals need a second look, and only at what begins with nearly their number.
    near: dict[int, list[list[Form]]] = {}
    for found in classes:
        for place in _places(found[0]):
            near.setdefault(place, []).append(found)
    for form in ordered(loose):
        places = _places(form)
        home = next((c for p in places for c in near.get(p, []) if alike(c[0], form)), None)
        if home is not None:
            home.append(form)
            continue
        classes.append([form])
        for place in places:
            near.setdefault(place, []).append(classes[-1])
    return classes


def _places(form: Form) -> list[int]:
    """Where a form's first number lies on a grid of 1/1000; two cells, so that neighbours meet."""
    first = next((number.value for number in numbers(form)), Fraction(0))
    cell = math.floor(first * 1000)
    return [cell, cell + 1]


def shown(text: str, most: int = LONGEST_ANSWER) -> str:
    """An answer for the table: whole, or if overlong its start and a digest."""
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[:SHOWN]}... ({len(text)} characters, sha256 {digest})"
