"""Figures of divergences: they draw the numbers that they are given, and say what these are."""

import numpy as np
import pandas as pd
import pytest

from lowrank.report import located
from lowrank.report.bytes_figure import by_bytes
from lowrank.report.divergence_figures import along, by_rank
from lowrank.report.figure_style import INK


def panels(figure) -> dict:
    """Its panels by title; those with nothing but a scale of colours have none."""
    return {axes.get_title("left"): axes for axes in figure.axes if axes.get_title("left")}


def line(axes, label: str) -> tuple[list[float], list[float]]:
    """x and y of the one line of that name."""
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return [float(x) for x in found.get_xdata()], [float(y) for y in found.get_ydata()]


def bars(axes) -> set[tuple[float, float, float]]:
    """(x, lower end, upper end) of every vertical bar."""
    segments = [each for bar in axes.collections for each in bar.get_segments()]
    return {
        tuple(round(float(n), 9) for n in (x, *sorted((one, other))))
        for (x, one), (_, other) in segments
    }


def ticks(axes) -> dict[str, float]:
    return {
        text.get_text(): at
        for text, at in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    }


def points(*rows, **place) -> pd.DataFrame:
    """Rows of (measure, value, low, high), with what else stands in each."""
    named = pd.DataFrame(rows, columns=["measure", "value", "low", "high"])
    return named.assign(**place)


def of_ranks() -> pd.DataFrame:
    """Two ways with ranks 8 and 2 in no order: all numbers differ."""
    rows = [
        points(
            ("kl", 0.01 * n, 0.009 * n, 0.012 * n),
            ("recovered", 1 - 0.01 * n, 1 - 0.03 * n, 1 - 0.005 * n),
            ("accuracy", 0.1 * n, 0.1 * n - 0.05, 0.1 * n + 0.02),
            rank=rank,
            other=other,
        )
        for n, (rank, other) in enumerate(
            ((8, "keep"), (2, "copy"), (2, "keep"), (8, "copy")), start=1
        )
    ]
    return pd.concat(rows, ignore_index=True)


LEVELS = pd.DataFrame(
    [("kl", "base", 0.4), ("accuracy", "base", 0.3), ("accuracy", "derivative", 0.6)],
    columns=["measure", "label", "value"],
)


def test_points_stand_at_their_ranks_in_the_panel_of_their_measure():
    figure = by_rank(of_ranks(), LEVELS)
    shown = panels(figure)
    assert list(shown) == ["KL a token, nats", "Share of the way", "Mean accuracy"]
    drawn = [(line(axes, "copy"), line(axes, "keep")) for axes in shown.values()]
    left = ([2, 8], [0.02, 0.04]), ([2, 8], [0.03, 0.01])  # the way that is left as far as the KL
    wanted = left, left, (([2, 8], [0.2, 0.4]), ([2, 8], [0.3, 0.1]))
    for found, expected in zip(drawn, wanted, strict=True):
        assert np.allclose(found, expected)
    kl, way, accuracy = shown.values()
    assert bars(kl) == {(8, 0.009, 0.012), (2, 0.018, 0.024), (2, 0.027, 0.036), (8, 0.036, 0.048)}
    assert bars(way) == {(8, 0.005, 0.03), (2, 0.01, 0.06), (2, 0.015, 0.09), (8, 0.02, 0.12)}
    assert bars(accuracy) == {(8, 0.05, 0.12), (2, 0.15, 0.22), (2, 0.25, 0.32), (8, 0.35, 0.42)}
    assert [axes.get_yscale() for axes in shown.values()] == ["log", "log", "linear"]
    assert all(axes.get_xscale() == "log" for axes in shown.values())
    assert [text.get_text() for text in kl.get_xticklabels()] == ["2", "8"]


def test_level_lines_stand_where_they_are_of_and_in_the_legend():
    figure = by_rank(of_ranks(), LEVELS)
    kl, way, accuracy = panels(figure).values()
    assert line(kl, "base")[1] == [0.4, 0.4]
    assert (line(accuracy, "base")[1][0], line(accuracy, "derivative")[1][0]) == (0.3, 0.6)
    assert {each.get_label() for each in way.lines} == {"copy", "keep"}
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert sorted(named) == ["base", "copy", "derivative", "keep"]


def test_what_is_not_measured_has_no_panel():
    some = of_ranks()
    figure = by_rank(some[some["measure"] != "accuracy"], LEVELS[LEVELS["measure"] == "kl"])
    assert list(panels(figure)) == ["KL a token, nats", "Share of the way"]


@pytest.mark.parametrize("best", [0.8, 0.985, 0.9996])
def test_ticks_of_the_share_say_what_is_gone_and_go_as_far_as_the_best(best):
    """More of the way is higher; the next tick beyond the best is there, and none far from it."""
    some = pd.concat(
        [points(("recovered", share, np.nan, np.nan), rank=rank, other="copy")
         for rank, share in ((2, 0.3), (8, best))]
    )  # fmt: skip
    (axes,) = panels(by_rank_of_one(some)).values()
    shown = ticks(axes)
    for text, at in shown.items():
        assert float(text.removesuffix("%")) / 100 == pytest.approx(1 - at)
    assert shown["50%"] > min(shown.values())
    assert (1 - best) / 10 <= min(shown.values()) <= 1 - best
    bottom, top = axes.get_ylim()
    assert bottom > top


