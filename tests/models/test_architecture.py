"""Architectures: every matrix of a layer is factored, named as something else, or refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
import torch
from conftest import config, random_weights, write_checkpoint
from safetensors.torch import load_file, save_file
from tiny_models import HEADS, MODELS, USUAL, make_pair

from lowrank.delta.factor import factor_pair
from lowrank.errors import InputError
from lowrank.models.architecture import layer_and_module, merged_only, module_type, plain_name
from lowrank.models.checkpoint import open_checkpoint, open_pair
from lowrank.variants.adapter import write_adapter
from lowrank.variants.merge import write_variant

FULL = 4096  # a rank above every side
IN_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.\d+\.")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def load(folder: Path) -> torch.nn.Module:
    """The model as transformers loads it; fails on any missing, unexpected or mismatched key."""
    import transformers

    wrapped = "vision_config" in json.loads((folder / "config.json").read_text())
    family = transformers.AutoModelForImageTextToText if wrapped else None
    model, info = (family or transformers.AutoModelForCausalLM).from_pretrained(
        folder, output_loading_info=True, dtype="auto"
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(problem), (problem, info[problem])
    return model.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 20)[None]).logits


def ledger_of(delta: Path) -> pandas.DataFrame:
    return pandas.read_parquet(delta / "ledger.parquet")


def build(base: Path, child: Path, folder: Path) -> dict[str, Path]:
    """The delta, a full-rank adapter, both variants of it, and the control without one."""
    factor_pair(base, child, folder / "delta")
    write_adapter(folder / "delta", base, child, FULL, folder / "adapter")
    made = {"delta": folder / "delta", "adapter": folder / "adapter"}
    for name, adapter, other in (
        ("copy", made["adapter"], "copy"), ("keep", made["adapter"], "keep"), ("r0", None, "copy"),
    ):  # fmt: skip
        made[name] = folder / name
        write_variant(base, child, made[name], base, adapter, other, dtype="float32")
    return made


def check_ledger(ledger: pandas.DataFrame, base: Path, child: Path) -> None:
    """Parameters and squared changes are those of the files, shares are whole."""
    old, new = weights(base), weights(child)
    assert ledger.base_parameters.sum() == sum(w.numel() for w in old.values())
    assert ledger.derivative_parameters.sum() == sum(w.numel() for w in new.values())
    changes = {name: float((new[name].double() - old[name].double()).norm() ** 2) for name in old}
    grouped = ledger.assign(stored=ledger.tensor.str.partition("[")[0]).groupby("stored")
    for name, squared in grouped.squared_change.sum().items():
        assert squared == pytest.approx(changes[name], rel=1e-5)
    for share in ("share_of_parameters", "share_of_change"):
        assert ledger[share].sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", MODELS)
def test_architectures(tmp_path, kind):
    sizes, exceptions = MODELS[kind]
    base, child = make_pair(tmp_path, kind, sizes)
    made = build(base, child, tmp_path)
    old, new = weights(base), weights(child)
    ledger = ledger_of(made["delta"])
    check_ledger(ledger, base, child)

    # Full rank with all else copied is the child, in its weights and in what it says.
    for name, weight in weights(made["copy"]).items():
        torch.testing.assert_close(weight, new[name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        logits(load(made["copy"])), logits(load(child)), rtol=1e-3, atol=1e-4
    )

    # Of a layer's weights the control without a delta has the child's only where that was said.
    stored = ledger.assign(stored=ledger.tensor.str.partition("[")[0]).groupby("stored").first()
    moved = {
        name for name, weight in weights(made["r0"]).items() if not torch.equal(weight, old[name])
    }
    matrices = {n for n in old if IN_LAYER.search(n) and old[n].dim() > 1}
    copied = set(stored.what[sorted(matrices & moved)])
    assert copied <= exceptions | {"bias"}
    assert exceptions <= set(ledger.what)
    assert {n for n in matrices if stored.role[n] == "projection"} == matrices - moved
    load(made["r0"])

    # Kept: the child's projections and biases, everything else the base's.
    kept = weights(made["keep"])
    for name, weight in kept.items():
        projection = stored.role[name] in ("projection", "bias")
        torch.testing.assert_close(weight, (new if projection else old)[name], rtol=1e-5, atol=1e-6)
    load(made["keep"])

    # Modules are unique in their layer.
    factored = ledger[ledger.role == "projection"]
    assert not factored.duplicated(["layer", "module"]).any()
    assert set(factored.layer) == {0, 1}


TEXT = USUAL | {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
          "num_attention_heads": 4, "image_size": 16, "patch_size": 8}  # fmt: skip
# Models of text and images, whose vision towers have layers, and mostly a q_proj, of their own.
SEEING = {
    "llava": {"text_config": {"model_type": "llama", **USUAL},
              "vision_config": {"model_type": "clip_vision_model", **VISION},
              "image_token_index": 95},
    "gemma3": {"text_config": USUAL | HEADS, "vision_config": VISION, "mm_tokens_per_image": 4},
    "qwen2_vl": {"text_config": TEXT | {"model_type": "qwen2_vl_text"},
                 "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4,
                                   "mlp_ratio": 2, "patch_size": 4}},
    # Its embedding has more rows than the vocabulary and the head.
    "mllama": {"text_config": USUAL | {"cross_attention_layers": [1]},
               "vision_config": {"hidden_size": 32, "intermediate_size": 48,
                                 "num_hidden_layers": 2, "num_global_layers": 1,
                                 "attention_heads": 4, "image_size": 16, "patch_size": 8,
                                 "intermediate_layers_indices": [1], "vision_output_dim": 64}},
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEING)
def test_only_the_language_models_layers_are_its_layers(tmp_path, kind):
    base, child = make_pair(tmp_path, kind, SEEING[kind])
    made = build(base, child, tmp_path)
    ledger = ledger_of(made["delta"])
    check_ledger(ledger, base, child)
    seeing = ledger.tensor.str.contains("vis")
    assert seeing.sum() > 10
    assert set(ledger[seeing].what) == {"outside the decoder's layers"}
    assert (ledger.role == "projection").sum() == 14
    new = weights(child)
    for name, weight in weights(made["copy"]).items():
        torch.testing.assert_close(weight, new[name], rtol=1e-5, atol=1e-6)
    for name in ("copy", "keep", "r0"):
        load(made[name])
    assert_peft_merges_alike(base, child, made["delta"], tmp_path)


def assert_peft_merges_alike(base: Path, child: Path, delta: Path, folder: Path) -> None:
    """PEFT puts an adapter on exactly the modules that our own merge changes."""
    from peft import PeftModel

    write_adapter(delta, base, child, 4, folder / "r4")
    write_variant(base, child, folder / "merged", base, folder / "r4", dtype="float32")
    write_variant(
        base, child, folder / "below", base, folder / "r4", dtype="float32", unmerged=True
    )
    theirs = PeftModel.from_pretrained(load(folder / "below"), folder / "r4").merge_and_unload()
    ours = load(folder / "merged").state_dict()
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(weight, ours[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "kind", ["phi3", "phi", "glm4", "lfm2", "gpt_neox", "gpt2", "bloom", "opt"]
)
def test_peft_loads_adapters_of_fused_and_foreign_modules(tmp_path, kind):
    base, child = make_pair(tmp_path, kind, MODELS[kind][0])
    factor_pair(base, child, tmp_path / "delta")
    assert_peft_merges_alike(base, child, tmp_path / "delta", tmp_path)


@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe", "deepseek_v3", "gpt_oss"])
def test_an_adapter_of_experts_is_merged_or_refused_never_half_loaded(tmp_path, kind):
    from peft import PeftModel

    base, child = make_pair(tmp_path, kind, MODELS[kind][0])
    factor_pair(base, child, tmp_path / "delta")
    write_adapter(tmp_path / "delta", base, child, 4, tmp_path / "r4")
    with pytest.raises(InputError, match=r"cannot be served unmerged.*one expert's"):
        write_variant(base, child, tmp_path / "v", base, tmp_path / "r4", unmerged=True)
    assert not (tmp_path / "v").exists()
    with pytest.raises(ValueError, match="PEFT would load a part of it"):
        PeftModel.from_pretrained(load(base), tmp_path / "r4")
    # Without its experts it is served as any other; PEFT takes modules of their names for them.
    left_out = ["*experts*"]
    factor_pair(base, child, tmp_path / "dense", left_out)
    ledger = ledger_of(tmp_path / "dense").set_index("tensor")
    experts = ledger.index.str.contains("experts")
    assert set(ledger[experts].fate) == {"left out by configuration"}
    write_adapter(tmp_path / "dense", base, child, 4, tmp_path / "dense-r4")
    write_variant(
        base, child, tmp_path / "v", base, tmp_path / "dense-r4", leave_out=left_out, unmerged=True
    )
    if kind in ("qwen2_moe", "deepseek_v3"):
        with pytest.raises(ValueError, match="down_proj of this model for an expert's"):
            PeftModel.from_pretrained(load(base), tmp_path / "dense-r4")
        return
    loaded = PeftModel.from_pretrained(load(base), tmp_path / "dense-r4")
    modules = {name.split(".lora_")[0] for name, _ in loaded.named_parameters() if "lora_" in name}
    assert len(modules) == (ledger.fate == "factored").sum()


def renamed(folder: Path, to: Path, change: Callable[[str], str]) -> Path:
    """A copy of a single-file checkpoint with other names of its tensors."""
    shutil.copytree(folder, to)
    tensors = load_file(to / "model.safetensors")
    save_file({change(n): w for n, w in tensors.items()}, to / "model.safetensors")
    return to


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_what_training_code_puts_before_names_is_no_part_of_them(tmp_path, prefix):
    base, child = make_pair(tmp_path, "qwen2", USUAL)
    other = renamed(child, tmp_path / "other", lambda name: prefix + name)
    made = build(base, other, tmp_path)
    new = weights(child)
    assert set(weights(made["copy"])) == set(new)
    for name, weight in weights(made["copy"]).items():
        torch.testing.assert_close(weight, new[name], rtol=1e-5, atol=1e-6)
    load(made["copy"])
    notes = ledger_of(made["delta"]).note
    assert notes.str.startswith(f"called {prefix}").all()


@pytest.mark.parametrize("sides", [(0, 1), (1, 0)])
def test_two_sides_may_call_the_decoder_differently(tmp_path, sides):
    """As older and newer releases of transformers do."""
    base, child = make_pair(tmp_path, "llava", SEEING["llava"])

    def newer(name: str) -> str:
        name = name.replace("language_model.lm_head", "lm_head")
        if name.startswith("lm_head"):
            return name
        return "model." + name.replace("language_model.model", "language_model")

    folders = [base, child]
    place = sides.index(1)
    folders[place] = renamed(folders[place], tmp_path / "newer", newer)
    made = build(*folders, tmp_path)
    assert set(weights(made["copy"])) == set(weights(folders[0]))
    torch.testing.assert_close(
        logits(load(made["copy"])), logits(load(child)), rtol=1e-3, atol=1e-4
    )


def test_a_bare_decoder_and_one_with_a_head(tmp_path):
    """gpt2's own repository has no "transformer." before its names."""
    base, child = make_pair(tmp_path, "gpt2", MODELS["gpt2"][0])
    bare = renamed(base, tmp_path / "bare", lambda name: name.removeprefix("transformer."))
    factor_pair(bare, child, tmp_path / "delta")
    assert (ledger_of(tmp_path / "delta").fate == "factored").sum() == 8
    assert "prefix" in merged_only(["h.0.attn.c_attn.weight"])


