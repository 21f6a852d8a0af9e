"""Sampling: what is asked, what survives a kill, and that the pool is the same however made."""

import json
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pandas
import pytest
from engine_runs import arguments
from tiny_checkpoint import make_model, make_tokenizer

import sample as program
from lowrank import engine, journal, sampling
from lowrank.engine import Completion
from lowrank.errors import InputError
from lowrank.seeds import request_seed

SCRIPTS = Path(__file__).parent.parent / "scripts"
PROBLEMS = {"p2": "What is 1 + 2?", "p10": "3 * 4 - 1", "p1": "7 + 7 * 2, and what is it mod 10?"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything a job needs but an engine: tokenizer, problems, a model of no real weights."""
    folder = tmp_path_factory.mktemp("job")
    make_tokenizer(folder / "tokenizer")
    rows = {"problem_id": list(PROBLEMS), "problem": list(PROBLEMS.values())}
    pandas.DataFrame(rows).to_parquet(folder / "problems.parquet")
    (folder / "model").mkdir()
    config = {"vocab_size": 272, "max_position_embeddings": 256}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture(autouse=True)
def _versions(monkeypatch):
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "a version"})


def job(folder, output, *more):
    return program.job(program.parse(arguments(folder, str(output), *more)))


def pretend(serving, sequences, seen=None):
    """An engine that makes a text of a request's seed, and finishes in an order of its own."""

    def complete(requests):
        waiting = list(requests)
        random.Random(len(waiting)).shuffle(waiting)
        for request in waiting:
            if seen is not None:
                seen.append(request.name)
            draw = random.Random(request.seed)
            ids = tuple(draw.randrange(5, 272) for _ in range(draw.randrange(1, 20)))
            ended = draw.random() < 0.7
            yield []
            yield [Completion(request.name, ids + (1,) * ended, "stop" if ended else "length")]

    return complete


def no_engine(serving, sequences):
    raise AssertionError("an engine was started")


def run(folder, output, *more, start=pretend):
    sampling.sample(job(folder, output, *more), start)
    return pandas.read_parquet(folder / output)


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
    manifest = {"files": {"model.safetensors": {"size": 4, "sha256": "0" * 64}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    named = sampling.model_digest(tmp_path)
    weights.write_bytes(b"12345")
    with pytest.raises(InputError, match=r"model\.safetensors: 5 bytes, but manifest\.json says 4"):
        sampling.model_digest(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: missing"):
        sampling.model_digest(tmp_path)
    assert named != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--count", "0"), "--count is 0; 1 or more"),
        (("--first", "-1"), "--first is -1"),
        (("--temperature", "nan"), "--temperature is nan"),
        (("--top-p", "0"), "--top-p is 0.0; above 0"),
        (("--max-tokens", "0"), "--max-tokens is 0"),
        (("--max-num-seqs", "0"), "--max-num-seqs is 0"),
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


@pytest.mark.parametrize(
    ("rank", "fitting"), [(1, 1), (2, 8), (16, 16), (17, 32), (300, 320), (512, 512)]
)
def test_vllm_gets_the_next_rank_it_lists(tmp_path, rank, fitting):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    assert engine.adapter_rank(tmp_path) == fitting


@pytest.mark.parametrize("rank", [0, 513])
def test_a_rank_vllm_does_not_serve_is_an_error(tmp_path, rank):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    with pytest.raises(InputError, match=f"r is {rank}"):
        engine.adapter_rank(tmp_path)


# --- the journal ---------------------------------------------------------------------------------


def fill(path, digest="d", keys=(("p", 0), ("p", 1), ("q", 0))):
    with journal.open_journal(path, digest) as opened:
        opened.begin_run("cpu")
        for key in keys:
            opened.add(key, f"text of {key} \ud800 \x00 \n", 3, "stop")


def test_a_journal_gives_back_what_was_added(tmp_path):
    path = tmp_path / "j.jsonl"
    fill(path)
    with journal.open_journal(path, "d") as opened:
        assert list(opened.done) == [("p", 0), ("p", 1), ("q", 0)]
        assert opened.done["p", 1]["text"] == "text of ('p', 1) \ud800 \x00 \n"
        assert opened.runs == [{"device": "cpu", "completions": 3}]


def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "j.jsonl"
    fill(path)
    content = path.read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    cuts = {*range(0, len(content), 9), *ends, *(end + 1 for end in ends)}
    for length in sorted(cuts - {len(content)}):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        with journal.open_journal(path, "d") as opened:
            assert len(opened.done) == max(whole - 2, 0)
            opened.begin_run("cpu")
            opened.add(("r", 5), "more", 1, "length")
        with journal.open_journal(path, "d") as opened:
            assert len(opened.done) == max(whole - 2, 0) + 1
    assert not list(tmp_path.glob("*.stale"))


def test_lines_after_a_damaged_one_are_not_believed(tmp_path):
    path = tmp_path / "j.jsonl"
    fill(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"\0" * (len(lines[3]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    with journal.open_journal(path, "d") as opened:
        assert list(opened.done) == [("p", 0)]


def test_a_completion_is_in_the_file_as_soon_as_it_is_added(tmp_path):
    path = tmp_path / "j.jsonl"
    with journal.open_journal(path, "d") as opened:
        opened.begin_run("cpu")
        opened.add(("p", 0), "text", 1, "stop")
        assert path.read_text().endswith('"text": "text", "tokens": 1, "finish": "stop"}\n')


def test_a_shard_is_sampled_by_one_process_at_a_time(tmp_path):
    path = tmp_path / "j.jsonl"
    with (
        journal.open_journal(path, "d"),
        pytest.raises(InputError, match="another process is sampling this shard"),
        journal.open_journal(path, "d"),
    ):
        pass


SLOW_JOB = """
import sys, time
sys.path[:0] = sys.argv[1:3]
import test_sampling as tests
from pathlib import Path
tests.engine.versions = lambda: {"vllm": "a version"}

def slowly(serving, sequences):
    def complete(requests):
        for finished in tests.pretend(serving, sequences)(requests):
            time.sleep(0.02)
            yield finished
    return complete

tests.sampling.sample(tests.job(Path(sys.argv[3]), "killed.parquet", "--count", "40"), slowly)
"""


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_at(command, partial, wanted, seconds=90):
    """Run a command and kill -9 it as soon as its journal has `wanted` lines; its exit status."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + seconds
        while lines(partial) < wanted and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
    finally:
        process.kill()
    return process.wait()


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


# --- the engine itself ---------------------------------------------------------------------------

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed in this environment"
)


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """Tables of engine_runs.py, by name: real vLLM on random weights, in a process of its own."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2ForCausalLM

    place = tmp_path_factory.mktemp("engine")
    for name in ("tokenizer", "problems.parquet"):
        (place / name).symlink_to(folder / name)
    make_model(place / "model")
    make_model(place / "carrier", seed=1, dtype="float32")
    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=4, target_modules=projections, init_lora_weights=False)
    adapted = get_peft_model(Qwen2ForCausalLM.from_pretrained(place / "carrier"), config)
    adapted.save_pretrained(place / "adapter")
    adapted.merge_and_unload().save_pretrained(place / "merged")
    program = Path(__file__).with_name("engine_runs.py")
    subprocess.run([sys.executable, str(program), str(place)], check=True, timeout=900)
    return place, {path.stem: pandas.read_parquet(path) for path in place.glob("*.parquet")}


@needs_vllm
def test_two_runs_give_the_same_table(runs):
    place, _ = runs
    assert (place / "all.parquet").read_bytes() == (place / "again.parquet").read_bytes()


@needs_vllm
def test_neither_batch_size_nor_order_changes_a_completion(runs):
    """12 at once with too little memory, so that some are set back; five at once from the last
    to the first; one at a time."""
    _, tables = runs
    pandas.testing.assert_frame_equal(tables["all"], tables["backwards"])
    few = tables["all"][tables["all"]["sample"] < 2].reset_index(drop=True)
    pandas.testing.assert_frame_equal(few, tables["alone"])


@needs_vllm
def test_shards_give_the_pool(runs):
    _, tables = runs
    for name, samples in (("first", {0, 1}), ("second", {2, 3})):
        part = tables["all"][tables["all"]["sample"].isin(samples)].reset_index(drop=True)
        pandas.testing.assert_frame_equal(part, tables[name])


@needs_vllm
def test_samples_differ_and_keep_to_the_limits(runs):
    _, tables = runs
    table = tables["all"]
    assert table["completion"].is_unique
    limit = (150 - table["prompt_tokens"]).clip(upper=100)
    assert (table["completion_tokens"] <= limit).all()
    cut = table["finish_reason"] == "length"
    assert (table["completion_tokens"] == limit)[cut].all()
    assert cut.any()
    assert not table["completion"].str.contains("<eos>").any()


def greedy_texts(model, place):
    """What transformers makes of the same prompts, token by token."""
    import torch
    from transformers import Qwen2ForCausalLM

    from lowrank import prompts

    loaded = Qwen2ForCausalLM.from_pretrained(model, dtype=torch.float32)
    tokenizer = prompts.load_tokenizer(place / "tokenizer")
    texts = []
    for problem in PROBLEMS.values():
        ids = prompts.prompt_ids(tokenizer, "", "{problem}", "<think>\n", problem)
        with torch.inference_mode():
            made = loaded.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                do_sample=False,
                max_new_tokens=min(100, 150 - len(ids)),
                eos_token_id=1,
                pad_token_id=2,
            )[0, len(ids) :]
        texts.append(prompts.completion_text(tokenizer, made.tolist(), {1, 2}))
    return texts


@needs_vllm
@pytest.mark.parametrize("form", ["carrier", "merged", "adapter"])
def test_greedy_text_is_that_of_transformers(runs, form):
    """An adapter served unmerged is the merged model; the carrier alone is another one."""
    place, tables = runs
    model = place / ("carrier" if form == "carrier" else "merged")
    assert tables[form]["completion"].tolist() == greedy_texts(model, place)


@needs_vllm
def test_an_adapter_gives_the_text_of_the_merged_model(runs):
    _, tables = runs
    assert tables["adapter"]["completion"].tolist() == tables["merged"]["completion"].tolist()
    assert (tables["adapter"]["completion"] != tables["carrier"]["completion"]).any()


@needs_vllm
@pytest.mark.slow
def test_the_program_goes_on_after_kill_9(runs):
    """The whole program, killed while its engine works."""
    place, tables = runs
    more = ("--count", "60", "--max-num-seqs", "8")
    whole = [sys.executable, str(SCRIPTS / "sample.py"), *arguments(place, "long.parquet", *more)]
    partial = place / "long.partial.jsonl"
    assert kill_at(whole, partial, 30, seconds=300) == -9
    kept = lines(partial) - 2
    assert 28 <= kept < 180
    again = subprocess.run(whole, check=True, capture_output=True, text=True, timeout=600)
    assert f"180 completions of 3 problems, {kept} of them already made" in again.stderr
    table = pandas.read_parquet(place / "long.parquet")
    first = table[table["sample"] < 4].reset_index(drop=True)
    pandas.testing.assert_frame_equal(first, tables["all"])
