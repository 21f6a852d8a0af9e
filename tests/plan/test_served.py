"""What can be served: dtypes that hold one another, ranks that vLLM lists."""

from itertools import product

import pytest
import torch

from lowrank.errors import InputError
from lowrank.plan.served import HELD_BY, VLLM_RANKS, check_compute_dtype, served_rank

# Values that each dtype has and no narrower one.
TELLING = {"bfloat16": [1 + 2**-7, 2.0**120], "float16": [1 + 2**-10], "float32": [1 + 2**-23]}


@pytest.mark.parametrize(("dtype", "compute"), list(product(HELD_BY, repeat=2)))
def test_what_is_computed_in_holds_every_value_that_is_served(dtype, compute):
    values = torch.tensor(TELLING[dtype], dtype=torch.float64)
    assert torch.equal(values.to(getattr(torch, dtype)).double(), values)
    if torch.equal(values.to(getattr(torch, compute)).double(), values):
        check_compute_dtype(dtype, compute, "here")
    else:
        with pytest.raises(InputError, match=f"here is {compute}, but a model is served as"):
            check_compute_dtype(dtype, compute, "here")


def test_the_smallest_rank_that_is_served():
    for rank in range(1, VLLM_RANKS[-1] + 1):
        assert served_rank(rank) == min(listed for listed in VLLM_RANKS if listed >= rank)
    with pytest.raises(InputError, match="rank 513: vLLM serves adapters up to rank 512"):
        served_rank(513)
