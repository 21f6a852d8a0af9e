"""Which models are compared with each other, on which benchmarks: what rule compare asks for."""

from collections.abc import Sequence
from pathlib import Path

from lowrank.plan.experiment import Experiment
from lowrank.plan.flags import flags


def compared(experiment: Experiment) -> dict[str, list[str]]:
    """What models are compared on, by name: every benchmark, and every pool of several.

    Nothing where no variant answers.
    """
    if not experiment.accuracy:
        return {}
    pools = experiment.subject.get("pools", {})
    alone = {benchmark: [benchmark] for benchmark in experiment.benchmarks}
    return alone | {name: pool["benchmarks"] for name, pool in pools.items()}


def compared_models(experiment: Experiment) -> list[str]:
    """The models that are compared: the variants that answer, the derivative and the base."""
    answering = [name for name in experiment.variants if name in experiment.sampled]
    return [*answering, experiment.derivative, experiment.base]


def compared_grades(experiment: Experiment, name: str) -> list[Path]:
    """The tables of grades of every model on a benchmark, or on each benchmark of a pool."""
    return [
        experiment.layout.grades(benchmark, model)
        for benchmark in compared(experiment)[name]
        for model in compared_models(experiment)
    ]


def compared_flags(experiment: Experiment, name: str, grades: Sequence[str]) -> str:
    """compare.py's --benchmark, once a benchmark, with the tables of `compared_grades`."""
    paths, models = iter(grades), compared_models(experiment)
    return " ".join(
        flags({"benchmark": [benchmark, *(f"{model}={next(paths)}" for model in models)]})
        for benchmark in compared(experiment)[name]
    )


def comparisons(experiment: Experiment) -> list[Path]:
    """The tables of comparisons, and beside each the record of what it was made from."""
    layout = experiment.layout
    return [
        path
        for name in compared(experiment)
        for path in (layout.comparisons(name), layout.comparisons_record(name))
    ]
