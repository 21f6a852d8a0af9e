"""The GPUs that a process may use and what memory they have free, told without starting CUDA."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lowrank.errors import InputError

DRIVER = Path("/proc/driver/nvidia/gpus")
MIB = 2**20
CSV = "--format=csv,noheader,nounits"
PATIENCE = 60  # seconds for nvidia-smi, which wakes up the driver where nothing else does

LISTED_GPU = re.compile(r"GPU (\d+): (.*) \(UUID: (GPU-[^)]+)\)")
LISTED_SLICE = re.compile(r"\s+(MIG .*?)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")

# What a job of each scheduler finds in its environment: SLURM, PBS, LSF, Grid Engine, Flux, OAR,
# Cobalt, HTCondor, Kubernetes.
SCHEDULERS = (
    "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID", "FLUX_JOB_ID", "OAR_JOB_ID",
    "COBALT_JOBID", "_CONDOR_SLOT", "KUBERNETES_SERVICE_HOST",
)  # fmt: skip


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a slice of one (MIG).

    name: what CUDA_VISIBLE_DEVICES calls it: its full UUID, or its number where none is known.
    index: its number in the order of the PCI bus, as nvidia-smi counts; None of what was not
    listed. model: what it calls itself.
    """

    name: str
    index: int | None = None
    model: str = "GPU"

    @property
    def is_slice(self) -> bool:
        return self.name.startswith("MIG-")

    def __str__(self) -> str:
        return f"{self.model} ({self.name})"


@dataclass(frozen=True)
class Memory:
    """Bytes of a GPU: free now, and in all."""

    free: int
    total: int


def installed() -> list[Gpu]:
    """The GPUs of this machine or container, in nvidia-smi's order; of one that is cut into
    slices (MIG) the slices. Where there is no nvidia-smi, as the driver lists them in /proc."""
    found: list[Gpu] = []
    whole: Gpu | None = None
    for line in _nvidia_smi("-L"):
        if told := LISTED_GPU.match(line):
            whole = Gpu(told[3], int(told[1]), told[2])
            found.append(whole)
        elif whole and (told := LISTED_SLICE.match(line)):
            if found[-1] == whole:
                found.pop()
            found.append(Gpu(told[2], whole.index, f"{whole.model} {told[1]}"))
    return found or _of_the_driver()


def _of_the_driver() -> list[Gpu]:
    found = []
    # Folders are named after the place on the bus.
    for index, folder in enumerate(sorted(DRIVER.glob("*"))):
        try:
            lines = (folder / "information").read_text().splitlines()
        except OSError:
            continue
        told = dict(re.split(r":\s*", line, maxsplit=1) for line in lines if ":" in line)
        uuid = told.get("GPU UUID", "")
        known = uuid.startswith("GPU-") and "?" not in uuid
        found.append(Gpu(uuid if known else str(index), index, told.get("Model", "GPU")))
    return found


def visible(environment: Mapping[str, str] = os.environ) -> list[Gpu]:
    """The GPUs that CUDA would show a process with this environment, in its order.

    CUDA_VISIBLE_DEVICES names them by number or by UUID, of which the beginning will do; what
    comes after a name that means nothing is not seen (CUDA C++ Programming Guide, environment
    variables). Numbers are nvidia-smi's. Without it, those of SLURM's allocation, else all.
    """
    asked = environment.get("CUDA_VISIBLE_DEVICES")
    if asked is not None and asked.strip() in ("", "-1"):
        return []
    there = installed()
    if asked is None:
        given = environment.get("SLURM_STEP_GPUS") or environment.get("SLURM_JOB_GPUS")
        # Numbers of the node; a job that is shut in its allocation sees no other GPU, and counts
        # its own from 0.
        if not given or len(given.split(",")) == len(there):
            return there
        asked = given
    found: list[Gpu] = []
    for word in (word.strip() for word in asked.split(",")):
        meant = _meant(word, there)
        if not meant:
            break
        found += [gpu for gpu in meant if gpu not in found]
    return found


def _meant(word: str, there: list[Gpu]) -> list[Gpu]:
    """What a word of CUDA_VISIBLE_DEVICES names; several slices for a GPU that is cut into them."""
    if not there:  # nothing is listed: then the word is all that is known
        is_name = word.isdecimal() or word.startswith(("GPU-", "MIG-"))
        return [Gpu(word)] if is_name else []
    if word.isdecimal():
        return [gpu for gpu in there if gpu.index == int(word)]
    named = [gpu for gpu in there if word and gpu.name.startswith(word)]
    return named if len(named) == 1 else []


def gpus_to_share(needed: int, limit: int | None = None) -> int:
    """How many GPUs the jobs of this machine may use at once: the limit, else all that are visible.

    needed: by the job that needs most; 0 where none computes on a GPU: nothing is counted then.
    Where no GPU is seen, which is no obstacle to a plan, as many as are needed.
    InputError if there are fewer than that job needs.
    """
    if not needed:
        return 0
    count = len(visible()) if limit is None else limit
    if limit is None and not count:
        return needed
    if count < needed:
        said = "can be seen here" if limit is None else "are allowed (--resources gpu)"
        raise InputError(
            f"one job takes {needed} GPUs (sampling.tensor_parallel), and {count} {said}; allow"
            " more, run where there are so many, or lower tensor_parallel"
        )
    return count


def scheduler(environment: Mapping[str, str] = os.environ) -> str | None:
    """The variable that tells that a scheduler gave this job what it sees; None outside of one."""
    return next((name for name in SCHEDULERS if environment.get(name)), None)


def memory() -> dict[str, Memory]:
    """Free and total memory by UUID; GPUs that do not tell (and slices) are left out."""
    found = {}
    for line in _nvidia_smi("--query-gpu=uuid,memory.free,memory.total", CSV):
        uuid, *numbers = (word.strip() for word in line.split(","))
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            free, total = (int(number) * MIB for number in numbers)
            found[uuid] = Memory(free, total)
    return found


def users(gpu: Gpu) -> list[int]:
    """Processes that compute on a GPU, as far as they can be seen from here."""
    found = []
    for line in _nvidia_smi("--query-compute-apps=gpu_uuid,pid", CSV):
        uuid, _, process = (word.strip() for word in line.partition(","))
        if uuid == gpu.name and process.isdecimal():
            found.append(int(process))
    return found


def _nvidia_smi(*arguments: str) -> list[str]:
    """Lines of nvidia-smi's output; none where there is no such program, or no driver."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
