"""Memory follows the largest matrix, not the model: more layers take next to nothing more.

What is counted is memory in use, as the C library's own books say (mallinfo2), at every tensor read
and every file finished. How an allocator rounds, caches or returns memory to the system, which
differs from machine to machine and from run to run, plays no part.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import HIDDEN, VOCABULARY, config, write_checkpoint
from safetensors.torch import save_file

SCRIPTS = Path(__file__).parents[2] / "scripts"
WIDE, INNER = 256, 512
SHAPES = {
    "self_attn.q_proj": (WIDE, WIDE), "self_attn.k_proj": (WIDE // 2, WIDE),
    "self_attn.v_proj": (WIDE // 2, WIDE), "self_attn.o_proj": (WIDE, WIDE),
    "mlp.gate_proj": (INNER, WIDE), "mlp.up_proj": (INNER, WIDE), "mlp.down_proj": (WIDE, INNER),
}  # fmt: skip
LAYER_BYTES = 4 * sum(rows * columns for rows, columns in SHAPES.values())  # in float32
FEW, MANY = 16, 48  # layers
SHARE = 0.04  # of a layer's bytes that each layer more may leave: names, hashes, a line of summary


def make_pair(folder: Path, layers: int) -> Path:
    """A BF16 base and an F32 derivative of so many layers."""
    generator = torch.Generator().manual_seed(0)
    base = {
        f"model.layers.{layer}.{module}.weight": torch.randn(shape, generator=generator) * 0.05
        for layer in range(layers)
        for module, shape in SHAPES.items()
    }
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        base[name] = torch.randn(VOCABULARY, WIDE, generator=generator)
    base = {name: weight.bfloat16() for name, weight in base.items()}
    derivative = {
        name: weight.float() + 1e-4 * torch.randn(weight.shape, generator=generator)
        for name, weight in base.items()
    }
    shape = {"hidden_size": WIDE, "intermediate_size": INNER, "num_hidden_layers": layers}
    for side, weights, dtype in (("base", base, "bfloat16"), ("derivative", derivative, "float32")):
        given = config(False, dtype) | shape | {"head_dim": WIDE // 4}
        write_checkpoint(folder / side, weights, given)
    write_dora(folder / "theirs", layers)
    return folder


def write_dora(folder: Path, layers: int) -> None:
    """A DoRA adapter for all matrices of a base of so many layers."""
    tensors = {}
    for layer in range(layers):
        for module, (rows, columns) in SHAPES.items():
            key = f"base_model.model.model.layers.{layer}.{module}"
            shapes = {"lora_A.weight": (2, columns), "lora_B.weight": (rows, 2)}
            shapes["lora_magnitude_vector"] = (rows,)
            tensors |= {f"{key}.{name}": torch.ones(shape) for name, shape in shapes.items()}
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "use_dora": True}
    settings |= {"init_lora_weights": True, "target_modules": r".*_proj"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))


# Runs a program and says, last, the most memory that was in use when it read or finished something.
# A leak may be asked for: what a function of lowrank returns is then kept.
WATCHED = """
import atexit, ctypes, importlib, os, runpy, sys
from contextlib import contextmanager

class Books(ctypes.Structure):  # struct mallinfo2; see mallinfo(3)
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Books
most = 0

def note():
    global most
    books = mallinfo2()
    most = max(most, books.uordblks + books.hblkhd)

del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
from lowrank import files
from lowrank.models import safetensors_file
read_tensor, whole_file = safetensors_file.read_tensor, files.whole_file

def noted_read(*given, **options):
    note()
    return read_tensor(*given, **options)

@contextmanager
def noted_file(path):
    with whole_file(path) as temporary:
        yield temporary
        note()

safetensors_file.read_tensor, files.whole_file = noted_read, noted_file
if leak := os.environ.get("LEAK"):
    module, function = leak.split(":")
    module, kept = importlib.import_module(module), []
    leaking = getattr(module, function)
    setattr(module, function, lambda *given: kept.append(leaking(*given)) or kept[-1])
atexit.register(lambda: print(most))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def most_in_use(program: str, *options: str | Path, leak: str = "") -> int:
    """Run a program and return the most memory, in bytes, that it had in use."""
    # Python's and Arrow's own allocators would hide from the books what they hold.
    environment = os.environ | {
        "PYTHONMALLOC": "malloc", "ARROW_DEFAULT_MEMORY_POOL": "system", "LD_PRELOAD": "",
        "LEAK": leak,
    }  # fmt: skip
    command = [sys.executable, "-c", WATCHED, SCRIPTS / f"{program}.py", *options]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return int(said.stdout.split()[-1])


def sides(pair: Path) -> list[str | Path]:
    return ["--base", pair / "base", "--derivative", pair / "derivative"]


def growth(pairs: dict[int, Path], program: str, *options: str, **flags: str) -> float:
    """What a layer more adds to the memory in use, as a share of a layer's bytes."""
    most = {}
    for layers, pair in pairs.items():
        given = [str(option).format(pair=pair) for option in options]
        both = ["--base", pair / "base"] if program == "merge_adapter" else sides(pair)
        most[layers] = most_in_use(program, *both, *given, **flags)
    return (most[MANY] - most[FEW]) / (MANY - FEW) / LAYER_BYTES


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    assert WIDE > HIDDEN  # the other tests' models are too small to show it
    folder = tmp_path_factory.mktemp("pairs")
    return {layers: make_pair(folder / str(layers), layers) for layers in (FEW, MANY)}


needs_books = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="counts memory by glibc's mallinfo2 (2.33)"
)
DELTA = ("delta_svd", "--output", "{pair}/delta")
STATISTICS = ("delta_statistics", "--details", "--delta", "{pair}/delta")
ADAPTER = ("build_adapter", "--delta", "{pair}/delta", "--rank", "64", "--output", "{pair}/adapter")
VARIANT = ("build_variant", "--adapter", "{pair}/adapter", "--other", "copy", "--dtype", "float32",
           "--tokenizer", "{pair}/base", "--output", "{pair}/variant")  # fmt: skip
MERGE = ("merge_adapter", "--adapter", "{pair}/theirs", "--output", "{pair}/merged")


@needs_books
def test_memory_does_not_grow_with_the_number_of_layers(pairs):
    programs = (DELTA, STATISTICS, ADAPTER, VARIANT, MERGE)
    found = {options[0]: growth(pairs, *options) for options in programs}
    assert max(found.values()) < SHARE, found


@needs_books
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (DELTA, "lowrank.delta.svd:factor"),
        (STATISTICS, "lowrank.delta.tables:spectrum_rows"),
        (MERGE, "lowrank.variants.adapted:merge"),
    ],
)
def test_a_leak_is_seen(pairs, options, kept):
    """Keeping each matrix's factors, or only its rows of a table, breaks the same bound."""
    for pair in pairs.values():
        if options is DELTA:
            shutil.rmtree(pair / "delta", ignore_errors=True)
        elif options is STATISTICS and not (pair / "delta").exists():
            most_in_use("delta_svd", *sides(pair), "--output", pair / "delta")
    assert growth(pairs, *options, leak=kept) > SHARE
