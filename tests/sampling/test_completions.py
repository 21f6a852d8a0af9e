"""Sampling: what is asked and refused, what a table and its provenance say."""

import json
import shutil

import fake_gpus
import pandas
import pytest
from sampling_case import (
    PROBLEMS,
    job,
    kept,
    make_folder,
    no_engine,
    pretend,
    run,
)

from lowrank import locks
from lowrank.errors import InputError
from lowrank.files import sha256
from lowrank.models.manifest import FORMAT
from lowrank.sampling import completions, engine, prompts, requests, store
from lowrank.sampling.feeding import Completion
from lowrank.sampling.seeds import request_seed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("job"))


@pytest.fixture(autouse=True)
def _versions(monkeypatch):
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "a version"})


def test_a_table_has_a_row_a_completion_in_order(folder):
    table = run(folder, "rows.parquet", "--samples", "6", "--part", "2", "--parts", "2")
    assert list(table.columns) == list(completions.COLUMNS)
    tokenizer = prompts.load_tokenizer(folder / "tokenizer")
    keys = list(zip(table["problem_id"], table["sample"], strict=True))
    assert keys == [(problem, number) for problem in PROBLEMS for number in (1, 3, 5)]
    for row in table.itertuples():
        assert row.seed == request_seed(0, "b", "m", row.problem_id, row.sample)
        assert row.finish_reason in ("stop", "length")
        # The end token is counted, and is no part of the text.
        assert row.completion_tokens == len(row.completion_ids)
        ended = row.finish_reason == "stop"
        assert (row.completion_ids[-1] == 1) == ended
        written = row.completion_ids[: len(row.completion_ids) - ended]
        assert row.completion == tokenizer.decode(written.tolist())
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
    assert completions.warnings({"completions": 10, "empty": 8, "truncated": 9})[0].startswith(
        "9 of"
    )
    assert completions.warnings({"completions": 10, "empty": 9, "truncated": 0})[0].startswith(
        "9 of"
    )
    assert completions.warnings({"completions": 10, "empty": 8, "truncated": 8}) == []


def test_the_log_says_what_stands_around_a_problem(folder, capsys):
    run(folder, "frame.parquet", "--system", "Reason.")
    said = capsys.readouterr().err
    assert "every prompt is '<bos>[system]Reason.[user]', the user's message, '[assist" in said


def test_a_prompt_that_leaves_less_room_is_counted_and_cut_to_it(folder):
    longest = len("[user]7 + 7 * 2, and what is it mod 10?[assistant]\n") + 2
    asked = []
    completions.sample(
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
    before = completions.model_digest(tmp_path)
    (tmp_path / "tokenizer.json").write_text("not served")
    assert completions.model_digest(tmp_path) == before
    weights.write_bytes(b"5678")
    assert completions.model_digest(tmp_path) != before
    now = completions.model_digest(tmp_path)
    listed = {"model.safetensors": {"size": 4, "sha256": sha256(weights)}}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": listed}))  # some other tool's
    assert completions.model_digest(tmp_path) == now
    manifest = {"format": FORMAT, "files": listed}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert completions.model_digest(tmp_path) == now
    weights.write_bytes(b"8765")  # of the same size
    with pytest.raises(InputError, match=r"model\.safetensors: its content is not what manifest"):
        completions.model_digest(tmp_path)
    weights.unlink()
    assert (
        completions.model_digest(tmp_path) == now
    )  # known from the manifest where it is not needed


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        ("config.json", True),
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.json", False),  # not read beside a single file
        ("adapter_config.json", True),  # its scale
        ("adapter_model.safetensors", True),
        ("generation_config.json", False),  # sampling is the experiment's
        ("tokenizer.json", False),  # prompts are given as ids
        ("README.md", False),
    ],
)
def test_a_model_is_known_by_what_is_served_of_its_folder(tmp_path, name, decides):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    seen = {completions.model_digest(tmp_path)}
    for content in ("1", "2"):
        (tmp_path / name).write_text(content)
        seen.add(completions.model_digest(tmp_path))
    assert len(seen) == (3 if decides else 1)


