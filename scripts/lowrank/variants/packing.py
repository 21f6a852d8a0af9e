"""One matrix's change in few bytes: its largest entries, its signs, or directions in few bits.

What low rank is held against at equal bytes. A change of rank r costs the bytes of its two factors
in float32, as an adapter stores them; the other descriptions get the same bytes, matrix by matrix,
and all that they need is counted: values, positions, scales.

sparse: the largest entries alone. bitdelta: one bit an entry and one scale (Liu et al. 2024,
2402.10193, without its training of the scales); its bytes are what they are. quantised8 and
quantised4: factors rounded to 8 or 4 bits, so that more directions fit (as in Delta-CoMe,
2406.08903, but with one number of bits for all of them).
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lowrank.models.safetensors_file import DTYPE_BYTES

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Parts = dict[str, np.ndarray]  # what is stored of a matrix, by name
Stored = dict[str, tuple[str, tuple[int, ...]]]  # the same as safetensors writes it: dtype, shape

BITS = {"quantised8": 8, "quantised4": 4}
KINDS = ("sparse", "bitdelta", *BITS)
GROUP = 128  # entries of a factor that share a scale
NUMPY = {"F32": np.float32, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "U32": np.uint32}


def rank_bytes(shape: tuple[int, int], rank: int) -> int:
    """Bytes of both factors of a rank in float32; a rank above the shorter side is that side."""
    return 4 * min(rank, *shape) * sum(shape)


def bytes_of(stored: Stored) -> int:
    """Bytes of all parts."""
    return int(sum(math.prod(shape) * DTYPE_BYTES[dtype] for dtype, shape in stored.values()))


def stored_as(kind: str, shape: tuple[int, int], budget: int) -> Stored:
    """The parts that a matrix [m, n] has in a description of at most `budget` bytes.

    They follow from its shape alone. Nothing fits: no parts, which is no change. bitdelta has no
    choice and takes what it takes.
    """
    m, n = shape
    if kind == "bitdelta":
        return {"signs": ("U8", (m, -(-n // 8))), "scale": ("F32", (1,))}
    if kind == "sparse":
        return _stored_sparse(m, n, budget)
    count = min(budget // _direction_bytes(kind, shape), m, n)
    if count == 0:
        return {}
    stored: Stored = {}
    for name, side in (("A", n), ("B", m)):
        codes = ("I8", (count, side)) if BITS[kind] == 8 else ("U8", (count, -(-side // 2)))
        stored |= {f"{name}.codes": codes, f"{name}.scales": ("F32", (count, -(-side // GROUP)))}
    return stored


def _stored_sparse(m: int, n: int, budget: int) -> Stored:
    """Values, and where they are: by column, or as a mask of one bit an entry, as is cheaper.

    By column: the columns of each row's entries in order, and how many each row has.
    """
    word = "U16" if n < 1 << 16 else "U32"
    width = int(DTYPE_BYTES[word])
    mask = m * -(-n // 8)
    by_column = min((budget - m * width) // (4 + width), m * n)
    by_mask = min((budget - mask) // 4, m * n)
    if max(by_column, by_mask) < 1:
        return {}
    if by_column > by_mask:
        position = {"columns": (word, (by_column,)), "counts": (word, (m,))}
        return {"values": ("F32", (by_column,)), **position}
    return {"values": ("F32", (by_mask,)), "mask": ("U8", (m, -(-n // 8)))}


def _direction_bytes(kind: str, shape: tuple[int, int]) -> int:
    """Bytes of one direction: codes and scales of both factors."""
    return sum(-(-side * BITS[kind] // 8) + 4 * -(-side // GROUP) for side in shape)


def pack(
    kind: str, D: Floats, budget: int, factors: "Callable[[int], tuple[torch.Tensor, torch.Tensor]]"
) -> Parts:
    """The parts of a change D [m, n], float32, as `stored_as` has them.

    factors: of a number of directions, lora_A [r, n] and lora_B [m, r], asked for by kinds that
    round them. The same D gives the same bytes: of equal entries the first ones are taken.
    """
    stored = stored_as(kind, (D.shape[0], D.shape[1]), budget)
    if not stored:
        return {}
    if kind == "bitdelta":
        scale = np.abs(D).mean(dtype=np.float64)  # the best one: it minimises ||D - scale S||
        return {
            "signs": np.packbits(D > 0, axis=1),
            "scale": np.array([scale], dtype=np.float32),
        }
    if kind == "sparse":
        chosen = largest(D, stored["values"][1][0])
        if "mask" in stored:
            return {"values": D[chosen], "mask": np.packbits(chosen, axis=1)}
        word = NUMPY[stored["columns"][0]]
        columns = np.nonzero(chosen)[1].astype(word)
        return {"values": D[chosen], "columns": columns, "counts": chosen.sum(1).astype(word)}
    A, B = factors(stored["A.codes"][1][0])
    parts: Parts = {}
    for name, factor in (("A", A.numpy()), ("B", B.T.numpy())):
        codes, parts[f"{name}.scales"] = quantise(factor, BITS[kind])
        parts[f"{name}.codes"] = codes if BITS[kind] == 8 else nibbles(codes)
    return {part: parts[part] for part in stored}


def unpack(kind: str, parts: Mapping[str, np.ndarray], shape: tuple[int, int]) -> Floats:
    """The change [m, n], float32, that parts describe."""
    m, n = shape
    if not parts:
        return np.zeros(shape, dtype=np.float32)
    if kind == "bitdelta":
        signs = np.unpackbits(parts["signs"], axis=1, count=n)
        return np.where(signs, parts["scale"], -parts["scale"])
    if kind == "sparse":
        change = np.zeros(shape, dtype=np.float32)
        if "mask" in parts:
            change[np.unpackbits(parts["mask"], axis=1, count=n).astype(bool)] = parts["values"]
        else:
            rows = np.repeat(np.arange(m), parts["counts"])
            change[rows, parts["columns"]] = parts["values"]
        return change
    A, B = (
        restored(
            parts[f"{name}.codes"]
            if BITS[kind] == 8
            else from_nibbles(parts[f"{name}.codes"], side),
            parts[f"{name}.scales"],
        )
        for name, side in (("A", n), ("B", m))
    )
    return B.T @ A


def largest(D: Floats, count: int) -> NDArray[np.bool_]:
    """Where the `count` entries of D that are largest in size are; of equal ones, the first."""
    sizes = np.abs(D).ravel()
    threshold = np.partition(sizes, len(sizes) - count)[len(sizes) - count]
    chosen = sizes > threshold
    equal = np.flatnonzero(sizes == threshold)
    chosen[equal[: count - int(chosen.sum())]] = True
    where: NDArray[np.bool_] = chosen.reshape(D.shape)
    return where


def quantise(factor: Floats, bits: int) -> tuple[NDArray[np.int8], Floats]:
    """Codes [r, side] and scales [r, groups] of a factor's rows, GROUP entries a scale.

    Symmetric: the largest entry of a group in size becomes 2^(bits - 1) - 1 in size.
    """
    top = 2 ** (bits - 1) - 1
    side = factor.shape[1]
    sizes = np.maximum.reduceat(np.abs(factor), np.arange(0, side, GROUP), axis=1)
    scales = (sizes / top).astype(np.float32)
    each = np.repeat(scales, GROUP, axis=1)[:, :side]
    codes = np.divide(factor, each, out=np.zeros_like(factor), where=each > 0)
    # A scale near float32's smallest number is rounded: no code may leave its range for it.
    return np.clip(np.rint(codes), -top, top).astype(np.int8), scales


def restored(codes: NDArray[np.int8], scales: Floats) -> Floats:
    """The rows of a factor that codes and scales stand for."""
    return codes * np.repeat(scales, GROUP, axis=1)[:, : codes.shape[1]]


def nibbles(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Codes of -8..7, two a byte: the first in the low half, each plus 8."""
    raised = (codes + 8).astype(np.uint8)
    raised = np.pad(raised, ((0, 0), (0, raised.shape[1] % 2)))
    return (raised[:, ::2] | raised[:, 1::2] << 4).astype(np.uint8)


def from_nibbles(packed: NDArray[np.uint8], side: int) -> NDArray[np.int8]:
    """What `nibbles` packed of rows of `side` codes."""
    both = np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)
    return both[:, :side].astype(np.int8) - 8
