"""The report: whole, self-contained, safe, the same every time, and about what was asked only."""

import copy
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from report_case import EXPERIMENT, evaluate, results_of, variant

from lowrank.errors import InputError
from lowrank.files import MARKER, read_json, write_json
from lowrank.metrics.wording import MINUS
from lowrank.report import cells, deltas, results, sentences, verdicts
from lowrank.report.evidence import gather, read_experiment
from lowrank.report.outputs import PICTURES, figures, outputs
from lowrank.report.page import build
from lowrank.report.provenance import provenance
from lowrank.report.traces import visible

OUTPUTS = outputs(EXPERIMENT["benchmarks"], EXPERIMENT["deltas"])


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The report folder of the toy experiment."""
    folder = tmp_path_factory.mktemp("toy")
    build(results_of(folder), folder, folder / "report")
    return folder / "report"


@pytest.fixture
def undrawn(monkeypatch):
    """Builds without figures, for tests of the words."""

    def draw(found, frames, folder):
        stems = figures(found.experiment["benchmarks"], found.experiment["deltas"])
        return dict.fromkeys(stems, "<svg></svg>")

    monkeypatch.setattr("lowrank.report.page._draw", draw)


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags left open."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_outputs_are_exactly_what_is_written(built):
    written = {path.relative_to(built) for path in built.rglob("*") if path.is_file()}
    assert {str(path) for path in written if path.name != MARKER} == set(OUTPUTS)


def test_the_page_needs_nothing_else(built):
    text = (built / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    references = [v for _, n, v in page.attributes if n in ("src", "href", "xlink:href")]
    assert all(reference.startswith("#") for reference in references)
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text


def test_identifiers_on_the_page_are_unique_and_links_arrive(built):
    page = Page((built / "report.html").read_text(encoding="utf-8"))
    names = [value for _, name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names))
    targets = {v[1:] for _, n, v in page.attributes if n in ("href", "xlink:href")}
    assert targets <= set(names)


def test_what_was_computed_in_stands_beside_what_was_served(built):
    page = Page((built / "report.html").read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.text).split())
    assert "top-p 0.95, computed in float32" in text
    assert "engine.dtype bfloat16" in text
    assert "engine.compute_dtype float32" in text
    assert "served as computed in SHA-256 of what was served" in text


def test_two_builds_give_the_same_bytes(built, tmp_path):
    build(results_of(tmp_path), tmp_path, tmp_path / "report")
    for name in OUTPUTS:
        assert (tmp_path / "report" / name).read_bytes() == (built / name).read_bytes(), name


def test_a_trace_cannot_become_markup(tmp_path, undrawn):
    evil = "</pre><script>alert(1)</script><img src=x onerror=y>\x00\u202e\ud800 {{ 7*7 }} $x$"
    folder = tmp_path
    # Parquet holds no lone surrogates, so these are tried on the function that spells them out.
    assert visible(evil).endswith("[U+0000][U+202E][U+D800] {{ 7*7 }} $x$")
    trace = evil.replace("\ud800", "")
    build(results_of(folder, trace=trace), folder, folder / "report")
    text = (folder / "report/report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert "&lt;script&gt;alert(1)" in text
    assert "{{ 7*7 }}" in text


def test_leftovers_of_a_removed_rank_do_not_show(tmp_path, undrawn):
    results_of(tmp_path)
    less = copy.deepcopy(EXPERIMENT)
    del less["variants"]["r8-copy"], less["variants"]["r8-keep"]
    write_json(tmp_path / "experiment.json", less)
    evaluate(tmp_path, less)
    build(tmp_path / "experiment.json", tmp_path, tmp_path / "report")
    text = "".join(Page((tmp_path / "report/report.html").read_text()).text)
    assert "r = 2, copy" in text
    assert "r = 8" not in text
    assert "r8" not in (tmp_path / "report/tables/metrics.csv").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "delta/rl/spectrum.parquet",
        "delta/sft/summary.parquet",
        "models/mid/manifest.json",
        "variants/r2-copy/fidelity.json",
        "adapters/rl/r8/adapter.json",
        "metrics/sums/new.csv",
        "comparisons/sums.csv",
        "comparisons/sums.json",
        "grades/sums/r8-keep.parquet",
        "samples/sums/mid/2-of-2.json",
    ],
)
def test_a_missing_file_is_named(tmp_path, name):
    path = results_of(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        gather(read_experiment(path), tmp_path)


def test_a_missing_column_and_a_missing_key_are_named(tmp_path):
    path = results_of(tmp_path)
    spectrum = tmp_path / "delta/rl/spectrum.parquet"
    pd.read_parquet(spectrum).drop(columns="sigma").to_parquet(spectrum)
    with pytest.raises(InputError, match=r"rl/spectrum\.parquet: lacks the column sigma"):
        gather(read_experiment(path), tmp_path)
    experiment = read_json(path)
    del experiment["delta"]
    write_json(path, experiment)
    with pytest.raises(InputError, match=r"experiment\.json: lacks delta"):
        read_experiment(path)


def test_ranks_at_or_above_a_matrix_are_said_in_words(tmp_path):
    experiment = copy.deepcopy(EXPERIMENT)
    experiment["variants"]["r16-copy"] = variant(16, "copy")
    found = gather(read_experiment(results_of(tmp_path, experiment)), tmp_path)
    assert sentences.capped(found, deltas.deltas_frame(found)) == [
        "Rank 8 is all that 2 matrices (k_proj) have: there the whole delta is kept.",
        "Rank 16 is capped at 8 in 2 matrices (k_proj), which have no more: there the whole delta"
        " is kept.",
    ]


def test_published_numbers_stand_under_ours(tmp_path):
    published = tmp_path / "published.csv"
    pd.DataFrame(
        [
            ("sums", "r2-copy", "avg_maj", 2, 0.123456, "A post", "16 draws"),
            ("sums", "new", "mean", np.nan, 0.987, "A paper", "64 samples"),
            ("other", "new", "avg_maj", 2, 0.222, "A post", ""),
            ("sums", "unknown", "mean", np.nan, 0.333, "A post", ""),
        ],
        columns=["benchmark", "model", "metric", "k", "value", "source", "note"],
    ).to_csv(published, index=False)
    experiment = EXPERIMENT | {"published": str(published)}
    found = gather(read_experiment(results_of(tmp_path, experiment)), tmp_path)
    frame = results.results_frame(found, "sums")
    table = results.results_table(found, frame)
    texts = [[cell["text"] for cell in row["cells"]] for row in table["rows"]]
    at = [row[0] for row in texts].index("r = 2, copy")
    assert texts[at + 1][:3] == ["published", "0.123", cells.DASH]
    assert sum(row[0] == "published" for row in texts) == 1
    anchors = results.anchors_table(found, "sums")
    assert [row["cells"][2]["text"] for row in anchors["rows"]] == ["0.987"]


def test_no_model_that_can_do_anything_keeps_nothing(tmp_path, undrawn):
    """Every model at 0 %: no answer, no share of a gain, no interval without width."""
    path = results_of(tmp_path)
    for pool in tmp_path.glob("grades/sums/*.parquet"):
        pd.read_parquet(pool).assign(answer="no", correct=False).to_parquet(pool)
    evaluate(tmp_path)
    build(path, tmp_path, tmp_path / "report")
    text = "".join(Page((tmp_path / "report/report.html").read_text(encoding="utf-8")).text)
    assert "Mean accuracy: whether it is kept cannot be answered here" in text
    assert "kept by" not in text
    assert "of that gain" not in text
    assert f"{MINUS}0.0" not in text


def test_the_margin_that_the_page_gives_reasons_for_is_the_configurations():
    config = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
    assert config["margin"] == sentences.MARGIN


def test_a_delta_of_nothing_can_be_shown(tmp_path, undrawn):
    path = results_of(tmp_path)
    folder = tmp_path / "delta/rl"
    spectrum = pd.read_parquet(folder / "spectrum.parquet").assign(sigma=0.0)
    spectrum.to_parquet(folder / "spectrum.parquet")
    zeros = dict.fromkeys(["frobenius", "sigma_1", "stable_rank", "relative_frobenius"], 0.0)
    ranks = {"rank_50": 0, "rank_90": 0, "rank_99": 0, "sigma_1_ratio": None}
    summary = pd.read_parquet(folder / "summary.parquet").assign(**zeros, **ranks)
    summary.to_parquet(folder / "summary.parquet")
    build(path, tmp_path, tmp_path / "report")
    text = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert not re.search(r"\bnan\b", "".join(Page(text).text).lower())


def test_a_delta_without_details_is_shown_without_them(tmp_path, undrawn):
    path = results_of(tmp_path)
    for delta in EXPERIMENT["deltas"]:
        summary = tmp_path / f"delta/{delta}/summary.parquet"
        lines = pd.read_parquet(summary)
        lines.drop(columns=list(lines.loc[:, "unchanged":"aligned_energy"])).to_parquet(summary)
    build(path, tmp_path, tmp_path / "report")
    text = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "in bf16" not in text
    assert "after a cast of both to bfloat16" not in text


def test_completions_that_differ_in_text_are_counted(tmp_path):
    found = gather(read_experiment(results_of(tmp_path)), tmp_path)
    pool = pd.concat(
        pd.read_parquet(path) for path in sorted(tmp_path.glob("samples/sums/new/*.parquet"))
    )
    assert found.distinct["sums", "new"] == len(
        pool[["problem_id", "completion"]].drop_duplicates()
    )
    pools = provenance(found)["pools"]
    row = next(r for r in pools["rows"] if r["cells"][0]["text"] == "New one")
    at = pools["heads"].index("distinct")
    assert row["cells"][at]["text"] == str(found.distinct["sums", "new"])


def test_what_sampling_warned_of_stands_before_the_answer(tmp_path, undrawn):
    path = results_of(tmp_path)
    build(path, tmp_path, tmp_path / "report")
    assert "Warning." not in (tmp_path / "report/report.html").read_text(encoding="utf-8")
    record = tmp_path / "samples/sums/new/2-of-2.json"
    write_json(record, read_json(record) | {"warnings": ["23 of 24 completions are <empty>"]})
    build(path, tmp_path, tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    warned = re.search(r"New one on Sums.*: 23 of 24 completions are &lt;empty&gt;", page).start()
    assert warned < page.index('<div class="answer">')


def test_prompts_that_differ_between_models_are_called_out(tmp_path):
    path = results_of(tmp_path)
    same = dict(provenance(gather(read_experiment(path), tmp_path))["sampling"])
    assert same["hash of the prompts' token ids, Sums"].endswith("same for every model and part")
    record = tmp_path / "samples/sums/new/2-of-2.json"
    changed = read_json(record)
    changed["prompt"]["ids_sha256"]["p1"] = "0" * 64
    write_json(record, changed)
    other = dict(provenance(gather(read_experiment(path), tmp_path))["sampling"])
    assert other["hash of the prompts' token ids, Sums"].startswith("NOT the same")


def test_energy_is_the_share_of_squares():
    spectrum = pd.DataFrame({"index": [0, 1, 0, 1], "sigma": [3.0, 4.0, 0.0, 5.0]})
    assert deltas.energy_at(spectrum, 1) == pytest.approx(9 / 50)
    assert deltas.energy_at(spectrum, 2) == 1
    assert np.isnan(deltas.energy_at(spectrum.assign(sigma=0.0), 1))


def test_noise_holds_the_share_of_its_null_weighted_by_norm():
    spectrum = pd.DataFrame(
        {
            "tensor": ["a", "a", "b"],
            "index": [0, 1, 0],
            "sigma": [1.0, 1.0, 2.0],
            "energy_kept_gaussian": [0.6, 1.0, 1.0],
        }
    )
    assert deltas.null_energy_at(spectrum, 1) == pytest.approx((2 * 0.6 + 4 * 1) / 6)
    assert deltas.null_energy_at(spectrum, 9) == 1


def test_every_matrix_has_its_energy_beside_that_of_its_nulls(tmp_path):
    """The nulls of a matrix alone are those of a delta that is this matrix."""
    found = gather(read_experiment(results_of(tmp_path)), tmp_path)
    frame = deltas.deltas_frame(found)
    for line in frame[frame["delta"] == "rl"].to_dict("records"):
        spectrum = found.spectra["rl"]
        alone = spectrum[spectrum["tensor"] == line["tensor"]]
        for rank in (2, 8):
            for null in ("gaussian", "shuffled"):
                share = deltas.null_energy_at(alone, rank, f"energy_kept_{null}")
                assert line[f"energy_r{rank}_{null}"] == pytest.approx(share)
    ratio = frame["overlap_left"] * frame["rows"] / frame["aligned_k"]
    assert np.allclose(frame["overlap_left_ratio"], ratio)


def test_controls_are_named_and_stand_outside_the_answer(tmp_path):
    experiment = copy.deepcopy(EXPERIMENT)
    experiment["variants"]["random-r2-copy"] = variant(2, "copy", "random")
    found = gather(read_experiment(results_of(tmp_path, experiment)), tmp_path)
    comparisons = found.comparisons
    assert found.label("random-r2-copy") == "random, r = 2, copy"
    assert "rank 2 and 2" not in verdicts.sentence(found, comparisons, "sums")
    rows = verdicts.box_table(found, comparisons, "sums", ("mean", 1))["rows"]
    assert [row["cells"][0]["text"] for row in rows][-1] == "random, r = 2, copy"
    points, _, _ = results.accuracy_points(found, results.results_frame(found, "sums"), "sums")
    assert len(points) == 2 * 4


def test_every_form_and_control_has_its_rows(tmp_path, undrawn):
    """Served in two dtypes and two ways, with all controls: the answer is about the first form."""
    experiment = copy.deepcopy(EXPERIMENT)
    experiment |= {"serve_dtype": ["bfloat16", "float32"], "serve_as": ["merged", "adapter"]}
    experiment["controls"] = ["other", "biases", "random", "bottom", "rescaled"]
    experiment["variants"] |= {
        "r2-copy-float32": variant(2, "copy", dtype="float32"),
        "r2-copy-adapter": variant(2, "copy", serve_as="adapter", adapter="r2-padded"),
        "r0-copy": variant(0, "copy", "other"),
        "r0-keep": variant(0, "keep", "biases"),
        **{f"{kind}-r2-copy": variant(2, "copy", kind) for kind in experiment["controls"][2:]},
    }
    path = results_of(tmp_path, experiment)
    build(path, tmp_path, tmp_path / "report")
    text = "".join(Page((tmp_path / "report/report.html").read_text(encoding="utf-8")).text)
    for said in (
        "r = 2, copy, float32", "r = 2, copy, adapter", "r = 0, copy", "r = 0, keep",
        "bottom, r = 2, copy", "rescaled, r = 2, copy",
        "Everything of the derivative except the change of its projections (r = 0, copy): mean",
    ):  # fmt: skip
        assert said in text, said
    found = gather(read_experiment(path), tmp_path)
    assert list(found.lowrank) == list(EXPERIMENT["variants"])
    stored = pd.read_csv(tmp_path / "report/tables/fidelity.csv").set_index("variant")
    assert stored.loc["r2-copy-adapter", "serve_as"].unique() == ["adapter"]


def test_another_way_to_fill_the_other_weights_is_on_the_page(tmp_path):
    """A way beside copy and keep that nobody has named: in the answer, the tables, the figure."""
    experiment = copy.deepcopy(EXPERIMENT)
    experiment["variants"] |= {f"r{r}-mean": variant(r, "mean") for r in (2, 8)}
    path = results_of(tmp_path, experiment)
    build(path, tmp_path, tmp_path / "report")
    page = Page((tmp_path / "report/report.html").read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.text).split())
    assert "r = 2, mean" in text
    assert "with them mean" in text  # in the answer
    svg = (tmp_path / "report/figures/accuracy-by-rank-sums.svg").read_text()
    assert all(f"<!-- {way} -->" in svg or f">{way}<" in svg for way in ("copy", "keep", "mean"))


def test_names_that_look_like_numbers_are_names(tmp_path):
    experiment = EXPERIMENT | {"benchmarks": {"2024": EXPERIMENT["benchmarks"]["sums"]}}
    found = gather(read_experiment(results_of(tmp_path, experiment)), tmp_path)
    assert set(results.results_frame(found, "2024")["benchmark"]) == {"2024"}
    assert len(verdicts.against(found.comparisons, "2024", "new", ("mean", 1))) == 4


def test_the_published_table_is_whole_and_in_the_steps_of_its_protocol():
    path = Path(__file__).parents[2] / "experiments/published/deepscaler.csv"
    table = pd.read_csv(path)
    post = table[table["metric"] == "avg_maj"]
    assert len(post) == 8 * 3
    # Means of 16 draws over 30 problems; the base's row is in steps that 16 cannot give.
    for model, rows in post.groupby("model"):
        steps = rows["value"] * (150 if model == "distill" else 480)
        assert np.allclose(steps, steps.round(), atol=5e-4), model
    assert not table.duplicated(["benchmark", "model", "metric", "k", "source", "note"]).any()


def test_every_figure_has_a_place_of_its_own(built):
    assert 'id="others"' not in (built / "report.html").read_text()


def test_a_new_figure_takes_a_record_and_a_caption(tmp_path, monkeypatch):
    """It is drawn, saved and shown, though the template does not know it."""
    kind = next(kind for kind in PICTURES if kind.stem == "fidelity")
    more = (*PICTURES, replace(kind, stem="energy", of="benchmark"))
    for module in ("page", "outputs"):
        monkeypatch.setattr(f"lowrank.report.{module}.PICTURES", more)
    path = results_of(tmp_path)
    build(path, tmp_path, tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text()
    added = page.split('<section id="others">')[1].split("</section>")[0]
    assert added.count("<figure>") == 1
    assert (tmp_path / "report/figures/energy-sums.png").is_file()
