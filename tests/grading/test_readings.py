"""How an answer is read beside the gold, by sight alone."""

from fractions import Fraction

import pytest

from lowrank.grading.forms import alike
from lowrank.grading.numerals import Digits, Number
from lowrank.grading.readings import Gold, beside, letter, out_of_bounds, read, stated, words


def number(value: str) -> Number:
    return Number(Fraction(value))


@pytest.mark.parametrize(
    ("form", "gold", "right"),
    [
        (number("28"), ("percent", Fraction(28)), True),
        (number("0.28"), ("percent", Fraction(28)), True),
        (number("2800"), ("percent", Fraction(28)), False),
        (("percent", Fraction(28)), number("28"), True),
        (("percent", Fraction(28)), number("0.28"), True),
        (("percent", Fraction("0.28")), number("0.28"), False),
        (("percent", Fraction(1)), number("1"), True),
        (("solutions", "x", ("interval", 1)), ("interval", 1), True),
        (("interval", 1), ("solutions", "x", ("interval", 1)), True),
        (("solutions", "y", ("interval", 1)), ("solutions", "x", ("interval", 1)), False),
    ],
)
def test_percentages_and_ranges_are_read_as_the_gold_has_them(form, gold, right):
    assert alike(beside(form, gold), gold) is right


def test_digits_have_the_golds_base():
    gold = Gold("4343_6", "", Digits("4343", 6))
    assert read("4343", gold).form == read("4343_6", gold).form == gold.form
    assert read("4343_7", gold).form == Digits("4343", 7)
    assert read("4343").form == number("4343")
    assert read("100_{10}").form == number("100")
    assert read("100_2").form == Digits("100", 2)


def test_names_go_unless_the_golds_is_another_variable():
    assert read("x=5", Gold("5", "", number("5"))).form == number("5")
    assert read("y=5", Gold("y=5", "y", number("5"))).form == number("5")
    assert read("x=5", Gold("y=5", "y", number("5"))).algebra == "x=5"
    assert read("N=5", Gold("y=5", "y", number("5"))).form == number("5")
    assert stated("x = 2a = 4b = 6") == ("x", "6")
    assert stated("x = 1, x = 2") == ("x", "1, 2")
    assert stated("x = 1, y = 2")[0] == ""


def test_words_are_longer_than_three_letters_or_common():
    assert words("East") == words(r"\text{east}") == "east"
    assert words("yes") == "yes"
    assert words("cat") == ""
    assert words("cat", anyhow=True) == words(r"\text{cat}") == "cat"
    assert words(r"\text{(B)}") == ""
    assert [letter(text) for text in (r"\text{(B)}", "(B)", "B", "BC")] == ["B", "B", "B", "BC"]


def test_bounds():
    assert out_of_bounds("{" * 100 + "}" * 100) is None
    assert out_of_bounds("{" * 101 + "}" * 101) == "nested deeper than 100"
    assert out_of_bounds("x" * 2000) is None
    assert out_of_bounds("x" * 2001) == "longer than 2000 characters"
