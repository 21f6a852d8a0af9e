"""Variants: exactly the tensors that should move do; others' loaders find nothing amiss."""

import json
import math
import shutil

import pytest
import torch
from conftest import EMBEDDING, HEAD, config, projections, random_weights, role, write_checkpoint
from variant_case import fidelity, load_strictly, stored

from lowrank.delta.factor import factor_pair
from lowrank.errors import InputError
from lowrank.files import MARKER
from lowrank.models.checkpoint import open_checkpoint
from lowrank.variants.adapter import open_adapter, write_adapter
from lowrank.variants.merge import Fidelity, write_variant

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@pytest.fixture(scope="module")
def adapters(trio, tmp_path_factory):
    """Adapters of both deltas at rank 4 and at full rank, by (delta, rank)."""
    folder = tmp_path_factory.mktemp("adapters")
    made = {}
    for name, models in (
        ("sft", (trio.grandparent, trio.base)),
        ("rl", (trio.base, trio.derivative)),
    ):
        factor_pair(*models, folder / name)
        for rank in (4, 128):
            made[name, rank] = folder / f"{name}-r{rank}"
            write_adapter(folder / name, *models, rank, made[name, rank])
    return made


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("other", ["copy", "keep"])
@pytest.mark.parametrize("biases", ["copy", "keep"])
def test_exactly_the_right_tensors_move(trio, adapters, tmp_path, other, biases, dtype):
    write_variant(
        trio.base, trio.derivative, tmp_path, trio.base, adapters["rl", 4], other, biases, dtype
    )
    base, derivative, variant = (stored(f) for f in (trio.base, trio.derivative, tmp_path))
    adapter = open_adapter(adapters["rl", 4], open_checkpoint(trio.base))
    assert set(variant) == set(base)
    for name, weight in variant.items():
        kind = role(name)
        if kind == "projection":
            A, B = adapter.read(name)
            expected = base[name].float() + B @ A
        else:
            copied = (biases if kind == "bias" else other) == "copy"
            expected = (derivative if copied else base)[name]
        assert torch.equal(weight, expected.to(DTYPES[dtype])), name
    fates = {name: tensor["fate"] for name, tensor in fidelity(tmp_path)["tensors"].items()}
    assert set(fates) == set(base)
    assert {fates[n] for n in fates if role(n) == "projection"} == {"factored"}
    assert {fates[n] for n in fates if role(n) == "other"} == {
        {"copy": "copied", "keep": "kept"}[other]
    }
    model = load_strictly(tmp_path)
    assert model.dtype == DTYPES[dtype]


def test_full_rank_is_the_derivative(trio, adapters, tmp_path):
    write_variant(
        trio.base, trio.derivative, tmp_path, trio.base, adapters["rl", 128], "copy",
        dtype="float32",
    )  # fmt: skip
    variant, derivative = stored(tmp_path), stored(trio.derivative)
    for name, weight in derivative.items():
        torch.testing.assert_close(variant[name], weight, rtol=1e-6, atol=1e-7)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        ours, theirs = (load_strictly(f)(ids).logits for f in (tmp_path, trio.derivative))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("base", "derivative", "other", "tied"),
    [
        ("grandparent", "base", "copy", False),
        ("grandparent", "base", "keep", True),
        ("base", "grandparent", "copy", False),
        ("base", "grandparent", "keep", False),
        ("grandparent", "grandparent", "copy", True),
    ],
)
def test_ties_follow_what_is_stored(trio, tmp_path, base, derivative, other, tied):
    folders = getattr(trio, base), getattr(trio, derivative)
    write_variant(*folders, tmp_path, trio.base, None, other)
    model = load_strictly(tmp_path)
    assert model.config.tie_word_embeddings is tied
    assert (HEAD in stored(tmp_path)) is not tied
    source = open_checkpoint(folders[other == "copy"])
    assert torch.equal(model.lm_head.weight.float(), source.read(HEAD))
    assert torch.equal(model.model.embed_tokens.weight.float(), source.read(EMBEDDING))
    # No tensor of either model goes unmentioned.
    named = set(open_checkpoint(folders[0]).tensors) | set(open_checkpoint(folders[1]).tensors)
    assert set(fidelity(tmp_path)["tensors"]) == named


