"""Caching: after a change, exactly the jobs that the change touches would run; and what they make.

One small experiment is run for real; every test changes a copy of it and asks what is left to do.
"""

import os
import shutil
import time

import pandas
import pytest
import yaml
from workflow_case import (
    MODELS,
    configure,
    copy_case,
    engines,
    make_case,
    planned,
    read_anew,
    results,
    sampled_anew,
    snakemake,
)

from lowrank.files import MARKER
from lowrank.report.outputs import outputs


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
        "comparisons/tiny3.csv",
        *(f"divergence/tiny3/{model}.parquet" for model in MODELS),
        "divergence/tiny3/summary/metrics.csv",
    ):
        assert expected in made


def test_the_report_declares_what_it_writes(finished):
    promised = outputs(["tiny3"], ["sft", "rl"], ["accuracy", "divergence"])
    folder = finished / "results/tiny/report"
    made = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.name != MARKER]
    assert {path.as_posix() for path in made} == set(promised)
    assert len(list(folder.parent.glob("asked-*.json"))) == 1
    declared = snakemake(finished, "--summary").stdout
    assert [name for name in promised if name not in declared] == []


def test_snakemakes_own_report_is_made(case):
    snakemake(case, "--report", "overview.html")
    page = (case / "overview.html").read_text()
    for label in ("accuracy by rank", "spectrum by modules", "everything on one page"):
        assert label in page


def test_every_job_left_a_log(finished):
    logs = list((finished / "results/tiny/logs").rglob("*.log"))
    jobs = planned(finished, "--forceall")
    assert len(logs) == len(jobs) + 1  # describe


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
        "compare compared=tiny3",
        *read_anew(["r3-copy"]),
    }


