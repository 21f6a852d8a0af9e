"""The report's section on divergences: what it shows, escapes, refuses, and leaves out."""

import json
import re
import shutil

import pandas
import pytest
from distances_case import ASKED, SCALES, make_divergences
from report_case import EXPERIMENT, SERVED, evaluate, make_results, results_of, variant

from lowrank.errors import InputError
from lowrank.files import write_json, write_table
from lowrank.report import divergences
from lowrank.report.divergences import share_of_way, shown
from lowrank.report.evidence import gather, read_experiment
from lowrank.report.outputs import outputs
from lowrank.report.page import build


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    path = results_of(folder, ASKED)
    make_divergences(folder)
    return path


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    build(results, results.parent, output)
    return (output / "report.html").read_text()


def section(page):
    (found,) = re.findall(r'<section id="divergence">.*?</section>', page, re.DOTALL)
    return found


def test_what_was_read_and_what_that_does_not_say(page):
    said = section(page)
    assert "24 completions of New one on Sums (720 tokens)" in said
    assert "It does not see where a model would go once it had left that text" in said
    assert "2 completions were left out: no ids are kept" in said


def test_every_model_stands_beside_its_accuracy(page):
    (table, *_) = re.findall(r"<tbody>.*?</tbody>", section(page), re.DOTALL)
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    labels = [re.search(r'<th scope="row">(.*?)</th>', row)[1] for row in rows]
    assert labels == ["r = 2, copy", "r = 8, copy", "r = 2, keep", "r = 8, keep", "New one",
                      "Middle one"]  # fmt: skip
    assert all(row.count("<td") == 4 for row in rows)
    assert ">100%<" in rows[4]
    assert "99.90%" in rows[1]


def test_the_findings_follow_from_the_numbers(page):
    said = section(page)
    assert re.search(r"With the other weights copied, 90% .*of the way takes? rank", said)
    assert "99% of the way takes rank 8" in said
    assert "99% of the way takes more than rank 8" in said
    assert "more than 8 to more than 8" not in said
    assert "0 of 2 comparisons of neighbouring ranks are told apart; not r = 8, copy from" in said
    # 6 problems: 2 of 64 patterns of signs are as far out as all of one sign; 4 contrasts.
    assert "no pattern of signs is rarer than 0.031, so that none of 4 comparisons" in said
    assert re.search(r"Half of the divergence of Middle one sits in [\d.]+% of the tokens", said)
    answer = re.search(r'<div class="answer">.*?</div>', page, re.DOTALL)[0]
    assert "Read instead of sampled" in answer
    interval = r"rank 8 goes 99\.9\d*% \(99\.8\d*% . 99\.9\d*%\) with the other weights copied and"
    assert re.search(interval, answer)


def test_a_tokens_text_is_not_trusted(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;[U+202E]" in section(page)


def test_figures_are_written_and_stand_in_the_page(results, tmp_path):
    build(results, results.parent, tmp_path)
    made = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.suffix}
    assert set(outputs(["sums"], ["sft", "rl"], ["divergence"])) <= made
    assert {"figures/divergence-sums.svg", "figures/divergence-along-sums.png"} <= made
    svg = (tmp_path / "figures/divergence-sums.svg").read_text()
    for words in ("Share of the way", "99%", "Mean accuracy", "copy", "keep"):
        assert f">{words}<" in svg


def test_the_same_results_give_the_same_page(results, page, tmp_path):
    build(results, results.parent, tmp_path)
    assert (tmp_path / "report.html").read_text() == page


