"""Every number about the deltas on the page, worked out once more from their files.

The page is read as a reader does (tests/page_reader.py); what it should say comes from the singular
values, the matrices' statistics and the ledger by plain pandas and numpy.
"""

import math
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from page_reader import agrees, heads, shows, value

DELTAS = {"sft": "Old one → Middle one", "rl": "Middle one → New one"}
RANKS = (2, 8)
# Column of the summary -> its head in the table of all matrices, and the group above that.
MATRIX = {
    "frobenius": ("‖D‖", ""),
    "relative_frobenius": ("‖D‖ / ‖W‖", ""),
    "sigma_1": ("σ₁(D)", ""),
    "sigma_1_ratio": ("σ₁(D) / σ₁(W)", ""),
    "stable_rank": ("stable rank", ""),
    "entropy_rank": ("entropy rank", ""),
    "participation_ratio": ("participation", ""),
    "rank_50": ("50%", "rank for a share of ‖D‖²"),
    "rank_90": ("90%", "rank for a share of ‖D‖²"),
    "rank_99": ("99%", "rank for a share of ‖D‖²"),
    "rank_above_noise": ("noise", "rank above"),
    "optimal_rank": ("optimal", "rank above"),
}
# The same of the tables by module and by layer, whose cells are medians.
MEDIANS = {
    "relative_frobenius": ("‖D‖ / ‖W‖", "median matrix"),
    "sigma_1_ratio": ("σ₁(D) / σ₁(W)", "median matrix"),
    "stable_rank": ("stable rank", "median matrix"),
    "rank_90": ("rank for 90%", "median matrix"),
    "rank_above_noise": ("above noise", "median matrix"),
    "unchanged_bfloat16": ("equal in bf16", "median matrix"),
    "left": ("left", "overlap with W / chance"),
    "right": ("right", "overlap with W / chance"),
}
TIMES = "\N{MULTIPLICATION SIGN}"
KEPT = "share of ‖D‖² kept"


@pytest.fixture(scope="module")
def spectra(uneven) -> dict[str, pd.DataFrame]:
    return {d: pd.read_parquet(uneven.folder / f"delta/{d}/spectrum.parquet") for d in DELTAS}


@pytest.fixture(scope="module")
def summaries(uneven) -> dict[str, pd.DataFrame]:
    """The matrices of each delta, with their overlaps over what unrelated directions have."""
    made = {d: pd.read_parquet(uneven.folder / f"delta/{d}/summary.parquet") for d in DELTAS}
    for table in made.values():
        table["left"] = table["overlap_left"] / (table["aligned_k"] / table["rows"])
        table["right"] = table["overlap_right"] / (table["aligned_k"] / table["columns"])
    return made


@pytest.fixture(scope="module")
def ledgers(uneven) -> dict[str, pd.DataFrame]:
    """The tensors of each delta; kind: what a page counts them as."""
    made = {d: pd.read_parquet(uneven.folder / f"delta/{d}/ledger.parquet") for d in DELTAS}
    for table in made.values():
        table["kind"] = table["role"].replace({"projection": "factored", "bias": "biases"})
        table.loc[table["fate"] == "left out by configuration", "kind"] = "left out"
    return made


def held(spectrum: pd.DataFrame, rank: int) -> float:
    """Share of the squared values that the first `rank` of every matrix hold."""
    top = spectrum.groupby("tensor")["sigma"].apply(lambda s: (s.nlargest(rank) ** 2).sum()).sum()
    return top / (spectrum["sigma"] ** 2).sum()


def held_by_null(spectrum: pd.DataFrame, rank: int, null: str) -> float:
    """The same were every matrix a null of its norm."""
    shares, norms = [], []
    for _, rows in spectrum.groupby("tensor"):
        by_index = rows.set_index("index")[f"energy_kept_{null}"]
        shares.append(by_index[min(rank, len(rows)) - 1])
        norms.append((rows["sigma"] ** 2).sum())
    return float(np.average(shares, weights=norms))


# --- in words ---------------------------------------------------------------------------------


def test_the_first_sentence_of_the_answer(uneven, spectra):
    """The delta in question before the other; noise and shuffling are of the one in question."""
    claim = re.fullmatch(
        r"The top 2 directions of every matrix hold (\S+) of the change (.*), and (\S+) of the"
        r" change (.*), by squared norm; in noise of the same shapes they would hold (\S+), in the"
        r" same entries shuffled (\S+)\.",
        uneven.page.answer()[0],
    )
    assert (claim[2], claim[4]) == (DELTAS["rl"], DELTAS["sft"])
    assert agrees(claim[1], held(spectra["rl"], 2))
    assert agrees(claim[3], held(spectra["sft"], 2))
    assert agrees(claim[5], held_by_null(spectra["rl"], 2, "gaussian"))
    assert agrees(claim[6], held_by_null(spectra["rl"], 2, "shuffled"))


