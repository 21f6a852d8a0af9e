"""Descriptions of a delta: files of the bytes they claim, and variants that are what they say."""

import json

import numpy as np
import pytest
import torch
from conftest import projections
from variant_case import fidelity, load_strictly, stored

from lowrank.delta.factor import difference, factor_pair
from lowrank.errors import InputError
from lowrank.models.checkpoint import open_checkpoint
from lowrank.models.safetensors_file import read_header
from lowrank.variants.adapter import write_adapter
from lowrank.variants.description import open_description, packed, write_description
from lowrank.variants.merge import write_variant
from lowrank.variants.packing import KINDS, bytes_of, rank_bytes, stored_as, unpack


@pytest.fixture(scope="module")
def delta(trio, tmp_path_factory):
    folder = tmp_path_factory.mktemp("delta")
    factor_pair(trio.base, trio.derivative, folder)
    return folder


@pytest.fixture(scope="module")
def described(trio, delta, tmp_path_factory):
    """Folders of a description and of the variant made of it, by kind, at the bytes of rank 4."""
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        write_description(delta, trio.base, trio.derivative, kind, 4, folder / "description")
        write_variant(
            trio.base, trio.derivative, folder / "variant", trio.base, dtype="float32",
            description_folder=folder / "description",
        )  # fmt: skip
        made[kind] = folder
    return made


def payload(path):
    """Bytes of the tensors of a safetensors file."""
    return sum(entry.size for entry in read_header(path)[0].values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_claimed_are_those_of_the_file(kind, described):
    folder = described[kind] / "description"
    record = json.loads((folder / "description.json").read_text())
    assert record["bytes"] == payload(folder / "description.safetensors")
    assert record["bytes"] == sum(matrix["bytes"] for matrix in record["matrices"].values())
    assert (record["kind"], record["rank"]) == (kind, 4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bitdelta"])
def test_they_are_no_more_than_an_adapters_and_nearly_as_many(
    kind, described, delta, trio, tmp_path
):
    write_adapter(delta, trio.base, trio.derivative, 4, tmp_path)
    theirs = payload(tmp_path / "adapter_model.safetensors")
    assert theirs == sum(rank_bytes(shape, 4) for shape in projections().values())
    ours = payload(described[kind] / "description/description.safetensors")
    assert 0.9 * theirs < ours <= theirs


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_has_the_change_that_is_described(kind, described, delta, trio):
    """Projections: the base and the change; all else the derivative's; fidelity is about that."""
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    weights = stored(described[kind] / "variant")
    changed = 0.0
    for name, shape in projections().items():
        D = difference(base, derivative, name)
        change = unpack(kind, packed(kind, delta, name, D, rank_bytes(shape, 4)), shape)
        assert torch.equal(weights[name], base.read(name) + torch.from_numpy(change))
        changed += float((change.astype(np.float64) ** 2).sum())
        assert float((D - torch.from_numpy(change)).norm()) < float(D.norm())
    others = set(weights) - set(projections())
    assert others
    for name in others:
        assert torch.equal(weights[name], derivative.read(name).float())
    report = fidelity(described[kind] / "variant")["roles"]["projection"]
    assert report["meant_norm"] == pytest.approx(np.sqrt(changed), rel=1e-5)
    load_strictly(described[kind] / "variant")
    source = json.loads((described[kind] / "variant/manifest.json").read_text())["source"]
    assert "adapter" not in source
    assert source["description"]["folder"] == str(described[kind] / "description")


def test_the_same_delta_gives_the_same_bits(described, delta, trio, tmp_path):
    for kind in KINDS:
        write_description(delta, trio.base, trio.derivative, kind, 4, tmp_path / kind, threads=2)
        name = "description.safetensors"
        ours = (described[kind] / "description" / name).read_bytes()
        assert (tmp_path / kind / name).read_bytes() == ours


def test_another_base_or_delta_is_refused(described, delta, trio, tmp_path):
    folder = described["sparse"] / "description"
    with pytest.raises(InputError, match="was computed from another base"):
        open_description(folder, open_checkpoint(trio.grandparent))
    with pytest.raises(InputError, match="was computed from another derivative"):
        write_description(delta, trio.base, trio.grandparent, "sparse", 4, tmp_path / "x")
    with pytest.raises(InputError, match="kind 'zip': must be one of sparse, bitdelta"):
        write_description(delta, trio.base, trio.derivative, "zip", 4, tmp_path / "x")
    with pytest.raises(InputError, match="rank 0: a rank of at least 1"):
        write_description(delta, trio.base, trio.derivative, "sparse", 0, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_file_that_is_not_the_recorded_one_is_refused(delta, trio, tmp_path):
    for rank in (2, 3):
        write_description(delta, trio.base, trio.derivative, "sparse", rank, tmp_path / str(rank))
    name = "description.safetensors"
    (tmp_path / "2" / name).write_bytes((tmp_path / "3" / name).read_bytes())
    with pytest.raises(InputError, match=r"2/description.safetensors: was changed since it was"):
        open_description(tmp_path / "2", open_checkpoint(trio.base))


def test_parts_are_known_before_anything_is_read(described):
    for kind in KINDS:
        entries, _ = read_header(described[kind] / "description/description.safetensors")
        expected = {
            f"{name}.{part}": as_
            for name, shape in projections().items()
            for part, as_ in stored_as(kind, shape, rank_bytes(shape, 4)).items()
        }
        assert {n: (e.dtype, e.shape) for n, e in entries.items()} == expected
        assert bytes_of(expected) == sum(entry.size for entry in entries.values())


def test_rows_are_those_asked_for(described, trio):
    """A large matrix is merged some rows at a time."""
    for kind in KINDS:
        found = open_description(described[kind] / "description", open_checkpoint(trio.base))
        rows, name = found.rows(found.names[0]), found.names[0]
        whole = rows(0, found.shapes[name][0])
        assert tuple(whole.shape) == found.shapes[name]
        assert torch.equal(rows(3, 9), whole[3:9])
        assert not torch.equal(whole[3:9], whole[:6])