def by_rank_of_one(some: pd.DataFrame):
    """by_rank needs two panels; the KL's is taken away."""
    figure = by_rank(pd.concat([some, some.assign(measure="kl")]), LEVELS[:0])
    figure.delaxes(panels(figure)["KL a token, nats"])
    return figure


def test_positions_are_counted_from_one_and_nothing_is_drawn_of_zero():
    rows = [
        ("Base", 0, "", 0, 0.4), ("Base", 0, "", 1, 0.0), ("Base", 0, "", 2, 0.2),
        ("two", 2, "copy", 0, 0.04), ("two kept", 2, "keep", 0, 0.05),
        ("eight", 8, "copy", 0, 0.01),
    ]  # fmt: skip
    figure = along(pd.DataFrame(rows, columns=["label", "rank", "other", "at", "value"]))
    (axes,) = figure.axes
    x, y = line(axes, "Base")
    assert x == [1, 2, 3]
    assert y == pytest.approx([0.4, np.nan, 0.2], nan_ok=True)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    colours = {each.get_label(): each.get_color() for each in axes.lines}
    dashes = {each.get_label(): each.get_linestyle() for each in axes.lines}
    # A colour a rank, a dash a way.
    assert colours["Base"] == INK
    assert colours["two"] == colours["two kept"]
    assert len({INK, colours["two"], colours["eight"]}) == 3
    assert dashes["two"] == dashes["eight"] != dashes["two kept"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Base", "two", "two kept", "eight"]


def of_bytes(*names: str) -> pd.DataFrame:
    """Two sizes a description, the larger one first."""
    return pd.concat(
        [
            points(
                ("kl", 0.01 * n / size, 0.008 * n / size, 0.02 * n / size),
                ("recovered", 1 - 0.02 * n / size, 1 - 0.03 * n / size, 1 - 0.01 * n / size),
                description=name,
                bytes=1000 * n * size,
            )
            for n, name in enumerate(names, start=1)
            for size in (4, 1)
        ],
        ignore_index=True,
    )


def test_descriptions_stand_at_their_bytes():
    figure = by_bytes(of_bytes("low rank", "sparse"), {"kl": "KL", "recovered": "Share"})
    shown = panels(figure)
    assert list(shown) == ["KL", "Share"]
    assert np.allclose(line(shown["KL"], "low rank"), ([1000, 4000], [0.01, 0.0025]))
    assert np.allclose(line(shown["KL"], "sparse"), ([2000, 8000], [0.02, 0.005]))
    assert np.allclose(line(shown["Share"], "sparse"), ([2000, 8000], [0.04, 0.01]))
    assert bars(shown["KL"]) == {
        (1000, 0.008, 0.02), (4000, 0.002, 0.005), (2000, 0.016, 0.04), (8000, 0.004, 0.01),
    }  # fmt: skip
    assert bars(shown["Share"]) == {
        (1000, 0.01, 0.03), (4000, 0.0025, 0.0075), (2000, 0.02, 0.06), (8000, 0.005, 0.015),
    }  # fmt: skip
    for axes in shown.values():
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "99%" in ticks(shown["Share"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["low rank", "sparse"]


def test_a_description_looks_the_same_in_every_panel():
    """Also where it stands in one panel alone; and there may be more of them than colours."""
    names = [f"number {n}" for n in range(9)]
    some = of_bytes(*names)
    only = (some["description"] == "number 0") & (some["measure"] == "recovered")
    figure = by_bytes(some[~only], {"kl": "KL", "recovered": "Share"})
    one, other = (
        {each.get_label(): (each.get_color(), each.get_marker()) for each in axes.lines}
        for axes in panels(figure).values()
    )
    assert set(one) == set(names)
    assert one == {"number 0": one["number 0"]} | other


def test_nothing_missed_can_be_drawn_against_bytes():
    some = of_bytes("low rank").assign(value=0.0, low=np.nan, high=np.nan)
    (axes,) = panels(by_bytes(some, {"kl": "KL"})).values()
    assert axes.get_yscale() == "linear"


def test_the_map_of_the_change_has_layers_upward_and_modules_across():
    """In thousandths of a nat; what does harm alone is drawn as nothing."""
    rows = [
        ("matrix", 10, "q_proj", 0.03, 0.5), ("matrix", 2, "q_proj", 0.01, 0.3),
        ("matrix", 2, "up_proj", 0.02, 0.1), ("matrix", 10, "up_proj", 0.04, 0.2),
        ("module", None, "q_proj", 0.3, 0.1), ("rest", None, None, 0.04, 0.38),
        ("whole", None, None, 0.4, 0.0),
    ]  # fmt: skip
    parts = pd.DataFrame(rows, columns=["level", "layer", "module", "kl_without", "kl_with"])
    figure = located.heat(parts.astype({"layer": "Int64"}))
    shown = panels(figure)
    without, alone = shown["Taken out of the derivative"], shown["Put alone into the base"]
    assert np.allclose(without.images[0].get_array(), [[10, 20], [30, 40]])
    assert np.allclose(alone.images[0].get_array(), [[100, 300], [0, 200]])
    for axes in (without, alone):
        assert axes.images[0].origin == "lower"
        assert [text.get_text() for text in axes.get_xticklabels()] == ["q_proj", "up_proj"]
    assert ticks(without) == {"2": 0, "10": 1}
