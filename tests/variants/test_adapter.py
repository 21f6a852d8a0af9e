"""Adapters: the energy dropped is the error made, and PEFT's merge is ours."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import projections
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lowrank.delta.factor import difference, factor_pair, read_sigma
from lowrank.delta.svd import directions, factor
from lowrank.errors import InputError
from lowrank.models.checkpoint import open_checkpoint
from lowrank.variants import lora_config
from lowrank.variants.adapter import open_adapter, random_factors, served_rank, split, write_adapter

SIDES = {name: min(shape) for name, shape in projections().items()}


@pytest.fixture(scope="module")
def delta(trio, tmp_path_factory):
    folder = tmp_path_factory.mktemp("delta")
    factor_pair(trio.base, trio.derivative, folder)
    return folder


@pytest.fixture(scope="module")
def adapter(trio, delta, tmp_path_factory):
    """Makes an adapter of the trio's delta; returns its folder."""

    def make(rank, **flags):
        folder = tmp_path_factory.mktemp(f"r{rank}")
        write_adapter(delta, trio.base, trio.derivative, rank, folder, **flags)
        return folder

    return make


def products(folder) -> dict[str, torch.Tensor]:
    """B A of every module, in float64, by the weight's name."""
    weights = load_file(folder / "adapter_model.safetensors")
    return {
        name: weights[key.replace(".weight", ".lora_B.weight")].double()
        @ weights[key.replace(".weight", ".lora_A.weight")].double()
        for name in projections()
        for key in [f"base_model.model.{name}"]
    }


@pytest.mark.parametrize("rank", [1, 3, 16, 63])
def test_the_error_is_the_energy_dropped(trio, delta, adapter, rank):
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    for name, product in products(adapter(rank)).items():
        dropped = np.sqrt((read_sigma(delta, name)[rank:] ** 2).sum())
        error = float((difference(base, derivative, name).double() - product).norm())
        assert error == pytest.approx(dropped, rel=1e-5)


