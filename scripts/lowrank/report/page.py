"""The report: one self-contained page, its figures and its tables, from an experiment's results.

The same results give the same bytes: nothing holds a date, and all identifiers are salted alike.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lowrank.claims import claim
from lowrank.files import whole_file
from lowrank.metrics.evaluation import write_numbers
from lowrank.plan.settings import Described
from lowrank.report import (
    adapters,
    consistency,
    deltas,
    divergence_section,
    divergence_words,
    divergences,
    equal_bytes,
    rescaled,
    sentences,
    shares,
    verdicts,
)
from lowrank.report.divergences import Distances
from lowrank.report.equal_bytes import EqualBytes
from lowrank.report.evidence import Evidence, accuracy, gather, read_experiment, stacked
from lowrank.report.outputs import PAGE, PICTURES, outputs, pictures, tables
from lowrank.report.provenance import provenance
from lowrank.report.results import (
    anchors_table,
    fidelity_frame,
    fidelity_table,
    results_frame,
    results_table,
)
from lowrank.report.traces import traces

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is read of the results; the report may lie beside these, and in none of them.
PHASES = (
    "models", "delta", "adapters", "variants", "samples", "grades", "divergence", "metrics",
    "comparisons",
)  # fmt: skip
TEMPLATE = Path(__file__).parents[3] / "workflow/report/template.html.j2"


def build(experiment_file: str | Path, results: str | Path, output: str | Path) -> Path:
    """Write the report of an experiment below `output`; returns the page's path.

    experiment_file: the resolved experiment, JSON. results: the folder of the phases' results.
    The page is written last, when everything it shows is there.
    Raises InputError for a missing or unfit file, naming it.
    """
    output = Path(output)
    experiment = read_experiment(experiment_file)
    inputs = [experiment_file, *(Path(results) / phase for phase in PHASES)]
    names: dict[Path, list[str]] = {}
    asked = _asked(experiment)
    made = outputs(experiment["benchmarks"], experiment["deltas"], asked)
    for path in map(output.joinpath, made):
        names.setdefault(path.parent, []).append(path.name)
    for folder in names:
        claim(folder, inputs, names[folder])
    found = gather(experiment, Path(results))
    consistency.check(found)
    distances = divergences.gather(found)
    frames = _frames(found)
    for name in tables(asked):
        write_numbers(output / f"tables/{name}.csv", frames[name])
    drawn = _draw(found, frames, output / "figures")
    equal = equal_bytes.gather(found, distances, frames["results"])
    added = divergence_section.figures(found, distances, equal, frames["results"])
    drawn |= _saved(added, output / "figures")
    page = render(_content(found, distances, equal, frames, drawn))
    path = output / PAGE
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(content: dict[str, Any]) -> str:
    """The page; every text is escaped, figures alone are taken as markup."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["typeset"] = lambda text: text.replace(
        "'", "\N{RIGHT SINGLE QUOTATION MARK}"
    )
    return environment.get_template(TEMPLATE.name).render(content)


def _frames(found: Evidence) -> dict[str, pd.DataFrame]:
    """The report's tables by name, as they are written below tables/."""
    benchmarks = found.experiment["benchmarks"]
    results = [results_frame(found, benchmark) for benchmark in benchmarks if found.accuracy]
    return {
        "results": stacked(results, ("benchmark", "model", "mean")),
        "metrics": found.metrics,
        "comparisons": found.comparisons,
        "deltas": deltas.deltas_frame(found),
        "fidelity": fidelity_frame(found),
    }


def _asked(experiment: Described) -> list[str]:
    """The parts of the report that the experiment asks for; see outputs.py."""
    read = [key for key in ("divergence", "locate", "descriptions") if experiment[key]]
    return ["accuracy"] * accuracy(experiment) + read


def _draw(found: Evidence, frames: dict[str, pd.DataFrame], folder: Path) -> dict[str, str]:
    """Draw and save the figures but those of divergences; returns name -> SVG for the page."""
    experiment = found.experiment
    wanted = pictures(experiment["benchmarks"], experiment["deltas"], _asked(experiment))
    made = {
        kind.name(subject): kind.draw(found, frames, subject)
        for kind, subject in wanted
        if kind.draw is not None
    }
    return _saved(made, folder)


