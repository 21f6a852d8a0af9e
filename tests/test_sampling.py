"""Sampling: what is asked, what survives a kill, and that the pool is the same however made."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pandas
import pytest
from sampling_case import (
    PROBLEMS,
    SCRIPTS,
    counting,
    job,
    kept,
    kill_at,
    make_folder,
    no_engine,
    pretend,
    run,
)

from lowrank import engine, sampling
from lowrank.errors import InputError
from lowrank.feeding import Completion
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
    table = run(folder, "rows.parquet", "--samples", "6", "--part", "2", "--parts", "2")
    assert list(table.columns) == list(sampling.COLUMNS)
    keys = list(zip(table["problem_id"], table["sample"], strict=True))
    assert keys == [(problem, number) for problem in PROBLEMS for number in (1, 3, 5)]
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


def test_what_hardly_any_sound_model_gives_is_warned_of(folder, capsys):
    def silent(serving, sequences):
        return lambda requests: (
            ([Completion(request.name, (1,), "stop")], 0) for request in requests
        )

    run(folder, "silent.parquet", start=silent)
    said = json.loads((folder / "silent.json").read_text())
    assert len(said["warnings"]) == 1
    assert said["warnings"][0].startswith("12 of 12 completions are empty")
    assert "WARNING: b: 12 of 12 completions are empty" in capsys.readouterr().err
    assert sampling.warnings({"completions": 10, "empty": 8, "truncated": 9})[0].startswith("9 of")
    assert sampling.warnings({"completions": 10, "empty": 8, "truncated": 8}) == []


def test_the_log_says_what_stands_around_a_problem(folder, capsys):
    run(folder, "frame.parquet", "--system", "Reason.")
    said = capsys.readouterr().err
    assert "every prompt is '<bos>[system]Reason.[user]', the user's message, '[assist" in said


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


def merged(*tables: pandas.DataFrame) -> pandas.DataFrame:
    """Parts of a pool as one table, in the order of a whole pool."""
    order = {problem: place for place, problem in enumerate(PROBLEMS)}
    rows = pandas.concat(tables).sort_values(
        ["problem_id", "sample"], key=lambda c: c.map(order) if c.name == "problem_id" else c
    )
    return rows.reset_index(drop=True)


def test_parts_together_are_the_pool(folder):
    whole = run(folder, "whole.parquet", "--samples", "5")
    parts = [
        run(folder, f"part{part}.parquet", "--samples", "5", "--parts", "3", "--part", str(part))
        for part in (1, 2, 3)
    ]
    assert [len(part) for part in parts] == [6, 6, 3]
    pandas.testing.assert_frame_equal(whole, merged(*parts))


def stored(folder, name, *more):
    """The command line's flags for a job that shares the store called `name`."""
    return ("--store", str(folder / f"{name}.store"), *more)


def test_nothing_is_sampled_twice_however_the_pool_is_cut_and_grown(folder):
    """Smaller, larger, in parts and back: only what was never made is made."""
    engines = []

    def start(serving, sequences):
        engines.append(sequences)
        return pretend(serving, sequences)

    def again(output, *more):
        before = len(engines)
        run(folder, output, *stored(folder, "grown", *more), start=start)
        return engines[before:]

    assert again("grown.parquet", "--samples", "4") == [12]
    assert again("smaller.parquet", "--samples", "2") == []
    assert again("larger.parquet", "--samples", "6") == [6]
    assert again("half.parquet", "--samples", "6", "--parts", "2", "--part", "2") == []
    assert again("largest.parquet", "--samples", "7", "--parts", "3", "--part", "1") == [3]
    assert again("grown.parquet", "--samples", "4") == []
    (folder / "grown.parquet").rename(folder / "kept.parquet")
    assert again("grown.parquet", "--samples", "4") == []
    assert (folder / "grown.parquet").read_bytes() == (folder / "kept.parquet").read_bytes()
    fresh = run(folder, "fresh.parquet", "--samples", "6")
    pandas.testing.assert_frame_equal(fresh, pandas.read_parquet(folder / "larger.parquet"))


def test_a_benchmark_more_takes_the_others_from_the_store(folder):
    rows = {"problem_id": ["p2", "q"], "problem": ["9 - 4", "8 * 8"]}
    pandas.DataFrame(rows).to_parquet(folder / "other.parquet")
    run(folder, "one.parquet", *stored(folder, "two"))
    both = (
        *("--benchmark", "b", str(folder / "problems.parquet"), str(folder / "b.parquet")),
        *("--benchmark", "c", str(folder / "other.parquet"), str(folder / "c.parquet")),
    )
    made = []
    sampling.sample(job(folder, "b.parquet", *stored(folder, "two", *both)), counting(made))
    assert len(made) == 2 * 4
    assert (folder / "b.parquet").read_bytes() == (folder / "one.parquet").read_bytes()
    said = json.loads((folder / "c.json").read_text())
    assert said["benchmark"] == {"name": "c", "problems": 2}


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
    finished = set(made[:5])
    assert {one.key for one in kept(folder / "broken.parquet")} == finished
    more = []
    # neither the batch size nor the threads make another pool
    batch = ("--max-num-seqs", "3", "--threads", "2")
    run(folder, "broken.parquet", *batch, start=counting(more))
    assert finished.isdisjoint(more)
    assert len(more) == len(whole) - len(finished)
    assert (folder / "broken.parquet").read_bytes() == (folder / "straight.parquet").read_bytes()
    said = json.loads((folder / "broken.json").read_text())
    assert sum(said["devices"].values()) == len(whole)


