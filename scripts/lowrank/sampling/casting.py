"""vLLM computing in one dtype with weights that hold the values of another.

A model is served as its weights cast to a dtype; that cast is part of the experiment. What the
engine computes in is part of the machine: float32 is the fastest on many CPUs, and holds every
bfloat16 and float16 value exactly. vLLM alone would cast stored weights to the dtype it computes
in, once, so a checkpoint stored in float32 would be served uncast. Here it is cast to what it is
served as first.
"""

import copy
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    import torch
    from vllm.config import LoadConfig, ModelConfig, VllmConfig


def load_format(dtype: str) -> str:
    """Name of a load format of vLLM's: safetensors, weights cast to `dtype` on the way.

    The engine then holds the values that it would hold if it computed in `dtype`; what a model
    of vLLM's keeps in float32 whatever it computes in (the bias of a router, say) stays uncast.
    """
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    name = f"safetensors-{dtype}"

    @register_model_loader(name)
    class CastingLoader(DefaultModelLoader):
        def __init__(self, load_config: "LoadConfig") -> None:
            plain = copy.copy(load_config)
            plain.load_format = "safetensors"
            super().__init__(plain)

        def create_model(
            self, vllm_config: "VllmConfig", model_config: "ModelConfig", prefix: str = ""
        ) -> "torch.nn.Module":
            self.served = parameter_dtypes(vllm_config, prefix, dtype)
            model: torch.nn.Module = super().create_model(vllm_config, model_config, prefix)
            return model

        def load_weights(self, model: "torch.nn.Module", model_config: "ModelConfig") -> None:
            super().load_weights(model, model_config)
            for name, tensor in model.state_dict().items():
                tensor.copy_(tensor.to(self.served[name]))

    return name


def parameter_dtypes(
    vllm_config: "VllmConfig", prefix: str, dtype: str
) -> "dict[str, torch.dtype]":
    """The dtype in which vLLM would hold each weight of a model if it computed in `dtype`.

    Found by building the model on the meta device, without memory: which weights stay in float32 is
    decided in each model's code.
    """
    import torch
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    # A copy, as layers enter themselves in the configuration.
    config = copy.deepcopy(vllm_config)
    config.model_config.dtype = getattr(torch, dtype)
    # Tables of rotary positions are kept for later models, which must not find some without memory.
    known = "vllm.model_executor.layers.rotary_embedding._ROPE_DICT"
    with (
        mock.patch.dict(known),
        set_default_torch_dtype(config.model_config.dtype),
        torch.device("meta"),
    ):
        model = initialize_model(config, prefix=prefix)
    return {name: tensor.dtype for name, tensor in model.state_dict().items()}


@contextmanager
def cast_adapter(adapter: Path, dtype: str) -> Iterator[Path]:
    """A temporary copy of a LoRA adapter with its factors cast to `dtype`."""
    import torch
    from safetensors.torch import load_file, save_file

    factors = load_file(adapter / "adapter_model.safetensors")
    cast = {name: factor.to(getattr(torch, dtype)) for name, factor in factors.items()}
    with tempfile.TemporaryDirectory() as folder:
        save_file(cast, Path(folder) / "adapter_model.safetensors")
        shutil.copyfile(adapter / "adapter_config.json", Path(folder) / "adapter_config.json")
        yield Path(folder)
