"""What can be served: the dtypes that an engine computes in, the ranks of unmerged adapters."""

from lowrank.errors import InputError

# The dtypes that hold every value of a dtype: computing in them rounds no weight.
HELD_BY = {
    "bfloat16": ("bfloat16", "float32"),
    "float16": ("float16", "float32"),
    "float32": ("float32",),
}


def check_compute_dtype(dtype: str, compute_dtype: str, where: str) -> None:
    """InputError, beginning with `where`, if computing in `compute_dtype` would round again."""
    if compute_dtype not in HELD_BY[dtype]:
        raise InputError(
            f"{where} is {compute_dtype}, but a model is served as {dtype}, whose values it does"
            f" not hold; compute in {' or '.join(HELD_BY[dtype])}"
        )


VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # max_lora_rank values vLLM 0.32 accepts


def served_rank(rank: int) -> int:
    """The smallest rank vLLM serves that is not below `rank`; InputError above its largest."""
    for listed in VLLM_RANKS:
        if rank <= listed:
            return listed
    raise InputError(
        f"rank {rank}: vLLM serves adapters up to rank {VLLM_RANKS[-1]}; serve it merged instead"
    )