@pytest.mark.parametrize(("other", "rows"), [("copy", 144), ("keep", 128)])
def test_vocabulary_size_is_that_of_the_stored_embedding(trio, tmp_path, other, rows):
    weights = stored(trio.derivative)
    for name in (EMBEDDING, HEAD):
        weights[name] = torch.nn.functional.pad(weights[name], (0, 0, 0, 16))
    padded = write_checkpoint(
        tmp_path / "padded", weights, {**config(False, "float32"), "vocab_size": 144}
    )
    write_variant(trio.base, padded, tmp_path / "v", trio.base, None, other)
    model = load_strictly(tmp_path / "v")
    assert model.config.vocab_size == rows
    assert model.lm_head.weight.shape[0] == rows
    # Rows that the base does not have are no part of a delta.
    assert fidelity(tmp_path / "v")["tensors"][EMBEDDING]["entries"] == 128 * 128


def test_one_file_holds_all_and_a_loader_finds_no_other(trio, adapters, tmp_path):
    """Its name is known before it is written; shards of an older version go."""
    given = (trio.base, trio.derivative, tmp_path / "v", trio.base, adapters["rl", 4])
    write_variant(*given)
    first = (tmp_path / "v/model.safetensors").read_bytes()
    (tmp_path / "v/model.safetensors").rename(tmp_path / "v/model-00001-of-00001.safetensors")
    names = json.loads((tmp_path / "v" / MARKER).read_text())
    names["files"]["model-00001-of-00001.safetensors"] = names["files"].pop("model.safetensors")
    (tmp_path / "v" / MARKER).write_text(json.dumps(names))
    write_variant(*given)
    assert [f.name for f in (tmp_path / "v").glob("model*")] == ["model.safetensors"]
    assert (tmp_path / "v/model.safetensors").read_bytes() == first
    load_strictly(tmp_path / "v")


