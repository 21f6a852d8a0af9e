"""How far what is stored of a delta lies from what was meant."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class Fidelity:
    """Sums over a tensor's entries, from which its fidelity follows; sums of tensors add up."""

    entries: int = 0
    meant_entries: int = 0  # entries that the delta was meant to change
    unchanged: int = 0  # of those: left at the base's value by the cast
    meant: float = 0.0  # squared norms: of the meant delta
    served: float = 0.0  # of what is served minus the base
    error: float = 0.0  # of the difference of the two
    dot: float = 0.0  # their inner product

    def add(
        self,
        base: "torch.Tensor",
        meant: "torch.Tensor",
        served: "torch.Tensor",
        untouched: "torch.Tensor",
    ) -> None:
        """Count float32 tensors of one shape.

        base: the base's value; meant: the delta meant for it; served: the value in use in the
        end; untouched: what would be in use had there been no delta (the base, cast alike).
        """
        import torch

        self.entries += base.numel()
        nonzero = int(torch.count_nonzero(meant))
        self.meant_entries += nonzero
        # Where no delta was meant, the two are equal: those are not counted.
        equal = int(torch.count_nonzero(served == untouched))
        self.unchanged += equal - (meant.numel() - nonzero)

        # Scaled so that squares of tiny deltas stay clear of float32's smallest numbers.
        scale = 2.0**20
        meant = meant.reshape(-1) * scale
        delta = (served - base).reshape(-1) * scale
        error = delta - meant
        for name, x, y in (
            ("meant", meant, meant),
            ("served", delta, delta),
            ("dot", delta, meant),
            ("error", error, error),
        ):
            setattr(self, name, getattr(self, name) + float(x @ y) / scale**2)

    def __add__(self, other: "Fidelity") -> "Fidelity":
        mine, theirs = vars(self), vars(other)
        return Fidelity(**{key: mine[key] + theirs[key] for key in mine})

    def report(self) -> dict[str, float | int | None]:
        """As fidelity.json has it; ratios are null where no delta was meant."""
        norms = math.sqrt(self.meant * self.served)
        return {
            "entries": self.entries,
            "meant_norm": math.sqrt(self.meant),
            "error_norm": math.sqrt(self.error),
            "relative_error": math.sqrt(self.error / self.meant) if self.meant else None,
            "left_at_base": self.unchanged / self.meant_entries if self.meant_entries else None,
            "cosine": self.dot / norms if norms else None,
        }
