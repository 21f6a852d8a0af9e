"""Headers checked to the last byte; slices and written files against the safetensors library."""

import hashlib
import json
import struct
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lowrank.errors import InputError
from lowrank.models.safetensors_file import read_header, read_tensor, row_chunks, write_tensors


def raw_file(path, header, data: bytes):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_slices_are_those_of_the_library(tmp_path, dtype):
    weights = {"a": torch.randn(7, 5).to(dtype), "b": torch.randn(3).to(dtype), "c": torch.ones(())}
    save_file(weights, tmp_path / "x.safetensors")
    entries, _ = read_header(tmp_path / "x.safetensors")
    for name, weight in weights.items():
        assert torch.equal(read_tensor(entries[name]), weight)
    assert torch.equal(read_tensor(entries["a"], 2, 5), weights["a"][2:5])
    assert torch.equal(read_tensor(entries["a"], 6, 99), weights["a"][6:])
    assert read_tensor(entries["a"], 3, 3).shape == (0, 5)


def test_what_is_written_the_library_reads(tmp_path):
    weight = torch.randn(6, 4)
    tensors = {"w": ("F32", (6, 4)), "n": ("BF16", (3,))}
    pieces = [weight[:2], weight[2:], torch.ones(3, dtype=torch.bfloat16)]
    size, digest = write_tensors(tmp_path / "x.safetensors", tensors, pieces, {"format": "pt"})
    content = (tmp_path / "x.safetensors").read_bytes()
    assert (size, digest) == (len(content), hashlib.sha256(content).hexdigest())
    loaded = load_file(tmp_path / "x.safetensors")
    assert torch.equal(loaded["w"], weight)
    assert torch.equal(loaded["n"], torch.ones(3, dtype=torch.bfloat16))


def test_a_file_with_too_few_bytes_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="are needed"):
        write_tensors(tmp_path / "x.safetensors", {"w": ("F32", (4,))}, [torch.ones(3)])
    assert not list(tmp_path.iterdir())


def test_chunks_cover_every_row_once():
    for shape, size in (((10, 3), 7), ((10, 3), 1), ((1, 100), 10), ((5,), 2), ((0, 4), 8)):
        rows = [row for first, stop in row_chunks(shape, size) for row in range(first, stop)]
        assert rows == list(range(shape[0]))


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"{", b"", "not valid JSON"),
        (b"[]", b"", "no JSON object"),
        ({"w": entry()}, b"1234", "truncated.*tensor w"),
        ({"w": entry()}, b"123456789", "followed by bytes of no tensor"),
        ({"v": entry(), "w": entry(offsets=(4, 12))}, b"0" * 12, "w overlaps v"),
        ({"v": entry(), "w": entry(offsets=(12, 20))}, b"0" * 20, "w leaves a gap after v"),
        ({"w": entry(shape=(3,))}, b"0" * 8, "tensor w: F32 of shape .3. is 12 bytes"),
        ({"w": entry(shape=(-1, -2))}, b"0" * 8, "tensor w: shape"),
        ({"w": entry(shape=(True, 2))}, b"0" * 8, "tensor w: shape"),
        ({"w": entry(dtype="F33")}, b"0" * 8, "tensor w: dtype 'F33'"),
        ({"__metadata__": 3}, b"", "__metadata__ is no JSON object"),
        ({"w": 3}, b"", "tensor w: 3 is no description"),
        (b'{"w":1,"w":2}', b"", "'w' occurs twice"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, header, data, words):
    path = raw_file(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(InputError, match=words) as error:
        read_header(path)
    assert "bad.safetensors" in str(error.value)


@given(st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300)
def test_any_damage_to_a_header_is_an_error_or_harmless(damage):
    """Flipped bytes never escape as another kind of error, nor as a read beyond the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        save_file({"a": torch.ones(3, 2), "b": torch.ones(4)}, path)
        content = bytearray(path.read_bytes())
        for place, value in damage:
            content[place % len(content)] = value
        path.write_bytes(content)
        try:
            entries, _ = read_header(path)
        except InputError:
            return
        for entry_ in entries.values():
            assert entry_.start + entry_.size <= len(content)


def test_header_lengths_out_of_range_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for content, words in (
        (b"123", "no safetensors file"),
        (struct.pack("<Q", 10**12) + b"{}", "limit is"),
        (struct.pack("<Q", 4096) + b"{}", "truncated"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_header(path)


def test_a_file_cut_off_after_its_header_was_read_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.ones(1000)}, path)
    entries, _ = read_header(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="ends within tensor w"):
        read_tensor(entries["w"])


def test_quantised_weights_are_refused(tmp_path):
    save_file({"w": torch.ones(4, dtype=torch.int8)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="tensor w is I8"):
        read_tensor(read_header(tmp_path / "x.safetensors")[0]["w"])
