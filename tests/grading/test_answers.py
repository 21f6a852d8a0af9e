"""Extraction and canonical integers, on cases made by hand and on generated ones."""

import re
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowrank.grading.answers import extract, overlooked
from lowrank.grading.numerals import Digits, Number, based, integer, number, percentage
from lowrank.grading.readings import Gold, read
from lowrank.grading.writing import tidy


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} or rather \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}} ", r"\{1, 2\}"),
        (r"\boxed {7}", "7"),
        ("\\boxed{\n 7 \n}", "7"),
        (r"\fbox{7} and \framebox[2cm][c]{8}", "8"),
        (r"\boxed{1} then <answer> 9 </answer>", "9"),
        (r"<answer>The answer is \boxed{5}</answer>", "5"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\\boxed{5}", "5"),
        (r"\boxed{699} or \boxed{700}", "700"),
        (r"\boxed{5} but wait, \boxed{6", "5"),
        (r"\boxed{4}, no, \boxed{5} but wait, \boxed{6", "5"),
        (r"\boxed{3 + \boxed{4}} but wait, \boxed{6", "4"),
        (r"\boxed{5} within \boxed{}", "5"),
        (r"{ \boxed{5} \boxed{6 <answer>7", "5"),
        (r"\boxed{3 + \boxed{4}", "4"),
        (r"\boxed{5\\}", r"5\\"),
        (r"\boxed{5", None),
        (r"\boxed{ }", None),
        (r"boxed 5, \boxed 5", None),
        ("the answer is 5", None),
        ("", None),
        (None, None),
    ],
)
def test_the_last_complete_answer_counts(text, answer):
    assert extract(text) == answer


def test_only_what_follows_the_reasoning_counts():
    text = r"<think> \boxed{1} </think> \boxed{2}"
    assert extract(text, "</think>") == "2"
    assert extract(r"\boxed{1} </think> done", "</think>") is None
    assert extract(r"<think> \boxed{1}", "</think>") is None  # never closed
    assert extract(r"<think> \boxed{1}") == "1"
    # The first one ends the reasoning: a later one is part of the answer.
    assert extract(r"\boxed{1}</think> \boxed{2} </think> done", "</think>") == "2"
    assert extract(r"a</think>b</think> \boxed{3}", "</think>") == "3"


@given(st.text(alphabet="{}\\ab5 ", max_size=40), st.text(alphabet="{}\\ab5 ", max_size=40))
def test_a_final_complete_box_is_found_after_any_text(before, after):
    answer = extract(before + " " + r"\boxed{\frac{1}{2}}" + after)
    assert answer == r"\frac{1}{2}"


@given(st.lists(st.sampled_from([r"\boxed{", "{", "}", "<answer>", "</answer>", "5", "\\"])))
def test_the_quick_way_and_the_whole_pass_agree(parts):
    from lowrank.grading.answers import _last_of_all

    text = "".join(parts)
    assert extract(text) == _last_of_all(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1"),
        (r"\boxed{1} then \boxed{ }", "1"),
        (r"\boxed{1} then \framebox{2}", "2"),
        ("<answer> 3 </answer> and <answer>", "3"),
        (r"<answer> \boxed{4}", "4"),
        ("nothing", None),
    ],
)
def test_the_rule_of_the_post_by_hand(text, answer):
    assert extract(text, rule="post") == answer


