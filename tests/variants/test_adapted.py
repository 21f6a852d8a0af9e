"""Somebody's adapter merged is what PEFT merges, and nothing of it is dropped."""

import json
import math
import re
import shutil

import pandas
import pytest
import torch
from conftest import EMBEDDING, HEAD, config, projections, write_checkpoint
from peft_case import make_adapter, merged_by_peft
from safetensors.torch import load_file, save_file
from variant_case import load_strictly, stored

from lowrank.errors import InputError
from lowrank.files import sha256
from lowrank.models.checkpoint import open_checkpoint
from lowrank.models.hub import copy_model
from lowrank.variants.adapted import COLUMNS, merge, stable_rank, write_adapted
from lowrank.variants.factors import read_contents
from lowrank.variants.lora_config import LoraConfig, read_lora_config

Q0, DOWN0 = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"


def check(base, adapter, output):
    """Merged here and by PEFT, tensor by tensor; returns the merged weights."""
    write_adapted(base, adapter, output)
    ours, theirs = stored(output), merged_by_peft(base, adapter).state_dict()
    assert set(ours) == set(theirs)
    for name, weight in theirs.items():
        assert ours[name].dtype == torch.float32
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-6)
    return ours


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_dora": True},
        {"use_rslora": True, "lora_alpha": 6},
        {
            "use_dora": True,
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.\w+": 3},
            "alpha_pattern": {Q0: 5, r"\w+_proj": 7},
        },
        {"bias": "all"},
        {"bias": "lora_only", "use_dora": True},
        {"modules_to_save": ["lm_head", "norm"]},
        {"layers_to_transform": [1], "target_modules": ["o_proj", "up_proj"]},
        {"target_modules": "all-linear", "use_dora": True},
        {"target_modules": r".*\.1\..*(up|gate)_proj"},
        # PEFT saves the head's own weight beside its factors.
        {"target_modules": ["v_proj", "lm_head"], "exclude_modules": ["1.self_attn.v_proj"]},
    ],
    ids=str,
)
def test_every_kind_is_merged_as_peft_merges_it(trio, tmp_path, settings):
    adapter = make_adapter(trio.base, tmp_path / "adapter", **settings)
    ours = check(trio.base, adapter, tmp_path / "model")
    # What PEFT trained has moved: the adapter was not merged in part.
    before = stored(trio.base)
    moved = {name for name, weight in ours.items() if not torch.equal(weight, before[name].float())}
    trained = {
        re.sub(r"\.lora_.*", ".weight", key.removeprefix("base_model.model.")).replace(
            ".base_layer", ""
        )
        for key in load_file(adapter / "adapter_model.safetensors")
    }
    assert moved == trained - {EMBEDDING}  # which PEFT saves with the head, and did not train


@pytest.mark.parametrize("dora", [False, True])
def test_weights_that_are_stored_input_first_are_merged_as_peft_merges_them(tmp_path, dora):
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 96, "n_positions": 64}
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(tmp_path / "base")
    targets = ["c_attn", "c_fc"]
    adapter = make_adapter(
        tmp_path / "base", tmp_path / "a", target_modules=targets, fan_in_fan_out=True,
        use_dora=dora,
    )  # fmt: skip
    write_adapted(tmp_path / "base", adapter, tmp_path / "model")
    theirs = merged_by_peft(tmp_path / "base", adapter).state_dict()
    for name, weight in load_strictly(tmp_path / "model").state_dict().items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-5, atol=1e-6)
    table = pandas.read_csv(tmp_path / "model/adapter.csv")
    assert len(table) == 4


def test_half_precision_factors_are_merged_in_float32(trio, tmp_path):
    """As adapters are often stored; PEFT widens them on loading."""
    adapter = make_adapter(trio.base, tmp_path / "adapter", use_dora=True)
    file = adapter / "adapter_model.safetensors"
    save_file({name: f.bfloat16() for name, f in load_file(file).items()}, file)
    check(trio.base, adapter, tmp_path / "model")


def test_a_row_keeps_the_magnitude_and_the_direction():
    """DoRA: every row has the length of its magnitude and points where W + s B A does."""
    generator = torch.Generator().manual_seed(0)
    W, A, B = (torch.randn(*s, generator=generator) for s in ((9, 6), (2, 6), (9, 2)))
    magnitude = torch.rand(9, generator=generator) + 0.5
    merged = merge(W, A, B, 0.5, magnitude)
    torch.testing.assert_close(merged.norm(dim=1), magnitude)
    cosine = torch.nn.functional.cosine_similarity(merged, W + 0.5 * B @ A)
    torch.testing.assert_close(cosine, torch.ones(9))
    # At the start of training nothing is changed.
    same = merge(W, A, torch.zeros(9, 2), 0.5, W.norm(dim=1))
    torch.testing.assert_close(same, W)


