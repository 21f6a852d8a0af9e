"""What the machine is and how much of its memory may be used."""

import os
from collections.abc import Iterator
from pathlib import Path

from lowrank.errors import InputError

MEMORY = Path("/proc/meminfo")
GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
UNKNOWN = 4 * 2**30  # bytes taken to be free where the system does not say


def device_name(device: str) -> str:
    """What the device calls itself; InputError if `device` is "cuda" and there is none."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError(
                f"--device is cuda, but torch {torch.__version__} sees no GPU; use --device cpu"
                " or run where there is one"
            )
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "cpu"


def free_memory() -> int:
    """Bytes that a process may still take: the machine's, or less in a container or a job."""
    free = [_machine_free(), *(limit - used for limit, used in _groups())]
    return max(min(free), 0)


def total_memory() -> int:
    """Bytes that all processes here may take: the machine's memory, or the container's limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _groups())])


def _machine_free() -> int:
    try:
        for line in MEMORY.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return UNKNOWN


def _groups() -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of this process's control group and of every one above it.

    Pages of files that were read count as used there, but go when memory is asked for.
    """
    try:
        lines = GROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, limit, used, cache = GROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):  # version 1
            root, limit, used = GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        # In a container the group's own path may not be seen: its root then has the limit.
        folder = root / path.lstrip("/")
        for group in [folder, *folder.parents]:
            if group != root and root not in group.parents:
                break
            try:
                text = (group / limit).read_text().strip()
                taken = int((group / used).read_text())
                stat = (group / "memory.stat").read_text().splitlines()
            except OSError:
                continue
            if text.isdigit():
                told = dict(entry.split()[:2] for entry in stat if entry)
                yield int(text), taken - int(told.get(cache, 0))
