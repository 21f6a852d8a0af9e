"""Is low rank the right description? What others do in the bytes that a rank costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lowrank.errors import InputError
from lowrank.metrics.paired import ALPHA
from lowrank.plan.controls import LOWRANK, kind_of
from lowrank.plan.settings import VariantForm
from lowrank.report.cells import DASH, Column, cell, fraction, joined, size, tabulate
from lowrank.report.divergences import Distances, chance, share_of_way, span, thousandths
from lowrank.report.evidence import Evidence, table
from lowrank.report.results import mean_accuracy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = ("tensor", "description", "rank", "bytes", "frobenius", "error")
NAMES = {
    LOWRANK.name: "low rank",
    "quantised8": "low rank in 8 bits",
    "quantised4": "low rank in 4 bits",
    "sparse": "the largest changes alone",
    "bitdelta": "one bit an entry",
}


def name_of(kind: str) -> str:
    """What a kind of description is called."""
    return NAMES.get(kind, kind)


@dataclass(frozen=True)
class EqualBytes:
    """What was found of other descriptions.

    sizes: a row a (delta, description, rank): bytes of all matrices; relative_error, the norm of
    what is missed over the norm of the change, of all matrices together.
    rows: by benchmark, a row a variant (`lines`).
    """

    sizes: pd.DataFrame
    rows: dict[str, list[dict[str, Any]]]


def gather(
    found: Evidence, distances: dict[str, Distances], results: pd.DataFrame
) -> EqualBytes | None:
    """None where none but low rank was asked for. results: `results.results_frame`.

    InputError where a description or rank of the experiment is not in a delta's table.
    """
    if not found.experiment["descriptions"] or not distances:
        return None
    sizes = pd.concat(
        [_sizes(found, delta) for delta in found.experiment["deltas"]], ignore_index=True
    )
    rows = {}
    for benchmark, one in distances.items():
        rows[benchmark] = lines(found, sizes, one, mean_accuracy(results, benchmark))
    return EqualBytes(sizes, rows)


def _sizes(found: Evidence, delta: str) -> pd.DataFrame:
    """See EqualBytes.sizes."""
    path = found.layout.delta(delta).descriptions
    rows = table(path, SIZES)
    rows = rows.assign(error2=rows["error"] ** 2, norm2=rows["frobenius"] ** 2)
    sums = rows.groupby(["description", "rank"], sort=False)[["bytes", "error2", "norm2"]].sum()
    sums["relative_error"] = np.sqrt(sums["error2"] / sums["norm2"].where(sums["norm2"] > 0))
    asked = {(v["kind"], v["rank"]) for _, v in compared(found)}
    asked |= {(LOWRANK.name, v["rank"]) for v in found.lowrank.values()}
    if missing := asked - set(sums.index):
        kind, rank = min(missing)
        raise InputError(
            f"{path}: has no {kind} in the bytes of rank {rank}: make it again with"
            " `snakemake --cores all --forcerun description_errors`"
        )
    part = sums[["bytes", "relative_error"]].reset_index()
    part.insert(0, "delta", delta)
    return part


def compared(found: Evidence) -> list[tuple[str, VariantForm]]:
    """The variants that are other descriptions, by name."""
    return [(name, v) for name, v in found.controls.items() if kind_of(v["kind"]).packed]


def _form(variant: VariantForm) -> tuple[str, str, str]:
    """How a variant is had and served, whatever it has of the delta."""
    return variant["other"], variant["dtype"], variant["serve_as"]


def lines(
    found: Evidence, sizes: pd.DataFrame, distances: Distances, accuracy: pd.Series
) -> list[dict[str, Any]]:
    """A row a variant: its bytes, divergence and error, beside low rank in no more bytes.

    Low rank first, in the form that the other descriptions have. accuracy: by model.
    """
    others = compared(found)
    beside = [(n, v) for n, v in found.lowrank.items() if _form(v) == _form(others[0][1])]
    measured = sizes[sizes["delta"] == found.experiment["delta"]]
    measured = measured.set_index(["description", "rank"])
    at = distances.contrasts["question"] == "bytes"
    contrasts = distances.contrasts[at].set_index("model")
    made = []
    for name, variant in [*beside, *others]:
        here = measured.loc[(variant["kind"], variant["rank"])]
        made.append(
            {
                "model": name,
                "kind": variant["kind"],
                "rank": variant["rank"],
                "bytes": int(here["bytes"]),
                "relative_error": float(here["relative_error"]),
                "kl": distances.figure(name, "kl"),
                "recovered": distances.figure(name, "recovered"),
                "accuracy": float(accuracy.get(name, np.nan)),
                "contrast": contrasts.loc[name].to_dict() if name in contrasts.index else None,
            }
        )
    return made


def told(line: dict[str, Any]) -> str:
    """closer, farther or "": what a description's contrast with low rank shows."""
    contrast = line["contrast"]
    if contrast is None or contrast["p_holm"] > ALPHA:
        return ""
    return "closer" if contrast["difference"] < 0 else "farther"


