"""What is said of divergences follows from their numbers: words of hand-made tables."""

import dataclasses

import pandas as pd
import pytest
from report_case import EXPERIMENT

from lowrank.report import divergence_words as words
from lowrank.report import divergences
from lowrank.report.divergences import Distances
from lowrank.report.evidence import Evidence

FOUND = Evidence(**{field.name: {} for field in dataclasses.fields(Evidence)})
FOUND = dataclasses.replace(FOUND, experiment=EXPERIMENT)


def distances(**tables) -> Distances:
    """Divergences of these tables; nothing differs where none is given."""
    base = pd.DataFrame({"token": [1, 2], "text": ["a", "b"], "kl": [0.0, 0.0]})
    rows = [("mid", "equal_top", 0.93), ("mid", "kl", 0.25), ("new", "kl", 0.0)]
    figures = pd.DataFrame(rows, columns=["model", "metric", "value"])
    contrasts = pd.DataFrame(columns=["question", "model", "reference", "difference", "p_holm"])
    nothing = {"figures": figures.assign(at=float("nan"), low=float("nan"), high=float("nan")),
               "contrasts": contrasts, "ranks": pd.DataFrame(columns=["ladder"]), "read": {},
               "base": base}  # fmt: skip
    return Distances(**nothing | tables)


def test_ranks_that_are_enough_are_said_with_their_intervals():
    ranks = pd.DataFrame(
        [("keep-float32", 0.9, 8, 8, 8), ("keep-float32", 0.95, 8, 8, 8),
         ("keep-float32", 0.99, None, None, None),
         ("copy", 0.9, 2, 2, 8), ("copy", 0.95, 8, 2, 8), ("copy", 0.99, None, 32, None)],
        columns=["ladder", "share", "rank", "rank_low", "rank_high"],
    ).assign(tried="2 8 32")  # fmt: skip
    assert words.findings(FOUND, distances(ranks=ranks)) == [
        "With the other weights copied, 90% of the way takes rank 2 or less, the smallest tried"
        " (95% interval: 2 to 8), 95% of the way takes rank 8 (95% interval: 2 to 8) and 99% of the"
        " way takes more than rank 32 (95% interval: 32 to more than 32).",
        "With the other weights kept (float32), 90% and 95% of the way takes rank 8 and 99% of the"
        " way takes more than rank 32.",
    ]


def contrasts(*rows, problems: int = 12) -> pd.DataFrame:
    names = ["question", "model", "reference", "difference", "p_holm"]
    made = pd.DataFrame(rows, columns=names)
    return made.assign(n_problems=problems, family=len(made))


def test_ranks_that_are_told_apart_are_counted_and_the_others_named():
    said = words.findings(
        FOUND,
        distances(
            contrasts=contrasts(
                ("rank", "r8-copy", "r2-copy", -0.01, 0.002),
                ("rank", "r8-keep", "r2-keep", 0.02, 0.05),
                ("other", "r2-copy", "r2-keep", -0.01, 0.051),
                ("other", "r8-copy", "r8-keep", -0.03, 0.6),
            )
        ),
    )
    assert said == [
        "2 of 2 comparisons of neighbouring ranks are told apart; r = 8, keep is farther than"
        " r = 2, keep.",
        "0 of 2 comparisons of what is copied or kept are told apart; not r = 2, copy from"
        " r = 2, keep and r = 8, copy from r = 8, keep.",
    ]


@pytest.mark.parametrize(
    ("problems", "family", "said"),
    # The rarest patterns of signs are the two of one sign: 2 of 2 ** problems.
    [(6, 1, None), (6, 2, "6 problems no pattern of signs is rarer than 0.031"),
     (5, 1, "5 problems no pattern of signs is rarer than 0.062"), (10, 25, None),
     (10, 26, "rarer than 0.002, so that none of 26 comparisons"),
     (1, 1, "1 problems no pattern of signs is rarer than 1,")],
)  # fmt: skip
def test_too_few_problems_to_tell_anything_apart_are_said(problems, family, said):
    rows = contrasts(("other", "r2-copy", "r2-keep", 0.1, 1.0), problems=problems)
    found = words.findings(FOUND, distances(contrasts=rows.assign(family=family)))
    warned = [text for text in found if text.startswith("With")]
    assert len(warned) == (said is not None)
    assert all(said in text for text in warned)


def test_where_the_divergence_sits():
    base = pd.DataFrame({"token": 1, "text": "a", "kl": [0.0] * 7 + [1.0, 3.0, 2.0]})
    (said,) = words.findings(FOUND, distances(base=base))
    assert said.startswith("Half of the divergence of Middle one sits in 10% of the tokens, and at")
    assert "at 7.0% of them its likeliest token is another one" in said


