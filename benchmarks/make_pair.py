"""Make checkpoints with the exact shapes, names, dtypes and shards of the 1.5B models."""

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from lowrank.errors import run
from lowrank.files import write_json
from lowrank.models.manifest import write_manifest
from lowrank.models.safetensors_file import write_tensors
from lowrank.plan.checkpoint_files import INDEX, SINGLE

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
HIDDEN, INTERMEDIATE, VOCABULARY, KV = 1536, 8960, 151936, 256
WEIGHT = 0.03  # standard deviation of the base's weights
UPDATE = 4.5e-5  # of the update's noise: the real one's scale
SFT = 0.013  # of what fine-tuning changed everywhere
PLANTED = [0.12 * 0.8**i for i in range(8)]  # singular values planted into every projection

Tensors = dict[str, tuple[int, ...]]


def shapes(layers: int) -> Tensors:
    """Name and shape of every tensor of an untied Qwen2.5-1.5B with that many layers."""
    tensors: Tensors = {EMBEDDING: (VOCABULARY, HIDDEN), HEAD: (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        for module, rows in (("q", HIDDEN), ("k", KV), ("v", KV), ("o", HIDDEN)):
            tensors[f"{prefix}.self_attn.{module}_proj.weight"] = (rows, HIDDEN)
            if module != "o":
                tensors[f"{prefix}.self_attn.{module}_proj.bias"] = (rows,)
        tensors[f"{prefix}.mlp.gate_proj.weight"] = (INTERMEDIATE, HIDDEN)
        tensors[f"{prefix}.mlp.up_proj.weight"] = (INTERMEDIATE, HIDDEN)
        tensors[f"{prefix}.mlp.down_proj.weight"] = (HIDDEN, INTERMEDIATE)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{norm}.weight"] = (HIDDEN,)
    tensors["model.norm.weight"] = (HIDDEN,)
    return dict(sorted(tensors.items()))


def normal(seed: int, what: str, name: str, shape: tuple[int, ...]):
    """Standard normal float32 numbers that depend on nothing but these arguments."""
    import torch

    key = hashlib.sha256(f"{seed} {what} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "little"))
    return torch.randn(shape, generator=generator)


def base_weight(seed: int, name: str, shape: tuple[int, ...]):
    weight = normal(seed, "base", name, shape).mul_(WEIGHT)
    return (weight.add_(1) if "norm" in name else weight).bfloat16()


def grandparent_weight(seed: int, name: str, shape: tuple[int, ...]):
    change = normal(seed, "sft", name, shape).mul_(SFT)
    return base_weight(seed, name, shape).float().sub_(change).bfloat16()


def derivative_weight(seed: int, name: str, shape: tuple[int, ...]):
    import torch

    weight = base_weight(seed, name, shape).float()
    weight.add_(normal(seed, "rl", name, shape), alpha=UPDATE)
    if name.endswith("_proj.weight"):
        sigma = torch.tensor(PLANTED)
        left, right = (
            torch.linalg.qr(normal(seed, side, name, (length, len(sigma)))).Q
            for side, length in zip(("left", "right"), shape, strict=True)
        )
        weight.addmm_(left * sigma, right.T)
    return weight


def write_model(
    folder: Path, weight: Callable, seed: int, tensors: Tensors, dtype: str, tied: bool, layers: int
) -> None:
    """Stream one model to disk; float32 goes into two shards, as the real derivative does."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in tensors if not (tied and name == HEAD)]
    half = 5 * len(names) // 7 if dtype == "F32" else len(names)
    shards = [part for part in (names[:half], names[half:]) if part]

    def pieces(part: list[str]) -> Iterator:
        for name in part:
            print(f"\r{folder.name}: {name:50}", end="", file=sys.stderr)
            yield weight(seed, name, tensors[name])

    weight_map, hashes = {}, {}
    for i, part in enumerate(shards, 1):
        file = SINGLE if len(shards) == 1 else f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        header = {name: (dtype, tensors[name]) for name in part}
        _, hashes[file] = write_tensors(folder / file, header, pieces(part), {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    print(file=sys.stderr)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {}, "weight_map": weight_map})
    write_json(folder / "config.json", {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE, "num_hidden_layers": layers, "vocab_size": VOCABULARY,
        "num_attention_heads": 12, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 4096 if tied else 131072, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "tie_word_embeddings": tied,
        "torch_dtype": "float32" if dtype == "F32" else "bfloat16",
        "bos_token_id": 151643, "eos_token_id": 151643,
    })  # fmt: skip
    # A tokenizer is not measured here; its files only have to be there.
    write_json(folder / "tokenizer.json", {"version": "1.0", "model": {"type": "BPE"}})
    write_manifest(folder, {"made": f"seed {seed}, {layers} layers"}, hashes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

base: BF16, untied. derivative: F32 in two shards; base + noise of RMS 4.5e-5 everywhere + eight
planted singular values 0.12 * 0.8^i in every projection. grandparent: BF16, tied; base - noise.
The full set takes 14 GB.""",
        epilog="example:\n  python benchmarks/make_pair.py --layers 28 --output pair",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layers", type=int, default=28, help="28 is the full size (default)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grandparent", action="store_true", help="make that one, too")
    parser.add_argument("--output", required=True, metavar="DIR")
    args = parser.parse_args()

    tensors = shapes(args.layers)
    models = [("base", base_weight, "BF16", False), ("derivative", derivative_weight, "F32", False)]
    if args.grandparent:
        models.append(("grandparent", grandparent_weight, "BF16", True))
    for name, weight, dtype, tied in models:
        folder = Path(args.output) / name
        write_model(folder, weight, args.seed, tensors, dtype, tied, args.layers)


if __name__ == "__main__":
    sys.exit(run(main))
