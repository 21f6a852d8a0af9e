"""A stand-in for conda, which Snakemake calls: its environments are virtual ones, with pip."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

CONDA = """\
#!/bin/sh
set -eu
case "$*" in
    --version) echo conda 24.11.0 ;;
    "info --json") echo '{info}' ;;
    config*) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
    clean*) ;;
    "env create --quiet --no-default-packages --file "*" --prefix "*)
        {empty}/bin/python -m venv --without-pip "$8"
        cp -R {packages}/pip* "$8/lib/python3.11/site-packages" ;;
    *) echo "not known: conda $*" >&2; exit 2 ;;
esac
"""


def python_3_11() -> str | None:
    """The Python that the environments are made for, if this machine has it."""
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    found = shutil.which("python3.11")
    works = found and subprocess.run([found, "-m", "ensurepip", "--version"]).returncode == 0
    return found if works else None


def make_conda(folder: Path, python: str, pip: str) -> Path:
    """Write `conda`, and `activate` as Snakemake sources it; returns the folder for PATH.

    pip: its version. Environments get a copy of one that is installed here, which spares seconds.
    Raises subprocess.CalledProcessError, with what pip said, if it cannot be had.
    """
    programs, empty = folder / "bin", folder / "empty"
    programs.mkdir(parents=True)
    subprocess.run([python, "-m", "venv", empty], check=True)
    update = [empty / "bin/python", "-m", "pip", "install", "--quiet", "--retries", "1"]
    subprocess.run(
        [*update, f"pip=={pip}"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    info = json.dumps({"conda_prefix": str(folder), "platform": "linux-64"})
    packages = empty / "lib/python3.11/site-packages"
    (programs / "conda").write_text(CONDA.format(info=info, empty=empty, packages=packages))
    (programs / "conda").chmod(0o755)
    (programs / "activate").write_text('. "$1/bin/activate"\n')
    return programs
