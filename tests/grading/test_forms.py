"""Which forms are alike, and the order that they have."""

from fractions import Fraction

import pytest

from lowrank.grading.forms import OTHER, alike, numbers, ordered
from lowrank.grading.numerals import Number


def exact(value: str | int) -> Number:
    return Number(Fraction(value))


def rounded(value: str) -> Number:
    return Number(Fraction(value), rounded=True)


@pytest.mark.parametrize(
    ("value", "decimal", "expected"),
    [
        (Fraction(1, 3), "0.333333", True),
        (Fraction(1, 3), "0.333334", False),
        ("0.1000005", "0.100000", True),  # half a unit in the sixth decimal, and a little more
        ("0.10000051", "0.100000", False),
        (Fraction(1, 15000), "0.0000666667", True),  # below 0.1 six significant digits count
        (Fraction(1, 15000), "0.000066667", False),
        ("1000.0000001", "1000.00", True),
        ("1000.01", "1000.00", False),
    ],
)
def test_a_long_decimal_is_like_what_it_rounds_in_either_order(value, decimal, expected):
    assert alike(exact(value), rounded(decimal)) is expected
    assert alike(rounded(decimal), exact(value)) is expected
    assert not alike(exact(value), exact(decimal))


def test_parts_are_compared_and_none_may_be_left_over():
    pair = ("tuple", exact(1), exact(2))
    assert alike(pair, ("tuple", exact(1), rounded("2.000000")))
    assert not alike(pair, ("tuple", exact(2), exact(1)))
    assert not alike(pair, (*pair, exact(3)))
    assert not alike(pair, ("set", exact(1), exact(2)))
    assert not alike(OTHER, OTHER)


def test_forms_have_one_order_by_kind_and_size():
    large = exact(10**400)
    forms = [("tuple", exact(1)), large, exact(2), exact(-1), Number(-large.value), ("set",)]
    expected = [forms[4], forms[3], forms[2], large, ("set",), forms[0]]
    assert ordered(forms) == ordered(forms[::-1]) == expected
    assert list(numbers(("set", exact(1), ("tuple", exact(2), True), "x"))) == [exact(1), exact(2)]
