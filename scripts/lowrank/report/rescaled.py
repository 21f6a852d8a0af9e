"""Whether one rescaled direction of each matrix keeps 99 % of the gain (2510.00553)."""

import numpy as np
import pandas as pd

from lowrank.metrics.comparisons import UNANSWERED
from lowrank.report import verdicts
from lowrank.report.divergences import Distances, share_of_way, span
from lowrank.report.evidence import Evidence

CLAIMED = 0.99


def sentences(
    found: Evidence, comparisons: pd.DataFrame, benchmark: str, distances: Distances | None
) -> list[str]:
    """The claim against the gain kept and its interval: a sentence a variant of one direction."""
    lines = verdicts.against(comparisons, benchmark, found.experiment["derivative"], ("mean", 1))
    said = []
    for name in found.answering:
        variant = found.experiment["variants"][name]
        if variant["kind"] != "rescaled" or variant["rank"] != 1:
            continue
        line = lines.loc[name]
        label = found.experiment["benchmarks"][benchmark].get("label", benchmark)
        words = (
            f"One direction of each matrix, at the norm of its whole change ({found.label(name)})"
        )
        if line["answer"] == UNANSWERED or not np.isfinite(line["gain_kept_low"]):
            said.append(f"{words}: what it keeps of the gain on {label} cannot be told here.")
            continue
        kept = verdicts.gain_kept(line)
        plain = f"r1-{name.removeprefix('rescaled-r1-')}"
        beside = ""
        if plain in lines.index:
            without = verdicts.gain_kept(lines.loc[plain])
            beside = f", unscaled {without['text']} ({without['under']})"
        way = ""
        if distances is not None:
            share = distances.figure(name, "recovered")
            ends = span(share, share_of_way)
            way = (
                f" It goes {share_of_way(share['value'])}{f' ({ends})' if ends else ''} of the way."
            )
        said.append(
            f"{words} keeps {kept['text']} ({kept['under']}) of the gain in mean accuracy on"
            f" {label}{beside}: that it keeps {CLAIMED:.0%} is {judged(line)}.{way}"
        )
    return said


def judged(line: pd.Series) -> str:
    """What the interval of the gain kept says of the claim."""
    if line["gain_kept_low"] >= CLAIMED:
        return "confirmed here"
    return "refuted here" if line["gain_kept_high"] < CLAIMED else "left open by the interval"
