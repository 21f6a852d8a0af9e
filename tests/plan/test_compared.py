"""What is compared with what: every variant with base and derivative, on benchmarks and pools."""

import shlex

from lowrank.plan.compared import (
    compared,
    compared_flags,
    compared_grades,
    compared_models,
    comparisons,
)
from lowrank.plan.configuration import load


def post():
    return load({"experiment": "deepscaler-2026", "ranks": [4], "other": ["copy"]})


def test_benchmarks_are_compared_alone_and_in_their_pools():
    experiment = post()
    on = compared(experiment)
    assert {name: on[name] for name in experiment.benchmarks} == {
        name: [name] for name in experiment.benchmarks
    }
    pools = experiment.subject["pools"]
    assert pools
    assert {name: on[name] for name in pools} == {n: p["benchmarks"] for n, p in pools.items()}


def test_every_variant_the_derivative_and_the_base_take_part():
    experiment = post()
    assert compared_models(experiment) == [*experiment.variants, "deepscaler", "distill"]


def test_the_flags_give_each_model_its_own_grades_of_each_benchmark():
    experiment = post()
    layout = experiment.layout
    for name, benchmarks in compared(experiment).items():
        grades = compared_grades(experiment, name)
        words = shlex.split(compared_flags(experiment, name, grades))
        expected = []
        for benchmark in benchmarks:
            models = compared_models(experiment)
            expected += ["--benchmark", benchmark]
            expected += [f"{model}={layout.grades(benchmark, model)}" for model in models]
        assert words == expected


def test_each_comparison_is_a_table_and_its_record():
    experiment = post()
    names = {path.name for path in comparisons(experiment)}
    assert names == {f"{name}.{kind}" for name in compared(experiment) for kind in ("csv", "json")}
