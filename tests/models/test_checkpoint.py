"""Checkpoint folders: shards, ties, manifests, and everything a folder can get wrong."""

import json
import shutil

import pytest
import torch
from conftest import EMBEDDING, HEAD, config, random_weights, write_checkpoint
from safetensors.torch import load_file, save_file

from lowrank.errors import InputError
from lowrank.files import sha256
from lowrank.models.checkpoint import (
    is_quantised,
    open_checkpoint,
)
from lowrank.models.manifest import (
    checked_manifest,
    make_manifest,
    read_manifest,
    weight_hashes,
    write_manifest,
)
from lowrank.plan.checkpoint_files import INDEX, SINGLE, weight_files


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


def test_a_stored_head_counts_whatever_the_flag_says(tmp_path):
    """As in transformers, which ties only what is equal."""
    from transformers import AutoModelForCausalLM

    weights = random_weights(0, tied=False)
    folder = write_checkpoint(tmp_path / "a", weights, config(True, "float32"))
    opened = open_checkpoint(folder)
    assert not opened.tied
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert torch.equal(loaded.lm_head.weight, opened.read(HEAD))
    assert torch.equal(loaded.model.embed_tokens.weight, opened.read(EMBEDDING))
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
    assert set(weight_hashes(open_checkpoint(folder))) == {SINGLE}
    weights = load_file(folder / SINGLE)
    weights[EMBEDDING][0, 0] += 1  # trained anew and saved over the old ones: the same size
    save_file(weights, folder / SINGLE)
    with pytest.raises(InputError, match=r"content is not what manifest.json says"):
        weight_hashes(open_checkpoint(folder))
    save_file({EMBEDDING: torch.ones(2), HEAD: torch.ones(2)}, folder / SINGLE)
    with pytest.raises(InputError, match=r"manifest.json says"):
        read_manifest(open_checkpoint(folder))


@pytest.mark.parametrize("name", ["config.json", SINGLE])
def test_a_flipped_bit_is_noticed_and_its_file_named(copy, name):
    folder = copy("base")
    write_manifest(folder, {"path": "x"})
    content = bytearray((folder / name).read_bytes())
    content[content.rindex(b"0") if name == "config.json" else -9] ^= 1  # 0 -> 1; in a weight
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: its content is not what manifest.json says"):
        checked_manifest(open_checkpoint(folder))


def test_a_manifest_of_another_tool_is_not_ours(copy):
    folder = copy("base")
    for content in ('{"files": {"model.safetensors": {"size": 3}}}', "[1]", "no JSON"):
        (folder / "manifest.json").write_text(content)
        manifest = read_manifest(open_checkpoint(folder))
        assert manifest["files"][SINGLE]["sha256"] == sha256(folder / SINGLE)
        assert (folder / "manifest.json").read_text() == content


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
    """But for weights, which are read as nothing else; a link within the folder is none out."""
    folder = copy("base")
    (folder / "config.json").rename(folder.parent / "elsewhere")
    (folder / "config.json").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(InputError, match="a link that leads out of the folder"):
        open_checkpoint(folder)
    (folder / "config.json").unlink()
    (folder.parent / "elsewhere").rename(folder / "settings")
    (folder / "config.json").symlink_to("settings")
    (folder / SINGLE).rename(folder.parent / "elsewhere.safetensors")
    (folder / SINGLE).symlink_to(folder.parent / "elsewhere.safetensors")
    open_checkpoint(folder)
    (folder.parent / "elsewhere.safetensors").write_bytes(b"root:x:0:0")
    with pytest.raises(InputError, match="get a sound copy"):
        open_checkpoint(folder)
    (folder.parent / "elsewhere.safetensors").unlink()
    with pytest.raises(InputError, match="no such file, it is a link to"):
        open_checkpoint(folder)


def test_what_the_files_hold_counts_not_what_an_index_says(copy):
    """Indices of real repositories name other files, a tied head, buffers, or forget tensors."""
    folder = copy("derivative")
    held = set(open_checkpoint(folder).tensors)
    last = "model-00002-of-00002.safetensors"
    edit_index(folder, lambda m: m.update({EMBEDDING: last, "model.rotary_emb.inv_freq": last}))
    edit_index(folder, lambda m: m.pop("model.norm.weight"))
    assert set(open_checkpoint(folder).tensors) == held
    edit_index(folder, lambda m: m.update({"model.layers.9.mlp.up_proj.weight": last}))
    with pytest.raises(InputError, match=r"layers.9.mlp.up_proj.weight, but no file holds it"):
        open_checkpoint(folder)

    folder = copy("grandparent")
    names = dict.fromkeys([*load_file(folder / SINGLE), HEAD], SINGLE)
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))
    assert open_checkpoint(folder).tied
    assert weight_files(folder) == [SINGLE]


