"""One safetensors file: its header checked to the last byte, slices of it read, new ones written.

The format (https://huggingface.co/docs/safetensors): 8 bytes N little-endian, N bytes of JSON that
gives every tensor's dtype, shape and [begin, end) in the data that follows. The header is parsed
here rather than by the library because a slice must be readable without mapping the file, and
because an error has to say which tensor of which file is wrong.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from lowrank.errors import InputError
from lowrank.files import whole_file

if TYPE_CHECKING:
    import torch

HEADER_LIMIT = 100_000_000  # bytes; the limit of the safetensors library itself
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "U16": 2, "U32": 4, "U64": 8, "BOOL": 1, "C64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "F6_E2M3": 0.75, "F6_E3M2": 0.75, "F4": 0.5,
}  # fmt: skip
TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
SAFETENSORS_NAMES = {torch_name: name for name, torch_name in TORCH_NAMES.items()}
READ_LIMIT = 1 << 30  # bytes a single pread is asked for; Linux stops at 2 GiB


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies: `size` bytes from byte `start` of `file`."""

    name: str
    dtype: str  # as safetensors writes it: "BF16"
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int

    @property
    def parameters(self) -> int:
        """Number of entries; 1 for a scalar."""
        return math.prod(self.shape)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    repeated = {key for key in keys if keys.count(key) > 1} if len(set(keys)) < len(keys) else ()
    if repeated:
        raise ValueError(f"{sorted(repeated)[0]!r} occurs twice")
    return dict(pairs)


def read_header(path: str | Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The tensors of a safetensors file and its metadata, from the header alone.

    Raises InputError if the header is too long, not JSON, or describes anything but a gapless
    sequence of tensors that ends where the file does (a truncated file, overlapping offsets).
    """
    path = Path(path)
    header, data_start, length = _parsed_header(path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: its __metadata__ is no JSON object; get a sound copy")
    entries = [_entry(path, name, given, data_start) for name, given in header.items()]
    _check_gapless(path, entries, data_start, length)
    return {entry.name: entry for entry in entries}, metadata


def _parsed_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """A file's header, the byte at which its data begins, and how long the file is."""
    try:
        length = path.stat().st_size
        with path.open("rb") as content:
            prefix = content.read(8)
            header_bytes = int.from_bytes(prefix, "little")
            if len(prefix) < 8:
                raise InputError(
                    f"{path}: {length} bytes long, no safetensors file; get a sound copy"
                )
            if header_bytes > HEADER_LIMIT:
                raise InputError(
                    f"{path}: its header claims {header_bytes} bytes, the limit is {HEADER_LIMIT}; "
                    "not a safetensors file, or a damaged one: get a sound copy"
                )
            if header_bytes > length - 8:
                raise InputError(
                    f"{path}: truncated: the header alone needs {header_bytes + 8} bytes, the file "
                    f"has {length}; get a sound copy"
                )
            header = json.loads(content.read(header_bytes), object_pairs_hook=_no_duplicates)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: its header is not valid JSON ({error}); get a sound copy"
        ) from None
    if not isinstance(header, dict):
        raise InputError(f"{path}: its header is no JSON object; get a sound copy")
    return header, 8 + header_bytes, length


def _check_gapless(path: Path, entries: list[TensorEntry], data_start: int, length: int) -> None:
    """InputError unless the tensors follow one another from the header to the end of the file."""
    expected, previous = data_start, "the header"
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.size)):
        if entry.start != expected:
            what = "overlaps" if entry.start < expected else "leaves a gap after"
            raise InputError(
                f"{path}: tensor {entry.name} {what} {previous} (it begins at byte {entry.start}, "
                f"{expected} expected); the file is damaged: get a sound copy"
            )
        expected = entry.start + entry.size
        previous = entry.name
    if expected != length:
        what = "truncated" if length < expected else "followed by bytes of no tensor"
        last = next((e.name for e in entries if e.start < length <= e.start + e.size), previous)
        raise InputError(
            f"{path}: {what}: {expected} bytes expected, the file has {length} (it ends at tensor "
            f"{last}); get a sound copy"
        )


