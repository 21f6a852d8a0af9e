"""What every tensor of a language model is: known by structure, and by one table of exceptions.

The decoder's layers are the numbered list of modules beside the input embedding, as long as
config.json says. Every 2-D weight in them is a projection, whatever its module is called, and so
is each matrix of a stack of experts. Other tensors of a layer are
listed in ON_PURPOSE. What is not listed is "unknown", and programs that must decide about it stop.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lowrank.errors import InputError

Config = TypeVar("Config", bound=Mapping[str, Any])  # config.json, or a part of it
Shapes = Mapping[str, tuple[int, ...]]  # by the tensor's name
HEAD = "lm_head.weight"  # name of a head that is tied to the embedding
# Names of the token embedding and of the output head, before ".weight".
EMBEDDINGS = ("embed_tokens", "embed_in", "wte", "word_embeddings", "tok_embeddings",
              "tokens_embed", "embeddings", "embedding")  # fmt: skip
HEADS = ("lm_head", "embed_out", "output", "output_layer", "head")
POSITIONS = ("wpe", "embed_positions", "position_embeddings", "positions_embed", "pos_embed")
# Keys of a configuration: of its part about the language model, its layers, its experts.
TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
VECTOR = "norm or other vector"  # what a vector in a layer is that is no bias of a matrix
# Models of transformers that store linear weights input-first ([in, out], its class Conv1D).
INPUT_FIRST = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
# What torch.compile, DataParallel, FSDP and activation checkpointing put into names.
WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^module\."
)
# The decoder's part of a model of text and images, as checkpoints call it; transformers has the
# last in memory, and PEFT turns the first into it.
DECODERS = ("language_model.model.", "model.", "model.language_model.")

# Tensors in a decoder layer that are no projections, however many dimensions they have: what they
# are called (found in the name within the layer), what they are, why they are not cut to a rank.
ON_PURPOSE = (
    (r"(^|[._])router([._]|$)|(^|\.)shared_expert_gate\.|e_score_correction_bias$",
     "router", "chooses or weighs experts; a row an expert"),
    (r"norm\w*\.(weight|bias)$", "norm", "scales what passes; with two dimensions, a row a head"),
    (r"(^|\.)(A_log|D|dt_bias)$", "state space parameter", "acts on each channel by itself"),
    (r"(^|\.)(time_\w+|slope_rate|\w+_decay|rg_lru\.\w+)$",
     "recurrence parameter", "acts on each channel or block by itself"),
    (r"relative_attention_bias|rel_pos|relative_position",
     "position table", "a number a distance"),
    (r"(^|\.)inv_freq$|(^|\.)masked_bias$", "buffer", "follows from the configuration"),
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What one tensor is."""

    role: str  # projection | bias (of a projection) | other | unknown
    what: str  # in a word or two: "router"; of an unknown one, why it is
    stacked: bool = False  # a projection's weight [experts, ., .]: a matrix an expert


@dataclass(frozen=True)
class Anatomy:
    """The decoder of a checkpoint: its numbered layers, and what every tensor is."""

    stack: str  # "model.layers"
    layers: int
    parts: dict[str, Part]  # by the tensor's name

    def matrices(self) -> list[str]:
        """Names of the tensors that are matrices to be factored, or stacks of them."""
        return [name for name, part in self.parts.items() if part.role == "projection"]


def plain_name(name: str) -> str:
    """A tensor's name without what wrappers of training code put into it.

    >>> plain_name("_orig_mod.module.model.norm.weight")
    'model.norm.weight'
    """
    plain = WRAPPERS.sub("", name)
    return plain if plain == name else plain_name(plain)


def text_config(config: Config) -> Config:
    """The part of config.json about the language model: all of it if there are no others."""
    parts: list[Config] = [config[key] for key in TEXT_CONFIGS if isinstance(config.get(key), dict)]
    return parts[0] if parts else config


def most_positions(config: Mapping[str, Any]) -> int | None:
    """How many positions a model was made for; None if not said, or scaled (rope)."""
    text = text_config(config)
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    scaled = rope.get("rope_type", rope.get("type", "default")) != "default"
    return None if scaled else text.get("max_position_embeddings")


