"""The tables of a delta by hand: what stands in which column."""

import numpy as np
import pytest

from lowrank.delta.spectra import gaussian_energy_kept
from lowrank.delta.tables import COLUMNS, spectrum_rows, summary_table

NAME = "model.layers.3.mlp.up_proj.weight"


def test_a_row_a_singular_value():
    rows = spectrum_rows(NAME, (4, 2), np.array([2.0, 1.0]), shuffled=np.array([1.0, 1.0]))
    assert list(rows) == list(COLUMNS["spectrum"])
    assert set(zip(rows.tensor, rows.layer, rows.module, strict=True)) == {(NAME, 3, "up_proj")}
    assert rows["index"].tolist() == [0, 1]
    assert rows.sigma.tolist() == [2, 1]
    assert rows.energy_kept.tolist() == pytest.approx([0.8, 1])
    assert rows.energy_kept_shuffled.tolist() == pytest.approx([0.5, 1])
    assert rows.energy_kept_gaussian.tolist() == gaussian_energy_kept((4, 2)).tolist()


def test_without_a_null_its_column_is_not_there():
    rows = spectrum_rows(NAME, (4, 2), np.array([2.0, 1.0]))
    assert list(rows) == [name for name in COLUMNS["spectrum"] if name != "energy_kept_shuffled"]


def test_a_row_a_matrix():
    table = summary_table({NAME: ((4, 2), {"sigma_1": 2.0}), "model.layers.0.x": ((1, 1), {})})
    first = table.iloc[0].to_dict()
    assert first == {
        "tensor": NAME, "layer": 3, "module": "up_proj", "rows": 4, "columns": 2,
        "sigma_1": 2.0,
    }  # fmt: skip
    assert table.tensor.tolist() == [NAME, "model.layers.0.x"]