@pytest.fixture
def damaged(tmp_path):
    """Makes a copy of a tiny Qwen2 with tensors added, others removed, another configuration."""

    def make(add=None, drop="nothing", **settings):
        tensors = random_weights(0, tied=False)
        tensors = {name: w for name, w in tensors.items() if drop not in name} | (add or {})
        return write_checkpoint(tmp_path / "m", tensors, config(False, "float32") | settings)

    return make


def trained(folder: Path) -> Path:
    """A copy of a checkpoint of one file, every weight of which is another."""
    copy = shutil.copytree(folder, folder.with_name("trained"))
    tensors = load_file(copy / "model.safetensors")
    save_file({n: w * 1.01 for n, w in tensors.items()}, copy / "model.safetensors")
    return copy


LAYER = "model.layers.0"


@pytest.mark.parametrize(
    ("tensor", "shape", "words"),
    [
        ("mlp.strange_table", (8, 8), r"mlp.strange_table of shape \[8, 8\] is in a decoder layer"),
        ("mlp.cube.weight", (3, 8, 8), r"cube.weight of shape \[3, 8, 8\] is in a decoder layer"),
    ],
)
def test_what_nobody_knows_stops_the_run_unless_it_is_left_out(
    damaged, tmp_path, tensor, shape, words
):
    folder = damaged({f"{LAYER}.{tensor}": torch.ones(shape)})
    with pytest.raises(InputError, match=words):
        factor_pair(folder, folder, tmp_path / "delta")
    assert not (tmp_path / "delta").exists()
    factor_pair(folder, trained(folder), tmp_path / "delta", [f"*{tensor}"])
    row = ledger_of(tmp_path / "delta").set_index("tensor").loc[f"{LAYER}.{tensor}"]
    assert (row.role, row.fate) == ("unknown", "left out by configuration")


