"""Eight GPUs that are not there: every sampling job leases its own, and all are busy at once."""

import shutil

import fake_gpus
import pytest
import yaml
from fake_gpus import uuid
from workflow_case import copy_case, make_case, snakemake

# In place of sample.py: leases as it does, waits until all GPUs of the test are leased, notes
# which, and writes something where the tables go.
SAMPLE = """
import os, sys, time
from pathlib import Path
from lowrank.devices import Need, lease

def value(flag, default=None):
    given = [word for word in sys.argv if word.startswith(f"{flag}=")]
    if given:
        return given[0].partition("=")[2]
    return sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv else default

lease(int(value("--tensor-parallel", "1")), Need())
here, name = Path("leased"), value("--model-name")
here.mkdir(exist_ok=True)
mine = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
for gpu in mine:
    (here / gpu).open("x").close()
    (here / f"{name}.{gpu}").touch()
late = time.monotonic() + 120
while len(list(here.glob("*.GPU-*"))) < int(Path("together").read_text()):
    if time.monotonic() > late:
        sys.exit("the other jobs were not started beside this one")
    time.sleep(0.05)
with (here / "counts").open("a") as counts:
    counts.write(f"{len(list(here.glob('GPU-*')))}\\n")
for gpu in mine:
    (here / gpu).unlink()
place = sys.argv.index("--benchmark")
Path(sys.argv[place + 3]).write_text("")
Path(sys.argv[place + 3]).with_suffix(".json").write_text("{}")
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A case of two references and two variants that were sampled on four GPUs, and what was said.

    The jobs end only when all four have a GPU: nothing else than all at once lets them.
    """
    folder = tmp_path_factory.mktemp("box")
    case = make_case(folder / "case", divergence=False)
    (case / "scripts/sample.py").write_text(SAMPLE)
    change(case, device="cuda", threads=1, mem_mb=50)
    (case / "together").write_text("4")
    return case, sampled((case, environment(folder)))


@pytest.fixture
def box(first, tmp_path):
    """A copy of it with nothing sampled yet, and the environment to run it in."""
    case = copy_case(first[0], tmp_path / "case")
    shutil.rmtree(case / "results/tiny/samples")
    shutil.rmtree(case / "leased")
    return case, environment(tmp_path)


def environment(folder) -> dict[str, str | None]:
    """Four GPUs, and no other choice among them than the test's."""
    return dict.fromkeys(fake_gpus.CHOOSING) | fake_gpus.install(folder / "smi", 4)


def change(case, **sampling) -> None:
    path = case / "experiments/tiny.yaml"
    subject = yaml.safe_load(path.read_text())
    subject["sampling"] |= sampling
    subject["sampling"].pop("compute_dtype", None)
    subject["factoring"] |= {"threads": 1, "mem_mb": 200}
    path.write_text(yaml.safe_dump(subject))


def sampled(box, *arguments: str, check: bool = True) -> str:
    case, given = box
    arguments = ("--cores", "8", "--until", "sample", *arguments)
    return snakemake(case, *arguments, environment=given, check=check).stdout


def leases(case) -> dict[str, list[str]]:
    """GPUs by model."""
    found: dict[str, list[str]] = {}
    for path in sorted((case / "leased").glob("*.GPU-*")):
        model, _, gpu = path.name.rpartition(".")
        found.setdefault(model, []).append(gpu)
    return found


def most_at_once(case) -> int:
    """GPUs that were leased at the same time, as the jobs counted."""
    return max(map(int, (case / "leased/counts").read_text().split()))


def test_one_command_has_all_gpus_busy_with_different_models(first):
    case, _ = first
    assert most_at_once(case) == 4
    found = leases(case)
    assert found.keys() == {"sft", "rl", "r2-copy", "r0-copy"}
    assert sorted(gpu for gpus in found.values() for gpu in gpus) == [uuid(n) for n in range(4)]


def test_the_user_can_allow_fewer(box):
    case, _ = box
    (case / "together").write_text("2")
    sampled(box, "--resources", "gpu=2")
    assert most_at_once(case) == 2


def test_models_of_two_gpus_have_two_each(box):
    case, _ = box
    change(case, tensor_parallel=2)
    sampled(box)
    found = leases(case)
    assert [len(gpus) for gpus in found.values()] == [2, 2, 2, 2]


def test_what_no_number_of_turns_would_give_is_refused_before_anything_runs(box):
    case, _ = box
    change(case, tensor_parallel=8)
    said = sampled(box, check=False)
    assert "error: one job takes 8 GPUs (sampling.tensor_parallel), and 4 can be seen here" in said
    change(case, tensor_parallel=2)
    said = sampled(box, "--resources", "gpu=1", check=False)
    assert "one job takes 2 GPUs (sampling.tensor_parallel), and 1 are allowed" in said
    assert not (case / "leased").exists()


def test_a_machine_without_gpus_plans_what_one_with_them_would_do(box, tmp_path):
    case, given = box
    change(case, tensor_parallel=2)
    alone = given | {"CUDA_VISIBLE_DEVICES": ""}
    said = snakemake(case, "--cores", "2", "--dry-run", environment=alone).stdout
    assert "gpu=2" in said


def test_only_jobs_that_compute_on_a_gpu_ask_for_one(box):
    case, given = box
    change(case, tensor_parallel=2)
    said = snakemake(case, "--cores", "2", "--dry-run", environment=given).stdout
    asking = {}
    for block in said.split("\nrule ")[1:]:
        rule, resources = block.partition(":")[0], block.partition("resources: ")[2]
        asking.setdefault(rule, set()).add("gpu=2" in resources.partition("\n")[0])
    assert {rule for rule, asked in asking.items() if True in asked} == {"sample"}
    assert len(asking) > 5


def test_the_cpu_path_asks_nobody_for_gpus(tmp_path):
    """No program nvidia-smi is run where nothing computes on a GPU."""
    case = make_case(tmp_path / "case")
    given = environment(tmp_path)
    (tmp_path / "smi/nvidia-smi").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    snakemake(case, "--cores", "2", "--dry-run", environment=given)
    assert not (tmp_path / "asked").exists()
