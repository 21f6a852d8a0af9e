"""The working directory comes before what ships with the workflow."""

import pytest

from lowrank.errors import InputError
from lowrank.places import ROOT, locate, shipped


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory and a workflow's folder, both with a file that the other lacks."""
    for folder, names in (("here", "ab"), ("root", "bc")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_what_is_in_both_is_the_users(here):
    found = {name: locate(name, here / "root").resolve().parent.name for name in "abc"}
    assert found == {"a": "here", "b": "here", "c": "root"}


def test_an_absolute_path_is_what_it_says(here):
    assert locate(here / "root/b", here / "root") == here / "root/b"
    with pytest.raises(InputError, match=r"root/a: no such file or folder$"):
        locate(here / "root/a", here / "root")


def test_what_is_nowhere_is_refused_with_the_places_that_were_searched(here):
    with pytest.raises(InputError) as error:
        locate("d", here / "root")
    assert str(here / "here") in str(error.value)
    assert str(here / "root") in str(error.value)
    with pytest.raises(InputError) as error:  # where both are one, it is named once
        locate("d", here / "here")
    assert str(error.value).count(str(here / "here")) == 1


def test_programs_are_those_beside_the_snakefile(here):
    assert shipped("scripts/report.py")(None, None) == str(ROOT / "scripts/report.py")
