"""What grades promise, with math-verify really running in its worker processes."""

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pandas
import pytest

from lowrank.errors import InputError
from lowrank.files import write_table
from lowrank.grading.grade import grade, summary
from lowrank.grading.judges import Judges

ROOT = Path(__file__).parents[2]


def table(completions: dict[str, list[str]], **columns) -> pandas.DataFrame:
    rows = [
        {"problem_id": problem, "sample": i, "completion": text}
        for problem, texts in completions.items()
        for i, text in enumerate(texts)
    ]
    return pandas.DataFrame(rows).assign(**columns)


def problems(**answers) -> pandas.DataFrame:
    return pandas.DataFrame({"problem_id": list(answers), "answer": list(answers.values())})


def boxed(*answers: str) -> list[str]:
    return [rf"... so \boxed{{{answer}}}" for answer in answers]


def test_an_integer_benchmark_takes_integers_only():
    texts = boxed("025", r"25 \text{ cm}", "3.25", r"\frac{50}{2}", "x = 25", "26")
    grades = grade(table({"a": texts}), problems(a="025"), answer_type="integer")
    assert grades["answer"].tolist() == ["25", "25", None, None, "25", "26"]
    assert grades["correct"].tolist() == [True, True, False, False, True, False]
    assert grades["extracted"][2] == "3.25"
    with pytest.raises(InputError, match="no integers"):
        grade(table({"a": texts}), problems(a="1/2"), answer_type="integer")


def test_equal_answers_are_one_class_whatever_their_spelling_or_order():
    spellings = [
        *boxed(r"\frac{1}{2}", "0.5", "1/2", r"\dfrac{2}{4}", r"\sqrt{8}", r"2\sqrt{2}", "(1,2)"),
        *boxed("x+1", "1+x", "7", r"\text{east}", "East", "699 or 700", r"\{700, 699\}"),
        "no answer",
    ]
    gold = problems(a=r"\sin\left(\frac{\pi}{6}\right)")
    grades = grade(table({"a": spellings}), gold, workers=2)
    classes = grades["answer"].tolist()
    assert len(set(classes[:4])) == len(set(classes[4:6])) == len(set(classes[7:9])) == 1
    assert len(set(classes[10:12])) == len(set(classes[12:14])) == 1
    assert classes[14] is None
    assert len(set(classes)) == 8  # 1/2, root 8, interval, x+1, 7, east, 699 or 700, none
    assert grades["correct"].tolist() == [True] * 4 + [False] * 11
    backwards = grade(table({"a": spellings[::-1]}), gold, workers=1)
    assert backwards["answer"].tolist() == classes[::-1]
    assert backwards["correct"].tolist() == grades["correct"].tolist()[::-1]


def test_equal_wrong_answers_are_one_class_whatever_they_are():
    alike = [
        ("5", "x=5", "x = 5"),
        (r"\frac{7}{2}", "x=3.5"),
        ("1,2", r"\{2, 1\}", r"x = 1 \text{ or } 2"),
        (r"(3,\sqrt{8})", r"\left(3, 2\sqrt{2}\right)"),
        (r"(\sqrt{8},3)",),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
        (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty,2)"),
        (r"28\%",),
        ("3x+4", "4+3x"),
        (r"\infty", r"+\infty"),
    ]
    spellings = [text for group in alike for text in group]
    classes = grade(table({"a": boxed(*spellings)}), problems(a="25"), workers=2)["answer"]
    named = dict(zip(spellings, classes, strict=True))
    assert [len({named[text] for text in group}) for group in alike] == [1] * len(alike)
    assert len(set(classes)) == len(alike)


@pytest.mark.parametrize(("gold", "answer"), [("28", r"28\%"), (r"28\%", "28"), ("0.28", r"28\%")])
def test_a_percentage_may_be_meant_either_way(gold, answer):
    assert grade(table({"a": boxed(answer)}), problems(a=gold))["correct"].all()


