"""A job needs what its rule names, and makes what its rule names: so files may lie anywhere.

Every command of the small experiment runs in a folder that holds its rule's inputs alone, as it
would with a storage plugin, on a machine that shares no disk with the others.
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from workflow_case import snakemake

TOKENIZER = ("*/tokenizer*.json", "*/chat_template.jinja", "*/generation_config.json")
# What is left beside the outputs, by rule; no other job reads it.
BESIDE = {
    "fetch_model": TOKENIZER,  # the folder is a checkpoint for people, too
    "build_variant": TOKENIZER,
    "sample": ("results/completions/*", "*.log.all"),
    "divergence": ("*/read/*.parquet",),  # what was read, should more be asked for
}


@dataclass(frozen=True)
class Job:
    rule: str
    input: list[str]
    output: list[str]
    log: str
    command: str


def jobs(case: Path) -> list[Job]:
    """Every job of the whole experiment."""
    said = snakemake(case, "--dry-run", "--forceall", "--printshellcmds").stdout
    found = []
    for block in re.split(r"\n\n(?=\[)", said):
        rule = re.search(r"^(?:local)?rule (\w+):$", block, re.MULTILINE)
        command = re.search(r"^Shell command: (.*?)(?:\n\n|\Z)", block, re.MULTILINE | re.DOTALL)
        if rule and command:
            named = dict(re.findall(r"^    (input|output|log): (.*)$", block, re.MULTILINE))
            paths = [named.get(key, "").split(", ") for key in ("input", "output")]
            inputs, outputs = ([path for path in each if path] for each in paths)
            found.append(Job(rule[1], inputs, outputs, named["log"], command[1]))
    return found


def copy(path: str, case: Path, folder: Path) -> None:
    source, target = case / path, folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def files(folder: Path, path: str = ".") -> dict[str, bytes]:
    """What lies at a path below a folder, but notes of ours and of Snakemake."""
    there = folder / path
    found = [there] if there.is_file() else [each for each in there.rglob("*") if each.is_file()]
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in found
        if not each.name.startswith(".")
    }


def run(job: Job, case: Path, folder: Path) -> list[str]:
    """Run a job with its inputs alone; what is wrong with what it made."""
    for path in job.input:
        copy(path, case, folder)
    for path in (*job.output, job.log):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    if job.rule == "sample":  # the store is shared on purpose; what it lacks is sampled
        copy("results/completions", case, folder)
        for one in (folder / "results/completions").glob("rl-*"):
            shutil.rmtree(one)
    before = files(folder)
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-c", f"set -euo pipefail; {job.command}"]
    done = subprocess.run(command, cwd=folder, env=os.environ | path, check=False)
    if done.returncode:
        return [f"{job.rule} fails: {(folder / job.log).read_text()}"]
    named = {name: content for path in job.output for name, content in files(case, path).items()}
    after = files(folder)
    allowed = (job.log, *BESIDE.get(job.rule, ()))
    return [
        *(f"{job.rule} changed {name}" for name in before if after.get(name) != before[name]),
        *(f"{job.rule} did not make {name}" for name in named if name not in after),
        *(
            f"{job.rule}: {name} differs"
            for name in named
            if after.get(name, named[name]) != named[name]
        ),
        *(
            f"{job.rule} left {name}"
            for name in after
            if name not in {*before, *named}
            and not any(fnmatch(name, pattern) for pattern in allowed)
        ),
    ]


def test_every_rule_names_what_it_reads_and_makes(finished, tmp_path):
    found = jobs(finished)
    assert {"fetch_model", "sample", "report"} <= {job.rule for job in found}
    assert len(found) > 30
    folders = [tmp_path / str(number) for number in range(len(found))]
    with ThreadPoolExecutor(2) as pool:
        wrong = pool.map(lambda job, folder: run(job, finished, folder), found, folders)
        assert [each for of_a_job in wrong for each in of_a_job] == []
