"""Forms: what answers are compared by. Equal forms are equal answers.

A form is a number, digits in a base, or a tuple of a kind and its parts: ("words", "east"),
("tuple", Number, Number), ("interval", start, end, open, open), ("expression", values), ...
"""

import hashlib
import math
import pickle
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from lowrank.grading.numerals import Number

Form = Any
OTHER: Form = ("other",)  # for answers without a form; equal to no answer, not even to itself


class UnreadableError(Exception):
    """Nothing can be made of an answer."""


def kind(form: Form) -> str:
    """The kind of a form; "" of numbers."""
    return form[0] if isinstance(form, tuple) else ""


def numbers(form: Form) -> Iterator[Number]:
    """All numbers in a form, in order."""
    if isinstance(form, Number):
        yield form
    elif isinstance(form, tuple):
        for part in form:
            yield from numbers(part)


def ordered(forms: Iterable[Form]) -> list[Form]:
    """Forms in one order, whatever order they come in: by kind, then by size."""
    return sorted(forms, key=_rank)


def _rank(form: Form) -> tuple[str, list[float], bytes]:
    sizes = [_size(number.value) for number in numbers(form)]
    return kind(form), sizes, hashlib.sha256(pickle.dumps(form)).digest()


def _size(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def alike(first: Form, second: Form) -> bool:
    """Whether two forms are equal, or one has long decimals where the other has what they round.

    0.333333 is 1/3 and 1.414214 the root of 2: the difference is at most half a unit in the sixth
    decimal, below 0.1 in the sixth significant digit. 0.33333 is itself and no other.
    """
    if OTHER in (first, second):
        return False
    if isinstance(first, Number) and isinstance(second, Number):
        return first == second or ((first.rounded or second.rounded) and _close(first, second))
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(alike, first, second))
    return bool(first == second)


def _close(first: Number, second: Number) -> bool:
    size = max(abs(first.value), abs(second.value))
    places = 6
    if size * 10 < 1:
        log = math.log10(size.numerator) - math.log10(size.denominator)
        places = 5 - math.floor(log)
    return bool(abs(first.value - second.value) * 10**places * 2 <= 1)