@given(
    st.lists(st.sampled_from(["boxed{", "framebox{", "<answer>", "</answer>", "}", "1", "\n", " "]))
)
def test_the_rule_of_the_post_is_its_regular_expression(parts):
    text = "".join(parts)
    pattern = r"boxed{(.*?)}|framebox{(.*?)}|<answer>(.*?)</answer>"
    found = [
        group.strip() for match in re.findall(pattern, text, re.DOTALL) for group in match if group
    ]
    found = [group for group in found if group]
    assert extract(text, rule="post") == (found[-1] if found else None)


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        *[(text, "25") for text in ("25", "025", "25.", "25.0", " 25 ", "+25", "$25$", r"\(25\)")],
        *[
            (text, "25")
            for text in (r"\text{25}", r"\mathbf{25}", "{25}", "(25)", "**25**", "\uff12\uff15")
        ],
        *[
            (text, "25")
            for text in (r"25^\circ", "25°", r"25^{\circ}", "25 degrees", r"\$25", "$25")
        ],
        *[(text, "25") for text in (r"25 \text{ cm}^2", r"25\,\mathrm{cm}", r"25\text{ units}.")],
        *[(text, "25") for text in (r"\left(25\right)", r"\displaystyle 25", r"25\\", "25\u200f")],
        *[(text, "10000") for text in ("10000", "10,000", "10{,}000", r"10\,000", r"10,\!000")],
        *[(text, "10000") for text in (r"10\ 000", "10 000", "10~000", "10\u202f000", "10'000")],
        *[(text, "10000") for text in (r"10\text{,}000", r"10{\,}000", r"10\;000", "10,000.00")],
        *[(text, "10000") for text in (r"10,\! 000", r"10,\!\!000", r"10{,\!}000", "10\u2019000")],
        *[
            (text, "10000")
            for text in (r"10\mathpunct{,}000", r"10\mbox{,}000", "\uff11\uff10\uff0c000")
        ],
        *[
            (text, "25")
            for text in (r"\quad 25 \quad", r"\ 25", r"\underline{25}", "\uff0825\uff09")
        ],
        *[(text, "25") for text in (r"\text{Answer: } 025", r"\text{The sum is }25", r"(C)\ 25")],
        *[(text, "25") for text in (r"25\,\mathrm{m}", r"\textbf{(C) } 25", r"25\mathrm{s}")],
        *[(text, "-7") for text in ("-7", "- 7", "\u22127", "-007")],
        *[(text, "0") for text in ("0", "000", "-0", "0.0")],
        ("1{,}234{,}567", "1234567"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_integers_in_every_dress(answer, number):
    assert integer(answer) == number


@pytest.mark.parametrize(
    "answer",
    [
        *["3.25", "", "12,34", "1,0000", "1, 000", "1 2", "699, 700", r"699 \text{ or } 700"],
        *[r"25\%", r"\frac{50}{2}", "2^{10}", "25x", r"25\pi", "1011_2", r"5\text{ million}"],
        *[r"100,\ 200", r"100,\;200", r"10\hspace{0.1em}000", r"\text{at most } 25", "(A)25"],
        *["5 million", "1.000.000", "x^2=25", "25!", "1e3", r"25 \pmod{100}", "--5", "five"],
        *["\u0663.\u0662\u0665", "\u221e", ".25", "5\u00b2", "2x = 50", "\x00"],
    ],
)
def test_what_is_no_integer_stays_none(answer):
    assert integer(answer, equation=True) is None


def test_the_right_side_of_an_equation_is_read_on_request():
    for text in (
        "x = 25",
        "m+n = 25",
        r"\angle ABC = 25^\circ",
        "|AB|=25",
        "a_1 + b_{12} = 25",
        "m+n=9+16=25",
        "=25",
        r"N \equiv 25 \pmod{1000}",
        r"\text{Area} = 25",
        "[ABC] = 25",
        "f(3) = 25",
        r"x_{10} = 25 \text{ coins}",
        r"n = 25 \approx 25.2",
    ):
        assert integer(text, equation=True) == "25"
        assert integer(text) is None
    for text in ("2x = 25", "x^2 = 25", "x = 25, y = 3", "x > 25", "x = 25 or 26", "x+1 = 25"):
        assert integer(text, equation=True) is None


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        *[("1 1/2", "3/2"), (r"-1\frac12", "-3/2"), ("1\u00bd", "3/2"), (r"11\frac{1}{2}", "23/2")],
        *[(".5", "1/2"), ("1,234.5", "2469/2"), (r"\frac{-3}{4}", "-3/4"), (r"-\dfrac34", "-3/4")],
        *[(r"0.\overline{3}", "1/3"), (r"0.1\overline{6}", "1/6"), (r"2.\overline{27}", "25/11")],
        *[("1e3", "1000"), ("6.72e-05", "21/312500"), (r"6.72\times10^{-5}", "21/312500")],
        *[(r"5 \text{ million}", "5000000"), ("2.5 million", "2500000"), (r"\$12.50", "25/2")],
    ],
)
def test_numbers_are_read_exactly(answer, value):
    assert number(answer) == Number(Fraction(value))


def test_what_is_no_number_is_none_and_long_decimals_are_marked():
    for text in ("1/0", "2^{10}", "1 1/0", "x", "1.2.3", "1e99999999", "1, 2", r"\sqrt{4}"):
        assert number(text) is None
    assert number("0.333333").rounded
    assert number("6.66667e-5").rounded
    assert not number("0.33333").rounded
    assert percentage(r"28\%") == percentage(r"28 \text{ percent}") == 28
    assert percentage("28") is None


