"""SIGTERM: a program ends at once with a sentence, or where its work is kept."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lowrank import ending
from lowrank.errors import run

SCRIPTS = Path(__file__).parent.parent / "scripts"


def interrupted(body: str) -> subprocess.CompletedProcess:
    """Run a program's `main`, and send SIGTERM when it says "now"."""
    program = f"""
import os, signal, sys, time
sys.path.insert(0, {str(SCRIPTS)!r})
from lowrank import ending
from lowrank.errors import run, run_and_leave
{body}
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline() == "now\n"
        p.terminate()
        out, err = p.communicate()
    return subprocess.CompletedProcess(command, p.returncode, out, err)


@pytest.mark.parametrize("leave", ["sys.exit(run(main))", "run_and_leave(main)"])
def test_a_program_ends_with_a_sentence_and_puts_away_what_it_holds(leave):
    done = interrupted(f"""
def main():
    try:
        print("now", flush=True)
        time.sleep(60)
    finally:
        print("put away")
{leave}
""")
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == f"{ending.MESSAGE}\n"
    assert done.stdout == "put away\n"


def test_a_second_signal_does_not_disturb_the_end():
    done = interrupted("""
def main():
    try:
        print("now", flush=True)
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("put away")
sys.exit(run(main))
""")
    assert (done.returncode, done.stdout) == (ending.STATUS, "put away\n")


def test_held_back_it_ends_a_program_only_where_that_may_end():
    done = interrupted("""
def main():
    with ending.held() as may_end:
        print("now", flush=True)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            time.sleep(0.1)
        print("kept")
        may_end()
        print("never")
sys.exit(run(main))
""")
    assert (done.returncode, done.stdout) == (ending.STATUS, "kept\n")


@pytest.mark.parametrize("fails", [False, True])
def test_held_back_it_ends_a_program_with_the_block(fails):
    """An error of that moment is its doing: a scheduler ends an engine's other processes, too."""

    def work():
        with ending.listening(), ending.held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            if fails:
                raise RuntimeError("a worker died")

    with pytest.raises(ending.Ended):
        work()


def test_a_forked_child_ends_as_ever():
    def main():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM

    assert run(main) == 0


def test_afterwards_it_is_as_it_was():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ending.Ended), ending.listening():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    with ending.held() as may_end:
        may_end()


@pytest.mark.parametrize("program", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_every_program_listens(program):
    assert program.read_text().rstrip().endswith(("sys.exit(run(main))", "run_and_leave(main)"))
