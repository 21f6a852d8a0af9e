"""How often the verdicts are wrong, and how often they are found, where the truth is known.

Differences between two models are drawn from made-up truths, problem by problem, and judged by the
functions that judge the real ones (lowrank.metrics.paired, lowrank.metrics.comparisons.judged). The
tables printed here stand in docs/statistics.md.

First table, a truth and a number of problems a row; every column is a share of the runs, in %:
  covers        the 95 % interval holds the true mean difference; should be 95
  rejects       p <= 0.05 where the mean is moved to 0; should be 5
  at margin     equivalence within the margin is claimed where the mean is moved to minus the margin
                (moved means scaled for the embedded variants); may be 5
  at half, at 0 the same with the mean at minus half the margin and at 0: the power
Second table: families of comparisons, adjusted (Holm), in %: at least one "equivalent" among six
variants at the margin; at least one "differs" among six equal ones and a seventh that differs by
what is said to be detectable in 80 of 100 experiments; how often this one is found; how much it is.
A quarter of the runs.

Monte-Carlo error of a share s over R runs: sqrt(s (1 - s) / R); 0.5 points at 5 % and 2,000 runs.

Example:
  python benchmarks/operating_characteristics.py --runs 2000 > table.md
"""

import argparse
import sys
from collections.abc import Callable
from math import log
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "scripts")]

from lowrank.errors import at_least_one, run  # noqa: E402
from lowrank.metrics.comparisons import judged  # noqa: E402
from lowrank.metrics.estimates import generator  # noqa: E402
from lowrank.metrics.intervals import problem_spacings  # noqa: E402
from lowrank.metrics.majority import Floats, majority_curve, pass_at_k  # noqa: E402
from lowrank.metrics.paired import (  # noqa: E402
    ALPHA,
    detectable,
    exact_draws,
    interval,
    p_difference,
    p_equivalence,
)
from lowrank.progress import Progress  # noqa: E402

SAMPLES = 64
# Right answers of 64 by which the embedded variants' problems differ from the derivative's.
EMBEDDED = {
    "r16": [-17, -13, -7, -5, -3, *[0] * 21, 1, 1, 1, 9],
    "r64": [-14, -13, -7, -5, -3, -1, *[0] * 22, 1, 3],
    "r256": [-8, -7, -7, -4, *[0] * 23, 1, 1, 2],
}

Truth = Callable[[np.random.Generator, tuple[int, int]], Floats]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--runs", type=at_least_one, default=2000, metavar="N", help="a truth (default 2000)")
    add(
        "--draws",
        type=at_least_one,
        default=4000,
        metavar="N",
        help="of the exact bounds (default 4000)",
    )
    add("--margin", type=float, default=0.05, metavar="SHARE", help="default 0.05")
    add("--problems", type=at_least_one, nargs="+", default=[30, 120], help="default 30 120")
    add("--only", default="", metavar="WORD", help="truths whose name has it")
    add("--seed", type=int, default=0, help="default 0")
    return parser.parse_args()


# --- truths -----------------------------------------------------------------------------------


def sampled(rng: np.random.Generator, chances: Floats) -> Floats:
    """Accuracy of SAMPLES completions a problem."""
    return rng.binomial(SAMPLES, np.clip(chances, 0, 1)) / SAMPLES


def equal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Two models with the same chances: many problems easy, many hopeless."""
    chances = rng.beta(0.5, 0.7, shape)
    return sampled(rng, chances) - sampled(rng, chances)


def other(spread: float, shift: float) -> Truth:
    """Two models whose chances differ, in logits, by a normal amount a problem."""

    def truth(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        chances, theirs = _two(rng, shape, spread, shift)
        return sampled(rng, theirs) - sampled(rng, chances)

    return truth


def _two(
    rng: np.random.Generator, shape: tuple[int, int], spread: float, shift: float
) -> tuple[Floats, Floats]:
    chances = np.clip(rng.beta(0.5, 0.7, shape), 1e-9, 1 - 1e-9)
    logits = np.log(chances / (1 - chances)) + rng.normal(shift, spread, shape)
    return chances, 1 / (1 + np.exp(-logits))


def measured(table: Floats, spread: float, shift: float) -> Truth:
    """The same in another measure; table: its value at every number of right completions."""

    def truth(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        ours, theirs = (rng.binomial(SAMPLES, each) for each in _two(rng, shape, spread, shift))
        return table[theirs] - table[ours]

    return truth


def lost(share: float, loss: float, noise: bool, gained: float = 0.0) -> Truth:
    """A share of the problems loses, one in 7 may gain; the others are the same or sampled anew."""

    def truth(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        kind = rng.random(shape)
        ours = np.where(kind < share, 1.0, 0.8)
        theirs = np.where(kind < share, 1 - loss, 0.8)
        theirs = np.where(kind > 6 / 7, theirs + gained, theirs)
        return sampled(rng, theirs) - sampled(rng, ours) if noise else theirs - ours

    return truth


def skewed(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Every problem loses, a few of them much."""
    return -np.minimum(rng.lognormal(log(0.03), 1, shape), 1)


