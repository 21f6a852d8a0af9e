r"""One way of writing for every way of writing the same mathematics.

Spaces, fonts, sizes, dashes, Unicode signs, needless braces: what never changes an answer's meaning
is gone, or is written as plain LaTeX writes it. Nothing is evaluated.
"""

import re
import unicodedata
from functools import lru_cache

# --- Unicode signs as LaTeX -------------------------------------------------------------------

_SIGNS = {
    **dict.fromkeys("\u2212\ufe63", "-"),
    **dict.fromkeys("\u2018\u2019\u02b9\u2032", "'"),
    **dict.fromkeys("\u00b7\u2219\u22c5\u2022", r"\cdot "),
    **dict.fromkeys("\u2044\u2215\u00f7", "/"),
    **dict.fromkeys("\u2264\u2a7d", r"\le "),
    **dict.fromkeys("\u2265\u2a7e", r"\ge "),
    **{"\u00d7": r"\times ", "\u221e": r"\infty ", "\u00b1": r"\pm ", "\u2213": r"\mp "},
    **{"\u2260": r"\neq ", "\u2261": r"\equiv ", "\u2248": r"\approx ", "\u2205": r"\emptyset "},
    **{"\u222a": r"\cup ", "\u2229": r"\cap ", "\u2208": r"\in ", "\u211d": r"\mathbb{R}"},
    **{"\u00b0": r"^{\circ}", "\u2220": r"\angle ", "\u25b3": r"\triangle ", "\u221b": r"\sqrt[3]"},
}
_RAISED = {
    c: unicodedata.normalize("NFKC", c) for c in "\u2070\u00b9\u00b2\u00b3\u207a\u207f\u2071"
}
_RAISED |= {chr(0x2074 + i): str(4 + i) for i in range(6)} | {"\u207b": "-"}
_LOWERED = {chr(0x2080 + i): str(i) for i in range(10)} | {"\u208a": "+", "\u208b": "-"}
_RUNS = [
    (re.compile(f"[{''.join(signs)}]+"), mark, str.maketrans(signs))
    for signs, mark in ((_RAISED, "^"), (_LOWERED, "_"))
]
_ROOT = re.compile(r"\u221a\s*(?:(\d+(?:\.\d+)?|[A-Za-z])|\(([^()]*)\))")
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)")


def plain_characters(text: str) -> str:
    r"""Digits of any script as 0-9, full-width forms as their ASCII twins, every dash as -, every
    space as a space, no invisible formatting (zero-width, direction marks); signs, raised digits,
    fractions and Greek letters as LaTeX. The logical order of the characters is kept."""
    if text.isascii():
        return text
    text = _ROOT.sub(lambda found: rf"\sqrt{{{found[1] or found[2]}}}", text)
    for run, mark, table in _RUNS:
        text = run.sub(lambda found: f"{mark}{{{found[0].translate(table)}}}", text)  # noqa: B023
    return "".join(map(_plain_character, text))


