"""What a summary is made of: each number against the weights that it is to come from."""

import pandas
import pytest
import torch
from conftest import projections

from lowrank.delta.factor import checked_weights, factor_pair, read_sigma
from lowrank.delta.spectra import energy_kept, noise_edge, noise_level, rounding_edge
from lowrank.delta.statistics import shuffled_singular, write_statistics
from lowrank.errors import InputError
from lowrank.models.checkpoint import open_checkpoint


@pytest.fixture(scope="module")
def delta(trio, tmp_path_factory):
    """From an F32 model to a BF16 one, so that it matters which of them was rounded."""
    folder = tmp_path_factory.mktemp("delta")
    factor_pair(trio.derivative, trio.base, folder)
    write_statistics(folder, trio.derivative, trio.base)
    return folder


def test_noise_is_no_less_than_the_derivatives_rounding(trio, delta):
    summary = pandas.read_parquet(delta / "summary.parquet").set_index("tensor")
    base, derivative = open_checkpoint(trio.derivative), open_checkpoint(trio.base)
    for name, shape in projections().items():
        W, V = checked_weights(delta, base, derivative, name)
        sigma, row = read_sigma(delta, name), summary.loc[name]
        rounding = rounding_edge(V, "BF16")
        assert noise_level(sigma, shape, rounding) > noise_level(sigma, shape)
        assert row.noise_level == pytest.approx(noise_level(sigma, shape, rounding))
        assert row.rank_above_noise == (sigma > noise_edge(row.noise_level, shape)).sum()
        assert row.relative_frobenius == pytest.approx(float((V - W).norm() / W.norm()))
        above = row.rank_above_noise
        kept = energy_kept(sigma)[above - 1] if above else 0
        assert row.energy_above_noise == pytest.approx(kept)


@pytest.mark.parametrize("side", ["base", "derivative"])
def test_statistics_are_of_the_weights_that_were_factored(trio, delta, side):
    pair = {"base": trio.derivative, "derivative": trio.base}
    # The other of the two is a model of the same shapes.
    pair[side] = trio.base if side == "base" else trio.derivative
    with pytest.raises(InputError, match=f"another {side} than .*the weight files' hashes differ"):
        write_statistics(delta, pair["base"], pair["derivative"])


def test_the_null_holds_the_same_entries_in_another_order():
    D = torch.zeros(30, 20)
    D[0] = torch.arange(1.0, 21)
    sigma = shuffled_singular(D)
    assert float((sigma**2).sum()) == pytest.approx(float((D**2).sum()))
    assert int((sigma > 1e-3).sum()) > 1  # of one row, twenty entries all over
    assert torch.equal(sigma, shuffled_singular(D))
