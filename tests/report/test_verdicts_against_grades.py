"""Every verdict and claim about accuracy on the page, worked out once more from the grades."""

import math
import re
from itertools import pairwise

import numpy as np
import oracle
import pytest
from page_claims import (
    BOUNDS,
    LABELS,
    LOWRANK,
    MARGIN,
    MEASURES,
    SIZES,
    VARIANTS,
    assert_verdict,
    is_chance,
    is_points,
    is_span,
    likely,
    measure_name,
)
from page_reader import APOSTROPHE, agrees, interval, value
from scipy import stats
from uneven_case import PROBLEMS, SAMPLES

# --- the case --------------------------------------------------------------------------------


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


# --- verdicts --------------------------------------------------------------------------------


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


# --- the answer ------------------------------------------------------------------------------


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


# --- how sure --------------------------------------------------------------------------------


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


def test_settings_are_those_of_the_experiment(uneven, pools):
    said = " ".join(uneven.page.said("verdicts"))
    assert f"{SAMPLES} completions of one problem are not {SAMPLES} independent" in said
    assert "is shown to lie within the margin, 8 points" in said
    assert "The margin is the configuration's" in said
    assert "spread over 16 re-draws" in said
    _, question, ran, *_, what = uneven.page.asked()
    models = len({model for _, model in pools})
    wrote = models * SAMPLES * sum(PROBLEMS.values())
    assert ran.startswith(f"What was run: {models} models wrote {wrote:,} completions (")
    assert ran.endswith(" tokens) to Sums and Hard sums.")
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
