"""Every setting reaches the function that does the work, through rule, command line and program.

One plan of an experiment in which no setting is a program's default. The commands of its jobs are
given to the programs, whose one call into the library is noted instead of made.
"""

import contextlib
import importlib.util
import inspect
import re
import shlex
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from workflow_case import ROOT, make_case, snakemake

from lowrank.sampling.engine import Serving
from lowrank.sampling.requests import Job, Target

# What each program calls.
LIBRARY = {
    "fetch_weights": ("lowrank.models.weight_file.fetch_weights",
                      "lowrank.models.weight_file.link_weights"),
    "fetch_model": ("lowrank.models.hub.fetch_model", "lowrank.models.hub.copy_model"),
    "fetch_benchmark": ("lowrank.models.problems.write_benchmark",),
    "delta_svd": ("lowrank.delta.factor.factor_pair",),
    "delta_statistics": ("lowrank.delta.statistics.write_statistics",),
    "build_adapter": ("lowrank.variants.adapter.write_adapter",),
    "build_description": ("lowrank.variants.description.write_description",),
    "description_errors": ("lowrank.variants.description_errors.write_errors",),
    "merge_adapter": ("lowrank.variants.adapted.write_adapted",),
    "fetch_adapter": ("lowrank.models.adapter_files.fetch_adapter",
                      "lowrank.models.adapter_files.copy_adapter"),
    "build_variant": ("lowrank.variants.merge.write_variant",),
    "sample": ("sample",),  # bound in the program's own module
    "grade": ("lowrank.grading.grade.grade_files",),
    "metrics": ("lowrank.metrics.evaluation.write_metrics",),
    "compare": ("lowrank.metrics.evaluation.write_comparisons",),
    "read_derivative": ("lowrank.divergence.reference.make_references",),
    "divergence": ("lowrank.divergence.reading.read_model",),
    "divergence_metrics": ("lowrank.metrics.divergence_files.write_divergences",),
    "locate": ("lowrank.divergence.locate.locate",),
    "report": ("lowrank.report.page.build",),
}  # fmt: skip
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LEFT_OUT = ["*.q_proj.weight", "*norm*"]
CONFIG = {
    "ranks": [2], "further_ranks": [3], "only_read": [{"lowrank": [3]}, "sparse"],
    "other": ["copy", "keep"], "serve_dtype": ["bfloat16", "float32"],
    "serve_as": ["merged", "adapter"], "samples": 6, "resample": "never", "maj_k": [1, 3],
    "controls": ["other", "biases", "random", "bottom", "rescaled", "sparse"], "details": True,
    "repeats": 5, "seed": 7, "margin": 0.11, "results": "made",
    "divergence": {"samples": 3, "tokens": 33}, "locate": {"samples": 2, "tokens": 22},
}  # fmt: skip
SUBJECT = {
    "title": "No default",
    "models": {
        "old": {"label": "o", "path": "resources/mini/pretrained"},
        "sft": {"label": "s", "path": "resources/mini/sft"},
        "rl": {"label": "r", "path": "resources/mini/rl"},
        "far": {"label": "f", "repo": "some/model", "revision": COMMIT, "shards": 2},
        "tuned": {"label": "t", "adapter": {"repo": "some/lora", "revision": COMMIT,
                                            "subfolder": "last"}, "on": "sft"},
    },
    "deltas": {
        "first": {"base": "old", "derivative": "sft", "leave_out": ["*.bias"]},
        "rl": {"base": "sft", "derivative": "rl", "leave_out": LEFT_OUT},
    },
    "delta": "rl",
    "references": ["rl", "sft", "tuned"],
    "tokenizer": "old",
    "factoring": {"device": "cuda", "threads": 3, "mem_mb": 2100},
    "benchmarks": {
        "near": {"label": "n", "path": "resources/mini/problems.jsonl", "answer_type": "any",
                 "problem_column": "question", "answer_column": "solution", "id_column": "name"},
        "far": {"label": "f", "repo": "some/set", "revision": COMMIT, "file": "data/a.parquet",
                "problems": 30, "answer_type": "integer"},
    },
    "pools": {"both": {"label": "b", "benchmarks": ["far", "near"]}},
    "grading": {"reasoning_end": "</done>", "rule": "post"},
    "sampling": {
        "device": "cuda", "dtype": "float16", "compute_dtype": "float32", "temperature": 0.7,
        "top_p": 0.8, "max_tokens": 77, "max_model_len": 121, "max_num_seqs": 13,
        "kv_cache_gib": 0.5, "gpu_memory": 0.6, "tensor_parallel": 2, "batch_invariant": True,
        "engine": {"block_size": 32}, "parts": 2, "system": "Be 'brief' in \\boxed{}",
        "user": "{problem}\nGo.", "think_prefix": "<think>\n", "threads": 2, "mem_mb": 3100,
        "runtime": 21,
    },
}  # fmt: skip
# other, dtype, whether served unmerged, adapter: of a variant of each kind and of each form.
VARIANTS = {
    "r2-copy": ("copy", "bfloat16", False, "r2"),
    "r2-keep-float32": ("keep", "float32", False, "r2"),
    "r2-keep-adapter": ("keep", "bfloat16", True, "r2-padded"),
    "random-r2-copy-float32-adapter": ("copy", "float32", True, "random-r2-padded"),
    "bottom-r2-keep": ("keep", "bfloat16", False, "bottom-r2"),
    "rescaled-r2-copy": ("copy", "bfloat16", False, "rescaled-r2"),
    "r0-copy": ("copy", "bfloat16", False, None),
    "r0-keep-float32": ("keep", "float32", False, None),
}
HERE = "made/tiny"


