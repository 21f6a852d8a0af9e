"""Nobody makes a completion that another process is making, whatever locks a file system has."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lowrank.sampling import turns

SCRIPTS = Path(__file__).parents[2] / "scripts"
HOLDER = """
import fcntl, os, socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from lowrank.sampling import turns
def lockf(*_):
    if locks != "local":
        raise OSError(int(locks), "")
locks, host = sys.argv[4:6]
if locks != "real":
    fcntl.lockf = lockf
socket.gethostname = lambda: host or os.uname().nodename
turns.BEAT = 0.2
with turns.claimed(Path(sys.argv[2]), map(int, sys.argv[3].split(","))):
    print("held", flush=True)
    sys.stdin.readline()
"""
WITHOUT = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


def start(folder: Path, samples: str, locks: str = "real", host: str = "") -> subprocess.Popen:
    """A process that wants sample numbers of a setting, and keeps them until it is told a line.

    locks: real, local (granted to whoever asks), or the error that the file system answers with.
    """
    command = [sys.executable, "-c", HOLDER, SCRIPTS, folder, samples, locks, host]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def hold(folder: Path, samples: str, **kind: str) -> subprocess.Popen:
    """The same, once it has them."""
    process = start(folder, samples, **kind)
    assert process.stdout.readline() == "held\n"
    return process


def test_who_samples_the_same_waits_until_the_other_has_ended(tmp_path):
    with hold(tmp_path, "2,3") as other:
        with turns.claimed(tmp_path, [0, 1, 4]):  # another part of the same model
            assert turns.in_use(tmp_path)
        other.kill()  # the system gives the claim back
        with turns.claimed(tmp_path, [3, 4]):
            pass
    with hold(tmp_path, "7") as other, start(tmp_path, "7") as waiting:
        assert "waiting for it" in waiting.stderr.readline()
        other.kill()
        assert waiting.stdout.readline() == "held\n"
        waiting.communicate("\n")
    assert not turns.in_use(tmp_path)


@pytest.mark.parametrize("number", WITHOUT, ids=errno.errorcode.get)
def test_without_locks_a_second_process_waits_as_well(tmp_path, number):
    kind = {"locks": str(number)}
    with hold(tmp_path, "2,3", **kind) as other, start(tmp_path, "3,4", **kind) as waiting:
        assert "is sampling this model; waiting for it" in waiting.stderr.readline()
        other.communicate("\n")
        assert waiting.stdout.readline() == "held\n"
        waiting.communicate("\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_locks_that_each_machine_keeps_to_itself_are_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)
    with hold(tmp_path, "5", locks="local", host="elsewhere") as other:
        assert turns.in_use(tmp_path)
        with start(tmp_path, "5", locks="local", host="here") as waiting:
            assert "another process on elsewhere is sampling" in waiting.stderr.readline()
            other.communicate("\n")
            assert waiting.stdout.readline() == "held\n"
            waiting.communicate("\n")


def test_what_a_dead_machine_held_is_free_when_it_was_not_renewed_for_long(tmp_path):
    with hold(tmp_path, "5", host="elsewhere") as other:
        other.kill()
    assert turns.in_use(tmp_path)  # it could still live
    turn = tmp_path / "turn-5"
    renewed = turn.stat().st_mtime - turns.ENDED
    os.utime(turn, (renewed, renewed))
    assert not turns.in_use(tmp_path)
    with turns.claimed(tmp_path, [5]):
        pass
    assert not turn.exists()


def test_who_lost_a_turn_by_being_slow_says_so(tmp_path):
    with hold(tmp_path, "5") as slow:
        (tmp_path / "turn-5").write_text('"elsewhere 1 0"')
        assert "turn-5: was taken by another process" in slow.stderr.readline()
        slow.communicate("\n")
    assert (tmp_path / "turn-5").exists()  # the other's


CROWD = HOLDER.replace(
    'print("held", flush=True)\n    sys.stdin.readline()',
    """
    Path(sys.argv[2], "made").open("x").close()  # fails if anybody else is here
    os.unlink(Path(sys.argv[2], "made"))""",
)


def test_of_many_at_once_without_locks_one_has_the_turn(tmp_path):
    assert CROWD != HOLDER
    command = [sys.executable, "-c", CROWD, SCRIPTS, tmp_path, "0,1,2", str(errno.ENOLCK), ""]
    crowd = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    for process in crowd:
        said = process.communicate()[1]
        assert process.returncode == 0, said
