"""Caching: after a change, exactly the jobs that the change touches would run; and what they make.

One small experiment is run for real; every test changes a copy of it and asks what is left to do.
"""

import os
import shutil
import time
from pathlib import Path

import pandas
import pytest
import yaml
from workflow_case import configure, copy_case, make_case, planned, snakemake

from lowrank.files import MARKER
from lowrank.outputs import outputs

MODELS = ("sft", "rl", "r2-copy", "r0-copy")


def results(case: Path) -> dict[str, bytes]:
    """Content of every file below results/tiny but logs and timings."""
    root = case / "results/tiny"
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in ("logs", "timings")
    }


@pytest.fixture(scope="module")
def finished(vllm, tmp_path_factory):
    case = make_case(tmp_path_factory.mktemp("finished") / "case")
    snakemake(case, "--cores", "2")
    return case


@pytest.fixture
def case(finished, tmp_path):
    return copy_case(finished, tmp_path / "case")


def test_everything_is_there(finished):
    made = results(finished)
    for expected in (
        "models/rl/manifest.json",
        "benchmarks/tiny3.parquet",
        "delta/sft/spectrum.parquet",
        "delta/rl/summary.parquet",
        "adapters/rl/r2/adapter_model.safetensors",
        "variants/r2-copy/fidelity.json",
        "report/report.html",
        *(f"samples/tiny3/{model}/1-of-1.parquet" for model in MODELS),
        *(f"grades/tiny3/{model}.parquet" for model in MODELS),
        *(f"metrics/tiny3/{model}.csv" for model in MODELS),
    ):
        assert expected in made


def test_the_report_declares_what_it_writes(finished):
    promised = outputs(["tiny3"], ["sft", "rl"])
    folder = finished / "results/tiny/report"
    made = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.name != MARKER]
    assert {path.as_posix() for path in made} == set(promised)
    assert len(list(folder.parent.glob("asked-*.json"))) == 1
    declared = snakemake(finished, "--summary").stdout
    assert [name for name in promised if not name.endswith(".png") and name not in declared] == []


def test_snakemakes_own_report_is_made(case):
    snakemake(case, "--report", "overview.html")
    page = (case / "overview.html").read_text()
    for label in ("accuracy by rank", "spectrum by modules", "everything on one page"):
        assert label in page


def test_every_job_left_a_log(finished):
    logs = list((finished / "results/tiny/logs").rglob("*.log"))
    jobs = planned(finished, "--forceall")
    assert len(logs) == len(jobs)


def test_a_second_run_has_nothing_to_do(case):
    assert "Nothing to be done" in snakemake(case, "--cores", "2").stdout


def test_a_new_rank_runs_what_hangs_on_it(case):
    configure(case, ranks=[2, 3])
    assert planned(case) == {
        "build_adapter delta=rl adapter=r3",
        "build_variant variant=r3-copy",
        "sample model=r3-copy part=1-of-1",
        "grade model=r3-copy",
        "metrics model=r3-copy",
        "report",
    }


def followed(*variants: str) -> set[str]:
    """What new variants bring with them."""
    return {"report"}.union(
        *(
            {
                f"build_variant variant={name}",
                f"sample model={name} part=1-of-1",
                f"grade model={name}",
                f"metrics model={name}",
            }
            for name in variants
        )
    )


def test_a_new_control_or_form_runs_what_hangs_on_it(case):
    configure(case, controls=["other", "random"])
    assert planned(case) == {"build_adapter delta=rl adapter=random-r2"} | followed(
        "random-r2-copy"
    )
    configure(case, controls=["other"], serve_dtype=["bfloat16", "float32"])
    assert planned(case) == followed("r2-copy-float32", "r0-copy-float32")
    configure(case, serve_dtype=["bfloat16"], serve_as=["merged", "adapter"])
    assert planned(case) == {"build_adapter delta=rl adapter=r2-padded"} | followed(
        "r2-copy-adapter"
    )
    configure(case, serve_as=["merged"], controls=[])
    assert planned(case) == {"report"}


def test_a_removed_rank_runs_the_report_only(finished, tmp_path):
    case = copy_case(finished, tmp_path / "case")
    configure(case, ranks=[2, 3])
    snakemake(case, "--cores", "2")
    assert "r3-copy" in (case / "results/tiny/report/report.html").read_text()
    configure(case, ranks=[3])
    assert planned(case) == {"report"}
    snakemake(case, "--cores", "2")
    assert "r2-copy" not in (case / "results/tiny/report/report.html").read_text()
    # Back to the first question: everything but the report is still there, and it is the same.
    configure(case, ranks=[2])
    assert planned(case) == {"report"}
    snakemake(case, "--cores", "2")
    before = results(finished)
    after = results(case)
    assert {name: after[name] for name in before} == before