def test_a_dora_without_its_magnitudes_would_be_another_model(trio, tmp_path):
    """What a merge that takes a DoRA for a LoRA would make."""
    adapter = make_adapter(trio.base, tmp_path / "adapter", use_dora=True)
    write_adapted(trio.base, adapter, tmp_path / "model")
    base, model = open_checkpoint(trio.base), open_checkpoint(tmp_path / "model")
    contents = read_contents(adapter, base, merging=True)
    name = f"{Q0}.weight"
    factors = load_file(adapter / "adapter_model.safetensors")
    A, B = (factors[f"base_model.model.{Q0}.lora_{side}.weight"] for side in "AB")
    plain = base.read(name) + contents.factors[name].scale * B @ A
    assert not torch.allclose(model.read(name), plain, atol=1e-3)


@pytest.mark.parametrize("dora", [False, True])
def test_the_table_says_how_large_both_changes_are(trio, tmp_path, dora):
    adapter = make_adapter(trio.base, tmp_path / "adapter", use_dora=dora, use_rslora=True)
    write_adapted(trio.base, adapter, tmp_path / "model")
    table = pandas.read_csv(tmp_path / "model/adapter.csv")
    assert list(table.columns) == list(COLUMNS)
    base, model = open_checkpoint(trio.base), open_checkpoint(tmp_path / "model")
    factors = load_file(adapter / "adapter_model.safetensors")
    assert set(table["tensor"]) == {n for n in projections() if "q_proj" in n or "down" in n}
    for row in table.to_dict("records"):
        key = f"base_model.model.{row['tensor'].removesuffix('.weight')}"
        A, B = (factors[f"{key}.lora_{side}.weight"].double() for side in "AB")
        product = 8 / math.sqrt(4) * B @ A
        W = base.read(row["tensor"]).double()
        change = model.read(row["tensor"]).double() - W
        assert (row["r"], row["alpha"], row["scale"], row["dora"]) == (4, 8, 4, dora)
        assert row["base_norm"] == pytest.approx(float(W.norm()), rel=1e-5)
        assert row["ba_norm"] == pytest.approx(float(product.norm()), rel=1e-5)
        assert row["change_norm"] == pytest.approx(float(change.norm()), rel=1e-4)
        assert row["change_relative"] == pytest.approx(float(change.norm() / W.norm()), rel=1e-4)
        for name, matrix in (("ba", product), ("change", change)):
            sigma = torch.linalg.svdvals(matrix)
            expected = float((sigma**2).sum() / sigma[0] ** 2)
            assert row[f"{name}_stable_rank"] == pytest.approx(expected, rel=0.05)
        # Without magnitudes the merged change is the product of the factors; with them it is not
        # of their rank.
        rank = int((torch.linalg.svdvals(change) > 1e-3 * change.norm()).sum())
        assert (rank > 4) == dora
    assert stable_rank(0.0, 0.0) is None


def test_the_manifest_names_base_and_adapter_and_others_load_it(trio, tmp_path):
    copy_model(trio.base, tmp_path / "base")
    adapter = make_adapter(trio.base, tmp_path / "adapter", modules_to_save=["lm_head"])
    write_adapted(tmp_path / "base", adapter, tmp_path / "model")
    source = json.loads((tmp_path / "model/manifest.json").read_text())["source"]
    assert source["base"]["source"] == {"path": str(trio.base)}
    assert source["base"]["weights"] == {
        "model.safetensors": sha256(trio.base / "model.safetensors")
    }
    assert source["adapter"]["files"] == {
        name: sha256(adapter / name)
        for name in ("adapter_config.json", "adapter_model.safetensors")
    }
    assert source["whole"] == [HEAD]
    model = load_strictly(tmp_path / "model")
    ids = torch.arange(30)[None]
    with torch.no_grad():
        ours, theirs = model(ids).logits, merged_by_peft(trio.base, adapter)(ids).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert sha256(tmp_path / "model" / name) == sha256(trio.base / name)
    # An adapter on it is merged into what it is, not into what it came from.
    again = make_adapter(tmp_path / "model", tmp_path / "second", target_modules=["v_proj"])
    check(tmp_path / "model", again, tmp_path / "both")


@pytest.fixture(scope="module")
def dora(trio, tmp_path_factory):
    """A DoRA with one module trained whole."""
    folder = tmp_path_factory.mktemp("dora")
    return make_adapter(trio.base, folder, use_dora=True, modules_to_save=["lm_head"])


