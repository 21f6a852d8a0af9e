"""vLLM on a CPU whose completions do not depend on what else is in the batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# Rows of a matrix product; a tile of the processor has 16.
BLOCK, LARGE = 64, 256


def make_batch_invariant(model: "Module") -> None:
    """Have every linear layer of vLLM's CPU model work on blocks of tokens, the last one padded.

    Matrix products choose their kernel by the number of rows (in bfloat16, 4 and fewer take
    another path than 5 and more), and kernels round differently: what a completion's last tokens
    were would depend on how many others were still running.
    RuntimeError if the layers are not where vLLM 0.32 keeps them.
    """
    layers = [module for module in model.modules() if hasattr(module, "cpu_linear")]
    if not layers:
        raise RuntimeError("vLLM's CPU layers have no cpu_linear; this vLLM is not known here")
    for layer in layers:
        layer.cpu_linear = in_blocks(layer.cpu_linear)


def in_blocks(linear: Callable[..., "Tensor"]) -> Callable[..., "Tensor"]:
    """`linear(x [n, k], weight, bias) -> [n, m]`, computed on blocks of BLOCK rows exactly.

    LARGE rows go at once where many are left, for speed, and if both sizes give the same bits
    on a block of noise, which is tried the first time that there is use for it.
    """
    alike: bool | None = None

    def blockwise(x: "Tensor", weight: "Tensor", bias: "Tensor | None") -> "Tensor":
        import torch

        nonlocal alike
        count = x.shape[0]
        if count == BLOCK or (alike and count == LARGE):
            return linear(x, weight, bias)
        if count < BLOCK:
            x = torch.nn.functional.pad(x, (0, 0, 0, BLOCK - count))
            return linear(x, weight, bias)[:count]
        if alike is None and count > LARGE // 2:
            noise = torch.randn(LARGE, x.shape[1], generator=torch.Generator()).to(x.dtype)
            parts = [linear(part, weight, bias) for part in noise.split(BLOCK)]
            alike = torch.equal(linear(noise, weight, bias), torch.cat(parts))
        sizes, left = [], count
        while left > 0:
            sizes.append(LARGE if alike and left > LARGE // 2 else BLOCK)
            left -= sizes[-1]
        if left:
            x = torch.nn.functional.pad(x, (0, 0, 0, -left))
        made = [linear(part, weight, bias) for part in x.split(sizes)]
        return (made[0] if len(made) == 1 else torch.cat(made))[:count]

    return blockwise
