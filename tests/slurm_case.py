"""A SLURM of one node, with its own munge, files and ports, and the workflow sent through it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from workflow_case import snakemake

DAEMONS = ("munged", "slurmctld", "slurmd")
PRESENT = all(shutil.which(name, path=f"/usr/sbin:{os.defpath}") for name in DAEMONS)

# Every module of tests that uses SLURM has these as its pytestmark.
NEEDED = [
    pytest.mark.skipif(
        not PRESENT, reason="of SLURM: apt-get install slurm-wlm munge, then make test, as root"
    ),
    pytest.mark.skipif(PRESENT and os.geteuid() != 0, reason="of SLURM: run make test as root"),
]


@dataclass
class Slurm:
    """A running cluster. environment: what programs need to find it; node: its only one's name."""

    folder: Path
    node: str
    environment: dict[str, str]
    commands: dict[str, list[str]]
    running: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start(self, daemon: str) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            self.running[daemon] = subprocess.Popen(
                self.commands[daemon], env=os.environ | self.environment, stdout=log, stderr=log
            )

    def stop(self, daemon: str) -> None:
        self.running[daemon].terminate()
        self.running.pop(daemon).wait(30)

    def ask(self, *command: str) -> str:
        """What a command of SLURM's says; "" if it fails, as it does without a controller."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def wait_until(self, state: str) -> None:
        """Wait for the node's state, as sinfo has it."""
        for _ in range(120):
            if self.ask("sinfo", "--noheader", "--format=%T") == state:
                return
            time.sleep(0.25)
        logs = [path.read_text() for path in sorted(self.folder.glob("*.log"))]
        raise AssertionError(f"the node did not become {state}:\n" + "\n".join(logs))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def cluster(folder: Path) -> Iterator[Slurm]:
    """Start SLURM in an empty folder; it ends with the block, and its jobs with it."""
    for part in ("state", "spool", "munge"):
        (folder / part).mkdir(mode=0o700)
    # munged insists on folders that others cannot write to, all the way up: not true of /tmp.
    key = folder / "munge/key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    munge = folder / "munge/socket"
    node = socket.gethostname().split(".")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 500
    (folder / "slurm.conf").write_text(
        f"""
ClusterName=test
SlurmctldHost={node}(127.0.0.1)
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
OverTimeLimit=0
ReturnToService=2
GresTypes=gpu
NodeName={node} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory={memory} Gres=gpu:4
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE State=UP
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
    files = [f"--{kind}-file={folder}/munge/{kind}" for kind in ("key", "log", "pid", "seed")]
    commands = {
        "munged": ["munged", "--foreground", "--force", f"--socket={munge}", *files],
        "slurmctld": ["slurmctld", "-D"],
        "slurmd": ["slurmd", "-D", "-N", node],
    }
    slurm = Slurm(folder, node, environment, commands)
    try:
        for daemon in DAEMONS:
            slurm.start(daemon)
            time.sleep(1)
        slurm.wait_until("idle")
        yield slurm
    finally:
        slurm.ask("scancel", "--quiet", "--user=root")
        for _ in range(40):  # a job's processes outlive the daemons
            if not slurm.ask("squeue", "--noheader"):
                break
            time.sleep(0.25)
        for daemon in reversed(list(slurm.running)):
            slurm.stop(daemon)


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


PROFILE = (
    *("--profile", "workflow/profiles/slurm"),
    *("--slurm-status-command", "squeue", "--slurm-no-account"),
)


def submit(case: Path, slurm: Slurm, *arguments: str, check: bool = True, **more: str):
    """Run a case of the workflow by the SLURM profile. more: further environment variables."""
    return snakemake(
        case,
        *PROFILE,
        *arguments,
        environment=slurm.environment | more,
        check=check,
        program=("-c", OFTEN),
    )


def begin(case: Path, slurm: Slurm, *arguments: str, **more: str) -> subprocess.Popen:
    """As `submit`, but without waiting for the end; what is said goes to the case's said.log."""
    with (case / "said.log").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-c", OFTEN, *PROFILE, *arguments],
            cwd=case,
            env=os.environ | slurm.environment | more,
            stdout=said,
            stderr=said,
        )
