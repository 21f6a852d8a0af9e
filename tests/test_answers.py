"""Extraction and canonical integers, on cases made by hand and on generated ones."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowrank.answers import extract, integer, tidy


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


@given(st.text(alphabet="{}\\ab5 ", max_size=40), st.text(alphabet="{}\\ab5 ", max_size=40))
def test_a_final_complete_box_is_found_after_any_text(before, after):
    answer = extract(before + " " + r"\boxed{\frac{1}{2}}" + after)
    assert answer == r"\frac{1}{2}"


@given(st.lists(st.sampled_from([r"\boxed{", "{", "}", "<answer>", "</answer>", "5", "\\"])))
def test_the_quick_way_and_the_whole_pass_agree(parts):
    from lowrank.answers import _last_of_all

    text = "".join(parts)
    assert extract(text) == _last_of_all(text)


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
    ):
        assert integer(text, equation=True) == "25"
        assert integer(text) is None


@given(st.integers(-(10**12), 10**12))
def test_thousands_marks_change_nothing(number):
    for mark in ("", ",", "{,}", r"\,", r"\!", " "):
        assert integer(f"{number:,}".replace(",", mark)) == str(number)


def test_what_means_the_same_is_tidied_alike():
    assert tidy(r"2\mathrm{e}^{\mathrm{i}\pi}") == tidy(r"2e^{i\pi}")
    assert tidy(r"\varnothing") == tidy(r"\emptyset")
    assert tidy("\uff081\uff0c2\uff09") == "(1,2)"


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
