"""From the text of a completion to its final answer, and from an answer to one canonical spelling.

Everything here is linear in the length of the text, whatever the text holds.
"""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction

# A box may name its width and alignment: \framebox[3cm][c]{42}. The bounds keep hostile texts
# from making the search quadratic.
_BOX = r"\\(?:boxed|fbox|framebox)\s{0,99}(?:\[[^\]\n]{0,40}\]\s{0,9}){0,2}\{"
_OPENING = re.compile(_BOX + r"|<answer>")
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_TOKEN = re.compile(
    rf"(?P<box>{_BOX})|\\(?!\\(?:boxed|fbox|framebox))[\\{{}}]|(?P<brace>[{{}}])|(?P<tag></?answer>)"
)
_MARKERS = (r"\boxed", r"\fbox", r"\framebox", "<answer>")


def extract(text: str | None, reasoning_end: str | None = None, rule: str = "last") -> str | None:
    r"""The final answer a completion gives, as written; None if it gives none.

    rule "last": the content of the last complete \boxed{}, \fbox{}, \framebox{} or
    <answer></answer>, "last" being the one that starts last; braces are balanced, \{ and \} are
    text, and an empty or unfinished box is no answer.
    rule "post": the rule of the post being reproduced (`post_rule`).
    reasoning_end: only what follows its first occurrence is searched, and a text without it has no
    answer. None searches the whole text.
    """
    if not text:
        return None
    if reasoning_end:
        _, end, text = text.partition(reasoning_end)
        if not end:
            return None
    return RULES[rule](text)


def last_complete(text: str) -> str | None:
    """The content of the last complete, non-empty box or answer tag (see `extract`)."""
    start = max(text.rfind(marker) for marker in _MARKERS)
    if start < 0:
        return None
    opening = _OPENING.match(text, start)
    if opening:  # nearly always the last one is complete, and nothing before it need be read
        content = _content(text, opening)
        if content and content.strip():
            return content.strip()
    return _last_of_all(text)


def _content(text: str, opening: re.Match) -> str | None:
    """What stands between an opening and its end; None if it never ends."""
    first = opening.end()
    if opening.group() == "<answer>":
        last = text.find("</answer>", first)
        return text[first:last] if last >= 0 else None
    depth = 1
    for token in _BRACE.finditer(text, first):
        if token.group() == "{":
            depth += 1
        elif token.group() == "}":
            depth -= 1
            if not depth:
                return text[first : token.start()]
    return None


def _last_of_all(text: str) -> str | None:
    """`last_complete` by one pass over all boxes, tags and braces."""
    open_braces: list[tuple[int, int] | None] = []  # (start, start of content) of a box, or None
    open_tag: tuple[int, int] | None = None
    best, answer = -1, None
    for token in _TOKEN.finditer(text):
        closed = None
        if token["box"]:
            open_braces.append((token.start(), token.end()))
        elif token["brace"] == "{":
            open_braces.append(None)
        elif token["brace"] == "}":
            closed = open_braces.pop() if open_braces else None
        elif token["tag"] == "<answer>":
            open_tag = (token.start(), token.end())
        elif token["tag"]:
            closed, open_tag = open_tag, None
        if closed and closed[0] > best:
            content = text[closed[1] : token.start()].strip()
            if content:
                best, answer = closed[0], content
    return answer


def post_rule(text: str) -> str | None:
    r"""The post's own extraction: the last non-empty match of a non-greedy expression.

    boxed{(.*?)}|framebox{(.*?)}|<answer>(.*?)</answer>, newlines included, in the whole text
    (rllm-org/rllm issue 3). It stops at the first closing brace, so \boxed{\frac{1}{2}} gives
    \frac{1; it is here so that the post's numbers can be remade. Same matches as the regular
    expression, in linear time.
    """
    closers = {"boxed{": "}", "framebox{": "}", "<answer>": "</answer>"}
    answer, position = None, 0
    while closers:
        search = re.compile("|".join(map(re.escape, closers)))
        opening = search.search(text, position)
        if not opening:
            break
        closer = closers[opening.group()]
        end = text.find(closer, opening.end())
        if end < 0:  # nor will any later opening of this kind close
            del closers[opening.group()]
            position = opening.start() + 1
            continue
        answer = text[opening.end() : end].strip() or answer
        position = end + len(closer)
    return answer


RULES = {"last": last_complete, "post": post_rule}


# --- one spelling for one answer ------------------------------------------------------------