def verdict(found: Evidence, rows: list[dict[str, Any]], benchmark: str) -> str:
    """Whether low rank is the best description at equal bytes, as far as it was tested."""
    tested = [line for line in rows if line["contrast"]]
    label = found.experiment["benchmarks"][benchmark].get("label", benchmark)
    if not tested:
        return f"Low rank was held against nothing of its own bytes on {label}."
    groups = {
        shown: [line for line in tested if told(line) == shown]
        for shown in ("closer", "farther", "")
    }
    said = [
        f"{_are(group)} {shown or 'not told from it'}" for shown, group in groups.items() if group
    ]
    answer = "no" if groups["closer"] else "not decided" if groups[""] else "yes"
    return (
        "Is low rank, with factors in float32, the best description of the change at equal bytes?"
        f" By the divergence on {label}, {answer}: {'; '.join(said)}."
    )


def _are(rows: list[dict[str, Any]]) -> str:
    """Descriptions with the ranks beside which they were compared, and their verb."""
    ranks: dict[str, dict[str, None]] = {}
    for line in rows:
        rank = _rank_of(line["contrast"]["reference"])
        ranks.setdefault(name_of(line["kind"]), {})[rank] = None
    named = [
        f"{name} (beside rank{'s' * (len(each) > 1)} {joined(list(each))})"
        for name, each in ranks.items()
    ]
    return f"{joined(named)} {'is' if len(named) == 1 else 'are'}"


def _rank_of(variant: str) -> str:
    return variant.removeprefix("r").split("-")[0]


