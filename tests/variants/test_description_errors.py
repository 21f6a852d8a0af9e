"""The table of what descriptions cost and miss, against the changes themselves."""

import numpy as np
import pandas
import pytest
from conftest import projections

from lowrank.delta.factor import difference, factor_pair
from lowrank.errors import InputError
from lowrank.models.checkpoint import open_checkpoint
from lowrank.variants.description import packed
from lowrank.variants.description_errors import COLUMNS, write_errors
from lowrank.variants.packing import unpack


@pytest.fixture(scope="module")
def table(trio, tmp_path_factory):
    folder = tmp_path_factory.mktemp("delta")
    factor_pair(trio.base, trio.derivative, folder)
    write_errors(folder, trio.base, trio.derivative, ["sparse", "bitdelta", "quantised4"], [2, 100])
    return folder, pandas.read_parquet(folder / "descriptions.parquet")


def test_each_description_stands_at_each_rank_once(table):
    rows = table[1]
    assert list(rows.columns) == list(COLUMNS)
    columns = rows.groupby("tensor")[["description", "rank"]]
    found = [each.values.tolist() for _, each in columns]
    wanted = [["lowrank", 2], ["lowrank", 100], ["sparse", 2], ["sparse", 100], ["bitdelta", 0],
              ["quantised4", 2], ["quantised4", 100]]  # fmt: skip
    assert found == [wanted] * len(projections())


def test_low_rank_misses_what_an_svd_leaves_and_costs_its_factors(table, trio):
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    rows = table[1].set_index(["tensor", "description", "rank"])
    for name, shape in projections().items():
        D = difference(base, derivative, name).double().numpy()
        sigma = np.linalg.svd(D, compute_uv=False)
        for rank in (2, 100):
            line = rows.loc[name, "lowrank", rank]
            assert line["bytes"] == 4 * min(rank, *shape) * sum(shape)
            assert line["frobenius"] == pytest.approx(np.linalg.norm(D))
            rest = np.sqrt((sigma[rank:] ** 2).sum())
            assert line["error"] == pytest.approx(rest, abs=1e-7 * sigma[0])


def test_others_miss_what_their_parts_leave(table, trio):
    folder, rows = table
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    for line in rows[rows["description"] != "lowrank"].to_dict("records"):
        name, shape = line["tensor"], projections()[line["tensor"]]
        budget = 4 * min(line["rank"], *shape) * sum(shape)
        D = difference(base, derivative, name)
        parts = packed(line["description"], folder, name, D, budget)
        assert line["bytes"] == sum(part.nbytes for part in parts.values())
        rest = D.double().numpy() - unpack(line["description"], parts, shape)
        assert line["error"] == pytest.approx(np.linalg.norm(rest), rel=1e-5, abs=1e-9)


def test_a_delta_of_other_models_is_refused_before_anything_is_measured(table, trio):
    for pair, side in (((trio.derivative, trio.derivative), "base"),
                       ((trio.base, trio.base), "derivative")):  # fmt: skip
        with pytest.raises(InputError, match=rf"another {side} than .*the weight files' hashes"):
            write_errors(table[0], *pair, ["sparse"], [2])
