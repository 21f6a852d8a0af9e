"""A model as it is served, in memory: its last hidden states, and logits made of them.

Served as and computed in are two things (see lowrank.sampling.casting): the weights are cast to
the dtype that is served, and everything is then computed in float32 with these values, on any
device, so that the numbers do not depend on what the machine is quick at.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from lowrank.devices import Need
from lowrank.errors import InputError
from lowrank.models.architecture import input_first, paths_in_memory
from lowrank.models.checkpoint import open_checkpoint
from lowrank.models.safetensors_file import read_tensor
from lowrank.variants.factors import read_factors

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

BESIDE = 2 * 2**30  # bytes of a GPU that reading takes beside weights: logits, CUDA itself


def load_served(
    folder: Path, dtype: str, adapter: Path | None = None, device: str = "cpu"
) -> "PreTrainedModel":
    """A checkpoint with its weights cast to `dtype`, computing in float32.

    adapter: a LoRA that is served unmerged on it; its factors are cast alike, then added.
    What transformers keeps in float32 whatever the dtype stays uncast.
    InputError if the checkpoint and the model that its config names do not fit each other.
    """
    import torch
    from transformers import AutoModelForCausalLM

    checkpoint = open_checkpoint(folder)
    prepare()
    try:
        model, said = AutoModelForCausalLM.from_pretrained(
            folder,
            config=read_config(folder),
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (ValueError, RuntimeError, OSError, KeyError, ImportError) as error:
        raise InputError(f"{folder}: transformers cannot load it ({error})") from error
    for what in ("missing_keys", "mismatched_keys"):
        if said.get(what):
            raise InputError(
                f"{folder}: transformers finds {what.replace('_', ' ')}, such as"
                f" {sorted(map(str, said[what]))[0]}; get a sound copy"
            )
    model = model.float().eval().requires_grad_(False)
    if adapter is not None:
        factors, scale = read_factors(adapter, checkpoint)
        for name, pair in factors.items():
            A, B = (read_tensor(entry).to(getattr(torch, dtype)).float() for entry in pair)
            change = scale * (B @ A)
            weight: Any = module_of(model, checkpoint.config, name).weight
            weight += change.T if input_first(checkpoint.config) else change
    model = model.to(device)
    check_cut(model)
    return model


def need(folder: Path, device: str) -> Need | None:
    """The memory of a GPU that reading with a model takes: its weights in float32, and beside them
    the derivative's head and the logits of some positions. None on a CPU."""
    if device == "cpu":
        return None
    checkpoint = open_checkpoint(folder)
    embedding = checkpoint.tensors[checkpoint.embedding].parameters
    return Need(bytes=4 * (checkpoint.parameters + embedding) + BESIDE)


def prepare() -> None:
    """Plain float32 on every device; transformers' bars and hints are no part of a log."""
    import torch
    import transformers

    torch.set_float32_matmul_precision("highest")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def read_config(folder: Path) -> Any:
    """transformers' configuration of a checkpoint folder.

    A quantization_config that was left in after dequantisation is dropped: what is still quantised
    is refused by `open_checkpoint`.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"{folder}/config.json: transformers cannot read it ({error})") from error
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    return config


def module_of(model: "PreTrainedModel", config: dict[str, Any], name: str) -> "Module":
    """The module in memory whose weight has a name in the checkpoint."""
    for path in paths_in_memory(config, name):
        try:
            found: Module = model.get_submodule(path)
            return found
        except AttributeError:
            continue
    raise InputError(
        f"{name} is no module's weight as transformers holds the model; merge the adapter"
    )


def decoder_of(model: "PreTrainedModel") -> "Module":
    """All of a model but its head."""
    found: Any = model.get_decoder()
    inner: Module = model.model if found is model else found  # Llama 4 does not say
    return inner


def check_cut(model: "PreTrainedModel") -> None:
    """InputError unless `hidden_states` and `logits` together give what the model itself gives."""
    import torch

    ids = torch.arange(1, 9, device=model.device)
    with torch.inference_mode():
        whole = model(input_ids=ids[None], use_cache=False).logits[0].float()
    made = logits(model, hidden_states(model, ids))
    if made.shape != whole.shape or not torch.allclose(made, whole, rtol=1e-3, atol=1e-3):
        raise InputError(
            f"{model.config.model_type}: what its head is given is not known here, so its logits"
            " cannot be remade; set divergence to null in config.yaml"
        )


def hidden_states(model: "PreTrainedModel", input_ids: "Tensor") -> "Tensor":
    """[tokens, hidden] float32: what the head is given for each of [tokens] input ids."""
    import torch

    with torch.inference_mode():
        states: Tensor = decoder_of(model)(input_ids=input_ids[None], use_cache=False)[0][0]
        return states


def logits(model: "PreTrainedModel", hidden: "Tensor") -> "Tensor":
    """[positions, vocabulary] float32 logits of [positions, hidden] last hidden states.

    The model's own forward, its decoder's answer given: scaling and soft caps of logits stay the
    model's affair.
    """
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPast

    class Given(BaseModelOutputWithPast):
        def __getattr__(self, name: str) -> None:  # what some decoders answer besides
            return None

    def forward(*_: Any, **__: Any) -> Given:
        return Given(last_hidden_state=hidden[None])

    ids = torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
    with torch.inference_mode(), mock.patch.object(decoder_of(model), "forward", forward):
        found: Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
        return found


def head_weights(model: "PreTrainedModel") -> dict[str, "Tensor"]:
    """The head's parameters, by name: all that `logits` needs of a model's weights."""
    return dict(model.get_output_embeddings().named_parameters())


def with_head(folder: Path, weights: dict[str, "Tensor"], device: str) -> "PreTrainedModel":
    """A model of which only the head exists, for `logits`; folder: of its config.json."""
    import torch
    from transformers import AutoModelForCausalLM

    prepare()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(read_config(folder)).eval()
    head = model.get_output_embeddings()
    for name, values in weights.items():
        head.register_parameter(name, torch.nn.Parameter(values.to(device), requires_grad=False))
    return model