def sampled_anew(models=MODELS) -> set[str]:
    """The jobs that follow when the samples of models are made again."""
    return {"report"}.union(
        *(
            {f"sample model={m} part=1-of-1", f"grade model={m}", f"metrics model={m}"}
            for m in models
        )
    )


def engines(case: Path) -> int:
    """How many engines were started by all jobs of a case so far."""
    logs = (case / "results").rglob("logs/samples/*.log.all")
    return sum(log.read_text().count("engine up after") for log in logs)


def test_more_samples_make_only_the_new_ones(case):
    before, started = results(case), engines(case)
    configure(case, samples=4)
    assert planned(case) == sampled_anew()
    # One model's for real: old completions stay, new ones are others.
    table = "samples/tiny3/sft/1-of-1.parquet"
    old = pandas.read_parquet(case / "results/tiny" / table)
    snakemake(case, "--cores", "2", f"results/tiny/{table}")
    rows = pandas.read_parquet(case / "results/tiny" / table)
    assert engines(case) == started + 1
    assert (
        "12 completions, 6 of them to be sampled"
        in (case / "results/tiny/logs/samples/sft-1-of-1.log").read_text()
    )
    kept = rows[rows["sample"] < 2].reset_index(drop=True)
    pandas.testing.assert_frame_equal(kept, old)
    assert len(set(rows["seed"])) == len(rows) == 12
    # Smaller again, and nothing is sampled.
    configure(case, samples=2)
    snakemake(case, "--cores", "2")
    assert engines(case) == started + 1
    assert results(case) == before


def test_completions_outlive_whatever_makes_a_job_run_again(case):
    """Edited code, a deleted table, other parts, another experiment of the same models."""
    before, started = results(case), engines(case)
    with (case / "scripts/lowrank/progress.py").open("a") as module:
        module.write("# edited\n")
    (case / "results/tiny/samples/tiny3/rl/1-of-1.parquet").unlink()
    assert "sample model=rl part=1-of-1" in planned(case)
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    assert results(case) == before
    experiment = yaml.safe_load((case / "experiments/tiny.yaml").read_text())
    experiment["sampling"] |= {"parts": 2, "max_num_seqs": 8}
    (case / "experiments/other.yaml").write_text(yaml.safe_dump(experiment))
    configure(case, experiment="other")
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    tables = [case / f"results/other/samples/tiny3/rl/{part}-of-2.parquet" for part in (1, 2)]
    rows = pandas.concat([pandas.read_parquet(table) for table in tables])
    rows = rows.sort_values(["problem_id", "sample"], key=lambda c: c, kind="stable")
    whole = pandas.read_parquet(case / "results/tiny/samples/tiny3/rl/1-of-1.parquet")
    whole = whole.sort_values(["problem_id", "sample"], kind="stable")
    pandas.testing.assert_frame_equal(rows.reset_index(drop=True), whole.reset_index(drop=True))


def test_what_changes_speed_alone_runs_nothing(case):
    experiment = yaml.safe_load((case / "experiments/tiny.yaml").read_text())
    experiment["sampling"] |= {"max_num_seqs": 3, "mem_mb": 2500, "threads": 2}
    (case / "experiments/tiny.yaml").write_text(yaml.safe_dump(experiment))
    assert "sample" not in {job.split()[0] for job in planned(case)}


def test_a_new_k_runs_metrics_and_report(case):
    configure(case, maj_k=[1])
    assert planned(case) == {*(f"metrics model={model}" for model in MODELS), "report"}


def test_an_edited_program_runs_its_rule_and_what_follows(case):
    with (case / "scripts/metrics.py").open("a") as program:
        program.write("# edited\n")
    assert planned(case) == {*(f"metrics model={model}" for model in MODELS), "report"}


def test_an_edited_module_runs_the_programs_that_import_it(case):
    with (case / "scripts/lowrank/figures.py").open("a") as module:
        module.write("# edited\n")
    assert planned(case) == {"report"}


