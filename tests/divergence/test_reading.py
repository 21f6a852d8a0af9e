"""A model against the derivative, from samples to a table: brute force, invariance, low rank."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch
from conftest import PLANTED, config, projections, random_weights, write_checkpoint
from divergence_case import make_reference, make_samples, read

from lowrank.delta.factor import factor_pair
from lowrank.divergence import reading, reference
from lowrank.divergence.passages import Passage
from lowrank.errors import InputError
from lowrank.variants.adapter import write_adapter
from lowrank.variants.merge import write_variant


@pytest.fixture(scope="module")
def pool(trio, tmp_path_factory):
    return make_samples(tmp_path_factory.mktemp("pool"), trio.derivative)


@pytest.fixture(scope="module")
def made(trio, pool, tmp_path_factory):
    """The derivative's reference, float32."""
    return make_reference(tmp_path_factory.mktemp("made") / "reference", trio.derivative, pool)


@pytest.fixture(scope="module")
def table(trio, made, tmp_path_factory):
    """The base against it."""
    output = tmp_path_factory.mktemp("table") / "base.parquet"
    return read(made, trio.base, output, trio.derivative)


def brute_force(derivative, model, passages):
    """KL of every token in float64: both models whole, all logits at once."""
    from transformers import AutoModelForCausalLM

    found = []
    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        for folder in (derivative, model)
    ]
    for row in passages.itertuples():
        ids = torch.tensor([*row.prompt_ids, *row.ids])[None]
        with torch.no_grad():
            p, q = (
                torch.log_softmax(each(ids, attention_mask=torch.ones_like(ids)).logits[0], -1)
                for each in models
            )
        here = slice(len(row.prompt_ids) - 1, ids.shape[1] - 1)
        found.append((p[here].exp() * (p[here] - q[here])).sum(dim=-1).numpy())
    return np.concatenate(found)


def test_it_is_the_brute_force(trio, made, table):
    passages = pandas.read_parquet(made / "passages.parquet")
    wanted = brute_force(trio.derivative, trio.base, passages)
    assert wanted.mean() > 1e-4
    np.testing.assert_allclose(table["kl"], wanted, rtol=1e-3, atol=1e-7)


def test_rows_are_the_tokens_that_were_generated(pool, made, table):
    assert list(table.columns) == list(reading.COLUMNS)
    samples = pandas.read_parquet(pool[0])
    assert len(table) == samples["completion_tokens"].sum()
    for row in samples.itertuples():
        here = table[(table["problem_id"] == row.problem_id) & (table["sample"] == row.sample)]
        assert here["token"].tolist() == row.completion_ids.tolist()
        assert here["position"].tolist() == list(range(row.completion_tokens))
        end = "<eos>" * (row.finish_reason == "stop")
        assert "".join(here["text"]) == row.completion + end
    assert {"stop", "length"} == set(samples["finish_reason"])
    said = json.loads((made / "reference.json").read_text())
    assert said["counts"] == {
        "problems": 3, "completions": 9, "tokens": len(table), "left_out": {},
    }  # fmt: skip


def test_a_model_against_itself_is_nothing(trio, made, tmp_path):
    table = read(made, trio.derivative, tmp_path / "rl.parquet")
    assert table["kl"].max() == 0
    assert table["equal_top"].all()
    assert (table["logp_derivative"] == table["logp_model"]).all()


def test_nothing_depends_on_the_chunk_or_the_order(trio, pool, made, table, tmp_path):
    for chunk in (1, 3, 1000):
        again = read(made, trio.base, tmp_path / f"{chunk}.parquet", trio.derivative, chunk=chunk)
        np.testing.assert_allclose(again["kl"], table["kl"], rtol=0, atol=1e-6)
    # Another order of problems: the same numbers, bit for bit.
    turned = tmp_path / "turned"
    turned.mkdir()
    for path in (pool[0], pool[0].with_suffix(".json"), pool[0].parent / "problems.parquet"):
        shutil.copy(path, turned)
    rows = pandas.read_parquet(turned / "problems.parquet").iloc[::-1]
    rows.to_parquet(turned / "problems.parquet")
    other = make_reference(tmp_path / "other", trio.derivative, [turned / pool[0].name])
    again = read(other, trio.base, tmp_path / "again.parquet", trio.derivative)
    keys = ["problem_id", "sample", "position"]
    assert again[keys].iloc[0].tolist() != table[keys].iloc[0].tolist()
    pandas.testing.assert_frame_equal(
        again.sort_values(keys, ignore_index=True), table.sort_values(keys, ignore_index=True)
    )