KEY = f"base_model.model.{Q0}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w, c: w.pop(f"{KEY}.lora_magnitude_vector"), "lora_magnitude_vector .out."),
        (lambda w, c: c.update(use_dora=False), r"lora_magnitude_vector does not fit"),
        (lambda w, c: c.update(rank_pattern={"q_proj": 2}), r"q_proj.* lora_A \[2, in\]"),
        (lambda w, c: c.update(rank_pattern={"q_proj": 0}), "q_proj is 0; a whole number"),
        (lambda w, c: c.update(alpha_pattern={"q_proj": "x"}), "q_proj is 'x'; a number"),
        (lambda w, c: w.pop(f"base_model.model.{HEAD}"), "modules_to_save names lm_head"),
        (
            lambda w, c: w.update({f"base_model.model.{HEAD}": torch.ones(9, 128)}),
            r"lm_head.weight, trained whole, is \[9, 128\], and in .* it is \[128, 128\]",
        ),
        (
            lambda w, c: w.update({"base_model.model.model.x.bias": torch.ones(3)}),
            "x.bias, trained whole, is .* there is no such tensor; it was made for another base",
        ),
        (lambda w, c: w.update({"q.weight": torch.ones(3)}), "tensor q.weight does not fit"),
        (
            lambda w, c: w.update({f"{KEY}.lora_embedding_A": torch.ones(3)}),
            "lora_embedding_A does not fit",
        ),
        (lambda w, c: c.update(layers_to_transform=[1]), f"factors of {DOWN0}, which .* leaves"),
        (lambda w, c: c.update(exclude_modules=["q_proj"]), f"factors of {Q0}, which"),
        (lambda w, c: c.update(target_modules=r".*\.down_proj"), f"factors of {Q0}, which"),
        (lambda w, c: c.update(modules_to_save=["q_proj"]), f"factors of {Q0}, which"),
        (lambda w, c: c.update(rank_pattern=[2]), r"rank_pattern is \[2\]; a number for each"),
        (lambda w, c: c.update(target_modules="(q"), r"target_modules has '\(q', no pattern"),
        (lambda w, c: c.update(lora_bias=True), "lora_bias is True"),
        (lambda w, c: c.update(trainable_token_indices=[1]), "trainable_token_indices is"),
        (lambda w, c: c.update(init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
        (lambda w, c: w.update({f"{KEY}.lora_B.weight": torch.full((128, 4), math.nan)}), "NaN"),
        (
            lambda w, c: [w.pop(name) for name in list(w) if "lora" in name],
            "holds no factors",
        ),
    ],
)
def test_what_would_be_dropped_is_refused_by_name(trio, dora, tmp_path, change, words):
    folder = shutil.copytree(dora, tmp_path / "a")
    weights = load_file(folder / "adapter_model.safetensors")
    settings = json.loads((folder / "adapter_config.json").read_text())
    change(weights, settings)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=words):
        write_adapted(trio.base, folder, tmp_path / "model")
    assert not (tmp_path / "model/manifest.json").exists()
    assert not (tmp_path / "model/model.safetensors").exists()


def test_a_tied_embedding_is_not_changed_by_halves(trio, tmp_path):
    adapter = make_adapter(
        trio.grandparent, tmp_path / "a", modules_to_save=["embed_tokens"],
        target_modules=["q_proj"],
    )  # fmt: skip
    with pytest.raises(InputError, match="is the output head, too"):
        write_adapted(trio.grandparent, adapter, tmp_path / "model")


def named(adapter, folder, name):
    """A copy of an adapter whose configuration names another base."""
    folder = shutil.copytree(adapter, folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = name
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("lab/Base-1.5B", True),
        ("mirror/base-1.5b", True),
        ("/home/somebody/models/whatever", None),
        ("./ckpt", None),
        (None, True),
        ("lab/Other-1.5B", False),
        ("lab/Base-1.5B-Instruct", False),
    ],
)
def test_the_base_that_the_adapter_names(trio, dora, tmp_path, capfd, name, fits):
    """Another repository is refused; a folder of its author's is only noted."""
    base = tmp_path / "base"
    copy_model(trio.base, base)
    manifest = json.loads((base / "manifest.json").read_text())
    manifest["source"] = {"repo": "lab/Base-1.5B", "revision": "0" * 40}
    (base / "manifest.json").write_text(json.dumps(manifest))
    adapter = named(dora, tmp_path / "a", name)
    if fits is False:
        with pytest.raises(InputError, match=f"made for {name} .*is lab/Base-1.5B; put it on"):
            write_adapted(base, adapter, tmp_path / "model")
        return
    write_adapted(base, adapter, tmp_path / "model")
    said = f"its base is called {name} there" in capfd.readouterr().err
    assert said == (fits is None)


