"""Figures on a page: scalable, in its colours, apart from each other, whoever draws them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lowrank.report import figure_style

SCRIPTS = Path(figure_style.__file__).parents[2]
TEMPLATE = SCRIPTS.parent / "workflow/report/template.html.j2"
COLOURS = [each for each in vars(figure_style).values() if re.fullmatch("#[0-9a-f]{6}", str(each))]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> str:
    """A saved figure with a clipped line in every colour that figures may have."""
    with figure_style.mpl.rc_context(figure_style.STYLE):
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        for place, colour in enumerate(COLOURS):
            axes.plot([0, 1], [place, place + 0.123456], color=colour, marker="o")
        axes.set_title("0.1234 & <more>")
    stem = tmp_path_factory.mktemp("style") / "lines"
    figure_style.save(figure, stem)
    return stem.with_suffix(".svg").read_text(encoding="utf-8")


def test_a_figure_stands_in_a_page_without_what_a_file_has(drawn):
    """A second declaration, or a style that holds for the whole page, would not do there."""
    assert "<?xml" in drawn
    assert "<style" in drawn
    assert "<metadata" in drawn
    inside = figure_style.inline(drawn, "x")
    assert inside.startswith("<svg ")
    for tag in ("<?xml", "<!DOCTYPE", "<metadata", "<style"):
        assert tag not in inside


def test_a_figure_is_as_wide_as_the_page_lets_it(drawn):
    opening = re.match(r"<svg[^>]*>", figure_style.inline(drawn, "x"))[0]
    assert re.search(r'viewBox="0 0 \S+ \S+"', opening)
    assert not re.search(r'\b(width|height)="', opening)
    assert 'role="img"' in opening


def test_two_figures_on_a_page_share_no_identifier(drawn):
    one, other = (figure_style.inline(drawn, name) for name in ("one", "other"))
    for inside in (one, other):
        names = re.findall(r'\bid="([^"]*)"', inside)
        used = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', inside)
        assert len(names) == len(set(names))
        assert {a or b for a, b in used} <= set(names)
        assert any(b for _, b in used)
    assert not set(re.findall(r'\bid="([^"]*)"', one)) & set(re.findall(r'\bid="([^"]*)"', other))


def test_every_colour_is_the_pages_own_on_light_and_on_dark_paper(drawn):
    inside = figure_style.inline(drawn, "x")
    assert not re.search("#[0-9a-f]{6}", inside)
    template = TEMPLATE.read_text(encoding="utf-8")
    assert set(COLOURS) == set(figure_style.THEME)
    for colour in COLOURS:
        name = figure_style.THEME[colour]
        assert colour in drawn
        assert f"var(--{name})" in inside
        light, _dark = re.findall(rf"--{name}: (#\w+);", template)
        assert light == colour


def test_places_are_rounded_to_a_hundredth_of_a_point_and_words_are_not(drawn):
    inside = figure_style.inline(drawn, "x")
    assert "0.1234 &amp; &lt;more&gt;" in inside
    paths = re.findall(r' d="([^"]*)"', drawn), re.findall(r' d="([^"]*)"', inside)
    places = [
        [float(n) for path in found for n in re.findall(r"-?\d+\.?\d*", path)] for found in paths
    ]
    assert places[1] == pytest.approx(places[0], abs=0.00501)
    assert all(len(n) <= 2 for path in paths[1] for n in re.findall(r"\.(\d+)", path))


def test_a_users_own_matplotlib_settings_change_nothing(tmp_path):
    """What STYLE does not name is matplotlib's default, not that of a matplotlibrc."""
    (tmp_path / "matplotlibrc").write_text("axes.xmargin: 0.3\nbackend: svg\n")
    program = (
        "import matplotlib as mpl, lowrank.report.figure_style\n"
        "print(mpl.rcParams['axes.xmargin'], mpl.get_backend().lower())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=SCRIPTS,
        env=os.environ | {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["0.05", "agg"]
