"""Majority voting, pass@k and their kin over a pool of samples, exactly.

A pool is what one model gave on one problem: N samples, each with an answer or none, the answers
grouped into voting classes. All estimators are U-statistics: the average over every k-subset of
the pool, computed without enumerating or drawing any.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowrank.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
CACHED = 2**15  # numbers that a processor's cache holds a few times over


def expected_majority(
    votes: Sequence[int], right: Sequence[bool], k: int, silent: int = 0
) -> float:
    """Expected accuracy of a majority vote over a random k-subset of a pool.

    votes: how often each distinct answer occurs. right: whether that answer is right (any number
    of them may be). silent: samples without an answer; they use up a draw and never win. The pool
    size N is sum(votes) + silent. Ties are split evenly.
    Exact: the U-statistic over all C(N, k) subsets.
    Raises InputError if k is not in 1..N.
    """
    return float(majority_curve(votes, right, [k], silent)[0])


def majority_curve(
    votes: Sequence[int], right: Iterable[bool], ks: Sequence[int], silent: int = 0
) -> Floats:
    """`expected_majority` for several k at once, [len(ks)] float64.

    The number of subsets in which the right class c gets j votes, the others share the rest with
    none above j and t of them at j, counts with weight 1 / (t + 1). That weight is the integral of
    y^t over 0..1, so the sum over subsets is the coefficient of x^(k-j) in

        C(v_c, j) * integral of prod_i (sum_{a<j} C(v_i, a) x^a + y C(v_i, j) x^j) dy

    which Gauss-Legendre quadrature with enough nodes integrates exactly. Every C(v, a) x^a is
    replaced by the binomial probability of a successes in v trials at p near k / N; divided by
    that of k in N the result is the same, no term overflows, and as every term is positive
    nothing cancels.
    """
    votes = [int(v) for v in votes]
    total = sum(votes) + silent
    for k in ks:
        if not 1 <= k <= total:
            raise InputError(f"majority over k = {k} of a pool of {total}: k must be in 1..{total}")
    winners = tuple(sorted(v for v, r in zip(votes, right, strict=True) if r and v))
    losers = tuple(sorted(v for v, r in zip(votes, right, strict=True) if not r and v))
    return np.array(_curve(winners, losers, silent, tuple(ks)))


@lru_cache(maxsize=100_000)
def _curve(
    right: tuple[int, ...], wrong: tuple[int, ...], silent: int, ks: tuple[int, ...]
) -> tuple[float, ...]:
    votes = right + wrong
    total = sum(votes) + silent
    values = dict.fromkeys(ks, 0.0)
    if not right:
        return (0.0,) * len(ks)
    if not wrong and not silent:
        return (1.0,) * len(ks)
    top = max(votes)
    values[total] = right.count(top) / votes.count(top)  # the whole pool: nothing is drawn
    for p, group in _tilts(total, tuple(sorted(k for k in values if k < total))):
        chance = binomial(total, p)
        sums = np.zeros(max(group) + 1)
        for winner in sorted(set(right)):
            others = list(votes)
            others.remove(winner)
            sums += right.count(winner) * _wins(winner, others, silent, p, max(group))
        for k in group:
            values[k] = min(1.0, float(sums[k] / chance[k]))
    return tuple(values[k] for k in ks)


def _wins(winner: int, others: Sequence[int], silent: int, p: float, most: int) -> Floats:
    """[most + 1]: probability, at each number of draws, that they occur and `winner` wins."""
    mine = binomial(winner, p)[: most + 1]
    wins = np.zeros(most + 1)
    rival = max(others, default=0)
    # With more votes than any other class has, it wins whatever these do.
    beyond = np.where(np.arange(len(mine)) > rival, mine, 0.0)
    wins += np.convolve(beyond, binomial(silent + sum(others), p))[: most + 1]
    top = min(winner, most, rival)
    if top:  # level 1: t classes tied are t draws, and the integral of y^t is 1 / (t + 1)
        tied: NDArray[np.floating[Any]] = np.ones(1)
        for votes in others:
            tied = np.convolve(tied, binomial(votes, p)[:2])
        tied /= np.arange(1, len(tied) + 1)
        row = np.convolve(tied, binomial(silent, p))[:most]
        wins[1 : len(row) + 1] += mine[1] * row
    nodes: list[tuple[int, float, float]] = []  # level j, y, weight
    for level in range(2, top + 1):
        # Draws that can be: no other class has more than `level` of them.
        reach = min(most, silent + sum(min(v, level) for v in others))
        ys, weights = _legendre((sum(v >= level for v in others) + 2) // 2)
        for node in range(len(ys)):
            nodes.append((level, ys[node], weights[node]))
            if len(nodes) * reach < CACHED and (level, node + 1) != (top, len(ys)):
                continue
            state = _products(np.array(nodes), others, silent, p, reach)
            for (j, _, weight), row in zip(nodes, state, strict=True):
                last = min(reach, most - j) + 1
                wins[j : j + last] += mine[j] * weight * row[:last]
            nodes = []
    return wins


def _products(nodes: Floats, others: Sequence[int], silent: int, p: float, reach: int) -> Floats:
    """[nodes, reach + 1]: the product over the other classes at every node's level and y."""
    levels, y = nodes[:, 0], nodes[:, 1]
    lowest, highest = int(levels[0]), int(levels[-1])
    # What stays below every level is as good as silent.
    below = binomial(silent + sum(v for v in others if v < lowest), p)[: reach + 1]
    state = np.zeros((len(nodes), reach + 1))
    state[:, : len(below)] = below
    for votes in others:
        if votes < lowest:
            continue
        factor = binomial(votes, p)[: highest + 1]
        shape = np.arange(len(factor))[:, None]
        factor = factor[:, None] * ((shape < levels) + (shape == levels) * y)
        product = state * factor[0][:, None]
        for a in range(1, len(factor)):
            rows = slice(np.searchsorted(levels, a), None)  # no more than j votes each
            product[rows, a:] += factor[a, rows, None] * state[rows, : reach + 1 - a]
        state = product
    return state