def test_with_nothing_missing_no_engine_starts_and_no_weights_are_needed(folder, tmp_path):
    here = make_folder(tmp_path / "job")
    manifest = {"format": FORMAT, "files": {}}
    for name in ("config.json", "model.safetensors"):
        content = (here / "model" / name).read_bytes()
        manifest["files"][name] = {
            "size": len(content), "sha256": hashlib.sha256(content).hexdigest()
        }  # fmt: skip
    (here / "model/manifest.json").write_text(json.dumps(manifest))
    run(here, "table.parquet")
    first = (here / "table.parquet").read_bytes()
    (here / "table.parquet").unlink()
    (here / "model/model.safetensors").unlink()
    run(here, "table.parquet", start=no_engine)
    assert (here / "table.parquet").read_bytes() == first


def test_a_full_disk_at_the_table_costs_no_completion(folder, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "write_table", full)
        with pytest.raises(OSError, match="disk full"):
            run(folder, "full.parquet")
    run(folder, "full.parquet", start=no_engine)


def test_another_setting_and_back_loses_nothing(folder):
    run(folder, "back.parquet")
    first = (folder / "back.parquet").read_bytes()
    made = []
    run(folder, "back.parquet", "--temperature", "0.5", start=counting(made))
    assert len(made) == 12
    run(folder, "back.parquet", start=no_engine)
    assert (folder / "back.parquet").read_bytes() == first
    run(folder, "back.parquet", "--temperature", "0.5", start=no_engine)


@pytest.mark.parametrize(
    ("resample", "sampled"), [("when-versions-change", 12), ("never", 0), ("always", 12)]
)
def test_what_another_version_of_the_engine_means_is_the_users_to_say(
    folder, tmp_path, monkeypatch, capsys, resample, sampled
):
    output = str(tmp_path / "v.parquet")
    table = ("--benchmark", "b", str(folder / "problems.parquet"), output)
    run_here = (folder, output, "--store", str(tmp_path / "store"), *table)
    run(*run_here)
    first = Path(output).read_bytes()
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "another version"})
    with pytest.raises(InputError, match="12 completions were made by vllm a version; here is"):
        run(*run_here, start=no_engine)
    assert Path(output).read_bytes() == first
    made = []
    run(*run_here, "--resample", resample, start=counting(made))
    assert len(made) == sampled
    said = json.loads(Path(output).with_suffix(".json").read_text())
    version = "another version" if sampled else "a version"
    assert said["engine"]["versions"] == {"vllm": version}
    # Back under the first version, its completions are still there.
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "a version"})
    run(*run_here, start=no_engine)


def test_text_of_another_tokenizer_is_written_anew(folder, tmp_path):
    here = make_folder(tmp_path / "job")
    table = run(here, "t.parquet")
    path = here / "tokenizer/tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))  # only other bytes
    again = run(here, "t.parquet", start=no_engine)
    pandas.testing.assert_frame_equal(again, table)


def test_what_is_expected_to_take_longest_is_asked_first(folder, tmp_path):
    here = make_folder(tmp_path / "job")
    for model, tokens in (("one", {"p2": 5.0, "p10": 90.0}), ("two", {"p2": 50.0})):
        (here / "samples" / model).mkdir(parents=True)
        said = here / "samples" / model / "1-of-1.json"
        said.write_text(json.dumps({"mean_tokens": tokens}))
    (here / "samples" / "one" / "broken.json").write_text("{")
    seen = []

    def start(serving, sequences):
        def complete(requests):
            requests = list(requests)
            seen.extend(request.seed for request in requests)
            return pretend(serving, sequences)(requests)

        return complete

    table = run(here, "samples/m/1-of-1.parquet", start=start)
    asked = table.set_index("seed")["problem_id"].loc[seen].tolist()
    assert list(dict.fromkeys(asked)) == ["p1", "p10", "p2"]


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
        ("--benchmark", "c", "problems.parquet", "digest.parquet"),
    ],
)
def test_whatever_determines_completions_is_in_the_digest_and_in_the_key(folder, change):
    change = [str(folder / word) if word.endswith(".parquet") else word for word in change]
    digests, counts = [], []
    for more in ((), change):
        run(folder, "digest.parquet", *more)
        digests.append(json.loads((folder / "digest.json").read_text())["digest"])
        counts.append(len(kept(folder / "digest.parquet")))
    assert digests[0] != digests[1]
    shutil.rmtree(folder / "digest.parquet.store")
    assert counts == [12, 24]


