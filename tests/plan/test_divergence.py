"""What the phase of divergences asks for, from the configuration."""

import shlex
from pathlib import Path

import pytest
import yaml

from lowrank.errors import InputError
from lowrank.plan import divergence
from lowrank.plan.configuration import load

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"further_ranks": []}


def mini(**changes):
    return load(CONFIG | changes, ROOT)


def test_so_much_is_read_as_is_asked_for_and_there():
    read = {"samples": 4, "tokens": 100}
    assert divergence.asked(mini(divergence=read)) == {"count": 4, "tokens": 100}
    small = mini(divergence=read, samples=2, maj_k=[1])
    assert divergence.asked(small) == {"count": 2, "tokens": 100}


@pytest.mark.parametrize("nothing", [None, False, "false", "null", "none"])
def test_nothing_is_read_where_nothing_is_asked_for(nothing):
    experiment = mini(divergence=nothing)
    assert experiment.config["divergence"] is None
    assert divergence.asked(experiment) is None
    assert divergence.results(experiment) == []


def test_it_can_be_asked_for_on_the_command_line():
    asked = mini(divergence={"samples": "2", "tokens": "10"}).config["divergence"]
    assert asked == {"samples": 2, "tokens": 10}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"samples": 4}, "divergence: missing key tokens"),
        ({"samples": 0, "tokens": 9}, "divergence.samples: is 0, must be at least 1"),
        ({"samples": 4, "tokens": 9, "of": "base"}, "divergence: unknown key of"),
        (True, "divergence: is true, must be of type object or null"),
        (4, "divergence: is 4, must be of type object or null"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(value, said):
    with pytest.raises(InputError, match=f"config.yaml: {said}"):
        mini(divergence=value)


def test_what_is_located_is_read_first():
    located = {"samples": 1, "tokens": 9}
    assert not [path for path in divergence.results(mini()) if "locate" in path.name]
    experiment = mini(locate=located)
    assert experiment.layout.divergence("mini30").located in divergence.results(experiment)
    flags = "--device=cpu --dtype=bfloat16 --samples=1 --tokens=9"
    assert divergence.locate_flags(experiment) == flags
    with pytest.raises(InputError, match="locate reads what divergence reads"):
        mini(divergence=None, locate=located)


def test_ladders_differ_in_rank_alone_and_pairs_in_what_is_copied():
    experiment = mini(
        ranks=[4, 16], serve_dtype=["bfloat16", "float32"], controls=["other", "random"]
    )
    ladders = divergence.ladders(experiment)
    assert ladders == {
        "copy": {"r4-copy": 4, "r16-copy": 16},
        "keep": {"r4-keep": 4, "r16-keep": 16},
        "copy-float32": {"r4-copy-float32": 4, "r16-copy-float32": 16},
        "keep-float32": {"r4-keep-float32": 4, "r16-keep-float32": 16},
    }
    pairs = divergence.pairs(experiment)
    assert ("r4-copy", "r4-keep") in pairs
    assert ("random-r4-copy-float32", "random-r4-keep-float32") in pairs
    assert len(pairs) == 8
    assert {one.replace("copy", "keep") == other for one, other in pairs} == {True}


def test_descriptions_are_held_against_the_rank_whose_bytes_they_have():
    asked = {"ranks": [4, 16], "controls": [{"sparse": [4, 8]}, "bitdelta"]}
    experiment = mini(**asked)
    beside, apart = divergence.equal_bytes(experiment)
    assert beside == [("sparse-r4-copy", "r4-copy")]  # there is no rank 8
    assert apart == [("bitdelta-copy", "copy")]
    assert experiment.bytes_of_ranks == [4, 8, 16]
    words = shlex.split(divergence.metrics_flags(experiment, experiment.read))
    assert words[words.index("--equal-bytes") + 1 :][:2] == ["sparse-r4-copy", "r4-copy"]
    assert words[words.index("--own-bytes") + 1 :][:3] == ["bitdelta-copy", "bitdelta", "copy"]
    assert "--sizes=results/mini/delta/rl/descriptions.parquet" in words
    every = {path.parent.name for path in divergence.results(experiment) if "descr" in path.name}
    assert every == {"sft", "rl"}
    assert divergence.asked_for(experiment) == ["accuracy", "divergence", "descriptions"]
    assert divergence.asked_for(mini(controls=["other"])) == ["accuracy", "divergence"]


def test_every_model_is_read_as_it_is_served():
    experiment = mini(serve_dtype=["bfloat16", "float32"], serve_as=["merged", "adapter"])
    assert divergence.served_flags(experiment, "rl") == "--device=cpu --dtype=bfloat16"
    served = divergence.served_flags(experiment, "r16-copy-float32-adapter")
    assert served == "--device=cpu --dtype=float32"


def test_the_flags_name_every_file_once():
    experiment = mini(ranks=[4, 16], controls=["other"])
    tables = [f"{model}.parquet" for model in experiment.read]
    words = shlex.split(divergence.metrics_flags(experiment, tables))
    assert [word for word in words if "=" in word and word.endswith(".parquet")] == [
        f"{model}={model}.parquet" for model in experiment.read
    ]
    assert words.count("--ladder") == 2
    records = ["d/mini30/reference/reference.json"]
    words = shlex.split(
        divergence.benchmark_flags(experiment, ["p.parquet"], ["elsewhere/s.parquet"], records)
    )
    assert words == [
        "--benchmark", "mini30", "p.parquet", "d/mini30/reference", "elsewhere/s.parquet",
    ]  # fmt: skip
