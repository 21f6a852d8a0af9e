"""vLLM on a CPU whose completions do not depend on what else is in the batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, dtype
    from torch.nn import Module

Linear = Callable[["Tensor", "Tensor", "Tensor | None"], "Tensor"]

# Rows of a matrix product: multiples of BLOCK, LARGE at most. A tile of the processor has 16.
BLOCK, LARGE = 64, 1024


def make_batch_invariant(model: "Module") -> None:
    """Have every linear layer of vLLM's CPU model round the same way whatever the batch.

    Matrix products choose their kernel by the number of rows (in bfloat16, 4 and fewer take
    another path than 5 and more), and kernels round differently: what a completion's last tokens
    were would depend on how many others were still running.
    RuntimeError if the layers are not where vLLM 0.32 keeps them.
    """
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "cpu_linear")]
    if not layers:
        raise RuntimeError("vLLM's CPU layers have no cpu_linear; this vLLM is not known here")
    scratch: dict[tuple[int, dtype], Tensor] = {}
    for layer in layers:
        layer.cpu_linear = in_blocks(layer.cpu_linear, scratch)


def show_overflow(model: Any) -> None:
    """Have infinite logits become NaN, which vLLM then notices; it does not look for infinity."""
    compute = model.compute_logits

    def compute_logits(*given: Any, **named: Any) -> "Tensor | None":
        logits: Tensor | None = compute(*given, **named)
        return logits if logits is None else logits.masked_fill_(logits.isinf(), float("nan"))

    model.compute_logits = compute_logits


def in_blocks(linear: Linear, scratch: "dict[tuple[int, dtype], Tensor]") -> Linear:
    """`linear(x [..., k], weight, bias) -> [..., m]`, rounded as if computed BLOCK rows at a time.

    The input is padded to a multiple of BLOCK rows. For each number of rows it is tried once, on
    noise, whether one product of all rows gives the same bits as a product a block. If so, one
    product is used for that number; else a product a block. scratch: memory for padded inputs,
    shared by layers.
    """
    import torch

    alike: dict[int, bool] = {BLOCK: True}

    def one_by_one(x: "Tensor", weight: "Tensor", bias: "Tensor | None") -> "Tensor":
        return torch.cat([linear(block, weight, bias) for block in torch.split(x, BLOCK)])

    def filled(x: "Tensor", rows: int) -> "Tensor":
        key = (x.shape[1], x.dtype)
        if key not in scratch:
            scratch[key] = torch.zeros(LARGE, x.shape[1], dtype=x.dtype)
        scratch[key][: len(x)] = x  # rows below keep old values: no row depends on another
        return scratch[key][:rows]

    def blockwise(x: "Tensor", weight: "Tensor", bias: "Tensor | None") -> "Tensor":
        if x.dim() != 2:  # [1, n, k] where vLLM runs a model of transformers'
            made = blockwise(x.reshape(-1, x.shape[-1]), weight, bias)
            return made.reshape(*x.shape[:-1], made.shape[-1])
        count = len(x)
        if count > LARGE:
            return torch.cat([blockwise(part, weight, bias) for part in torch.split(x, LARGE)])
        rows = max(-(-count // BLOCK), 1) * BLOCK
        if rows not in alike:
            noise = torch.randn(rows, x.shape[1], generator=torch.Generator()).to(x.dtype)
            whole = linear(noise, weight, bias)
            alike[rows] = torch.equal(whole, one_by_one(noise, weight, bias))
        if rows != count:
            x = filled(x, rows)
        made = linear(x, weight, bias) if alike[rows] else one_by_one(x, weight, bias)
        return made[:count]

    return blockwise
