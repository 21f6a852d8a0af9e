"""Forms by algebra, in this process: which writings are one value, and which are two."""

import pytest

from lowrank.grading.algebra import form
from lowrank.grading.forms import UnreadableError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\sqrt{-25}", "5i"),
        (r"(1+2i)(3-i)", "5+5i"),
        (r"1\frac{1}{2}x", r"\frac{3}{2}x"),
        (r"x>1 \text{ or } x>3", "x>1"),
        (r"x>1 \text{ and } x>3", "x>3"),
        ("a=2b=3c", "a=3c"),
        ("2x+3y-z=4", "-4x-6y+2z=-8"),
        ("x+y>2", "-x-y<-2"),
        ("x^2-1", "(x-1)(x+1)"),
        (r"\{1,2\}", r"\{2,1\}"),
        (r"\sin^2 x + \cos^2 x - 3", "-2"),
    ],
)
def test_one_value(one, other):
    assert form(one) == form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("|x|", "x"),
        ("p-q", "q-p"),
        (r"-\sqrt{2}", r"\sqrt{2}"),
        ("[1,2)", "[1,2]"),
        ("(1,2]", "[1,2]"),
        ("x+y>2", r"x+y\ge 2"),
        ("x+y>2", "-x-y>-2"),
        (r"\pi+x", "3.14159+x"),
        (r"x>1 \text{ or } x>3", r"x>1 \text{ and } x>3"),
        ("(1,2)", "(2,1)"),
    ],
)
def test_two_values(one, other):
    assert form(one) != form(other)


def test_what_is_no_mathematics_has_no_form():
    with pytest.raises(UnreadableError):
        form(r"\frac{1}{")