@pytest.mark.parametrize(
    ("kl", "share", "wanted"),
    [([3, 1, 2], 0.5, 1 / 3), ([1, 3, 2], 0.6, 2 / 3), ([1, 1, 1, 1], 0.5, 0.5), ([5], 0.9, 1.0),
     ([0, 0, 4, 0], 0.99, 0.25)],
)  # fmt: skip
def test_concentration_is_the_fewest_tokens_that_hold_the_share(kl, share, wanted):
    base = pd.DataFrame({"kl": kl}, dtype=float)
    assert divergences.concentration(distances(base=base), share) == pytest.approx(wanted)


def test_the_first_screen_names_the_lowest_and_the_highest_rank():
    shares = {
        "r2-copy": (0.5, 0.4, 0.6),
        "r8-copy": (0.992, 0.99, 0.995),
        "r2-keep": (0.3, float("nan"), float("nan")),
        "r8-keep": (0.7, 0.65, 0.72),
    }
    rows = [(model, "recovered", *ends) for model, ends in shares.items()]
    rows += [(model, "equal_top", 0.1, 0.1, 0.1) for model in shares]
    rows += [("mid", "kl", 0.01234, 0.01, 0.02), ("new", "kl", 0.0, 0.0, 0.0)]
    figures = pd.DataFrame(rows, columns=["model", "metric", "value", "low", "high"])
    said = words.first_screen(FOUND, "sums", distances(figures=figures.assign(at=float("nan"))))
    assert said == (
        "Read instead of sampled: on New one's own text on Sums the base's next-token"
        " distributions differ by 12.3 thousandths of a nat a token. Of that way rank 2 goes 50.0%"
        " (40.0% \N{EN DASH} 60.0%) with the other weights copied and 30.0% with them kept; rank 8"
        " goes 99.20% (99.0% \N{EN DASH} 99.50%) with the other weights copied and 70.0%"
        " (65.0% \N{EN DASH} 72.0%) with them kept."
    )


def test_the_heaviest_tokens_are_listed_heaviest_first():
    """Of a token and text together; no more than the page has room for."""
    rows = [(n, f"t{n}", float(n)) for n in range(1, 21)]
    rows += [(20, "other", 1.0), (3, "t3", 50.0), (2, " a\n", 30.0)]
    base = pd.DataFrame(rows, columns=["token", "text", "kl"])
    table = divergences.heaviest_table(distances(base=base.assign(kl=base["kl"] / 1000)))
    cells = [[cell["text"] for cell in row["cells"]] for row in table["rows"]]
    total = 210 + 1 + 50 + 30
    assert cells[0] == ["t3", "2", "26.5", f"{53 / total:.0%}"]
    assert cells[1] == ["␣a↵", "1", "30", f"{30 / total:.0%}"]
    assert cells[2] == ["t20", "1", "20", f"{20 / total:.1%}"]
    assert len(cells) == 15
    assert table["heads"] == ["next token", "times read", "KL there, 10⁻³ nats", "share of all"]


def test_nothing_is_shared_out_where_nothing_differs():
    table = divergences.heaviest_table(distances())
    assert [row["cells"][3]["text"] for row in table["rows"]] == ["\N{EN DASH}"] * 2
    assert not words.findings(FOUND, distances())


@pytest.mark.parametrize(
    ("nats", "text"),
    [(0.0123456, "12.3"), (-0.0005, "\N{MINUS SIGN}0.5"), (0.0, "0"), (0.9994, "999"),
     (0.9996, "1,000"), (-1.5, "\N{MINUS SIGN}1,500"), (12.3456, "12,346"),
     (float("nan"), "\N{EN DASH}")],
)  # fmt: skip
def test_nats_are_shown_in_thousandths(nats, text):
    assert divergences.thousandths(nats) == text


@pytest.mark.parametrize(("p", "text"), [(0.0009, "< 0.001"), (0.001, "0.001"), (0.0316, "0.032")])
def test_small_p_values_have_a_bound(p, text):
    assert divergences.chance(p) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.5, 0.6, "50.0% \N{EN DASH} 60.0%"), (1 - 1e-11, 1.0, ""), (float("nan"), 0.6, ""),
     (0.5, float("nan"), "")],
)  # fmt: skip
def test_an_interval_is_shown_where_it_has_a_width(low, high, text):
    assert divergences.span({"low": low, "high": high}, divergences.share_of_way) == text