@pytest.mark.parametrize("delta", DELTAS)
def test_what_is_said_of_a_delta(uneven, summaries, delta):
    begin = f"{DELTAS[delta]}: of 6 matrices the median one changed by "
    (said,) = [text for text in uneven.page.said("changed") if text.startswith(begin)]
    table = summaries[delta]
    median = table.median(numeric_only=True)
    percents = [value(each) for each in re.findall(r"[\d.]+%", said.removeprefix(begin))]
    wanted = ["relative_frobenius", "energy_above_noise", "unchanged", "unchanged_bfloat16"]
    percents.remove(0.9)  # of the squared change
    assert percents == pytest.approx([median[name] for name in wanted], abs=0.0051)
    assert agrees(re.search(r"stable rank of ([\d.]+\d)", said)[1], median["stable_rank"])
    within, side = map(int, re.search(r"within (\d+) of (\d+) directions", said).groups())
    assert within == int(median["rank_90"])
    assert side == table[["rows", "columns"]].min(axis=1).median()
    above = re.search(r"; (\d+) directions (?:are stronger than noise|stand above)", said)
    assert int(above[1]) == int(median["rank_above_noise"])
    assert shows(re.search(r"of all is ([\d.]+\d)", said)[1], table["sigma_1"].max())


@pytest.mark.parametrize("delta", DELTAS)
def test_what_was_factored_and_what_was_not(uneven, ledgers, delta):
    """In the table and in a sentence: shares add up to the whole."""
    ledger = ledgers[delta]
    table = uneven.page.tables("changed")[0]
    kinds = ["factored", "biases", "other", "left out"]
    columns = {"parameters": "share_of_parameters", "squared change": "share_of_change"}
    assert heads(table) == [("delta", ""), ("matrices", "")] + [
        (kind, f"share of the {name}") for name in columns for kind in kinds
    ]
    assert list(table.texts.index) == list(DELTAS.values())
    row = table.texts.loc[DELTAS[delta]]
    assert row["", "matrices"] == "6"
    for name, column in columns.items():
        sums = ledger.groupby("kind")[column].sum()
        assert all(agrees(row[f"share of the {name}", kind], sums[kind]) for kind in kinds)
    begin = f"{DELTAS[delta]}: 6 of 7: every matrix of the decoder's 2 layers that leave_out does"
    (said,) = [text for text in uneven.page.said("changed") if text.startswith(begin)]
    sums = ledger.groupby("kind")[list(columns.values())].sum()
    parameters, change = re.search(r"(\S+) of the parameters and (\S+) of the", said).groups()
    assert agrees(parameters, sums.loc["factored", "share_of_parameters"])
    assert agrees(change, sums.loc["factored", "share_of_change"])
    by_what = ledger[ledger["role"] != "projection"].set_index("what")["share_of_change"]
    for what, plural in (("embedding", "embeddings"), ("norm", "norms"), ("bias", "biases")):
        assert agrees(re.search(rf"{plural} \(1, (\S+)\)", said)[1], by_what[what])
    left = re.search(r"Left out by name: 1 tensors \((\S+)\)", said)[1]
    assert agrees(left, sums.loc["left out", "share_of_change"])


def test_a_rank_that_a_matrix_does_not_exceed_is_named(uneven):
    """k_proj has eight rows, so rank 8 is all of it; no other matrix has so few."""
    said = [text for text in uneven.page.said("changed") if text.startswith("Rank")]
    assert said == [
        "Rank 8 is all that 2 matrices (k_proj) have: there the whole delta is kept.",
    ]


