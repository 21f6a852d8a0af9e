"""What the file of training settings holds: experiments/training/<name>.yaml."""

from pathlib import Path
from typing import TypedDict

from lowrank.errors import InputError


class Architecture(TypedDict):
    """What the models are, in the words of transformers' Qwen2Config."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    initializer_range: float
    vocab_size: int


class Prompt(TypedDict):
    """The chat that asks a problem; {problem} stands for the problem."""

    system: str
    user: str


class Problems(TypedDict):
    """The benchmark: how many problems, of how many operations each."""

    seed: int
    problems: int
    lengths: list[int]


class Stage(TypedDict):
    """What every stage of training says."""

    seed: int
    steps: int
    learning_rate: float


class Pretraining(Stage):
    """Single facts in plain text; other_loss: share of the tokens besides the results learnt."""

    batch: int
    facts: int
    other_loss: float
    max_position_embeddings: int


class FineTuning(Stage):
    """Traces of problems, in styles drawn for each."""

    batch: int
    lengths: list[int]
    styles: list[str]
    max_position_embeddings: int


class Reinforcement(Stage):
    """GRPO: problems a step, traces a problem; beta: weight of the KL divergence to sft."""

    problems: int
    traces: int
    lengths: list[int]
    temperature: float
    beta: float
    adam_beta2: float
    max_grad_norm: float
    max_completion_length: int
    shard_size: str


class Settings(TypedDict):
    """All of the file."""

    model: Architecture
    prompt: Prompt
    benchmark: Problems
    pretrained: Pretraining
    worked: FineTuning
    sft: FineTuning
    rl: Reinforcement


def read_settings(path: str | Path) -> Settings:
    """The training settings (experiments/training/*.yaml); InputError if a stage is missing."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the training settings, a YAML file")
    settings: Settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    stages = list(Settings.__annotations__)
    missing = [stage for stage in stages if stage not in (settings or {})]
    if missing:
        needed = ", ".join(stages)
        raise InputError(f"{path}: {', '.join(missing)} missing; every one of {needed} is needed")
    return settings
