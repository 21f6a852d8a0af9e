"""Tiny checkpoints that keep the awkwardness of real ones, made once a session."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("steady", deadline=None)
hypothesis.settings.load_profile("steady")

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 128, 224, 2, 4, 2, 32
VOCABULARY = 128
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
PLANTED = 3  # rank of the delta between base and derivative, before noise


# The longest files first, and first of all those that mostly wait (for a cluster), so that
# no worker is left alone with one in the end.
FIRST = (
    "test_cluster_faults.py", "test_installed_environments.py", "test_cluster.py",
    "test_workflow.py", "test_weights.py", "test_factor.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip(f"of a GPU: torch {torch.__version__} sees none here")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line of all: what was skipped, and what to install to have it."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    skipped = terminal.stats.get("skipped", []) if terminal else []
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if reasons:
        each = "; ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
        terminal.write_line(f"Skipped: {each}")


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """What a test, or a program that it runs in this process, sets is gone after it."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def vllm() -> None:
    """What samples for real is skipped where vLLM has no build."""
    if find_spec("vllm") is None:
        pytest.skip("of sampling: vLLM, which has builds for Linux (README, Machines)")


@dataclass(frozen=True)
class Trio:
    """Folders of three random Qwen2 checkpoints and what is known of them."""

    grandparent: Path  # BF16, embeddings tied: no lm_head tensor
    base: Path  # BF16, untied
    derivative: Path  # F32 in two shards, untied; base + rank-3 delta, other weights changed
    planted: int = PLANTED


def config(tied: bool, dtype: str) -> dict:
    """config.json of a tiny Qwen2."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def projections() -> dict[str, tuple[int, int]]:
    """Shape of every projection's weight, by name."""
    kv = KV_HEADS * HEAD_DIM
    shapes = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (kv, HIDDEN),
        "self_attn.v_proj": (kv, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    }
    return {
        f"model.layers.{layer}.{module}.weight": shape
        for layer in range(LAYERS)
        for module, shape in shapes.items()
    }


def role(name: str) -> str:
    """What a tensor of a tiny Qwen2 is, by its name."""
    return "projection" if name in projections() else "bias" if name.endswith("bias") else "other"


def random_weights(seed: int, tied: bool) -> dict:
    """Float32 weights of a tiny Qwen2, by name."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 0.05):
        return torch.randn(*shape, generator=generator) * scale

    weights = {name: normal(*shape) for name, shape in projections().items()}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for module in ("q", "k", "v"):
            rows = weights[f"{prefix}.self_attn.{module}_proj.weight"].shape[0]
            weights[f"{prefix}.self_attn.{module}_proj.bias"] = normal(rows)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{prefix}.{norm}.weight"] = 1 + normal(HIDDEN)
    weights["model.norm.weight"] = 1 + normal(HIDDEN)
    weights["model.embed_tokens.weight"] = normal(VOCABULARY, HIDDEN)
    if not tied:
        weights["lm_head.weight"] = normal(VOCABULARY, HIDDEN)
    return weights


def write_checkpoint(folder: Path, weights: dict, given: dict, shards: int = 1) -> Path:
    """Write a checkpoint folder with the safetensors library; returns the folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(given))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1]}))
    write_tokenizer(folder)
    names = sorted(weights)
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        save_file({n: weights[n] for n in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of single characters, with a chat template that opens <think>."""
    special = ["<bos>", "<eos>", "<think>", "</think>"]
    characters = [chr(code) for code in range(32, 127)]
    vocabulary = {token: i for i, token in enumerate([*special, "\n", *characters])}
    added = [
        {"id": vocabulary[token], "content": token, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False, "special": i < 2}
        for i, token in enumerate(special)
    ]  # fmt: skip
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated",
                          "invert": False},
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": " "},
    }  # fmt: skip
    template = (
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<bos>",
                "eos_token": "<eos>",
                "chat_template": template,
            }
        )
    )


@pytest.fixture(scope="session")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Trio:
    """Tied BF16 grandparent, untied BF16 base, F32 two-shard derivative with a rank-3 delta."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trio")
    generator = torch.Generator().manual_seed(7)

    grandparent = {n: w.bfloat16() for n, w in random_weights(1, tied=True).items()}
    base = {n: w.bfloat16() for n, w in random_weights(2, tied=False).items()}
    derivative = {}
    for name, weight in base.items():
        weight = weight.float()
        change = torch.randn(weight.shape, generator=generator) * 4.5e-5
        if name in projections():
            left = torch.randn(weight.shape[0], PLANTED, generator=generator)
            right = torch.randn(PLANTED, weight.shape[1], generator=generator)
            change = change + 1e-3 * (left @ right)
        elif "bias" in name or "norm" in name:
            change = change * 100
        derivative[name] = weight + change
    return Trio(
        write_checkpoint(folder / "grandparent", grandparent, config(True, "bfloat16")),
        write_checkpoint(folder / "base", base, config(False, "bfloat16")),
        write_checkpoint(folder / "derivative", derivative, config(False, "float32"), shards=2),
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case of the workflow that was run to its end; tests change copies of it."""
    from workflow_case import make_case, snakemake

    case = make_case(tmp_path_factory.mktemp("finished") / "case")
    snakemake(case, "--cores", "2")
    return case


@pytest.fixture
def case(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished case, to be changed."""
    from workflow_case import copy_case

    return copy_case(finished, tmp_path / "case")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A SLURM of one node, see slurm_case.py."""
    from slurm_case import cluster

    with cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="session")
def uneven(tmp_path_factory):
    """The report of the uneven case, see uneven_report.py."""
    from uneven_report import build_uneven

    return build_uneven(tmp_path_factory.mktemp("uneven"))


@pytest.fixture(scope="session")
def expected(uneven):
    """Benchmark or pool -> every comparison that its grades give, see page_claims.py."""
    from page_claims import expected_of

    return expected_of(uneven)


@pytest.fixture(scope="session")
def pools(uneven):
    """(benchmark, model) -> the pool of each problem of the uneven case."""
    from page_claims import pools_of

    return pools_of(uneven)
