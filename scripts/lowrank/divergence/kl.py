"""Two next-token distributions compared, position by position, over the whole vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

# Entries of a table of logits [positions, vocabulary] at work at a time: 64 MiB in float32.
ENTRIES = 1 << 24


@dataclass(frozen=True)
class Compared:
    """What is kept of every position; arrays of [positions]."""

    kl: NDArray[np.float32]  # nats
    logp_derivative: NDArray[np.float32]  # of the token that stands there
    logp_model: NDArray[np.float32]
    equal_top: NDArray[np.bool_]  # whether both find the same token the likeliest

    @classmethod
    def joined(cls, parts: "Sequence[Compared]") -> "Compared":
        """Chunks of positions, one after the other."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def compare(derivative: "Tensor", model: "Tensor", ids: "Tensor") -> Compared:
    """KL(derivative || model) at temperature 1, and what both say of the tokens that stand there.

    derivative, model: [positions, vocabulary] logits; ids: [positions]. Where one vocabulary is
    longer (rows that fill an embedding up), both are distributions over what both have.
    """
    import torch

    common = min(derivative.shape[1], model.shape[1])
    log_p = torch.log_softmax(derivative[:, :common].float(), dim=-1)
    log_q = torch.log_softmax(model[:, :common].float(), dim=-1)
    at = ids[:, None]
    return Compared(
        divergence(log_p, log_q).cpu().numpy(),
        log_p.gather(1, at)[:, 0].cpu().numpy(),
        log_q.gather(1, at)[:, 0].cpu().numpy(),
        (log_p.argmax(dim=-1) == log_q.argmax(dim=-1)).cpu().numpy(),
    )


def divergence(log_p: "Tensor", log_q: "Tensor") -> "Tensor":
    """KL(p || q) of each row, float32: the sum over the vocabulary of q - p + p log(p / q).

    As p and q sum to one, that is the sum of p log(p / q). But none of its terms is negative, and
    they go with the square of a small difference: the rounding of a sum of terms that cancel
    (1e-7, more than some models differ by) is not in it.
    """
    import torch

    d = log_p - log_q
    p = log_p.exp()
    near = p * (torch.expm1(-d) + d)
    # Where q is much larger, expm1 may overflow; there q - p does not cancel.
    return torch.where(d > -1, near, log_q.exp() - p + p * d).sum(dim=-1)


def chunk_of(vocabulary: int) -> int:
    """Positions whose logits are at work at a time."""
    return max(1, ENTRIES // vocabulary)
