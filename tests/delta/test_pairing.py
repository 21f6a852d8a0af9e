"""What pairs of tensors add up to, against the weights themselves."""

import pandas
import pytest
import torch
from conftest import EMBEDDING, projections
from safetensors.torch import load_file

from lowrank.delta import pairing
from lowrank.delta.factor import FATES
from lowrank.delta.pairing import ledger_rows, pair_tensors, squared_changes
from lowrank.errors import InputError
from lowrank.models.checkpoint import open_checkpoint


def weights(folder) -> dict[str, torch.Tensor]:
    files = (load_file(file) for file in sorted(folder.glob("*.safetensors")))
    return {name: weight.double() for each in files for name, weight in each.items()}


@pytest.fixture
def models(trio):
    return open_checkpoint(trio.base), open_checkpoint(trio.derivative)


@pytest.mark.parametrize("chunk", [1 << 20, 1000])
def test_the_change_of_a_tensor_is_that_of_all_its_pieces(trio, models, monkeypatch, chunk):
    monkeypatch.setattr(pairing, "CHUNK", chunk)
    changes = squared_changes(*models, pair_tensors(*models, ()))
    base, derivative = weights(trio.base), weights(trio.derivative)
    assert set(changes) == set(base)
    for name, change in changes.items():
        exact = float(((derivative[name] - base[name]) ** 2).sum())
        assert change == pytest.approx(exact, rel=1e-4)


def test_every_share_of_the_ledger_is_of_the_whole(models):
    pairs = pair_tensors(*models, ["*q_proj.bias"])
    changes = {pair.name: float(number) for number, pair in enumerate(pairs)}
    ledger = pandas.DataFrame(ledger_rows(*models, pairs, FATES, changes)).set_index("tensor")
    assert ledger.share_of_parameters.sum() == pytest.approx(1)
    assert ledger.share_of_change.sum() == pytest.approx(1)
    largest = pairs[-1].name
    assert ledger.share_of_change[largest] == pytest.approx(
        changes[largest] / sum(changes.values())
    )
    number = models[1].find(EMBEDDING).parameters
    assert ledger.share_of_parameters[EMBEDDING] == number / models[1].parameters
    fates = ledger.fate.to_dict()
    assert {fates[name] for name in projections()} == {"factored"}
    assert {fate for name, fate in fates.items() if name.endswith("q_proj.bias")} == {
        pairing.LEFT_OUT
    }
    assert fates[EMBEDDING] == "copied or kept"


def test_patterns_leave_out_what_they_match_and_all_is_too_much(models):
    pairs = pair_tensors(*models, ["model.layers.1.*"])
    assert {pair.name for pair in pairs if pair.left_out} == {
        name for name in models[0].tensors if name.startswith("model.layers.1.")
    }
    with pytest.raises(InputError, match="leave_out takes them all"):
        pair_tensors(*models, ["*proj.weight"])