_SPACES = re.compile(r"\s+")
_DELIMITERS = [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**")]
_STYLE = re.compile(r"\\(?:displaystyle|textstyle|left|right|bigl?|bigr|Bigl?|Bigr)(?![A-Za-z])")
_UPRIGHT = re.compile(r"\\mathrm\{([ei])\}")


def plain_characters(text: str) -> str:
    """Digits of any script as 0-9, full-width forms as their ASCII twins, every minus sign as -,
    every space as a space, no invisible formatting (zero-width, direction marks). The logical
    order of the characters is kept."""
    if text.isascii():
        return text
    out = []
    for character in text:
        match unicodedata.category(character):
            case "Nd":
                out.append(str(unicodedata.decimal(character)))
            case "Zs":
                out.append(" ")
            case "Cf":
                pass
            case _:
                if "\uff01" <= character <= "\uff5e":
                    character = chr(ord(character) - 0xFEE0)
                out.append("-" if character in "−﹣" else character)  # noqa: RUF001
    return "".join(out)


def tidy(answer: str) -> str:
    r"""An answer without what never changes its meaning: outer $..$, \(..\), **..**, a trailing
    period, repeated white space, \left and \right, style commands, an upright e or i."""
    text = plain_characters(answer)
    while True:
        before = text
        text = _UPRIGHT.sub(r"\1", _STYLE.sub("", text)).replace(r"\varnothing", r"\emptyset")
        text = _SPACES.sub(" ", text).strip().removesuffix("\\ ").strip()
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1]
        for opening, closing in _DELIMITERS:
            if text.startswith(opening) and text.endswith(closing):
                inner = text[len(opening) : -len(closing)]
                if inner and opening not in inner and closing not in inner:
                    text = inner
                    break
        if text == before:
            return text


_UNIT_WORDS = (
    r"(?:degrees?|deg|[ckm]m|feet|foot|ft|inch(?:es)?|miles?|yards?|met(?:er|re)s?|units?|square"
    r"|sq|cubic|seconds?|secs?|minutes?|mins?|hours?|days?|weeks?|months?|years?|dollars?|cents?"
    r"|USD|kg|grams?|lbs?|pounds?|mph|km/h|people|ways|points?)"
)
_NOT_A_UNIT = re.compile(
    r"\d|\b(?:hundred|thousand|million|billion|trillion|dozen|percent|per cent|or|and|mod|not"
    r"|base|half|halves|thirds?)\b|%",
    re.IGNORECASE,
)
_TEXT = r"\\(?:text|textrm|textup|textnormal|mathrm|mbox|operatorname|textbf|textit|mathbf|mathit)"
_GAP = r"(?:\s|~|\\[,;:! ]|\\q?quad|\\thinspace|\\hspace\{[^{}]*\})*"
_EXPONENT = r"(?:\^\{?[23]\}?)?"
_SUFFIX = re.compile(
    rf"{_GAP}(?:(?P<text>{_TEXT}\{{(?P<words>[^{{}}]*)\}}){_EXPONENT}|{_UNIT_WORDS}{_EXPONENT}"
    rf"|\^\{{?\\circ\}}?|°|\\degree|\\(?:text)?dollar|\\q?quad|\.|\\\\?){_GAP}$"
)
# A currency; the letter of a choice; "answer: ", "The area is ".
_PREFIX = re.compile(
    rf"^{_GAP}(?:\\?\$|\\text\{{\\?\$\}}|£|€|\([A-E]\)(?=\\|\s)"
    r"|\\(?:text|textbf|mathrm|mathbf)\{\s*\(?[A-E]\)?[:.]?\s*\}"
    rf"|{_TEXT}\{{[A-Za-z ]{{0,60}}(?:[:=]|\b(?:is|are))\s*\}})?{_GAP}"
)
_WRAPPER = re.compile(
    rf"^(?:{_TEXT}|\\boldsymbol|\\bm|\\mathsf|\\mathtt|\\underline|\\(?:boxed|fbox|framebox)"
    r"|\\color\{\w+\}|\\textcolor\{\w+\})?\{(?P<inner>[^{}]*)\}$"
)
# Possessive throughout: what is not the left side of an equation is seen to be none in one pass.
_LEFT_SIDE = re.compile(
    r"[\s+|()\-]*+(?:\\?[A-Za-z]++(?:_(?:\{\w{1,9}\}|\w))?+[\s+|()\-]*+){1,9}+(?:=|\\equiv)"
)
_SUM = re.compile(r"(?:[\d\s+*/().\-]|\\(?:cdot|times)(?![A-Za-z]))*+=")
# 10,000 as 10,000  10{,}000  10\,000  10,\!000  10\text{,}000  10 000  10'000
# (10, 000 and 10,\ 000, a comma and a wide space, are two numbers).
_THOUSANDS = (
    r"(?:\s|~|'|’|\\[;: ]|\\thinspace|(?:\\[!,]\s?){1,3}"  # noqa: RUF001
    r"|(?:\\,)?(?:,|\{(?:\\[!,;: ]|[, ]){1,3}\}|\\(?:mbox|text\w{0,6}|math[a-z]{2,5})\{\\?,\})"
    r"(?:\\[!,]\s?){0,2})"
)
_WHOLE = r"(?:\d+|\d{1,3}(?:" + _THOUSANDS + r"\d{3})+)"
_INTEGER = re.compile(rf"(?P<sign>[+-]?)\s*(?P<digits>{_WHOLE})(?:\.0*)?")
_DECIMAL = re.compile(rf"(?P<sign>[+-]?)\s*(?P<digits>{_WHOLE}?)\.(?P<decimals>\d+)")
_FRACTION = re.compile(
    r"(?P<sign>[+-]?)\s*(?:\\[dtc]?frac\s*(?:\{\s*(?P<a>[+-]?\d+)\s*\}|(?P<b>\d))\s*"
    r"(?:\{\s*(?P<c>\d+)\s*\}|(?P<d>\d))|(?P<e>\d+)\s*/\s*(?P<f>\d+))"
)
LONGEST_NUMBER = 400  # characters a number may have, marks and units included


