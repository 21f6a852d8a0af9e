"""SIGTERM to every process of a rule's job, as schedulers send it."""

import contextlib
import subprocess
import sys

import psutil
from slow_case import (
    COMPLETIONS,
    SAMPLES,
    allow,
    check_end,
    go_on,
    log,
    make_undisturbed,
    unsampled,
)

from lowrank.ending import MESSAGE


def test_a_sampling_job_says_its_last_words_and_goes_on(tmp_path):
    undisturbed = make_undisturbed(tmp_path / "undisturbed")
    case = unsampled(undisturbed, tmp_path)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--retries", "1", SAMPLES]
    with (case / "said.log").open("w") as said:
        run = subprocess.Popen(command, cwd=case, stdout=said, stderr=said)
    go_on(case)
    for process in psutil.Process(run.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    allow(case, COMPLETIONS)
    check_end(case, undisturbed, run)
    assert log(case).count(MESSAGE) == 1
    assert "non-zero exit status 143" in (case / "said.log").read_text()
