"""Sampling: what is asked, what survives a kill, and that the pool is the same however made."""

import json
import sys
from pathlib import Path

import pandas
import pytest
from sampling_case import (
    PROBLEMS,
    SCRIPTS,
    job,
    kill_at,
    lines,
    make_folder,
    no_engine,
    pretend,
    run,
)

from lowrank import engine, journal, sampling
from lowrank.errors import InputError
from lowrank.files import sha256
from lowrank.manifest import FORMAT
from lowrank.seeds import request_seed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("job"))


@pytest.fixture(autouse=True)
def _versions(monkeypatch):
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "a version"})


def test_a_table_has_a_row_a_completion_in_order(folder):
    table = run(folder, "rows.parquet", "--first", "2", "--count", "3")
    assert list(table.columns) == list(sampling.COLUMNS)
    keys = list(zip(table["problem_id"], table["sample"], strict=True))
    assert keys == [(problem, number) for problem in PROBLEMS for number in (2, 3, 4)]
    for row in table.itertuples():
        assert row.seed == request_seed(0, "b", "m", row.problem_id, row.sample)
        assert row.finish_reason in ("stop", "length")
        assert "<eos>" not in row.completion
        # <bos>[user]...[assistant]<think>\n, a byte a token but for the two special ones
        assert row.prompt_tokens == len(f"[user]{PROBLEMS[row.problem_id]}[assistant]\n") + 2


def test_provenance_says_what_was_asked_and_what_came(folder):
    table = run(folder, "said.parquet", "--max-tokens", "70", "--system", "Reason.")
    said = json.loads((folder / "said.json").read_text())
    assert said["example"]["problem_id"] == "p2"
    assert said["example"]["prompt"] == (
        "<bos>[system]Reason.[user]What is 1 + 2?[assistant]<think>\n"
    )
    assert set(said["prompt"]["ids_sha256"]) == set(PROBLEMS)
    counts = said["counts"]
    assert counts["completions"] == len(table) == counts["ended"] + counts["truncated"]
    assert counts["truncated"] == (table["finish_reason"] == "length").sum() > 0
    assert counts["empty"] == (table["completion"].str.strip() == "").sum()
    assert counts["completion_tokens"] == table["completion_tokens"].sum()
    assert counts["prompts_without_room"] == 0
    assert sum(said["devices"].values()) == len(table)
    assert "same completions" in said["guarantee"]


def test_a_prompt_that_leaves_less_room_is_counted_and_cut_to_it(folder):
    longest = len("[user]7 + 7 * 2, and what is it mod 10?[assistant]\n") + 2
    asked = []
    sampling.sample(
        job(folder, "room.parquet", "--max-model-len", str(longest + 100 - 1)),
        lambda serving, n: (
            lambda requests: pretend(serving, n)(
                asked.append(request) or request for request in requests
            )
        ),
    )
    said = json.loads((folder / "room.json").read_text())
    assert said["counts"]["prompts_without_room"] == 1
    assert {request.max_tokens for request in asked} == {100, 99}


def test_shards_are_parts_of_the_pool(folder):
    whole = run(folder, "whole.parquet", "--count", "5")
    parts = [
        run(folder, f"part{first}.parquet", "--first", str(first), "--count", str(count))
        for first, count in ((0, 2), (2, 3))
    ]
    order = {problem: place for place, problem in enumerate(PROBLEMS)}
    merged = pandas.concat(parts).sort_values(
        ["problem_id", "sample"], key=lambda c: c.map(order) if c.name == "problem_id" else c
    )
    pandas.testing.assert_frame_equal(whole, merged.reset_index(drop=True))


