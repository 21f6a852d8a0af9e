"""Adapters as PEFT makes and merges them: what ours are held against."""

from pathlib import Path
from typing import Any

import torch


def load(folder: Path) -> "torch.nn.Module":
    """A model in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def make_adapter(base: Path, folder: Path, **config: Any) -> Path:
    """A PEFT adapter for a model, in which everything that can be trained has moved."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    usual = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
    model = get_peft_model(load(base), LoraConfig(**usual | config))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.02)
    model.save_pretrained(folder)
    return folder


def merged_by_peft(base: Path, adapter: Path) -> "torch.nn.Module":
    """The model that PEFT makes of both."""
    from peft import PeftModel

    return PeftModel.from_pretrained(load(base), adapter).merge_and_unload()
