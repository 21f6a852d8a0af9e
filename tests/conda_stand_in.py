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
    clean*) ;;
    config*) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
    "env create --quiet --no-default-packages --file "*" --prefix "*)
        {python} -m venv "$8"
        "$8/bin/python" -m pip install --quiet "$(sed -n 's/  - pip=/pip==/p' "$6")" ;;
    *) echo "not known: conda $*" >&2; exit 2 ;;
esac
"""


def python_3_11() -> str | None:
    """The Python that the environments are made for, if this machine has it."""
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    found = shutil.which("python3.11")
    works = found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0
    return found if works else None


def make_conda(folder: Path, python: str) -> Path:
    """Write `conda`, and `activate` as Snakemake sources it; returns the folder for PATH."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    info = json.dumps({"conda_prefix": str(folder), "platform": "linux-64"})
    (programs / "conda").write_text(CONDA.format(info=info, python=python))
    (programs / "conda").chmod(0o755)
    (programs / "activate").write_text('. "$1/bin/activate"\n')
    return programs