def input_first(config: Mapping[str, Any]) -> bool:
    """Whether the model's linear weights are stored [in, out] rather than [out, in]."""
    return text_config(config).get("model_type") in INPUT_FIRST


def matrix_name(stack: str, index: int) -> str:
    """The name of one matrix of a stack: "model.layers.0.mlp.experts.down_proj[3]"."""
    return f"{stack}[{index}]"


def split_matrix_name(name: str) -> tuple[str, int | None]:
    """The tensor that a name is about, and which matrix of it; None if it is the tensor itself."""
    tensor, bracket, index = name.partition("[")
    return tensor, int(index.removesuffix("]")) if bracket else None


def layer_and_module(name: str) -> tuple[int, str]:
    """(3, "q_proj") of "model.layers.3.self_attn.q_proj.weight"; ValueError for other names.

    name: of a weight in the decoder's layers. The module is unique in its layer: the path within
    it, but the seven projections that most models have go by their last word.
    """
    match = re.search(r"(?:^|\.)(\d+)\.(.+)$", name)
    if not match:
        raise ValueError(f"{name} is in no numbered layer")
    layer, path = int(match[1]), re.sub(r"\.weight(?=$|\[)", "", match[2])
    usual = re.fullmatch(r"(?:self_attn|mlp)\.((?:q|k|v|o|gate|up|down)_proj)", path)
    return layer, usual[1] if usual else path


def module_type(module: str) -> str:
    """What the modules of all experts have in common.

    >>> module_type("mlp.experts.3.up_proj"), module_type("mlp.experts.up_proj[3]")
    ('mlp.experts.up_proj', 'mlp.experts.up_proj')
    """
    return re.sub(r"\.\d+(?=\.|$)|\[\d+\]", "", module)


def find_vocabulary(config: Mapping[str, Any], shapes: Shapes, where: str) -> tuple[str, str]:
    """The names of the input embedding and of the output head.

    The embedding goes by a name of EMBEDDINGS, else it is the one tensor of the shape
    [vocab_size, hidden_size]. Where no head is stored its name is HEAD.
    Raises InputError if no embedding is found, or several.
    """
    outside = [name for name in shapes if not re.search(r"(^|\.)\d+\.", name)]
    found = [name for name in outside if _module(name) in EMBEDDINGS]
    lists = {_parent(path) for path in _lists(shapes)}
    found = [name for name in found if _parent(_parent(name)) in lists] or found
    if not found:
        text = text_config(config)
        shape = (text.get("vocab_size"), text.get("hidden_size"))
        found = [name for name in outside if shapes[name] == shape and _module(name) not in HEADS]
    if len(found) != 1:
        raise InputError(
            f"{where}: {_listed(found) if found else 'no tensor'} could be the embedding of the "
            f"tokens; one tensor called {', '.join(EMBEDDINGS[:4])} ... or of the shape "
            f"[vocab_size, hidden_size] expected, there are {_listed(outside)}; only decoders are "
            "understood, under the names that transformers gives them"
        )
    (embedding,) = found
    trunk = _parent(_parent(embedding))
    heads = [
        name
        for name in outside
        if _module(name) in HEADS
        and name != embedding
        and f"{trunk}.".startswith(_parent(_parent(name)))
        and shapes[name][1:] == shapes[embedding][1:]
    ]
    return embedding, min(heads, key=lambda name: HEADS.index(_module(name)), default=HEAD)


