"""Every number and claim about accuracy on the page, worked out once more from the grades.

The page is read as a reader does (tests/page_reader.py); what it should say comes from the grades
by enumeration and scipy (tests/oracle.py), not from the code that made the page.
"""

import math
import re
from itertools import pairwise, product

import numpy as np
import oracle
import pandas as pd
import pytest
from page_reader import APOSTROPHE, DASH, Table, agrees, interval, numbers, value
from scipy import stats
from uneven_case import PROBLEMS, PUBLISHED, SAMPLES
from uneven_report import Built, build_uneven

KS = (3, 5)
MEASURES = [("mean", 1), ("pass", 3), ("pass", 5), ("maj", 3), ("maj", 5), ("maj", SAMPLES)]
NAMES = {"mean": "mean accuracy", "maj": "Maj@{}", "pass": "pass@{}"}
VARIANTS = ["r2-copy", "r8-copy", "r2-keep", "r8-keep", "r0-copy", "r0-keep", "random-r2-copy"]
LOWRANK = VARIANTS[:4]
LABELS = {"sums": "Sums", "hard": "Hard sums", "both": "Both kinds"}
SIZES = PROBLEMS | {"both": sum(PROBLEMS.values())}
MARGIN = 0.08
# Of what was drawn at random here and there, in points: five standard errors.
BOUNDS = {"sums": 0.6, "both": 0.6, "hard": 2.0}


def measure_name(metric: str, k: int) -> str:
    return NAMES[metric].format(k)


def likely(p: float) -> float:
    """How far apart two simulated p (adjusted for seven at most) may be."""
    return 0.08 * math.sqrt(p) + 2e-4


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> Built:
    """The report of the uneven case: its page, its files, its figures, its grades."""
    return build_uneven(tmp_path_factory.mktemp("uneven"))


@pytest.fixture(scope="module")
def expected(uneven) -> dict[str, pd.DataFrame]:
    """Benchmark or pool -> every comparison, by model, reference, metric and k."""
    models = [*VARIANTS, "new", "mid"]
    grades = {name: {m: tables[m] for m in models} for name, tables in uneven.grades.items()}
    both = {m: pd.concat([_renamed(b, grades[b][m]) for b in grades]) for m in models}
    origin = {name: name.split("/")[0] for name in both["mid"]["problem_id"]}
    made = {
        name: oracle.comparisons(tables, "mid", "new", MEASURES, MARGIN)
        for name, tables in grades.items()
    }
    return made | {"both": oracle.comparisons(both, "mid", "new", MEASURES, MARGIN, origin)}


