"""What is read: the sampled prompts to the token, the generated tokens, and nothing else."""

import json
import shutil

import pandas
import pytest
from divergence_case import PROBLEMS, make_reference, make_samples

from lowrank.divergence.passages import generated_ids
from lowrank.errors import InputError
from lowrank.sampling import prompts


@pytest.fixture(scope="module")
def pool(trio, tmp_path_factory):
    return make_samples(tmp_path_factory.mktemp("pool"), trio.derivative)


@pytest.fixture
def copied(pool, tmp_path):
    """A copy of the pool to be changed: its table."""
    for path in (pool[0], pool[0].with_suffix(".json"), pool[0].parent / "problems.parquet"):
        shutil.copy(path, tmp_path)
    return tmp_path / pool[0].name


def change(path, **columns):
    pandas.read_parquet(path).assign(**columns).to_parquet(path)


def change_record(path, change):
    record = json.loads(path.with_suffix(".json").read_text())
    change(record)
    path.with_suffix(".json").write_text(json.dumps(record))


def test_the_prompt_is_the_one_that_was_sampled(trio, pool, tmp_path):
    made = make_reference(tmp_path / "made", trio.derivative, pool)
    tokenizer = prompts.load_tokenizer(trio.derivative)
    for row in pandas.read_parquet(made / "passages.parquet").itertuples():
        text = tokenizer.decode(row.prompt_ids)
        assert text == f"<bos>{PROBLEMS[row.problem_id]}\n<think>\n"


def refused(model, table, tmp_path, said, **more):
    with pytest.raises(InputError, match=said):
        make_reference(tmp_path / "refused", model, [table], **more)
    assert not (tmp_path / "refused/reference.json").exists()


def test_another_text_of_a_problem_is_refused(trio, copied, tmp_path):
    problems = pandas.read_parquet(tmp_path / "problems.parquet")
    problems.loc[1, "problem"] += "!"
    problems.to_parquet(tmp_path / "problems.parquet")
    refused(trio.derivative, copied, tmp_path, "prompt of problem p10 is not the one")


def test_other_problems_are_refused(trio, copied, tmp_path):
    problems = pandas.read_parquet(tmp_path / "problems.parquet").iloc[1:]
    problems.to_parquet(tmp_path / "problems.parquet")
    refused(trio.derivative, copied, tmp_path, "has other problems than were sampled")


def test_another_prompt_in_the_record_is_refused(trio, copied, tmp_path):
    change_record(copied, lambda record: record["prompt"].update(system="Reason."))
    refused(trio.derivative, copied, tmp_path, "is not the one that was sampled")


def test_another_tokenizer_is_refused(trio, copied, tmp_path):
    other = shutil.copytree(trio.derivative, tmp_path / "tokenizer")
    settings = json.loads((other / "tokenizer_config.json").read_text())
    settings["chat_template"] += " "
    (other / "tokenizer_config.json").write_text(json.dumps(settings))
    refused(trio.derivative, copied, tmp_path, "is another tokenizer", tokenizer=other)


@pytest.mark.parametrize(
    ("change_of", "said"),
    [
        (lambda r: r["model"].update(name="sft"), "its model is 'sft', 'rl' was expected"),
        (lambda r: r["benchmark"].update(name="c"), "its benchmark is 'c'"),
        (lambda r: r.pop("prompt"), "is no provenance"),
        (lambda r: r.pop("model"), "is no provenance"),
    ],
)
def test_samples_of_something_else_are_refused(trio, copied, tmp_path, change_of, said):
    change_record(copied, change_of)
    refused(trio.derivative, copied, tmp_path, said)


def test_samples_of_other_weights_are_refused(trio, copied, tmp_path):
    refused(trio.base, copied, tmp_path, "its weights is")


def test_samples_of_the_model_served_otherwise_are_refused(trio, copied, tmp_path):
    refused(trio.derivative, copied, tmp_path, "its dtype is 'float32'", dtype="bfloat16")


def test_a_table_that_lacks_rows_is_refused(trio, copied, tmp_path):
    pandas.read_parquet(copied).iloc[:-1].to_parquet(copied)
    refused(trio.derivative, copied, tmp_path, "has 8 completions of .* its provenance counts 9")


def test_a_damaged_table_is_refused(trio, copied, tmp_path):
    copied.write_bytes(copied.read_bytes()[:-50])
    refused(trio.derivative, copied, tmp_path, "not a readable .parquet table")


def test_ids_that_were_cut_are_refused(trio, copied, tmp_path):
    cut = [ids[:-1] for ids in pandas.read_parquet(copied)["completion_ids"]]
    change(copied, completion_ids=cut)
    refused(trio.derivative, copied, tmp_path, "token ids, .* were generated")


def test_more_than_there_is_cannot_be_read(trio, copied, tmp_path):
    refused(trio.derivative, copied, tmp_path, "lacks 3 of the 4 samples", count=4)


def test_a_part_that_is_missing_is_noticed(trio, tmp_path):
    parts = make_samples(tmp_path / "parts", trio.derivative, parts=2)
    refused(trio.derivative, parts[0], tmp_path, "lacks 3 of the 3 samples .*p2#1")


def test_tables_without_ids_are_read_by_their_text_and_gaps_are_counted(
    trio, pool, copied, tmp_path, capsys
):
    rows = pandas.read_parquet(copied).drop(columns="completion_ids")
    rows.loc[0, "completion"] = "x" * (rows.loc[0, "completion_tokens"] + 3)
    rows.to_parquet(copied)
    made = make_reference(tmp_path / "made", trio.derivative, [copied])
    found = pandas.read_parquet(made / "passages.parquet")
    assert len(found) == 8
    wanted = pandas.read_parquet(pool[0]).iloc[1:]
    assert [list(ids) for ids in found["ids"]] == [list(ids) for ids in wanted["completion_ids"]]
    left_out = {"no ids are kept, and its text has other tokens": 1}
    assert json.loads((made / "reference.json").read_text())["counts"]["left_out"] == left_out
    assert "WARNING: b: 1 left out: no ids are kept" in capsys.readouterr().err


def test_without_ids_an_end_that_may_be_one_of_several_is_not_guessed(trio):
    tokenizer = prompts.load_tokenizer(trio.derivative)
    row = {"completion": "1+1", "completion_tokens": 4, "finish_reason": "stop"}
    ids, reason = generated_ids(row, tokenizer, [1], "here")
    assert tokenizer.decode(ids) == "1+1<eos>"
    assert not reason
    assert "several tokens may have ended it" in generated_ids(row, tokenizer, [1, 2], "here")[1]


def test_a_problem_of_which_nothing_can_be_read_is_refused(trio, copied, tmp_path):
    rows = pandas.read_parquet(copied).drop(columns="completion_ids")
    rows.loc[rows["problem_id"] == "p1", "completion"] += "?"
    rows.to_parquet(copied)
    refused(trio.derivative, copied, tmp_path, "no completion of p1 can be read back")