def test_shards_may_be_numbered_otherwise_or_lack_an_index(copy):
    folder = copy("derivative")
    held = set(open_checkpoint(folder).tensors)
    for number in (1, 2):
        old = folder / f"model-0000{number}-of-00002.safetensors"
        old.rename(folder / f"model-0000{number}-of-000002.safetensors")
    edit_index(folder, lambda m: m.update({n: f.replace("of-", "of-0") for n, f in m.items()}))
    (folder / "consolidated.safetensors").write_bytes(b"another format's")
    assert set(open_checkpoint(folder).tensors) == held
    (folder / INDEX).unlink()
    assert set(open_checkpoint(folder).tensors) == held
    (folder / "model-00002-of-000002.safetensors").unlink()
    with pytest.raises(InputError, match=r"neither .* nor all shards of one count"):
        open_checkpoint(folder)


def test_of_two_checkpoints_in_a_folder_only_equal_ones_are_read(copy):
    folder = copy("derivative")
    weights = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    save_file(weights, folder / SINGLE)
    assert weight_files(folder) == [SINGLE]  # what transformers would read
    assert set(open_checkpoint(folder).tensors) == set(weights)
    weights[EMBEDDING][0, 0] += 1
    save_file(weights, folder / SINGLE)
    with pytest.raises(InputError, match=rf"two checkpoints.*differ \(tensor {EMBEDDING}"):
        open_checkpoint(folder)
    (folder / "model-00001-of-00002.safetensors").unlink()  # the index is stale now
    assert open_checkpoint(folder).tensors


@pytest.mark.parametrize(
    ("name", "weight", "method"),
    [
        ("q_proj.qweight", torch.ones(4, 4, dtype=torch.int32), "GPTQ or AWQ"),
        ("q_proj.g_idx", torch.ones(4, dtype=torch.int32), "GPTQ"),
        ("q_proj.weight_packed", torch.ones(4, 4, dtype=torch.int32), "compressed-tensors"),
        ("q_proj.weight.absmax", torch.ones(4, dtype=torch.uint8), "bitsandbytes"),
        ("experts_blocks", torch.ones(4, 4, dtype=torch.uint8), "MXFP4"),
        ("q_proj.weight", torch.ones(4, 4).to(torch.float8_e4m3fn), "F8_E4M3 weights"),
        ("experts", torch.ones(2, 4, 4).to(torch.float8_e4m3fn), "F8_E4M3 weights"),
        ("q_proj.weight", torch.ones(4, 4, dtype=torch.int8), "I8 weights"),
    ],
)
def test_quantised_weights_are_called_so(copy, name, weight, method):
    folder = copy("base")
    name = f"model.layers.0.self_attn.{name}"
    save_file(load_file(folder / SINGLE) | {name: weight}, folder / SINGLE)
    with pytest.raises(InputError, match=rf"quantised \({method}: tensor {name}"):
        open_checkpoint(folder)
    assert is_quantised(folder, {})


def test_a_configuration_alone_makes_no_quantised_checkpoint(copy):
    folder = copy("base")
    given = json.loads((folder / "config.json").read_text())
    given["quantization_config"] = {"quant_method": "fp8"}
    (folder / "config.json").write_text(json.dumps(given))
    save_file(
        load_file(folder / SINGLE) | {"model.position_ids": torch.arange(9)[None]},
        folder / SINGLE,
    )
    assert open_checkpoint(folder).tensors["model.position_ids"].dtype == "I64"
    assert not is_quantised(folder, given)


def test_adapters_are_called_so(copy):
    folder = copy("base")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"unmerged adapter .* beside base weights"):
        open_checkpoint(folder)
    (folder / SINGLE).unlink()
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"is an adapter .*on. its base"):
        open_checkpoint(folder)


def test_the_hubs_cache_is_a_folder_of_links(trio, tmp_path):
    cache = tmp_path / "models--lab--rl"
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for path in trio.derivative.iterdir():
        shutil.copy(path, cache / "blobs" / sha256(path))
        (snapshot / path.name).symlink_to(f"../../blobs/{sha256(path)}")
    assert set(open_checkpoint(snapshot).tensors) == set(open_checkpoint(trio.derivative).tensors)
    with pytest.raises(InputError, match="give the folder snapshots/<commit>"):
        weight_files(cache)


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
