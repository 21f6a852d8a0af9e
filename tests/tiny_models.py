"""Tiny models of many architectures, made by transformers: a base and a changed child of it."""

from pathlib import Path
from typing import Any

from conftest import write_tokenizer

USUAL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
OLDER = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 96, "n_positions": 64}
HEADS = {"head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
           "shared_expert_intermediate_size": 16, "decoder_sparse_step": 1}  # fmt: skip
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
          "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2,
          "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
          "n_shared_experts": 1, "num_key_value_heads": 4}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
          "linear_num_value_heads": 4, "linear_key_head_dim": 8,
          "linear_value_head_dim": 8}  # fmt: skip

# What makes each architecture tiny, and what in its layers (norms aside) is not to be factored.
MODELS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "llama": (USUAL, set()),
    "mistral": (USUAL, set()),
    "qwen2": (USUAL, set()),
    "qwen3": (USUAL | HEADS, set()),
    "gemma2": (USUAL | HEADS, set()),
    "gemma3_text": (USUAL | HEADS, set()),
    "olmo2": (USUAL, set()),
    "olmo3": (USUAL, set()),
    "granite": (USUAL, set()),
    "smollm3": (USUAL, set()),
    "qwen2_moe": (USUAL | EXPERTS, {"router"}),
    "qwen3_moe": (USUAL | HEADS | EXPERTS, {"router"}),
    "phi3": (USUAL, set()),
    "phi": (USUAL | {"num_key_value_heads": 4}, set()),
    "mixtral": (USUAL | LOCAL, {"router"}),
    "gpt_oss": (USUAL | HEADS | LOCAL, {"router"}),
    "glm4": (USUAL | HEADS, set()),
    "deepseek_v2": (USUAL | LATENT, {"router"}),
    "deepseek_v3": (USUAL | LATENT, {"router"}),
    "lfm2": (USUAL | {"full_attn_idxs": [1], "block_multiple_of": 16}, {"convolution"}),
    "falcon_h1": (
        USUAL | HEADS | MAMBA | {"mamba_d_ssm": 32, "mamba_n_heads": 4},
        {"convolution", "state space parameter"},
    ),
    "granitemoehybrid": (
        USUAL | LOCAL | MAMBA
        | {"shared_intermediate_size": 48, "layer_types": ["mamba", "attention"]},
        {"convolution", "state space parameter", "router"},
    ),
    "qwen3_next": (
        USUAL | HEADS | EXPERTS | LINEAR,
        {"convolution", "state space parameter", "router"},
    ),
    "gpt_neox": (USUAL, set()),
    "gpt2": (OLDER, set()),
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 96}, set()),
    "opt": (USUAL | {"ffn_dim": 48, "word_embed_proj_dim": 16}, set()),
    "jamba": (
        USUAL | {"num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2,
                 "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
                 "mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False},
        {"convolution", "state space parameter", "router"},
    ),
    "llama4_text": (
        USUAL | HEADS | LOCAL | {"intermediate_size_mlp": 48, "moe_layers": [1],
                                 "num_experts_per_tok": 1},
        {"router"},
    ),
    "rwkv": (
        {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 96, "attention_hidden_size": 32,
         "intermediate_size": 48},
        {"recurrence parameter"},
    ),
}  # fmt: skip


def make_pair(folder: Path, kind: str, sizes: dict[str, Any]) -> tuple[Path, Path]:
    """A random model and a child in which every number moved, float32; returns the two folders."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **sizes)
    wrapped = "vision_config" in sizes
    family = transformers.AutoModelForImageTextToText if wrapped else None
    model = (family or transformers.AutoModelForCausalLM).from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():  # what begins as zeros or ones moves too
            parameter += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(folder / "base")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    model.save_pretrained(folder / "child")
    for side in ("base", "child"):
        write_tokenizer(folder / side)
    return folder / "base", folder / "child"
