"""What goes wrong on a cluster, on a real SLURM: nothing is lost, nothing is made twice.

Every fault hits a sampling job whose engine makes as many completions as the test has allowed so
far. All runs end with the tables of one that nothing disturbed.
"""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import slurm_case
import yaml
from slurm_case import Slurm, begin
from workflow_case import copy_case, make_case, snakemake

from lowrank.ending import MESSAGE
from lowrank.sampling import store

pytestmark = slurm_case.NEEDED

SAMPLES = "results/tiny/samples/tiny3/sft/1-of-1.parquet"
COMPLETIONS = 3 * 8

# In place of vLLM: text of the request's seed.
ENGINE = f"""
import random, time
from pathlib import Path
from lowrank.sampling.feeding import Completion

def start(serving, missing):
    def complete(requests):
        for number, request in enumerate(requests, start={COMPLETIONS} - missing):
            while number >= int(Path("allowed").read_text()):
                yield [], 0
                time.sleep(0.05)
            draw = random.Random(request.seed)
            ids = tuple(draw.randrange(5, 100) for _ in range(draw.randrange(1, 20)))
            yield [Completion(request.name, ids, "length")], 0
    return complete
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The run on this machine that every other one has to equal."""
    case = make_case(tmp_path_factory.mktemp("undisturbed") / "case", samples=8)
    experiment = case / "experiments/tiny.yaml"
    subject = yaml.safe_load(experiment.read_text())
    subject["sampling"] |= {"threads": 1, "mem_mb": 1000, "runtime": 10}
    experiment.write_text(yaml.safe_dump(subject))
    (case / "scripts/engine.py").write_text(ENGINE)
    program = case / "scripts/sample.py"
    said = program.read_text().replace("sample(job(parse()))", "sample(job(parse()), engine.start)")
    program.write_text(f"import engine\n{said}")
    allow(case, COMPLETIONS)
    snakemake(case, "--cores", "1", SAMPLES)
    return case


def allow(case: Path, completions: int) -> None:
    (case / "new").write_text(str(completions))
    (case / "new").rename(case / "allowed")


def unsampled(undisturbed: Path, folder: Path, **sampling: object) -> Path:
    """A copy in which everything is left to be sampled, with other settings of sampling."""
    case = copy_case(undisturbed, folder / "case")
    for gone in ("tiny/samples", "tiny/logs/samples", "completions"):
        shutil.rmtree(case / "results" / gone)
    experiment = case / "experiments/tiny.yaml"
    subject = yaml.safe_load(experiment.read_text())
    subject["sampling"] |= sampling
    experiment.write_text(yaml.safe_dump(subject))
    allow(case, 0)
    return case


def made(case: Path) -> list[str]:
    """The key of every completion that the store holds, one a time it was made."""
    settings = (case / "results/completions").glob("*/")
    return [one.key for setting in settings for one in store.kept(setting)]


