"""Models in memory: logits remade from last hidden states, weights as they are served."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import MODELS, make_pair

from lowrank.divergence import reader
from lowrank.errors import InputError


@pytest.fixture(scope="module")
def ids():
    return torch.randint(3, 95, (20,), generator=torch.Generator().manual_seed(0))


def plain(folder, ids, dtype="float32"):
    """Logits as transformers gives them."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    with torch.no_grad():
        return model(input_ids=ids[None], use_cache=False).logits[0].float()


@pytest.mark.parametrize("kind", MODELS)
def test_logits_are_remade_of_any_architecture(kind, ids, tmp_path):
    """Caps and scales of logits included; the head alone is enough."""
    base, _ = make_pair(tmp_path, kind, MODELS[kind][0])
    model = reader.load_served(base, "float32")
    hidden = reader.hidden_states(model, ids)
    wanted = plain(base, ids)
    torch.testing.assert_close(reader.logits(model, hidden), wanted, rtol=0, atol=1e-5)
    head = reader.with_head(base, reader.head_weights(model), "cpu")
    torch.testing.assert_close(reader.logits(head, hidden), wanted, rtol=0, atol=1e-5)


def test_a_model_is_the_values_it_is_served_as(trio, ids, tmp_path):
    """Stored in float32, served as bfloat16: its values cast, then computed with in float32."""
    cast = shutil.copytree(trio.derivative, tmp_path / "cast")
    for file in cast.glob("*.safetensors"):
        rounded = {name: weight.bfloat16().float() for name, weight in load_file(file).items()}
        save_file(rounded, file, metadata={"format": "pt"})
    served = reader.load_served(trio.derivative, "bfloat16")
    assert {parameter.dtype for parameter in served.parameters()} == {torch.float32}
    found = reader.logits(served, reader.hidden_states(served, ids))
    torch.testing.assert_close(found, plain(cast, ids), rtol=0, atol=1e-6)
    assert (found - plain(trio.derivative, ids)).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_an_adapter_is_added_as_peft_adds_it(kind, ids, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base, _ = make_pair(tmp_path, kind, MODELS[kind][0])
    modules = {"qwen2": ["q_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}[kind]
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=modules, fan_in_fan_out=kind == "gpt2"
    )
    torch.manual_seed(0)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        wanted = model.eval()(input_ids=ids[None]).logits[0]
    ours = reader.load_served(base, "float32", tmp_path / "adapter")
    found = reader.logits(ours, reader.hidden_states(ours, ids))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found - plain(base, ids)).abs().max() > 1e-2


def test_a_quantization_config_that_was_left_in_is_passed_over(trio, ids, tmp_path):
    left = shutil.copytree(trio.base, tmp_path / "left")
    config = json.loads((left / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (left / "config.json").write_text(json.dumps(config))
    model = reader.load_served(left, "bfloat16")
    found = reader.logits(model, reader.hidden_states(model, ids))
    torch.testing.assert_close(found, plain(trio.base, ids), rtol=0, atol=1e-6)


def test_a_model_whose_logits_are_not_remade_is_refused(trio, monkeypatch):
    real = reader.logits
    monkeypatch.setattr(reader, "logits", lambda model, hidden: 2 * real(model, hidden))
    with pytest.raises(InputError, match="qwen2: what its head is given is not known"):
        reader.load_served(trio.base, "float32")
