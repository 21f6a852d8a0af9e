"""Accuracies, traces and tables of the report, worked out once more from the grades."""

import math
from itertools import pairwise, product

import numpy as np
import oracle
import pandas as pd
import pytest
from page_claims import (
    KS,
    LABELS,
    MARGIN,
    VARIANTS,
)
from page_reader import Table, agrees, interval, numbers, value
from scipy import stats
from uneven_case import PROBLEMS, PUBLISHED, SAMPLES

# --- results ---------------------------------------------------------------------------------


def results_of(uneven, benchmark: str) -> tuple[Table, list[list[str]]]:
    """The results table of a benchmark, and its published rows by the row that they stand under."""
    heading = f"{LABELS[benchmark]} · {PROBLEMS[benchmark]} problems × {SAMPLES} completions"  # noqa: RUF001
    return uneven.page.tables("results", heading)[0]


def test_the_results_are_those_of_the_grades(uneven, pools):
    """Variants, derivative, base, other references, in this order; intervals are BCa."""
    exact = "exact, with 95% interval for problems like these"
    heads = [("", "model")]
    heads += [("the post's protocol, sd of its redraws", f"Avg Maj@{k}") for k in KS]
    heads += [(exact, head) for head in (*(f"Maj@{k}" for k in KS), "mean accuracy")]
    for benchmark, problems in PROBLEMS.items():
        table = results_of(uneven, benchmark)
        assert list(table.texts.columns) == heads
        texts = table.texts[table.texts.index != "published"]
        models = [*VARIANTS, "new", "mid", "old"]
        assert list(texts.index) == [uneven.label(model) for model in models]
        under = table.under[table.under.index != "published"]
        for model in models:
            label = uneven.label(model)
            for k in KS:
                drawn = heads[KS.index(k) + 1]
                votes = [_votes(pool, k) for pool in pools[benchmark, model].values()]
                sd = math.sqrt(sum(each.var() for each in votes)) / problems
                mean = np.mean([each.mean() for each in votes])
                assert agrees(texts.loc[label, drawn], mean, 5 * sd / 4 + 1e-9)  # of 16 draws
                sign, shown = under.loc[label, drawn].split()
                assert sign == "±"
                low, high = (sd * math.sqrt(stats.chi2.ppf(q, 15) / 15) for q in (1e-5, 1 - 1e-5))
                low *= benchmark != "hard"  # few problems vary there: often no redraw differs
                assert low - 6e-4 <= value(shown) <= high + 6e-4, (label, k)
            for head, metric, k in (
                ("Maj@3", "maj", 3),
                ("Maj@5", "maj", 5),
                ("mean accuracy", "mean", 1),
            ):
                values = oracle.values(pools[benchmark, model], metric, k)
                assert agrees(texts.loc[label, (exact, head)], values.mean()), (label, head)
                ends = oracle.problems_interval(values)
                slack = 0.15 * stats.sem(values) + 1 / len(values)
                shown = interval(under.loc[label, (exact, head)])
                assert shown == pytest.approx(ends, abs=slack), (benchmark, label, head)


def _votes(pool: oracle.Pool, k: int) -> np.ndarray:
    """The vote of every k-subset."""
    return np.array([oracle.vote(subset) for subset in oracle.combinations(pool, k)])


def test_published_values_stand_under_the_models_they_are_of(uneven):
    for benchmark in PROBLEMS:
        table = results_of(uneven, benchmark)
        rows = list(zip(table.texts.index, table.texts.to_numpy(), strict=True))
        found = {}
        for (label, _), (below, cells) in pairwise(rows):
            if below == "published":
                found[label] = cells
        for model in [*VARIANTS, "new", "mid", "old"]:
            theirs = {
                row[3]: row[4] for row in PUBLISHED if row[:3] == (benchmark, model, "avg_maj")
            }
            assert (uneven.label(model) in found) == bool(theirs)
            if theirs:
                cells = found[uneven.label(model)]
                assert all(agrees(cells[1 + i], theirs.get(k, np.nan)) for i, k in enumerate(KS))
                assert set(cells[3:]) == {""}
    anchors = uneven.page.tables("results", "Sums")[1]
    assert anchors.caption == "Published elsewhere"
    assert anchors.texts.to_numpy().tolist() == [
        ["Middle one", "Maj@64", "0.527", "Another paper", "cons@64"],
        ["New one", "mean", "0.487", "A paper", "64 samples"],
    ]
    assert len(uneven.page.tables("results", "Hard sums")) == 1