def test_what_is_only_read_has_no_accuracy(tmp_path):
    """No table, figure or sentence of the page speaks of answers; all else is there."""
    read_only = ASKED | {"only_read": ["lowrank"]}
    path = results_of(tmp_path / "results", read_only)
    make_divergences(path.parent)
    for phase in ("grades", "metrics", "comparisons", "samples/sums/r2-copy"):
        shutil.rmtree(path.parent / phase, ignore_errors=True)
    build(path, path.parent, tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text()
    assert "No answer was graded: this page says nothing about accuracy." in page
    assert set(re.findall(r'<section id="(\w+)"', page)) == {
        "divergence", "changed", "served", "provenance",
    }  # fmt: skip
    assert set(re.findall(r'href="#(\w+)"', page)) == set(re.findall(r'<section id="(\w+)"', page))
    allowed = (
        "nothing about accuracy|that is what accuracy is for|where models answered: mean accuracy"
    )
    shown = page.split("<h3>Deltas</h3>")[0].split("</head>")[1]
    assert "ccuracy" not in re.sub(allowed, "", " ".join(shown.split()))
    written = {p.relative_to(tmp_path / "report").as_posix() for p in
               (tmp_path / "report").rglob("[!.]*.*")}  # fmt: skip
    assert written == set(outputs(["sums"], ["sft", "rl"], ["divergence"]))
    assert "With the other weights copied, 90%" in section(page)


def test_a_control_that_is_only_read_stands_beside_those_that_answer(tmp_path):
    control = {"random-r2-copy": variant(2, "copy", "random")}
    asked = ASKED | {"variants": ASKED["variants"] | control, "controls": ["random"]}
    path = make_results(tmp_path / "results", asked | {"only_read": ["random"]})
    evaluate(path.parent, ASKED)
    make_divergences(path.parent, SCALES | {"random-r2-copy": 0.9})
    assert not (path.parent / "samples/sums/random-r2-copy").exists()
    build(path, path.parent, tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text()
    (row,) = [r for r in re.findall(r"<tr.*?</tr>", section(page), re.DOTALL)
              if '<th scope="row">random, r = 2, copy</th>' in r]  # fmt: skip
    assert re.search(r"<td[^>]*>\N{EN DASH}</td>\s*</tr>", row)
    results = page.split('<section id="results">')[1].split("</section>")[0]
    assert "random" not in results


def test_a_rank_that_is_only_read_has_a_divergence_and_no_answer(tmp_path):
    asked = ASKED | {"only_read": [{"lowrank": [2]}]}
    path = make_results(tmp_path / "results", asked)
    evaluate(path.parent, asked)
    make_divergences(path.parent)
    assert not (path.parent / "samples/sums/r2-copy").exists()
    build(path, path.parent, tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text()
    said = "Each model but r = 2, copy and r = 2, keep, which were only read, answered every"
    assert said in " ".join(page.split())
    assert '<th scope="row">r = 2, copy</th>' in section(page)
    results = page.split('<section id="results">')[1].split("</section>")[0]
    assert "r = 8, copy" in results
    assert "r = 2" not in results
    assert "With rank 8 alone mean accuracy" in page


def test_without_divergences_there_is_no_section(tmp_path):
    path = results_of(tmp_path / "results", EXPERIMENT | {"divergence": None})
    build(path, path.parent, tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text()
    assert 'href="#divergence"' not in page
    assert "Read instead of sampled" not in page
    assert not list((tmp_path / "report/figures").glob("divergence*"))


@pytest.fixture
def changed(tmp_path):
    """Results to be changed."""
    path = results_of(tmp_path / "results", ASKED)
    return path, make_divergences(tmp_path / "results")


def change(path, *keys, value):
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def test_as_much_must_be_read_as_is_asked_for(changed, tmp_path):
    path, where = changed
    change(where / "reference/reference.json", "asked", "tokens", value=10)
    with pytest.raises(InputError, match="'tokens': 10} are read, the configuration says"):
        build(path, path.parent, tmp_path / "report")


def test_more_cannot_be_read_than_there_is(changed):
    """Of 8 completions a problem, 50 are asked for: the 8 are as much as is wanted."""
    path, where = changed
    change(path, "divergence", "samples", value=50)
    change(where / "reference/reference.json", "asked", "samples", value=8)
    found = gather(read_experiment(path), path.parent)
    assert divergences.gather(found)["sums"].read["asked"]["samples"] == 8


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("reference",), "q" * 64),
        (("model", "sha256"), "0" * 64),
        (("model", "adapter_sha256"), "0" * 64),
    ],
)
def test_what_is_of_other_text_or_weights_is_refused(changed, tmp_path, keys, value):
    path, where = changed
    change(where / "r8-copy.json", *keys, value=value)
    with pytest.raises(InputError, match=r"r8-copy\.json: is of other text, or of other weights"):
        build(path, path.parent, tmp_path / "report")


def test_models_that_do_not_differ_are_drawn(tmp_path):
    """Nothing on a log axis, no share of any way."""
    path = results_of(tmp_path / "results", ASKED)
    make_divergences(tmp_path / "results", dict.fromkeys(SCALES, 0.0))
    build(path, path.parent, tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text()
    assert "rank 2 goes \N{EN DASH} with the other weights copied" in page
    assert "Half of the divergence" not in page


def make_parts(where):
    """A table of locate.py: 2 layers of 2 modules, q_proj of layer 1 half of all."""
    rows = [("matrix", layer, module, 1, kl, 0.4 - gain) for layer, module, kl, gain in (
        (0, "q_proj", 0.01, 0.02), (0, "up_proj", 0.02, 0.01),
        (1, "q_proj", 0.2, 0.15), (1, "up_proj", 0.05, -0.01),
    )]  # fmt: skip
    rows += [("module", None, "q_proj", 2, 0.25, 0.2), ("layer", 1, None, 2, 0.3, 0.1)]
    rows += [("rest", None, None, 9, 0.04, 0.38), ("whole", None, None, 13, 0.4, 0.0)]
    names = ["level", "layer", "module", "tensors", "kl_without", "kl_with"]
    table = pandas.DataFrame(rows, columns=names).astype({"layer": "Int64"})
    table["recovered_with"] = 1 - table["kl_with"] / 0.4
    write_table(where / "located/locate.csv", table.assign(n_problems=6, n_tokens=900))
    said = {"reference": "r" * 64, "base_sha256": SERVED, "asked": {"samples": 1, "tokens": 9}}
    write_json(where / "located/locate.json", said)


def test_where_the_change_lives(tmp_path):
    asked = ASKED | {"locate": {"samples": 1, "tokens": 9}}
    path = results_of(tmp_path / "results", asked)
    where = make_divergences(tmp_path / "results")
    make_parts(where)
    build(path, path.parent, tmp_path / "report")
    said = section((tmp_path / "report/report.html").read_text())
    assert "4 matrices and the rest (900 tokens read)" in said
    # 0.01 + 0.02 + 0.2 + 0.05 + 0.04 of 0.4; 0.02 + 0.01 + 0.15 - 0.01 + 0.02 of 0.4.
    assert "cause 80% of that in sum" in said
    assert "save 48% in sum" in said
    assert "missed most is q_proj of layer 1 (50% of the whole" in said
    assert "norms and biases alone go 5.0% of the way" in said
    assert (tmp_path / "report/figures/locate-sums.svg").is_file()
    promised = outputs(["sums"], ["sft", "rl"], ["divergence", "locate"])
    assert "figures/locate-sums.png" in promised
    change(where / "located/locate.json", "asked", "tokens", value=8)
    with pytest.raises(InputError, match=r"locate\.json: is of other text"):
        build(path, path.parent, tmp_path / "again")


def test_shares_show_that_they_are_not_all():
    shares = (0.0, 0.163, 0.99, 0.9949, 0.99949, 0.9996, 0.99998, 0.9999999, 1.0)
    assert [share_of_way(share) for share in shares] == [
        "0.0%", "16.3%", "99.0%", "99.49%", "99.949%", "99.960%", "99.9980%", "99.999990%", "100%",
    ]  # fmt: skip


def test_tokens_are_shown_with_their_spaces():
    assert shown(" a\n\tb\x00") == "␣a↵⇥b[U+0000]"
