"""How the engine runs each model: settings for all and for one, and what is refused."""

import json

import pytest
import yaml

from lowrank.errors import InputError
from lowrank.places import ROOT
from lowrank.plan.configuration import load
from lowrank.plan.engine_settings import ENGINE, deciding, engine_words, of_model, read_engine_words
from lowrank.plan.reference import read_schema

POST = yaml.safe_load((ROOT / "experiments/deepscaler.yaml").read_text())


@pytest.fixture
def post(tmp_path, monkeypatch):
    """The post's experiment with other settings of sampling, and questions."""
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)

    def made(questions: dict | None = None, **sampling: object):
        subject = POST | {"sampling": POST["sampling"] | sampling}
        (tmp_path / "experiments/mine.yaml").write_text(yaml.safe_dump(subject))
        asked = {"experiment": "mine", "ranks": [16], "other": ["copy"]} | (questions or {})
        return load(asked, given=asked)

    return made


def test_settings_for_one_come_before_those_for_all():
    sampling = {
        "max_num_seqs": 256,
        "engine": {"block_size": 16, "enforce_eager": True},
        "models": {
            "r*": {"max_num_seqs": 64, "engine": {"block_size": 32}},
            "r16-*": {"max_num_seqs": 8, "tensor_parallel": 2},
        },
    }
    assert of_model(sampling, "rl")["max_num_seqs"] == 64
    assert of_model(sampling, "base")["max_num_seqs"] == 256
    found = of_model(sampling, "r16-copy")
    assert (found["max_num_seqs"], found["tensor_parallel"]) == (8, 2)
    assert found["engine"] == {"block_size": 32, "enforce_eager": True}
    assert "models" not in found


def test_gpus_of_a_job_are_those_its_model_is_spread_over(post):
    mine = post(tensor_parallel=2, models={"r16-copy": {"tensor_parallel": 4}})
    assert {model: mine.gpus(model) for model in mine.sampled} == {
        "distill": 2, "deepscaler": 2, "r16-copy": 4, "r0-copy": 2,
    }  # fmt: skip
    assert mine.most_gpus == 4
    assert "--tensor-parallel=4" in mine.speed_flags("r16-copy")
    mini = load({"experiment": "mini"})
    assert {mini.gpus(model) for model in mini.sampled} == {0}
    assert mini.most_gpus == 0


SPEED = {
    "tensor_parallel": 2, "max_num_seqs": 7, "gpu_memory": 0.5,
    "engine": {"max_num_batched_tokens": 4096, "enforce_eager": True},
}  # fmt: skip


@pytest.mark.parametrize("key", SPEED)
def test_what_changes_speed_alone_is_no_part_of_the_question(post, key):
    as_it_is = post()
    for settings in ({key: SPEED[key]}, {"models": {"r*": {key: SPEED[key]}}}):
        mine = post(**settings)
        assert mine.question == as_it_is.question
        assert mine.kernel_flags("r16-copy") == ""
        assert mine.speed_flags("r16-copy") != as_it_is.speed_flags("r16-copy")


@pytest.mark.parametrize(("key", "value"), [("quantization", "fp8"), ("batch_invariant", True)])
def test_what_changes_completions_is_part_of_it(post, key, value):
    unread = {"divergence": None, "locate": None}
    as_it_is, mine = post(unread), post(unread, **{key: value})
    assert mine.question != as_it_is.question
    assert mine.speed_flags("distill") == as_it_is.speed_flags("distill")
    assert mine.kernel_flags("distill").startswith(f"--{key.replace('_', '-')}")
    # Saying that nothing is asked for is asking for nothing.
    off = post(unread, quantization=None, batch_invariant=False)
    assert off.question == as_it_is.question
    assert off.kernel_flags("distill") == ""


def test_what_one_model_is_computed_in_is_part_of_it(post):
    as_it_is, mine = post(), post(models={"r16-copy": {"compute_dtype": "float32"}})
    assert mine.compute_dtype("r16-copy") == "float32"
    assert mine.compute_dtype("distill") == "bfloat16"
    assert mine.question != as_it_is.question
    kept = json.loads(mine.description())["sampling"]
    assert kept["models"] == {"r16-copy": {"compute_dtype": "float32"}}


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"models": {"r61-*": {"max_num_seqs": 1}}}, "sampling.models has 'r61-*', which is none"),
        ({"models": {"distill": {"top_p": 1}}}, "sampling.models.distill: unknown key top_p"),
        ({"engine": {"kv_cache_dtype": "fp8"}}, "sampling.engine: unknown key kv_cache_dtype"),
        ({"engine": {"seed": 1}}, "sampling.engine: unknown key seed; known are max_num_batched"),
        ({"tensor_parallel": 0}, "sampling.tensor_parallel: is 0, must be at least 1"),
        ({"quantization": "int3"}, 'sampling.quantization: is "int3", must be one of fp8'),
        ({"quantization": "fp8"}, "divergence reads models as they are served"),
        ({"quantization": "fp8", "compute_dtype": "float32"}, "both quantization and compute_d"),
        ({"device": "cpu", "tensor_parallel": 2}, "sampling.tensor_parallel is 2 for distill"),
        ({"device": "cpu", "batch_invariant": True}, "sampling.batch_invariant is True"),
        ({"device": "cpu", "engine": {"block_size": 8}}, "is of GPUs, and sampling.device is cpu"),
        (
            {"models": {"r16-copy": {"compute_dtype": "float16"}}},
            "compute_dtype of r16-copy is float16",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(post, sampling, said):
    with pytest.raises(InputError) as error:
        post(**sampling)
    assert str(error.value).startswith("experiments/mine.yaml: ")
    assert said in str(error.value)


def test_one_gpu_on_a_cpu_is_nothing_to_refuse(post):
    assert post(device="cpu", tensor_parallel=1, engine={}, quantization=None).most_gpus == 0


def test_arguments_of_the_engine_are_those_of_the_schema_in_number_and_kind():
    schema = read_schema("experiment")["properties"]["sampling"]["properties"]["engine"]
    kinds = {bool: "boolean", int: "integer", float: "number"}
    assert {key: one["type"] for key, one in schema["properties"].items()} == {
        key: kinds[kind] for key, kind in ENGINE.items()
    }


def test_arguments_of_the_engine_arrive_as_they_were_given():
    given = {"enforce_eager": False, "max_num_batched_tokens": 4096, "cpu_offload_gb": 1.5}
    assert read_engine_words(engine_words(given)) == given
    assert read_engine_words(engine_words({})) == {}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("kv_cache_dtype=fp8", "kv_cache_dtype is not to be set here"),
        ("seed=1", "seed is not to be set"),
        ("enforce_eager=yes", "true or false was expected"),
        ("enforce_eager", "true or false was expected"),
        ("block_size=1.5", "a whole number was expected"),
    ],
)
def test_a_wrong_argument_of_the_engine_is_named(word, said):
    with pytest.raises(InputError, match=said):
        read_engine_words([word])


def test_arguments_of_the_engine_are_vllms(vllm):
    from dataclasses import fields

    from vllm.engine.arg_utils import EngineArgs

    assert ENGINE.keys() <= {field.name for field in fields(EngineArgs)}


def test_no_setting_that_decides_is_left_out():
    assert deciding(POST["sampling"]) == {
        key: value for key, value in POST["sampling"].items() if key != "max_num_seqs"
    }
