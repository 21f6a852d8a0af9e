r"""How an answer is read beside the gold: what a writing leaves out is read as the gold has it.

4343 is 4343_6 where the gold has a base, 28 is 28\% where it has a percent sign, 5 is x = 5 where
it has a name; where the gold has none, a name that the answer gives is left out. So whatever one
problem's answers are, equality among them is symmetric and transitive.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from lowrank.grading.forms import Form, alike, kind
from lowrank.grading.numerals import (
    Digits,
    Number,
    bare,
    based,
    digits_in_base,
    integer,
    named,
    number,
    percentage,
)
from lowrank.grading.writing import tidy

LONGEST_ANSWER = 2000  # characters that are still read
DEEPEST_ANSWER = 100  # and nested braces

_VARIABLE = r"(?:[a-z]|\\[a-z]+)(?:_(?:\{\w+\}|\w))?'?(?:\([a-z]\))?"
_VARIABLES = re.compile(rf"\(?{_VARIABLE}(?:[+\-,]{_VARIABLE})*\)?")
_RELATION = re.compile(r"[=<>]|\\(?:le|ge|neq|equiv)(?![A-Za-z])")
_COMMAS = re.compile(
    r"\s*(?:[,;]|\\&|\\text\s?\{[\s,]*(?:or|and)[\s,]*\}|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z]))[\s,;]*"
)


@dataclass(frozen=True)
class Reading:
    """What an answer is: its form, or the text that `algebra` gives a form to, or why neither."""

    form: Form = None
    algebra: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Gold:
    """What a problem's right answer says of how the others are read.

    spelling: tidy. name: what it calls its value ("" if it does not). form: of that value.
    equation: the form with the name where that is a variable, else None.
    """

    spelling: str
    name: str
    form: Form
    equation: Form = None

    @property
    def relates(self) -> bool:
        """Whether it states a relation and no value: 2x + 3y = 5."""
        return not self.name and _RELATION.search(self.spelling) is not None


def read(text: str, gold: Gold | None = None) -> Reading:
    """A tidy answer as it is read beside the gold; the gold itself beside None."""
    reason = out_of_bounds(text)
    value = text if reason or words(text) else body(text, gold)
    form = by_sight(value, gold and gold.form)
    if form is None and reason:
        return Reading(reason=reason)
    return Reading(form) if form is not None else Reading(algebra=letter(value))


def body(text: str, gold: Gold | None) -> str:
    """What of a tidy answer is read: units, currencies and names off, as the gold allows."""
    text = bare(text)
    name, value = stated(text)
    if not name or gold is None or name == gold.name:
        return value
    # x = 5 for y = 5, and y = 5 - x for x + y = 5, are compared as they stand.
    between = is_variable(gold.name) and is_variable(name)
    return text if between or gold.relates else value


def is_variable(name: str) -> bool:
    r"""Whether a name is a variable, or several: x, f(x), x+y, (x,y), and not N or \text{Area}."""
    return _VARIABLES.fullmatch(name) is not None


def stated(text: str) -> tuple[str, str]:
    """`numerals.named`, also of the values in a list: x = 1 or x = 2 is x = 1, 2."""
    name, value = named(text)
    if not name or "=" not in value:
        return name, value
    parts = [named(part) for part in _COMMAS.split(text)]
    if len(parts) == 1:
        return name, value.rpartition("=")[2].strip()  # x = 2a = 6
    name = _without_index(name)  # x_1 = 1, x_2 = 2
    if all(_without_index(part[0]) in (name, "") and "=" not in part[1] for part in parts):
        return name, ", ".join(part[1] for part in parts)
    return "", text


def _without_index(name: str) -> str:
    return re.sub(r"_(?:\{\w+\}|\w)$", "", name)


def by_sight(text: str, gold: Form = None) -> Form | None:
    """The form of a body that needs no algebra; None if it does.

    gold: the gold's form, None for the gold itself.
    """
    if digits := based(text):
        ten = digits.base == 10 and not isinstance(gold, Digits)
        return Number(Fraction(int(digits.digits))) if ten else digits
    whole = integer(text)
    if whole is not None:
        inside = digits_in_base(whole, gold.base) if isinstance(gold, Digits) else None
        return inside or number(text) or ("integer", whole)
    if len(text) > LONGEST_ANSWER:
        return None
    if isinstance(gold, Digits) and (digits := digits_in_base(text, gold.base)):
        return digits
    if (share := percentage(text)) is not None:
        return "percent", share
    spoken = words(text, anyhow=kind(gold) == "words")
    return number(text) or (("words", spoken) if spoken else None)


def beside(form: Form, gold: Form) -> Form:
    """A form as it is read beside the gold's: a percentage, a variable's range."""
    if kind(gold) == "percent" and isinstance(form, Number):
        return gold if alike(form, Number(gold[1] / 100)) else ("percent", form.value)
    if kind(form) == "percent" and isinstance(gold, Number):
        for value in (form[1], form[1] / 100):  # 28% may be meant as 28 or as 0.28
            if (value >= 1 or value != form[1]) and alike(gold, Number(value)):
                return gold
    if kind(gold) == "solutions" and kind(form) in ("interval", "union"):
        return "solutions", gold[1], form
    if kind(form) == "solutions" and kind(gold) != "solutions":
        return form[2]
    return form


_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")
_SHORT_WORDS = {"yes", "no", "odd", "one", "two", "six", "ten", "all", "any"}
_SPOKEN = re.compile(r"\\text\s?\{([^{}\\]*)\}")


def words(text: str, anyhow: bool = False) -> str:
    r"""An answer in words: \text{east}, East and east. are one; "" if it is not in words.

    Up to three letters without \text are algebra, unless they are a common word (or `anyhow`); so
    is one letter always: \text{(B)}, (B) and b are the variable b.
    """
    spoken = _SPOKEN.sub(r"\1", text)
    plain = " ".join(spoken.replace(",", " ").strip("(){} .").split()).casefold()
    found = plain.split(" ")
    if len(plain) == 1 or not all(_WORD.fullmatch(word) for word in found):
        return ""
    said = anyhow or "\\" in text
    return plain if said or any(len(w) > 3 or w in _SHORT_WORDS for w in found) else ""


def letter(text: str) -> str:
    r"""B of \text{(B)}, (B) and B; any other text as it is."""
    found = re.fullmatch(r"\(?\s?(?:\\text\s?\{)?\s?\(?\s?([A-Za-z])\s?\)?\s?\}?\s?\)?", text)
    return found[1] if found else text


def out_of_bounds(text: str) -> str | None:
    """Why an answer is not even read; None if it is."""
    if len(text) > LONGEST_ANSWER:
        return f"longer than {LONGEST_ANSWER} characters"
    depth = deepest = 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    return f"nested deeper than {DEEPEST_ANSWER}" if deepest > DEEPEST_ANSWER else None


def plain(text: str) -> str:
    """An answer tidied, unless it is not read anyway."""
    return text if out_of_bounds(text) else tidy(text)
