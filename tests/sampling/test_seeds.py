"""Seeds: in range, of everything that is asked, of nothing else, and never twice in a problem."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowrank.sampling.seeds import request_seed

names = st.text(max_size=8)


@given(st.integers(0, 2**31), names, names, names, st.integers(0, 2**32 - 1))
def test_in_the_range_of_torch_and_vllm(seed, benchmark, model, problem, sample):
    assert 0 <= request_seed(seed, benchmark, model, problem, sample) < 2**63


def test_a_known_value():
    """Pools are grown over years: a changed seed would be another pool under the old name."""
    assert request_seed(0, "aime24", "rl", "1", 0) == 6664798097047839345
    assert request_seed(0, "aime24", "rl", "1", 63) == 1653345790973924608


@given(names, names, names, st.lists(st.integers(0, 2**32 - 1), min_size=2, unique=True))
def test_no_two_samples_of_a_problem_share_the_bits_a_cpu_generator_reads(b, m, p, samples):
    low = {request_seed(0, b, m, p, sample) % 2**32 for sample in samples}
    assert len(low) == len(samples)


def test_each_part_matters():
    seen = {
        request_seed(seed, benchmark, model, problem, sample)
        for seed in (0, 1)
        for benchmark in ("a", "ab")
        for model in ("c", "bc")
        for problem in ("1", "2")
        for sample in (0, 1)
    }
    assert len(seen) == 32


def test_seeds_of_a_pool_look_drawn():
    """Bits of 30 problems x 64 samples are set half of the time (6 standard errors)."""
    seeds = [request_seed(0, "b", "m", str(p), s) for p in range(30) for s in range(64)]
    for bit in range(63):
        share = sum(seed >> bit & 1 for seed in seeds) / len(seeds)
        assert abs(share - 0.5) < 6 * 0.5 / len(seeds) ** 0.5, bit


def test_torch_draws_apart_for_neighbours():
    torch = pytest.importorskip("torch")

    def draws(sample):
        generator = torch.Generator().manual_seed(request_seed(0, "b", "m", "1", sample))
        return tuple(torch.randint(0, 2**31, (4,), generator=generator).tolist())

    assert len({draw for sample in range(256) for draw in draws(sample)}) == 1024


@pytest.mark.parametrize("sample", [-1, 2**32])
def test_a_sample_out_of_range_is_refused(sample):
    with pytest.raises(ValueError, match="sample must lie"):
        request_seed(0, "b", "m", "1", sample)
