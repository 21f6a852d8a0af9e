"""The files of a report, known from the experiment before anything runs."""

from collections.abc import Iterable

PAGE = "report.html"
TABLES = ("results", "metrics", "comparisons", "deltas", "fidelity")


def figures(benchmarks: Iterable[str], deltas: Iterable[str]) -> list[str]:
    """Names of the figures, without suffix, in the order of the page."""
    stems = [f"accuracy-by-rank-{benchmark}" for benchmark in benchmarks]
    for delta in deltas:
        stems += [f"spectrum-{delta}", f"spectrum-modules-{delta}", f"layers-{delta}"]
    return [*stems, "energy", "fidelity"]


def outputs(benchmarks: Iterable[str], deltas: Iterable[str]) -> list[str]:
    """Every file that a report has, relative to its folder.

    >>> outputs(["aime"], [])[:3]
    ['report.html', 'figures/accuracy-by-rank-aime.svg', 'figures/accuracy-by-rank-aime.png']
    """
    return [
        PAGE,
        *(f"figures/{stem}.{suffix}" for stem in figures(benchmarks, deltas)
          for suffix in ("svg", "png")),
        *(f"tables/{table}.csv" for table in TABLES),
    ]  # fmt: skip