def test_an_adapter_is_part_of_the_setting(folder, tmp_path):
    """The same weights under none, one and another, and with another scale, are four models."""
    settings = [completions.determinants(job(folder, "x.parquet"), [1])]
    (tmp_path / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 2}')
    for factors in (b"one", b"other"):
        (tmp_path / "adapter_model.safetensors").write_bytes(factors)
        adapted = job(folder, "x.parquet", "--adapter", str(tmp_path))
        settings.append(completions.determinants(adapted, [1]))
    (tmp_path / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
    settings.append(completions.determinants(adapted, [1]))
    assert len({store.digest(setting) for setting in settings}) == 4
    assert settings[0]["model"]["sha256"] == settings[1]["model"]["sha256"]


def test_what_ends_a_completion_is_part_of_the_setting(folder):
    asked = job(folder, "x.parquet")
    assert completions.determinants(asked, [1]) != completions.determinants(asked, [1, 4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--samples", "0"), "--samples is 0; 1 or more"),
        (("--part", "2"), "--part is 2; 1 to 1, the parts"),
        (("--parts", "9"), "--parts is 9; 1 to 4, the samples"),
        (("--temperature", "nan"), "--temperature is nan"),
        (("--temperature", "0.009"), "--temperature is 0.009; 0 .greedy., or 0.01 to 2"),
        (("--temperature", "2.1"), "--temperature is 2.1"),
        (("--top-p", "0"), "--top-p is 0.0; above 0"),
        (("--top-p", "1.1"), "--top-p is 1.1; above 0, at most 1"),
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


def test_the_last_entry_of_a_vocabulary_and_the_last_place_of_a_context_count(folder):
    tokenizer = prompts.load_tokenizer(folder / "tokenizer")
    ids = {
        name: prompts.prompt_ids(tokenizer, "", "{problem}", "<think>\n", text)
        for name, text in PROBLEMS.items()
    }
    largest, longest = max(max(some) for some in ids.values()), max(map(len, ids.values()))

    def made(size, *more):
        asked = job(folder, "x.parquet", *more)
        config = {"vocab_size": size}
        return requests.make_prompts(asked, asked.targets[0], tokenizer, config)

    assert {prompt.problem_id: list(prompt.ids) for prompt in made(largest + 1)} == ids
    with pytest.raises(InputError, match=f"vocab_size is {largest}, but"):
        made(largest)
    limits = [prompt.max_tokens for prompt in made(None, "--max-model-len", str(longest + 1))]
    assert min(limits) == 1
    with pytest.raises(InputError, match="leave room"):
        made(None, "--max-model-len", str(longest))


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
    with pytest.raises(InputError, match=r"sees no GPU|GPU is needed"):
        run(folder, "wrong.parquet", "--device", "cuda", start=no_engine)


GPUS = ("--device", "cuda", "--tensor-parallel", "2")


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """Two GPUs that are not there, of which this process leases what it needs."""
    fake_gpus.show(monkeypatch, tmp_path / "smi", 2)
    yield
    locks._forget()


def setting(folder, *more: str) -> dict:
    return completions.determinants(job(folder, "x.parquet", *more), [1])


def test_on_how_many_gpus_a_model_lies_is_told_and_is_no_reason_to_sample_anew(folder, two_gpus):
    """As which GPU it is: sums are rounded otherwise, as another batch has them rounded."""
    run(folder, "two.parquet", *GPUS)
    told = json.loads((folder / "two.json").read_text())
    assert told["devices"] == {"2 x NVIDIA Pretence": 12}
    assert "GPU kernels may round differently" in told["guarantee"]
    one = ("--device", "cuda", "--gpu-memory", "0.5", "--engine", "enforce_eager=true")
    assert setting(folder, *GPUS) == setting(folder, *one)
    shutil.copytree(folder / "two.parquet.store", folder / "one.parquet.store")
    run(folder, "one.parquet", *one, start=no_engine)
    assert (folder / "one.parquet").read_bytes() == (folder / "two.parquet").read_bytes()


def test_a_job_with_nothing_to_sample_leases_nothing(folder, two_gpus, monkeypatch):
    run(folder, "two.parquet", *GPUS)
    monkeypatch.setattr(completions, "take_device", None)
    run(folder, "two.parquet", *GPUS, start=no_engine)


@pytest.mark.parametrize("more", [("--quantization", "fp8"), ("--batch-invariant",)])
def test_what_kernels_or_weights_are_is_part_of_the_setting(folder, more):
    plain = setting(folder, "--device", "cuda")
    assert set(plain["engine"]) == {"device", "dtype", "compute_dtype"}
    assert setting(folder, "--device", "cuda", *more) != plain


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--tensor-parallel", "2"), "--tensor-parallel is of GPUs, and --device is cpu"),
        (("--batch-invariant",), "--batch-invariant is of GPUs"),
        (("--engine", "block_size=16"), "--engine is of GPUs"),
        (("--device", "cuda", "--tensor-parallel", "0"), "--tensor-parallel is 0; 1 or more"),
        (("--device", "cuda", "--gpu-memory", "1.5"), "--gpu-memory is 1.5; above 0, at most 1"),
        (
            ("--device", "cuda", "--quantization", "fp8", "--compute-dtype", "float32"),
            "leave --compute-dtype out",
        ),
        (("--engine", "seed=3"), "seed is not to be set here"),
    ],
)
def test_what_the_engine_cannot_do_is_an_error(folder, more, said):
    with pytest.raises(InputError, match=said):
        run(folder, "wrong.parquet", *more, start=no_engine)


def test_gpus_that_cannot_share_the_heads_are_an_error(folder, tmp_path):
    config = {"vocab_size": 272, "max_position_embeddings": 256, "num_attention_heads": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="num_attention_heads is 3, which 2 GPUs cannot share"):
        run(folder, "wrong.parquet", *GPUS, "--model", str(tmp_path), start=no_engine)
