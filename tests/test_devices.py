"""Jobs that lease GPUs: none shares one, none waits for ever, none outlives its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import fake_gpus
import pytest
from fake_gpus import SCRIPTS, end, job, uuid

from lowrank import devices, locks
from lowrank.devices import Need
from lowrank.errors import InputError
from lowrank.plan.digest import closure

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Two GPUs that are not there: the environment to see them in; also this process's."""
    environment = fake_gpus.show(monkeypatch, tmp_path / "smi", 2)
    monkeypatch.setattr(devices, "POLL", 0.01)
    monkeypatch.setattr(devices, "PATIENCE", 0.05)
    yield environment
    locks._forget()


def leased(process: subprocess.Popen) -> list[str]:
    """What a job leased; waits until it has."""
    return process.stdout.readline().strip().split(",")


def waits_for(process: subprocess.Popen) -> str:
    """What a job says that it waits for."""
    return process.stderr.readline()


def test_jobs_side_by_side_have_a_gpu_each(machine):
    jobs = [job(machine), job(machine)]
    assert {*leased(jobs[0]), *leased(jobs[1])} == {uuid(0), uuid(1)}
    end(*jobs)


def test_who_finds_none_free_waits_and_says_for_whom(machine):
    holders = [job(machine), job(machine)]
    held = [leased(one)[0] for one in holders]
    third = job(machine)
    said = waits_for(third)
    assert said.startswith("waiting for 1 of 2 GPUs: ")
    for one, name in zip(holders, held, strict=True):
        assert f"{name}) is held by process {one.pid} of " in said
    end(holders[0])
    assert leased(third) == [held[0]]
    end(third, holders[1])


def test_a_killed_job_holds_nothing(machine):
    first = job(machine, 2)
    assert leased(first) == [uuid(0), uuid(1)]
    second = job(machine, 2)
    waits_for(second)
    first.send_signal(signal.SIGKILL)
    assert leased(second) == [uuid(0), uuid(1)]
    end(first, second)


def test_the_lease_ends_with_the_job_though_its_children_live_on(machine, tmp_path):
    """A forked worker and a started program, both left behind by kill -9."""
    program = """
import os, subprocess, sys, time
from lowrank.devices import Need, lease
lease(2, Need())
started = subprocess.Popen(["sleep", "60"], close_fds=False)
forked = os.fork()
if forked == 0:
    time.sleep(60)
print(started.pid, forked, flush=True)
time.sleep(60)
"""
    first = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    children = [int(number) for number in first.stdout.readline().split()]
    first.kill()
    first.wait()
    try:
        second = job(machine, 2)
        assert leased(second) == [uuid(0), uuid(1)]
        assert all(Path(f"/proc/{child}").exists() for child in children)
        end(second)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        first.stdout.close()


def test_none_is_held_while_waiting(machine):
    """Of two jobs that need both GPUs and one that needs one, none stops another for ever."""
    first = job(machine)
    name = leased(first)
    both = [job(machine, 2), job(machine, 2)]
    for one in both:
        assert "waiting" in waits_for(one)
    # Another set of GPUs, so that it is not behind the two that wait: the one left is free.
    other = {uuid(0): uuid(1), uuid(1): uuid(0)}[name[0]]
    beside = job(machine | {"CUDA_VISIBLE_DEVICES": other})
    assert leased(beside) == [other]
    end(first, beside)
    end(*both)
    assert [one.returncode for one in both] == [0, 0]


def test_numbers_and_uuids_are_the_same_gpu(machine):
    by_number = job(machine | {"CUDA_VISIBLE_DEVICES": "1"})
    assert leased(by_number) == [uuid(1)]
    by_uuid = job(machine | {"CUDA_VISIBLE_DEVICES": "GPU-1"})
    assert str(by_number.pid) in waits_for(by_uuid)
    end(by_number)
    assert leased(by_uuid) == [uuid(1)]
    end(by_uuid)


def test_twenty_jobs_on_three_gpus_never_share_one(machine, tmp_path):
    """Each notes on the GPU's page that it begins and that it ends; no two overlap."""
    environment = machine | fake_gpus.install(tmp_path / "smi", 3)
    program = """
import os, random, sys, time
from pathlib import Path
from lowrank import devices
from lowrank.devices import Need, lease
devices.POLL = 0.02
lease(int(sys.argv[1]), Need())
pages = [Path(sys.argv[2], name) for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
for page in pages:
    page.open("x").close()  # refused if somebody else is on it
time.sleep(random.uniform(0, 0.05))
for page in pages:
    page.unlink()
"""
    pages = tmp_path / "pages"
    pages.mkdir()
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(1 + number % 3), str(pages)],
            env=os.environ | {"PYTHONPATH": str(SCRIPTS)} | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(20)
    ]
    said = [one.communicate()[1] for one in jobs]
    assert [one.returncode for one in jobs] == [0] * 20, said


def test_the_same_process_asks_twice_and_keeps_what_it_has(machine):
    first = devices.lease(1, Need())
    assert devices.lease(1, Need()) == first
    assert os.environ["CUDA_VISIBLE_DEVICES"] == first[0].name


def test_what_a_scheduler_gave_is_taken_as_it_is(machine, monkeypatch, capsys):
    """Even where another has locked it: the scheduler knows."""
    holder = job(machine, 2)
    leased(holder)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.name for gpu in devices.lease(1, Need())] == [uuid(1)]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert "given by the scheduler (SLURM_JOB_ID)" in capsys.readouterr().err
    end(holder)