def _renamed(benchmark: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(problem_id=benchmark + "/" + table["problem_id"])


@pytest.fixture(scope="module")
def pools(uneven) -> dict[tuple[str, str], dict[str, oracle.Pool]]:
    """(benchmark, model) -> the pool of each problem."""
    return {
        (benchmark, model): oracle.pools_of(table)
        for benchmark, tables in uneven.grades.items()
        for model, table in tables.items()
    }


def is_chance(text: str, p: float, slack: float = 1e-4) -> bool:
    """Whether a text is what a p value looks like."""
    return p < 0.001 + slack if text == "< 0.001" else agrees(text, p, slack)


def is_points(text: str, share: float, slack: float = 0.0, sign: bool = True) -> bool:
    """Whether a text is a share in points; slack in points. A gain has a plus."""
    if not np.isfinite(share):
        return text in ("", DASH)
    signed = not sign or abs(100 * share) < 1e-9 + slack or (text[0] == "+") == (share > 0)
    return signed and agrees(text, 100 * share, slack)


def is_span(text: str, low: float, high: float, slack: float = 0.0) -> bool:
    """Whether a text is an interval in points."""
    if not np.isfinite(low):
        return text in ("", DASH)
    one, other = text.split(" to ")
    return is_points(one, low, slack) and is_points(other, high, slack)


# --- the case ---------------------------------------------------------------------------------


def test_the_case_is_telling(expected):
    """All answers occur, controls lie above and below the base, both kinds of interval occur."""
    sums = expected["sums"]
    answers = sums.xs(("new", "mean", 1), level=("reference", "metric", "k"))["answer"]
    wanted = {"r2-copy": "lost", "r8-copy": "kept", "r2-keep": "open", "r8-keep": "better"}
    assert answers[LOWRANK].to_dict() == wanted
    hard = expected["hard"].xs("new", level="reference")
    assert set(hard["answer"]) == {"cannot be answered here"}
    base = sums.xs(("mid", "mean", 1), level=("reference", "metric", "k"))["difference"]
    assert base["r0-copy"] > 0 > base["r0-keep"]
    for table in expected.values():
        assert set(table["method"]) == {"t", "exact"}


def test_permutations_find_what_the_tests_find(uneven, expected, pools):
    """Where a difference is found, signs flipped at random find it too, and nowhere else."""
    for model in VARIANTS:
        for reference in ("mid", "new"):
            ours, theirs = (
                oracle.values(pools["sums", each], "mean", 1) for each in (model, reference)
            )
            flipped = stats.permutation_test(
                (ours - theirs,), np.mean, permutation_type="samples", n_resamples=5000,
                rng=np.random.default_rng(3),
            ).pvalue  # fmt: skip
            p = expected["sums"].loc[(model, reference, "mean", 1), "p"]
            assert (p <= 0.05) == (flipped <= 0.05), (model, reference)
            if max(p, flipped) < 0.2:
                assert p == pytest.approx(flipped, rel=0.2, abs=0.01), (model, reference)


# --- results ----------------------------------------------------------------------------------


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
    for benchmark in PROBLEMS:
        ((number, caption),) = uneven.page.figures("results", LABELS[benchmark])
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


# --- verdicts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LABELS)
def test_the_boxes_are_those_of_the_grades(uneven, expected, name):
    boxes = uneven.page.tables("verdicts", LABELS[name])[:2]
    assert [box.caption for box in boxes] == ["Mean accuracy", "Maj@5"]
    slack = BOUNDS[name]
    to_new, to_base = "against New one", "against Middle one"
    for box, (metric, k) in zip(boxes, (("mean", 1), ("maj", 5)), strict=True):
        assert list(box.texts.columns) == [
            ("", "variant"), ("", "answer"), (to_new, "difference, points"),
            (to_new, "on these problems"), (to_new, "p"), (to_new, "shown to lie within"),
            (to_new, "p, equivalence"), (to_new, "visible, points"), (to_new, "gain kept"),
            (to_base, "difference, points"), (to_base, "p"),
        ]  # fmt: skip
        assert list(box.texts.index) == [uneven.label(model) for model in VARIANTS]
        for place, model in enumerate(VARIANTS):
            says, under = box.texts.iloc[place], box.under.iloc[place]
            row = expected[name].loc[(model, "new", metric, k)]
            base = expected[name].loc[(model, "mid", metric, k)]
            assert says["", "answer"] == row["answer"]
            assert box.kinds[place] == row["answer"].split()[0]
            for head, line in ((to_new, row), (to_base, base)):
                head = head, "difference, points"
                assert is_points(says[head], line["difference"])
                assert is_span(under[head], line["problems_low"], line["problems_high"], slack)
            these = says[to_new, "on these problems"]
            width = 100 * (row["traces_high"] - row["traces_low"])
            assert is_span(these, row["traces_low"], row["traces_high"], 0.03 * width)
            shown = says[to_new, "shown to lie within"]
            assert is_span(shown, row["within_low"], row["within_high"], slack)
            for head, line in ((to_new, row), (to_base, base)):
                p = line["p_holm"]
                simulated = line["method"] == "exact" or name == "hard"  # few problems: Gaffke's
                assert is_chance(says[head, "p"], p, likely(p) if simulated else 1e-4)
            p = row["p_equivalence_holm"]
            assert is_chance(says[to_new, "p, equivalence"], p, likely(p))
            visible = says[to_new, "visible, points"]
            assert is_points(
                visible, row["detectable"], 0.5 if name == "hard" else 0.06, sign=False
            )
            assert agrees(says[to_new, "gain kept"], row["gain_kept"])
            ends = interval(under[to_new, "gain kept"])
            wanted = row["gain_kept_low"], row["gain_kept_high"]
            assert ends == pytest.approx(wanted, abs=0.0051, nan_ok=True), (model, metric)


@pytest.mark.parametrize("name", LABELS)
def test_every_comparison_is_that_of_the_grades(uneven, expected, name):
    every = uneven.page.tables("verdicts", LABELS[name])[2]
    heads = ["model", "against", "measure", "difference, points", "interval", "p alone", "p",
             "p, equivalence", "verdict"]  # fmt: skip
    assert [head for _, head in every.texts.columns] == heads
    texts, under = (frame.set_axis(heads, axis=1) for frame in (every.texts, every.under))
    pairs = [(m, r) for m in VARIANTS for r in ("mid", "new")] + [("new", "mid")]
    keys = [(*pair, *measure) for pair in pairs for measure in MEASURES]
    assert [tuple(row) for row in texts[heads[:3]].to_numpy()] == [
        (uneven.label(m), uneven.label(r), measure_name(*of)) for m, r, *of in keys
    ]
    for place, key in enumerate(keys):
        says, row = texts.iloc[place], expected[name].loc[key]
        assert is_points(says["difference, points"], row["difference"])
        shown = under.iloc[place]["difference, points"]
        assert is_span(shown, row["problems_low"], row["problems_high"], BOUNDS[name])
        assert says["interval"] == row["method"]
        for head, column in (
            ("p alone", "p"),
            ("p", "p_holm"),
            ("p, equivalence", "p_equivalence_holm"),
        ):
            exact = row["method"] == "t" and head != "p, equivalence" and name != "hard"
            assert is_chance(says[head], row[column], 1e-4 if exact else likely(row[column])), key
        assert_verdict(uneven, says["verdict"], row, *key)


def assert_verdict(
    uneven, words: str, row: pd.Series, model: str, reference: str, *measure
) -> None:
    """That the words claim what the tests show, and no more."""
    name, than = measure_name(*measure), uneven.label(reference)
    same = row["p_equivalence_holm"] <= 0.05
    if row["p_holm"] > 0.05:
        wanted = f"equivalent to {than} within 8 points of {name}" if same else ""
        assert words == (wanted or f"not distinguishable from {than} in {name}")
        return
    claim = re.fullmatch(
        r"(better|worse) than (.+) by (\S+) points of (\S+(?: \S+)?)(, yet .*)?", words
    )
    assert claim, words
    assert claim[1] == ("better" if row["value"] > row["reference_value"] else "worse")
    assert (claim[2], claim[4]) == (than, name)
    assert is_points(claim[3], abs(row["value"] - row["reference_value"]), sign=False)
    assert claim[5] == (", yet equivalent within 8 points" if same else None)


def paragraphs(uneven, name: str) -> list[str]:
    """What stands below the boxes of a benchmark or pool."""
    below = uneven.page.below("verdicts", LABELS[name])
    return [" ".join("".join(each.itertext()).split()) for each in below if each.tag == "p"]


@pytest.mark.parametrize("name", LABELS)
def test_what_training_gained_is_said(uneven, expected, name):
    said = paragraphs(uneven, name)
    for text, (metric, k) in zip(said, (("mean", 1), ("maj", 5)), strict=False):
        row = expected[name].loc[("new", "mid", metric, k)]
        parts = re.fullmatch(
            r"Training itself: New one is (.*) \(difference (\S+), 95% interval (.*); p (.*)\)\.",
            text,
        )
        assert_verdict(uneven, parts[1], row, "new", "mid", metric, k)
        assert is_points(parts[2], row["difference"])
        assert is_span(parts[3], row["problems_low"], row["problems_high"], BOUNDS[name])
        assert is_chance(parts[4], row["p_holm"], likely(row["p_holm"]))


@pytest.mark.parametrize("name", LABELS)
def test_controls_are_held_against_both(uneven, expected, name):
    """Of each of rank 0: its accuracy, the derivative first, then the base."""
    begins = {
        "r0-copy": "Everything of the derivative except the change of its projections"
        " (r = 0, copy)",
        "r0-keep": "The projections' biases alone (r = 0, keep)",
    }
    said = [text.replace(APOSTROPHE, "'") for text in paragraphs(uneven, name)]
    for model, begin in begins.items():
        (text,) = [text for text in said if text.startswith(begin)]
        rows = [expected[name].loc[(model, side, "mean", 1)] for side in ("new", "mid")]
        accuracy, claims = re.fullmatch(
            r": mean accuracy (\S+), (.*)\.", text.removeprefix(begin)
        ).groups()
        assert agrees(accuracy, rows[0]["value"])
        one, other = re.split(r" and (?=better|worse|equivalent|not )", claims)
        assert_verdict(uneven, one, rows[0], model, "new", "mean", 1)
        assert_verdict(uneven, other, rows[1], model, "mid", "mean", 1)
        wanted = [text] if model == "r0-copy" and name != "both" else []
        assert [each for each in uneven.page.answer() if each.startswith(begin)][:1] == wanted or (
            name == "both" or model == "r0-copy"
        )
    assert not any("random" in text for text in said if "mean accuracy" in text)


def test_the_largest_published_gain_is_tested(uneven, expected):
    """r8-copy over the derivative, one of two published: paired t with the spread measured here."""
    (text,) = [
        text for text in paragraphs(uneven, "sums") if text.startswith("The largest published")
    ]
    assert text.startswith(
        "The largest published gain, r = 8, copy over New one in Avg Maj@5, with"
    )
    gain, problems = 0.634 - 0.601, PROBLEMS["sums"]
    sd = expected["sums"].loc[("r8-copy", "new", "maj", 5), "paired_sd"]
    claim = re.search(
        r": (\S+) points on (\d+) problems are (\S+) problems. worth:"
        r" (not distinguishable|a difference)"
        r".*?\(p = ([\d.e-]+), adjusted for being the largest of (\d+)\)(.*)$",
        text,
    )
    assert is_points(claim[1], gain)
    assert int(claim[2]) == problems
    assert agrees(claim[3], gain * problems)
    p = 2 * 2 * stats.t.sf(gain / (sd / math.sqrt(problems)), problems - 1)
    assert agrees(claim[5], min(1, p), 0.0051 * (p > 0.01))
    assert int(claim[6]) == 2
    assert (claim[4] == "a difference") == (p <= 0.05)
    if p > 0.05:
        needed = int(re.search(r"takes ([\d,]+) problems", claim[7])[1].replace(",", ""))
        assert _power(gain, sd, needed) == pytest.approx(0.8, abs=0.01)
    else:
        power = int(re.search(r"found in (\d+) of 100", claim[7])[1])
        assert power / 100 == pytest.approx(_power(gain, sd, problems), abs=0.011)


def _power(gain: float, sd: float, problems: int) -> float:
    """Of a paired t-test at half of 0.05, as there are two."""
    freedom = problems - 1
    shift = gain / (sd / math.sqrt(problems))
    return float(stats.nct.sf(stats.t.isf(0.025 / 2, freedom), freedom, shift))


# --- the answer -------------------------------------------------------------------------------


def answers_of(uneven) -> dict[str, list[str]]:
    """The sentences above everything that are about accuracy, by benchmark or pool."""
    said = uneven.page.answer()[1:]
    starts = [i for i, text in enumerate(said) if text.startswith("With rank")] + [len(said) - 1]
    cut = [said[a:b] for a, b in pairwise(starts)] + [said[starts[-1] :]]
    return dict(zip(LABELS, cut, strict=True))


def test_the_headline_is_that_of_the_grades(uneven, expected):
    """Accuracy at the lowest rank, of base and derivative, and the share of the gain."""
    for name in PROBLEMS:
        text, rows = answers_of(uneven)[name][0], expected[name]
        begin = (
            rf"With rank 2 alone mean accuracy on {LABELS[name]} is (\S+) with embeddings and norms"
        )
        claim = re.fullmatch(
            begin
            + r" copied and (\S+) with them kept; training took Middle one at (\S+) to New one"
            r" at ([\d.]+\d)\.(.*)",
            text,
        )
        assert claim, text
        wanted = [rows.loc[(m, "new", "mean", 1), "value"] for m in ("r2-copy", "r2-keep")]
        wanted += [rows.loc[("new", "mid", "mean", 1), c] for c in ("reference_value", "value")]
        assert all(agrees(*pair) for pair in zip(claim.groups()[:4], wanted, strict=True)), text
        if name == "hard":
            assert claim[5] == ""  # no gain is shown
            continue
        shares = re.fullmatch(
            r" That is (\S+) \((.*?)\) and (\S+) \((.*?)\) of that gain\.", claim[5]
        )
        for model, share, ends in (
            ("r2-copy", *shares.groups()[:2]),
            ("r2-keep", *shares.groups()[2:]),
        ):
            row = rows.loc[(model, "new", "mean", 1)]
            gain = (row["value"] - wanted[2]) / (wanted[3] - wanted[2])
            assert agrees(share, gain)
            bounds = row["gain_kept_low"], row["gain_kept_high"]
            assert interval(ends) == pytest.approx(bounds, abs=0.0051)


def test_the_answer_names_the_variants_it_is_of(uneven, expected):
    words = {
        "kept": "kept by",
        "better": "exceeded by",
        "lost": "lost by",
        "open": "not decided for",
    }
    for name in LABELS:
        (text,) = [t for t in answers_of(uneven)[name] if "Mean accuracy" in t]
        assert (name == "both") == text.startswith("All of Both kinds together. Mean accuracy")
        mean, votes = re.fullmatch(r".*?(Mean accuracy.*\.) (Maj@5.*)", text).groups()
        for said, (metric, k) in ((mean, ("mean", 1)), (votes, ("maj", 5))):
            of = expected[name].xs(("new", metric, k), level=("reference", "metric", "k"))
            gain = expected[name].loc[("new", "mid", metric, k)]
            measure = "Mean accuracy" if metric == "mean" else "Maj@5"
            if "cannot be answered here" in set(of["answer"]):
                start = (
                    f"{measure}: whether it is kept cannot be answered here, as no gain by training"
                )
                assert said.startswith(start)
                change, p = re.search(r"\((\S+) points over Middle one, p (.*)\)\.", said).groups()
                assert is_points(change, gain["difference"])
                assert is_chance(p, gain["p_holm"], likely(gain["p_holm"]))
                continue
            start = f"{measure} of New one, to within 8 points: "
            assert said.startswith(start)
            claimed = {}
            for part in said.removeprefix(start).removesuffix(".").split("; "):
                (answer,) = [a for a, w in words.items() if part.startswith(w)]
                for ranks, other in re.findall(r"ranks? ([\d, and]+) \((\w+)\)", part):
                    claimed |= {f"r{rank}-{other}": answer for rank in re.findall(r"\d+", ranks)}
            assert claimed == of.loc[LOWRANK, "answer"].to_dict()


# --- how sure ---------------------------------------------------------------------------------


def test_the_reach_of_so_many_problems(uneven, expected):
    """The problems it takes, and the smallest and largest difference that is found."""
    said = uneven.page.said("verdicts")
    for name, label in LABELS.items():
        (text,) = [t for t in said if t.startswith(f"{label} has {SIZES[name]} problems")]
        (worth,) = re.findall(r"one of them worth (\S+) points", text)
        assert is_points(worth, 1 / SIZES[name], sign=False)
        family = len(VARIANTS)
        assert f"at the level of 0.05 / {family})" in text
        for metric, k in (("mean", 1), ("maj", 5)):
            rows = expected[name].xs(("new", metric, k), level=("reference", "metric", "k"))
            seen = rows["detectable"].dropna()
            (ends,) = re.findall(
                rf"([\d.]+(?: to [\d.]+)?) points of {measure_name(metric, k)}", text
            )
            shown = [value(end) / 100 for end in ends.split(" to ")]
            wanted = list(dict.fromkeys([seen.min(), seen.max()]))
            assert shown == pytest.approx(wanted, abs=0.0051 if name == "hard" else 0.00051)
        (margin,) = re.findall(r"equivalence cannot be shown within less than (\S+) points;", text)
        # Nothing lost of n problems: the upper bound of Clopper and Pearson for the share lost.
        bound = stats.beta.isf(0.05 / family, 1, SIZES[name])
        assert is_points(margin, bound, sign=False)
        (needed,) = re.findall(r"a margin of 8 points takes (\d+) problems or more", text)
        bounds = [stats.beta.isf(0.05 / family, 1, int(needed) - less) for less in (0, 1)]
        assert bounds[0] <= MARGIN < bounds[1]
        missed = 100 * stats.binom.pmf(0, SIZES[name], MARGIN)
        often = f"{missed:.0f} of 100" if missed >= 1 else "fewer than 1 of 100"
        assert f"failed on 8% of all problems of this kind, {often} such benchmarks" in text


def test_settings_are_those_of_the_experiment(uneven):
    said = " ".join(uneven.page.said("verdicts"))
    assert f"{SAMPLES} completions of one problem are not {SAMPLES} independent" in said
    assert "is shown to lie within the margin, 8 points" in said
    assert "The margin is the configuration's" in said
    assert "spread over 16 re-draws" in said
    question, what = uneven.page.asked()[1:3]
    assert "between Middle one and New one" in question
    for text in (
        "of New one minus that of Middle one was factored", "cut to its top 2 and 8 directions",
        "added back to Middle one, with biases from New one and with embeddings and norms copied"
        " from New one or left as in Middle one. It was merged into the weights, and stored as"
        " bfloat16.",
        "Controls: rank 0 with all else copied; rank 0 with all else kept, so the projections'"
        " biases alone; the same singular values in random directions.",
        "every problem of Sums and Hard sums 8 times at temperature 0.6 and top-p 0.95",
        "majority votes of 3 and 5:", "the mean of 16 random draws",
    ):  # fmt: skip
        assert text in what, text


# --- traces and pools -------------------------------------------------------------------------


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


# --- the tables beside the page ---------------------------------------------------------------


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
