"""The report of the uneven case, built once: its page, its files, its figures, its grades."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from page_reader import Page
from uneven_case import make_uneven

from lowrank.files import read_json
from lowrank.report.page import build


@dataclass(frozen=True)
class Built:
    """A report and what it is about."""

    folder: Path  # of the results; the report lies in report/
    experiment: dict[str, Any]
    page: Page
    drawn: dict[str, Figure]  # what stands in the place of each figure on the page -> the figure
    grades: dict[str, dict[str, pd.DataFrame]]  # benchmark -> model

    def csv(self, name: str) -> pd.DataFrame:
        """A table of the report's folder."""
        return pd.read_csv(self.folder / f"report/tables/{name}.csv")

    def label(self, model: str) -> str:
        """What the page calls a model of this case."""
        kind, _, rest = model.rpartition("r")
        if model in self.experiment["models"]:
            return {"old": "Old one", "mid": "Middle one", "new": "New one"}[model]
        rank, other = rest.split("-")
        return f"{'random, ' * ('random' in kind)}r = {rank}, {other}"


def build_uneven(folder: Path) -> Built:
    """The uneven case's results below `folder`, and their report."""
    path = make_uneven(folder)
    page, drawn = build_kept(path)
    experiment = read_json(path)
    models = [*experiment["references"], *experiment["variants"]]
    grades = {
        benchmark: {m: pd.read_parquet(folder / f"grades/{benchmark}/{m}.parquet") for m in models}
        for benchmark in experiment["benchmarks"]
    }
    return Built(folder, experiment, page, drawn, grades)


def build_kept(path: Path) -> tuple[Page, dict[str, Figure]]:
    """Build the report of an experiment.json beside it; figures are kept instead of drawn.

    In the place of each stands its number.
    """
    drawn: dict[str, Figure] = {}

    def keep(figure: Figure, file: Path, **_: object) -> None:
        number = next((n for n, known in drawn.items() if known is figure), f"figure {len(drawn)}")
        drawn[number] = figure
        Path(file).write_text(f"<svg><text>{number}</text></svg>", encoding="utf-8")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        page = build(path, path.parent, path.parent / "report")
    return Page(page), drawn
