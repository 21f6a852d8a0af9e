"""What of a delta was factored and what was not, from its ledger: a table and sentences.

Nothing here reads or writes a file; tables are in the form of lowrank.report.cells.
"""

from typing import Any

import pandas as pd

from lowrank.report.cells import Column, joined, percent, tabulate
from lowrank.report.evidence import Evidence

LEFT_OUT = "left out by configuration"  # the fate that a ledger calls so
# Plurals of what a ledger calls its tensors, where they are not made with an s.
PLURALS = {"head": "head", "norm or other vector": "other vectors"} | {
    what: what for what in ("outside the decoder's layers", "layer beyond the model's own")
}
SHARES = {"share_of_parameters": "parameters", "share_of_change": "squared change"}


def groups(ledger: pd.DataFrame) -> pd.Series:
    """Of every tensor: factored, biases, other (whatever it is), or left out."""
    kinds = {"projection": "factored", "bias": "biases"}
    return ledger["role"].map(kinds).fillna("other").where(ledger["fate"] != LEFT_OUT, "left out")


def shares_table(found: Evidence) -> dict[str, Any]:
    """A row a delta: which share of its parameters and its change was factored, and which not."""
    lines = [
        {
            "delta": found.delta_label(delta),
            "matrices": int((groups(ledger) == "factored").sum()),
            "sums": ledger.groupby(groups(ledger))[list(SHARES)].sum(),
        }
        for delta, ledger in found.ledgers.items()
    ]
    columns = [
        Column("delta", lambda line: line["delta"]),
        Column("matrices", lambda line: str(line["matrices"])),
    ]
    for share, name in SHARES.items():
        for kind in ("factored", "biases", "other", "left out"):

            def cell(line: dict[str, Any], kind: str = kind, share: str = share) -> str:
                return percent(float(line["sums"][share].get(kind, 0.0)))

            columns.append(Column(kind, cell, f"share of the {name}"))
    return tabulate(columns, lines)


def factored(found: Evidence, delta: str) -> str:
    """What was factored, in words that the ledger bears out."""
    ledger = found.ledgers[delta]
    inside = ledger[ledger["role"] == "projection"]
    kept = inside[inside["fate"] != LEFT_OUT]
    most = "Every" if len(kept) == len(inside) else f"{len(kept)} of {len(inside)}: every"
    named = "" if len(kept) == len(inside) else " that leave_out does not name"
    return f"{most} matrix of the decoder's {inside['layer'].nunique()} layers{named}"


def others(found: Evidence) -> str:
    """What "other" is in the experiment's own delta: embeddings, head and norms, and what else."""
    ledger = found.ledgers[found.experiment["delta"]]
    names = [_plural(what) for what in ledger.loc[groups(ledger) == "other", "what"].unique()]
    usual = [name for name in ("embeddings", "head", "norms") if name in names]
    return joined([*usual, *(name for name in names if name not in usual)])


def not_factored(found: Evidence) -> list[str]:
    """A sentence a delta: its share that was factored, and everything that was not, by name."""
    said = []
    for delta, ledger in found.ledgers.items():
        kinds = groups(ledger)
        sums = ledger.groupby(kinds)[list(SHARES)].sum()
        inside = sums.loc["factored"]
        text = (
            f"{found.delta_label(delta)}: {factored(found, delta)} was factored,"
            f" {percent(inside['share_of_parameters'])} of the parameters and"
            f" {percent(inside['share_of_change'])} of the squared change."
        )
        rest = ledger[kinds.isin(["biases", "other"])]
        by_what = rest.groupby("what", sort=False)["share_of_change"].agg(["size", "sum"])
        parts = [
            f"{_plural(what)} ({n}, {percent(share)})" for what, n, share in by_what.itertuples()
        ]
        if parts:
            text += f" Copied or kept whole, by number and share of that change: {joined(parts)}."
        left = ledger.loc[kinds == "left out", "share_of_change"]
        if len(left):
            text += f" Left out by name: {len(left)} tensors ({percent(left.sum())})."
        said.append(text)
    return said


def _plural(what: str) -> str:
    return PLURALS.get(what) or ("biases" if what == "bias" else f"{what}s")
