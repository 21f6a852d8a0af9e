"""The section on divergences, worked out once more from the tables of tokens and the grades."""

import re

import numpy as np
import pandas as pd
import pytest
from distances_case import ASKED, make_divergences
from page_reader import agrees, heads, interval, value
from report_case import results_of
from uneven_report import build_kept

LABELS = {"sums": "Sums", "more": "More sums"}
MODELS = {
    "r2-copy": "r = 2, copy", "r8-copy": "r = 8, copy", "r2-keep": "r = 2, keep",
    "r8-keep": "r = 8, keep", "new": "New one", "mid": "Middle one",
}  # fmt: skip
# How far each is; on the second benchmark more rank takes a model farther, once.
SCALES = {
    "sums": {"mid": 1.0, "new": 0.0, "r2-copy": 0.1, "r8-copy": 0.001, "r2-keep": 0.2,
             "r8-keep": 0.102},
    "more": {"mid": 0.8, "new": 0.0, "r2-copy": 0.1, "r8-copy": 0.3, "r2-keep": 0.25,
             "r8-keep": 0.25},
}  # fmt: skip


class Case:
    """A report of two benchmarks and the tables that it was made from."""

    def __init__(self, folder):
        benchmarks = {
            name: {**ASKED["benchmarks"]["sums"], "label": label} for name, label in LABELS.items()
        }
        path = results_of(folder, ASKED | {"benchmarks": benchmarks})
        make_divergences(folder, SCALES["sums"])
        make_divergences(folder, SCALES["more"], tokens=20, problems=12, benchmark="more")
        self.folder = folder
        self.page, self.drawn = build_kept(path)

    def tokens(self, benchmark, model):
        return pd.read_parquet(self.folder / f"divergence/{benchmark}/{model}.parquet")

    def of_problems(self, benchmark, model, column="kl"):
        """Mean over problems of the mean over their tokens."""
        return self.tokens(benchmark, model).groupby("problem_id")[column].mean().mean()

    def ends(self, benchmark, model, metric):
        path = self.folder / f"divergence/{benchmark}/summary/metrics.csv"
        rows = pd.read_csv(path).set_index(["model", "metric"]).sort_index()
        return tuple(rows.loc[(model, metric), ["low", "high"]].iloc[0])

    def accuracy(self, benchmark, model):
        grades = pd.read_parquet(self.folder / f"grades/{benchmark}/{model}.parquet")
        return grades["correct"].mean()

    def contrasts(self, benchmark):
        return pd.read_csv(self.folder / f"divergence/{benchmark}/summary/contrasts.csv")

    def figure(self, benchmark, place):
        """One of a benchmark's figures; the first of all stands above everything instead."""
        above = self.page.figures() if benchmark == "sums" else []
        number, caption = [*above, *self.page.figures("divergence", LABELS[benchmark])][place]
        return self.drawn[number], caption


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("distances"))


@pytest.mark.parametrize("benchmark", LABELS)
def test_how_far_every_model_is(case, benchmark):
    table = case.page.tables("divergence", LABELS[benchmark])[0]
    text = "on the derivative's text, with 95% interval for problems like these"
    names = ["KL a token, 10⁻³ nats", "share of the way", "same likeliest token"]
    assert heads(table) == [
        ("model", ""), *((name, text) for name in names), ("mean accuracy", "sampled"),
    ]  # fmt: skip
    assert list(table.texts.index) == list(MODELS.values())
    assert table.kinds == [""] * 4 + ["reference"] * 2
    whole = case.of_problems(benchmark, "mid")
    for place, model in enumerate(MODELS):
        cells, under = table.texts.iloc[place], table.under.iloc[place]
        kl = case.of_problems(benchmark, model)
        wanted = 1000 * kl, 1 - kl / whole, case.of_problems(benchmark, model, "equal_top")
        slack = 0.0051 * 1000 * kl, 1e-9, 1e-9  # three digits; as many as it shows
        for head, number, off in zip(names, wanted, slack, strict=True):
            assert agrees(cells[text, head], number, off), (model, head)
        for head, metric, unit in zip(
            names, ("kl", "recovered", "equal_top"), (1000, 1, 1), strict=True
        ):
            low, high = case.ends(benchmark, model, metric)
            shown = interval(under[text, head])
            if np.isnan(low) or low == high:
                assert np.isnan(shown).all()
            else:
                wanted_ends = unit * low, unit * high
                assert shown == pytest.approx(wanted_ends, rel=0.006, abs=6e-4)
        assert agrees(cells["sampled", "mean accuracy"], case.accuracy(benchmark, model))


@pytest.mark.parametrize("benchmark", LABELS)
def test_every_contrast_is_listed_with_its_test(case, benchmark):
    rows = case.contrasts(benchmark)
    assert (rows["p_holm"] <= 0.05).any() == (benchmark == "more")
    table = case.page.tables("divergence", LABELS[benchmark])[-1]
    texts = table.texts.set_axis(["models", "difference", "p", "verdict"], axis=1)
    assert len(texts) == len(rows) == 4
    for place, row in enumerate(rows.to_dict("records")):
        cells = texts.iloc[place]
        assert cells["models"] == f"{MODELS[row['model']]} against {MODELS[row['reference']]}"
        ours, theirs = (case.of_problems(benchmark, row[side]) for side in ("model", "reference"))
        assert value(cells["difference"]) == pytest.approx(1000 * (ours - theirs), rel=0.006)
        low, high = interval(table.under.iloc[place].iloc[1])
        assert (low, high) == pytest.approx((1000 * row["low"], 1000 * row["high"]), rel=0.006)
        differs = row["p_holm"] <= 0.05
        assert cells["verdict"] == ("differ" if differs else "not distinguishable")
        assert cells["p"] == "< 0.001" or agrees(cells["p"], row["p_holm"], 6e-3)