def test_the_accuracy_figure_draws_the_grades(uneven, pools):
    """Points, bars over problems, level lines and the derivative's band."""
    for place, benchmark in enumerate(PROBLEMS):
        # The first stands above everything, and not a second time in its section.
        (*above, (number, caption)) = [
            *uneven.page.figures()[place:], *uneven.page.figures("results", LABELS[benchmark]),
        ]  # fmt: skip
        assert not above
        assert caption.startswith("Accuracy against the rank kept.")
        panels = uneven.drawn[number].axes
        assert [axes.get_title("left") for axes in panels] == ["mean accuracy", "Maj@5"]
        for axes, (metric, k) in zip(panels, (("mean", 1), ("maj", 5)), strict=True):
            of = {m: oracle.values(p, metric, k) for (b, m), p in pools.items() if b == benchmark}
            lines = {line.get_label(): line for line in axes.lines}
            ends = _bars(axes)
            assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "8"]
            for other in ("copy", "keep"):
                x, y = lines[other].get_data()
                assert np.round(np.array(x)).tolist() == [0, 1]
                values = [of[f"r{rank}-{other}"] for rank in (2, 8)]
                assert y == pytest.approx([each.mean() for each in values], abs=1e-9)
                for at, each in zip(x, values, strict=True):
                    slack = 0.15 * stats.sem(each) + 1 / len(each)
                    assert ends[round(at, 6)] == pytest.approx(
                        oracle.problems_interval(each), abs=slack
                    )
            for model in ("old", "mid", "new"):
                assert lines[uneven.label(model)].get_ydata()[0] == pytest.approx(of[model].mean())
            assert lines["New one"].get_linestyle() == "-"
            (band,) = axes.patches
            low, high = band.get_y(), band.get_y() + band.get_height()
            slack = 0.15 * stats.sem(of["new"]) + 1 / len(of["new"])
            assert (low, high) == pytest.approx(oracle.problems_interval(of["new"]), abs=slack)
            bottom, top = axes.get_ylim()
            assert bottom == 0
            assert top >= max(value for pair in [*ends.values(), (low, high)] for value in pair)


def _bars(axes) -> dict[float, tuple[float, float]]:
    """The ends of the vertical bars, by where they stand."""
    segments = [each for bars in axes.collections for each in bars.get_segments()]
    return {round(float(s[0][0]), 6): (float(s[0][1]), float(s[1][1])) for s in segments}


# --- traces and pools ------------------------------------------------------------------------


def test_the_traces_are_those_that_the_rule_chooses(uneven):
    """Of the lowest rank on the first mixed problem: the first right one, the first wrong one."""
    grades = uneven.grades["sums"]["r2-copy"].sort_values(["problem_id", "sample"])
    mixed = grades.groupby("problem_id").filter(lambda rows: 0 < rows["correct"].mean() < 1)
    first = mixed[mixed["problem_id"] == mixed["problem_id"].iloc[0]]
    samples = pd.concat(
        pd.read_parquet(uneven.folder / f"samples/sums/r2-copy/{part}-of-2.parquet")
        for part in (1, 2)
    ).set_index(["problem_id", "sample"])
    problems = pd.read_parquet(uneven.folder / "benchmarks/sums.parquet").set_index("problem_id")
    section = uneven.page.section("traces")
    assert uneven.page.said("traces")[0].startswith("Of r = 2, copy on the first problem that it")
    shown = list(section.iter("details"))
    assert len(shown) == 2
    for details, right in zip(shown, (True, False), strict=True):
        grade = first[first["correct"] == right].iloc[0]
        key = grade["problem_id"], grade["sample"]
        sample, problem = samples.loc[key], problems.loc[key[0]]
        answer = "none" if pd.isna(grade["answer"]) else grade["answer"]
        title, asked, trace = ["".join(part.itertext()) for part in details]
        assert title == (
            f"Problem {key[0]}, sample {key[1]}: answered {answer}"
            f" ({'right' if right else 'wrong'}; the answer is {problem['answer']}),"
            f" {sample['completion_tokens']} tokens, ended by {sample['finish_reason']}"
        )
        assert (asked, trace) == (problem["problem"], sample["completion"])
        assert (answer == problem["answer"]) == right


def test_the_pools_are_counted(uneven):
    (table,) = [t for t in uneven.page.tables("provenance") if t.caption == "Pools"]
    texts = table.texts.droplevel(0, axis=1)
    assert len(texts) == 2 * len(uneven.grades["sums"])
    rows = texts.reset_index(drop=True).set_index(["model", "benchmark"])
    for benchmark, tables in uneven.grades.items():
        for model, grades in tables.items():
            row = rows.loc[(uneven.label(model), benchmark)]
            folder = uneven.folder / f"samples/{benchmark}/{model}"
            samples = pd.concat(pd.read_parquet(folder / f"{part}-of-2.parquet") for part in (1, 2))
            distinct = samples[["problem_id", "completion"]].drop_duplicates()
            assert value(row["completions"]) == len(grades) == len(samples)
            assert value(row["distinct"]) == len(distinct)
            assert agrees(row["mean tokens"], samples["completion_tokens"].mean())
            assert agrees(row["cut off"], (samples["finish_reason"] == "length").mean())
            assert agrees(row["empty"], (samples["completion"] == "").mean())
            assert agrees(row["no answer"], grades["answer"].isna().mean())
            assert value(row["though right in the text"]) == grades["overlooked"].sum()
            assert value(row["not judged"]) == grades["unjudged"].notna().sum()
            assert (row["served as"], row["computed in"]) == ("bfloat16", "float32")