def test_an_interrupted_job_makes_only_what_is_missing(folder):
    whole = run(folder, "straight.parquet")
    made = []

    def breaks(serving, sequences):
        def complete(requests):
            for number, finished in enumerate(pretend(serving, sequences, made)(requests)):
                if number == 11:
                    raise KeyboardInterrupt
                yield finished

        return complete

    with pytest.raises(KeyboardInterrupt):
        run(folder, "broken.parquet", start=breaks)
    assert not (folder / "broken.parquet").exists()
    partial = folder / "broken.partial.jsonl"
    finished = set(made[:5])
    assert len(partial.read_text().splitlines()) == 2 + len(finished)
    more = []
    run(
        folder,
        "broken.parquet",
        # neither the batch size nor the threads make another pool
        *("--max-num-seqs", "3", "--threads", "2"),
        start=lambda serving, n: pretend(serving, n, more),
    )
    assert finished.isdisjoint(more)
    assert len(more) == len(whole) - len(finished)
    assert (folder / "broken.parquet").read_bytes() == (folder / "straight.parquet").read_bytes()
    assert not partial.exists()
    said = json.loads((folder / "broken.json").read_text())
    assert sum(said["devices"].values()) == len(whole)


def test_with_nothing_left_to_make_no_engine_starts(folder, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "write_table", full)
        with pytest.raises(OSError, match="disk full"):
            run(folder, "full.parquet")
    run(folder, "full.parquet", start=no_engine)
    run(folder, "straight2.parquet")
    assert (folder / "full.parquet").read_bytes() == (folder / "straight2.parquet").read_bytes()


def test_another_models_journal_is_set_aside(folder, capsys):
    output = folder / "stale.parquet"
    with journal.open_journal(output.with_suffix(".partial.jsonl"), "another") as other:
        other.begin_run("cpu")
        other.add(("p1", 0), "not ours", 2, "stop")
    table = run(folder, "stale.parquet")
    assert "not ours" not in set(table["completion"])
    assert "sampling begins anew" in capsys.readouterr().err
    assert "not ours" in (folder / "stale.partial.jsonl.stale").read_text()


@pytest.mark.parametrize(
    "change",
    [
        ("--temperature", "0.7"),
        ("--top-p", "0.5"),
        ("--max-tokens", "9"),
        ("--max-model-len", "100"),
        ("--seed", "1"),
        ("--dtype", "float32"),
        ("--compute-dtype", "float32"),
        ("--user", "{problem} Go."),
        ("--system", "Reason."),
        ("--think-prefix", "<think>"),
        ("--model-name", "n"),
        ("--benchmark", "c"),
    ],
)
def test_whatever_determines_completions_is_in_the_digest(folder, change):
    digests = []
    for more in ((), change):
        run(folder, "digest.parquet", *more)
        digests.append(json.loads((folder / "digest.json").read_text())["digest"])
    assert digests[0] != digests[1]


@pytest.mark.parametrize("change", [("--max-num-seqs", "3"), ("--threads", "2"), ("--first", "9")])
def test_how_the_work_is_split_is_not(folder, change):
    digests = []
    for more in ((), change):
        run(folder, "digest.parquet", *more)
        digests.append(json.loads((folder / "digest.json").read_text())["digest"])
    assert digests[0] == digests[1]


