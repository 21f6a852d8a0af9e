"""What planning sees of checkpoints, before anything that was made is removed."""

import pytest

from lowrank.errors import InputError
from lowrank.models.planned import check_lengths
from lowrank.plan.configuration import load


def test_no_local_model_is_asked_for_more_positions_than_it_has():
    experiment = load({"experiment": "mini"})
    check_lengths(experiment)
    experiment.sampling["max_model_len"] = 9999
    said = r"experiments/mini.yaml: sampling.max_model_len is 9999, but models.sft was made for \d+"
    with pytest.raises(InputError, match=said):
        check_lengths(experiment)
