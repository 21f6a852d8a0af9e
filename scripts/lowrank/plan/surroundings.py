"""The environment variables that jobs inherit from the user."""

import os
import shutil
import sys
from pathlib import Path

from lowrank.errors import InputError


def shield(deployed: bool = False) -> None:
    """Make the rules run the `python` that runs this, without the user's own Python settings.

    Puts its folder first on PATH and removes PYTHON* and MPLBACKEND. Without this, a Snakemake that
    is called by its path, its environment not activated, would find no `python`, or another one.
    Conda environments (--sdm) still come first; with them (deployed), and in a container, what the
    user installed in the home folder for the same version of Python stays out.
    InputError if there is no `python` beside the running one.
    """
    folder = str(Path(sys.executable).parent)
    if not shutil.which("python", path=folder):
        raise InputError(
            f"rules run `python`, and {folder} has none; run Snakemake from an environment"
        )
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", os.defpath)
    for name in list(os.environ):
        if name.startswith("PYTHON") or name == "MPLBACKEND":
            del os.environ[name]
    if deployed:
        os.environ["PYTHONNOUSERSITE"] = "1"
