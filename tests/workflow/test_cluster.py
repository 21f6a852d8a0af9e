"""The SLURM profile on a real SLURM: one node, started here, through sbatch."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import fake_gpus
import pytest
import yaml
from workflow_case import copy_case, make_case, snakemake

DAEMONS = ("munged", "slurmctld", "slurmd")
PRESENT = all(shutil.which(name, path=f"/usr/sbin:{os.defpath}") for name in DAEMONS)

pytestmark = [
    pytest.mark.skipif(
        not PRESENT, reason="of SLURM: apt-get install slurm-wlm munge, then make test, as root"
    ),
    pytest.mark.skipif(PRESENT and os.geteuid() != 0, reason="of SLURM: run make test as root"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A one-node SLURM with its own munge, files and ports; yields the environment to use it."""
    folder = tmp_path_factory.mktemp("slurm")
    for part in ("state", "spool", "munge"):
        (folder / part).mkdir(mode=0o700)
    # munged insists on folders that others cannot write to, all the way up: not true of /tmp.
    key = folder / "munge/key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    munge = folder / "munge/socket"
    host = socket.gethostname().split(".")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 500
    (folder / "slurm.conf").write_text(
        f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
AuthType=auth/munge
AuthInfo=socket={munge}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory={memory} Gres=gpu:4
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
    )
    # Four GPUs that are counted and not there. SLURM asks for files, not for what they are.
    for number in range(4):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
    # Jobs lose the variables that begin with SLURM, so srun has to be told again where it is.
    srun = folder / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    path = (srun.parent, Path(sys.executable).parent, os.environ["PATH"], "/usr/sbin")
    environment = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": ":".join(map(str, path))}
    inherited = os.environ | environment
    files = [f"--{kind}-file={folder}/munge/{kind}" for kind in ("key", "log", "pid", "seed")]
    commands = (
        ["munged", "--foreground", "--force", f"--socket={munge}", *files],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    )
    running = []
    with (folder / "daemons.log").open("wb") as log:
        for command in commands:
            running.append(subprocess.Popen(command, env=inherited, stdout=log, stderr=log))
            time.sleep(1)
        try:
            for _ in range(30):
                state = subprocess.run(
                    ["sinfo", "--noheader", "--format=%T"], env=inherited, capture_output=True
                ).stdout
                if state.strip() == b"idle":
                    break
                time.sleep(1)
            else:
                logs = [path.read_text() for path in sorted(folder.glob("*.log"))]
                raise AssertionError("SLURM did not come up:\n" + "\n".join(logs))
            yield environment
        finally:
            for daemon in reversed(running):
                daemon.terminate()
                daemon.wait(30)


# While no job ends, the executor asks less and less often, 10 s later each time: right for a
# cluster's controller, and no setting changes it. Here it asks twice a second.
OFTEN = """
import asyncio, sys
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

async def sleep(executor):
    await asyncio.sleep(0.5)

RemoteExecutor.sleep = sleep
main(sys.argv[1:])
"""


def submit(case: Path, slurm: dict[str, str], *arguments: str, check: bool = True):
    return snakemake(
        case,
        "--profile",
        "workflow/profiles/slurm",
        "--slurm-status-command",
        "squeue",
        "--slurm-no-account",
        *arguments,
        environment=slurm,
        check=check,
        program=("-c", OFTEN),
    )


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
    there["PATH"] = f"{tmp_path}/smi:{slurm['PATH']}"
    sample = "results/tiny/samples/tiny3/sft/1-of-1.parquet"
    only = ("--retries", "0", "--allowed-rules", "sample", "--force", sample)
    said = submit(case, slurm | there, "--verbose", *only).stdout
    (call,) = sbatch_calls(said)
    assert "--gpus=2" in call
    (run,) = (case / "runs").read_text().splitlines()
    assert len(set(run.split())) == 2
