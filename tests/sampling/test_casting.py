"""What is held in one dtype has the values of another: weights, and the factors of an adapter.

A pretended vLLM loads; test_engine.py has the real one.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from lowrank.sampling import casting, engine

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

VALUE = 1 + 2**-10  # between two numbers of bfloat16, and a number of float16
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class Model(torch.nn.Module):
    """As a model of vLLM's: made in a dtype, but for the bias of a router."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(3, dtype=dtype), requires_grad=False)
        self.register_buffer("router_bias", torch.empty(3, dtype=torch.float32))


class Loader:
    """Fills every tensor with VALUE, as far as its dtype holds it."""

    def __init__(self, load_config):
        self.given = load_config

    def create_model(self, vllm_config, model_config, prefix=""):
        return Model(vllm_config.model_config.dtype)

    def load_weights(self, model, model_config):
        for tensor in model.state_dict().values():
            tensor.fill_(VALUE)


@pytest.fixture
def loaders(monkeypatch):
    """The loaders that are registered with the pretended vLLM, by name."""
    registered, made = {}, []

    @contextmanager
    def default_dtype(dtype):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        yield
        torch.set_default_dtype(before)

    def initialize_model(vllm_config, prefix):
        made.append(vllm_config)
        return Model(vllm_config.model_config.dtype)

    def register(name):
        return lambda loader: registered.setdefault(name, loader)

    loading = "vllm.model_executor.model_loader"
    names = {
        "vllm": {},
        "vllm.model_executor": {},
        "vllm.model_executor.layers": {},
        "vllm.model_executor.layers.rotary_embedding": {"_ROPE_DICT": {}},
        loading: {"register_model_loader": register},
        f"{loading}.default_loader": {"DefaultModelLoader": Loader},
        f"{loading}.utils": {"initialize_model": initialize_model},
        "vllm.utils": {},
        "vllm.utils.torch_utils": {"set_default_torch_dtype": default_dtype},
    }
    for name, content in names.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        above, _, last = name.rpartition(".")
        if above:
            setattr(sys.modules[above], last, module)
    return registered


def loaded(loaders, served: str, computed: str) -> tuple[Model, object]:
    """A model as it is after loading, and its configuration."""
    config = SimpleNamespace(model_config=SimpleNamespace(dtype=DTYPES[computed]))
    loader = loaders[casting.load_format(served)](SimpleNamespace(load_format="ours"))
    assert loader.given.load_format == "safetensors"
    model = loader.create_model(config, config.model_config)
    loader.load_weights(model, config.model_config)
    return model, config


@pytest.mark.parametrize("served", ["bfloat16", "float16"])
def test_weights_have_the_values_that_are_served_in_what_is_computed_in(loaders, served):
    model, config = loaded(loaders, served, "float32")
    assert model.weight.dtype == torch.float32
    expected = torch.tensor(VALUE).to(DTYPES[served]).float()
    assert (model.weight == expected).all()
    # What vLLM holds in float32 whatever it computes in is not cast.
    assert (model.router_bias == torch.tensor(VALUE)).all()
    assert config.model_config.dtype == torch.float32


def test_two_dtypes_are_two_loaders(loaders):
    assert len({casting.load_format(dtype) for dtype in DTYPES}) == len(loaders) == 3
    for dtype in ("bfloat16", "float16"):
        model, _ = loaded(loaders, dtype, "float32")
        assert model.weight[0] == torch.tensor(VALUE).to(DTYPES[dtype]).float()


@pytest.fixture
def adapter(tmp_path) -> Path:
    folder = tmp_path / "r2"
    folder.mkdir()
    save_file({"lora_A": torch.full((2, 3), VALUE)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 8}))
    return folder


def test_an_adapter_is_cast_and_stays_as_it_is_where_it_stands(adapter):
    before = (adapter / "adapter_model.safetensors").read_bytes()
    with casting.cast_adapter(adapter, "bfloat16") as folder:
        factor = load_file(folder / "adapter_model.safetensors")["lora_A"]
        assert factor.dtype == torch.bfloat16
        assert (factor == torch.full((2, 3), VALUE).bfloat16()).all()
        # Its scale stands in its configuration.
        told = (folder / "adapter_config.json").read_text()
        assert told == (adapter / "adapter_config.json").read_text()
    assert not folder.exists()
    assert (adapter / "adapter_model.safetensors").read_bytes() == before


@pytest.mark.parametrize(("computed", "value"), [("bfloat16", VALUE), ("float32", 1.0)])
def test_the_engine_is_given_factors_of_the_values_that_are_served(
    adapter, monkeypatch, computed, value
):
    """Where it computes in what is served it casts them itself."""
    given = []

    class Engine:
        def add_lora(self, folder):
            given.append(load_file(folder / "adapter_model.safetensors")["lora_A"].float())

    monkeypatch.setattr(engine, "lora_request", lambda adapter, folder: folder)
    serving = engine.Serving(Path("m"), "cpu", "bfloat16", computed, 100, 8, adapter=adapter)
    engine.add_adapter(Engine(), serving, adapter)
    assert (given[0] == value).all()