def read_anatomy(
    config: Mapping[str, Any], shapes: Shapes, embedding: str, head: str, where: str
) -> Anatomy:
    """Find the decoder's layers and say what every tensor is.

    embedding, head: as find_vocabulary gives them; where: the checkpoint, for messages.
    Raises InputError, with what was found, if no list of layers fits the configuration or more
    than one does.
    """
    stack, layers = _find_stack(config, shapes, embedding, where)
    beyond = int(text_config(config).get("num_nextn_predict_layers") or 0)
    length = len(_lists(shapes)[stack])
    if not layers <= length <= layers + beyond:
        raise InputError(
            f"{where}/config.json: says {layers} layers, but {stack} has {length}; correct the "
            "configuration, or fetch the checkpoint anew"
        )
    inner = {}  # of every tensor in a layer: the layer's path, the name within it
    for name in shapes:
        match = re.match(rf"{re.escape(stack)}\.(\d+)\.(.+)$", name)
        if match and int(match[1]) < layers:
            inner[name] = (f"{stack}.{match[1]}.", match[2])
    text = text_config(config)
    counts = {text[key] for key in EXPERT_COUNTS if isinstance(text.get(key), int)} - {0, 1}
    mixtures = {
        place + owner
        for name, (place, path) in inner.items()
        if (owner := _before_experts(path, shapes[name], counts)) is not None
    }
    parts = {
        name: _part_of_layer(*inner[name], shapes[name], mixtures, counts)
        if name in inner
        else Part("other", _outside(name, embedding, head, stack))
        for name in shapes
    }
    for name, part in parts.items():
        if part.what == VECTOR or part.role == "unknown":
            owners = [name.removesuffix(end) for end in (".bias", "_bias") if name.endswith(end)]
            weights = [name for owner in owners for name in (f"{owner}.weight", owner)]
            if any(parts[w].role == "projection" for w in weights if w in parts):
                parts[name] = Part("bias", "bias")
    return Anatomy(stack, layers, parts)


def _find_stack(
    config: Mapping[str, Any], shapes: Shapes, embedding: str, where: str
) -> tuple[str, int]:
    """The path of the decoder's list of layers, and how many layers it has."""
    lists = _lists(shapes)
    text = text_config(config)
    said = next((text[key] for key in LAYER_COUNTS if isinstance(text.get(key), int)), None)
    beyond = int(text.get("num_nextn_predict_layers") or 0)
    whole = {p: len(i) for p, i in lists.items() if i == set(range(len(i)))}
    fitting = [p for p, n in whole.items() if said is None or said <= n <= said + beyond]
    trunk = _parent(_parent(embedding))
    nearest = max((_shared(path, trunk) for path in fitting), default=0)
    beside = [path for path in fitting if _parent(path) == trunk] or [
        path for path in fitting if _shared(path, trunk) == nearest
    ]
    if len(beside) != 1:
        there = ", ".join(f"{path} ({len(numbers)})" for path, numbers in lists.items())
        wanted = f"{said} layers, as config.json says" if said is not None else "layers"
        raise InputError(
            f"{where}: {'several lists' if beside else 'no list'} of {wanted}, numbered from 0, "
            f"beside the embedding {embedding}; found are {there or 'none'}. Only a decoder with "
            "one list of layers is understood: take its checkpoint alone, or correct "
            "num_hidden_layers in config.json"
        )
    return beside[0], said if said is not None else whole[beside[0]]


def _part_of_layer(
    place: str, path: str, shape: tuple[int, ...], mixtures: set[str], counts: set[int]
) -> Part:
    """What a tensor in a layer is; biases are still vectors here.

    place: the layer's path; path: the tensor's name within it; mixtures: paths of the modules
    that hold experts; counts: numbers of experts that the configuration names.
    """
    for pattern, what, _ in ON_PURPOSE:
        if re.search(pattern, path):
            return Part("other", what)
    if re.search(r"conv\w*\.(weight|bias)$", path) and len(shape) != 2:
        return Part("other", "convolution")
    gate = re.match(r"((?:.+\.)?)gate\.", path)
    if gate and place + gate[1] in mixtures:
        return Part("other", "router")
    if len(shape) < 2:
        return Part("other", VECTOR)
    if len(shape) == 2 and path.endswith(".weight"):
        return Part("projection", "projection")
    if len(shape) == 3 and _before_experts(path, shape, counts) is not None:
        return Part("projection", "projection", stacked=True)
    if len(shape) == 4 and path.endswith(("attn.bias", "attention.bias")):
        return Part("other", "buffer")
    return Part("unknown", f"{len(shape)} dimensions, not known as a matrix or as anything else")