def test_jobs_that_share_an_allocation_have_a_gpu_each(machine):
    given = machine | {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0,1"}
    jobs = [job(given), job(given)]
    assert {*leased(jobs[0]), *leased(jobs[1])} == {uuid(0), uuid(1)}
    end(*jobs)


@pytest.mark.parametrize(
    ("count", "asked", "words"),
    [
        (3, None, ["3 whole GPUs are needed", uuid(0), uuid(1)]),
        (2, "1", ["2 whole GPUs are needed", uuid(1), "CUDA_VISIBLE_DEVICES is '1'"]),
        (1, "", ["1 GPU is needed", "none", "CUDA_VISIBLE_DEVICES is ''"]),
        (1, "-1", ["none", "CUDA_VISIBLE_DEVICES is '-1'"]),
    ],
)
def test_too_few_gpus_are_said_at_once(machine, monkeypatch, count, asked, words):
    if asked is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    with pytest.raises(InputError) as error:
        devices.lease(count, Need())
    assert all(word in str(error.value) for word in words)


def test_slices_are_leased_one_by_one_and_never_together(machine, tmp_path):
    slices = [f"MIG-{letter * 8}" for letter in "ab"]
    listed = f"GPU 0: NVIDIA Pretence (UUID: {uuid(0)})\n"
    listed += "".join(f"  MIG 3g.40gb     Device  0: (UUID: {name})\n" for name in slices)
    (tmp_path / "smi/list").write_text(listed)
    jobs = [job(machine), job(machine)]
    assert {*leased(jobs[0]), *leased(jobs[1])} == set(slices)
    end(*jobs)
    with pytest.raises(InputError, match="2 whole GPUs are needed"):
        devices.lease(2, Need())


def memory(folder: Path, *free_gib: int) -> None:
    rows = [f"{uuid(number)}, {free * 1024}, {80 * 1024}\n" for number, free in enumerate(free_gib)]
    (folder / "smi/memory").write_text("".join(rows))


def test_a_gpu_without_room_is_passed_over(machine, tmp_path):
    memory(tmp_path, 10, 79)
    assert [gpu.name for gpu in devices.lease(1, Need(share=0.9))] == [uuid(1)]


def test_what_is_missing_is_said_in_a_sentence(machine, tmp_path):
    memory(tmp_path, 10, 20)
    (tmp_path / "smi/users").write_text(f"{uuid(0)}, {os.getpid()}\n")
    with pytest.raises(InputError) as error:
        devices.lease(1, Need(share=0.9))
    said = str(error.value)
    assert f"NVIDIA Pretence ({uuid(0)}) has 10.7 of 85.9 GB free and 77.3 GB are needed" in said
    assert f"used by process {os.getpid()} of " in said
    assert "CUDA_VISIBLE_DEVICES" in said
    assert "gpu_memory" in said
    assert "\n" not in said
    # It holds nothing then.
    other = job(machine, 2)
    assert leased(other) == [uuid(0), uuid(1)]
    end(other)


def test_what_can_never_fit_is_said_at_once(machine, monkeypatch):
    monkeypatch.setattr(devices, "PATIENCE", float("inf"))
    with pytest.raises(InputError, match=r"128\.8 GB are needed"):
        devices.lease(1, Need(bytes=120 * GIB))


def test_memory_that_comes_free_is_waited_for(machine, tmp_path, monkeypatch):
    """As after a killed job: its lease is gone at once, its workers' memory a little later."""
    memory(tmp_path, 1, 1)
    monkeypatch.setattr(devices, "PATIENCE", float("inf"))
    monkeypatch.setattr(devices, "_pause", lambda: memory(tmp_path, 1, 80))
    assert [gpu.name for gpu in devices.lease(1, Need(bytes=8 * GIB))] == [uuid(1)]


def test_a_leased_gpu_is_waited_for_where_the_free_one_has_no_room(machine, tmp_path):
    """The other one will come free: that is no reason to give up."""
    memory(tmp_path, 1, 80)
    holder = job(machine | {"CUDA_VISIBLE_DEVICES": "1"})
    leased(holder)
    program = (
        "from lowrank import devices; devices.PATIENCE = 0.0;"
        "print(devices.lease(1, devices.Need(share=0.9))[0].name)"
    )
    waiting = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = waits_for(waiting)
    assert "is held by" in said
    assert "77.3 GB are needed" in said
    end(holder)
    assert waiting.communicate()[0].strip() == uuid(1)


def test_memory_that_is_not_told_is_not_asked_for(machine, tmp_path):
    (tmp_path / "smi/memory").write_text("")
    assert devices.lease(2, Need(share=0.9))


def test_a_cpu_needs_no_gpu(machine, monkeypatch):
    monkeypatch.setattr(devices.gpus, "visible", None)
    assert devices.take_device("cpu", 1, Need(share=0.9))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_where_nothing_lists_gpus_the_choice_is_cudas(machine, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(devices.gpus, "DRIVER", tmp_path / "none")
    assert devices.lease(1, Need()) == []
    assert "left to CUDA" in capsys.readouterr().err


def test_every_program_that_computes_on_a_gpu_leases_it():
    """No other module asks torch for a GPU, and whoever has --device imports the one that does."""
    asking = {
        path.name for path in SCRIPTS.rglob("*.py") if "cuda.is_available" in path.read_text()
    }
    assert asking == {"machine.py"}
    naming = {path.name for path in SCRIPTS.rglob("*.py") if "device_name(" in path.read_text()}
    assert naming == {"machine.py", "devices.py"}
    programs = [path for path in SCRIPTS.glob("*.py") if '"--device"' in path.read_text()]
    assert len(programs) >= 6
    for program in programs:
        assert SCRIPTS / "lowrank/devices.py" in closure(program), program.name