def test_a_base_that_is_here_is_compared_with_what_it_is_put_on(trio, dora, tmp_path):
    """The same weights in other files and another dtype are the same base."""
    weights = {name: weight.float() for name, weight in stored(trio.base).items()}
    wide = write_checkpoint(tmp_path / "wide", weights, config(False, "float32"), shards=2)
    write_adapted(trio.base, named(dora, tmp_path / "a", str(wide)), tmp_path / "model")
    # A folder that is no checkpoint tells nothing.
    (tmp_path / "none").mkdir()
    (tmp_path / "none/config.json").write_text("{}")
    none = named(dora, tmp_path / "c", str(tmp_path / "none"))
    write_adapted(trio.base, none, tmp_path / "model")
    weights["model.norm.weight"][0] += 1
    other = write_checkpoint(tmp_path / "other", weights, config(False, "float32"))
    with pytest.raises(InputError, match=r"was made for .*other .* whose model.norm.weight has"):
        write_adapted(trio.base, named(dora, tmp_path / "b", str(other)), tmp_path / "model")


def test_another_shape_is_another_base(trio, tmp_path):
    from tiny_models import USUAL
    from transformers import Qwen2Config, Qwen2ForCausalLM

    Qwen2ForCausalLM(Qwen2Config(**USUAL)).save_pretrained(tmp_path / "small")
    adapter = make_adapter(tmp_path / "small", tmp_path / "a")
    with pytest.raises(InputError, match="does not fit"):
        write_adapted(trio.base, adapter, tmp_path / "model")


PATHS = [Q0, DOWN0, "model.layers.1.self_attn.q_proj", "model.layers.11.mlp.up_proj", "lm_head",
         "model.layers.1.experts.0.up_proj", "transformer.h.1.attn.c_attn", "x_q_proj",
         "model.vision.blocks.0.q_proj"]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [1, 11]},
        {"target_modules": ["up_proj", "lm_head"], "layers_to_transform": 1},
        {"target_modules": ["c_attn"], "layers_to_transform": [1], "layers_pattern": "h"},
        {"target_modules": ["up_proj"], "layers_to_transform": [0], "layers_pattern": ["experts"]},
        {"target_modules": [Q0], "layers_to_transform": [1]},
        {"target_modules": ["q_proj"], "exclude_modules": ["0.self_attn.q_proj"]},
        {"target_modules": ["q_proj"], "exclude_modules": r".*vision.*"},
        {"target_modules": r"model\.layers\.\d\..*_proj"},
        {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["lm_head", "self_attn"]},
    ],
    ids=str,
)
def test_what_is_targeted_is_what_peft_targets(given):
    from peft import LoraConfig as Theirs
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    theirs = Theirs(**given)
    saved = tuple(given.get("modules_to_save", ()))
    ours = LoraConfig(4, 8, False, False, {}, {}, saved, None, given)
    for path in PATHS:
        found = check_target_module_exists(theirs, path)
        expected = bool(found) and not isinstance(found, _ExcludedModule)
        assert ours.targets(path) == expected, path


@pytest.mark.parametrize("pattern", ["q_proj", "proj", r"layers\.1\..*", "1.self_attn.q_proj", Q0])
def test_patterns_fit_the_paths_that_they_fit_in_peft(trio, dora, tmp_path, pattern):
    from peft.utils.other import get_pattern_key

    settings = json.loads((dora / "adapter_config.json").read_text())
    settings |= {"rank_pattern": {pattern: 2}, "alpha_pattern": {"up_proj": 1, pattern: 3}}
    (tmp_path / "c.json").write_text(json.dumps(settings))
    ours = read_lora_config(tmp_path / "c.json", merging=True)
    for path in PATHS:
        rank = {pattern: 2}.get(get_pattern_key([pattern], path), 4)
        alpha = {"up_proj": 1, pattern: 3}.get(get_pattern_key(["up_proj", pattern], path), 8)
        assert (ours.rank(path), ours.scale(path)) == (rank, alpha / rank), path


def test_what_is_not_ours_is_left_alone(trio, dora, tmp_path):
    (tmp_path / "adapter.csv").write_text("mine")
    with pytest.raises(InputError, match=r"adapter\.csv: lies where"):
        write_adapted(trio.base, dora, tmp_path)
    with pytest.raises(InputError, match="is the input"):
        write_adapted(trio.base, dora, dora)