def _before_experts(path: str, shape: tuple[int, ...], counts: set[int]) -> str | None:
    """The path, with its last dot, of the module that holds the experts a tensor is of."""
    numbered = re.match(r"((?:.+\.)?)experts\.", path)
    if numbered:
        return numbered[1]
    if len(shape) == 3 and shape[0] in counts and 1 not in shape:
        return f"{_parent(path.removesuffix('.weight'))}.".lstrip(".")
    return None


def _outside(name: str, embedding: str, head: str, stack: str) -> str:
    """What a tensor outside the decoder's layers is."""
    trunk = _parent(_parent(embedding))
    if name == embedding:
        return "embedding"
    if name == head or _parent(name) == _parent(head):
        return "head"
    if name.startswith(f"{stack}."):
        return "layer beyond the model's own"
    if _parent(_parent(name)) in (trunk, _parent(stack)):
        if _module(name) in POSITIONS:
            return "position embedding"
        if re.search(r"norm|(^|\.)ln_", name):
            return "norm"
    return "outside the decoder's layers"


def place_of(name: str, embedding: str, head: str) -> str:
    """Where a tensor is in a model, whatever the checkpoint calls the language model's part.

    >>> old = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"
    >>> place_of("language_model.model.layers.0.mlp.up_proj.weight", *old)
    'decoder:layers.0.mlp.up_proj.weight'
    """
    trunk, head_module = _parent(_parent(embedding)), _parent(head)
    if name.startswith(f"{head_module}."):
        return f"head:{name.removeprefix(head_module + '.')}"
    if not trunk or name.startswith(f"{trunk}."):
        return f"decoder:{name.removeprefix(trunk + '.')}"
    return name.removeprefix("model.")


def paths_in_memory(config: Mapping[str, Any], name: str) -> list[str]:
    """Paths that the module of a weight may have, first the one that PEFT understands.

    That is the stored one, but in a model of text and images that is stored as "model.layers...".

    >>> paths_in_memory({"text_config": {}}, "model.layers.0.mlp.up_proj.weight")
    ['model.language_model.layers.0.mlp.up_proj', 'model.layers.0.mlp.up_proj']
    """
    path = name.removesuffix(".weight")
    begin = next((part for part in reversed(DECODERS) if name.startswith(part)), None)
    if text_config(config) is config or begin is None or begin == DECODERS[-1]:
        return [path]
    wrapped = DECODERS[-1] + path.removeprefix(begin)
    return [wrapped, path] if begin == "model." else [path, wrapped]


def merged_only(names: list[str]) -> str | None:
    """Why an adapter of these matrices cannot be served unmerged; None if nothing speaks against.

    transformers and vLLM hold all experts of a layer in one tensor, which has no module of the
    matrix's name for an adapter to sit on. Whether vLLM serves adapters of an architecture at all
    is for vLLM to say.
    """
    for name in names:
        if "[" in name or re.search(r"\.experts\.\d+\.", name):
            return f"{name} is one expert's, and all experts of a layer are one tensor in memory"
        if re.match(r"[^.]+\.\d+\.", name):
            return f"{name} is of a checkpoint without the prefix that its model has in memory"
    return None


def _lists(shapes: Shapes) -> dict[str, set[int]]:
    """Numbers of the members of every list of modules that is in no other list, by its path."""
    lists: dict[str, set[int]] = {}
    for name in shapes:
        # A member of more than one module: a list of bare linear maps is no list of layers.
        match = re.match(r"((?:[^.]*[^.\d][^.]*\.)+?)(\d+)\.[^.]+\.", name)
        if match:
            lists.setdefault(match[1].removesuffix("."), set()).add(int(match[2]))
    return lists


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _module(name: str) -> str:
    """The last module's name of a weight: "wte" of "transformer.wte.weight"; "" of others."""
    return _parent(name).rpartition(".")[2] if name.endswith(".weight") else ""


def _shared(path: str, other: str) -> int:
    """How many leading words two paths have in common."""
    same = [one == two for one, two in zip(path.split("."), other.split("."), strict=False)]
    return [*same, False].index(False)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
