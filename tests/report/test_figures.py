"""Figures: what they draw is what the table says, and the bytes do not change."""

import re

import numpy as np
import pandas as pd
import pytest

from lowrank.report import figure_style, figures
from lowrank.report.outputs import PICTURES


def spectrum_of(sizes: dict[str, int], layers: int = 2, decay: float = 5.0) -> pd.DataFrame:
    """Exponentially falling spectra, sigma_i = exp(-i / decay) * (layer + 1)."""
    rows = [
        {
            "tensor": f"model.layers.{layer}.self_attn.{module}.weight",
            "layer": layer,
            "module": module,
            "index": i,
            "sigma": (layer + 1) * np.exp(-i / decay),
            "energy_kept_gaussian": (i + 1) / size,
        }
        for layer in range(layers)
        for module, size in sizes.items()
        for i in range(size)
    ]
    return pd.DataFrame(rows)


SIZES = {"q_proj": 24, "k_proj": 8, "down_proj": 24}


@pytest.mark.parametrize("size", [1, 2, 159, 160, 161, 1536, 8960])
def test_thinned_positions_increase_and_keep_both_ends(size):
    at = figures.thinned(size)
    assert at[0] == 0
    assert at[-1] == size - 1
    assert (np.diff(at) > 0).all()
    assert len(at) <= min(size, figures.DRAWN)


def test_kept_energy_is_one_at_full_rank_and_never_falls():
    kept = figures.kept_energy(spectrum_of(SIZES))
    for _, rows in kept.groupby("tensor"):
        assert rows["energy"].is_monotonic_increasing
        assert rows["energy"].iloc[-1] == pytest.approx(1)


def test_kept_energy_of_equal_values_is_the_share_of_directions():
    flat = spectrum_of({"q_proj": 32}, layers=1).assign(sigma=3.0)
    kept = figures.kept_energy(flat)
    assert np.allclose(kept["energy"], kept["rank"] / 32)


def test_noise_is_drawn_from_its_own_column():
    kept = figures.kept_energy(spectrum_of({"q_proj": 32}, layers=1), "energy_kept_gaussian")
    assert np.allclose(kept["energy"], kept["rank"] / 32)


def test_spectra_draws_a_line_a_matrix_normalised_left_and_raw_right():
    table = spectrum_of(SIZES)
    shuffled = table.sample(frac=1, random_state=0)
    left, right = figures.spectra(shuffled).axes
    drawn = [line for line in right.lines if len(line.get_xdata())]
    assert len(drawn) == table["tensor"].nunique()
    assert max(line.get_ydata()[0] for line in drawn) == pytest.approx(2.0)
    assert all(
        line.get_ydata()[0] == 1 for line in left.lines if len(line.get_xdata())
    )  # sigma_1 / sigma_1


def test_an_unchanged_matrix_is_drawn_raw_and_left_out_normalised():
    table = spectrum_of({"q_proj": 4, "k_proj": 4}, layers=1)
    table.loc[table["module"] == "k_proj", "sigma"] = 0.0
    left, right = figures.spectra(table).axes
    assert sum(bool(len(line.get_xdata())) for line in left.lines) == 1
    assert sum(bool(len(line.get_xdata())) for line in right.lines) == 2
    assert set(figures.kept_energy(table)["tensor"]) == {"model.layers.0.self_attn.q_proj.weight"}


def test_a_delta_of_nothing_can_be_drawn(tmp_path):
    table = spectrum_of({"q_proj": 4}).assign(sigma=0.0)
    for number, figure in enumerate(
        [
            figures.spectra(table),
            figures.spectra_by_module(table),
            figures.energy({"rl": table}, [2]),
        ]
    ):
        figure_style.save(figure, tmp_path / str(number))


def test_modules_have_a_panel_each_and_layers_a_line():
    figure = figures.spectra_by_module(spectrum_of(SIZES, layers=3))
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert {"q_proj", "k_proj", "down_proj"} <= set(panels)
    assert all(len(panels[module].lines) == 3 for module in SIZES)


