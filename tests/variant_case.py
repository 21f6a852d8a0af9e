"""What a variant's folder holds, read without the code that wrote it."""

import json

import torch
from safetensors.torch import load_file


def stored(folder) -> dict[str, torch.Tensor]:
    weights = {}
    for file in folder.glob("*.safetensors"):
        weights |= load_file(file)
    return weights


def fidelity(folder) -> dict:
    return json.loads((folder / "fidelity.json").read_text())


def load_strictly(folder):
    """The model as transformers loads it; fails on any missing, unexpected or mismatched key."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, dtype="auto"
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(problem), (problem, info[problem])
    return model
