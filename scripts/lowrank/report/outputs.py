"""The files of a report, known from the experiment before anything runs: a record a figure.

Outputs and captions of rule `report`, and figures and captions of the page, follow from here. A
caption is the file workflow/report/<stem>.rst, which Snakemake's own report reads, too. This module
is read while planning: what draws is imported where it is needed.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lowrank.places import ROOT

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from lowrank.report.evidence import Evidence

PAGE = "report.html"
TABLES = ("results", "metrics", "comparisons", "deltas", "fidelity")
OF_ACCURACY = TABLES[:3]  # of no report without it


@dataclass(frozen=True)
class Picture:
    """A kind of figure.

    stem: its file's name, followed by what it is of. of: "benchmark" or "delta" where there is one
        for each; else of what there is one, in words.
    category, shows: where and as what Snakemake's own report lists it.
    draw: from all evidence, the report's tables by name, and the name of the benchmark or delta;
        None for those that the section on divergences draws.
    asked: the part of the report that it belongs to: accuracy, divergence or locate; "" for figures
        of every report.
    """

    stem: str
    of: str
    category: str
    shows: str
    draw: "Callable[[Evidence, Mapping[str, DataFrame], str], Figure] | None"
    asked: str = ""

    def name(self, subject: str) -> str:
        """The file's name without suffix. subject: the benchmark or delta; "" where it has none."""
        return f"{self.stem}-{subject}" if subject else self.stem

    def labels(self, subject: str) -> dict[str, str]:
        """What Snakemake's own report says beside it."""
        return {"shows": self.shows, "of": subject or self.of}

    @property
    def caption_file(self) -> Path:
        """Where its caption is written."""
        return ROOT / f"workflow/report/{self.stem}.rst"

    @property
    def caption(self) -> str:
        """Its caption, as the page has it."""
        return " ".join(self.caption_file.read_text(encoding="utf-8").split())


def _accuracy(found: "Evidence", frames: "Mapping[str, DataFrame]", benchmark: str) -> "Figure":
    from lowrank.report import figures, results

    points = results.accuracy_points(found, frames["results"], benchmark)
    return figures.accuracy_by_rank(*points)


def _spectrum(found: "Evidence", _: "Mapping[str, DataFrame]", delta: str) -> "Figure":
    from lowrank.report import figures

    return figures.spectra(found.spectra[delta])


def _by_module(found: "Evidence", _: "Mapping[str, DataFrame]", delta: str) -> "Figure":
    from lowrank.report import figures

    return figures.spectra_by_module(found.spectra[delta])


def _by_layer(_: "Evidence", frames: "Mapping[str, DataFrame]", delta: str) -> "Figure":
    from lowrank.report import figures

    matrices = frames["deltas"]
    return figures.by_layer(matrices[matrices["delta"] == delta])


def _energy(found: "Evidence", _: "Mapping[str, DataFrame]", __: str) -> "Figure":
    from lowrank.report import deltas, figures

    # The delta in question first, in the colour that stands out.
    order = sorted(found.experiment["deltas"], key=lambda name: name != found.experiment["delta"])
    spectra = {found.delta_label(delta): found.spectra[delta] for delta in order}
    return figures.energy(spectra, deltas.ranks_of(found))


def _fidelity(_: "Evidence", frames: "Mapping[str, DataFrame]", __: str) -> "Figure":
    from lowrank.report import figures

    stored = frames["fidelity"]
    return figures.fidelity(stored[stored["scope"] == "projection"])


PICTURES = (
    Picture("accuracy-by-rank", "benchmark", "Accuracy", "accuracy by rank", _accuracy, "accuracy"),
    Picture("divergence", "benchmark", "Divergence", "divergence by rank", None, "divergence"),
    Picture(
        "divergence-along", "benchmark", "Divergence", "along the completion", None, "divergence"
    ),
    Picture("locate", "benchmark", "Divergence", "where the change lives", None, "locate"),
    Picture("bytes", "benchmark", "Divergence", "divergence by bytes", None, "descriptions"),
    Picture("bytes-error", "all deltas", "Divergence", "error by bytes", None, "descriptions"),
    Picture("spectrum", "delta", "Deltas", "spectrum", _spectrum),
    Picture("spectrum-modules", "delta", "Deltas", "spectrum by modules", _by_module),
    Picture("layers", "delta", "Deltas", "layers", _by_layer),
    Picture("energy", "all deltas", "Deltas", "energy by rank", _energy),
    Picture("fidelity", "all variants", "Accuracy", "fidelity of what was served", _fidelity),
)


def pictures(
    benchmarks: Iterable[str], deltas: Iterable[str], asked: Container[str] = ("accuracy",)
) -> list[tuple[Picture, str]]:
    """Every figure of a report: its kind and which benchmark or delta it is of ("" for none).

    asked: those of accuracy, divergence, locate and descriptions that the experiment asks for.
    """
    subjects = {"benchmark": list(benchmarks), "delta": list(deltas)}
    return [
        (kind, subject)
        for kind in PICTURES
        if not kind.asked or kind.asked in asked
        for subject in subjects.get(kind.of, [""])
    ]


def tables(asked: Container[str] = ("accuracy",)) -> list[str]:
    """Names of the tables, without suffix; asked: see `pictures`."""
    return [name for name in TABLES if "accuracy" in asked or name not in OF_ACCURACY]


def figures(
    benchmarks: Iterable[str], deltas: Iterable[str], asked: Container[str] = ("accuracy",)
) -> list[str]:
    """Names of the figures, without suffix; asked: see `pictures`."""
    return [kind.name(subject) for kind, subject in pictures(benchmarks, deltas, asked)]


def outputs(
    benchmarks: Iterable[str], deltas: Iterable[str], asked: Container[str] = ("accuracy",)
) -> list[str]:
    """Every file that a report has, relative to its folder; asked: see `pictures`.

    >>> outputs(["aime"], [])[:3]
    ['report.html', 'figures/accuracy-by-rank-aime.svg', 'figures/accuracy-by-rank-aime.png']
    """
    return [
        PAGE,
        *(f"figures/{name}.{suffix}" for name in figures(benchmarks, deltas, asked)
          for suffix in ("svg", "png")),
        *(f"tables/{table}.csv" for table in tables(asked)),
    ]  # fmt: skip
