"""The engine itself: real vLLM on random weights, a pool that is the same however made."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from sampling_case import PROBLEMS, SCRIPTS, arguments, kept, kill_at, make_folder
from tiny_checkpoint import make_model

from lowrank.errors import InputError
from lowrank.sampling import engine


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


def serving(compute_dtype="bfloat16", **more):
    return engine.Serving(Path("m"), "cpu", "bfloat16", compute_dtype, 1000, 8, **more)


def test_keys_and_values_of_all_sequences_have_room(monkeypatch):
    """R1-Distill-Qwen-1.5B: 28 KiB a token (28 layers, 2 heads of 128, keys and values, bf16)."""
    config = {
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "hidden_size": 1536,
    }
    monkeypatch.setattr(engine, "free_memory", lambda: 2**40)
    needed = engine.kv_cache_bytes(serving(), config, 8)
    assert 8 * 1024 * 28 * 1024 <= needed <= 1.5 * 8 * 1024 * 28 * 1024
    # They are kept in what is computed in, whatever the weights are cast to.
    assert engine.kv_cache_bytes(serving("float32"), config, 8) == 2 * needed
    assert engine.kv_cache_bytes(serving(kv_cache_gib=1.5), config, 8) == 1.5 * 2**30
    # Half of what the job may use; the rest is for whatever else is done.
    allowed = serving(memory_mb=200)
    assert engine.kv_cache_bytes(allowed, config, 8) == 100 * 2**20
    for wrong, said in (
        (serving(memory_mb=40), "do not fit into the 0.0391 GiB that are free"),
        (serving(kv_cache_gib=0.01), "kv_cache_gib is 0.01, but one sequence of 1000 tokens needs"),
    ):
        with pytest.raises(InputError, match=said):
            engine.kv_cache_bytes(wrong, config, 8)
    monkeypatch.setattr(engine, "free_memory", lambda: 2**20)
    with pytest.raises(InputError, match=r"GiB that are free .or allowed by mem_mb"):
        engine.kv_cache_bytes(serving(), config, 8)


def on_gpus(**more) -> dict:
    given = engine.Serving(Path("m"), "cuda", "bfloat16", "bfloat16", 1000, 8, **more)
    return engine.arguments(given, {}, 4)


def test_a_gpu_has_the_engine_in_this_process_and_several_a_worker_each():
    one, four = on_gpus(), on_gpus(tensor_parallel=4)
    assert (one["distributed_executor_backend"], one["tensor_parallel_size"]) == ("uni", 1)
    assert (four["distributed_executor_backend"], four["tensor_parallel_size"]) == ("mp", 4)
    assert "worker_extension_cls" not in one
    assert "worker_extension_cls" in four


def test_further_arguments_reach_the_engine_over_the_defaults():
    assert on_gpus()["enable_prefix_caching"] is False
    assert on_gpus()["quantization"] is None
    more = on_gpus(more={"enable_prefix_caching": True, "block_size": 32}, quantization="fp8")
    assert more["enable_prefix_caching"] is True
    assert (more["block_size"], more["quantization"]) == (32, "fp8")


def test_positions_that_are_scaled_are_vllms_to_judge(tmp_path):
    config = {"max_position_embeddings": 100, "rope_scaling": {"rope_type": "yarn", "factor": 4}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert engine.read_config(tmp_path, 400) == config


def test_no_engine_starts_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    given = engine.Serving(tmp_path, "cpu", "bfloat16", "bfloat16", 100, 8)
    with pytest.raises(InputError, match=r"no \.safetensors file; completions are missing"):
        engine.start(given, 1)


FORMS = ["carrier", "merged", "adapter"]
both_pools = pytest.mark.parametrize("pool", ["", "cast-"], ids=["bfloat16", "float32"])
needs_vllm = pytest.mark.usefixtures("vllm")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Tables of engine_runs.py, by name: real vLLM on random weights, in a process of its own."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2ForCausalLM

    place = make_folder(tmp_path_factory.mktemp("engine"))
    make_model(place / "model")
    make_model(place / "carrier", seed=1, dtype="float32")
    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=4, target_modules=projections, init_lora_weights=False)
    adapted = get_peft_model(Qwen2ForCausalLM.from_pretrained(place / "carrier"), config)
    adapted.save_pretrained(place / "adapter")
    adapted.merge_and_unload().save_pretrained(place / "merged")
    program = Path(__file__).parents[1] / "engine_runs.py"
    subprocess.run([sys.executable, str(program), str(place)], check=True, timeout=900)
    return place, {path.stem: pandas.read_parquet(path) for path in place.glob("*.parquet")}


@needs_vllm
@both_pools
def test_two_runs_give_the_same_table(runs, pool):
    place, _ = runs
    same = [(place / f"{pool}{name}.parquet").read_bytes() for name in ("all", "again")]
    assert same[0] == same[1]


@needs_vllm
@both_pools
def test_neither_batch_size_nor_order_changes_a_completion(runs, pool):
    """12 at once with too little memory, so that some are set back; five at once from the last
    to the first; one at a time."""
    _, tables = runs
    whole = tables[f"{pool}all"]
    pandas.testing.assert_frame_equal(whole, tables[f"{pool}backwards"])
    few = whole[whole["sample"] < 2].reset_index(drop=True)
    pandas.testing.assert_frame_equal(few, tables[f"{pool}alone"])


@needs_vllm
@both_pools
def test_parts_give_the_pool(runs, pool):
    _, tables = runs
    whole = tables[f"{pool}all"]
    for name, samples in (("first", {0, 2}), ("second", {1, 3})):
        part = whole[whole["sample"].isin(samples)].reset_index(drop=True)
        pandas.testing.assert_frame_equal(part, tables[f"{pool}{name}"])


@needs_vllm
@both_pools
def test_samples_differ_and_keep_to_the_limits(runs, pool):
    _, tables = runs
    table = tables[f"{pool}all"]
    assert table["completion"].is_unique
    limit = (150 - table["prompt_tokens"]).clip(upper=100)
    assert (table["completion_tokens"] <= limit).all()
    cut = table["finish_reason"] == "length"
    assert (table["completion_tokens"] == limit)[cut].all()
    assert cut.any()
    assert not table["completion"].str.contains("<eos>").any()


def load(place, form):
    """A model of the runs in transformers, an adapter beside its carrier, all in float32."""
    import torch
    from peft import PeftModel
    from transformers import Qwen2ForCausalLM

    folder = place / ("merged" if form == "merged" else "carrier")
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return PeftModel.from_pretrained(model, place / "adapter") if form == "adapter" else model


def greedy_texts(model, place):
    """What transformers makes of the same prompts, token by token."""
    import torch

    from lowrank.sampling import prompts

    tokenizer = prompts.load_tokenizer(place / "tokenizer")
    texts = []
    for problem in PROBLEMS.values():
        ids = prompts.prompt_ids(tokenizer, "", "{problem}", "<think>\n", problem)
        with torch.inference_mode():
            made = model.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                do_sample=False,
                max_new_tokens=min(100, 150 - len(ids)),
                eos_token_id=1,
                pad_token_id=2,
            )[0, len(ids) :]
        texts.append(prompts.completion_text(tokenizer, made.tolist(), {1, 2}))
    return texts


@needs_vllm
@pytest.mark.parametrize("form", FORMS)
def test_greedy_text_is_that_of_transformers(runs, form):
    """An adapter served unmerged is the merged model; the carrier alone is another one."""
    place, tables = runs
    assert tables[form]["completion"].tolist() == greedy_texts(load(place, form), place)


@needs_vllm
@pytest.mark.parametrize("form", FORMS)
def test_computed_in_float32_a_model_holds_what_it_is_served_as(runs, form):
    """All three are stored in float32. Their values are those of bfloat16, the adapter's too."""
    place, tables = runs
    model = load(place, form)
    for weight in model.parameters():
        weight.data = weight.data.bfloat16().float()
    served = tables[f"cast-{form}"]["completion"].tolist()
    assert served == greedy_texts(model, place)
    assert served != tables[form]["completion"].tolist()