def points() -> tuple[pd.DataFrame, pd.DataFrame]:
    drawn = pd.DataFrame(
        [
            {"measure": "Maj@8", "rank": r, "other": o, "value": v, "low": v - 0.1, "high": v + 0.1}
            for r, o, v in [(16, "copy", 0.5), (64, "copy", 0.6), (16, "keep", 0.4)]
        ]
    )
    level = pd.DataFrame(
        [
            {"measure": "Maj@8", "label": "base", "value": 0.3, "low": np.nan, "high": np.nan},
            {"measure": "Maj@8", "label": "derivative", "value": 0.55, "low": 0.4, "high": 0.7},
        ]
    )
    return drawn, level


def test_accuracy_by_rank_names_what_it_draws():
    figure = figures.accuracy_by_rank(*points(), ["Maj@8"])
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["copy"].get_ydata()) == [0.5, 0.6]
    assert list(lines["keep"].get_ydata()) == [0.4]
    assert {"base", "derivative"} <= set(lines)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["16", "64"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.spectra(spectrum_of(SIZES)),
        lambda: figures.energy({"rl": spectrum_of(SIZES)}, [2, 8]),
        lambda: figures.accuracy_by_rank(*points(), ["Maj@8"]),
    ],
    ids=["spectra", "energy", "accuracy"],
)
def test_two_runs_give_the_same_bytes_without_dates(draw, tmp_path):
    for name in ("first", "second"):
        figure_style.save(draw(), tmp_path / name)
    for suffix in (".svg", ".png"):
        first = (tmp_path / f"first{suffix}").read_bytes()
        assert first == (tmp_path / f"second{suffix}").read_bytes()
    text = (tmp_path / "first.svg").read_text()
    assert not re.search(r"<dc:date>|\b20\d\d-\d\d-\d\d\b", text)


def summary_of(layers: int = 3) -> pd.DataFrame:
    """Statistics of three matrices a layer that differ in every row."""
    rows = [
        {
            "layer": layer,
            "module": module,
            **dict.fromkeys(figures.LAYERED, 0.001 * (3 * layer + i)),
        }
        for layer in range(layers)
        for i, module in enumerate(SIZES)
    ]
    return pd.DataFrame(rows)


def test_every_statistic_has_a_panel_and_every_module_a_line():
    summary = summary_of().drop(columns="unchanged_bfloat16").assign(overlap_left_ratio=np.nan)
    figure = figures.by_layer(summary)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == [
        title for name, title in figures.LAYERED.items()
        if name not in ("unchanged_bfloat16", "overlap_left_ratio")
    ]  # fmt: skip
    drawn = [line.get_ydata() for line in panels[1].get_lines()]
    for i in range(len(SIZES)):
        assert any(np.allclose(line, 0.001 * (3 * np.arange(3) + i)) for line in drawn)


def test_a_page_shows_the_ticks_as_they_are(tmp_path):
    """Coordinates are rounded for the page, numbers that a reader sees are not."""
    figure_style.save(figures.by_layer(summary_of()), tmp_path / "layers")
    svg = (tmp_path / "layers.svg").read_text(encoding="utf-8")
    shown = re.findall(r">([^<>]*)</text>", svg)
    assert any(re.fullmatch(r"0\.\d{3}", text) for text in shown)
    assert re.findall(r">([^<>]*)</text>", figure_style.inline(svg, "x")) == shown


@pytest.mark.parametrize("kind", PICTURES, ids=lambda kind: kind.stem)
def test_a_caption_is_plain_text_that_reads_the_same_everywhere(kind):
    """Snakemake's report takes it as reStructuredText and a template, the page as it is."""
    assert kind.caption.endswith(".")
    assert not re.search(r"[*`|{}]|_\b|::", kind.caption)
