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
    to_change: int = 0  # entries whose change is not zero
    left_at_base: int = 0  # of those: the cast left them at the base's value
    change: float = 0.0  # squared norm of the change meant
    served_change: float = 0.0  # squared norm of what is served minus the base
    error: float = 0.0  # squared norm of the difference of the two
    dot: float = 0.0  # inner product of the two

    def add(
        self,
        base: "torch.Tensor",
        change: "torch.Tensor",
        served: "torch.Tensor",
        base_served: "torch.Tensor",
    ) -> None:
        """Count float32 tensors of one shape.

        base: the base's values; change: what is to be added to them; served: the values in use in
        the end; base_served: what would be in use without a change (the base, cast alike).
        """
        import torch

        self.entries += base.numel()
        to_change = int(torch.count_nonzero(change))
        self.to_change += to_change
        # Where the change is zero, the two are equal: those are not counted.
        equal = int(torch.count_nonzero(served == base_served))
        self.left_at_base += equal - (change.numel() - to_change)

        # Scaled so that squares of tiny deltas stay clear of float32's smallest numbers.
        scale = 2.0**20
        change = change.reshape(-1) * scale
        served_change = (served - base).reshape(-1) * scale
        error = served_change - change
        for name, x, y in (
            ("change", change, change),
            ("served_change", served_change, served_change),
            ("dot", served_change, change),
            ("error", error, error),
        ):
            setattr(self, name, getattr(self, name) + float(x @ y) / scale**2)

    def __add__(self, other: "Fidelity") -> "Fidelity":
        mine, theirs = vars(self), vars(other)
        return Fidelity(**{key: mine[key] + theirs[key] for key in mine})

    def report(self) -> dict[str, float | int | None]:
        """As fidelity.json has it; ratios are null where no change was meant."""
        norms = math.sqrt(self.change * self.served_change)
        return {
            "entries": self.entries,
            "meant_norm": math.sqrt(self.change),
            "error_norm": math.sqrt(self.error),
            "relative_error": math.sqrt(self.error / self.change) if self.change else None,
            "left_at_base": self.left_at_base / self.to_change if self.to_change else None,
            "cosine": self.dot / norms if norms else None,
        }