@lru_cache(maxsize=4096)
def binomial(trials: int, p: float) -> Floats:
    """[trials + 1] binomial probabilities, 0 < p < 1; read-only, as it is kept.

    By their ratios from the mode outwards, which is more exact than by logarithms of factorials.
    """
    mode, odds = min(int((trials + 1) * p), trials), p / (1 - p)
    up, down = np.arange(mode + 1, trials + 1), np.arange(mode, 0, -1)
    above = np.cumprod((trials + 1 - up) / up * odds)
    below = np.cumprod(down / (trials + 1 - down) / odds)
    chance = np.concatenate([below[::-1], [1.0], above])
    chance /= chance.sum()
    chance.setflags(write=False)
    return chance


@lru_cache(maxsize=4096)
def _legendre(nodes: int) -> tuple[Floats, Floats]:
    """Nodes and weights on 0..1 that integrate polynomials of degree 2 * nodes - 1 exactly."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return (points + 1) / 2, weights / 2


@lru_cache(maxsize=4096)
def _tilts(total: int, ks: tuple[int, ...]) -> list[tuple[float, list[int]]]:
    """Groups of k that one p serves without underflow: the probability of each stays > 1e-100."""
    groups: list[tuple[float, list[int]]] = []
    for k in ks:
        if groups:
            both = [*groups[-1][1], k]
            p = (both[0] + both[-1]) / 2 / total
            chance = binomial(total, p)
            if min(chance[both[0]], chance[both[-1]]) > 1e-100:
                groups[-1] = (p, both)
                continue
        groups.append((k / total, [k]))
    return groups


def pass_at_k(right: ArrayLike, total: ArrayLike, ks: Sequence[int]) -> Floats:
    """Unbiased pass@k, 1 - C(n - c, k) / C(n, k), [len(ks), ...] (Chen et al. 2021, 2107.03374).

    right: c, how many of the pool's samples are right; total: n, the pool's size (arrays allowed).
    """
    right, total = np.broadcast_arrays(np.asarray(right), np.asarray(total))
    return 1 - np.stack([_none_of(total - right, total, k) for k in ks])


def _none_of(allowed: Integers, total: Integers, k: int) -> Floats:
    """C(allowed, k) / C(total, k), a product of k ratios, none above 1."""
    if k > total.min():
        raise InputError(f"pass@{k} needs {k} samples of every problem; there are {total.min()}")
    drawn = np.arange(k).reshape(-1, *[1] * allowed.ndim)
    share: Floats = np.prod(np.maximum(allowed - drawn, 0) / (total - drawn), axis=0)
    return share


def g_pass_at_k(right: int, total: int, k: int) -> Floats:
    """[k + 1] probability that at least i = 0..k of k drawn samples are right.

    G-Pass@k at threshold tau is the entry ceil(tau * k); mG-Pass@k is 2 / k times the sum of the
    entries ceil(k / 2) + 1 .. k (Liu et al. 2024, 2412.13147).
    """
    if not 1 <= k <= total:
        raise InputError(f"G-Pass@{k} needs {k} samples of every problem; there are {total}")
    ways = [math.comb(right, i) * math.comb(total - right, k - i) for i in range(k + 1)]
    everything = math.comb(total, k)
    tail, at_least = 0, []
    for way in reversed(ways):
        tail += way
        at_least.append(tail / everything)
    return np.array(at_least[::-1])


def drawn_majority(
    classes: NDArray[np.int64],
    right: NDArray[np.bool_],
    k: int,
    repeats: int,
    generator: np.random.Generator,
) -> Floats:
    """[repeats] expected accuracy of a majority vote over k samples drawn without replacement.

    The post's protocol on one pool; ties are split evenly.
    classes: [N] voting class of each sample, 0 .. len(right) - 1, or -1 without an answer.
    right: [classes] whether the class is right.
    """
    if not 1 <= k <= len(classes):
        raise InputError(f"{k} samples cannot be drawn from a pool of {len(classes)}")
    order = generator.permuted(np.tile(classes, (repeats, 1)), axis=1)[:, :k]
    counts = (order[:, :, None] == np.arange(len(right))).sum(axis=1)
    if not len(right):
        return np.zeros(repeats)
    top = counts.max(axis=1, keepdims=True)
    tied = (counts == top) & (top > 0)
    share: Floats = (tied & right).sum(axis=1) / np.maximum(tied.sum(axis=1), 1)
    return share
