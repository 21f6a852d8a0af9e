"""What goes wrong on a cluster, on a real SLURM: nothing is lost, nothing is made twice.

Every fault hits a sampling job whose engine makes as many completions as the test has allowed so
far. All runs end with the tables of one that nothing disturbed.
"""

import time
from pathlib import Path

import pytest
import slurm_case
from slow_case import (
    COMPLETIONS,
    SAMPLES,
    allow,
    check_end,
    go_on,
    log,
    made,
    make_undisturbed,
    said,
    unsampled,
    wait_for,
)
from slurm_case import Slurm, begin
from workflow_case import snakemake

from lowrank.ending import MESSAGE

pytestmark = slurm_case.NEEDED


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return make_undisturbed(tmp_path_factory.mktemp("undisturbed"))


def job_of(slurm: Slurm, case: Path) -> str:
    """The number of the SLURM job that runs or waits for a case; "" if there is none."""
    lines = slurm.ask("squeue", "--noheader", "--format=%i %Z").splitlines()
    found = [line.split()[0] for line in lines if line.split()[1] == str(case)]
    return found[0] if found else ""


@pytest.fixture(scope="module")
def over_its_time(slurm, undisturbed, tmp_path_factory):
    """A run that goes on beside the other tests: its first job has a minute and is not warned."""
    case = unsampled(undisturbed, tmp_path_factory.mktemp("late"), runtime=1)
    allow(case, 3)
    run = begin(case, slurm, SAMPLES, "--default-resources", "slurm_extra=''")
    yield case, run
    run.kill()


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
    may be warned before its program runs, and is tried again."""
    case = unsampled(undisturbed, tmp_path, runtime=1)
    run = begin(case, slurm, SAMPLES, "--retries", "9")
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
