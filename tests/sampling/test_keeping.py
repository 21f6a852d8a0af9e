"""What the store holds, told from what experiments ask for; and nothing goes by itself."""

import shutil
import subprocess
import sys

import pytest
from sampling_case import SCRIPTS, make_folder, run
from test_turns import hold

from lowrank.sampling import engine, keeping


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Two experiments' tables on one store: parts of one pool, and a setting of its own."""
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "1"})
    make_folder(tmp_path)
    store = ("--store", str(tmp_path / "results/completions"))
    for part in ("1", "2"):
        cut = ("--parts", "2", "--part", part, "--samples", "6")
        run(tmp_path, f"results/a/samples/b/m/{part}-of-2.parquet", *store, *cut)
    run(tmp_path, "results/b/samples/b/m/1-of-1.parquet", *store, "--samples", "2")
    warm = ("--temperature", "0.9")
    run(tmp_path, "results/b/samples/b/warm/1-of-1.parquet", *store, *warm)
    return tmp_path / "results"


def listed(results):
    return keeping.settings(results / "completions", results)


def test_the_list_says_what_is_kept_and_who_asks(results):
    first, second = sorted(listed(results), key=lambda setting: setting.completions)
    assert (first.completions, first.asked_by, first.unasked) == (12, ("b",), 0)
    assert (second.completions, second.asked_by, second.unasked) == (18, ("a", "b"), 0)
    assert {first.twice, second.twice} == {0}
    assert first.versions == ("vllm 1",)
    shutil.rmtree(results / "a")
    again = next(setting for setting in listed(results) if setting.completions == 18)
    assert (again.asked_by, again.unasked) == (("b",), 12)


def test_what_was_made_twice_counts_once(results, tmp_path):
    before = {setting.folder: setting for setting in listed(results)}
    store = ("--store", str(results / "completions"), "--resample", "always")
    run(tmp_path, "results/b/samples/b/m/1-of-1.parquet", *store, "--samples", "2")
    for setting in listed(results):
        first = before[setting.folder]
        assert (setting.completions, setting.tokens) == (first.completions, first.tokens)
    assert sorted(setting.twice for setting in listed(results)) == [0, 6]


def test_what_a_table_asks_for_never_goes(results):
    """Whoever calls, and whatever else does."""
    shutil.rmtree(results / "b/samples/b/warm")
    (gone,) = keeping.prune(listed(results))
    assert gone.asked_by == ()
    (left,) = listed(results)
    assert left.asked_by == ("a", "b")
    assert left.folder.is_dir()
    assert not gone.folder.exists()


def completions(results, *words):
    command = [sys.executable, SCRIPTS / "completions.py", *words, "--results", results]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_only_what_no_table_asks_for_goes_and_only_when_told(results):
    shutil.rmtree(results / "b/samples/b/warm")
    assert "12 completions" in completions(results, "prune")
    assert len(list((results / "completions").iterdir())) == 2
    assert "removed: 1 of 1" in completions(results, "prune", "--yes")
    (left,) = (results / "completions").iterdir()
    assert len(list(left.glob("*.jsonl.gz"))) == 2
    assert "asked for by a, b" in completions(results, "list")


def test_what_is_being_sampled_does_not_go(results):
    shutil.rmtree(results / "a")
    shutil.rmtree(results / "b")
    folder = next(setting.folder for setting in listed(results))
    with hold(folder, "1") as other:
        assert "removed: 1 of 2" in completions(results, "prune", "--yes")
        assert folder.is_dir()
        other.kill()
    assert "removed: 1 of 1" in completions(results, "prune", "--yes")
