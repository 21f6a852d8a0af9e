"""Where results lie is said once, and can be another folder than results/."""

from pathlib import Path

import pytest

from lowrank.plan.configuration import load
from lowrank.plan.layout import Layout, completions_beside, completions_of, provenances


def test_rules_and_readers_name_the_same_files():
    layout = Layout(Path("results/mini"))
    pattern = layout.delta("{delta}").spectrum
    assert Path(str(pattern).format(delta="rl")) == layout.delta("rl").spectrum
    samples = layout.samples("b", "m", "1-of-2")
    assert completions_beside(samples) == completions_of(Path("results"))
    assert samples.with_suffix(".json") == layout.provenance("b", "m", "1-of-2")


def test_provenances_are_found_below_any_root(tmp_path):
    for experiment in ("one", "two"):
        path = Layout(tmp_path / experiment).provenance("b", "m", "1-of-1")
        path.parent.mkdir(parents=True)
        path.touch()
    assert [path.relative_to(tmp_path).parts[0] for path in provenances(tmp_path)] == ["one", "two"]


@pytest.mark.parametrize("root", ["elsewhere", "/absolute"])
def test_every_path_of_an_experiment_lies_below_its_root(root):
    experiment = load({"experiment": "mini", "results": root})
    paths = [*experiment.evidence(), *experiment.weights("rl", "r16-copy")]
    assert all(path.is_relative_to(Path(root) / "mini") for path in paths)