def _plain_character(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if character == "\u221a":
        return r"\sqrt "
    match unicodedata.category(character):
        case "Nd":
            return str(unicodedata.decimal(character))
        case "Zs":
            return " "
        case "Cf":
            return ""
        case "Pd":
            return "-"
        case "No":
            above, slash, below = unicodedata.normalize("NFKC", character).partition("\u2044")
            return rf"\frac{{{above}}}{{{below}}}" if slash and below else character
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    if greek := _GREEK.fullmatch(unicodedata.name(character, "")):
        name = greek[2].replace("LAMDA", "LAMBDA").lower()
        return rf"\{name.capitalize() if greek[1] == 'CAPITAL' else name} "
    if "\U0001d400" <= character <= "\U0001d7ff":  # letters in mathematical alphabets
        letter = unicodedata.normalize("NFKC", character)
        return letter if letter.isascii() else _plain_character(letter)
    return character


# --- LaTeX in one spelling --------------------------------------------------------------------

_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_GONE = "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr ! limits nolimits"
_GONE += " mathbf boldsymbol bm bold mathsf mathtt mathit mathnormal mathpunct mathord underline"
_GONE += " negthinspace"
_SPACE = ", ; : quad qquad thinspace medspace thickspace enspace enskip space nobreakspace"
_SPACE += " displaystyle textstyle scriptstyle bf rm it sf tt bfseries itshape rmfamily boldmath"
_SPACE += " tiny scriptsize footnotesize small normalsize large Large LARGE huge Huge strut"
_TEXT = "textbf textit textrm textsf texttt textup textnormal mbox hbox mathrm operatorname emph"
_COMMANDS = {
    **dict.fromkeys(_GONE.split(), ""),
    **dict.fromkeys([*_SPACE.split(), " ", "\n", "\t"], " "),
    **dict.fromkeys(_TEXT.split(), r"\text"),
    **dict.fromkeys(["dfrac", "tfrac", "cfrac"], r"\frac"),
    **dict.fromkeys(["leq", "leqslant", "leqq"], r"\le"),
    **dict.fromkeys(["geq", "geqslant", "geqq"], r"\ge"),
    **dict.fromkeys(["lvert", "rvert", "vert", "mid"], "|"),
    **{"ne": r"\neq", "varnothing": r"\emptyset", "lbrace": r"\{", "rbrace": r"\}"},
    **{"lt": "<", "gt": ">", "lbrack": "[", "rbrack": "]", "degree": r"^{\circ}"},
    **{"colon": ":", "textdollar": r"\$", "dollar": r"\$", "infin": r"\infty", "*": " "},
    **{"imath": "i"},
}
_WIDE = re.compile(  # but not between digits, where it could be a mark or part two numbers
    r"(?<!\d)\\hspace\*?\{[^{}]{0,40}\}|\\hspace\*?\{[^{}]{0,40}\}(?!\s*\d)"
)
# 10,\!000 is one number, and so is 10,\,000; the space that a writer left after it is none.
_THIN = re.compile(r",(?:\\[!,]\s?){1,3}|\\!\s?")
_FONT_WORD = re.compile(r"\\math(?:bf|sf|tt|it)\s*\{(\s*[A-Za-z]{2,}[A-Za-z\s]*)\}")
_ONE_LETTER = re.compile(r"\\text\s*\{([ei])\}")
_NO_WORDS = re.compile(r"\\text\s*\{([^{}A-Za-z\\]*)\}")
_POWER = re.compile(r"\^\s?([+-]\s?\d+|\d{2,})")
_SPACES = re.compile(r"\s+")
_DELIMITERS = [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**")]
_TAKING = re.compile(r"\\(?:frac|mathbb|sqrt(?:\s*\[[^\[\]]*\])?)(?![A-Za-z])")
_ARGUMENT = re.compile(r"\s*(\\[A-Za-z]+|[A-Za-z0-9])")
_TRAILING = re.compile(r"(?:[\\\s,;:]|(?<!\.)\.(?!\S))+$")


@lru_cache(maxsize=10_000)
def tidy(answer: str) -> str:
    r"""An answer without what never changes its meaning: outer $..$, \(..\), **..**, braces around
    the whole or doubled, trailing punctuation, spacing commands, fonts and sizes; \frac and \sqrt
    with braces, one command where LaTeX has several, signs as `plain_characters` writes them."""
    text = plain_characters(answer)
    while True:
        before = text
        text = _FONT_WORD.sub(r"\\text{\1}", text)
        text = _WIDE.sub(" ", _THIN.sub(_thin, text))
        text = _COMMAND.sub(_command, text).replace("~", " ")
        text = _POWER.sub(r"^{\1}", _ONE_LETTER.sub(r"\1", text))
        text = _braced(_with_arguments(_NO_WORDS.sub(r"{\1}", text)))
        if text.startswith("\\text{") and _closing(text, 5) == len(text) - 1 and "\\" in text[1:]:
            text = text[6:-1]
        text = _TRAILING.sub("", _SPACES.sub(" ", text).strip())
        for opening, closing in _DELIMITERS:
            if text.startswith(opening) and text.endswith(closing):
                inner = text[len(opening) : -len(closing)]
                if inner and opening not in inner and closing not in inner:
                    text = inner
                    break
        if text == before:
            return text


def _thin(found: re.Match[str]) -> str:
    if found[0].startswith(","):
        return ","
    # A command before it must not run into a letter after it.
    return " " if found.string[found.end() : found.end() + 1].isalpha() else ""


def _command(found: re.Match[str]) -> str:
    new = _COMMANDS.get(found[1], found[0])
    if new == r"\text" and not found.string[found.end() :].lstrip().startswith("{"):
        return " "
    return new


def _with_arguments(text: str) -> str:
    r"""\frac12, \frac\pi4, \frac1{2}, \sqrt3 with every argument in braces."""
    if not _TAKING.search(text):
        return text
    out, position = [], 0
    while found := _TAKING.search(text, position):
        out.append(text[position : found.end()].rstrip())
        position = found.end()
        for _ in range(2 if found[0].startswith(r"\frac") else 1):
            if bare := _ARGUMENT.match(text, position):
                out.append(f"{{{bare[1]}}}")
                position = bare.end()
                continue
            brace = re.compile(r"\s*\{").match(text, position)
            end = _closing(text, brace.end() - 1) if brace else None
            if brace is None or end is None:
                break
            inside = _with_arguments(text[brace.end() : end])
            out.append(f"{{{inside.strip()}}}")
            position = end + 1
    return "".join(out) + text[position:]


_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)


def _closing(text: str, opening: int) -> int | None:
    """Where the brace that opens at `opening` closes."""
    depth = 0
    for brace in _BRACES.finditer(text, opening):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return None


def _braced(text: str) -> str:
    """Without the outer of two pairs of braces that hold the same, and those around everything."""
    partner: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACES.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            partner[opened.pop()] = brace.start()
    needless = set()
    for start, end in partner.items():
        if partner.get(start + 1) == end - 1 or (start == 0 and end == len(text) - 1):
            needless |= {start, end}
    if not needless:
        return text
    return "".join(c for i, c in enumerate(text) if i not in needless)
