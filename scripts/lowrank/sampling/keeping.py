"""What the store of completions holds, who asks for it, and what may go.

An experiment asks for a setting if a table of its samples was made of it: the table's provenance
names it. Nothing is removed here but whole settings that no table names, and only when told.
"""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowrank.errors import InputError
from lowrank.files import read_json
from lowrank.plan.layout import provenances
from lowrank.sampling.store import SETTING, digest, kept
from lowrank.sampling.turns import in_use


@dataclass(frozen=True)
class Setting:
    """One folder of the store.

    completions: how many different ones; twice: how many were made a second time.
    size: bytes on the disk. versions: of the engines that made them. asked_by: experiments.
    unasked: completions that none of their tables holds, though the setting is asked for.
    """

    folder: Path
    model: str
    completions: int
    twice: int
    tokens: int
    size: int
    versions: tuple[str, ...]
    asked_by: tuple[str, ...]
    unasked: int


def settings(store: Path, results: Path) -> list[Setting]:
    """Every setting in the store, by name; results: folder of the experiments' folders.

    InputError if there is no store.
    """
    if not store.is_dir():
        raise InputError(f"{store}: no such folder; give the store that sample.py was given")
    tables = _tables(results)
    return [_setting(path.parent, tables) for path in sorted(store.glob(f"*/{SETTING}"))]


def _tables(results: Path) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """(experiment, provenance) of every table of samples, by the setting it was made of."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for path in provenances(results):
        said = read_json(path)
        if isinstance(said, dict) and "store" in said:
            experiment = path.relative_to(results).parts[0]
            found.setdefault(said["store"]["setting"], []).append((experiment, said))
    return found


def _setting(folder: Path, tables: dict[str, list[tuple[str, dict[str, Any]]]]) -> Setting:
    content = read_json(folder / SETTING)
    asking = tables.get(digest(content), [])
    asked = {
        (said["benchmark"]["name"], problem, sample)
        for _, said in asking
        for problem in said["prompt"]["ids_sha256"]
        for sample in range(
            said["part"]["part"] - 1, said["part"]["samples"], said["part"]["parts"]
        )
    }
    seen: Counter[str] = Counter()
    versions: set[str] = set()
    tokens = unasked = 0
    for one in kept(folder):
        seen[one.key] += 1
        versions.add(", ".join(f"{name} {v}" for name, v in sorted(one.run.versions.items())))
        if seen[one.key] == 1:
            tokens += len(one.ids)
            unasked += (one.benchmark, one.problem_id, one.sample) not in asked
    return Setting(
        folder=folder,
        model=content.get("model", {}).get("name", "?"),
        completions=len(seen),
        twice=seen.total() - len(seen),
        tokens=tokens,
        size=sum(path.stat().st_size for path in folder.iterdir()),
        versions=tuple(sorted(versions)),
        asked_by=tuple(dict.fromkeys(experiment for experiment, _ in asking)),
        unasked=unasked,
    )


def prune(found: list[Setting]) -> list[Setting]:
    """Remove every setting that no table asks for and no process is sampling; returns them."""
    gone = []
    for setting in found:
        if not setting.asked_by and not in_use(setting.folder):
            shutil.rmtree(setting.folder)
            gone.append(setting)
    return gone