def test_fewer_samples_and_tokens_are_a_part_of_more(trio, pool, table, tmp_path):
    few = make_reference(tmp_path / "few", trio.derivative, pool, count=2, tokens=5)
    part = read(few, trio.base, tmp_path / "part.parquet", trio.derivative)
    wanted = table[(table["sample"] < 2) & (table["position"] < 5)]
    assert part["token"].tolist() == wanted["token"].tolist()
    np.testing.assert_allclose(part["kl"], wanted["kl"], rtol=0, atol=1e-6)


def test_parts_of_a_pool_are_one(trio, pool, made, tmp_path):
    parts = make_samples(tmp_path / "parts", trio.derivative, parts=2)
    again = make_reference(tmp_path / "again", trio.derivative, parts)
    one, other = (pandas.read_parquet(f / "passages.parquet") for f in (made, again))
    pandas.testing.assert_frame_equal(one, other)


def test_the_larger_ranks_of_an_exactly_low_rank_delta_give_nothing(tmp_path):
    """And the unmerged adapter is what is merged."""
    torch.manual_seed(0)
    weights = random_weights(5, tied=False)
    changed = dict(weights)
    for name, (rows, columns) in projections().items():
        change = torch.randn(rows, PLANTED) @ torch.randn(PLANTED, columns)
        changed[name] = weights[name] + 5e-3 * change
    base = write_checkpoint(tmp_path / "base", weights, config(False, "float32"))
    derivative = write_checkpoint(tmp_path / "child", changed, config(False, "float32"))
    factor_pair(base, derivative, tmp_path / "delta")
    samples = make_samples(tmp_path / "pool", derivative)
    made = make_reference(tmp_path / "reference", derivative, samples)
    mean = {}
    for rank in (1, 2, 3, 4, 8):
        adapter, carrier, merged = (tmp_path / f"{what}{rank}" for what in ("a", "c", "m"))
        write_adapter(tmp_path / "delta", base, derivative, rank, adapter)
        write_variant(base, derivative, merged, base, adapter, dtype="float32")
        mean[rank] = read(made, merged, tmp_path / f"r{rank}.parquet", base)["kl"].mean()
        write_variant(base, derivative, carrier, base, adapter, dtype="float32", unmerged=True)
        apart = read(made, carrier, tmp_path / f"u{rank}.parquet", base, adapter=adapter)
        assert apart["kl"].mean() == pytest.approx(mean[rank], rel=1e-4, abs=1e-9)
    assert mean[1] > mean[2] > 1e-4
    assert max(mean[3], mean[4], mean[8]) < 1e-9


def stop_after(monkeypatch, module, name, calls):
    """Have a function of a module fail after so many calls, as a killed job does."""
    real, made = getattr(module, name), []

    def stopped(*given, **named):
        if len(made) == calls:
            raise KeyboardInterrupt
        made.append(given)
        return real(*given, **named)

    monkeypatch.setattr(module, name, stopped)
    return made


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_job_that_was_stopped_goes_on(trio, made, table, tmp_path, monkeypatch, capsys):
    output = tmp_path / "base.parquet"
    with monkeypatch.context() as patch:
        stop_after(patch, reading, "read_passage", 5)
        with pytest.raises(KeyboardInterrupt):
            read(made, trio.base, output, trio.derivative)
    assert not output.exists()
    calls = stop_after(monkeypatch, reading, "read_passage", 100)
    pandas.testing.assert_frame_equal(read(made, trio.base, output, trio.derivative), table)
    assert len(calls) == 9 - 5
    said = capsys.readouterr().err
    assert "base on b: 9 completions, 4 of them to be read" in said
    assert f"{len(table)}/{len(table)} tokens, " in said
    assert names(tmp_path) == {"base.parquet", "base.json", "read"}


def test_what_was_read_is_not_read_again(trio, pool, made, table, tmp_path, monkeypatch):
    """Not the model nor the derivative, and of more samples only those that are new."""
    reference_, output = shutil.copytree(made, tmp_path / "reference"), tmp_path / "base.parquet"
    read(reference_, trio.base, output, trio.derivative)
    states = names(reference_ / "states")
    passes = stop_after(monkeypatch, reference.reader, "hidden_states", 100)
    loads = stop_after(monkeypatch, reference.reader, "load_served", 100)
    output.unlink()
    make_reference(reference_, trio.derivative, pool)
    pandas.testing.assert_frame_equal(read(reference_, trio.base, output, trio.derivative), table)
    assert not passes
    assert not loads
    make_reference(reference_, trio.derivative, pool, count=2)
    assert names(reference_ / "states") < states
    fewer = read(reference_, trio.base, output, trio.derivative)
    assert not loads
    wanted = table[table["sample"] < 2].reset_index(drop=True)
    pandas.testing.assert_frame_equal(fewer, wanted)
    assert len(names(tmp_path / "read/base")) == 6
    make_reference(reference_, trio.derivative, pool)
    pandas.testing.assert_frame_equal(read(reference_, trio.base, output, trio.derivative), table)
    # Three completions by the derivative, then by the model; each load tries the head once.
    assert len(passes) == 2 * (1 + 3)
    assert names(reference_ / "states") == states