def test_a_matrix_of_any_name_is_factored(damaged, tmp_path):
    folder = damaged({f"{LAYER}.mlp.never_heard_of.weight": torch.ones(8, 4)})
    factor_pair(folder, trained(folder), tmp_path / "delta")
    ledger = ledger_of(tmp_path / "delta").set_index("module")
    assert ledger.fate["mlp.never_heard_of"] == "factored"


@pytest.mark.parametrize(("suffix", "dtype"), [("_blocks", torch.uint8), (".qweight", torch.int32)])
def test_quantised_weights_are_called_so(damaged, tmp_path, suffix, dtype):
    name = f"{LAYER}.mlp.experts.down_proj{suffix}"
    folder = damaged({name: torch.ones(4, 8, 2, 16, dtype=dtype)})
    with pytest.raises(InputError, match=f"weights are quantised .*{re.escape(name)} is "):
        factor_pair(folder, folder, tmp_path / "delta")


def test_what_is_not_finite_stops_before_anything_is_factored(damaged, tmp_path):
    """Also where it is copied whole: a variant could not be made of it."""
    folder = damaged({"model.norm.weight": torch.full((128,), float("nan"))})
    with pytest.raises(InputError, match=r"model.norm.weight holds 128 NaN or Inf"):
        factor_pair(folder, folder, tmp_path / "delta")
    assert not (tmp_path / "delta").exists()