def test_full_rank_gives_the_difference_back(trio, adapter):
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    for name, product in products(adapter(max(SIDES.values()))).items():
        D = difference(base, derivative, name).double()
        assert float((D - product).norm()) < 1e-6 * float(D.norm())


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 20), st.integers(0, 2**31))
@settings(max_examples=60)
def test_split_shares_the_singular_values_evenly(rows, columns, true_rank, seed):
    """Any shape, any true rank (zero too): finite factors, product D, squared lengths sigma."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, true_rank, generator=generator)
    D = left @ torch.randn(true_rank, columns, generator=generator)
    kept = factor(D)
    sigma = kept["sigma"]
    A, B = split(D, directions(kept, 0, min(rows, columns)))
    assert torch.isfinite(A).all()
    assert torch.isfinite(B).all()
    scale = float(sigma[0])
    assert torch.allclose(B @ A, D, atol=1e-5 * max(scale, 1e-30))
    for lengths in ((A**2).sum(1), (B**2).sum(0)):
        assert torch.allclose(lengths, sigma.float(), atol=1e-3 * max(scale, 1e-30))


def test_the_record_tells_capped_ranks_and_energy(delta, adapter):
    record = json.loads((adapter(100) / "adapter.json").read_text())
    assert record["rank"] == record["stored_rank"] == 100
    for name, matrix in record["matrices"].items():
        assert matrix["rank"] == min(100, SIDES[name])
        assert matrix["capped"] == (SIDES[name] < 100)
        energy = read_sigma(delta, name) ** 2
        assert matrix["energy_kept"] == pytest.approx(energy[:100].sum() / energy.sum())


def test_ranks_above_every_side_are_stored_as_the_largest(adapter):
    huge, full = adapter(4096), adapter(max(SIDES.values()))
    name = "adapter_model.safetensors"
    assert (huge / name).read_bytes() == (full / name).read_bytes()


def test_padding_to_a_served_rank_changes_nothing(trio, adapter):
    plain, padded = adapter(3), adapter(3, pad_rank=True)
    assert json.loads((padded / "adapter_config.json").read_text())["r"] == 8
    for name, product in products(plain).items():
        assert torch.equal(products(padded)[name], product)
    base = open_checkpoint(trio.base)
    assert open_adapter(padded, base).scale == 1


def test_served_ranks():
    assert [served_rank(r) for r in (1, 2, 8, 9, 64, 65, 257, 512)] == [
        1, 8, 8, 16, 64, 128, 320, 512,
    ]  # fmt: skip
    with pytest.raises(InputError, match="up to rank 512"):
        served_rank(513)


def test_controls(trio, delta, adapter):
    """Bottom: the least energy at that rank. Random: the same values elsewhere. Rescaled: ||D||."""
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    bottom, rescaled = adapter(8, directions="bottom"), adapter(8, rescale=True)
    random, again = adapter(8, directions="random"), adapter(8, directions="random")
    file = "adapter_model.safetensors"
    assert (random / file).read_bytes() == (again / file).read_bytes()
    other = adapter(8, directions="random", seed=1)
    assert (random / file).read_bytes() != (other / file).read_bytes()
    top = products(adapter(8))
    for name, product in products(random).items():
        sigma = torch.from_numpy(read_sigma(delta, name))
        found = torch.linalg.svdvals(product)[:8]
        torch.testing.assert_close(found, sigma[:8], rtol=1e-5, atol=1e-9)
        cosine = float((product * top[name]).sum() / product.norm() / top[name].norm())
        assert abs(cosine) < 0.1
    for name, product in products(bottom).items():
        sigma = read_sigma(delta, name)
        D = difference(base, derivative, name).double()
        assert float(product.norm()) == pytest.approx(np.sqrt((sigma[-8:] ** 2).sum()), rel=1e-4)
        assert float((D - product).norm()) == pytest.approx(
            np.sqrt((sigma[:-8] ** 2).sum()), rel=1e-5
        )
    for name, product in products(rescaled).items():
        D = difference(base, derivative, name).double()
        assert float(product.norm()) == pytest.approx(float(D.norm()), rel=1e-5)
    record = json.loads((rescaled / "adapter.json").read_text())
    assert (record["directions"], record["rescaled"]) == ("top", True)
    assert all(matrix["scale"] > 1 for matrix in record["matrices"].values())


def test_peft_loads_it_whole_and_merges_to_the_same_weights(trio, adapter):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = adapter(16)
    model = AutoModelForCausalLM.from_pretrained(trio.base, dtype=torch.float32)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    wrapped = PeftModel.from_pretrained(model, folder)
    loaded = {n for n, _ in wrapped.named_parameters() if "lora_" in n}
    stored = load_file(folder / "adapter_model.safetensors")
    assert {name.replace(".default", "") for name in loaded} == set(stored)
    merged = wrapped.merge_and_unload().state_dict()
    ours = products(folder)
    for name, weight in before.items():
        expected = weight.double() + ours[name] if name in ours else weight.double()
        torch.testing.assert_close(merged[name].double(), expected, rtol=1e-6, atol=1e-7)


def test_target_modules_name_exactly_what_is_there(trio, tmp_path):
    """With a layer left out, module types alone would also catch that layer's."""
    factor_pair(trio.base, trio.derivative, tmp_path / "delta", ["model.layers.0.*"])
    write_adapter(tmp_path / "delta", trio.base, trio.derivative, 2, tmp_path / "r2")
    targets = json.loads((tmp_path / "r2" / "adapter_config.json").read_text())["target_modules"]
    assert set(targets) == {
        name.removesuffix(".weight") for name in projections() if "layers.1" in name
    }


def test_another_base_is_refused(trio, delta, tmp_path):
    for models, side in (
        ((trio.grandparent, trio.derivative), "base"),
        ((trio.base, trio.base), "derivative"),
    ):
        # Known from the hashes of the files, before anything is written.
        with pytest.raises(InputError, match=f"another {side} than .* files' hashes differ"):
            write_adapter(delta, *models, 2, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="at least 1"):
        write_adapter(delta, trio.base, trio.derivative, 0, tmp_path)


def test_an_adapter_is_opened_for_its_own_base_only(trio, adapter):
    folder = adapter(2)
    assert set(open_adapter(folder, open_checkpoint(trio.base)).factors) == set(projections())
    with pytest.raises(InputError, match="another base than"):
        open_adapter(folder, open_checkpoint(trio.grandparent))


def test_random_directions_are_each_weights_own():
    """Two weights of one shape and one spectrum: unlike directions, the same for the same seed."""
    sigma = torch.tensor([2.0, 1.0], dtype=torch.float64)
    one, again, other, later = (
        random_factors(name, (40, 30), sigma, seed)[0]
        for name, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    )
    assert torch.equal(one, again)
    for unlike in (other, later):
        cosines = torch.nn.functional.cosine_similarity(one, unlike)
        assert float(cosines.abs().max()) < 0.9


