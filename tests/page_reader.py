"""Reads a report as a person does: its sections, sentences, tables, and what its figures draw."""

import math
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder

import pandas as pd

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"


class _Tree(HTMLParser):
    """The elements of a page."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self):
        super().__init__()
        self.builder = TreeBuilder()

    def handle_starttag(self, tag, attrs):
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in self.VOID:
            self.builder.end(tag)

    def handle_startendtag(self, tag, attrs):
        self.builder.start(tag, dict(attrs))
        self.builder.end(tag)

    def handle_endtag(self, tag):
        self.builder.end(tag)

    def handle_data(self, data):
        self.builder.data(data)


@dataclass(frozen=True)
class Table:
    """A table of the page: what stands in each cell, and the smaller text below it.

    texts, under: a row a line, by its first cell; columns are (group, head).
    kinds: the class of each row.
    """

    caption: str
    texts: pd.DataFrame
    under: pd.DataFrame
    kinds: list[str]


class Page:
    """A report's page. Text is as shown, with blanks and apostrophes made plain."""

    def __init__(self, path: Path):
        tree = _Tree()
        tree.feed(path.read_text(encoding="utf-8"))
        self.root = tree.builder.close()

    def section(self, name: str) -> Element:
        """The section of that id."""
        return self.root.find(f".//section[@id='{name}']")

    def answer(self) -> list[str]:
        """The sentences that stand above everything."""
        return [plain(each) for each in self.root.findall(".//div[@class='answer']/p")]

    def asked(self) -> list[str]:
        """The paragraphs around the answer."""
        return [plain(each) for each in self.root.findall(".//header/p")]

    def said(self, section: str) -> list[str]:
        """The paragraphs of a section, in order."""
        return [plain(each) for each in self.section(section).iter("p")]

    def below(self, section: str, heading: str) -> list[Element]:
        """What stands in a section between a heading (its beginning) and the next."""
        found: list[list[Element]] = []
        for child in self.section(section):
            if child.tag in ("h2", "h3"):
                found += [[]] if plain(child).startswith(heading) else []
                inside = plain(child).startswith(heading)
            elif found and inside:
                found[-1].append(child)
        assert len(found) == 1, f"{len(found)} headings begin with {heading!r}"
        return found[0]

    def tables(self, section: str, heading: str = "") -> list[Table]:
        """The tables of a section, or of the part of it below a heading."""
        inside = self.below(section, heading) if heading else [self.section(section)]
        return [read_table(each) for part in inside for each in part.iter("table")]

    def figures(self, section: str = "", heading: str = "") -> list[tuple[str, str]]:
        """The figures there, before the sections for "": what is written in each, its caption."""
        whole = self.section(section) if section else self.root.find(".//header")
        inside = self.below(section, heading) if heading else [whole]
        figures = [each for part in inside for each in part.iter("figure")]
        return [(plain(each.find("div")), plain(each.find("figcaption"))) for each in figures]

    def terms(self, section: str, number: int = 0) -> dict[str, str]:
        """A list of terms of a section, term -> what stands beside it."""
        names = [plain(each) for each in list(self.section(section).iter("dl"))[number]]
        return dict(zip(names[::2], names[1::2], strict=True))


def plain(element: Element) -> str:
    """The text of an element as it is read."""
    return " ".join("".join(element.itertext()).replace(APOSTROPHE, "'").split())


def read_table(element: Element) -> Table:
    """A table element as frames."""
    caption = element.find("caption")
    groups: list[str] = []
    for cell in element.findall("thead/tr[@class='groups']/*"):
        groups += [plain(cell)] * int(cell.get("colspan"))
    heads = [plain(cell) for cell in element.findall("thead/tr")[-1]]
    assert len(groups) in (0, len(heads)), f"groups over {len(groups)} of {len(heads)} heads"
    columns = pd.MultiIndex.from_arrays([groups or [""] * len(heads), heads])
    labels, texts, under = [], [], []
    for row in element.findall("tbody/tr"):
        cells = list(row)
        assert len(cells) == len(heads), f"{len(cells)} cells below {len(heads)} heads"
        labels.append(plain(cells[0]))
        texts.append([(cell.text or "").strip() for cell in cells])
        smaller = [cell.find("small") for cell in cells]
        under.append(["" if small is None else plain(small) for small in smaller])
    return Table(
        "" if caption is None else plain(caption),
        pd.DataFrame(texts, index=labels, columns=columns),
        pd.DataFrame(under, index=labels, columns=columns),
        [row.get("class") or "" for row in element.findall("tbody/tr")],
    )


def numbers(text: str) -> list[float]:
    """All numbers in a text, with their signs; a percentage is a share."""
    return [value(each) for each in re.findall(NUMBER, text.replace(MINUS, "-"))]


NUMBER = r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?%?"


def interval(text: str) -> tuple[float, float]:
    """Both ends of "0.12 - 0.34" or "-1.2 to +3.4", as numbers; NaN for an empty text."""
    if not text:
        return float("nan"), float("nan")
    low, high = re.split(f" {DASH} | to ", text)
    return value(low), value(high)


def value(text: str) -> float:
    """A number as the page writes it: 0.123, +4.2, 12%, 1,234."""
    text = text.replace(MINUS, "-").replace(",", "").strip()
    return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)


def agrees(text: str, number: float, slack: float = 0.0) -> bool:
    """Whether a text is what a number looks like, rounded to as many decimals as it shows.

    A dash, or nothing, is what NaN looks like. slack: what the number itself may be off by
    (where it was simulated).
    """
    if number != number or text in ("", DASH):
        return number != number and text in ("", DASH)
    text = text.replace(MINUS, "-").replace(",", "").strip()
    decimals = len(text.removesuffix("%").partition(".")[2])
    step = 10.0**-decimals / (100 if text.endswith("%") else 1)
    return abs(value(text) - number) <= step / 2 + slack + 1e-9


def shows(text: str, number: float) -> bool:
    """Whether a text is what a number looks like: a share, a count, or three digits of a size."""
    if "%" in text or "." not in text:
        return agrees(text, math.floor(number) if "%" not in text else number)
    step = 10.0 ** (math.floor(math.log10(abs(number))) - 2)
    digits = len(text.replace(".", "").lstrip("0"))
    return digits == 3 and abs(value(text) - number) <= step / 2 + 1e-12


def heads(table: Table) -> list[tuple[str, str]]:
    """(head, group) of every column."""
    return [(head, group) for group, head in table.texts.columns]
