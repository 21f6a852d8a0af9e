"""A random checkpoint and a byte-level tokenizer, small enough to be made in a test."""

import json
from pathlib import Path

SPECIAL = ("<bos>", "<eos>", "<pad>", "<think>", "</think>")
# As R1-Distill's: BOS and the opening of the reasoning come from the template.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '[' + message['role'] + ']' }}"
    "{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
THINKING = TEMPLATE + "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"


def make_tokenizer(folder: Path, template: str | None = TEMPLATE, **config) -> Path:
    """A tokenizer of single bytes plus SPECIAL; its class is named as R1-Distill names its own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Encoding with special tokens would add a BOS to whatever the template made.
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "LlamaTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "chat_template": template,
    }
    settings = {name: value for name, value in (settings | config).items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def make_model(folder: Path, seed: int = 0, dtype: str = "bfloat16", **config) -> Path:
    """A random Qwen2 of 2.6 M parameters whose vocabulary holds the tokenizer's 261, padded."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    settings = {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 272,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "initializer_range": 0.08,  # several likely tokens a step: a rounding can turn a draw
        "eos_token_id": 100,  # not the tokenizer's: whoever ends there took the model's
        "bos_token_id": 101,
        "pad_token_id": 102,
    }
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(Qwen2Config(**(settings | config))).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    return folder
