"""From the text of a completion to its final answer.

Everything here is linear in the length of the text, whatever the text holds.
"""

import re
from functools import lru_cache

from lowrank.grading.numerals import integer
from lowrank.grading.writing import tidy

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


def _content(text: str, opening: re.Match[str]) -> str | None:
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


# --- what extraction may have overlooked ------------------------------------------------------


def overlooked(text: str | None, gold: str) -> bool:
    r"""Whether a text without an answer holds the right one somewhere, as a word of its own.

    By spelling only, spaces aside: an integer also with thousands marks, anything else as the gold
    or its tidy form is written. A short gold is found by accident, so this bounds from above what
    extraction lost.
    """
    if not text:
        return False
    end, pattern = _gold_pattern(gold)
    return end in text and pattern.search(text) is not None


@lru_cache(maxsize=10_000)
def _gold_pattern(gold: str) -> tuple[str, re.Pattern[str]]:
    """What a text must hold to hold the gold at all (quick to see), and the expression for it."""
    whole = integer(gold, equation=True)
    if whole is None:
        end = ""
        spellings = sorted({gold.strip(), tidy(gold)}, key=len, reverse=True)
        written = "|".join(r"\s?".join(map(re.escape, spelling.split())) for spelling in spellings)
    else:
        sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
        end = digits[-3:]
        first = len(digits) % 3 or 3
        groups = [digits[:first], *(digits[i : i + 3] for i in range(first, len(digits), 3))]
        written = sign + "0*" + r"(?:,|\{,\}|\\[,!]|\s)?".join(groups)
    return end, re.compile(rf"(?<![\w.\-])(?:{written})(?!\w|[.,]\d)")
