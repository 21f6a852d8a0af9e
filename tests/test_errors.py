"""What a program says of a wrong option or file: one line, and a status."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from lowrank.errors import run

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.mark.parametrize(
    ("program", "option"),
    [
        ("delta_svd", "--threads"),
        ("build_adapter", "--threads"),
        ("build_adapter", "--rank"),
        ("build_variant", "--threads"),
    ],
)
@pytest.mark.parametrize("value", ["0", "-1", "2.5", "many"])
def test_counts_are_whole_numbers_from_one(program, option, value):
    command = [sys.executable, SCRIPTS / f"{program}.py", f"{option}={value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"argument {option}: {value!r} is no whole number from 1" in done.stderr


def test_a_missing_folder_is_one_line(tmp_path):
    options = ["--base", tmp_path, "--derivative", tmp_path, "--output", tmp_path / "out"]
    command = [sys.executable, SCRIPTS / "delta_svd.py", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the quota on this disk is full"),
        (errno.EROFS, "nothing can be written on this disk"),
        (errno.EACCES, "this is not permitted"),
    ],
)
def test_what_a_disk_refuses_is_one_line(capsys, refused, why):
    def write():
        raise OSError(refused, "in the library's words", "results/a.parquet")

    assert run(write) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: results/a.parquet: {why}; ")
    assert said.count("\n") == 1


def test_what_no_disk_refused_is_no_sentence_of_ours():
    def write():
        raise OSError(errno.ECHILD, "a fault of the program")

    with pytest.raises(OSError, match="a fault of the program"):
        run(write)
