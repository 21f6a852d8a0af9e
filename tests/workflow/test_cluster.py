"""The SLURM profile on a real SLURM: one node, started here, through sbatch."""

import fake_gpus
import pytest
import slurm_case
import yaml
from slurm_case import submit
from workflow_case import copy_case, make_case

pytestmark = slurm_case.NEEDED


@pytest.fixture(scope="module")
def whole_run(slurm, vllm, tmp_path_factory):
    """A small experiment from models to report through sbatch: its folder and what was said."""
    case = make_case(tmp_path_factory.mktemp("cluster") / "case", controls=[])
    experiment = case / "experiments/tiny.yaml"
    subject = yaml.safe_load(experiment.read_text())
    del subject["models"]["pretrained"], subject["deltas"]["sft"]
    experiment.write_text(yaml.safe_dump(subject))
    # Groups are one submission each: most of a small job's time is Snakemake's start on the node.
    groups = ("build_adapter=build", "build_variant=build", "grade=marks", "metrics=marks")
    return case, submit(case, slurm, "--verbose", "--groups", *groups).stdout


def sbatch_calls(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("sbatch call:")]


def test_a_small_experiment_runs_through_sbatch(slurm, whole_run):
    case, said = whole_run
    assert (case / "results/tiny/report/report.html").is_file()
    # Where Snakemake runs is the internet; how much memory and how many GPUs it has limits nothing.
    assert said.count("localrule fetch_") == said.count("rule fetch_") > 0
    assert "Provided resources:" not in said
    assert said.count("has been submitted with SLURM jobid") == len(sbatch_calls(said)) >= 8
    assert "Nothing to be done" in submit(case, slurm).stdout


def test_sampling_asks_for_a_gpu_only_where_the_device_is_one(slurm, whole_run):
    """What sbatch was really called with; a job that asks for CUDA here then fails, and says so."""
    case, on_cpu = whole_run
    assert not any("--gpus" in call for call in sbatch_calls(on_cpu))
    experiment = case / "experiments/tiny.yaml"
    subject = yaml.safe_load(experiment.read_text())
    subject["sampling"]["device"] = "cuda"
    experiment.write_text(yaml.safe_dump(subject))
    sample = "results/tiny/samples/tiny3/sft/1-of-1.parquet"
    only = ("--retries", "0", "--allowed-rules", "sample", "--force", sample)
    on_cuda = submit(case, slurm, "--verbose", *only, check=False).stdout
    (call,) = sbatch_calls(on_cuda)
    assert "--gpus=1" in call
    assert "--ntasks-per-gpu" not in call
    assert "cuda" in (case / "results/tiny/logs/samples/sft-1-of-1.log").read_text()


# In place of sample.py: says what it sees, and writes something where the table goes.
SAMPLE = """
import os, sys
from pathlib import Path
from lowrank.devices import Need, lease

leased = lease(2, Need())
with Path("runs").open("a") as runs:
    runs.write(" ".join(gpu.name for gpu in leased) + "\\n")
table = Path(sys.argv[sys.argv.index("--benchmark") + 3])
table.write_text("")
table.with_suffix(".json").write_text("{}")
"""


def test_a_job_of_two_gpus_runs_once_and_sees_both(slurm, whole_run, tmp_path):
    """Older executors asked for a task a GPU, and the program ran twice with one GPU each."""
    case = copy_case(whole_run[0], tmp_path / "case")
    experiment = case / "experiments/tiny.yaml"
    subject = yaml.safe_load(experiment.read_text())
    subject["sampling"] |= {"device": "cuda", "tensor_parallel": 2}
    experiment.write_text(yaml.safe_dump(subject))
    (case / "scripts/sample.py").write_text(SAMPLE)
    there = fake_gpus.install(tmp_path / "smi", 4)
    there["PATH"] = f"{tmp_path}/smi:{slurm.environment['PATH']}"
    sample = "results/tiny/samples/tiny3/sft/1-of-1.parquet"
    only = ("--retries", "0", "--allowed-rules", "sample", "--force", sample)
    said = submit(case, slurm, "--verbose", *only, **there).stdout
    (call,) = sbatch_calls(said)
    assert "--gpus=2" in call
    (run,) = (case / "runs").read_text().splitlines()
    assert len(set(run.split())) == 2
