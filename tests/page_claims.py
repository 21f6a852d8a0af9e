"""What the page of the uneven case should say of its grades, and whether a text says it.

What is expected comes from the grades by enumeration and scipy (tests/oracle.py), not from the code
that made the page.
"""

import math
import re

import numpy as np
import oracle
import pandas as pd
from page_reader import DASH, agrees
from uneven_case import PROBLEMS, SAMPLES
from uneven_report import Built

KS = (3, 5)
MEASURES = [("mean", 1), ("pass", 3), ("pass", 5), ("maj", 3), ("maj", 5), ("maj", SAMPLES)]
NAMES = {"mean": "mean accuracy", "maj": "Maj@{}", "pass": "pass@{}"}
VARIANTS = ["r2-copy", "r8-copy", "r2-keep", "r8-keep", "r0-copy", "r0-keep", "random-r2-copy"]
LOWRANK = VARIANTS[:4]
LABELS = {"sums": "Sums", "hard": "Hard sums", "both": "Both kinds"}
SIZES = PROBLEMS | {"both": sum(PROBLEMS.values())}
MARGIN = 0.08
# Of what was drawn at random here and there, in points: five standard errors.
BOUNDS = {"sums": 0.6, "both": 0.6, "hard": 2.0}


def measure_name(metric: str, k: int) -> str:
    return NAMES[metric].format(k)


def likely(p: float) -> float:
    """How far apart two simulated p (adjusted for seven at most) may be."""
    return 0.08 * math.sqrt(p) + 2e-4


def _renamed(benchmark: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(problem_id=benchmark + "/" + table["problem_id"])


def expected_of(uneven: Built) -> dict[str, pd.DataFrame]:
    """Benchmark or pool -> every comparison, by model, reference, metric and k."""
    models = [*VARIANTS, "new", "mid"]
    grades = {name: {m: tables[m] for m in models} for name, tables in uneven.grades.items()}
    both = {m: pd.concat([_renamed(b, grades[b][m]) for b in grades]) for m in models}
    origin = {name: name.split("/")[0] for name in both["mid"]["problem_id"]}
    made = {
        name: oracle.comparisons(tables, "mid", "new", MEASURES, MARGIN)
        for name, tables in grades.items()
    }
    return made | {"both": oracle.comparisons(both, "mid", "new", MEASURES, MARGIN, origin)}


def pools_of(uneven: Built) -> dict[tuple[str, str], dict[str, oracle.Pool]]:
    """(benchmark, model) -> the pool of each problem."""
    return {
        (benchmark, model): oracle.pools_of(table)
        for benchmark, tables in uneven.grades.items()
        for model, table in tables.items()
    }


def is_chance(text: str, p: float, slack: float = 1e-4) -> bool:
    """Whether a text is what a p value looks like."""
    return p < 0.001 + slack if text == "< 0.001" else agrees(text, p, slack)


def is_points(text: str, share: float, slack: float = 0.0, sign: bool = True) -> bool:
    """Whether a text is a share in points; slack in points. A gain has a plus."""
    if not np.isfinite(share):
        return text in ("", DASH)
    signed = not sign or abs(100 * share) < 1e-9 + slack or (text[0] == "+") == (share > 0)
    return signed and agrees(text, 100 * share, slack)


def is_span(text: str, low: float, high: float, slack: float = 0.0) -> bool:
    """Whether a text is an interval in points."""
    if not np.isfinite(low):
        return text in ("", DASH)
    one, other = text.split(" to ")
    return is_points(one, low, slack) and is_points(other, high, slack)


def assert_verdict(
    uneven, words: str, row: pd.Series, model: str, reference: str, *measure
) -> None:
    """That the words claim what the tests show, and no more."""
    name, than = measure_name(*measure), uneven.label(reference)
    same = row["p_equivalence_holm"] <= 0.05
    if row["p_holm"] > 0.05:
        wanted = f"equivalent to {than} within 8 points of {name}" if same else ""
        assert words == (wanted or f"not distinguishable from {than} in {name}")
        return
    claim = re.fullmatch(
        r"(better|worse) than (.+) by (\S+) points of (\S+(?: \S+)?)(, yet .*)?", words
    )
    assert claim, words
    assert claim[1] == ("better" if row["value"] > row["reference_value"] else "worse")
    assert (claim[2], claim[4]) == (than, name)
    assert is_points(claim[3], abs(row["value"] - row["reference_value"]), sign=False)
    assert claim[5] == (", yet equivalent within 8 points" if same else None)
