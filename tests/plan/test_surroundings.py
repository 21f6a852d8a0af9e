"""Nothing of the user's own settings reaches the rules' programs."""

import os
import sys
from pathlib import Path

import pytest

from lowrank.errors import InputError
from lowrank.plan.surroundings import shield


@pytest.fixture
def python(tmp_path, monkeypatch) -> Path:
    """An interpreter of its own, in an environment that nobody has activated."""
    program = tmp_path / "bin/python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("PATH", "/somewhere")
    return program


def test_the_running_python_is_found_first_and_the_rest_stays(python):
    shield()
    assert os.environ["PATH"].split(os.pathsep) == [str(python.parent), "/somewhere"]


def test_without_a_path_the_systems_own_is_kept(python, monkeypatch):
    monkeypatch.delenv("PATH")
    shield()
    assert os.environ["PATH"] == str(python.parent) + os.pathsep + os.defpath


def test_python_and_drawing_settings_of_the_user_go(python, monkeypatch):
    for name in ("PYTHONPATH", "PYTHONSAFEPATH", "MPLBACKEND", "MY_OWN"):
        monkeypatch.setenv(name, "x")
    shield()
    assert not {"PYTHONPATH", "PYTHONSAFEPATH", "MPLBACKEND"} & set(os.environ)
    assert os.environ["MY_OWN"] == "x"


@pytest.mark.parametrize("deployed", [True, False])
def test_what_is_installed_in_the_home_folder_stays_out_of_conda_environments(python, deployed):
    shield(deployed)
    assert ("PYTHONNOUSERSITE" in os.environ) is deployed


def test_an_environment_without_python_is_refused_before_anything_changes(python):
    python.unlink()
    with pytest.raises(InputError, match="run Snakemake from an environment"):
        shield()
    assert os.environ["PATH"] == "/somewhere"