def test_edited_sources_of_a_model_are_noticed(case):
    with (case / "resources/tiny.jsonl").open("a") as problems:
        problems.write('{"problem_id": "new", "problem": "1+1+1", "answer": "123"}\n')
    jobs = planned(case)
    assert "fetch_benchmark" in jobs
    assert {f"sample model={model} part=1-of-1" for model in MODELS} <= jobs
    assert not any(job.startswith(("delta_svd", "build")) for job in jobs)


def test_what_else_lies_in_a_models_folder_runs_nothing(case):
    """Only what is taken from a folder is its source, whether the rest can be read or not."""
    folder = case / "resources/mini/sft"
    (folder / ".DS_Store").write_bytes(b"Bud1")
    (folder / "optimizer.pt").write_bytes(b"\x80\x04.")
    (folder / "checkpoint-100").mkdir()
    shutil.copy2(folder / "model.safetensors", folder / "checkpoint-100/model.safetensors")
    (folder / "secret").write_text("not for everybody")
    (folder / "secret").chmod(0)
    (folder / "locked").mkdir(0)
    assert planned(case) == set()
    (folder / "locked").chmod(0o700)
    with (folder / "generation_config.json").open("a") as file:
        file.write("\n")
    jobs = planned(case)
    assert "fetch_model model=sft" in jobs
    assert not any(job.startswith("fetch_weights") for job in jobs)


WEIGHTS = "results/tiny/models/rl/model-00002-of-00002.safetensors"


def test_weights_that_nothing_needs_may_be_missing(case):
    for model in ("models/rl/model-00002-of-00002", "variants/r2-copy/model", "models/sft/model"):
        (case / f"results/tiny/{model}.safetensors").unlink()
    (case / "results/tiny/adapters/rl/r2/adapter_model.safetensors").unlink()
    assert planned(case) == set()


def test_a_purged_variant_is_built_again_for_more_samples_only(case):
    """Of its completions only the missing ones are sampled."""
    started = engines(case)
    (case / "results/tiny/variants/r2-copy/model.safetensors").unlink()
    configure(case, samples=4)
    assert planned(case) == sampled_anew() | {"build_variant variant=r2-copy"}
    table = "results/tiny/samples/tiny3/r2-copy/1-of-1.parquet"
    old = pandas.read_parquet(case / table)
    snakemake(case, "--cores", "2", table)
    assert engines(case) == started + 1
    log = (case / "results/tiny/logs/samples/r2-copy-1-of-1.log").read_text()
    assert "12 completions, 6 of them to be sampled" in log
    rows = pandas.read_parquet(case / table)
    kept = rows[rows["sample"] < 2].reset_index(drop=True)
    pandas.testing.assert_frame_equal(kept, old)


def test_a_deleted_shard_is_fetched_when_something_needs_it(case):
    """What depends on it is made again, byte for byte; no completion is sampled again."""
    before, started = results(case), engines(case)
    (case / WEIGHTS).unlink()
    (case / "results/tiny/variants/r2-copy/manifest.json").unlink()
    jobs = planned(case)
    assert "fetch_weights model=rl file=model-00002-of-00002" in jobs
    assert "fetch_weights model=rl file=model-00001-of-00002" not in jobs
    assert "fetch_weights model=sft file=model" not in jobs
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    assert results(case) == before
    # Asked for by its name, it is fetched by itself.
    (case / WEIGHTS).unlink()
    assert planned(case, WEIGHTS) == {"fetch_weights model=rl file=model-00002-of-00002"}
    snakemake(case, "--cores", "2", WEIGHTS)
    assert planned(case) == set()


@pytest.mark.parametrize("folder", ["variants/r2-copy/model", "adapters/rl/r2/adapter_model"])
def test_a_file_that_was_cut_is_named_before_anything_runs(case, folder):
    path = case / f"results/tiny/{folder}.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    before = results(case)
    configure(case, samples=4)
    done = snakemake(case, "--cores", "2", check=False)
    assert done.returncode != 0
    assert f"error: results/tiny/{folder}.safetensors: 1000 bytes, " in done.stdout
    assert results(case) == before
    path.unlink()
    assert planned(case)


def test_variants_may_be_temporary(finished, tmp_path):
    """Their weights go when they were sampled; results are the same, and nothing is left to do."""
    case = make_case(tmp_path / "case", keep_variants=False)
    snakemake(case, "--cores", "2")
    before, after = results(finished), results(case)
    gone = {name for name in before if name.startswith("variants/") and "safetensors" in name}
    assert len(gone) == 2
    assert after == {name: content for name, content in before.items() if name not in gone}
    assert planned(case) == set()
    started = engines(case)
    configure(case, maj_k=[1])
    assert planned(case) == {*(f"metrics model={model}" for model in MODELS), "report"}
    (case / "results/tiny/samples/tiny3/r2-copy/1-of-1.parquet").unlink()
    configure(case, maj_k=[1, 2])
    assert planned(case) == sampled_anew(["r2-copy"]) | {"build_variant variant=r2-copy"}
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    assert results(case) == after


