"""A change in few bytes: never more than allowed, the best of its kind, the same bits."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowrank.delta.svd import directions, factor
from lowrank.variants.adapter import split
from lowrank.variants.packing import (
    GROUP,
    KINDS,
    bytes_of,
    largest,
    nibbles,
    pack,
    quantise,
    rank_bytes,
    restored,
    stored_as,
    unpack,
)

sides = st.integers(1, 40)


def change(m, n, seed=0):
    """A change whose directions fall off, as float32."""
    draw = np.random.default_rng(seed)
    s = min(m, n)
    left, right = draw.normal(size=(m, s)), draw.normal(size=(s, n))
    return (left * 0.7 ** np.arange(s) @ right).astype(np.float32)


def packed(kind, D, budget):
    D_, kept = torch.from_numpy(D), None

    def factors(count):
        nonlocal kept
        kept = kept or factor(D_)
        return split(D_, directions(kept, 0, count))

    return pack(kind, D, budget, factors)


def back(kind, D, budget):
    return unpack(kind, packed(kind, D, budget), D.shape)


def error(D, made):
    return float(np.linalg.norm(D.astype(np.float64) - made))


@given(st.sampled_from(KINDS), sides, sides, st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=120, deadline=None)
def test_what_is_stored_follows_from_the_shape_and_keeps_the_budget(kind, m, n, rank, seed):
    D, budget = change(m, n, seed), rank_bytes((m, n), rank)
    parts, stored = packed(kind, D, budget), stored_as(kind, (m, n), budget)
    assert list(parts) == list(stored)
    names = {"float32": "F32", "uint8": "U8", "int8": "I8", "uint16": "U16", "uint32": "U32"}
    for name, part in parts.items():
        assert (names[str(part.dtype)], part.shape) == stored[name]
    spent = sum(part.nbytes for part in parts.values())
    assert spent == bytes_of(stored)
    if kind != "bitdelta":
        assert spent <= budget
    again = packed(kind, D, budget)
    assert {k: v.tobytes() for k, v in parts.items()} == {k: v.tobytes() for k, v in again.items()}


def test_a_rank_costs_its_two_factors_in_float32():
    assert rank_bytes((256, 512), 3) == (256 * 3 + 3 * 512) * 4
    assert rank_bytes((5, 512), 100) == (5 * 5 + 5 * 512) * 4  # there are no more directions


# Largest entries.


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 999))
@settings(max_examples=60)
def test_no_other_choice_of_entries_is_closer(m, n, count, seed):
    D = np.random.default_rng(seed).integers(-3, 4, size=(m, n)).astype(np.float32)
    count = min(count, D.size)
    kept = np.where(largest(D, count), D, 0)
    assert largest(D, count).sum() == count
    others = itertools.combinations(range(D.size), count)
    losses = [float((np.delete(D.ravel(), list(each)) ** 2).sum()) for each in others]
    assert error(D, kept) ** 2 == pytest.approx(min(losses))


def test_of_equal_entries_the_first_are_taken():
    D = np.array([[1, -2, 2], [2, -2, 0]], dtype=np.float32)
    assert largest(D, 3).tolist() == [[False, True, True], [True, False, False]]
    assert largest(D, 6).all()


@pytest.mark.parametrize(
    ("m", "n", "rank"), [(30, 200, 1), (200, 30, 1), (64, 64, 4), (64, 64, 30)]
)
def test_sparse_keeps_as_many_of_the_largest_entries_as_fit(m, n, rank):
    D, budget = change(m, n), rank_bytes((m, n), rank)
    made = back("sparse", D, budget)
    kept = int((made != 0).sum())
    by_column = {k: 4 * k + 2 * k + 2 * m for k in (kept, kept + 1)}
    by_mask = {k: 4 * k + m * math.ceil(n / 8) for k in (kept, kept + 1)}
    cost = {k: min(by_column[k], by_mask[k]) for k in (kept, kept + 1)}
    assert cost[kept] <= budget
    assert cost[kept + 1] > budget or kept == D.size
    order = np.argsort(-np.abs(D), axis=None, kind="stable")
    expected = np.zeros(D.size, dtype=np.float32)
    expected[order[:kept]] = D.ravel()[order[:kept]]
    assert np.array_equal(made.ravel(), expected)


def test_sparse_takes_the_cheaper_way_to_say_where():
    assert "columns" in stored_as("sparse", (64, 64), rank_bytes((64, 64), 1))
    assert "mask" in stored_as("sparse", (64, 64), rank_bytes((64, 64), 16))
    # Columns beyond 65,535 take four bytes.
    assert stored_as("sparse", (2, 1 << 16), 4000)["columns"][0] == "U32"
    assert stored_as("sparse", (2, (1 << 16) - 1), 4000)["columns"][0] == "U16"


def test_a_row_may_be_whole():
    """A count of all columns of the widest matrix that 16 bits name is kept."""
    D = np.zeros((2, (1 << 16) - 1), dtype=np.float32)
    D[1] = 3
    made = back("sparse", D, (4 + 2) * D.shape[1] + 2 * 2)
    assert np.array_equal(made, D)


def test_what_does_not_fit_is_no_change():
    D = np.ones((3, 5), dtype=np.float32)
    for kind in ("sparse", "quantised4", "quantised8"):
        assert stored_as(kind, (3, 5), 3) == {}
        assert not back(kind, D, 3).any()


def test_all_of_a_matrix_is_the_matrix():
    D = change(20, 30)
    assert np.array_equal(back("sparse", D, 10**6), D)
    assert error(D, back("quantised8", D, 10**6)) < 0.02 * np.linalg.norm(D)


# One bit an entry.


@given(sides, sides, st.integers(0, 999))
@settings(max_examples=60)
def test_one_bit_an_entry_has_the_best_scale(m, n, seed):
    D = np.random.default_rng(seed).normal(size=(m, n)).astype(np.float32)
    made = back("bitdelta", D, 0)
    assert np.array_equal(np.sign(made), np.sign(D))
    (scale,) = np.unique(np.abs(made))
    for other in (0.9, 0.99, 1.01, 1.1):
        assert error(D, made) < error(D, made * other)
    assert scale == pytest.approx(np.abs(D).mean(), rel=1e-5)
    assert bytes_of(stored_as("bitdelta", (m, n), 0)) == m * math.ceil(n / 8) + 4


# Few bits a number.


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("side", [1, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP])
def test_a_code_is_the_nearest_of_its_group(bits, side):
    factor = np.random.default_rng(side).normal(size=(3, side)).astype(np.float32)
    codes, scales = quantise(factor, bits)
    top = 2 ** (bits - 1) - 1
    for row in range(3):
        for group in range(math.ceil(side / GROUP)):
            here = slice(group * GROUP, (group + 1) * GROUP)
            values = factor[row, here].astype(np.float64)
            scale = np.abs(values).max() / top
            assert scales[row, group] == pytest.approx(scale)
            grid = scale * np.arange(-top, top + 1)
            nearest = np.abs(values[:, None] - grid).min(axis=1)
            far = np.abs(values - restored(codes, scales)[row, here])
            assert np.allclose(far, nearest, atol=1e-6)
    assert np.abs(codes).max() == top


def test_nothing_is_restored_as_nothing_and_the_smallest_numbers_stay_in_range():
    codes, scales = quantise(np.zeros((2, 5), dtype=np.float32), 4)
    assert not restored(codes, scales).any()
    tiny = np.full((1, 5), 1e-45, dtype=np.float32)
    assert np.abs(quantise(tiny * 9, 4)[0]).max() <= 7


def test_two_codes_are_a_byte_the_first_in_its_low_half():
    assert nibbles(np.array([[-8, 7, 1]], dtype=np.int8)).tolist() == [[0xF0, 0x09]]


@given(st.sampled_from(["quantised8", "quantised4"]), st.integers(2, 40), st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_few_bits_buy_directions(kind, m, n):
    """As many as fit; their product is that of factors rounded by hand."""
    D, budget = change(m, n), rank_bytes((m, n), 2)
    bits = int(kind[-1])
    each = sum(math.ceil(side * bits / 8) + 4 * math.ceil(side / GROUP) for side in (m, n))
    count = min(budget // each, m, n)
    stored = stored_as(kind, (m, n), budget)
    assert len(next(iter(stored.values()))[1]) == 2
    assert {shape[0] for _, shape in stored.values()} == {count}
    A, B = (
        f.numpy()
        for f in split(torch.from_numpy(D), directions(factor(torch.from_numpy(D)), 0, count))
    )
    top = 2 ** (bits - 1) - 1

    def rounded(rows):
        scale = np.abs(rows).max(axis=1, keepdims=True) / top
        return np.rint(rows / np.where(scale > 0, scale, 1)) * scale

    assert np.allclose(
        back(kind, D, budget), rounded(B.T).T @ rounded(A), atol=1e-4 * np.abs(D).max()
    )


def test_more_bytes_are_closer():
    D = change(60, 90)
    for kind in ("sparse", "quantised8", "quantised4"):
        errors = [error(D, back(kind, D, rank_bytes(D.shape, rank))) for rank in (1, 4, 16)]
        assert errors == sorted(errors, reverse=True)
