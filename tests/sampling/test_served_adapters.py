"""Adapters that vLLM would serve in part, or not at all, stop before it starts."""

import json
import shutil

import pytest
from sampling_case import (
    make_folder,
    no_engine,
    pretend,
    run,
)

from lowrank.errors import InputError
from lowrank.sampling import engine


@pytest.fixture(autouse=True)
def _versions(monkeypatch):
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "a version"})


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A job's folder with a real model and a LoRA for it, made by PEFT."""
    peft = pytest.importorskip("peft")
    from tiny_checkpoint import make_model
    from transformers import Qwen2ForCausalLM

    place = make_folder(tmp_path_factory.mktemp("adapted"))
    shutil.rmtree(place / "model")
    make_model(place / "model")
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "down_proj"])
    model = peft.get_peft_model(Qwen2ForCausalLM.from_pretrained(place / "model"), config)
    model.save_pretrained(place / "adapter")
    return place


def serve(place, adapter, start):
    more = ("--adapter", str(adapter), "--store", str(place / f"{adapter.name}.store"))
    return run(place, f"{adapter.name}.parquet", *more, start=start)


def test_an_adapter_that_fits_is_served(adapted):
    assert len(serve(adapted, adapted / "adapter", pretend)) == 12


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("other layers", "layers.7.*does not fit"),
        ("half as wide", "lora_A.weight does not fit"),
        ("one factor", "does not fit"),
        ("cut", "truncated"),
        ("dora", "use_dora is True"),
        ("head", "modules_to_save is .*lm_head"),
    ],
)
def test_an_adapter_that_the_engine_would_misread_is_refused_before_it_starts(
    adapted, tmp_path, fault, said
):
    from safetensors.torch import load_file, save_file

    wrong = shutil.copytree(adapted / "adapter", tmp_path / "wrong")
    weights, config = wrong / "adapter_model.safetensors", wrong / "adapter_config.json"
    factors, settings = load_file(weights), json.loads(config.read_text())
    match fault:
        case "other layers":
            factors = {name.replace("layers.2.", "layers.7."): f for name, f in factors.items()}
        case "half as wide":
            halved = {n: f[:, : f.shape[1] // 2].contiguous() for n, f in factors.items()}
            factors |= {name: factor for name, factor in halved.items() if "lora_A" in name}
        case "one factor":
            factors.pop(next(name for name in factors if "lora_B" in name))
        case "dora":
            settings["use_dora"] = True
        case "head":
            settings["modules_to_save"] = ["lm_head"]
    save_file(factors, weights, metadata={"format": "pt"})
    config.write_text(json.dumps(settings))
    if fault == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=said):
        serve(adapted, wrong, no_engine)
