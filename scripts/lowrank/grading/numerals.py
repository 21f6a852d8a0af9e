r"""Numbers as answers write them: with units, currencies, thousands marks, as decimals, fractions,
mixed numbers, percentages, in other bases. Nothing is evaluated that needs algebra.

Everything here is linear in the length of an answer, which is bounded besides.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from lowrank.grading.writing import tidy

LONGEST_NUMBER = 400  # characters a number may have, marks and units included
LAYERS = 12  # of groups, units and currencies that come off a number
LARGEST_EXPONENT = 4000  # of ten, in 1e3 and 5 \times 10^{3}
LONG_DECIMAL = 6  # significant digits from which a decimal may stand for a value that it rounds


@dataclass(frozen=True)
class Number:
    """An exact value, or a long decimal that may stand for a value next to it."""

    value: Fraction
    rounded: bool = False


@dataclass(frozen=True)
class Digits:
    """A whole number with its base: the digits as written, letters in capitals."""

    digits: str
    base: int


# --- what may stand around a number -----------------------------------------------------------

_UNIT_WORDS = (
    r"(?:degrees?|deg|[ckm]m|feet|foot|ft|inch(?:es)?|miles?|yards?|met(?:er|re)s?|units?|square"
    r"|sq|cubic|seconds?|secs?|minutes?|mins?|hours?|days?|weeks?|months?|years?|dollars?|cents?"
    r"|USD|kg|grams?|lbs?|pounds?|mph|km/h|people|ways|points?|coins?|students?)"
)
_NOT_A_UNIT = re.compile(
    r"\d|\b(?:hundred|thousand|million|billion|trillion|dozen|percent|per cent|or|and|mod|not"
    r"|base|half|halves|thirds?)\b|%",
    re.IGNORECASE,
)
_EXPONENT = r"(?:\^\{?[23]\}?)?"
_SUFFIX = re.compile(
    rf"\s?(?:(?P<text>\\text\s?\{{(?P<words>[^{{}}]*)\}}){_EXPONENT}|(?<![A-Za-z\\])(?P<unit>"
    rf"{_UNIT_WORDS}){_EXPONENT}|\^\{{?\\circ\}}?[CF]?|\\\$|\.+|\\\\?)\s?$"
)
# A currency; the letter of a choice; "answer: ", "The area is ".
_PREFIX = re.compile(
    r"^\s?(?:\\?\$|\\text\{\\?\$\}|£|€|\([A-E]\)(?=\\|\s)|\\text\{\s*\(?[A-E]\)?[:.]?\s*\}(?=.)"
    r"|\\text\{[A-Za-z ]{0,60}(?:[:=]|\b(?:is|are))\s*\}"
    r"|(?:[Tt]he |[Ff]inal ){0,2}[Aa]nswer(?: is|:| :)(?=\W))?\s?"
)
_WRAPPER = re.compile(
    r"^(?:\\text|\\(?:boxed|fbox|framebox)|\\color\{\w+\}|\\textcolor\{\w+\})?"
    r"\{(?P<inner>[^{}]*)\}$"
)


def undressed(answer: str) -> Iterator[str]:
    """An answer, tidy, then what is left of it as groups, units and currencies come off."""
    text = answer
    for _ in range(LAYERS):
        before = text
        text = tidy(text)
        yield text
        if wrapper := _WRAPPER.match(text):
            text = wrapper["inner"]
        suffix = _SUFFIX.search(text)
        if suffix and suffix.start() and not _NOT_A_UNIT.search(suffix["words"] or ""):
            text = text[: suffix.start()]
        text = _PREFIX.sub("", text)
        if text == before:
            return


def bare(answer: str) -> str:
    """An answer with everything off that `undressed` takes off."""
    *_, last = undressed(answer)
    return last


# --- what stands before an equals sign --------------------------------------------------------

# A name: letters, commands, |AB|, [ABC], f(3), a_{12}, \text{Area}, \overline{AB}, sums of them.
# Possessive throughout: what is no left side of an equation is seen to be none in one pass.
_ATOM = (
    r"(?:\\(?:text|overline|operatorname|vec|widehat|hat|bar)\s?\{[^{}=<>]{1,60}\}"
    r"|(?!\\(?:equiv|in|notin|le|ge|neq|pm|mp|text|cdot|times|frac|sqrt|cup|cap)(?![A-Za-z]))"
    r"\\?[A-Za-z]++(?:'|_(?:\{[\w\\, +-]{1,20}\}|\w))*+(?:\([\w\\, .+-]{1,30}\))?+)"
)
_LEFT_SIDE = re.compile(
    rf"(?P<label>[\s+|()\[\],\-]*+(?:{_ATOM}[\s+|()\[\],\-]*+){{1,9}}+)"
    r"(?P<sign>=|\\equiv(?![A-Za-z])|\\in(?![A-Za-z]))"
)
_NEARLY = re.compile(r"\s*\\(?:approx|simeq|doteq)(?![A-Za-z])\s*")
_SUM = re.compile(r"(?:[\d\s+*/().\-]|\\(?:cdot|times)(?![A-Za-z]))*+=")
_MODULUS = re.compile(
    r"(?:\\pmod|\\bmod|\\mod|\(\s?(?:mod|\\text\s?\{\s?mod\s?\}|\\bmod|\\mod))"
    r"\s?\{?\s?\d+\s?\}?\s?\)?$"
)


def named(text: str) -> tuple[str, str]:
    r"""The name that a tidy answer gives its value, without spaces, and the value.

    x = 5, \text{Area} = 5, f(3) = 5, m + n = 2 + 3 = 5, N \equiv 5 \pmod{10}, x \in [0, 5]. The
    name is "" where there is none: 2x = 50 names nothing.
    """
    before, *after = _NEARLY.split(text)
    if after:  # 2\sqrt{3} \approx 3.46 is its exact side, x \approx 3.46 the other
        text = after[0] if re.fullmatch(r"\s*(?:[A-Za-df-hj-z]\s?)?", before) else before
    text = text.removeprefix("=").strip()
    found = _LEFT_SIDE.match(text)
    body = _MODULUS.sub("", text[found.end() :]) if found else text
    while sums := _SUM.match(body):  # 40 + 2 = 42
        body = body[sums.end() :]
    if found:
        return re.sub(r"\s", "", found["label"]).strip(","), body.strip()
    # Without a name this is an equation, unless it is all numbers.
    return "", text if re.search("[A-Za-z]", body) else body.strip()


# --- numbers ----------------------------------------------------------------------------------

# 10,000 as 10,000  10{,}000  10 000  10'000 (10, 000, a comma and a space, are two numbers).
_WHOLE = r"(?:\d+|\d{1,3}(?:(?:[,' ]|\{[, ]\})\d{3})+)"
_SIGN = r"(?P<sign>[+-]?)\s?"
_INTEGER = re.compile(rf"{_SIGN}(?P<digits>{_WHOLE})(?:\.0*)?(?:_\{{?10\}}?)?")
_DECIMAL = re.compile(rf"{_SIGN}(?P<digits>{_WHOLE}?)\.(?P<decimals>\d+)")
_FRACTION = re.compile(
    rf"{_SIGN}(?:\\frac\{{\s?(?P<a>[+-]?\d+)\s?\}}\s?\{{\s?(?P<b>\d+)\s?\}}"
    r"|(?P<c>\d+)\s?/\s?(?P<d>\d+))"
)
_MIXED = re.compile(
    rf"{_SIGN}(?P<whole>\d+)(?:\s?\\frac\{{\s?(?P<a>\d+)\s?\}}\s?\{{\s?(?P<b>\d+)\s?\}}"
    r"|\s(?P<c>\d+)\s?/\s?(?P<d>\d+))"
)
_REPEATING = re.compile(
    rf"{_SIGN}(?P<whole>\d*)\.(?P<fixed>\d*)\\(?:overline|bar|dot)\s?\{{?(?P<period>\d+)\}}?"
)
_SCIENTIFIC = re.compile(
    r"(?P<number>[+-]?\s?\d*\.?\d+\.?)\s?"
    r"(?:[eE]|(?:\\times|\\cdot|\*|x)\s?10\s?\^\s?)(?:\{\s?)?(?P<power>[+-]?\s?\d{1,6})(?:\s?\})?"
)
_PERCENT = re.compile(
    r"\s?(?:\\?%|\\text\s?\{\s?(?:\\?%|per\s?cent(?:age)?)\s?\}|per\s?cent(?:age)?)$"
)
_SCALE = re.compile(
    r"(?:\\text\s?\{\s?)?\b(hundred|thousand|million|billion|trillion)\b([^{}]{0,40}\}|)$"
)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_WORDS = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
_BASES = {word: base for base, word in enumerate(_WORDS.split(), 2)}
_BASE = re.compile(
    r"\s*(?P<digits>[0-9A-Za-z]+(?: [0-9A-Za-z]+)*?)\s*(?:_\s*(?:base\s)?|\s(?:in )?base\s)\s*"
    rf"(?P<base>\d{{1,2}}|{'|'.join(sorted(_BASES, key=len, reverse=True))})\s*"
)


def integer(answer: str, equation: bool = False) -> str | None:
    r"""The integer an answer states, in plain digits without leading zeros; None if it is none.

    Read through: leading zeros, thousands marks in every LaTeX form, a final .0, units (\text{ cm},
    ^\circ, degrees, \$), trailing punctuation, styles and groups around the number. Not evaluated:
    fractions, powers, percentages, lists, several numbers, 3.25.
    equation: also read the right side of "m + n = 25" and of "m + n = 9 + 16 = 25".
    """
    digits = answer.strip()
    if digits.isascii() and digits.isdigit():
        return digits.lstrip("0") or "0"
    for text in _forms(answer, equation):
        if found := _INTEGER.fullmatch(text):
            digits = re.sub(r"\D", "", found["digits"]).lstrip("0") or "0"
            return "-" + digits if found["sign"] == "-" and digits != "0" else digits
    return None


def number(answer: str) -> Number | None:
    r"""The rational number an answer states, exactly; None if it is anything else.

    An integer, a decimal, a/b and \frac{a}{b}, 1 1/2 and 1\frac{1}{2}, 0.\overline{3}, 1e3,
    5 \times 10^{3}, 5 \text{ million}. Dressed as for `integer`.
    """
    whole = integer(answer)
    if whole is not None:
        return Number(Fraction(int(whole))) if len(whole) <= LONGEST_NUMBER else None
    for text in _forms(answer, equation=False):
        scale = _SCALE.search(text)
        if found := _number(text[: scale.start()].strip() if scale else text):
            size = 10 ** _SCALES[scale[1]] if scale else 1
            return Number(found.value * size, found.rounded)
    return None


def percentage(answer: str) -> Fraction | None:
    r"""What stands before the % of a percentage: 28 for 28\%; None if it is none."""
    for text in _forms(answer, equation=False):
        if (sign := _PERCENT.search(text)) and (found := number(text[: sign.start()])):
            return found.value
    return None


def based(answer: str) -> Digits | None:
    r"""A whole number with its base: 4343_6, 1A_{16}, 11_{\text{two}}, 11 \text{ (base 2)}."""
    if len(answer) > LONGEST_NUMBER:
        return None
    plain = re.sub(r"\\text(?![A-Za-z])|\\ |[{}()]", " ", tidy(answer))
    found = _BASE.fullmatch(re.sub(r"\s+", " ", plain))
    if not found:
        return None
    if found["digits"].isalpha() and not re.search("[A-Z]{2}", found["digits"]):
        return None  # the variable a_{12}
    return digits_in_base(found["digits"], int(_BASES.get(found["base"], found["base"])))


def digits_in_base(text: str, base: int) -> Digits | None:
    """Digits (0-9, then letters) read in a base from 2 to 36; None if they are not of that base."""
    digits = text.replace(" ", "").upper().lstrip("0") or "0"
    if not 2 <= base <= 36 or not digits.isalnum() or not digits.isascii():
        return None
    return Digits(digits, base) if all(int(digit, 36) < base for digit in digits) else None


def _number(text: str) -> Number | None:
    """`number` of an undressed text without a word for its size."""
    value, rounded = None, False
    if found := _INTEGER.fullmatch(text):
        value = Fraction(int(re.sub(r"\D", "", found["digits"])))
    elif found := _DECIMAL.fullmatch(text):
        digits = re.sub(r"\D", "", found["digits"]) + found["decimals"]
        value = Fraction(int(digits), 10 ** len(found["decimals"]))
        rounded = len(digits.lstrip("0")) >= LONG_DECIMAL
    elif found := _FRACTION.fullmatch(text):
        value = _ratio(found["a"] or found["c"], found["b"] or found["d"])
    elif found := _MIXED.fullmatch(text):
        part = _ratio(found["a"] or found["c"], found["b"] or found["d"])
        value = part and int(found["whole"]) + part
    elif found := _REPEATING.fullmatch(text):
        fixed, period = found["fixed"], found["period"]
        value = Fraction(int(found["whole"] + fixed or "0"))
        value = (value + Fraction(int(period), 10 ** len(period) - 1)) / 10 ** len(fixed)
    elif (found := _SCIENTIFIC.fullmatch(text)) and (small := _number(found["number"])):
        power = int(found["power"].replace(" ", ""))
        if abs(power) > LARGEST_EXPONENT:
            return None
        return Number(small.value * Fraction(10) ** power, small.rounded)
    if found is None or value is None:
        return None
    return Number(-value if found["sign"] == "-" else value, rounded)


def _ratio(above: str, below: str) -> Fraction | None:
    return Fraction(int(above), int(below)) if int(below) else None


def _forms(answer: str, equation: bool) -> Iterator[str]:
    """The undressed forms of an answer, also without parentheses around all of it."""
    if len(answer) > LONGEST_NUMBER:
        return
    if equation:
        answer = named(bare(answer))[1]
    for text in undressed(answer):
        yield text
        if text.startswith("(") and text.endswith(")") and text.count("(") == 1:
            yield from undressed(text[1:-1])
