"""Facts about the committed miniature: what it must have in common with the real checkpoints."""

import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from lowrank.train import chains, training
from lowrank.train.settings import read_settings

ROOT = Path(__file__).parents[2]
MINI = ROOT / "resources" / "mini"
MODELS = ("pretrained", "sft", "rl")
SETTINGS = read_settings(ROOT / "experiments" / "training" / "mini.yaml")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def tensors(model: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    loaded = {}
    for shard in sorted((MINI / model).glob("*.safetensors")):
        loaded.update(load_file(shard))
    return loaded


def config(model: str) -> dict[str, Any]:
    return json.loads((MINI / model / "config.json").read_text())


def rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in (MINI / "problems.jsonl").read_text().splitlines()]


def test_all_of_it_fits_in_16_megabytes() -> None:
    assert sum(path.stat().st_size for path in MINI.rglob("*") if path.is_file()) <= 16_000_000


@pytest.mark.parametrize(
    ("model", "dtype", "tied"),
    [("pretrained", "bfloat16", True), ("sft", "bfloat16", False), ("rl", "float32", False)],
)
def test_dtypes_and_heads(model: str, dtype: str, tied: bool) -> None:
    stored = tensors(model)
    assert {str(tensor.dtype) for tensor in stored.values()} == {f"torch.{dtype}"}
    assert ("lm_head.weight" not in stored) is tied
    assert config(model)["tie_word_embeddings"] is tied
    assert config(model)["dtype"] == dtype


def test_the_derivative_is_in_two_shards_with_an_index() -> None:
    index = json.loads((MINI / "rl" / "model.safetensors.index.json").read_text())
    shards = {path.name for path in (MINI / "rl").glob("*.safetensors")}
    assert len(shards) == 2
    assert set(index["weight_map"].values()) == shards
    assert set(index["weight_map"]) == set(tensors("rl"))
    for other in ("pretrained", "sft"):
        assert {path.name for path in (MINI / other).glob("*.safetensors")} == {"model.safetensors"}


@pytest.mark.parametrize("model", MODELS)
def test_shape_of_the_family(model: str) -> None:
    stored, settings = tensors(model), config(model)
    assert settings["architectures"] == ["Qwen2ForCausalLM"]
    assert settings["hidden_size"] >= 256
    for layer in range(settings["num_hidden_layers"]):
        for projection in PROJECTIONS:
            block = "self_attn" if projection[0] in "qkvo" else "mlp"
            name = f"model.layers.{layer}.{block}.{projection}"
            assert stored[f"{name}.weight"].ndim == 2
            assert (f"{name}.bias" in stored) is (projection in ("q_proj", "k_proj", "v_proj"))
            if f"{name}.bias" in stored:
                assert stored[f"{name}.bias"].float().abs().max() > 0
    assert all(tensor.isfinite().all() for tensor in stored.values())


def test_positions_grow_from_the_grandparent() -> None:
    assert (
        config("pretrained")["max_position_embeddings"] < config("sft")["max_position_embeddings"]
    )


@pytest.mark.parametrize("model", MODELS)
def test_the_vocabulary_is_padded(model: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MINI / model)
    assert len(tokenizer) < config(model)["vocab_size"]
    assert tensors(model)["model.embed_tokens.weight"].shape[0] == config(model)["vocab_size"]


def test_tokenizers_agree_on_text_and_differ_in_bos_and_pad() -> None:
    from transformers import AutoTokenizer

    loaded = {model: AutoTokenizer.from_pretrained(MINI / model) for model in MODELS}
    text = "<think>\n3*7=1\n</think>\n\\boxed{042}"
    ids = [each(text, add_special_tokens=False)["input_ids"] for each in loaded.values()]
    assert ids[0] == ids[1] == ids[2]
    assert loaded["sft"].decode(ids[0], skip_special_tokens=True) == text
    assert loaded["sft"].bos_token_id != loaded["rl"].bos_token_id
    assert loaded["sft"].pad_token_id != loaded["rl"].pad_token_id
    assert loaded["sft"].eos_token_id == loaded["rl"].eos_token_id
    for model, tokenizer in loaded.items():
        generation = json.loads((MINI / model / "generation_config.json").read_text())
        assert generation["eos_token_id"] == tokenizer.eos_token_id
        assert config(model)["bos_token_id"] == tokenizer.bos_token_id


@pytest.mark.parametrize("model", MODELS)
def test_the_template_takes_a_system_and_a_user_message_and_opens_think(model: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MINI / model)
    chat = training.messages(SETTINGS, "3*7+5-2+8")
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert SETTINGS["prompt"]["system"] in text
    assert "3*7+5-2+8" in text
    assert text.endswith("<think>\n")
    assert text.count("<think>") == 1
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert len(ids) <= 60
    if tokenizer.bos_token_id is not None:
        assert ids.count(tokenizer.bos_token_id) == 1
        # The trap of the real tokenizers: encoding the templated text adds a second one.
        assert tokenizer(text)["input_ids"].count(tokenizer.bos_token_id) == 2


def test_the_benchmark_is_the_one_the_settings_make() -> None:
    assert rows() == training.benchmark(SETTINGS)


def test_the_benchmark_has_thirty_different_problems_with_integer_answers() -> None:
    assert len(rows()) == 30
    assert len({row["problem"] for row in rows()}) == 30
    for row in rows():
        assert row["answer"] == chains.answer(row["problem"])
        assert 0 <= int(row["answer"]) <= 999


def test_the_benchmark_is_disjoint_from_every_training_problem() -> None:
    asked = {row["problem"] for row in rows()}
    assert all(chains.held_out(problem) for problem in asked)
    for stage, count in (
        ("worked", SETTINGS["worked"]["steps"] * SETTINGS["worked"]["batch"]),
        ("sft", SETTINGS["sft"]["steps"] * SETTINGS["sft"]["batch"]),
        ("rl", SETTINGS["rl"]["steps"] * SETTINGS["rl"]["problems"]),
    ):
        rng = random.Random(SETTINGS[stage]["seed"])
        drawn = chains.chains(rng, SETTINGS[stage]["lengths"], benchmark=False)
        assert asked.isdisjoint(islice(drawn, count))


def test_the_rl_delta_is_small_against_the_sft_delta() -> None:
    loaded = {model: tensors(model) for model in MODELS}
    names = [name for name in loaded["sft"] if name.endswith("_proj.weight")]

    def relative(base: str, derivative: str) -> float:
        energy = [
            (loaded[derivative][name].double() - loaded[base][name].double()).square().sum()
            for name in names
        ]
        return (
            sum(energy) / sum(loaded[base][name].double().square().sum() for name in names)
        ) ** 0.5

    assert 0 < relative("sft", "rl") <= relative("pretrained", "sft") / 4


def test_vocabulary_and_settings_agree_with_the_models() -> None:
    for model in MODELS:
        for key, value in SETTINGS["model"].items():
            assert config(model)[key] == value