def differences(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A sentence a rank: how far low rank goes, and how much farther or closer each other is."""
    by_reference: dict[str, list[dict[str, Any]]] = {}
    for line in rows:
        if line["contrast"]:
            by_reference.setdefault(line["contrast"]["reference"], []).append(line)
    known = {line["model"]: line for line in rows}
    for reference, others in by_reference.items():
        low = known[reference]
        parts = []
        for line in others:
            by = line["contrast"]
            ends = span(by, thousandths)
            how = "closer" if by["difference"] < 0 else "farther"
            shown = "" if told(line) else ", which is not told from none"
            own = "" if line["bytes"] <= low["bytes"] else f" with its {kilobytes(line['bytes'])}"
            parts.append(
                f"{name_of(line['kind'])}{own} {_way(line)}, {how} by"
                f" {thousandths(abs(by['difference']))} thousandths of a nat (difference"
                f" {thousandths(by['difference'])}, {ends or DASH}){shown}"
            )
        yield (
            f"In the bytes of rank {low['rank']}, {kilobytes(low['bytes'])}, low rank goes"
            f" {_way(low)} of the way; {'; '.join(parts)}."
        )


def _way(line: dict[str, Any]) -> str:
    ends = span(line["recovered"], share_of_way)
    return share_of_way(line["recovered"]["value"]) + (f" ({ends})" if ends else "")


def kilobytes(count: int) -> str:
    """Bytes in thousands, or in millions from a million on, with three digits."""
    return f"{count / 1e6:.3g} MB" if count >= 1e6 else f"{count / 1e3:.3g} kB"


def bytes_table(found: Evidence, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Every description: bytes, error, divergence, and the difference from low rank."""

    def difference(line: dict[str, Any]) -> dict[str, str]:
        contrast = line["contrast"]
        if contrast is None:
            return cell(DASH)
        return cell(thousandths(contrast["difference"]), span(contrast, thousandths))

    weights, text, than = "in weights", "on the derivative's text", "less low rank in no more bytes"
    columns = [
        Column("model", lambda line: found.label(line["model"])),
        Column("bytes", lambda line: f"{line['bytes']:,}"),
        Column("relative error", lambda line: size(line["relative_error"]), weights),
        Column(
            "KL a token, 10⁻³ nats",
            lambda line: cell(thousandths(line["kl"]["value"]), span(line["kl"], thousandths)),
            text,
        ),
        Column(
            "share of the way",
            lambda line: cell(
                share_of_way(line["recovered"]["value"]), span(line["recovered"], share_of_way)
            ),
            text,
        ),
        Column("difference, 10⁻³ nats", difference, than),
        Column(
            "p, adjusted",
            lambda line: chance(line["contrast"]["p_holm"]) if line["contrast"] else DASH,
            than,
        ),
        Column("mean accuracy", lambda line: fraction(line["accuracy"]), "sampled"),
    ]
    return tabulate(columns, rows, lambda line: "" if line["contrast"] else "reference")


def errors_said(found: Evidence, sizes: pd.DataFrame) -> list[str]:
    """A sentence a delta: which description misses least in the bytes of a rank, in weights."""
    said = []
    ranks = sorted({v["rank"] for _, v in compared(found) if v["rank"]})
    for delta in found.experiment["deltas"]:
        here = sizes[sizes["delta"] == delta].set_index(["description", "rank"])["relative_error"]
        parts = []
        for rank in ranks:
            kinds = [kind for kind, at in here.index if at == rank and rank]
            ordered = sorted((here[kind, rank], kind) for kind in kinds)
            errors = [f"{name_of(kind)} {size(error)}" for error, kind in ordered]
            parts.append(f"in those of rank {rank} {', '.join(errors)}")
        own = [kind for kind, at in here.index if at == 0]
        parts += [f"in its own {name_of(kind)} {size(here[kind, 0])}" for kind in own]
        said.append(
            f"Of the change {found.delta_label(delta)} is missed, as a share of its norm and by"
            f" bytes: {'; '.join(parts)}."
        )
    return said


def points(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """What `by_bytes` draws of the variants of a benchmark."""
    made = []
    for line in rows:
        place = {"description": name_of(line["kind"]), "bytes": line["bytes"]}
        for measure in ("kl", "recovered"):
            ends = {key: line[measure][key] for key in ("value", "low", "high")}
            made.append(place | {"measure": measure} | ends)
    return pd.DataFrame(made)


def error_points(found: Evidence, sizes: pd.DataFrame) -> pd.DataFrame:
    """What `by_bytes` draws of the deltas: a panel each."""
    return pd.DataFrame(
        {
            "measure": sizes["delta"].map(found.delta_label),
            "description": sizes["description"].map(name_of),
            "bytes": sizes["bytes"],
            "value": sizes["relative_error"],
            "low": np.nan,
            "high": np.nan,
        }
    )


def drawn(rows: list[dict[str, Any]]) -> "Figure":
    """Divergence and share of the way against bytes, a line a description."""
    from lowrank.report import bytes_figure

    titles = {"kl": "KL a token, nats", "recovered": "Share of the way"}
    return bytes_figure.by_bytes(points(rows), titles)


def errors_drawn(found: Evidence, sizes: pd.DataFrame) -> "Figure":
    """The relative error against bytes, a panel a delta."""
    from lowrank.report import bytes_figure

    points_ = error_points(found, sizes)
    return bytes_figure.by_bytes(points_, {name: name for name in points_["measure"].unique()})


def first_screen(found: Evidence, equal: EqualBytes) -> list[str]:
    """The answer, and the differences in the bytes of the lowest rank compared, by benchmark."""
    return [
        " ".join([verdict(found, rows, benchmark), *list(differences(rows))[:1]])
        for benchmark, rows in equal.rows.items()
    ]


def content(found: Evidence, equal: EqualBytes, benchmark: str) -> dict[str, Any]:
    """What the template shows of a benchmark, but its figure."""
    rows = equal.rows[benchmark]
    return {
        "said": [verdict(found, rows, benchmark), *differences(rows)],
        "table": bytes_table(found, rows),
    }