def test_what_math_verify_reads_wrongly_is_read_rightly():
    pairs = {"700": r"699\text{ or }700", "25": "3.25", "10000": "10{,}000", "1000": "1, 000"}
    golds = problems(**{f"p{i}": gold for i, gold in enumerate(pairs)})
    grades = grade(table({f"p{i}": boxed(a) for i, a in enumerate(pairs.values())}), golds)
    assert grades["correct"].tolist() == [False, False, True, False]


def test_verdicts_on_pairs_made_by_hand():
    same = [
        *(
            (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}2)"),
            ("p - q", "-q+p"),
            ("5", "x=5"),
        ),
        *(
            (r"10\%", "10"),
            (r"\$12.50", "12.5"),
            (r"3\sqrt{13}", r"\sqrt{117}"),
            ("1,2,3", "3, 2, 1"),
        ),
        *((r"\text{Evelyn}", "evelyn"), (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}")),
        *((r"x \in [-2,7]", "[-2,7]"), (r"11\frac{1}{2}", "11.5"), (r"90^\circ", "90")),
        *(
            ("y = 2x+3", "2x+3"),
            (r"\text{(B)}", "B"),
            ("3,628,800", "10!"),
            (r"\frac13", "0.333333"),
        ),
        *(("5000000", r"5 \text{ million}"), (r"\begin{pmatrix}1\\2\end{pmatrix}",) * 2),
    ]
    different = [
        *(("[0,1]", "(0,1)"), ("(2,5)", "25"), ("25", "2,5"), ("y=5", "x=5"), ("p - q", "q - p")),
        *(
            ("1,2", "1"),
            (r"11\frac{1}{2}", r"\frac{11}{2}"),
            (r"2\pi", "6.2832"),
            ("699", "699 or 700"),
        ),
        *((r"\text{(B)}", "C"), (r"\text{even}", r"\text{odd}"), ("5", r"5 \text{ million}")),
        *(("(1,2)", "(2,1)"), (r"\frac{1}{3}", "0.33"), ("12", "1 2"), ("3", r"\pm 3")),
    ]
    golds = problems(**{f"p{i}": pair[0] for i, pair in enumerate(same + different)})
    answers = {f"p{i}": boxed(pair[1]) for i, pair in enumerate(same + different)}
    grades = grade(table(answers), golds, workers=2)
    expected = [True] * len(same) + [False] * len(different)
    failed = [
        pair
        for pair, got, wanted in zip(same + different, grades["correct"], expected, strict=True)
        if got != wanted
    ]
    assert not failed
    assert grades["unjudged"].isna().all()


def test_hostile_answers_end_within_their_limits_and_are_named():
    hostile = [
        *boxed("9^{9^{9^9}}", "9" * 1_000_000, "{" * 10_000 + "5" + "}" * 10_000),
        *boxed("5\0", "\ud800", "\u202e52", r"\frac{" * 90 + "}" * 90, "x" * 1_000_000),
        *boxed("(((" * 30 + "1" + ")))" * 30, "100000!", r"\sum_{n=1}^{10^{12}} n^{n}"),
        r"\boxed{" * 10_000,
        *boxed("{" * 900 + "5" + "}" * 900, "x" + r"\ " * 300_000, "x" + " ." * 300_000),
    ]
    start = time.monotonic()
    grades = grade(table({"a": hostile}), problems(a="25"), time_limit=1.0, workers=2)
    assert time.monotonic() - start < 120
    assert not grades["correct"].any()
    unjudged = dict(zip(grades["sample"], grades["unjudged"], strict=True))
    assert unjudged[0] == "over 1 s"
    assert "longer" in unjudged[2]
    assert "nested" in unjudged[12]
    assert "longer" in unjudged[7]
    assert unjudged[1] is None  # a very long integer is not 25
    assert unjudged[11] is None
    assert pandas.isna(grades["answer"][11])
    assert "a#0: over 1 s: 9^{9^{9^9}}" in summary(grades)
    assert grades["extracted"].dropna().str.len().max() < 3000


