"""Parts of a change taken out and put in: as checkpoints with these weights would be read."""

import pandas
import pytest
import torch
from conftest import config, projections, random_weights, write_checkpoint
from divergence_case import make_reference, make_samples, read

from lowrank.divergence import locate as module
from lowrank.divergence.locate import COLUMNS, locate
from lowrank.errors import InputError

ONE = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def weights():
    """A base and a derivative in which every tensor moved."""
    base = random_weights(5, tied=False)
    draw = torch.Generator().manual_seed(0)
    moved = {n: w + 0.01 * torch.randn(w.shape, generator=draw) for n, w in base.items()}
    return base, moved


def written(folder, weights):
    return write_checkpoint(folder, weights, config(False, "float32"))


def prepared(folder, base, derivative, **more):
    """Both checkpoints and the derivative's reference, below a folder."""
    pair = written(folder / "base", base), written(folder / "derivative", derivative)
    samples = make_samples(folder / "pool", pair[1])
    return *pair, make_reference(folder / "reference", pair[1], samples, **more)


@pytest.fixture(scope="module")
def made(weights, tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("made"), *weights)


def located(base, derivative, reference, output, **more):
    more = {"samples": 3, "tokens": 100, **more}
    locate(base, derivative, reference, output, "float32", **more)
    return pandas.read_csv(output)


@pytest.fixture(scope="module")
def table(made, tmp_path_factory):
    return located(*made, tmp_path_factory.mktemp("table") / "locate.csv")


def test_every_matrix_module_and_layer_has_a_row(table):
    assert list(table.columns) == list(COLUMNS)
    assert table["level"].value_counts().to_dict() == {
        "matrix": 14, "module": 7, "layer": 2, "rest": 1, "whole": 1,
    }  # fmt: skip
    matrices = table[table["level"] == "matrix"]
    assert len(set(zip(matrices["layer"], matrices["module"], strict=True))) == 14
    assert set(table[table["level"] == "layer"]["tensors"]) == {7}
    assert set(table[table["level"] == "module"]["tensors"]) == {2}


def kl_of(made, weights, folder):
    """Mean over problems of checkpoints' divergence, as the phase itself reads them."""
    tokens = read(made[2], written(folder, weights), folder.with_suffix(".parquet"), made[1])
    return tokens.groupby("problem_id")["kl"].mean().mean()


@pytest.mark.parametrize("unit", ["matrix", "module", "layer", "rest", "whole"])
def test_a_part_is_what_a_checkpoint_with_it_would_be(made, weights, table, unit, tmp_path):
    base, moved = weights
    names = {
        "matrix": [ONE],
        "module": [n for n in base if "up_proj" in n],
        "layer": [n for n in projections() if ".layers.1." in n],
        "rest": [n for n in base if n not in projections()],
        "whole": list(base),
    }[unit]
    at = table["level"] == unit
    if unit in ("matrix", "layer"):
        at &= table["layer"] == 1
    if unit in ("matrix", "module"):
        at &= table["module"] == "up_proj"
    (row,) = table[at].to_dict("records")
    without = kl_of(made, moved | {name: base[name] for name in names}, tmp_path / "without")
    alone = kl_of(made, base | {name: moved[name] for name in names}, tmp_path / "alone")
    assert row["kl_without"] == pytest.approx(without, rel=1e-3, abs=1e-9)
    assert row["kl_with"] == pytest.approx(alone, rel=1e-3, abs=1e-9)


def test_a_change_of_one_matrix_is_found_there_and_nowhere_else(weights, tmp_path):
    """Exactly additive: the parts' sum is the whole."""
    base, moved = weights
    pair = prepared(tmp_path, base, base | {ONE: moved[ONE]})
    table = located(*pair, tmp_path / "locate.csv").set_index(["level", "layer", "module"])
    whole = table.loc["whole"].iloc[0]
    assert whole["kl_without"] > 1e-6
    assert whole["recovered_with"] == 1
    matrices = table.loc["matrix"]
    hit = matrices.loc[(1, "up_proj")]
    assert hit["kl_without"] == whole["kl_without"]
    assert (hit["kl_with"], hit["recovered_with"]) == (0, 1)
    others = matrices.drop((1, "up_proj"))
    assert (others["kl_without"] == 0).all()
    assert (others["recovered_with"] == 0).all()
    assert matrices["kl_without"].sum() == whole["kl_without"]
    assert table.loc["rest"].iloc[0]["kl_without"] == 0


def test_no_checkpoint_is_written(made, table, tmp_path):
    located(*made, tmp_path / "locate.csv")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_job_that_was_stopped_goes_on(made, table, tmp_path, monkeypatch):
    calls, real = [], module.by_problem

    def stopped(*given):
        if len(calls) == 20:
            raise KeyboardInterrupt
        calls.append(given)
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, "by_problem", stopped)
        with pytest.raises(KeyboardInterrupt):
            located(*made, tmp_path / "locate.csv")
    assert not (tmp_path / "locate.csv").exists()
    counted = []
    monkeypatch.setattr(module, "by_problem", lambda *given: counted.append(1) or real(*given))
    again = located(*made, tmp_path / "locate.csv")
    pandas.testing.assert_frame_equal(again, table)
    assert len(counted) == 2 * 25 - 20


def test_fewer_completions_and_tokens_can_be_read(made, tmp_path):
    table = located(*made, tmp_path / "locate.csv", samples=1, tokens=2)
    assert set(table["n_tokens"]) == {6}
    assert set(table["n_problems"]) == {3}


def test_another_derivative_is_refused(made, tmp_path):
    base, _, reference = made
    with pytest.raises(InputError, match="is of another derivative"):
        located(base, base, reference, tmp_path / "locate.csv")
