"""How often the tests of divergences are wrong, and how often their intervals hold the truth.

Divergences by problem are drawn from made-up truths and judged by the functions that judge the real
ones (lowrank.metrics.divergence_contrasts, lowrank.metrics.intervals). The tables printed here
stand in docs/statistics.md.

First table: differences between two models whose mean is 0, a distribution a row, a number of
problems a column: how often the sign-flip test has p <= 0.05, in %; should be 5.
Second table: divergences that are log-normal over problems. The base's has a mean of 1, the
variant's one of 0.1 (it goes 90 % of the way); the logs of the two have a correlation of 0.5. How
often the 95 % intervals of the share of the way and of the variant's divergence hold the truth, in
%.

Monte-Carlo error of a share s over R runs: sqrt(s (1 - s) / R); 0.7 points at 5 % and 1,000 runs.

Example:
  python benchmarks/divergence_characteristics.py > tables.md
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "scripts")]

from lowrank.errors import at_least_one, run  # noqa: E402
from lowrank.metrics.divergence_contrasts import sign_flip  # noqa: E402
from lowrank.metrics.estimates import generator  # noqa: E402
from lowrank.metrics.intervals import (  # noqa: E402
    problem_weights,
    problems_interval,
    ratio_interval,
)
from lowrank.metrics.majority import Floats  # noqa: E402
from lowrank.metrics.paired import ALPHA  # noqa: E402
from lowrank.progress import Progress  # noqa: E402

PROBLEMS = (10, 30, 120)
# Differences with a mean of 0.
DIFFERENCES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "of two exponentials": lambda rng, n: rng.exponential(size=n) - rng.exponential(size=n),
    "exponential, less its mean": lambda rng, n: rng.exponential(size=n) - 1,
    "log-normal (sd of the log 1), less its mean": (
        lambda rng, n: rng.lognormal(size=n) - np.exp(0.5)
    ),
    "gamma of shape 0.3, less its mean": lambda rng, n: rng.gamma(0.3, size=n) - 0.3,
}
SPREADS = (0.5, 1.0)  # standard deviations of the log over problems
LEFT = 0.1  # of the way, to a variant that goes 90 % of it
TOGETHER = 0.5  # correlation of the logs of base and variant


def rejects(name: str, problems: int, runs: int, seed: int) -> float:
    """Share of runs in which the sign-flip test finds a difference that is not there."""
    rng = generator(seed, name, problems)
    found = (sign_flip(DIFFERENCES[name](rng, problems), rng) <= ALPHA for _ in range(runs))
    return sum(found) / runs


def covers(spread: float, problems: int, runs: int, seed: int) -> tuple[float, float]:
    """Share of runs in which the intervals hold the share of the way, and the divergence."""
    rng = generator(seed, "covers", str(spread), problems)
    weights = problem_weights(problems, rng)
    together = [[1, TOGETHER], [TOGETHER, 1]]
    way = own = 0
    for _ in range(runs):
        logs = spread * rng.multivariate_normal([0, 0], together, problems)
        base, variant = np.exp(logs - spread**2 / 2).T * [[1], [LEFT]]  # means 1 and LEFT
        low, high = ratio_interval(variant, base, weights)
        way += low <= LEFT <= high
        low, high = problems_interval(variant, weights)
        own += low <= LEFT <= high
    return way / runs, own / runs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=at_least_one, default=1000, metavar="N", help="a cell (default 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    given = parser.parse_args()
    progress = Progress(len(DIFFERENCES) * len(PROBLEMS) + len(SPREADS) * len(PROBLEMS), "cells")
    print(f"| differences | {' problems | '.join(map(str, PROBLEMS))} problems |")
    print("|---" * (1 + len(PROBLEMS)) + "|")
    for name in DIFFERENCES:
        cells = []
        for problems in PROBLEMS:
            cells.append(f"{100 * rejects(name, problems, given.runs, given.seed):.1f}")
            progress.step()
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print("\n| sd of the log over problems | problems | share of the way | divergence |")
    print("|---|---|---|---|")
    for spread in SPREADS:
        for problems in PROBLEMS:
            shares = covers(spread, problems, given.runs, given.seed)
            cells = " | ".join(f"{100 * share:.1f}" for share in shares)
            print(f"| {spread:g} | {problems} | {cells} |", flush=True)
            progress.step()


if __name__ == "__main__":
    sys.exit(run(main))