def test_bases_are_read_in_digits_and_words_and_variables_are_none():
    for text in (
        "4343_6",
        "4343_{6}",
        r"4343_{\text{six}}",
        r"(4343)_{\mathrm{six}}",
        "4343\u2086",
    ):
        assert based(text) == Digits("4343", 6)
    assert based(r"4343 \text{ (base 6)}") == based("4343 in base six") == Digits("4343", 6)
    assert based("1a3_{16}") == based(r"\text{1A3}_{\text{sixteen}}") == Digits("1A3", 16)
    for text in ("a_1", "a_{12}", "x_2", "4343", "7_6", "46_6", "12_1", "2 + 11_2", r"\log_2 8"):
        assert based(text) is None


def test_a_gold_in_the_text_is_seen_as_a_word_of_its_own():
    for text in ("so it is 1025.", "x=1025, done", "about 1,025 of them", r"1{,}025", "01025"):
        assert overlooked(text, "1025")
        assert overlooked(text, "1,025")
    for text in ("11025", "1025.5", "10251", "-1025", "1025,000", "x1025", None, ""):
        assert not overlooked(text, "1025")
    assert overlooked(r"hence $\frac12$ or so", r"\frac12")
    assert overlooked("It is Evelyn", "Evelyn")
    assert not overlooked("Evelyns", "Evelyn")


@given(st.integers(-(10**12), 10**12))
def test_thousands_marks_change_nothing(number):
    for mark in ("", ",", "{,}", r"\,", r"\!", " "):
        assert integer(f"{number:,}".replace(",", mark)) == str(number)


def test_what_means_the_same_is_tidied_alike():
    assert tidy(r"2\mathrm{e}^{\mathrm{i}\pi}") == tidy(r"2e^{i\pi}")
    assert tidy(r"\varnothing") == tidy(r"\emptyset")
    assert tidy("\uff081\uff0c2\uff09") == "(1,2)"
    assert tidy("x\u22643") == tidy(r"x\leq 3") == r"x\le 3"
    assert tidy("x\u2075") == tidy("x^{5}")
    assert tidy("\u0394 \u03b4") == r"\Delta \delta"
    assert tidy(r"\tfrac12") == tidy(r"\frac{1}{2}") == tidy(r"\dfrac 1{2}") == r"\frac{1}{2}"
    assert tidy(r"\sqrt3x") == r"\sqrt{3}x"
    assert tidy("{{25}}x") == "{25}x"
    assert tidy(r"$\text{\textbf{25}}$.") == tidy(r"\text{25}")
    assert tidy("a,  b ;") == "a, b"


@given(st.text(max_size=60))
def test_tidying_twice_is_tidying_once(text):
    assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 100_000,
        r"\boxed{" + "{" * 300_000,
        r"\framebox[" * 100_000,
        r"\boxed{" + "9" * 1_000_000 + "}",
        r"\boxed{" + "{" * 10_000 + "5" + "}" * 10_000 + "}",
        "<answer>" * 100_000,
        r"\boxed{1}" + "}" * 300_000 + r"\boxed{",
        "\\" * 300_000 + r"\boxed{",
    ],
)
def test_hostile_texts_take_linear_time(text):
    start = time.process_time()
    answer = extract(text)
    extract(text, rule="post")
    integer(answer or "", equation=True)
    assert time.process_time() - start < 3


def test_hostile_integers_take_linear_time():
    start = time.process_time()
    for text in (
        "a" * 400,
        "1," * 200,
        "9" * 400,
        r"\text{" * 80,
        "(" * 400,
        "+|" * 200,
        "a+" * 199,
    ):
        integer(text, equation=True)
    assert time.process_time() - start < 1


def test_hostile_writings_are_read_in_bounded_time():
    parts = ["million ", r"\\", ".", "$", "cm ", r"\frac", r"\text{", "a=1,", "1 ", "=", r"\,."]
    parts += ["{", "base ", "x or ", r"\sqrt{", "^-1", "\u221a(", "|", "(a", "1/2 ", r"\approx "]
    start = time.process_time()
    for part in parts:
        text = (part * 2000)[:2000]
        read(text)
        read("x=" + text[:1900] + "!", Gold("4343_6", "", Digits("4343", 6)))
        tidy(text)
    assert time.process_time() - start < 30
