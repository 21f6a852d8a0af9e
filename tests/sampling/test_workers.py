"""What an engine's worker imports: the load formats of every dtype that a model is served in."""

import importlib
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml

from lowrank.sampling import casting

SCHEMA = Path(__file__).parents[2] / "workflow/schemas/config.schema.yaml"
WORKERS = "lowrank.sampling.workers"  # as the engine names it


@pytest.fixture
def imported():
    """The module, imported anew, and the dtypes whose formats it registered."""
    with mock.patch.dict(sys.modules), mock.patch.object(casting, "load_format") as registered:
        sys.modules.pop(WORKERS, None)
        workers = importlib.import_module(WORKERS)
    return workers, [call.args[0] for call in registered.call_args_list]


def test_a_worker_knows_the_format_of_every_dtype_that_can_be_asked_for(imported):
    asked = yaml.safe_load(SCHEMA.read_text())["properties"]["serve_dtype"]["items"]["enum"]
    assert imported[1] == asked


def test_a_workers_extension_has_nothing_of_its_own(imported):
    """vLLM makes it a parent of its worker, and refuses one that has what the worker has."""
    extension = imported[0].Extension
    assert extension.__mro__ == (extension, object)
    assert [name for name in vars(extension) if not name.startswith("__")] == []
