"""Command lines of the rules: keys and values as flags of a program."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path


def flags(values: Mapping[str, object]) -> str:
    """Keys and values as quoted command-line flags, by name; None, False and [] are left out.

    By name, so that the order of keys in a file changes no command and runs no job again.
    """
    words: list[str] = []
    for key, value in sorted(values.items()):
        flag = f"--{key.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, list):
            words += [flag, *map(str, value)] if value else []
        elif value is not None and value is not False:
            words.append(f"{flag}={value}")
    return shlex.join(words)


def folder_flag(name: str, files: Iterable[str | Path]) -> str:
    """The folder of the file that stands for something, as a flag; nothing without a file."""
    return flags({name: [str(Path(file).parent) for file in files]})