def test_strange_numbers_are_classes_of_their_own():
    """Also next to one that no float can hold."""
    answers = ["1" + "0" * 350, r"\sqrt{8}", "1" + "0" * 400, r"\frac{1}{0}", r"\infty", "nan"]
    answers += [r"2\sqrt{2}", "1/0", r"\frac{0}{0}", "-1" + "0" * 350, "0." + "3" * 390, "0"]
    grades = grade(table({"a": boxed(*answers)}), problems(a="25"), workers=2)
    assert not grades["correct"].any()
    assert grades["unjudged"].isna().all()
    classes = grades["answer"].tolist()
    assert classes[1] == classes[6]
    assert classes[3] == classes[7]
    assert len(set(classes)) == len(answers) - 2


def test_limits_are_passed_on_to_the_judges():
    """An answer that takes too long, and one that takes too much memory."""
    answers = boxed("9^{9^{9^9}}", "2^{2^{33}}")
    short = grade(table({"a": answers[:1]}), problems(a="25"), time_limit=0.5)
    assert short["unjudged"].tolist() == ["over 0.5 s"]
    small = grade(table({"a": answers[1:]}), problems(a="25"), time_limit=5, memory_limit=2**28)
    assert small["unjudged"].tolist() == ["over 256 MiB"]


def test_the_posts_rule_is_passed_on():
    texts = [r"\boxed{\text{25}}"]  # its first closing brace ends an answer
    columns = ["answer", "extracted"]
    last, post = (
        grade(table({"a": texts}), problems(a="25"), answer_type="integer", rule=rule)
        for rule in ("last", "post")
    )
    assert last[columns].values.tolist() == [["25", r"\text{25}"]]
    assert post[columns].values.tolist() == [[None, r"\text{25"]]


def test_a_log_counts_every_kind_once():
    texts = [*boxed("25", "25", "26", "1/2", "x" * 3000), "so it is 25", "no idea", r"25 \boxed{y}"]
    grades = grade(table({"a": texts}), problems(a="25"), answer_type="integer")
    said = summary(grades).splitlines()
    assert said[0] == (
        "8 completions: 2 right, 1 wrong, 2 without an answer, 3 whose answer is not of the "
        "benchmark's type; 0 could not be judged and count as wrong"
    )
    assert said[1] == "  a#3: not of the type: 1/2"
    assert said[-1] == "  2 without an answer hold the right one in their text"
    # Only where no answer was found may one have been overlooked.
    assert grades["overlooked"].tolist() == [*[False] * 5, True, False, True]
    assert len(grades["extracted"][4]) < 300


def test_judges_answer_in_order_and_end_with_their_block():
    before = set(multiprocessing.active_children())
    with Judges(workers=2) as judges:
        replies = judges.ask([("form", f"{i}x") for i in range(5)] + [("same", "x", "y")])
        alone = [judges.ask([("form", f"{i}x")])[0] for i in range(5)]
        (unreadable,) = judges.ask([("form", r"\frac{1}{")])
    assert replies[:5] == alone
    assert len({reply.value for reply in alone}) == 5
    assert replies[5].value is False
    assert (unreadable.value, unreadable.reason) == (None, "not readable as mathematics")
    assert set(multiprocessing.active_children()) == before


def test_limits_are_the_kernels_and_a_worker_is_replaced():
    with Judges(workers=1, time_limit=0.5) as judges:
        replies = judges.ask(
            [("form", "9^{9^{9^9}}"), ("same", r"\frac{1}{2}", r"0.5"), ("nonsense",)]
        )
    assert [reply.value for reply in replies] == [None, True, None]
    assert replies[0].reason == "over 0.5 s"


def test_only_the_text_after_the_reasoning_is_searched():
    texts = [r"\boxed{1}</think> \boxed{2}", r"\boxed{2}", "</think>", ""]
    grades = grade(table({"a": texts}), problems(a="2"), reasoning_end="</think>")
    assert grades["correct"].tolist() == [True, False, False, False]
    assert grades["answer"].tolist() == ["2", None, None, None]


