"""What planning sees of checkpoints, before anything that was made is removed."""

import json

import pytest

from lowrank.errors import InputError
from lowrank.models.planned import check_lengths
from lowrank.places import locate
from lowrank.plan.configuration import load


def test_no_local_model_is_asked_for_more_positions_than_it_has():
    experiment = load({"experiment": "mini"})
    check_lengths(experiment)
    path = locate(experiment.models["sft"]["path"]) / "config.json"
    positions = json.loads(path.read_text())["max_position_embeddings"]
    experiment.sampling["max_model_len"] = positions
    check_lengths(experiment)
    experiment.sampling["max_model_len"] = positions + 1
    with pytest.raises(InputError, match=f"models.sft was made for {positions} positions"):
        check_lengths(experiment)
    experiment.sampling["max_model_len"] = 9999
    said = r"experiments/mini.yaml: sampling.max_model_len is 9999, but models.sft was made for \d+"
    with pytest.raises(InputError, match=said):
        check_lengths(experiment)
