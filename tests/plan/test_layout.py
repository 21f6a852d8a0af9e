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


def test_no_two_files_share_a_path():
    layout = Layout(Path("r/e"))
    delta, adapter, variant = layout.delta("d"), layout.adapter("d", "a"), layout.variant("v")
    divergence, model = layout.divergence("b"), layout.model("m")
    every = [
        delta.basis, delta.manifest, delta.ledger, delta.spectrum, delta.summary, delta.statistics,
        adapter.weights, adapter.config, adapter.record,
        *(c for one in (model, variant) for c in (one.config, one.manifest, one.weights("w"))),
        variant.fidelity, layout.problems("b"), layout.samples("b", "m", "1-of-1"),
        layout.provenance("b", "m", "1-of-1"), layout.grades("b", "m"), layout.metrics("b", "m"),
        layout.comparisons("b"), layout.comparisons_record("b"), layout.report, layout.asked("0"),
        layout.log("x"), layout.timing("x"), divergence.reference, divergence.states,
        *divergence.reference_files, divergence.tokens("m"), divergence.record("m"),
        divergence.summary("t"), divergence.located, divergence.located_record,
    ]  # fmt: skip
    assert len(set(every)) == len(every)
    # What Snakemake fills in must be there to tell jobs apart.
    assert layout.metrics("b", "m") != layout.metrics("b", "n") != layout.metrics("c", "n")
    assert divergence.tokens("m") != divergence.tokens("n")
    assert divergence.record("m") != divergence.record("n")
    assert layout.samples("b", "m", "1-of-2") != layout.samples("b", "m", "2-of-2")
    assert layout.adapter("d", "a").folder != layout.adapter("e", "a").folder
