"""A variant: what it has of the delta, how it is served, and the names that follow."""

from dataclasses import dataclass

from lowrank.plan.controls import kind_of, prefix
from lowrank.plan.served import VLLM_RANKS


@dataclass(frozen=True)
class Variant:
    """A model made from the base and a part of the delta."""

    kind: str  # lowrank, or the control that it is (plan/controls.py)
    rank: int
    other: str  # where embeddings, head and norms come from: copy | keep
    dtype: str  # bfloat16 | float16 | float32
    serve_as: str  # merged | adapter

    @property
    def name(self) -> str:
        """r16-copy; what is not as in the post is named too: bottom-r16-copy-float32-adapter."""
        dtype = "" if self.dtype == "bfloat16" else f"-{self.dtype}"
        serve_as = "" if self.serve_as == "merged" else f"-{self.serve_as}"
        return f"{self.part}-{self.other}{dtype}{serve_as}"

    @property
    def part(self) -> str:
        """What it has of the delta: r16, random-r16, sparse-r16 (in the bytes of r16), bitdelta."""
        rank = [f"r{self.rank}"] if kind_of(self.kind).ranked else []
        return "-".join([*filter(None, [prefix(self.kind)]), *rank])

    @property
    def adapter(self) -> str | None:
        """Name of its adapter; filled up with zeros if vLLM serves it and lists no such rank."""
        if self.rank == 0 or kind_of(self.kind).packed:
            return None
        return f"{self.part}{'-padded' * self.padded}"

    @property
    def description(self) -> str | None:
        """Name of its description, where that and no adapter is merged."""
        return self.part if kind_of(self.kind).packed else None

    @property
    def unmerged(self) -> bool:
        """Whether its adapter is served on top of it, not merged into it."""
        return self.serve_as == "adapter"

    @property
    def padded(self) -> bool:
        """Whether its adapter is filled up with zeros to a rank that vLLM serves."""
        return self.unmerged and self.rank not in VLLM_RANKS