# --- in tables --------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("by", ["module", "layer"])
def test_matrices_together(uneven, spectra, summaries, delta, by):
    """Norm and share of all of them, medians of the others."""
    tables = uneven.page.tables("changed", f"{DELTAS[delta]}, by module")
    table, spectrum, summary = tables[by == "layer"], spectra[delta], summaries[delta]
    assert heads(table) == [
        (by, ""), ("shape", ""), ("‖D‖", "together"), ("σ₁", "together"),
        *((f"r = {rank}", KEPT) for rank in RANKS), *MEDIANS.values(),
    ]  # fmt: skip
    groups = ["q_proj", "k_proj", "down_proj"] if by == "module" else [0, 1]
    assert list(table.texts.index) == [*map(str, groups), "all"]
    assert table.kinds == [*[""] * len(groups), "total"]
    for group in [*groups, None]:
        rows = summary if group is None else summary[summary[by] == group]
        values = spectrum[spectrum["tensor"].isin(rows["tensor"])]
        cells = table.texts.loc["all" if group is None else str(group)]
        shapes = set(zip(rows["rows"], rows["columns"], strict=True))
        shape = f" {TIMES} ".join(map(str, min(shapes)))
        if len(shapes) > 1:
            shape = f"{len(rows)} matrices"
        assert cells["", "shape"] == shape
        assert shows(cells["together", "‖D‖"], math.sqrt((values["sigma"] ** 2).sum()))
        assert shows(cells["together", "σ₁"], values["sigma"].max())
        for rank in RANKS:
            assert agrees(cells[KEPT, f"r = {rank}"], held(values, rank)), (group, rank)
        for column, (head, over) in MEDIANS.items():
            assert shows(cells[over, head], rows[column].median()), (group, column)


@pytest.mark.parametrize("delta", DELTAS)
def test_every_matrix(uneven, spectra, summaries, delta):
    table = uneven.page.tables("changed", f"{DELTAS[delta]}, by module")[2]
    kept = [(f"r = {rank}", KEPT) for rank in RANKS]
    assert heads(table) == [("matrix", ""), *MATRIX.values(), *kept]
    assert len(table.texts) == len(summaries[delta])
    for row in summaries[delta].to_dict("records"):
        cells = table.texts.loc[row["tensor"].removeprefix("model.").removesuffix(".weight")]
        for column, (head, over) in MATRIX.items():
            assert shows(cells[over, head], row[column]), (row["tensor"], column)
        spectrum = spectra[delta][spectra[delta]["tensor"] == row["tensor"]]
        for rank in RANKS:
            assert agrees(cells[KEPT, f"r = {rank}"], held(spectrum, rank))


def test_the_table_of_deltas(uneven, spectra, summaries):
    """tables/deltas.csv has each matrix's share and its nulls'."""
    frame = uneven.csv("deltas").set_index(["delta", "tensor"])
    for delta, spectrum in spectra.items():
        for tensor, rows in spectrum.groupby("tensor"):
            line = frame.loc[(delta, tensor)]
            for rank in RANKS:
                assert line[f"energy_r{rank}"] == pytest.approx(held(rows, rank), abs=1e-9)
                for null in ("gaussian", "shuffled"):
                    wanted = held_by_null(rows, rank, null)
                    assert line[f"energy_r{rank}_{null}"] == pytest.approx(wanted, abs=1e-9)
        summary = summaries[delta].set_index("tensor")
        for side in ("left", "right"):
            ratios = frame.loc[delta, f"overlap_{side}_ratio"]
            assert ratios.to_numpy() == pytest.approx(summary.loc[ratios.index, side], abs=1e-9)


# --- in figures -------------------------------------------------------------------------------


def figure_of(uneven, section: str, heading: str, place: int, caption: str):
    """The figure that stands there, whose caption begins so."""
    number, says = uneven.page.figures(section, heading)[place]
    assert says.startswith(caption), says
    return uneven.drawn[number]


def lines_of(axes) -> list[np.ndarray]:
    """[2, points] of every line that draws something."""
    return [np.array(line.get_data(), dtype=float) for line in axes.lines if len(line.get_xdata())]


def lines_by_name(figure, axes) -> dict[str, list[np.ndarray]]:
    """The same, by what the figure's legend says of their colour."""
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    colours = {to_hex(h.get_color()): n for h, n in zip(legend.legend_handles, names, strict=True)}
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for line in axes.lines:
        if len(line.get_xdata()) and to_hex(line.get_color()) in colours:
            name = colours[to_hex(line.get_color())]
            found[name].append(np.array(line.get_data(), dtype=float))
    return found


