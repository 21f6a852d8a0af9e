"""What the divergences say, in sentences made from the numbers, and what they do not."""

import pandas as pd

from lowrank.metrics.paired import ALPHA
from lowrank.plan.controls import other_weights
from lowrank.report.cells import joined, percent
from lowrank.report.divergences import Distances, concentration, share_of_way, span, thousandths
from lowrank.report.evidence import Evidence


def introduction(found: Evidence, distances: dict[str, Distances]) -> list[str]:
    """What was measured, and what that does not say."""
    experiment = found.experiment
    base, derivative = found.label(experiment["base"]), found.label(experiment["derivative"])
    read = [
        f"{one.read['counts']['completions']:,} completions of {derivative} on"
        f" {experiment['benchmarks'][name]['label']}"
        f" ({one.read['counts']['tokens']:,} tokens)"
        for name, one in distances.items()
    ]
    said = [
        f"What {derivative} wrote is read by every model: {joined(read)}. At each token the model's"
        f" distribution of the next token is held against {derivative}'s over the whole vocabulary"
        " (KL divergence, in nats, at temperature 1): 0 where the two agree. Nothing is sampled, so"
        " the figure has no noise of draws. The share of the way is how much of the divergence of"
        f" {base} is gone.",
        f"What this does not say: it is about {derivative}'s own text. It does not see where a"
        " model would go once it had left that text, nor whether an answer is right. A model that"
        " is close here was not shown to answer as well; that is what accuracy is for.",
    ]
    for one in distances.values():
        for reason, number in one.read["counts"]["left_out"].items():
            said.append(f"{number} completions were left out: {reason}.")
    return said


def findings(found: Evidence, distances: Distances) -> list[str]:
    """What a benchmark's divergences show: ranks that are enough, ranks that differ, where."""
    said = [sentence for _, sentence in sorted(_enough(distances).items())]
    said += _contrasts(found, distances)
    half = concentration(distances)
    top = distances.figure(found.experiment["base"], "equal_top")["value"]
    if half == half:
        said.append(
            f"Half of the divergence of {found.label(found.experiment['base'])} sits in"
            f" {percent(half)} of the tokens, and at {percent(1 - top)} of them its likeliest token"
            " is another one: the two models differ at few places."
        )
    return said


def _enough(distances: Distances) -> dict[str, str]:
    """By ladder: the smallest ranks that go so much of the way."""
    made = {}
    for ladder, lines in distances.ranks.groupby("ladder", sort=False):
        tried = [int(rank) for rank in str(lines["tried"].iloc[0]).split()]
        parts: dict[str, list[str]] = {}
        for line in lines.to_dict("records"):
            rank, low, high = (
                _rank(line[name], tried) for name in ("rank", "rank_low", "rank_high")
            )
            interval = "" if rank == low == high else f" (95% interval: {low} to {high})"
            takes = f"{_takes(line['rank'], tried)}{interval}"
            parts.setdefault(takes, []).append(f"{line['share']:.0%}")
        words = [f"{joined(shares)} of the way {takes}" for takes, shares in parts.items()]
        made[str(ladder)] = f"{_way(str(ladder))} {joined(words)}."
    return made


def _way(ladder: str) -> str:
    """What a ladder's variants share, as a sentence begins."""
    other, _, rest = ladder.partition("-")
    form = f" ({rest.replace('-', ', ')})" if rest else ""
    return f"With the other weights {other_weights(other).done}{form},"


def _takes(rank: float, tried: list[int]) -> str:
    if pd.isna(rank):
        return f"takes more than rank {tried[-1]}"
    if rank == tried[0]:
        return f"takes rank {int(rank)} or less, the smallest tried"
    return f"takes rank {int(rank)}"


def _rank(rank: float, tried: list[int]) -> str:
    return f"more than {tried[-1]}" if pd.isna(rank) else str(int(rank))


def _contrasts(found: Evidence, distances: Distances) -> list[str]:
    """Which neighbouring ranks are told apart, and whether copying matters."""
    said = []
    for question, what in (("rank", "neighbouring ranks"), ("other", "what is copied or kept")):
        lines = distances.contrasts[distances.contrasts["question"] == question]
        if lines.empty:
            continue
        alike = lines[lines["p_holm"] > ALPHA]
        words = f"{len(lines) - len(alike)} of {len(lines)} comparisons of {what} are told apart"
        pairs = [
            f"{found.label(line['model'])} from {found.label(line['reference'])}"
            for line in alike.to_dict("records")
        ]
        words += f"; not {joined(pairs)}" if pairs else ""
        farther = lines[(lines["p_holm"] <= ALPHA) & (lines["difference"] > 0)]
        odd = [
            f"{found.label(line['model'])} is farther than {found.label(line['reference'])}"
            for line in farther.to_dict("records")
        ]
        said.append(f"{words}{'; ' + joined(odd) if odd else ''}.")
    if not distances.contrasts.empty:
        line = distances.contrasts.iloc[0]
        rarest = min(1.0, 2 * 0.5 ** line["n_problems"])
        if rarest * line["family"] > ALPHA:
            said.append(
                f"With {line['n_problems']} problems no pattern of signs is rarer than"
                f" {rarest:.2g}, so that none of {line['family']} comparisons can be told apart,"
                " however far the models are."
            )
    return said


def first_screen(found: Evidence, benchmark: str, distances: Distances) -> str:
    """What share of the way the lowest and the highest rank go, in a sentence."""
    ranks = sorted({variant["rank"] for variant in found.lowrank.values()})
    parts = []
    for rank in dict.fromkeys((ranks[0], ranks[-1])):
        ways: list[str] = []
        for name, variant in found.lowrank.items():
            if variant["rank"] == rank:
                share = distances.figure(name, "recovered")
                ends = span(share, share_of_way)
                how = other_weights(variant["other"]).done
                interval = f" ({ends})" if ends else ""
                other = "them" if ways else "the other weights"
                ways.append(f"{share_of_way(share['value'])}{interval} with {other} {how}")
        parts.append(f"rank {rank} goes {joined(ways)}")
    base = distances.figure(found.experiment["base"], "kl")["value"]
    derivative = found.label(found.experiment["derivative"])
    label = found.experiment["benchmarks"][benchmark]["label"]
    return (
        f"Read instead of sampled: on {derivative}'s own text on {label} the base's next-token"
        f" distributions differ by {thousandths(base)} thousandths of a nat a token. Of that way"
        f" {'; '.join(parts)}."
    )
