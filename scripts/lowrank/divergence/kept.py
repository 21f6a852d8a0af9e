"""What was read once is kept: a file a completion, in a folder that no rule owns.

Snakemake removes the outputs of a job that runs again or failed. These files lie beside them and
are named by a digest of all that they depend on, so that a job that was stopped goes on, and one
that runs again for more samples or edited code reads only what is new.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lowrank.sampling.store import digest

NAME = re.compile(r"[0-9a-f]{32}\.(parquet|safetensors|json)")
HALF_WRITTEN = re.compile(r"\.[0-9a-f]{32}\.\d+\.tmp\.(parquet|safetensors|json)")


def key(determinants: Any) -> str:
    """The name of what depends on these alone."""
    return digest(determinants)[:32]


def forget_others(folder: Path, wanted: Iterable[Path]) -> None:
    """Remove what a folder keeps and nobody asks for any more, and what a killed writer left."""
    keep = {path.name for path in wanted}
    for path in folder.iterdir():
        if (NAME.fullmatch(path.name) and path.name not in keep) or HALF_WRITTEN.fullmatch(
            path.name
        ):
            path.unlink()