def test_the_log_says_what_was_refused_and_why_nothing_was_found(tmp_path):
    texts = [r"\boxed{25} 25", r"25 </think> \boxed{3.25}", r"</think> \boxed{2^5}", "</think> 25"]
    table({"a": texts}).to_parquet(tmp_path / "s.parquet")
    problems(a="25").to_parquet(tmp_path / "p.parquet")
    command = [sys.executable, ROOT / "scripts/grade.py", "--samples", tmp_path / "s.parquet"]
    command += ["--problems", tmp_path / "p.parquet", "--output", tmp_path / "g.parquet"]
    command += ["--answer-type", "integer", "--reasoning-end", "</think>"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "4 completions: 0 right, 0 wrong, 2 without an answer, 2 whose answer is not" in said
    assert "a#1: not of the type: 3.25" in said
    assert "a#2: not of the type: 2^5" in said
    assert "3 without an answer hold the right one in their text" in said
    assert "no `</think>` in 1 of 4 completions" in said
    grades = pandas.read_parquet(tmp_path / "g.parquet")
    assert grades["overlooked"].tolist() == [True, True, False, True]


def test_golds_are_read_whatever_they_are_stored_as():
    stored = [6.72e-05, 1e3, 25.0, numpy.int64(7), numpy.array(["9"]), ["1/2"], numpy.float64(0.5)]
    written = ["0.0000672", "1000", "25", "7", "9", "0.5", r"\frac12"]
    names = [f"p{i}" for i in range(len(stored))]
    golds = pandas.DataFrame({"problem_id": names, "answer": pandas.Series(stored, dtype=object)})
    answers = {name: boxed(text) for name, text in zip(names, written, strict=True)}
    assert grade(table(answers), golds)["correct"].all()


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ([1, 2], "the answer of problem 'b' is a list of 2 values"),
        (numpy.array([1.0, 2.0]), "the answer of problem 'b' is a list of 2 values"),
        ({"value": 1}, "the answer of problem 'b' is a dict"),
        ([], "problem 'b' has no answer"),
        (r"\frac{1}{", r"problems b \(not readable as mathematics"),
    ],
)
def test_a_gold_that_cannot_be_read_is_the_golds_fault(gold, said):
    golds = pandas.DataFrame({"problem_id": ["a", "b"], "answer": pandas.Series(["1", gold])})
    with pytest.raises(InputError, match=said):
        grade(table({"a": boxed("1"), "b": boxed("1")}), golds)


def test_other_columns_are_carried_along_and_rows_are_put_in_order():
    samples = table({"b": boxed("1", "2"), "a": boxed("3", "4")}, finish_reason="stop")
    grades = grade(samples.iloc[::-1], problems(a=4, b=1.0))
    assert grades[["problem_id", "sample"]].values.tolist() == [
        ["a", 0],
        ["a", 1],
        ["b", 0],
        ["b", 1],
    ]
    assert grades["correct"].tolist() == [False, True, True, False]
    assert grades["finish_reason"].tolist() == ["stop"] * 4
    assert "completion" not in grades


def test_any_other_column_can_be_stored(tmp_path):
    """A column named like a verdict keeps its values under another name; nothing breaks a file."""
    samples = table({"a": boxed("1", "2")})
    samples["answer"], samples["samples_answer"], samples["correct"] = "theirs", "more", 0.5
    samples["tokens"] = [[1, 2], [3]]
    samples["mixed"], samples["half"] = [["a", 1], 2], ["\ud800", None]
    samples["report"], samples["huge"] = ["none", {"n": numpy.arange(2)}], [10**30, 1]
    grades = grade(samples, problems(a="1"))
    write_table(tmp_path / "g.parquet", grades)
    stored = pandas.read_parquet(tmp_path / "g.parquet")
    assert stored["correct"].tolist() == [True, False]
    assert stored["answer"].tolist() == ["1", "2"]
    assert stored["samples_samples_answer"].tolist() == ["theirs"] * 2
    assert stored["samples_answer"].tolist() == ["more"] * 2
    assert stored["samples_correct"].tolist() == [0.5] * 2
    assert [list(tokens) for tokens in stored["tokens"]] == [[1, 2], [3]]
    assert stored["mixed"].tolist() == ['["a", 1]', "2"]
    assert stored["half"].tolist() == ["?", None]
    assert stored["report"].tolist() == ['"none"', '{"n": [0, 1]}']
    assert stored["huge"].tolist() == [str(10**30), "1"]