def call(program: str, words: list[str]) -> dict[str, Any]:
    """The arguments, by name, with which a program calls the library under a command line.

    Paths are told as text, tuples as lists; "function": the name of what is called.
    """
    spec = importlib.util.spec_from_file_location("program", ROOT / f"scripts/{program}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(sys, "argv", [program, *words]))
        noted = []
        for name in LIBRARY[program]:
            place, _, function = name.rpartition(".")
            owner = importlib.import_module(place) if place else module
            signature = inspect.signature(getattr(owner, function))
            instead = patches.enter_context(mock.patch.object(owner, function))
            noted.append((function, signature, instead))
        module.main()
    ((function, signature, instead),) = [one for one in noted if one[2].called]
    (given,) = instead.call_args_list
    bound = signature.bind(*given.args, **given.kwargs)
    bound.apply_defaults()
    return {"function": function} | {
        name: as_text(value) for name, value in bound.arguments.items()
    }


def as_text(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [as_text(part) for part in value]
    return str(value) if isinstance(value, Path) else value


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    """By program, the arguments of every call that the experiment's jobs make of the library."""
    case = make_case(tmp_path_factory.mktemp("commands") / "case", **CONFIG)
    (case / "experiments/tiny.yaml").write_text(yaml.safe_dump(SUBJECT, sort_keys=False))
    said = snakemake(case, "--cores", "4", "--dry-run", "--printshellcmds").stdout
    found: dict[str, list[dict[str, Any]]] = {program: [] for program in LIBRARY}
    with contextlib.chdir(case):
        for program, command in re.findall(
            r"^Shell command: python \S*/scripts/(\w+)\.py (.*?) (?:&>|2>&1 \|)", said, re.M | re.S
        ):
            if program in LIBRARY:  # describe has all in one argument: test_workflow.py
                found[program].append(call(program, shlex.split(command)))
    return found


def the(calls: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The one call with these arguments."""
    (found,) = [one for one in calls if wanted.items() <= one.items()]
    return found


def test_every_program_is_asked_for_something(calls):
    assert [program for program, made in calls.items() if not made] == []


def test_sources(calls):
    far = {"repo": "some/model", "revision": COMMIT}
    for number in (1, 2):
        output = f"{HERE}/models/far/model-0000{number}-of-00002.safetensors"
        the(calls["fetch_weights"], function="fetch_weights", output=output, **far)
    the(calls["fetch_model"], function="fetch_model", output=f"{HERE}/models/far", **far)
    near = {"path": "resources/mini/pretrained", "output": f"{HERE}/models/old"}
    the(calls["fetch_model"], function="copy_model", **near)


def test_problems(calls):
    near = the(calls["fetch_benchmark"], output=f"{HERE}/benchmarks/near.parquet")
    assert near["path"] == "resources/mini/problems.jsonl"
    columns = {"problem_column": "question", "answer_column": "solution", "id_column": "name"}
    assert columns.items() <= near.items()
    far = {"repo": "some/set", "revision": COMMIT, "file": "data/a.parquet", "problems": 30}
    the(calls["fetch_benchmark"], output=f"{HERE}/benchmarks/far.parquet", path=None, **far)


@pytest.mark.parametrize(
    ("delta", "base", "derivative", "leave_out"),
    [("first", "old", "sft", ["*.bias"]), ("rl", "sft", "rl", LEFT_OUT)],
)
def test_deltas(calls, delta, base, derivative, leave_out):
    asked = {
        "base_folder": f"{HERE}/models/{base}",
        "derivative_folder": f"{HERE}/models/{derivative}",
        "threads": 3,
        "device": "cuda",
    }
    folder = f"{HERE}/delta/{delta}"
    the(calls["delta_svd"], output=folder, leave_out=leave_out, **asked)
    the(calls["delta_statistics"], delta_folder=folder, details=True, **asked)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("r2", {}),
        ("r2-padded", {"pad_rank": True}),
        ("random-r2", {"directions": "random", "seed": 7}),
        ("random-r2-padded", {"directions": "random", "seed": 7, "pad_rank": True}),
        ("bottom-r2", {"directions": "bottom"}),
        ("rescaled-r2", {"rescale": True}),
    ],
)
def test_adapters(calls, name, settings):
    plain = {"pad_rank": False, "directions": "top", "rescale": False, "seed": 0}
    assert the(calls["build_adapter"], output=f"{HERE}/adapters/rl/{name}") == {
        "function": "write_adapter",
        "delta_folder": f"{HERE}/delta/rl",
        "base_folder": f"{HERE}/models/sft",
        "derivative_folder": f"{HERE}/models/rl",
        "rank": 2,
        "output": f"{HERE}/adapters/rl/{name}",
        "threads": 3,
        **plain,
        **settings,
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(calls, name):
    other, dtype, unmerged, adapter = VARIANTS[name]
    assert the(calls["build_variant"], output=f"{HERE}/variants/{name}") == {
        "function": "write_variant",
        "base_folder": f"{HERE}/models/sft",
        "derivative_folder": f"{HERE}/models/rl",
        "output": f"{HERE}/variants/{name}",
        "tokenizer_folder": f"{HERE}/models/old/tokenizer",
        "description_folder": None,
        "adapter_folder": f"{HERE}/adapters/rl/{adapter}" if adapter else None,
        "other": other,
        "biases": "copy",
        "dtype": dtype,
        "leave_out": LEFT_OUT,
        "unmerged": unmerged,
        "threads": 3,
    }


def test_descriptions(calls):
    asked = {
        "delta_folder": f"{HERE}/delta/rl",
        "base_folder": f"{HERE}/models/sft",
        "derivative_folder": f"{HERE}/models/rl",
        "threads": 3,
    }
    folder = f"{HERE}/descriptions/rl/sparse-r2"
    the(calls["build_description"], kind="sparse", rank=2, output=folder, **asked)
    the(calls["description_errors"], kinds=["sparse"], ranks=[2, 3], **asked)
    made = the(calls["build_variant"], output=f"{HERE}/variants/sparse-r2-copy")
    assert (made["adapter_folder"], made["description_folder"]) == (None, folder)


def test_adapters_of_others(calls):
    given = {"repo": "some/lora", "revision": COMMIT, "subfolder": "last"}
    fetched = the(calls["fetch_adapter"], function="fetch_adapter", **given)
    the(
        calls["merge_adapter"],
        base_folder=f"{HERE}/models/sft",
        adapter_folder=fetched["output"],
        output=f"{HERE}/models/tuned",
        threads=3,
    )


@pytest.mark.parametrize("name", ["rl", "tuned", *VARIANTS])
def test_samples(calls, name):
    _, dtype, unmerged, adapter = VARIANTS.get(name, (None, "float16", False, None))
    folder = f"{HERE}/{'variants' if name in VARIANTS else 'models'}/{name}"
    jobs = [one["job"] for one in calls["sample"] if one["job"].model_name == name]
    assert sorted(job.part for job in jobs) == [1, 2]
    for job in jobs:
        assert job.serving == Serving(
            model=Path(folder),
            adapter=Path(f"{HERE}/adapters/rl/{adapter}") if unmerged else None,
            device="cuda",
            dtype=dtype,
            compute_dtype="float32",
            max_model_len=121,
            max_num_seqs=13,
            threads=2,
            kv_cache_gib=0.5,
            gpu_memory=0.6,
            memory_mb=3100,
            tensor_parallel=2,
            batch_invariant=True,
            more={"block_size": 32},
        )
        assert job == Job(
            serving=job.serving,
            tokenizer=Path(f"{HERE}/models/old/tokenizer"),
            targets=tuple(
                Target(
                    benchmark,
                    Path(f"{HERE}/benchmarks/{benchmark}.parquet"),
                    Path(f"{HERE}/samples/{benchmark}/{name}/{job.part}-of-2.parquet"),
                )
                for benchmark in ("near", "far")
            ),
            store=Path("made/completions"),
            model_name=name,
            samples=6,
            part=job.part,
            parts=2,
            resample="never",
            seed=7,
            temperature=0.7,
            top_p=0.8,
            max_tokens=77,
            system="Be 'brief' in \\boxed{}",
            user="{problem}\nGo.",
            think="<think>\n",
        )


@pytest.mark.parametrize(
    ("benchmark", "kind", "workers"), [("near", "any", 2), ("far", "integer", 1)]
)
def test_grades_and_metrics(calls, benchmark, kind, workers):
    grades = f"{HERE}/grades/{benchmark}/r2-copy.parquet"
    graded = the(calls["grade"], output=grades, problems=f"{HERE}/benchmarks/{benchmark}.parquet")
    samples = f"{HERE}/samples/{benchmark}/r2-copy"
    assert graded["samples"] == [f"{samples}/{part}-of-2.parquet" for part in (1, 2)]
    asked = {"answer_type": kind, "rule": "post", "workers": workers}
    assert graded["reasoning_end"] == "</done>"
    assert asked.items() <= graded["options"].items()
    assert the(calls["metrics"], grades=grades) == {
        "function": "write_metrics",
        "grades": grades,
        "model": "r2-copy",
        "benchmark": benchmark,
        "ks": [1, 3],
        "output": f"{HERE}/metrics/{benchmark}/r2-copy.csv",
        "repeats": 5,
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("name", "benchmarks"), [("near", ["near"]), ("far", ["far"]), ("both", ["far", "near"])]
)
def test_comparisons(calls, name, benchmarks):
    compared = the(calls["compare"], output=f"{HERE}/comparisons/{name}.csv")
    asked = {"ks": [1, 3], "margin": 0.11, "seed": 7, "references": ["sft", "rl"]}
    assert asked.items() <= compared.items()
    assert list(compared["grades"]) == benchmarks
    for benchmark, tables in compared["grades"].items():
        assert {"sft", "rl", *VARIANTS} <= set(tables)
        for model, path in tables.items():
            assert path == f"{HERE}/grades/{benchmark}/{model}.parquet"


def test_what_is_read_of_the_derivative(calls):
    (read,) = calls["read_derivative"]
    asked = {"name": "rl", "dtype": "float16", "device": "cuda", "threads": 2}
    asked |= {"count": 3, "tokens": 33}
    asked |= {"model": f"{HERE}/models/rl", "tokenizer": f"{HERE}/models/old/tokenizer"}
    assert asked.items() <= read.items()
    for target, name in zip(read["targets"], ("near", "far"), strict=True):
        assert target.benchmark == name
        assert target.problems == Path(f"{HERE}/benchmarks/{name}.parquet")
        assert as_text(target.samples) == [
            f"{HERE}/samples/{name}/rl/{part}-of-2.parquet" for part in (1, 2)
        ]


@pytest.mark.parametrize("name", VARIANTS)
def test_divergences(calls, name):
    _, dtype, unmerged, adapter = VARIANTS[name]
    read = the(
        calls["divergence"],
        name=name,
        model=f"{HERE}/variants/{name}",
        adapter=f"{HERE}/adapters/rl/{adapter}" if unmerged else None,
        tokenizer=f"{HERE}/models/old/tokenizer",
        dtype=dtype,
        device="cuda",
        threads=2,
    )
    for (reference, table), benchmark in zip(read["targets"], ("near", "far"), strict=True):
        assert benchmark in Path(reference).parts
        assert (benchmark, name) == (Path(table).parent.name, Path(table).stem)


@pytest.mark.parametrize("benchmark", ["near", "far"])
def test_what_follows_of_divergences(calls, benchmark):
    told = the(calls["divergence_metrics"], benchmark=benchmark, base="sft", seed=7)
    assert {"sft", "rl", *VARIANTS} <= set(told["tables"])
    for model, path in told["tables"].items():
        assert (benchmark, model) == (path.parent.name, path.stem)
    reference = f"{HERE}/divergence/{benchmark}/reference"
    the(
        calls["locate"],
        base_folder=f"{HERE}/models/sft",
        derivative_folder=f"{HERE}/models/rl",
        reference_folder=reference,
        leave_out=LEFT_OUT,
        samples=2,
        tokens=22,
        dtype="float16",
        device="cuda",
        threads=2,
    )


def test_the_report_reads_where_all_of_it_lies(calls):
    (told,) = calls["report"]
    assert (told["results"], told["output"]) == (HERE, f"{HERE}/report")
    assert re.fullmatch(rf"{HERE}/asked-\w{{16}}\.json", told["experiment_file"])
