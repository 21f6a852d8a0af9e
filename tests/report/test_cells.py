"""Numbers as tables and sentences show them."""

import numpy as np
import pytest

from lowrank.report.cells import DASH, interval, joined, percent, size, spread


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0%"),
        (0.056, "5.6%"),
        (0.0999, "10.0%"),
        (0.1, "10%"),
        (0.505, "50%"),
        (0.99, "99%"),
        (0.9954, "99.5%"),
        (1.0, "100%"),
        (-0.25, "-25.0%"),
        (np.nan, DASH),
    ],
)
def test_a_share_has_a_decimal_where_it_is_small_or_nearly_whole(share, text):
    assert percent(share) == text


def test_sizes_have_three_digits_and_nothing_is_a_dash():
    assert [size(x) for x in (0.012345, 1.0, 123.4, np.nan)] == ["0.0123", "1.00", "123", DASH]
    assert interval(0.1, 0.25) == f"0.100 {DASH} 0.250"
    assert interval(np.nan, 0.25) == spread(np.nan) == ""


def test_words_are_joined_as_in_a_sentence():
    assert [joined(list(words)) for words in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
