"""Which GPUs are visible, without starting CUDA."""

import pytest
from fake_gpus import install, uuid

from lowrank import gpus
from lowrank.errors import InputError
from lowrank.gpus import Memory, gpus_to_share

GIB = 2**30
SLICED = f"""GPU 0: NVIDIA Pretence (UUID: {uuid(0)})
GPU 1: NVIDIA Pretence (UUID: {uuid(1)})
  MIG 3g.40gb     Device  0: (UUID: MIG-aaaaaaaa-1111-2222-3333-444444444444)
  MIG 3g.40gb     Device  1: (UUID: MIG-bbbbbbbb-1111-2222-3333-444444444444)
"""
FIRST, SECOND = (f"MIG-{c * 8}-1111-2222-3333-444444444444" for c in "ab")


@pytest.fixture
def four(tmp_path, monkeypatch):
    """The folder of an nvidia-smi of four GPUs, and no variable that hides any."""
    for name, value in install(tmp_path / "smi", 4).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "smi"


def seen(**environment: str) -> list[str]:
    return [gpu.name for gpu in gpus.visible(environment)]


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ("2", [2]),
        ("2,1", [2, 1]),
        (" 0 , 3 ", [0, 3]),
        ("0,2,-1,1", [0, 2]),  # the example of CUDA's own documentation
        ("0,7,1", [0]),  # what comes after an invalid number is not seen
        ("1,1", [1]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        (uuid(3), [3]),
        ("GPU-2", [2]),  # the beginning of a UUID
        (f"{uuid(1)},GPU-00,3", [1, 0, 3]),
        ("GPU-", []),  # the beginning of all of them
        ("GPU-f", []),
    ],
)
def test_variable_means_what_it_means_to_cuda(four, asked, numbers):
    assert seen(CUDA_VISIBLE_DEVICES=asked) == [uuid(number) for number in numbers]


def test_all_are_visible_without_the_variable(four):
    assert seen() == [uuid(number) for number in range(4)]


def test_slices_stand_for_their_gpu(four):
    (four / "list").write_text(SLICED)
    assert seen() == [uuid(0), FIRST, SECOND]
    assert seen(CUDA_VISIBLE_DEVICES="1") == [FIRST, SECOND]
    assert seen(CUDA_VISIBLE_DEVICES="MIG-b,0") == [SECOND, uuid(0)]
    assert [gpu.is_slice for gpu in gpus.visible({})] == [False, True, True]


def test_slurm_says_which_where_cuda_is_not_told(four):
    assert seen(SLURM_JOB_GPUS="1,3") == [uuid(1), uuid(3)]
    assert seen(SLURM_JOB_GPUS="1,3", SLURM_STEP_GPUS="3") == [uuid(3)]
    assert seen(SLURM_JOB_GPUS="1,3", CUDA_VISIBLE_DEVICES="0") == [uuid(0)]
    # Of a job that is shut in its allocation, nvidia-smi lists what it was given, from 0.
    install(four, 2)
    assert seen(SLURM_JOB_GPUS="4,6") == [uuid(0), uuid(1)]


def test_the_driver_is_asked_without_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "gpus")
    assert seen() == []
    for number, place in enumerate(("0000:01:00.0", "0000:41:00.0")):
        (tmp_path / "gpus" / place).mkdir(parents=True)
        (tmp_path / "gpus" / place / "information").write_text(
            f"Model: \t\t NVIDIA Pretence\nGPU UUID: \t {uuid(number)}\nBus Type: \t PCIe\n"
        )
    assert seen() == [uuid(0), uuid(1)]
    assert gpus.visible({})[1].model == "NVIDIA Pretence"


def test_what_nothing_lists_is_taken_at_its_word(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "none")
    assert seen(CUDA_VISIBLE_DEVICES="0,GPU-12") == ["0", "GPU-12"]
    assert seen(CUDA_VISIBLE_DEVICES="nonsense") == []


@pytest.mark.parametrize("says", ["exit 9", "echo No devices were found; exit 6", "echo"])
def test_an_nvidia_smi_without_a_driver_lists_nothing(tmp_path, monkeypatch, says):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "none")
    assert seen() == []
    assert gpus.memory() == {}


def test_memory_is_told_in_bytes_and_only_where_it_is_known(four):
    (four / "memory").write_text(f"{uuid(0)}, 1024, 81920\n{uuid(1)}, [N/A], [N/A]\n")
    assert gpus.memory() == {uuid(0): Memory(1 * GIB, 80 * GIB)}


def test_users_are_those_of_that_gpu(four):
    (four / "users").write_text(f"{uuid(0)}, 12\n{uuid(1)}, 34\n{uuid(0)}, [N/A]\n")
    assert gpus.users(gpus.Gpu(uuid(0))) == [12]


@pytest.mark.parametrize("name", gpus.SCHEDULERS)
def test_schedulers_are_known_by_their_variables(name):
    assert gpus.scheduler({name: "7"}) == name
    assert gpus.scheduler({name: ""}) is None


def test_jobs_share_what_is_there_or_allowed(four, monkeypatch):
    assert gpus_to_share(1) == 4
    assert gpus_to_share(2, 3) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_to_share(2) == 2  # a plan, on a machine without any
    monkeypatch.setattr(gpus, "installed", None)  # nobody is asked
    assert gpus_to_share(0) == 0


@pytest.mark.parametrize("limit", [None, 4])
def test_fewer_than_a_job_needs_are_refused(four, limit):
    with pytest.raises(InputError, match="one job takes 8 GPUs"):
        gpus_to_share(8, limit)