def wait_for(what: Callable, seconds: float = 300.0):
    """The first true thing that `what` gives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def go_on(case: Path, more: int = 3) -> None:
    """Allow some completions more, and wait until they are in the store."""
    there = len(made(case)) + more
    allow(case, there)
    wait_for(lambda: len(made(case)) == there)


def job_of(slurm: Slurm, case: Path) -> str:
    """The number of the SLURM job that runs or waits for a case; "" if there is none."""
    lines = slurm.ask("squeue", "--noheader", "--format=%i %Z").splitlines()
    found = [line.split()[0] for line in lines if line.split()[1] == str(case)]
    return found[0] if found else ""


def said(case: Path) -> str:
    """What Snakemake said."""
    return (case / "said.log").read_text()


def log(case: Path) -> str:
    """What all attempts of the job said."""
    return (case / "results/tiny/logs/samples/sft-1-of-1.log.all").read_text()


def check_end(case: Path, undisturbed: Path, run: subprocess.Popen) -> None:
    """Wait for the end of a run: complete, identical, none lost, none made twice."""
    assert run.wait(300) == 0, said(case)
    keys = made(case)
    assert len(keys) == len(set(keys)) == COMPLETIONS
    for name in (SAMPLES, SAMPLES.replace(".parquet", ".json")):
        assert (case / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.fixture(scope="module")
def over_its_time(slurm, undisturbed, tmp_path_factory):
    """A run that goes on beside the other tests: its first job has a minute and is not warned."""
    case = unsampled(undisturbed, tmp_path_factory.mktemp("late"), runtime=1)
    allow(case, 3)
    return case, begin(case, slurm, SAMPLES, "--default-resources", "slurm_extra=''")


def test_daemons_restarted_node_drained_job_cancelled(slurm, undisturbed, over_its_time, tmp_path):
    case = unsampled(undisturbed, tmp_path)
    run = begin(case, slurm, SAMPLES)
    go_on(case)
    job = job_of(slurm, case)
    for daemon in ("slurmd", "slurmctld"):
        slurm.stop(daemon)
        go_on(case)
        slurm.start(daemon)
        go_on(case)
    wait_for(lambda: job_of(slurm, case))
    slurm.ask("scontrol", "update", f"node={slurm.node}", "state=drain", "reason=test")
    go_on(case)
    assert job_of(slurm, case) == job
    slurm.ask("scancel", job)
    again = wait_for(lambda: (now := job_of(slurm, case)) != job and now)
    assert slurm.ask("squeue", "--noheader", "--format=%T", f"--job={again}") == "PENDING"
    slurm.ask("scontrol", "update", f"node={slurm.node}", "state=resume")
    allow(case, COMPLETIONS)
    check_end(case, undisturbed, run)
    assert log(case).count(MESSAGE) == 1


def test_a_job_is_warned_before_its_time_is_over(slurm, undisturbed, over_its_time, tmp_path):
    """By the profile's own setting. SLURM looks twice a minute whom it has to warn: the first job
    may be warned before its program runs, then the second is half a minute later."""
    case = unsampled(undisturbed, tmp_path, runtime=1)
    run = begin(case, slurm, SAMPLES)
    go_on(case)
    wait_for(lambda: MESSAGE in log(case))
    allow(case, COMPLETIONS)
    check_end(case, undisturbed, run)
    assert "SLURM status is: 'FAILED'" in said(case)


def test_a_job_over_its_time_limit(slurm, undisturbed, over_its_time):
    case, run = over_its_time
    wait_for(lambda: "SLURM status is: 'TIMEOUT'" in said(case))
    assert log(case).count(MESSAGE) == 1
    assert len(made(case)) == 3
    allow(case, COMPLETIONS)
    check_end(case, undisturbed, run)


# As a cluster's accounting does, it knows of jobs what it heard last while the controller is away.
# There is no such database here; without one the executor loses its jobs after nine seconds.
SACCT = """#!/bin/sh
for name; do :; done
now=$(squeue --states=all --noheader --format='%i|%T' --name "$name") && echo "$now" > "$0.known"
cat "$0.known"
"""


def test_snakemake_killed_and_the_controller_away(slurm, undisturbed, tmp_path):
    case = unsampled(undisturbed, tmp_path)
    run = begin(case, slurm, SAMPLES)
    go_on(case)
    run.kill()
    run.wait()
    snakemake(case, "--unlock")
    sacct = tmp_path / "accounting/sacct"
    sacct.parent.mkdir()
    sacct.write_text(SACCT)
    sacct.chmod(0o755)
    path = f"{sacct.parent}:{slurm.environment['PATH']}"
    again = begin(case, slurm, SAMPLES, "--slurm-status-command", "sacct", PATH=path)
    wait_for(lambda: "is sampling this model; waiting for it" in log(case))
    slurm.stop("slurmctld")
    time.sleep(12)
    go_on(case)
    slurm.start("slurmctld")
    allow(case, COMPLETIONS)
    check_end(case, undisturbed, again)