@needs_vllm
def test_an_adapter_gives_the_text_of_the_merged_model(runs):
    _, tables = runs
    assert tables["adapter"]["completion"].tolist() == tables["merged"]["completion"].tolist()
    assert (tables["adapter"]["completion"] != tables["carrier"]["completion"]).any()


@needs_vllm
def test_logits_that_are_not_finite_stop_the_job(runs):
    """A model whose activations leave float16's range would answer token 0 for ever."""
    import torch
    from safetensors.torch import load_file, save_file

    place, _ = runs
    shutil.copytree(place / "model", place / "huge")
    weights = load_file(place / "model/model.safetensors")
    huge = {name: w.float() * (300 if "proj" in name else 1) for name, w in weights.items()}
    cast = {name: weight.to(torch.float16) for name, weight in huge.items()}
    save_file(cast, place / "huge/model.safetensors", metadata={"format": "pt"})
    more = ("--model", str(place / "huge"), "--dtype", "float16")
    given = arguments(place, "huge.parquet", *more)
    command = [sys.executable, str(SCRIPTS / "sample.py"), *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the model's logits are not finite")
    assert not (place / "huge.parquet").exists()
    # In float32 the same weights are a model like any other.
    again = subprocess.run([*command, "--compute-dtype", "float32"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr


@needs_vllm
@pytest.mark.slow
def test_the_program_goes_on_after_kill_9(runs):
    """The whole program, killed while its engine works."""
    place, tables = runs
    more = ("--samples", "60", "--max-num-seqs", "8")
    whole = [sys.executable, str(SCRIPTS / "sample.py"), *arguments(place, "long.parquet", *more)]
    output = place / "long.parquet"
    assert kill_at(whole, output, 30, seconds=300) == -9
    there = len(kept(output))
    assert 30 <= there < 180
    again = subprocess.run(whole, check=True, capture_output=True, text=True, timeout=600)
    assert f"180 completions, {180 - there} of them to be sampled" in again.stderr
    table = pandas.read_parquet(place / "long.parquet")
    first = table[table["sample"] < 4].reset_index(drop=True)
    pandas.testing.assert_frame_equal(first, tables["all"])
