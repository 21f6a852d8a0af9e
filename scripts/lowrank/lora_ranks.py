"""The ranks at which vLLM serves an adapter unmerged."""

from lowrank.errors import InputError

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # max_lora_rank values vLLM 0.32 accepts


def served_rank(rank: int) -> int:
    """The smallest rank vLLM serves that is not below `rank`; InputError above its largest."""
    for listed in VLLM_RANKS:
        if rank <= listed:
            return listed
    raise InputError(
        f"rank {rank}: vLLM serves adapters up to rank {VLLM_RANKS[-1]}; serve it merged instead"
    )