def test_changed_weights_are_another_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"1234")
    before = sampling.model_digest(tmp_path)
    (tmp_path / "tokenizer.json").write_text("not served")
    assert sampling.model_digest(tmp_path) == before
    weights.write_bytes(b"5678")
    assert sampling.model_digest(tmp_path) != before
    now = sampling.model_digest(tmp_path)
    listed = {"model.safetensors": {"size": 4, "sha256": sha256(weights)}}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": listed}))  # some other tool's
    assert sampling.model_digest(tmp_path) == now
    manifest = {"format": FORMAT, "files": listed}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert sampling.model_digest(tmp_path) == now
    weights.write_bytes(b"8765")  # of the same size
    with pytest.raises(InputError, match=r"model\.safetensors: its content is not what manifest"):
        sampling.model_digest(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        sampling.model_digest(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--count", "0"), "--count is 0; 1 or more"),
        (("--first", "-1"), "--first is -1"),
        (("--temperature", "nan"), "--temperature is nan"),
        (("--top-p", "0"), "--top-p is 0.0; above 0"),
        (("--max-tokens", "0"), "--max-tokens is 0"),
        (("--max-num-seqs", "0"), "--max-num-seqs is 0"),
        (("--compute-dtype", "float16"), "--compute-dtype is float16, but a model is served as b"),
        (("--output", "wrong.json"), r"--output is wrong\.json; a name that ends in \.parquet"),
        (("--think-prefix", r"<think>\n"), "a backslash and an n"),
        (("--user", "solve"), r"p2: the user message 'solve' has no \{problem\}"),
        (("--max-model-len", "30"), "problem p2: the prompt is 34 tokens, at most 29 leave room"),
        (("--max-model-len", "257"), "max_position_embeddings is 256, but 257"),
        (("--model", "nowhere"), r"nowhere: no config\.json"),
        (("--problems", "nowhere.parquet"), r"nowhere\.parquet: no such file"),
        (("--adapter", "nowhere"), r"nowhere: no adapter_config\.json"),
        (("--tokenizer", "nowhere"), r"nowhere: no tokenizer\.json"),
    ],
)
def test_what_the_user_can_mend_is_said_before_an_engine_starts(folder, change, message):
    with pytest.raises(InputError, match=message):
        run(folder, "wrong.parquet", *change, start=no_engine)
    assert not list(folder.glob("wrong*"))


def test_a_vocabulary_too_small_for_the_prompt_is_an_error(folder, tmp_path):
    (tmp_path / "config.json").write_text('{"vocab_size": 50, "max_position_embeddings": 256}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(InputError, match=r"vocab_size is 50, but problem p2 has token"):
        run(folder, "wrong.parquet", "--model", str(tmp_path), start=no_engine)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"problem_id": ["a"]}, "no column 'problem', found problem_id"),
        ({"problem_id": ["a", "a"], "problem": ["x", "y"]}, "more than once: a"),
        ({"problem_id": ["a", "b"], "problem": ["x", None]}, "problem is missing in row 2 of 2"),
        ({"problem_id": ["a"], "problem": ["  "]}, "problem a is '  '"),
        ({"problem_id": [], "problem": []}, "no problems in it"),
    ],
)
def test_malformed_problems_are_errors(folder, tmp_path, rows, message):
    problems = tmp_path / "problems.parquet"
    pandas.DataFrame(rows).to_parquet(problems)
    with pytest.raises(InputError, match=message):
        run(folder, "wrong.parquet", "--problems", str(problems), start=no_engine)


def test_no_gpu_is_said_at_once(folder):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(InputError, match="sees no GPU"):
        run(folder, "wrong.parquet", "--device", "cuda", start=no_engine)


SLOW_JOB = """
import sys, time
sys.path[:0] = sys.argv[1:3]
import sampling_case as tests
from pathlib import Path
tests.sampling.engine.versions = lambda: {"vllm": "a version"}

def slowly(serving, sequences):
    def complete(requests):
        for finished in tests.pretend(serving, sequences)(requests):
            time.sleep(0.02)
            yield finished
    return complete

tests.sampling.sample(tests.job(Path(sys.argv[3]), "killed.parquet", "--count", "40"), slowly)
"""


def test_kill_9_costs_nothing_that_was_finished(folder):
    whole = run(folder, "unkilled.parquet", "--count", "40")
    partial = folder / "killed.partial.jsonl"
    command = [sys.executable, "-c", SLOW_JOB, str(SCRIPTS), str(Path(__file__).parent)]
    for wanted in (20, 50):
        assert kill_at([*command, str(folder)], partial, wanted) == -9
        assert wanted <= lines(partial) < 123
        assert not (folder / "killed.parquet").exists()
    kept, more = lines(partial) - 3, []
    run(
        folder,
        "killed.parquet",
        *("--count", "40"),
        start=lambda serving, n: pretend(serving, n, more),
    )
    assert len(more) == len(whole) - kept
    assert (folder / "killed.parquet").read_bytes() == (folder / "unkilled.parquet").read_bytes()
