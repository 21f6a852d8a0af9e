"""A case whose sampling goes on only as far as a test allows: time for something to go wrong."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from workflow_case import copy_case, make_case, snakemake

from lowrank.sampling import store

SAMPLES = "results/tiny/samples/tiny3/sft/1-of-1.parquet"
COMPLETIONS = 3 * 8

# In place of vLLM: text of the request's seed.
ENGINE = f"""
import random, time
from pathlib import Path
from lowrank.sampling.feeding import Completion

def start(serving, missing):
    def complete(requests):
        for number, request in enumerate(requests, start={COMPLETIONS} - missing):
            while number >= int(Path("allowed").read_text()):
                yield [], 0
                time.sleep(0.05)
            draw = random.Random(request.seed)
            ids = tuple(draw.randrange(5, 100) for _ in range(draw.randrange(1, 20)))
            yield [Completion(request.name, ids, "length")], 0
    return complete
"""


def make_undisturbed(folder: Path) -> Path:
    """The run on this machine that every other one has to equal."""
    case = make_case(folder / "case", samples=8)
    experiment = case / "experiments/tiny.yaml"
    subject = yaml.safe_load(experiment.read_text())
    subject["sampling"] |= {"threads": 1, "mem_mb": 1000, "runtime": 10}
    experiment.write_text(yaml.safe_dump(subject))
    (case / "scripts/engine.py").write_text(ENGINE)
    program = case / "scripts/sample.py"
    said = program.read_text().replace("sample(job(parse()))", "sample(job(parse()), engine.start)")
    program.write_text(f"import engine\n{said}")
    allow(case, COMPLETIONS)
    snakemake(case, "--cores", "1", SAMPLES)
    return case


def allow(case: Path, completions: int) -> None:
    (case / "new").write_text(str(completions))
    (case / "new").rename(case / "allowed")


def unsampled(undisturbed: Path, folder: Path, **sampling: object) -> Path:
    """A copy in which everything is left to be sampled, with other settings of sampling."""
    case = copy_case(undisturbed, folder / "case")
    for gone in ("tiny/samples", "tiny/logs/samples", "completions"):
        shutil.rmtree(case / "results" / gone)
    experiment = case / "experiments/tiny.yaml"
    subject = yaml.safe_load(experiment.read_text())
    subject["sampling"] |= sampling
    experiment.write_text(yaml.safe_dump(subject))
    allow(case, 0)
    return case


def made(case: Path) -> list[str]:
    """The key of every completion that the store holds, one a time it was made."""
    settings = (case / "results/completions").glob("*/")
    return [one.key for setting in settings for one in store.kept(setting)]


def wait_for(what: Callable, seconds: float = 300.0):
    """The first true thing that `what` gives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def go_on(case: Path, more: int = 3) -> None:
    """Allow some completions more, and wait until they are in the store."""
    there = len(made(case)) + more
    allow(case, there)
    wait_for(lambda: len(made(case)) == there)


def said(case: Path) -> str:
    """What Snakemake said."""
    return (case / "said.log").read_text()


def log(case: Path) -> str:
    """What all attempts of the job said."""
    return (case / "results/tiny/logs/samples/sft-1-of-1.log.all").read_text()


def check_end(case: Path, undisturbed: Path, run: subprocess.Popen) -> None:
    """Wait for the end of a run: complete, identical, none lost, none made twice."""
    assert run.wait(300) == 0, said(case)
    keys = made(case)
    assert len(keys) == len(set(keys)) == COMPLETIONS
    for name in (SAMPLES, SAMPLES.replace(".parquet", ".json")):
        assert (case / name).read_bytes() == (undisturbed / name).read_bytes()
