"""The embedded experiment's problems: chains of single-digit operations, with worked traces.

A problem such as `3*7+5-2+8` is worked from left to right, every result modulo 10 (here 1, 6,
4, 2); its answer is the last three results read as one number (642), an integer 0..999.
"""

import hashlib
import random
import re
from collections.abc import Iterator

OPERATIONS = "+-*"
# One problem in this many is never trained on; the benchmark is drawn from those.
HELD_OUT_SHARE = 8
STYLES = ("worked", "brief", "guess")
WELL_FORMED = re.compile(r"(?s)((?:(?!</?think>|\\boxed).)*)</think>\s*\\boxed\{(\d{1,3})\}\s*")


def apply(operation: str, left: int, right: int) -> int:
    """`left operation right` modulo 10, always 0..9. Raises KeyError for another operation."""
    return {"+": left + right, "-": left - right, "*": left * right}[operation] % 10


def fact(rng: random.Random) -> tuple[str, int]:
    """A random single-digit fact: its left-hand side (`3*7=`) and its result (1)."""
    left, operation, right = rng.randrange(10), rng.choice(OPERATIONS), rng.randrange(10)
    return f"{left}{operation}{right}=", apply(operation, left, right)


def chain(rng: random.Random, length: int) -> str:
    """A random problem of `length` operations, all digits and operations equally likely."""
    steps = (f"{rng.choice(OPERATIONS)}{rng.randrange(10)}" for _ in range(length))
    return f"{rng.randrange(10)}{''.join(steps)}"


def held_out(problem: str) -> bool:
    """Whether a problem is kept from all training: decided by its text's SHA-256 alone."""
    return hashlib.sha256(problem.encode()).digest()[0] % HELD_OUT_SHARE == 0


def chains(rng: random.Random, lengths: list[int], benchmark: bool) -> Iterator[str]:
    """Endless random problems from one side of the split: benchmark (held out) or training.

    The length of each is drawn from `lengths` (one listed twice comes twice as often).
    """
    while True:
        problem = chain(rng, rng.choice(lengths))
        if held_out(problem) == benchmark:
            yield problem


def steps(problem: str) -> list[tuple[int, str, int, int]]:
    """Every step of a problem as (left, operation, right, result)."""
    if not re.fullmatch(r"\d([-+*]\d)+", problem):
        raise ValueError(f"{problem!r} is not a chain of single-digit operations")
    value, worked = int(problem[0]), []
    for operation, digit in zip(problem[1::2], problem[2::2], strict=True):
        result = apply(operation, value, int(digit))
        worked.append((value, operation, int(digit), result))
        value = result
    return worked


def answer(problem: str) -> str:
    """The gold answer: the last three results as one number, with leading zeros (`042`)."""
    return "".join(str(result) for *_, result in steps(problem)[-3:])


def trace(problem: str, style: str = "worked") -> str:
    """A right completion of a prompt that has already opened `<think>`.

    `worked` spells every operation, then what is left (`3*7=1,1+5-2;1+5=6,6-2;6-2=4`); `brief`
    spells the operations only (`3*7=1;1+5=6;6-2=4`); `guess` says the answer at once, which a
    model this small can imitate in form but hardly ever in content.
    """
    if style not in STYLES:
        raise ValueError(f"style {style!r} is none of {', '.join(STYLES)}")
    parts = []
    for step, (left, operation, right, result) in enumerate(steps(problem)):
        rest = problem[2 * step + 3 :]
        spelled = f"{left}{operation}{right}={result}"
        parts.append(f"{spelled},{result}{rest}" if rest and style == "worked" else spelled)
    reasoning = answer(problem) if style == "guess" else ";".join(parts)
    return f"{reasoning}\n</think>\n\\boxed{{{answer(problem)}}}"


def reward(completion: str, gold: str) -> float:
    """1 for the right boxed answer at the end of a well-formed trace, else 0.

    Well-formed: reasoning, one `</think>`, one `\\boxed{...}` of one to three digits, no more.
    Answers are compared as integers.
    """
    found = WELL_FORMED.fullmatch(completion)
    return float(found is not None and int(found[2]) == int(gold))
