"""Memory follows the largest matrix, not the model: a deep pair takes no more than a flat one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import HIDDEN, VOCABULARY, config, write_checkpoint

SCRIPTS = Path(__file__).parent.parent / "scripts"
WIDE, INNER = 512, 1024
SHAPES = {
    "self_attn.q_proj": (WIDE, WIDE), "self_attn.k_proj": (WIDE // 2, WIDE),
    "self_attn.v_proj": (WIDE // 2, WIDE), "self_attn.o_proj": (WIDE, WIDE),
    "mlp.gate_proj": (INNER, WIDE), "mlp.up_proj": (INNER, WIDE), "mlp.down_proj": (WIDE, INNER),
}  # fmt: skip
FLAT, DEEP = 2, 16  # layers; 14 of them are 130 MB in float32


def make_pair(folder: Path, layers: int) -> None:
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


# A child's ru_maxrss begins with what its parent held; VmHWM is the program's own.
WATCHED = """
import atexit, pathlib, runpy, sys
atexit.register(lambda: print(pathlib.Path("/proc/self/status").read_text()))
del sys.argv[0]
sys.path.insert(0, str(pathlib.Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def peak(program: str, *options: str | Path) -> int:
    """Run a program and return the largest resident memory it had, in bytes."""
    command = [sys.executable, "-c", WATCHED, SCRIPTS / f"{program}.py", *options]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    (line,) = [line for line in said.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM stands in /proc")
def test_memory_does_not_grow_with_the_number_of_layers(tmp_path):
    assert WIDE > HIDDEN  # the other tests' models are too small to show it
    peaks = {}
    for layers in (FLAT, DEEP):
        pair = tmp_path / str(layers)
        make_pair(pair, layers)
        sides = ["--base", pair / "base", "--derivative", pair / "derivative"]
        peaks[layers] = [
            peak("delta_svd", *sides, "--details", "--output", pair / "delta"),
            peak("build_adapter", *sides, "--delta", pair / "delta", "--rank", "64",
                 "--output", pair / "adapter"),
            peak("build_variant", *sides, "--adapter", pair / "adapter", "--other", "copy",
                 "--dtype", "float32", "--tokenizer", pair / "base", "--output", pair / "variant"),
        ]  # fmt: skip
    added = [deep - flat for flat, deep in zip(peaks[FLAT], peaks[DEEP], strict=True)]
    assert max(added) < 40e6, added