def integer(answer: str, equation: bool = False) -> str | None:
    r"""The integer an answer states, in plain digits without leading zeros; None if it is none.

    Read through: leading zeros, thousands marks in every LaTeX form, a final .0, units (\text{ cm},
    ^\circ, degrees, \$), trailing periods, styles and groups around the number. Not evaluated:
    fractions, powers, percentages, lists, several numbers, 3.25.
    equation: also read the right side of "m + n = 25" and of "m + n = 9 + 16 = 25".
    """
    digits = answer.strip()
    if len(digits) > LONGEST_NUMBER and digits.isascii() and digits.isdigit():
        return _digits(digits)
    for text in _undressed(answer, equation):
        if found := _INTEGER.fullmatch(text):
            digits = _digits(re.sub(r"\D", "", found["digits"]))
            return "-" + digits if found["sign"] == "-" and digits != "0" else digits
    return None


def rational(answer: str) -> Fraction | None:
    r"""The number an answer states as an integer, a decimal, a/b or \frac{a}{b}, exactly.

    None if it is anything else. Dressed as for `integer`; mixed numbers are not read.
    """
    whole = integer(answer)
    if whole is not None:
        return Fraction(int(whole)) if len(whole) <= LONGEST_NUMBER else None
    for text in _undressed(answer, equation=False):
        value = None
        if found := _DECIMAL.fullmatch(text):
            decimals = found["decimals"]
            digits = re.sub(r"\D", "", found["digits"]) + decimals
            value = Fraction(int(digits), 10 ** len(decimals))
        elif found := _FRACTION.fullmatch(text):
            above, below = (int(found[a] or found[b] or found[c]) for a, b, c in ("abe", "cdf"))
            value = Fraction(above, below) if below else None
        if value is not None:
            return -value if found["sign"] == "-" else value
    return None


def _undressed(answer: str, equation: bool) -> Iterator[str]:
    """An answer, then what is left of it as groups, units and currencies come off."""
    if len(answer) > LONGEST_NUMBER:
        return
    text = tidy(answer)
    if equation:
        if left := _LEFT_SIDE.match(text):
            text = text[left.end() :]
        while sums := _SUM.match(text):  # 40 + 2 = 42
            text = text[sums.end() :]
    while True:
        before = text
        text = tidy(text)
        yield text
        if wrapper := _WRAPPER.match(text):
            text = wrapper["inner"]
        elif text.startswith("(") and text.endswith(")") and text.count("(") == 1:
            text = text[1:-1]
        suffix = _SUFFIX.search(text)
        if suffix and suffix.start() and not _NOT_A_UNIT.search(suffix["words"] or ""):
            text = text[: suffix.start()]
        text = _PREFIX.sub("", text)
        if text == before:
            return


def _digits(digits: str) -> str:
    return digits.lstrip("0") or "0"