def followed(*variants: str) -> set[str]:
    """What new variants bring with them."""
    return ({"compare compared=tiny3"} | read_anew(variants)).union(
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
    assert planned(case) == {"compare compared=tiny3", "divergence_metrics", "report"}


def test_a_removed_rank_runs_no_more_than_what_compares(finished, tmp_path):
    case = copy_case(finished, tmp_path / "case")
    configure(case, ranks=[2, 3])
    snakemake(case, "--cores", "2")
    assert "r3-copy" in (case / "results/tiny/report/report.html").read_text()
    configure(case, ranks=[3])
    assert planned(case) == {"compare compared=tiny3", "divergence_metrics", "report"}
    snakemake(case, "--cores", "2")
    assert "r2-copy" not in (case / "results/tiny/report/report.html").read_text()
    # Back to the first question: all before the comparisons is still there, and it is the same.
    configure(case, ranks=[2])
    assert planned(case) == {"compare compared=tiny3", "divergence_metrics", "report"}
    snakemake(case, "--cores", "2")
    before = results(finished)
    after = results(case)
    assert {name: after[name] for name in before} == before


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


def log_of(case, model: str) -> str:
    """What a model's pass over the derivative's completions said."""
    return (case / f"results/tiny/logs/divergence/{model}.log").read_text()


def test_divergence_is_added_to_a_finished_experiment_without_a_sample(case):
    """And taken out again; how much is read is a question of its own."""
    before, started = results(case), engines(case)
    shutil.rmtree(case / "results/tiny/divergence")
    configure(case, divergence=False)
    snakemake(case, "--cores", "2")
    assert not (case / "results/tiny/divergence").exists()
    configure(case, divergence={"samples": 1, "tokens": 40})
    assert planned(case) == {"read_derivative"} | read_anew()
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    assert results(case) == before
    configure(case, divergence={"samples": 2, "tokens": 80})
    assert planned(case) == {"read_derivative"} | read_anew()
    snakemake(case, "--cores", "2")
    assert "r2-copy on tiny3: 6 completions, " in log_of(case, "r2-copy")
    assert engines(case) == started
    configure(case, divergence=False)
    assert planned(case) == {"report"}


def test_other_descriptions_are_built_and_read_without_a_sample(case):
    started = engines(case)
    configure(
        case,
        controls=["other", {"sparse": [2]}, "bitdelta"],
        only_read=["sparse", "bitdelta"],
    )
    variants = ("sparse-r2-copy", "bitdelta-copy")
    assert planned(case) == {
        "build_description delta=rl description=sparse-r2",
        "build_description delta=rl description=bitdelta",
        "description_errors delta=rl",
        "description_errors delta=sft",
        *(f"build_variant variant={name}" for name in variants),
        *(f"divergence model={name}" for name in variants),
        "divergence_metrics",
        "report",
    }
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    page = (case / "results/tiny/report/report.html").read_text()
    assert "At equal bytes, on 3" in page
    assert planned(case) == set()


def test_where_the_change_lives_is_asked_for_by_itself(case):
    started = engines(case)
    configure(case, locate={"samples": 1, "tokens": 3})
    assert planned(case) == {"locate", "report"}
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    page = (case / "results/tiny/report/report.html").read_text()
    assert "The change was taken apart into 21 matrices and the rest (9 tokens read)" in page
    assert planned(case) == set()


def test_what_was_read_outlives_whatever_makes_a_job_run_again(case):
    before = results(case)
    with (case / "scripts/lowrank/divergence/reading.py").open("a") as module:
        module.write("# edited\n")
    assert planned(case) == read_anew()
    snakemake(case, "--cores", "2")
    assert results(case) == before
    assert "r2-copy on tiny3: 3 completions, 0 of them to be read" in log_of(case, "r2-copy")


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


def test_a_new_k_runs_metrics_comparisons_and_report(case):
    configure(case, maj_k=[1])
    metrics = {f"metrics model={model}" for model in MODELS}
    assert planned(case) == metrics | {"compare compared=tiny3", "report"}


def test_another_margin_runs_comparisons_and_report(case):
    configure(case, margin=0.1)
    assert planned(case) == {"compare compared=tiny3", "report"}


def test_an_edited_program_runs_its_rule_and_what_follows(case):
    with (case / "scripts/metrics.py").open("a") as program:
        program.write("# edited\n")
    assert planned(case) == {*(f"metrics model={model}" for model in MODELS), "report"}


def test_an_edited_module_runs_the_programs_that_import_it(case):
    with (case / "scripts/lowrank/report/figures.py").open("a") as module:
        module.write("# edited\n")
    assert planned(case) == {"report"}


def test_edited_sources_of_a_model_are_noticed(case):
    with (case / "resources/tiny.jsonl").open("a") as problems:
        problems.write('{"problem_id": "new", "problem": "1+1+1", "answer": "123"}\n')
    jobs = planned(case)
    assert "fetch_benchmark" in jobs
    assert {f"sample model={model} part=1-of-1" for model in MODELS} <= jobs
    assert not any(job.startswith(("delta_svd", "build")) for job in jobs)


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
    for folder in ("grades", "divergence", "metrics", "comparisons", "report"):
        shutil.rmtree(case / "results/tiny" / folder)
    completions = [path for path in (case / "results/tiny/samples").rglob("*") if path.is_file()]
    for path in completions:
        os.utime(path, (1e9, 1e9))
    assert any(job.startswith("sample") for job in planned(case))
    for path in completions:
        path.touch()
    reading = {"read_derivative", "divergence", "divergence_metrics"}
    left = {"grade", "metrics", "compare", "report"} | reading
    assert {job.split()[0] for job in planned(case)} == left


def test_two_clean_runs_give_the_same_numbers(finished, tmp_path):
    again = make_case(tmp_path / "again")
    snakemake(again, "--cores", "2")
    first, second = results(finished), results(again)
    assert sorted(first) == sorted(second)
    tables = [name for name in first if name.endswith((".csv", ".parquet"))]
    assert len(tables) > 10
    assert [name for name in tables if first[name] != second[name]] == []


def test_another_rank_is_planned_whatever_snakemake_remembers(case):
    """A profile that looks at times alone, or a memory that is gone: the rank is made anyway."""
    new = {
        "build_adapter delta=rl adapter=r3", "build_variant variant=r3-copy",
        "sample model=r3-copy part=1-of-1", "grade model=r3-copy", "metrics model=r3-copy",
        "compare compared=tiny3",
        *read_anew(["r3-copy"]),
    }  # fmt: skip
    configure(case, ranks=[3])
    assert planned(case, "--rerun-triggers", "mtime") == new
    shutil.rmtree(case / ".snakemake")
    assert planned(case) == new


def test_a_page_of_other_settings_is_refused_when_snakemake_has_forgotten_them(case):
    """Its own advice (--cleanup-metadata) followed, then another temperature: no stale page."""
    started = engines(case)
    shutil.rmtree(case / ".snakemake")
    experiment = yaml.safe_load((case / "experiments/tiny.yaml").read_text())
    experiment["sampling"]["temperature"] = 1.0
    (case / "experiments/tiny.yaml").write_text(yaml.safe_dump(experiment))
    assert planned(case) == {"report"}
    done = snakemake(case, "--cores", "2", check=False)
    assert done.returncode != 0
    assert "sampling.temperature is 0.6, the configuration says 1.0" in done.stdout
    assert not (case / "results/tiny/report/report.html").exists()
    assert engines(case) == started


def test_an_input_from_the_future_costs_no_completion(case):
    """Snakemake fails jobs whose input is newer than its clock, and removes what they made."""
    before, started = results(case), engines(case)
    problems = case / "results/tiny/benchmarks/tiny3.parquet"
    now = time.time()
    os.utime(problems, (now + 3600, now + 3600))
    said = snakemake(case, "--cores", "2", "--retries", "2", "--forcerun", "sample", check=False)
    assert said.returncode != 0
    assert not list((case / "results/tiny/samples").rglob("*.parquet"))
    os.utime(problems, (now, now))
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    assert results(case) == before


def test_rules_run_snakemakes_own_python_and_none_of_the_users_settings(case):
    """Snakemake called by its path: no `python` on PATH, variables that would break programs."""
    (case / "results/tiny/metrics/tiny3/rl.csv").unlink()
    broken = {
        "PATH": "/usr/bin:/bin", "PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "2",
        "MPLBACKEND": "module://nowhere.backend",
    }  # fmt: skip
    snakemake(case, "--cores", "2", environment=broken)
    assert (case / "results/tiny/metrics/tiny3/rl.csv").is_file()
