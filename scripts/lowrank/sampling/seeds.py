"""The seed of every completion: a function of what is asked, never of how the work is split."""

import hashlib
import json

GOLDEN = 0x9E3779B1  # odd, near 2**32 / golden ratio: consecutive samples land far apart


def request_seed(seed: int, benchmark: str, model: str, problem_id: str, sample: int) -> int:
    """Seed of one completion, in 0 .. 2**63 - 1, the range torch.Generator and vLLM both take.

    It depends on the five arguments only: growing a pool, sharding it or batching it otherwise
    gives every old (problem, sample) its old seed.

    Within one problem no two samples share a seed, by construction and not by luck: torch's CPU
    generator is a Mersenne Twister that looks at the low 32 bits alone, so those are a Weyl
    sequence in `sample` (distinct for any two samples) that starts at a SHA-256 of the rest; the
    high 31 bits are a SHA-256 of everything.

    Raises ValueError if `sample` is not in 0 .. 2**32 - 1.
    """
    if not 0 <= sample < 2**32:
        raise ValueError(f"sample must lie in 0 .. 2**32 - 1, not {sample}")
    low = (_hashed(seed, benchmark, model, problem_id) + sample * GOLDEN) % 2**32
    high = _hashed(seed, benchmark, model, problem_id, sample) % 2**31
    return high << 32 | low


def _hashed(*parts: int | str) -> int:
    """64 bits of the SHA-256 of a list; as JSON, so that ("a", "bc") differs from ("ab", "c")."""
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