@pytest.mark.parametrize("benchmark", LABELS)
def test_where_most_of_the_bases_divergence_sits(case, benchmark):
    table = case.page.tables("divergence", LABELS[benchmark])[1]
    assert table.caption == "Where most of the divergence of the base sits"
    tokens = case.tokens(benchmark, "mid")
    by_token = tokens.groupby("token")["kl"].agg(["size", "mean", "sum"])
    by_token = by_token.sort_values("sum", ascending=False)
    assert table.texts.index[0] == "<script>alert(1)</script>[U+202E]"
    for place, (token, row) in enumerate(by_token.iterrows()):
        cells = list(table.texts.iloc[place])
        assert cells[0] == (f"␣t{token}" if token != 3 else table.texts.index[0])
        assert value(cells[1]) == row["size"]
        assert value(cells[2]) == pytest.approx(1000 * row["mean"], rel=0.006)
        assert agrees(cells[3], row["sum"] / tokens["kl"].sum())


def test_what_was_read_is_counted_for_each_benchmark(case):
    said = case.page.said("divergence")
    assert (
        "is read by every model: 24 completions of New one on Sums (720 tokens) and"
        " 48 completions of New one on More sums (960 tokens)." in said[0]
    )
    assert "how much of the divergence of Middle one is gone" in said[0]


def test_a_rank_that_is_farther_is_named(case):
    said = " ".join(
        " ".join(part.itertext()) for part in case.page.below("divergence", "More sums")
    )
    assert "r = 8, copy is farther than r = 2, copy" in said


def test_both_benchmarks_are_on_the_first_screen(case):
    said = [text for text in case.page.answer() if text.startswith("Read instead of sampled")]
    assert len(said) == 2
    for text, (benchmark, label) in zip(said, LABELS.items(), strict=True):
        shown = re.search(r"text on (.*) the base's .* differ by (\S+) thousandths", text)
        assert shown[1] == label
        assert value(shown[2]) == pytest.approx(1000 * case.of_problems(benchmark, "mid"), rel=6e-3)


@pytest.mark.parametrize("benchmark", LABELS)
def test_the_figure_by_rank_draws_the_table(case, benchmark):
    figure, caption = case.figure(benchmark, 0)
    assert "rank" in caption
    kl, way, accuracy = figure.axes
    whole = case.of_problems(benchmark, "mid")
    for other in ("copy", "keep"):
        wanted = [case.of_problems(benchmark, f"r{rank}-{other}") for rank in (2, 8)]
        for axes, numbers in (
            (kl, wanted),
            (way, [each / whole for each in wanted]),  # what is left of it
            (accuracy, [case.accuracy(benchmark, f"r{rank}-{other}") for rank in (2, 8)]),
        ):
            (line,) = [each for each in axes.lines if each.get_label() == other]
            assert list(line.get_xdata()) == [2, 8]
            assert list(line.get_ydata()) == pytest.approx(numbers)
    levels = {each.get_label(): each.get_ydata()[0] for each in kl.lines}
    assert set(levels) == {"copy", "keep", "Middle one"}
    assert levels["Middle one"] == pytest.approx(whole)
    levels = {each.get_label(): each.get_ydata()[0] for each in accuracy.lines}
    for model in ("mid", "new"):
        assert levels[MODELS[model]] == pytest.approx(case.accuracy(benchmark, model))
    results = pd.read_csv(case.folder / "report/tables/results.csv")
    results = results[results["benchmark"] == benchmark].set_index("model")
    for axes, of in (
        (kl, lambda name: case.ends(benchmark, name, "kl")),
        (way, lambda name: [1 - end for end in case.ends(benchmark, name, "recovered")][::-1]),
        (accuracy, lambda name: results.loc[name, ["mean_low", "mean_high"]]),
    ):
        bars = sorted(tuple(bar[:, 1]) for each in axes.collections for bar in each.get_segments())
        wanted = sorted(tuple(map(float, of(name))) for name in list(MODELS)[:4])
        assert np.allclose(np.sort(bars), np.sort(wanted))


@pytest.mark.parametrize("benchmark", LABELS)
def test_the_figure_along_the_completion_draws_every_model(case, benchmark):
    figure, caption = case.figure(benchmark, 1)
    assert "position" in caption
    (axes,) = figure.axes
    lines = {each.get_label(): each for each in axes.lines}
    assert set(lines) == set(MODELS.values()) - {"New one"}
    for model, label in MODELS.items():
        if model == "new":
            continue
        tokens = case.tokens(benchmark, model)
        bins = tokens["position"].map(lambda at: 1 << (at.bit_length() - 1) if at else 0)
        means = tokens.groupby([bins, "problem_id"])["kl"].mean().groupby(level=0).mean()
        assert list(lines[label].get_xdata()) == [at + 1 for at in means.index]
        assert list(lines[label].get_ydata()) == pytest.approx(list(means))