def _saved(made: "dict[str, Figure]", folder: Path) -> dict[str, str]:
    """Save figures by name; returns name -> SVG for the page."""
    if not made:
        return {}
    # matplotlib takes seconds to import; whoever only asks for `outputs` has no need of it.
    from lowrank.report import figure_style

    inline = {}
    for name, figure in made.items():
        figure_style.save(figure, folder / name)
        svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
        inline[name] = figure_style.inline(svg, name)
    return inline


def _content(
    found: Evidence,
    distances: dict[str, Distances],
    equal: EqualBytes | None,
    frames: dict[str, pd.DataFrame],
    drawn: dict[str, str],
) -> dict[str, Any]:
    """What the template shows."""
    from markupsafe import Markup

    kinds = {kind.stem: kind for kind in PICTURES}

    placed = set()

    def figure(stem: str, subject: str = "") -> dict[str, Any] | None:
        """A figure, at the first place that asks for it; None at others."""
        name = kinds[stem].name(subject)
        if name in placed:
            return None
        placed.add(name)
        svg = drawn[name]
        return {"svg": Markup(svg), "caption": kinds[stem].caption}  # ours, not a model's text

    experiment = found.experiment
    results = frames["results"]
    # The answer as a picture comes before everything else.
    by_rank = "divergence" if distances else "accuracy-by-rank"
    first = figure(by_rank, next(iter(experiment["benchmarks"])))
    benchmarks = [
        {
            "label": sentences.benchmark_label(found, name),
            "results": results_table(found, results[results["benchmark"] == name]),
            "note": sentences.results_note(found, name),
            "anchors": anchors_table(found, name),
            "figure": figure("accuracy-by-rank", name),
        }
        for name in (experiment["benchmarks"] if found.accuracy else ())
    ]
    shown = [
        {
            "label": found.delta_label(delta),
            "spectrum": figure("spectrum", delta),
            "by_module": figure("spectrum-modules", delta),
            "by_layer": figure("layers", delta),
            "modules": deltas.grouped_table(found, delta, frames["deltas"], "module"),
            "layers": deltas.grouped_table(found, delta, frames["deltas"], "layer"),
            "matrices": deltas.matrices_table(found, delta, frames["deltas"]),
        }
        for delta in experiment["deltas"]
    ]
    content = {
        "first": first,
        "ran": sentences.ran(found),
        "name": experiment["name"],
        "title": experiment["title"],
        "asked": sentences.asked(found),
        "warnings": sentences.warnings(found),
        "answer": [
            *sentences.answer(found, frames),
            *(
                sentence
                for name in experiment["benchmarks"]
                for sentence in rescaled.sentences(
                    found, frames["comparisons"], name, distances.get(name)
                )
            ),
            *(divergence_words.first_screen(found, name, one) for name, one in distances.items()),
            *(equal_bytes.first_screen(found, equal) if equal else []),
        ],
        "benchmarks": benchmarks,
        "uncertainty": sentences.uncertainty(found, frames) if found.accuracy else [],
        "verdicts": verdicts.shown(found, frames["comparisons"]) if found.accuracy else [],
        "divergence": divergence_section.content(found, distances, equal, results, figure),
        "changed": sentences.changed(found, frames["deltas"]),
        "shares": shares.shares_table(found),
        "adapters": adapters.content(found),
        "deltas": shown,
        "energy": figure("energy"),
        "served": sentences.served(found),
        "fidelity": {
            "table": fidelity_table(found, frames),
            "figure": figure("fidelity"),
        },
        "traces": traces(found) if found.accuracy else None,
        "provenance": provenance(found),
    }
    # A figure that has no place of its own yet is shown with others of its kind, after the rest.
    wanted = pictures(experiment["benchmarks"], experiment["deltas"], _asked(experiment))
    others = [(k.stem, subject) for k, subject in wanted if k.name(subject) not in placed]
    return content | {"others": [figure(*other) for other in others]}
