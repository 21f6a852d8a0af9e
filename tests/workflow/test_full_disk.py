"""Every phase on a disk that is full: a sentence, nothing half-written, then the same results.

A limit on the size of files stands in for the disk: the system refuses to write on in the same way,
in the middle of the largest file that a job makes.
"""

import re
import resource
import subprocess
from pathlib import Path

import pytest
from workflow_case import copy_case, snakemake

RULES = (
    "fetch_benchmark", "describe", "delta_svd", "delta_statistics", "build_adapter",
    "build_variant", "sample", "grade", "metrics", "compare", "read_derivative", "divergence",
    "divergence_metrics", "report",
)  # fmt: skip


@pytest.fixture(scope="module")
def jobs(finished) -> dict[str, tuple[str, list[str]]]:
    """By rule: the command of one of its jobs, and what that writes."""
    said = snakemake(finished, "--cores", "2", "--dry-run", "--forceall", "--printshellcmds").stdout
    found = {}
    for block in re.split(r"\n(?=(?:local)?rule )", said):
        command = re.search(r"Shell command: (python .*?) (?:&>|2>&1 \|) ", block, re.DOTALL)
        written = re.search(r"\n    output: (.*)", block)
        if command and written:
            rule = re.match(r"(?:local)?rule (\w+):", block)[1]
            found[rule] = command[1], written[1].split(", ")
    return found


def contents(case: Path, names: list[str]) -> dict[str, bytes]:
    """What lies under these names, files of folders by their own."""
    found = [path for name in names for path in (case / name, *(case / name).rglob("*"))]
    return {str(path.relative_to(case)): path.read_bytes() for path in found
            if path.is_file() and path.name != ".snakemake_timestamp"}  # fmt: skip


def run(command: str, case: Path, limit: int = resource.RLIM_INFINITY):
    return subprocess.run(
        ["bash", "-c", command],
        cwd=case,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_full_disk_leaves_nothing_half_written(rule, jobs, finished, tmp_path):
    command, names = jobs[rule]
    case = copy_case(finished, tmp_path / "case")
    command = command.replace(str(finished), str(case))
    before = contents(case, names)
    for name in before:
        (case / name).unlink()
    failed = run(command, case, limit=max(map(len, before.values())) // 2)
    assert failed.returncode
    assert "Traceback" not in failed.stderr
    assert re.search(r"^error: .*(full|larger)", failed.stderr, re.MULTILINE), failed.stderr[-500:]
    left = contents(case, names)
    assert left.items() <= before.items()
    assert not [path for path in case.glob("results/**/.*tmp*") if path.is_file()]
    again = run(command, case)
    assert not again.returncode, again.stderr[-500:]
    assert contents(case, names) == before
