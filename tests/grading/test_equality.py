"""One equality for judging and voting: a table of values and their writings, both modes."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest
from equality_table import BESIDE, VALUES, WHOLE

from lowrank.errors import InputError
from lowrank.grading import equality
from lowrank.grading.equality import judge_any, judge_integers, shown, voting_classes
from lowrank.grading.forms import alike
from lowrank.grading.judges import Judges, Question, Reply
from lowrank.grading.numerals import Number, integer
from lowrank.grading.readings import is_variable, stated
from lowrank.grading.writing import tidy

ROWS = WHOLE + VALUES
UNRELATED = "7919"


@pytest.fixture(scope="module")
def judges() -> Iterator[Judges]:
    with Judges(workers=2, time_limit=10) as judges:
        yield judges


def right(judges: Judges, gold: str, answers: Sequence[str]) -> list[bool]:
    judged = judge_any({"a": gold}, [("a", answer) for answer in answers], judges)
    return [judged["a", answer][1] for answer in answers]


def votes(judges: Judges, answers: Sequence[str], gold: str = UNRELATED) -> list[str | None]:
    judged = judge_any({"a": gold}, [("a", answer) for answer in answers], judges)
    return [judged["a", answer][0] for answer in answers]


def test_the_table_is_large_and_says_nothing_twice():
    texts = [text for row in ROWS for text in row]
    assert len(ROWS) >= 60
    assert len(set(texts)) == len(texts)


def test_all_writings_of_a_value_are_one_vote_and_no_two_values_are(judges):
    texts = [text for row in ROWS for text in row]
    judged = judge_any({"a": UNRELATED}, [("a", text) for text in texts], judges)
    assert not [text for text in texts if judged["a", text][2]]  # all are read
    named = [{judged["a", text][0] for text in row} for row in ROWS]
    assert [row for row, names in zip(ROWS, named, strict=True) if len(names) > 1] == []
    assert len(set.union(*named)) == len(ROWS)


def test_every_writing_is_right_beside_its_kin_and_wrong_beside_all_others(judges):
    """In either direction, so judging is symmetric; with voting, which makes classes, it is
    transitive."""
    golds, expected = {}, {}
    for i, row in enumerate(ROWS):
        # A gold that names a variable says more than its value: see BESIDE.
        for gold in (text for text in row if not is_variable(stated(tidy(text))[0])):
            name = f"{i} {gold}"
            golds[name] = gold
            expected |= {(name, text): True for text in row}
            others = (other for other in ROWS if other is not row)
            for other in others if gold == row[0] else [ROWS[i - 1], ROWS[(i + 1) % len(ROWS)]]:
                expected |= {(name, text): False for text in (other[0], other[-1])}
    judged = judge_any(golds, list(expected), judges)
    assert [pair for pair, verdict in expected.items() if judged[pair][1] != verdict] == []


def test_integers_are_read_alike_in_both_modes(judges):
    golds = {str(i): row[0] for i, row in enumerate(WHOLE)}
    pairs = [(name, text) for name in golds for row in ROWS for text in row]
    as_integers, as_any = judge_integers(golds, pairs), judge_any(golds, pairs, judges)
    for i, row in enumerate(WHOLE):
        assert {as_integers[str(i), text][:2] for text in row} == {(integer(row[0]), True)}
    for pair in pairs:
        # What is an integer in one mode is the same integer in the other.
        if as_integers[pair][0] is not None:
            assert as_integers[pair][1] == as_any[pair][1]


@pytest.mark.parametrize(("gold", "kin", "strangers"), BESIDE, ids=[row[0] for row in BESIDE])
def test_what_a_writing_leaves_out_is_read_as_the_gold_has_it(judges, gold, kin, strangers):
    assert [
        text for text, verdict in zip(kin, right(judges, gold, kin), strict=True) if not verdict
    ] == []
    verdicts = right(judges, gold, strangers)
    assert [text for text, verdict in zip(strangers, verdicts, strict=True) if verdict] == []


def test_votes_beside_a_gold_with_a_base_or_a_percent_sign(judges):
    assert len(set(votes(judges, ["4343_6", "4343_7", "4343", "4343_{\\text{six}}"]))) == 3
    assert len(set(votes(judges, ["55", "55_6", "55_{six}", "54_6"], gold="4343_6"))) == 2
    assert len(set(votes(judges, ["30", r"30\%", "30.0", r"31\%"], gold=r"28\%"))) == 2


def test_long_decimals_join_what_they_round_whatever_the_order(judges):
    texts = ["0.333333", "1/3", "0.33333333", "1.414214", r"\sqrt{2}", "1.41421356", "1.4142"]
    for order in (texts, texts[::-1]):
        named = dict(zip(order, votes(judges, order), strict=True))
        assert len({named[text] for text in texts[:3]}) == 1
        assert len({named[text] for text in texts[3:6]}) == 1
        assert len(set(named.values())) == 3
    third, decimal = Fraction(1, 3), Fraction("0.333333")
    assert alike(Number(third), Number(decimal, rounded=True))
    assert alike(Number(decimal, rounded=True), Number(third))
    assert not alike(Number(decimal), Number(third))  # the fraction 333333/1000000


def test_a_class_is_named_by_its_integer_or_its_shortest_member():
    def named(*texts: str, value: str) -> set[str]:
        return set(voting_classes(dict.fromkeys(texts, Number(Fraction(value))), {}).values())

    assert named(r"\frac{50}{2}", "25.0", "+25", "x", value="25") == {"25"}
    assert named(r"\frac12", "0.5", "1/2", "2^{-1}", value="1/2") == {"0.5"}
    # What math-verify found to be one, whatever its form.
    other = dict.fromkeys(["aa", "b", "c"], ("other",))
    classes = voting_classes(other, {"aa": "aa", "b": "aa", "c": "c"})
    assert classes == {"aa": "b", "b": "b", "c": "c"}


def test_a_long_decimal_finds_what_it_rounds_across_the_grid():
    """Values are looked up by their first three decimals, and these two differ there."""
    forms = {"exact": Number(Fraction("0.4999999")), "0.500000": Number(Fraction(1, 2), True)}
    assert len(set(voting_classes(forms, {}).values())) == 1
    below = {"exact": Number(Fraction("0.5000001")), "0.499999": Number(Fraction("0.499999"), True)}
    assert len(set(voting_classes(below, {}).values())) == 2


def test_integers_are_compared_by_value():
    judged = judge_integers({"a": "025"}, [("a", "25.0"), ("a", "25"), ("a", "x"), ("a", None)])
    assert judged == {
        ("a", "25.0"): ("25", True, None),
        ("a", "25"): ("25", True, None),
        ("a", "x"): (None, False, None),
    }


def test_an_overlong_answer_is_shown_by_its_start_and_a_digest():
    assert shown("x" * 2000) == "x" * 2000
    one, other = shown("x" * 2001), shown("x" * 2000 + "y")
    assert one.startswith("x" * 200 + "... (2001 characters, sha256 ")
    assert one != other


class Counting(Judges):
    """Judges that note what they are asked."""

    def __init__(self, **options: float):
        super().__init__(**options)
        self.asked: list[Question] = []

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        self.asked += questions
        return super().ask(questions)


def test_equations_are_read_once_and_not_compared_in_pairs():
    planes = [f"{2 * i + 1}x + {i}y - z = {i * i + 2}" for i in range(40)]
    planes += [f"{4 * i + 2}x + {2 * i}y = {2 * i * i + 4} + 2z" for i in range(40)]
    with Counting(workers=2, time_limit=10) as judges:
        named = votes(judges, planes, gold="5x - 7y + 11z + 4 = 0")
    assert named[:40] == named[40:]
    assert len(set(named)) == 40
    assert [question for question in judges.asked if question[0] == "same"] == []
    assert len(judges.asked) == len(planes) + 1  # and the gold


def test_what_has_no_form_is_compared_by_math_verify_and_that_is_bounded(
    judges, monkeypatch, capsys
):
    answers = [r"\frac{d}{dx}f(x)", r"\frac{d}{dx}(f(x))", r"\lim_{x\to 0} f(x)"]
    assert len(set(votes(judges, answers))) == 2
    assert right(judges, answers[0], answers[1:]) == [True, False]
    monkeypatch.setattr(equality, "COMPARISONS", 0)
    assert len(set(votes(judges, answers))) == 3
    assert "problem a: 3 pairs of answers of unusual kinds" in capsys.readouterr().err


def test_golds_that_cannot_be_read_are_named_before_anything_is_judged(judges):
    golds = {"a": "5", "b": r"\frac{1}{", "c": "{" * 300 + "5" + "}" * 300, "d": "9^{9^{9^9}}"}
    with Judges(workers=1, time_limit=0.5) as short, pytest.raises(InputError) as said:
        judge_any(golds, [], short)
    assert r"b (not readable as mathematics: \frac{1}{)" in str(said.value)
    assert "c (nested" in str(said.value)
    assert "d (over 0.5 s" in str(said.value)
    assert "problems b" in str(said.value)


def test_words_are_compared_as_words(judges):
    assert votes(judges, [r"\text{no solution}", "No solution.", "none"])[:2] == ["No solution"] * 2
    assert right(judges, r"\text{cat}", ["cat", r"\text{Cat}", "act", r"\text{act}"]) == [
        *[True, True, False, False]
    ]
    assert len(set(votes(judges, [r"\text{two units}", r"\text{two points}"]))) == 2
    assert right(judges, r"\text{even}", ["Even", r"\text{odd}", r"\frac{1}{", "2"]) == [
        True,
        False,
        False,
        False,
    ]
