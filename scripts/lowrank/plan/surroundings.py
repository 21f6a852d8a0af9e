"""What the user's own settings must not change."""

import os
import shutil
import sys
from pathlib import Path

from lowrank.errors import InputError


def shield() -> None:
    """Have the rules' `python` be the one that runs this, and nothing of the user's change it.

    A conda environment that --sdm activates comes before it. Without this a Snakemake that is
    called by its path, its environment not activated, would find no `python` or another one.
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