def test_what_another_model_read_is_not_taken(trio, made, table, tmp_path):
    output = tmp_path / "base.parquet"
    read(made, trio.derivative, output)
    pandas.testing.assert_frame_equal(read(made, trio.base, output, trio.derivative), table)


def test_a_derivatives_pass_that_was_stopped_goes_on(trio, pool, made, tmp_path, monkeypatch):
    folder = tmp_path / "reference"
    with monkeypatch.context() as patch:
        stop_after(patch, reference.reader, "hidden_states", 1 + 4)  # the first tries the head
        with pytest.raises(KeyboardInterrupt):
            make_reference(folder, trio.derivative, pool)
    assert not (folder / "reference.json").exists()
    calls = stop_after(monkeypatch, reference.reader, "hidden_states", 100)
    make_reference(folder, trio.derivative, pool)
    assert len(calls) == 1 + 9 - 4
    files = {path.relative_to(made): path.read_bytes() for path in made.rglob("*.*")}
    assert files == {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def test_states_of_another_derivative_are_not_taken(trio, made, tmp_path):
    """Of the same name, with the same text: each is itself."""
    reference_ = shutil.copytree(made, tmp_path / "reference")
    make_reference(reference_, trio.base, make_samples(tmp_path / "pool", trio.base))
    table = read(reference_, trio.base, tmp_path / "base.parquet")
    assert table["kl"].max() == 0
    assert names(reference_ / "states").isdisjoint(names(made / "states"))


def test_files_of_two_references_are_not_mixed(trio, pool, made, tmp_path):
    other = make_reference(tmp_path / "other", trio.derivative, pool, tokens=7)
    for name in (reference.PASSAGES, reference.RECORD):
        mixed = shutil.copytree(made, tmp_path / f"mixed-{name}")
        shutil.copy(other / name, mixed)
        with pytest.raises(InputError, match="not of one reference"):
            read(mixed, trio.base, tmp_path / "base.parquet", trio.derivative)


def test_states_that_are_gone_are_missed(trio, made, tmp_path):
    lacking = shutil.copytree(made, tmp_path / "lacking")
    next((lacking / "states").iterdir()).unlink()
    with pytest.raises(InputError, match=r"lacks 1 of the 10 files .* remove .*reference.json"):
        read(lacking, trio.base, tmp_path / "base.parquet", trio.derivative)


def test_another_tokenizer_is_refused(trio, made, tmp_path):
    tokenizer = shutil.copytree(trio.base, tmp_path / "tokenizer")
    (tokenizer / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    with pytest.raises(InputError, match="another tokenizer"):
        read(made, trio.base, tmp_path / "base.parquet", tokenizer)


def test_a_model_with_fewer_tokens_is_refused(trio, made, tmp_path):
    from safetensors.torch import load_file, save_file

    small = shutil.copytree(trio.base, tmp_path / "small")
    weights = load_file(small / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:90].clone()
    save_file(weights, small / "model.safetensors", metadata={"format": "pt"})
    changed = json.loads((small / "config.json").read_text()) | {"vocab_size": 90}
    (small / "config.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"knows 90 tokens, and token 9\d"):
        read(made, small, tmp_path / "small.parquet", trio.derivative)


def test_a_last_token_that_the_model_does_not_know_is_refused(tmp_path):
    """It is never shown to the model, but its probability is asked for."""
    embedding = torch.nn.Embedding(10, 2)
    model = SimpleNamespace(get_input_embeddings=lambda: embedding)
    ids = (np.array(tokens, dtype=np.int32) for tokens in ([1, 2], [3, 12]))
    asked = reference.Reference(tmp_path, {}, [Passage("p", 0, *ids)], ["key"])
    with pytest.raises(InputError, match="knows 10 tokens, and token 12"):
        reading.read_missing(model, asked, [tmp_path / "new.parquet"], tmp_path, tmp_path, None)