def independent_fidelity(base, meant, final, untouched):
    """The definitions, in float64, from whole tensors."""
    served = final.double() - base.double()
    changed = meant != 0
    return {
        "relative_error": float((served - meant).norm() / meant.norm()),
        "left_at_base": float((final == untouched)[changed].double().mean()),
        "cosine": float((served * meant).sum() / (served.norm() * meant.norm())),
        "meant_norm": float(meant.norm()),
        "error_norm": float((served - meant).norm()),
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_fidelity_is_what_it_says(trio, adapters, tmp_path, dtype):
    write_variant(
        trio.base, trio.derivative, tmp_path, trio.base, adapters["rl", 4], "copy", dtype=dtype
    )
    report = fidelity(tmp_path)
    base, derivative, variant = (stored(f) for f in (trio.base, trio.derivative, tmp_path))
    adapter = open_adapter(adapters["rl", 4], open_checkpoint(trio.base))
    total = {"meant": 0.0, "error": 0.0}
    for name, weight in base.items():
        if role(name) == "projection":
            A, B = adapter.read(name)
            meant = (B @ A).double()
        else:
            meant = derivative[name].double() - weight.double()
        untouched = weight.to(DTYPES[dtype]).float()
        expected = independent_fidelity(weight.float(), meant, variant[name].float(), untouched)
        for key, value in expected.items():
            assert report["tensors"][name][key] == pytest.approx(value, rel=1e-4, abs=1e-6)
        total["meant"] += float(meant.norm()) ** 2
        total["error"] += (expected["relative_error"] * float(meant.norm())) ** 2
    relative = math.sqrt(total["error"] / total["meant"])
    assert report["all"]["relative_error"] == pytest.approx(relative, rel=1e-3, abs=1e-6)
    assert report["dtype"] == dtype
    bound = {"bfloat16": (0.02, 0.5), "float16": (1e-3, 0.1), "float32": (0, 1e-4)}[dtype]
    assert bound[0] <= report["all"]["relative_error"] <= bound[1]


def test_what_is_kept_has_no_delta(trio, adapters, tmp_path):
    write_variant(trio.base, trio.derivative, tmp_path, trio.base, None, "keep", "keep")
    report = fidelity(tmp_path)
    assert report["all"]["meant_norm"] == report["all"]["error_norm"] == 0
    assert report["all"]["relative_error"] is None
    variant, base = stored(tmp_path), stored(trio.base)
    assert all(torch.equal(variant[name], base[name]) for name in base)


def test_fidelity_of_parts_adds_up():
    generator = torch.Generator().manual_seed(0)
    base, meant = torch.randn(2, 64, 8, generator=generator)
    final = (base + meant).bfloat16().float()
    untouched = base.bfloat16().float()
    whole, parts = Fidelity(), Fidelity()
    whole.add(base, meant, final, untouched)
    for part in range(0, 64, 16):
        piece = Fidelity()
        piece.add(*(t[part : part + 16] for t in (base, meant, final, untouched)))
        parts = parts + piece
    assert parts.report() == pytest.approx(whole.report())


def test_a_carrier_leaves_the_projections_alone(trio, adapters, tmp_path):
    folders = trio.base, trio.derivative
    write_variant(
        *folders, tmp_path / "carrier", trio.base, adapters["rl", 4], "copy", unmerged=True
    )
    write_variant(*folders, tmp_path / "merged", trio.base, adapters["rl", 4], "copy")
    base, derivative = stored(trio.base), stored(trio.derivative)
    for name, weight in stored(tmp_path / "carrier").items():
        source = base if role(name) == "projection" else derivative
        assert torch.equal(weight, source[name].bfloat16())
    carried, merged = fidelity(tmp_path / "carrier"), fidelity(tmp_path / "merged")
    assert carried["serve_as"] == "adapter"
    assert carried["roles"]["other"] == merged["roles"]["other"]
    # Factors rounded to bfloat16 keep three digits of the delta; a rounded sum keeps fewer.
    assert carried["roles"]["projection"]["relative_error"] < 0.01
    assert merged["roles"]["projection"]["relative_error"] > 0.03
    assert carried["roles"]["projection"]["left_at_base"] < 1e-3


def test_an_unmerged_adapters_fidelity_is_of_its_rounded_factors(trio, adapters, tmp_path):
    """What an engine serves is the product of the factors in the dtype it serves."""
    folders = trio.base, trio.derivative
    write_variant(*folders, tmp_path, trio.base, adapters["rl", 4], "copy", unmerged=True)
    adapter = open_adapter(adapters["rl", 4], open_checkpoint(trio.base))
    report = fidelity(tmp_path)["tensors"]
    for name in projections():
        A, B = (factor.double() for factor in adapter.read(name))
        rounded = B.bfloat16().double() @ A.bfloat16().double()
        expected = float((rounded - B @ A).norm() / (B @ A).norm())
        assert expected > 1e-4
        # The stored base is rounded to bfloat16 too, here it is stored so: nothing is added.
        assert report[name]["relative_error"] == pytest.approx(expected, rel=0.02)


def test_peft_on_a_carrier_is_the_merged_variant(trio, adapters, tmp_path):
    from peft import PeftModel

    for carrier in (True, False):
        write_variant(
            trio.base, trio.derivative, tmp_path / str(carrier), trio.base, adapters["rl", 4],
            "copy", dtype="float32", unmerged=carrier,
        )  # fmt: skip
    wrapped = PeftModel.from_pretrained(load_strictly(tmp_path / "True"), adapters["rl", 4])
    ids = torch.arange(30)[None]
    with torch.no_grad():
        unmerged, merged = wrapped(ids).logits, load_strictly(tmp_path / "False")(ids).logits
    torch.testing.assert_close(unmerged, merged, rtol=1e-4, atol=1e-5)


def test_the_configuration_is_the_derivatives_and_differences_are_told(trio, tmp_path):
    given = {**config(False, "float32"), "max_position_embeddings": 4096, "auto_map": {"a": "b"}}
    longer = write_checkpoint(tmp_path / "longer", stored(trio.derivative), given)
    write_variant(trio.base, longer, tmp_path / "v", trio.base, None, "keep")
    written = json.loads((tmp_path / "v" / "config.json").read_text())
    assert written["max_position_embeddings"] == 4096
    assert written["torch_dtype"] == "bfloat16"
    assert "auto_map" not in written
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    difference = manifest["source"]["config_differences"]["max_position_embeddings"]
    assert difference == {"base": 512, "derivative": 4096, "stored": 4096}
    assert manifest["parameters"] == open_checkpoint(trio.base).parameters


def test_the_tokenizer_is_the_one_asked_for(trio, tmp_path):
    from transformers import AutoTokenizer

    chosen = shutil.copytree(trio.base, tmp_path / "tokenizer")
    template = "{{ messages[0]['content'] }}!"
    (chosen / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template})
    )
    write_variant(trio.base, trio.derivative, tmp_path / "v", chosen)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "v")
    assert loaded.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi!"
    with pytest.raises(InputError, match=r"holds no tokenizer.json"):
        write_variant(trio.base, trio.derivative, tmp_path / "w", trio.base.parent)
    assert not (tmp_path / "w").exists()


