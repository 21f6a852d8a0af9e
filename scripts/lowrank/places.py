"""Where things lie: what ships with the workflow, and what is the user's.

Programs, environments, schemas, templates and the embedded models lie beside the Snakefile;
results, config.yaml and a user's experiments lie in the working directory. In a clone that is run
where it lies both are one folder. They are two with `snakemake --directory` or `--snakefile`, and
where another workflow uses this one as a module.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lowrank.errors import InputError

# The folder of the Snakefile.
ROOT = Path(__file__).resolve().parents[2]


def locate(path: str | Path, root: Path = ROOT) -> Path:
    """What an experiment file names: in the working directory, else beside the Snakefile.

    Raises InputError, naming both folders, if it is in neither.
    """
    for place in (Path(path), root / path):
        if place.exists():
            return place
    if Path(path).is_absolute():
        raise InputError(f"{path}: no such file or folder")
    raise InputError(
        f"{path}: no such file or folder in {Path.cwd()} (the working directory)"
        + (f" or in {root} (the workflow's)" if root != Path.cwd() else "")
    )


def shipped(path: str) -> Callable[[Any, Any], str]:
    """A rule's param: the full path of a file that ships with the workflow.

    A function of the output although it uses none of it: Snakemake leaves such params out when it
    asks whether a job's params changed, so a workflow that was moved runs nothing again.
    """
    return lambda wildcards, output: str(ROOT / path)