@pytest.mark.parametrize("delta", DELTAS)
def test_spectra_are_drawn_as_they_are_and_over_the_largest(uneven, spectra, delta):
    place = list(DELTAS).index(delta)
    number, caption = uneven.page.figures("changed")[place]
    assert caption.startswith("Singular values of the difference of the two models' weights")
    figure = uneven.drawn[number]
    left, right = figure.axes
    assert "Normalised" in left.get_title("left")
    assert "Raw" in right.get_title("left")
    for module, rows in spectra[delta].groupby("module"):
        sigmas = [r.sort_values("index")["sigma"].to_numpy() for _, r in rows.groupby("tensor")]
        for axes, wanted in ((left, [each / each[0] for each in sigmas]), (right, sigmas)):
            drawn = sorted(lines_by_name(figure, axes)[module], key=lambda line: tuple(line[1]))
            assert len(drawn) == len(wanted)
            for (x, y), sigma in zip(drawn, sorted(wanted, key=tuple), strict=True):
                assert x.tolist() == list(range(1, len(sigma) + 1))
                assert y == pytest.approx(sigma)


@pytest.mark.parametrize("delta", DELTAS)
def test_spectra_by_module(uneven, spectra, delta):
    figure = figure_of(
        uneven, "changed", f"{DELTAS[delta]}, by module", 0, "The normalised singular values"
    )
    panels = {axes.get_title("left"): axes for axes in figure.axes}
    for module, rows in spectra[delta].groupby("module"):
        drawn = sorted(lines_of(panels[module]), key=lambda line: tuple(line[1]))
        sigmas = [r.sort_values("index")["sigma"].to_numpy() for _, r in rows.groupby("tensor")]
        wanted = sorted((sigma / sigma[0] for sigma in sigmas), key=tuple)
        assert len(drawn) == len(wanted)
        for (_, y), sigma in zip(drawn, wanted, strict=True):
            assert y == pytest.approx(sigma)


@pytest.mark.parametrize("delta", DELTAS)
def test_statistics_by_layer(uneven, summaries, delta):
    """A panel a statistic, a line a module, by layer; overlaps beside what chance gives, 1."""
    figure = figure_of(
        uneven, "changed", f"{DELTAS[delta]}, by module", 1, "What training changed, layer by layer"
    )
    panels = {
        "‖D‖ / ‖W‖": "relative_frobenius", "σ₁(D) / σ₁(W)": "sigma_1_ratio",
        "stable rank": "stable_rank", "rank for 90% of ‖D‖²": "rank_90",
        "energy above noise": "energy_above_noise", "entries equal in bf16": "unchanged_bfloat16",
        "overlap, left": "left", "overlap, right": "right",
    }  # fmt: skip
    named = [axes.get_title("left") for axes in figure.axes if axes.get_title("left")]
    assert named == list(panels)
    for axes in figure.axes:
        column = panels[axes.get_title("left")]
        drawn = lines_by_name(figure, axes)
        for module, rows in summaries[delta].sort_values("layer").groupby("module"):
            ((x, y),) = drawn[module]
            assert x.tolist() == [0, 1]
            assert y == pytest.approx(rows[column].to_numpy(dtype=float)), (column, module)
        chance = [y for _, y in lines_of(axes) if set(y) == {1.0}]
        assert len(chance) == (column in ("left", "right"))


def test_the_energy_that_directions_hold(uneven, spectra):
    """Medians, bands from the lowest to the highest matrix, both nulls, the ranks kept."""
    number, caption = uneven.page.figures("changed")[len(DELTAS)]
    assert caption.startswith("Share of each delta's squared norm")
    (axes,) = uneven.drawn[number].axes
    lines = {line.get_label(): np.array(line.get_data(), dtype=float) for line in axes.lines}
    bands = []
    for delta in ("rl", "sft"):  # the one in question first
        x, y = lines[DELTAS[delta]]
        shares = np.array(
            [[held(r, int(k)) for k in x] for _, r in spectra[delta].groupby("tensor")]
        )
        assert y == pytest.approx(np.median(shares, axis=0))
        bands.append((shares.min(axis=0), shares.max(axis=0)))
    for null, label in (("gaussian", "Gaussian noise"), ("shuffled", "entries shuffled")):
        x, y = lines[label]
        matrices = [r for _, r in spectra["rl"].groupby("tensor")]
        shares = [[held_by_null(r, int(k), null) for k in x] for r in matrices]
        assert y == pytest.approx(np.median(shares, axis=0))
    for band, (low, high) in zip(axes.collections, bands, strict=True):
        at = band.get_paths()[0].vertices
        x = lines[DELTAS["rl"]][0]
        drawn = [at[np.isclose(at[:, 0], k), 1] for k in x]
        assert [each.min() for each in drawn] == pytest.approx(low)
        assert [each.max() for each in drawn] == pytest.approx(high)
    marked = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert marked == list(RANKS)
    assert set(RANKS) <= {int(tick.get_text()) for tick in axes.get_xticklabels()}