def _entry(path: Path, name: str, given: object, data_start: int) -> TensorEntry:
    """A header's entry as a TensorEntry; InputError if it contradicts itself."""

    def natural(values: object) -> TypeGuard[list[int]]:
        return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)

    if not isinstance(given, dict):
        raise InputError(f"{path}: tensor {name}: {given!r} is no description of a tensor")
    dtype, shape, offsets = given.get("dtype"), given.get("shape"), given.get("data_offsets")
    if dtype not in DTYPE_BYTES:
        raise InputError(f"{path}: tensor {name}: dtype {dtype!r}; known are {list(DTYPE_BYTES)}")
    if not natural(shape) or not natural(offsets) or len(offsets) != 2:
        raise InputError(f"{path}: tensor {name}: shape {shape!r}, data_offsets {offsets!r}")
    begin, end = offsets
    needed = math.ceil(math.prod(shape) * DTYPE_BYTES[dtype])
    if end - begin != needed:
        raise InputError(
            f"{path}: tensor {name}: {dtype} of shape {shape} is {needed} bytes, its offsets "
            f"{offsets} give {end - begin}; the file is damaged: get a sound copy"
        )
    return TensorEntry(name, dtype, tuple(shape), path, data_start + begin, needed)


def read_tensor(entry: TensorEntry, first: int = 0, stop: int | None = None) -> "torch.Tensor":
    """The tensor, or its rows [first, stop), in the dtype it is stored in, on the CPU.

    Raises InputError for integer and 8-bit dtypes (quantised weights), which have no plain value.
    """
    import torch

    if entry.dtype not in TORCH_NAMES:
        raise InputError(
            f"{entry.file}: tensor {entry.name} is {entry.dtype}; weights in "
            f"{', '.join(TORCH_NAMES)} can be compared, quantised ones cannot"
        )
    shape = entry.shape
    if shape and (first or stop is not None):
        shape = (len(range(shape[0])[first:stop]), *shape[1:])
    raw = read_bytes(entry, first, stop)
    return raw.view(getattr(torch, TORCH_NAMES[entry.dtype])).reshape(shape)


def read_bytes(entry: TensorEntry, first: int = 0, stop: int | None = None) -> "torch.Tensor":
    """The bytes of a tensor of any dtype, or of its rows [first, stop): uint8, one dimension.

    Only the bytes asked for are read, into memory of their own: nothing stays mapped.
    """
    import torch

    start, size = entry.start, entry.size
    if entry.shape and (first or stop is not None):
        rows = range(entry.shape[0])[first:stop]
        row_bytes = size // entry.shape[0] if entry.shape[0] else 0
        start, size = start + first * row_bytes, len(rows) * row_bytes
    raw = torch.empty(size, dtype=torch.uint8)
    view = raw.numpy().data
    with entry.file.open("rb", buffering=0) as content:
        done = 0
        while done < size:
            got = os.preadv(content.fileno(), [view[done : done + READ_LIMIT]], start + done)
            if got <= 0:
                raise InputError(f"{entry.file}: ends within tensor {entry.name}; get a sound copy")
            done += got
    return raw


def row_chunks(shape: Sequence[int], entries: int) -> list[tuple[int, int]]:
    """Row ranges [first, stop) that cover a tensor in pieces of at most about `entries` entries."""
    if not shape:
        return [(0, 1)]
    row = max(math.prod(shape[1:]), 1)
    step = max(entries // row, 1)
    return [(first, min(first + step, shape[0])) for first in range(0, shape[0], step)]


def header_bytes(
    tensors: Mapping[str, tuple[str, Sequence[int]]], metadata: dict[str, str] | None = None
) -> bytes:
    """The first bytes of a safetensors file with these (dtype, shape), in this order."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name, (dtype, shape) in tensors.items():
        end = position + math.ceil(math.prod(shape) * DTYPE_BYTES[dtype])
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8, as the format asks
    return len(text).to_bytes(8, "little") + text


def write_tensors(
    path: str | Path,
    tensors: Mapping[str, tuple[str, Sequence[int]]],
    pieces: Iterable["torch.Tensor"],
    metadata: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Write a safetensors file piece by piece; returns its size in bytes and its SHA-256.

    tensors: (dtype, shape) of each tensor, in the order in which their data will come.
    pieces: the data, already in that dtype and that order; a tensor may come in several pieces.
    The file appears under its name only when it is whole. ValueError if the pieces do not fill it.
    """
    import torch

    digest = hashlib.sha256()
    with whole_file(path, digest.hexdigest) as temporary, temporary.open("wb") as output:
        start = header_bytes(tensors, metadata)
        output.write(start)
        digest.update(start)
        size = len(start)
        for piece in pieces:
            content = piece.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            output.write(content)
            digest.update(content)
            size += content.nbytes
        expected = len(start) + sum(
            math.prod(shape) * DTYPE_BYTES[dtype] for dtype, shape in tensors.values()
        )
        if size != expected:
            raise ValueError(f"{path}: {size} bytes were given, {expected} are needed")
        output.flush()
        os.fsync(output.fileno())
    return size, digest.hexdigest()
