"""What vLLM is told when it starts, and what is put on it before the first request.

A pretended vLLM notes it; test_engine.py starts the real one.
"""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest

from lowrank.errors import InputError
from lowrank.sampling import engine, feeding
from lowrank.sampling.engine import Serving

CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch):
    """The environment as it was, free memory as if there were much."""
    monkeypatch.setattr(engine, "free_memory", lambda: 2**40)
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


def serving(model: Path, **more) -> Serving:
    given = {"device": "cpu", "dtype": "bfloat16", "compute_dtype": "bfloat16"}
    return Serving(model, **given | {"max_model_len": 1000, "max_num_seqs": 8} | more)


@pytest.fixture
def adapter(tmp_path) -> Path:
    folder = tmp_path / "r3"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 3}')
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_nothing_is_a_models_own_choice(model):
    told = engine.arguments(serving(model), CONFIG, 5)
    assert told["model"] == str(model)
    assert (told["max_num_seqs"], told["max_model_len"]) == (5, 1000)
    assert told["trust_remote_code"] is False
    assert told["skip_tokenizer_init"] is True
    assert told["generation_config"] == "vllm"
    assert told["enable_prefix_caching"] is False
    assert "enable_lora" not in told
    assert "hf_overrides" not in told


def test_what_is_cast_twice_has_a_loader_of_its_own(model, monkeypatch):
    monkeypatch.setattr(engine, "load_format", lambda dtype: f"cast to {dtype}")
    once = engine.arguments(serving(model), CONFIG, 5)
    assert (once["dtype"], once["load_format"]) == ("bfloat16", "safetensors")
    twice = engine.arguments(serving(model, compute_dtype="float32"), CONFIG, 5)
    assert (twice["dtype"], twice["load_format"]) == ("float32", "cast to bfloat16")


def test_each_device_is_told_what_is_its_own(model):
    cpu = engine.arguments(serving(model), CONFIG, 5)
    assert cpu["kv_cache_memory_bytes"] == engine.kv_cache_bytes(serving(model), CONFIG, 5)
    assert cpu["enable_chunked_prefill"] is False
    # A prompt is computed as one piece, however long.
    assert cpu["max_num_batched_tokens"] >= 1000
    long = engine.arguments(serving(model, max_model_len=20_000), CONFIG, 5)
    assert long["max_num_batched_tokens"] == 20_000
    cuda = engine.arguments(serving(model, device="cuda", gpu_memory=0.7), CONFIG, 5)
    assert cuda["gpu_memory_utilization"] == 0.7
    assert "kv_cache_memory_bytes" not in cuda


def test_an_adapter_has_the_next_rank_that_is_served(model, adapter):
    told = engine.arguments(serving(model, adapter=adapter), CONFIG, 5)
    assert (told["enable_lora"], told["max_lora_rank"], told["max_loras"]) == (True, 8, 1)


def test_what_is_left_of_a_quantisation_is_taken_off(model, monkeypatch):
    config = CONFIG | {"quantization_config": {"quant_method": "fp8"}}
    for quantised in (True, False):
        monkeypatch.setattr(engine, "is_quantised", lambda model, config, q=quantised: q)
        told = engine.arguments(serving(model), config, 5)
        assert ("hf_overrides" in told) is not quantised


class Started:
    """A started engine: what was put on it, in order."""

    def __init__(self, given):
        self.given, self.applied, self.loras = given, [], []

    def apply_model(self, function):
        self.applied.append(function)

    def add_lora(self, request):
        self.loras.append(request)


@pytest.fixture
def vllm_on(monkeypatch):
    """Pretend a vLLM that was built for a device; a start may be made to fail."""

    def pretend(device: str, start=Started):
        modules = {
            "vllm": {},
            "vllm.engine": {},
            "vllm.engine.arg_utils": {"EngineArgs": lambda **given: given},
            "vllm.platforms": {"current_platform": SimpleNamespace(device_type=device)},
            "vllm.v1": {},
            "vllm.v1.engine": {},
            "vllm.v1.engine.llm_engine": {"LLMEngine": SimpleNamespace(from_engine_args=start)},
        }
        for name, content in modules.items():
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(engine, "versions", lambda: {"vllm": "1"})
        monkeypatch.setattr(engine, "lora_request", lambda adapter, folder: (adapter, folder))

    return pretend


def started(given: Serving, sequences: int) -> tuple[Started, Path | None, int]:
    """The engine, its adapter, and how many requests it is given at once."""
    complete = engine.start(given, sequences)
    assert complete.func is feeding.complete
    return complete.args


@pytest.mark.parametrize(("sequences", "running"), [(3, 3), (8, 8), (100, 8)])
def test_no_more_run_at_once_than_asked_and_than_there_are(vllm_on, model, sequences, running):
    vllm_on("cpu")
    up, adapter, in_flight = started(serving(model), sequences)
    assert up.given["max_num_seqs"] == running
    # A place that falls free is taken in the next step.
    assert (adapter, in_flight) == (None, 2 * running)
    assert up.loras == []


def test_on_a_cpu_no_rounding_follows_the_batch_and_nowhere_is_infinity_sampled(vllm_on, model):
    vllm_on("cpu")
    up, _, _ = started(serving(model), 3)
    assert set(up.applied) == {engine.show_overflow, engine.make_batch_invariant}
    vllm_on("cuda")
    up, _, _ = started(serving(model, device="cuda"), 3)
    assert up.applied == [engine.show_overflow]


def test_the_adapter_is_loaded_at_the_start_and_asked_for_later(vllm_on, model, adapter):
    vllm_on("cpu")
    up, asked, _ = started(serving(model, adapter=adapter), 3)
    assert up.loras == [(adapter, adapter)]
    assert asked == adapter


def test_a_vllm_of_another_device_is_refused(vllm_on, model):
    vllm_on("cuda")
    with pytest.raises(InputError, match="--device is cpu, but this vLLM runs on cuda"):
        engine.start(serving(model), 3)


def test_a_start_that_fails_names_the_users_own_settings(vllm_on, model, monkeypatch):
    def fails(given):
        raise ValueError("no such architecture")

    vllm_on("cpu", fails)
    monkeypatch.setenv("VLLM_MINE", "1")
    said = r"does not start with it \(no such architecture\); of yours it reads VLLM_MINE: unset"
    with pytest.raises(InputError, match=said):
        engine.start(serving(model), 3)


@pytest.mark.parametrize(("device", "bound"), [("cpu", True), ("cuda", False)])
def test_the_environment_is_set_and_the_users_word_kept(device, bound):
    for name in [name for name in os.environ if name.startswith(("VLLM_", "OMP_"))]:
        del os.environ[name]
    os.environ |= {"VLLM_LOGGING_LEVEL": "INFO", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    engine.prepare_environment(device, 3)
    assert os.environ["VLLM_LOGGING_LEVEL"] == "INFO"
    # Not this one: in two processes a kill would leave one behind.
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["VLLM_RAISE_ON_LOGIT_NANS"] == "1"
    assert (os.environ.get("VLLM_CPU_ATTN_SPLIT_KV") == "0") is bound
    assert ("VLLM_CPU_OMP_THREADS_BIND" in os.environ) is bound