def test_errors_name_the_tensor_and_leave_no_manifest(trio, adapters, tmp_path):
    weights = stored(trio.derivative)
    weights["model.norm.weight"][3] = 1e6
    large = write_checkpoint(tmp_path / "large", weights, config(False, "float32"))
    with pytest.raises(InputError, match=r"model.norm.weight: a value beyond the range of float16"):
        write_variant(trio.base, large, tmp_path / "v", trio.base, None, dtype="float16")
    assert not list((tmp_path / "v").glob("*.safetensors"))
    assert not (tmp_path / "v" / "manifest.json").exists()

    with pytest.raises(InputError, match=r"model.layers.1.* is in it, but left out here"):
        write_variant(
            trio.base, trio.derivative, tmp_path / "v", trio.base, adapters["rl", 4],
            leave_out=["model.layers.1.*"],
        )  # fmt: skip
    with pytest.raises(InputError, match="another base"):
        write_variant(
            trio.grandparent, trio.derivative, tmp_path / "v", trio.base, adapters["rl", 4]
        )
    weights = random_weights(3, tied=False)
    for name in (EMBEDDING, HEAD):
        weights[name] = torch.ones(200, 128)
    other = write_checkpoint(tmp_path / "other", weights, config(False, "float32"))
    with pytest.raises(InputError, match="leave out both or none"):
        write_variant(
            trio.base, other, tmp_path / "v", trio.base, None, leave_out=["lm_head.weight"]
        )
    narrow = {**config(False, "float32"), "num_attention_heads": 8}
    heads = write_checkpoint(tmp_path / "heads", stored(trio.derivative), narrow)
    with pytest.raises(InputError, match="num_attention_heads is 8, the base has 4"):
        write_variant(trio.base, heads, tmp_path / "v", trio.base, None)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_that_was_changed_is_refused_by_name(trio, adapters, tmp_path, name):
    adapter = shutil.copytree(adapters["rl", 4], tmp_path / "r4")
    content = bytearray((adapter / name).read_bytes())
    content[-9] ^= 1
    (adapter / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: (was changed since it was|not valid JSON)"):
        write_variant(trio.base, trio.derivative, tmp_path / "made", trio.base, adapter)
    assert not (tmp_path / "made").exists()


def test_left_out_tensors_stay_the_bases(trio, tmp_path):
    name = "model.layers.0.self_attn.q_proj.bias"
    write_variant(trio.base, trio.derivative, tmp_path, trio.base, leave_out=["*q_proj.bias"])
    assert torch.equal(stored(tmp_path)[name], stored(trio.base)[name])
    assert fidelity(tmp_path)["tensors"][name]["fate"] == "left out by configuration"


def test_every_projection_is_factored(trio, adapters, tmp_path):
    write_variant(trio.grandparent, trio.base, tmp_path, trio.base, adapters["sft", 4], "keep")
    fates = {n: t["fate"] for n, t in fidelity(tmp_path)["tensors"].items()}
    assert {n for n, f in fates.items() if f == "factored"} == set(projections())
    load_strictly(tmp_path)