KEY = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda w, c: w.update({f"{KEY}.lora_B.bias": torch.ones(128)}),
            "lora_B.bias does not fit",
        ),
        (lambda w, c: w.pop(f"{KEY}.lora_B.weight"), "lora_A.weight does not fit"),
        (lambda w, c: w.pop(f"{KEY}.lora_A.weight"), "lora_B.weight does not fit"),
        (lambda w, c: w.update({f"{KEY}.lora_B.weight": torch.ones(9, 2)}), "does not fit"),
        (lambda w, c: c.update(r=4), r"does not fit .* lora_A \[4, in\]"),
        (lambda w, c: c.update(r=0), "r is 0; a whole number"),
        (lambda w, c: c.update(lora_alpha=float("nan")), "lora_alpha is nan; a number"),
        (lambda w, c: c.update(bias="all"), "bias is 'all'"),
        (lambda w, c: c.update(fan_in_fan_out=True), "fan_in_fan_out is True, but the model"),
        (lambda w, c: c.update(use_dora=True), "use_dora is True"),
        (lambda w, c: c.update(modules_to_save=["lm_head"]), "modules_to_save is"),
        (lambda w, c: c.update(alora_invocation_tokens=[1]), "aLoRA.*cannot be merged either"),
        (lambda w, c: c.update(layer_replication=[[0, 1], [0, 1]]), "layer_replication is"),
        (lambda w, c: c.update(lora_bias=True), "lora_bias is True"),
        (lambda w, c: c.update(trainable_token_indices=[1]), "trainable_token_indices is"),
        (lambda w, c: c.update(rank_pattern={"q_proj": 1}), "rank_pattern is"),
        (lambda w, c: c.update(peft_type="LOHA"), "peft_type is 'LOHA'"),
        (lambda w, c: c.update(some_new_key=3), r"some_new_key is 3 \(a key that is not known"),
        (lambda w, c: c.update(init_lora_weights="pissa_niter_4"), "path_initial_model_for"),
        (lambda w, c: c.update(init_lora_weights="olora"), "init_lora_weights is 'olora'"),
        (lambda w, c: c.update(init_lora_weights="loftq"), "init_lora_weights is 'loftq'"),
    ],
)
def test_what_a_merge_would_drop_is_refused(trio, adapter, tmp_path, change, words):
    folder = shutil.copytree(adapter(2), tmp_path / "a")
    weights = load_file(folder / "adapter_model.safetensors")
    settings_ = json.loads((folder / "adapter_config.json").read_text())
    change(weights, settings_)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(settings_))
    with pytest.raises(InputError, match=words):
        open_adapter(folder, open_checkpoint(trio.base))


def test_every_key_of_peft_is_known():
    """A key that PEFT adds is refused where it is set, until somebody decides what it means."""
    from peft import LoraConfig

    known = lora_config.WITHOUT_EFFECT | lora_config.HONOURED | lora_config.REFUSED.keys()
    unknown = {
        key: value for key, value in LoraConfig().to_dict().items() if key not in known and value
    }
    assert not unknown


@pytest.mark.parametrize(
    "settings_",
    [
        {"lora_alpha": 8},
        {"use_rslora": True, "lora_alpha": 6},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"layers_to_transform": [1]},
        {"init_lora_weights": "pissa"},
    ],
    ids=str,
)
def test_what_peft_saves_is_read_as_peft_merges_it(trio, tmp_path, settings_):
    """An adapter whose start changed the base (PiSSA) only once PEFT has converted it."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    def load():
        return AutoModelForCausalLM.from_pretrained(trio.base, dtype=torch.float32)

    torch.manual_seed(0)
    given_ = {"r": 4, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(load(), LoraConfig(**given_ | settings_))
    start, folder = tmp_path / "start", tmp_path / "adapter"
    changing = settings_.get("init_lora_weights") == "pissa"
    if changing:
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(start)
        model.peft_config["default"].init_lora_weights = "pissa"
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn_like(weight) * 0.02)
    model.save_pretrained(folder)
    base = open_checkpoint(trio.base)
    if changing:
        with pytest.raises(InputError, match="init_lora_weights is 'pissa'"):
            open_adapter(folder, base)
        model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(start))
    adapter = open_adapter(folder, base)
    merged = PeftModel.from_pretrained(load(), folder).merge_and_unload().state_dict()
    changed = {name for name, weight in load().state_dict().items()
               if not torch.equal(weight, merged[name])}  # fmt: skip
    assert changed == set(adapter.factors)
    for name in changed:
        A, B = adapter.read(name)
        torch.testing.assert_close(base.read(name) + B @ A, merged[name], rtol=1e-6, atol=1e-7)
