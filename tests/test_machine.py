"""What the machine has: a container's or a job's limit counts, not the host's memory."""

import pytest

from lowrank import machine

GIB = 2**30


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with 22 GiB free; returns its folder of control groups."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {22 * 2**20} kB\n")
    for name, path in (("MEMORY", "meminfo"), ("GROUP", "cgroup"), ("GROUPS", "groups")):
        monkeypatch.setattr(machine, name, tmp_path / path)
    return tmp_path / "groups"


def group(folder, limit, used, inactive, version=2):
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        2: ("memory.max", "memory.current", "inactive_file"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {inactive}\n")


def test_without_groups_it_is_the_machines(host):
    assert machine.free_memory() == 22 * GIB


def test_the_tightest_group_counts_and_cached_files_do_not(host):
    (host.parent / "cgroup").write_text("0::/slurm/job7/step\n")
    group(host / "slurm/job7/step", "max", GIB, 0)
    group(host / "slurm/job7", 3 * GIB, 2 * GIB, GIB)
    group(host / "slurm", 100 * GIB, 0, 0)
    assert machine.free_memory() == 2 * GIB


def test_a_container_that_does_not_see_its_own_path(host):
    (host.parent / "cgroup").write_text("0::/docker/0123abcd\n")
    group(host, int(1.5 * GIB), GIB, 0)
    assert machine.free_memory() == GIB // 2


def test_version_one(host):
    (host.parent / "cgroup").write_text("5:cpu,cpuacct:/x\n4:memory:/x\n")
    group(host / "memory/x", 4 * GIB, GIB, 0, version=1)
    assert machine.free_memory() == 3 * GIB


def test_a_system_that_says_nothing(host):
    (host.parent / "meminfo").unlink()
    assert machine.free_memory() == machine.UNKNOWN