def test_layers_that_cannot_be_told(damaged, tmp_path):
    folder = damaged(num_hidden_layers=3)
    with pytest.raises(InputError, match=r"no list of 3 layers.*found are model.layers \(2\)"):
        factor_pair(folder, folder, tmp_path / "delta")
    shutil.rmtree(folder)
    twice = {f"model.blocks.{i}.mlp.up_proj.weight": torch.ones(8, 8) for i in range(2)}
    folder = damaged(twice)
    with pytest.raises(InputError, match=r"several lists of 2 layers.*model.blocks \(2\)"):
        factor_pair(folder, folder, tmp_path / "delta")
    shutil.rmtree(folder)
    folder = damaged(drop="layers.0.")
    with pytest.raises(InputError, match=r"no list of 2 layers.*model.layers \(1\)"):
        factor_pair(folder, folder, tmp_path / "delta")
    shutil.rmtree(folder)
    folder = damaged(drop="embed_tokens")
    with pytest.raises(InputError, match="no tensor could be the embedding"):
        open_checkpoint(folder)


def test_an_embedding_of_another_name_is_known_by_its_shape(damaged):
    tensors = random_weights(0, tied=False)
    folder = damaged({"model.symbols.weight": tensors["model.embed_tokens.weight"]}, "embed_tokens")
    assert open_checkpoint(folder).embedding == "model.symbols.weight"


def test_layers_beyond_the_models_own_are_none_of_its_layers(damaged, tmp_path):
    """As DeepSeek-V3 stores the layer that predicts the token after the next."""
    beyond = {"model.layers.2.eh_proj.weight": torch.ones(8, 8),
              "model.layers.2.embed_tokens.weight": torch.ones(8, 8)}  # fmt: skip
    folder = damaged(beyond, num_nextn_predict_layers=1)
    factor_pair(folder, trained(folder), tmp_path / "delta")
    ledger = ledger_of(tmp_path / "delta").set_index("tensor")
    assert set(ledger.what[list(beyond)]) == {"layer beyond the model's own"}
    assert set(ledger.layer.dropna()) == {0, 1}


def test_two_sides_of_different_architecture_keep_their_names(tmp_path):
    one = make_pair(tmp_path / "a", "gpt2", MODELS["gpt2"][0])[0]
    other = make_pair(tmp_path / "b", "llama", USUAL)[0]
    base, derivative = open_pair(one, other)
    assert not set(base.tensors) & set(derivative.tensors)
    with pytest.raises(InputError, match="but not in"):
        factor_pair(one, other, tmp_path / "delta")


def test_names_of_modules():
    for name, place in {
        "model.layers.13.mlp.up_proj.weight": (13, "up_proj"),
        "model.layers.3.self_attn.q_proj.weight": (3, "q_proj"),
        "h.1.attn.c_proj.weight": (1, "attn.c_proj"),
        "model.layers.0.mlp.experts.63.w1.weight": (0, "mlp.experts.63.w1"),
        "model.layers.0.moe.input_linear.weight[3]": (0, "moe.input_linear[3]"),
    }.items():
        assert layer_and_module(name) == place
    assert module_type("mlp.experts.63.w1") == "mlp.experts.w1"
    wrapped = "_orig_mod.model.layers.0._checkpoint_wrapped_module.mlp.module.weight"
    assert plain_name(wrapped) == "model.layers.0.mlp.module.weight"
    with pytest.raises(ValueError, match="in no numbered layer"):
        layer_and_module("model.norm.weight")
