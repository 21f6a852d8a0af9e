"""Checkpoint folders: shards, ties, manifests, and everything a folder can get wrong."""

import json
import shutil

import pytest
import torch
from conftest import EMBEDDING, HEAD, config, random_weights, write_checkpoint
from safetensors.torch import load_file, save_file

from lowrank.checkpoint import (
    INDEX,
    SINGLE,
    clear_checkpoint,
    make_manifest,
    open_checkpoint,
    read_manifest,
    write_manifest,
)
from lowrank.errors import InputError
from lowrank.files import sha256


@pytest.fixture
def copy(trio, tmp_path):
    """A copy of one of the trio, to be damaged."""

    def make(name: str):
        return shutil.copytree(getattr(trio, name), tmp_path / name)

    return make


def test_shards_and_single_files_read_alike(trio):
    derivative = open_checkpoint(trio.derivative)
    stored = {}
    for file in trio.derivative.glob("*.safetensors"):
        stored |= load_file(file)
    assert len({entry.file for entry in derivative.tensors.values()}) == 2
    assert set(stored) == set(derivative.tensors)
    for name, weight in stored.items():
        assert torch.equal(derivative.read(name), weight)
    assert derivative.parameters == sum(weight.numel() for weight in stored.values())


def test_a_tied_head_is_the_embedding(trio):
    grandparent = open_checkpoint(trio.grandparent)
    assert grandparent.tied
    assert HEAD not in grandparent.tensors
    assert torch.equal(grandparent.read(HEAD), grandparent.read(EMBEDDING))
    assert not open_checkpoint(trio.base).tied


def test_ties_that_are_not_said_are_found(copy):
    for name, tied in (("grandparent", True), ("base", False)):
        folder = copy(name)
        given = json.loads((folder / "config.json").read_text())
        del given["tie_word_embeddings"]
        (folder / "config.json").write_text(json.dumps(given))
        assert open_checkpoint(folder).tied is tied


def test_a_stored_head_must_agree_with_its_tie(tmp_path):
    weights = random_weights(0, tied=False)
    folder = write_checkpoint(tmp_path / "a", weights, config(True, "float32"))
    with pytest.raises(InputError, match="tie_word_embeddings is true, but lm_head"):
        open_checkpoint(folder)
    weights[HEAD] = weights[EMBEDDING].clone()
    same = write_checkpoint(tmp_path / "b", weights, config(True, "float32"))
    assert open_checkpoint(same).tied
    del weights[HEAD]
    without = write_checkpoint(tmp_path / "c", weights, config(False, "float32"))
    with pytest.raises(InputError, match="no file holds lm_head"):
        open_checkpoint(without)


def test_manifest_counts_and_hashes(trio):
    manifest = make_manifest(trio.derivative, {"path": "x"})
    assert manifest["parameters"] == sum(
        torch.Size(tensor["shape"]).numel() for tensor in manifest["tensors"].values()
    )
    for name, file in manifest["files"].items():
        assert file["sha256"] == sha256(trio.derivative / name)
        assert file["size"] == (trio.derivative / name).stat().st_size
    assert {tensor["dtype"] for tensor in manifest["tensors"].values()} == {"F32"}


def test_a_manifest_is_held_against_the_files(copy):
    folder = copy("base")
    write_manifest(folder, {"path": "x"})
    save_file({EMBEDDING: torch.ones(2), HEAD: torch.ones(2)}, folder / SINGLE)
    with pytest.raises(InputError, match=r"manifest.json says"):
        read_manifest(open_checkpoint(folder))


def test_nan_and_inf_name_file_and_tensor(copy):
    for value in (float("nan"), float("inf"), float("-inf")):
        folder = copy("base")
        weights = load_file(folder / SINGLE)
        weights["model.norm.weight"][5] = value
        save_file(weights, folder / SINGLE)
        with pytest.raises(
            InputError, match=r"model.safetensors: tensor model.norm.weight holds 1"
        ):
            open_checkpoint(folder).read("model.norm.weight")
        shutil.rmtree(folder)


def edit_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


def test_a_missing_shard_is_named(copy):
    folder = copy("derivative")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002.safetensors, which is missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/x.safetensors", "a/b.safetensors"])
def test_an_index_must_not_lead_out_of_the_folder(copy, name):
    folder = copy("derivative")
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder.parent / "secret.safetensors")
    edit_index(folder, lambda weight_map: weight_map.update({EMBEDDING: name}))
    with pytest.raises(
        InputError, match=rf"tensor {EMBEDDING} is said to be in .*not to be trusted"
    ):
        open_checkpoint(folder)


def test_a_link_out_of_the_folder_is_refused(copy):
    folder = copy("base")
    (folder / SINGLE).rename(folder.parent / "elsewhere.safetensors")
    (folder / SINGLE).symlink_to(folder.parent / "elsewhere.safetensors")
    with pytest.raises(InputError, match="a link that leads out of the folder"):
        open_checkpoint(folder)
    (folder / SINGLE).unlink()
    (folder.parent / "elsewhere.safetensors").rename(folder / "weights")
    (folder / SINGLE).symlink_to("weights")
    open_checkpoint(folder)


def test_an_index_that_contradicts_the_files_is_refused(copy):
    folder = copy("derivative")
    edit_index(folder, lambda m: m.update({EMBEDDING: "model-00002-of-00002.safetensors"}))
    with pytest.raises(InputError, match=f"puts tensor {EMBEDDING} in"):
        open_checkpoint(folder)
    folder = copy("base")
    (folder / INDEX).write_text('{"weight_map": {"a": "model.safetensors"}}')
    with pytest.raises(InputError, match="holds both"):
        open_checkpoint(folder)


def test_tensor_names_must_not_be_paths(copy):
    folder = copy("base")
    weights = load_file(folder / SINGLE)
    weights["../../evil.layers.0.self_attn.q_proj.weight"] = torch.ones(2, 2)
    save_file(weights, folder / SINGLE)
    with pytest.raises(InputError, match="is no name for a weight"):
        open_checkpoint(folder)


def test_pickles_are_never_an_alternative(copy):
    folder = copy("base")
    (folder / SINGLE).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"only as pytorch_model.bin, a pickle"):
        open_checkpoint(folder)


def test_a_truncated_shard_names_file_and_tensor(copy):
    folder = copy("derivative")
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"00002-of-00002.safetensors: truncated.*tensor model"):
        open_checkpoint(folder)


def test_clearing_takes_only_our_own_files(copy):
    folder = copy("derivative")
    (folder / "notes.txt").write_text("mine")
    (folder / "model-00003-of-00003.safetensors").write_bytes(b"stale")
    clear_checkpoint(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "consolidated.safetensors").write_bytes(b"not ours")
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"consolidated.safetensors: weights that this program"):
        clear_checkpoint(folder)
    assert (folder / "config.json").exists()