def symmetric(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.clip(rng.normal(0, 0.1, shape), -0.9, 0.9)


def ties(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """One completion more or less right on one problem in five."""
    return rng.choice([-1, 0, 0, 0, 0, 0, 0, 0, 0, 1], shape) / SAMPLES


def embedded(counts: list[int]) -> Truth:
    """Problems drawn anew from those of an embedded variant, its loss scaled to the margin."""
    values = np.array(counts) / SAMPLES

    def truth(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        return rng.choice(values * (0.05 / -values.mean()), shape)

    return truth


def truths() -> dict[str, Truth]:
    counts = np.arange(SAMPLES + 1)
    pass_8 = pass_at_k(counts, SAMPLES, [8])[0]
    majority = [majority_curve([c, SAMPLES - c], [True, False], [32])[0] for c in counts.tolist()]
    made: dict[str, Truth] = {
        "equal models": equal,
        "symmetric, sd 10 points": symmetric,
        "chances differ (logit sd 1)": other(1, 0),
        "weaker everywhere (logit sd 1, mean -0.5)": other(1, -0.5),
        "pass@8, equal models": measured(pass_8, 0, 0),
        "pass@8, weaker": measured(pass_8, 1, -0.5),
        "Maj@32, equal models": measured(np.array(majority), 0, 0),
        "Maj@32, weaker": measured(np.array(majority), 1, -0.5),
        "half lost on 1 in 10, others the same": lost(0.1, 0.5, noise=False),
        "half lost on 1 in 10, others sampled": lost(0.1, 0.5, noise=True),
        "all lost on 1 in 10, others sampled": lost(0.1, 1, noise=True),
        "all lost on 1 in 15, others sampled": lost(1 / 15, 1, noise=True),
        "all lost on 1 in 20, others the same": lost(0.05, 1, noise=False),
        "all lost on 1 in 20, others sampled": lost(0.05, 1, noise=True),
        "all lost on 1 in 30, others sampled": lost(1 / 30, 1, noise=True),
        "1 in 7 gains 20, all lost on 1 in 20": lost(0.05, 1, noise=True, gained=0.2),
        "every problem loses, some much (log-normal)": skewed,
        "1 of 64 more or less on 1 in 5": ties,
    }
    return made | {f"embedded {name}, scaled": embedded(EMBEDDED[name]) for name in EMBEDDED}


# --- tables -----------------------------------------------------------------------------------


def moved(differences: Floats, mean: float, target: float) -> Floats:
    """The differences with their true mean moved; still in -1..1."""
    return np.clip(differences + (target - mean), -1, 1)


def shares(differences: Floats, mean: float, margin: float, spacings: Floats) -> list[float]:
    """The columns of the first table, of one truth."""
    counts = np.zeros(5)
    for row in differences:
        low, high = interval(row, exact_draws(row, spacings))
        counts[0] += low <= mean + 1e-12 and mean - 1e-12 <= high
        null = moved(row, mean, 0.0)
        draws = exact_draws(null, spacings)
        counts[1] += p_difference(null, draws) <= ALPHA
        counts[4] += p_equivalence(null, draws, margin) <= ALPHA
        for column, target in ((2, -margin), (3, -margin / 2)):
            here = moved(row, mean, target)
            claimed = p_equivalence(here, exact_draws(here, spacings), margin) <= ALPHA
            counts[column] += claimed
    return (100 * counts / len(differences)).tolist()


def in_families(
    truth: Truth, mean: float, problems: int, given: argparse.Namespace, spacings: Floats
) -> list[float]:
    """The columns of the second table, of one truth."""
    rng = generator(given.seed, "families", problems)
    kept = false = found = 0
    runs = given.runs // 4 + 1
    several = moved(truth(rng, (100, problems)), mean, -given.margin)
    size = float(np.nanmean([detectable(row, ALPHA / 7) for row in several]))
    for _ in range(runs):
        rows = truth(rng, (7, problems))
        at_margin = moved(rows[:6], mean, -given.margin)
        table = judged(at_margin, ["family"] * 6, given.margin, spacings)
        kept += (table["p_equivalence_holm"] <= ALPHA).any()
        rows = moved(rows, mean, 0.0)
        rows[0] = np.clip(rows[0] - size, -1, 1)
        table = judged(rows, ["family"] * 7, given.margin, spacings)
        found += table["p_holm"][0] <= ALPHA
        false += (table["p_holm"][1:] <= ALPHA).any()
    return [100 * each / runs for each in (kept, false, found)] + [100 * size]


def main() -> None:
    given = parse()
    chosen = {name: truth for name, truth in truths().items() if given.only in name}
    progress = Progress(len(chosen) * len(given.problems), "truths")
    print("| truth | problems | covers | rejects | at margin | at half | at 0 |")
    print("|---|---|---|---|---|---|---|")
    families = []
    for problems in given.problems:
        spacings = problem_spacings(problems, generator(given.seed, problems), given.draws)
        for name, truth in chosen.items():
            mean = float(truth(generator(given.seed, "mean", name), (1000, 1000)).mean())
            rng = generator(given.seed, name, problems)
            found = shares(truth(rng, (given.runs, problems)), mean, given.margin, spacings)
            cells = " | ".join(f"{share:.1f}" for share in found)
            print(f"| {name} | {problems} | {cells} |", flush=True)
            if name.startswith(("equal", "symmetric", "half lost on 1 in 10, others sampled")):
                made = in_families(truth, mean, problems, given, spacings)
                families.append((name, problems, *(f"{each:.1f}" for each in made)))
            progress.step()
    print("\n| truth | problems | any of six kept | any of six differs | found | detectable |")
    print("|---|---|---|---|---|---|")
    for row in families:
        print(f"| {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    sys.exit(run(main))
