"""Locks of processes, of several users, that no file left behind by anybody can break."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lowrank import locks
from lowrank.errors import InputError

OTHER = 65534  # a user that owns nothing
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="of several users: run make test as root")


@pytest.fixture
def folder(monkeypatch):
    """A folder for locks that others can reach, too."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        monkeypatch.setenv(locks.LOCKS, f"{made}/locks")
        yield Path(made) / "locks"


def in_child(action, user: int | None = None, umask: int = 0o22) -> object:
    """What `action` returns (or the error it raises) in a process of its own, as another user."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.umask(umask)
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        try:
            said = repr(action())
        except InputError as error:
            said = f"InputError: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        return answer.read()


def taken() -> bool:
    return locks.take("one") is not None


def test_a_lock_is_one_processs_at_a_time(folder):
    held = locks.take("one")
    assert in_child(taken) == "False"
    assert in_child(lambda: locks.take("another") is not None) == "True"
    locks.give(held)
    assert in_child(taken) == "True"


def test_a_child_neither_keeps_nor_drops_a_lock(folder):
    held = locks.take("one")
    child = os.fork()
    if child == 0:
        os.execvp("sleep", ["sleep", "60"])
    forked = os.fork()
    if forked == 0:
        os.read(os.pipe()[0], 1)  # lives until it is killed
    assert in_child(taken) == "False"
    locks.give(held)
    try:
        assert in_child(taken) == "True"
    finally:
        for process in (child, forked):
            os.kill(process, 9)
            os.waitpid(process, 0)


def test_a_child_that_ends_leaves_the_lock_to_its_parent(folder):
    held = locks.take("one")
    in_child(lambda: None)
    subprocess.run(["true"], check=True)
    assert in_child(taken) == "False"
    locks.give(held)


def test_a_lock_file_that_was_removed_meanwhile_is_no_lock(folder, monkeypatch):
    """Between opening and locking: who came later would lock another file."""
    opened, removed = locks._opened, []

    def and_removed(path):
        file = opened(path)
        if not removed:
            removed.append(path)
            path.unlink()
        return file

    monkeypatch.setattr(locks, "_opened", and_removed)
    held = locks.take("one")
    assert removed
    assert in_child(taken) == "False"
    locks.give(held)


@needs_root
@pytest.mark.parametrize("umask", [0o077, 0o777, 0o000])
def test_users_lock_one_anothers_files(folder, umask):
    assert in_child(taken, umask=umask) == "True"
    made = locks.path_of("one")
    assert made.stat().st_mode & 0o777 == 0o666
    assert folder.stat().st_mode & 0o7777 == 0o1777
    held = locks.take("one")
    assert in_child(taken, user=OTHER) == "False"
    locks.give(held)
    assert in_child(taken, user=OTHER) == "True"


@needs_root
def test_a_file_that_may_only_be_read_is_enough(folder):
    in_child(taken)
    locks.path_of("one").chmod(0o444)
    assert in_child(taken, user=OTHER) == "True"


@needs_root
def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    monkeypatch.setattr(locks, "MAKING", 0.0)
    in_child(taken)
    locks.path_of("one").chmod(0o600)
    said = in_child(taken, user=OTHER)
    assert said.startswith(f"InputError: {locks.path_of('one')}: cannot be opened")
    assert locks.LOCKS in said


def test_a_link_is_not_followed(folder, tmp_path):
    target = tmp_path / "precious"
    target.write_text("kept")
    folder.mkdir(parents=True)
    locks.path_of("one").symlink_to(target)
    with pytest.raises(InputError, match="cannot be opened"):
        locks.take("one")
    locks.path_of("two").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be"):
        locks.take("two")
    assert target.read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_file_is_named_and_not_waited_for(folder):
    folder.mkdir(parents=True)
    os.mkfifo(locks.path_of("one"))
    with pytest.raises(InputError, match="no plain file"):
        locks.take("one")
    locks.path_of("two").mkdir()
    with pytest.raises(InputError, match="two"):
        locks.take("two")


def test_a_folder_that_cannot_be_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(locks.LOCKS, str(tmp_path / "file/locks"))
    with pytest.raises(InputError, match=locks.LOCKS):
        locks.take("one")
    monkeypatch.setenv(locks.LOCKS, str(tmp_path / "file"))
    with pytest.raises(InputError, match=locks.LOCKS):
        locks.take("one")


def test_names_become_plain_file_names(folder):
    path = locks.path_of("MIG-GPU-12/../7/0")
    assert path.parent == folder
    assert "/" not in path.name


def test_the_default_is_a_folder_of_everyones(monkeypatch, tmp_path):
    monkeypatch.delenv(locks.LOCKS, raising=False)
    private, shared = tmp_path / "private", tmp_path / "shared"
    private.mkdir(mode=0o755)
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(locks, "FOLDERS", (str(tmp_path / "none"), str(private), str(shared)))
    assert locks.folder() == shared


@pytest.mark.skipif(sys.platform != "linux", reason="of /proc: Linux")
def test_who_holds_a_lock_is_said(folder):
    assert locks.holder("one") == "another process"
    held = locks.take("one")
    said = locks.holder("one")
    assert said.startswith(f"process {os.getpid()} of ")
    assert ", for " in said
    locks.give(held)
