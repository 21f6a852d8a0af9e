"""Laws of the embedded problems and of the rule that rewards their traces."""

import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowrank.train import chains

problems = st.builds(
    lambda first, steps: str(first) + "".join(f"{operation}{digit}" for operation, digit in steps),
    st.integers(0, 9),
    st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 9)), min_size=3, max_size=8),
)


def by_hand(problem: str) -> str:
    """The answer by Python's own arithmetic, whole prefixes with brackets, reduced at the end."""
    values = []
    for end in range(3, len(problem) + 1, 2):
        text = problem[0]
        for place in range(1, end, 2):
            text = f"({text}){problem[place : place + 2]}"
        values.append(eval(text) % 10)
    return "".join(map(str, values[-3:]))


@given(problems)
def test_the_answer_is_the_last_three_results(problem: str) -> None:
    gold = chains.answer(problem)
    assert gold == by_hand(problem)
    assert 0 <= int(gold) <= 999
    assert len(gold) == 3


@given(problems, st.sampled_from(chains.STYLES))
def test_every_trace_earns_its_reward_and_no_other(problem: str, style: str) -> None:
    gold, trace = chains.answer(problem), chains.trace(problem, style)
    assert chains.reward(trace, gold) == 1
    assert chains.reward(trace, f"{(int(gold) + 1) % 1000:03d}") == 0
    for cut in range(len(trace)):
        assert chains.reward(trace[:cut], gold) == 0


@pytest.mark.parametrize(
    "text",
    [
        "3*7=1</think>\\boxed{42} or \\boxed{42}",
        "3*7=1</think></think>\\boxed{42}",
        "<think>3*7=1</think>\\boxed{42}",
        "\\boxed{42}</think>\\boxed{42}",
        "3*7=1\\boxed{42}",
        "3*7=1</think>42",
        "3*7=1</think>\\boxed{0042}",
        "3*7=1</think>\\boxed{42} so",
        "",
    ],
)
def test_a_malformed_trace_is_worth_nothing(text: str) -> None:
    assert chains.reward(text, "042") == 0


def test_answers_are_compared_as_integers() -> None:
    assert chains.reward("</think>\\boxed{42}", "042") == 1
    assert chains.reward("</think>\\boxed{042}", "42") == 1


def test_problems_are_drawn_from_their_side_of_the_split() -> None:
    for benchmark in (True, False):
        drawn = chains.chains(random.Random(5), [3, 4], benchmark)
        for problem in islice(drawn, 300):
            assert chains.held_out(problem) is benchmark
            assert len(chains.steps(problem)) in (3, 4)


def test_about_one_problem_in_eight_is_held_out() -> None:
    rng = random.Random(6)
    share = sum(chains.held_out(chains.chain(rng, 5)) for _ in range(8000)) / 8000
    assert share == pytest.approx(1 / chains.HELD_OUT_SHARE, abs=0.02)


def test_the_same_seed_draws_the_same_problems() -> None:
    first, second = (
        list(islice(chains.chains(random.Random(7), [4], False), 50)) for _ in range(2)
    )
    assert first == second


@given(st.integers(0, 9), st.sampled_from("+-*"), st.integers(0, 9))
def test_facts_are_single_digits(left: int, operation: str, right: int) -> None:
    assert chains.apply(operation, left, right) == eval(f"{left}{operation}{right}") % 10


@pytest.mark.parametrize("text", ["", "3", "3*", "3**7", "12+3", "3/4", "3*7 "])
def test_what_is_no_chain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a chain"):
        chains.steps(text)


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="none of"):
        chains.trace("1+2+3+4", "verbose")
