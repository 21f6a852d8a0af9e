"""An nvidia-smi that lists GPUs which are not there, and programs that lease them."""

import os
import subprocess
import sys
from pathlib import Path

from lowrank import devices

# What decides which of the GPUs that are there a job sees.
CHOOSING = ("CUDA_VISIBLE_DEVICES", *devices.gpus.SCHEDULERS)
SCRIPTS = Path(__file__).parents[1] / "scripts"

NVIDIA_SMI = """#!/bin/sh
case "$*" in
-L) cat "$(dirname "$0")/list" ;;
*query-gpu*) cat "$(dirname "$0")/memory" ;;
*query-compute-apps*) cat "$(dirname "$0")/users" ;;
esac
"""

# Leases, says so, and keeps the GPUs until its standard input ends.
JOB = """
import os, sys
from lowrank.devices import Need, lease
from lowrank.errors import run
def main():
    lease(int(sys.argv[1]), Need())
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
sys.exit(run(main))
"""


def uuid(number: int) -> str:
    """GPU-00000000-..., GPU-11111111-..."""
    digit = f"{number:x}"[-1]
    return "GPU-" + "-".join(digit * length for length in (8, 4, 4, 4, 12))


def install(folder: Path, count: int, free_gib: int = 80) -> dict[str, str]:
    """Put an nvidia-smi of `count` GPUs of 80 GiB into a folder: the environment to see them in.

    list, memory and users beside it are what it prints; LOWRANK_LOCKS is a folder of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nvidia-smi").write_text(NVIDIA_SMI)
    (folder / "nvidia-smi").chmod(0o755)
    gpus = [(number, uuid(number)) for number in range(count)]
    listed = "".join(f"GPU {number}: NVIDIA Pretence (UUID: {name})\n" for number, name in gpus)
    (folder / "list").write_text(listed)
    rows = [f"{name}, {free_gib * 1024}, {80 * 1024}\n" for _, name in gpus]
    (folder / "memory").write_text("".join(rows))
    (folder / "users").write_text("")
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "LOWRANK_LOCKS": str(folder / "locks"),
    }


def show(monkeypatch, folder: Path, count: int) -> dict[str, str]:
    """Have this process see `count` GPUs that are not there until the test ends, and lease none."""
    for name in CHOOSING:
        monkeypatch.delenv(name, raising=False)
    environment = install(folder, count)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(devices, "_leased", [])
    return environment


def job(environment: dict[str, str], count: int = 1, **options) -> subprocess.Popen:
    """Start a program that leases `count` GPUs; its first line of output names them."""
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(count)],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def end(*jobs: subprocess.Popen) -> None:
    """Let jobs go on to their end, and wait for it."""
    for one in jobs:  # all of them first: one may be waiting for another
        one.stdin.close()
        one.stdin = None
    for one in jobs:
        one.communicate()