@pytest.mark.parametrize("change", [("--max-num-seqs", "3"), ("--threads", "2"), ("--parts", "2")])
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
    assert sampling.model_digest(tmp_path) == now  # known from the manifest where it is not needed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--samples", "0"), "--samples is 0; 1 or more"),
        (("--part", "2"), "--part is 2; 1 to 1, the parts"),
        (("--parts", "9"), "--parts is 9; 1 to 4, the samples"),
        (("--temperature", "nan"), "--temperature is nan"),
        (("--top-p", "0"), "--top-p is 0.0; above 0"),
        (("--max-tokens", "0"), "--max-tokens is 0"),
        (("--max-num-seqs", "0"), "--max-num-seqs is 0"),
        (("--compute-dtype", "float16"), "--compute-dtype is float16, but a model is served as b"),
        (("--benchmark", "b", "p.parquet", "wrong.json"), r"the table is wrong\.json; a name that"),
        (("--think-prefix", r"<think>\n"), "a backslash and an n"),
        (("--user", "solve"), r"p2: the user message 'solve' has no \{problem\}"),
        (("--max-model-len", "30"), "problem p2: the prompt is 34 tokens, at most 29 leave room"),
        (("--max-model-len", "257"), "max_position_embeddings is 256, but 257"),
        (("--model", "nowhere"), r"nowhere: no config\.json"),
        (("--benchmark", "b", "nowhere.parquet", "x.parquet"), r"nowhere\.parquet: no such file"),
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
    table = ("--benchmark", "b", str(problems), str(folder / "wrong.parquet"))
    with pytest.raises(InputError, match=message):
        run(folder, "wrong.parquet", *table, start=no_engine)


def test_no_gpu_is_said_at_once(folder):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("of a machine without a GPU: nothing, there is one here")
    with pytest.raises(InputError, match="sees no GPU"):
        run(folder, "wrong.parquet", "--device", "cuda", start=no_engine)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A job's folder with a real model and a LoRA for it, made by PEFT."""
    peft = pytest.importorskip("peft")
    from tiny_checkpoint import make_model
    from transformers import Qwen2ForCausalLM

    place = make_folder(tmp_path_factory.mktemp("adapted"))
    shutil.rmtree(place / "model")
    make_model(place / "model")
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "down_proj"])
    model = peft.get_peft_model(Qwen2ForCausalLM.from_pretrained(place / "model"), config)
    model.save_pretrained(place / "adapter")
    return place


def serve(place, adapter, start):
    more = ("--adapter", str(adapter), "--store", str(place / f"{adapter.name}.store"))
    return run(place, f"{adapter.name}.parquet", *more, start=start)


def test_an_adapter_that_fits_is_served(adapted):
    assert len(serve(adapted, adapted / "adapter", pretend)) == 12


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("other layers", "layers.7.*does not fit"),
        ("half as wide", "lora_A.weight does not fit"),
        ("one factor", "does not fit"),
        ("cut", "truncated"),
        ("dora", "use_dora is True"),
        ("head", "modules_to_save is .*lm_head"),
    ],
)
def test_an_adapter_that_the_engine_would_misread_is_refused_before_it_starts(
    adapted, tmp_path, fault, said
):
    from safetensors.torch import load_file, save_file

    wrong = shutil.copytree(adapted / "adapter", tmp_path / "wrong")
    weights, config = wrong / "adapter_model.safetensors", wrong / "adapter_config.json"
    factors, settings = load_file(weights), json.loads(config.read_text())
    match fault:
        case "other layers":
            factors = {name.replace("layers.2.", "layers.7."): f for name, f in factors.items()}
        case "half as wide":
            halved = {n: f[:, : f.shape[1] // 2].contiguous() for n, f in factors.items()}
            factors |= {name: factor for name, factor in halved.items() if "lora_A" in name}
        case "one factor":
            factors.pop(next(name for name in factors if "lora_B" in name))
        case "dora":
            settings["use_dora"] = True
        case "head":
            settings["modules_to_save"] = ["lm_head"]
    save_file(factors, weights, metadata={"format": "pt"})
    config.write_text(json.dumps(settings))
    if fault == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=said):
        serve(adapted, wrong, no_engine)


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

tests.sampling.sample(tests.job(Path(sys.argv[3]), "killed.parquet", "--samples", "40"), slowly)
"""


def test_kill_9_costs_nothing_that_was_finished(folder):
    whole = run(folder, "unkilled.parquet", "--samples", "40")
    output = folder / "killed.parquet"
    command = [sys.executable, "-c", SLOW_JOB, str(SCRIPTS), str(Path(__file__).parent)]
    for wanted in (20, 50):
        assert kill_at([*command, str(folder)], output, wanted) == -9
        assert wanted <= len(kept(output)) < 120
        assert not output.exists()
    there, more = len(kept(output)), []
    run(folder, "killed.parquet", "--samples", "40", start=counting(more))
    assert len(more) == len(whole) - there
    assert output.read_bytes() == (folder / "unkilled.parquet").read_bytes()