def test_all_outputs_can_be_deleted(case):
    """Of what is large, nothing stays."""
    snakemake(case, "--cores", "2", "--delete-all-output")
    assert list((case / "results").rglob("*.safetensors")) == []


def test_touched_files_run_nothing(case):
    later = time.time() + 60
    for folder in ("scripts", "resources", "workflow", "envs", "experiments"):
        for path in (case / folder).rglob("*"):
            os.utime(path, (later, later))
    assert planned(case) == set()


@pytest.mark.parametrize("times", ["kept", "new"])
def test_a_fresh_clone_with_carried_results_runs_nothing(finished, tmp_path, times):
    clone = make_case(tmp_path / "clone")
    copy = shutil.copy2 if times == "kept" else shutil.copyfile
    for carried in ("results", ".snakemake"):
        shutil.copytree(finished / carried, clone / carried, copy_function=copy)
    assert planned(clone) == set()
    assert "Nothing to be done" in snakemake(clone, "--cores", "2").stdout


def test_completions_made_elsewhere_are_graded_without_an_engine(case):
    """As README says: only the completions came, without what Snakemake remembers of them."""
    shutil.rmtree(case / ".snakemake")
    for folder in ("grades", "metrics", "report"):
        shutil.rmtree(case / "results/tiny" / folder)
    completions = [path for path in (case / "results/tiny/samples").rglob("*") if path.is_file()]
    for path in completions:
        os.utime(path, (1e9, 1e9))
    assert any(job.startswith("sample") for job in planned(case))
    for path in completions:
        path.touch()
    assert {job.split()[0] for job in planned(case)} == {"grade", "metrics", "report"}


def test_two_clean_runs_give_the_same_numbers(finished, tmp_path):
    again = make_case(tmp_path / "again")
    snakemake(again, "--cores", "2")
    first, second = results(finished), results(again)
    assert sorted(first) == sorted(second)
    tables = [name for name in first if name.endswith((".csv", ".parquet"))]
    assert len(tables) > 10
    assert [name for name in tables if first[name] != second[name]] == []


def test_the_post_is_planned_without_gpu_and_network(tmp_path):
    case = make_case(tmp_path / "case")
    # Nothing listens there: a plan that asked a hub would fail.
    planned_post = snakemake(
        case, "--configfile", "config.yaml", "--config", "experiment=deepscaler",
        "ranks=[16,64,256]", "other=[copy,keep]", "samples=64", "maj_k=[8,16,32]", "--dry-run",
        environment={"HF_ENDPOINT": "http://127.0.0.1:9", "CUDA_VISIBLE_DEVICES": ""},
    ).stdout  # fmt: skip
    stats = {}
    for line in planned_post.split("Job stats:")[1].splitlines()[3:]:
        if len(line.split()) != 2:
            break
        stats[line.split()[0]] = int(line.split()[1])
    assert stats == {
        "fetch_weights": 4,  # one of the models in two shards
        "fetch_model": 3,
        "fetch_benchmark": 2,
        "delta_svd": 2,
        "build_adapter": 3,
        "build_variant": 7,  # six, and rank 0 with everything else copied
        "sample": 9,  # models: one start of the engine each, for both benchmarks
        "grade": 9 * 2,
        "metrics": 9 * 2,
        "report": 1,
        "all": 1,
        "total": 68,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rnaks": [2]}, "error: config.yaml: unknown key rnaks"),
        ({"ranks": [0]}, "error: config.yaml: ranks[0]: is 0, must be at least 1"),
        ({"maj_k": [3]}, "error: config.yaml: maj_k has 3, more than samples: 2"),
    ],
)
def test_a_wrong_configuration_stops_before_anything_runs(tmp_path, change, said):
    case = make_case(tmp_path / "case", **change)
    done = snakemake(case, "--cores", "2", check=False)
    assert done.returncode != 0
    assert not (case / "results").exists()
    (line,) = [line for line in done.stdout.splitlines() if not line.startswith("Using ")]
    assert line.startswith(said)