def test_numbers_that_became_floats_are_read_as_written():
    samples = pandas.DataFrame({"problem_id": [7.0, 7.0], "sample": [0.0, 1.0]})
    samples["completion"] = boxed("25", "26")
    golds = pandas.DataFrame({"problem_id": [7], "answer": [25.0]})
    grades = grade(samples, golds)
    assert grades["problem_id"].tolist() == ["7", "7"]
    assert grades["correct"].tolist() == [True, False]


def test_what_is_no_completion_is_refused_and_a_missing_one_is_no_answer():
    samples = table({"a": ["", "", ""]})
    samples["completion"] = [r"\boxed{1}", None, float("nan")]
    assert grade(samples, problems(a="1"))["answer"].tolist() == ["1", None, None]
    samples["completion"] = [r"\boxed{1}", 5, ["x"]]
    with pytest.raises(InputError, match="no text: a#1, a#2"):
        grade(samples, problems(a="1"))
    samples = table({"a": boxed("1", "2")}).assign(sample=[0, 1.5])
    with pytest.raises(InputError, match="whole numbers"):
        grade(samples, problems(a="1"))
    for limits in ({"time_limit": 0.0}, {"memory_limit": 2**20}):
        with pytest.raises(InputError, match="the limits are"):
            grade(samples, problems(a="1"), **limits)


def test_broken_pools_are_refused_by_name():
    golds = problems(a="1", b="2")
    whole = table({"a": boxed("1", "2"), "b": boxed("1", "2")})
    with pytest.raises(InputError, match="b#1"):
        grade(whole.iloc[:3], golds)
    with pytest.raises(InputError, match=r"more than once: a#0"):
        grade(pandas.concat([whole, whole.iloc[:1]]), golds)
    with pytest.raises(InputError, match="not in the table: b"):
        grade(whole, problems(a="1"))
    with pytest.raises(InputError, match="2 of 3 x 2 samples are missing: c#0, c#1"):
        grade(whole, problems(a="1", b="2", c="3"))
    with pytest.raises(InputError, match="4 of 2 x 4 samples are missing: a#0"):
        grade(whole.assign(sample=whole["sample"] + 2), golds)
    with pytest.raises(InputError, match="lack the column completion"):
        grade(whole.drop(columns="completion"), golds)
    with pytest.raises(InputError, match="no answer"):
        grade(whole, problems(a="1", b=None))
    with pytest.raises(InputError, match="twice"):
        grade(whole, pandas.concat([golds, golds]))


def test_the_program_reads_shards_and_writes_the_same_bytes_twice(tmp_path):
    whole = table({"a": boxed("1", "2", r"\frac{2}{2}", "y"), "b": boxed("1", "2", "2", "x")})
    whole["completion"] += " \u2028 \ud800"  # a line separator and half a character
    for name, part in (("0", whole[whole["sample"] < 2]), ("1", whole[whole["sample"] >= 2])):
        lines = [json.dumps(row) + "\n" for row in part.to_dict("records")]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    problems(a="1", b="2").to_parquet(tmp_path / "p.parquet")
    outputs = []
    for workers in ("1", "2"):
        command = [sys.executable, ROOT / "scripts/grade.py", "--problems", tmp_path / "p.parquet"]
        command += ["--samples", tmp_path / "0.jsonl", tmp_path / "1.jsonl"]
        command += ["--output", tmp_path / f"g{workers}.parquet", "--workers", workers]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "8 completions: 4 right, 4 wrong" in done.stderr
        outputs.append((tmp_path / f"g{workers}.parquet").read_bytes())
    assert outputs[0] == outputs[1]
    command[command.index("--samples") + 1 :] = [tmp_path / "0.jsonl", "--output", "x.parquet"]
    command += ["--samples", tmp_path / "1.jsonl"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