# --- the tables beside the page --------------------------------------------------------------


def test_the_table_of_comparisons_is_that_of_the_grades(uneven, expected):
    keys = ["model", "reference", "metric", "k"]
    for name, table in uneven.csv("comparisons").groupby("benchmark"):
        table = table.set_index(keys)
        wanted = expected[name].loc[table.index]
        for column in ("family", "n_differ", "n_problems", "n_samples", "method"):
            assert (table[column] == wanted[column]).all(), column
        assert (table["margin"] == MARGIN).all()
        for column in ("value", "reference_value", "difference", "paired_sd", "gain_kept"):
            assert table[column].to_numpy() == pytest.approx(wanted[column], abs=1e-8, nan_ok=True)
        assert (table["answer"].fillna("") == wanted["answer"]).all()


def test_the_table_of_metrics_is_that_of_the_grades(uneven, pools):
    """Every metric at every k: its value, and its interval for the same problems."""
    metrics = uneven.csv("metrics")
    exact = metrics[metrics["estimator"] == "exact"].set_index(
        ["benchmark", "model", "metric", "k"]
    )
    measured = {
        ("mean", 1), ("no_answer", 1), ("maj", SAMPLES),
        *product((m for m in oracle.MEASURES if m not in ("mean", "no_answer")), KS),
    }  # fmt: skip
    for (benchmark, model), pool in pools.items():
        rows = exact.loc[(benchmark, model)]
        grades = uneven.grades[benchmark][model]
        columns = {
            "unjudged": grades["unjudged"].notna(),
            "truncated": grades["finish_reason"] == "length",
            "completion_tokens": grades["completion_tokens"],
        }
        assert set(rows.index) == measured | {(name, 1) for name in columns}
        for metric, k in measured:
            row, drawn = rows.loc[(metric, k)], metric == "maj" and 2 * k > SAMPLES
            mean = oracle.values(pool, metric, k).mean()
            around = oracle.reach(oracle.variances(pool, metric, k))
            assert row["value"] == pytest.approx(mean, abs=1e-9), (metric, k)
            ends = max(0, mean - around), min(1, mean + around)
            if np.isnan(around):
                assert row[["traces_low", "traces_high"]].isna().all()
                continue
            shown = row["traces_low"], row["traces_high"]
            slack = (0.2 if benchmark == "hard" else 0.05) * around if drawn else 1e-8
            assert shown == pytest.approx(ends, abs=slack), (benchmark, model, metric, k)
        for name, column in columns.items():
            each = column.astype(float).groupby(grades["problem_id"])
            row, around = rows.loc[(name, 1)], oracle.reach(each.sem() ** 2)
            assert row["value"] == pytest.approx(each.mean().mean())
            shown = row["traces_low"], row["traces_high"]
            mean = each.mean().mean()
            ends = mean - around, mean + around
            if name != "completion_tokens":
                ends = max(0, ends[0]), min(1, ends[1])
            if not np.isnan(around):
                assert shown == pytest.approx(ends, abs=1e-8), (benchmark, model, name)


def test_the_table_of_results_says_what_the_page_says(uneven, pools):
    results = uneven.csv("results").set_index(["benchmark", "model"])
    for (benchmark, model), pool in pools.items():
        row = results.loc[(benchmark, model)]
        assert row["label"] == uneven.label(model)
        for head, metric, k in (("maj@3", "maj", 3), ("maj@5", "maj", 5), ("mean", "mean", 1)):
            values = oracle.values(pool, metric, k)
            around = oracle.reach(oracle.variances(pool, metric, k))
            assert row[head] == pytest.approx(values.mean(), abs=1e-9)
            shown = row[[f"{head}_low", f"{head}_high"]].astype(float).tolist()
            slack = 0.15 * stats.sem(values) + 1 / len(values)
            assert shown == pytest.approx(oracle.problems_interval(values), abs=slack)
            traces = row[[f"{head}_traces_low", f"{head}_traces_high"]].astype(float).tolist()
            ends = max(0, values.mean() - around), min(1, values.mean() + around)
            if np.isfinite(around):
                assert traces == pytest.approx(ends, abs=0.2 * around)
    assert numbers("1.5 and -2") == [1.5, -2]
