"""Digests of what a result was made from: a program's own code, a local source's content.

Rules carry them as params, so that Snakemake reruns a job when the content changed and leaves
it alone when only file times did (a fresh clone, a touched file).
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from lowrank.errors import InputError
from lowrank.places import ROOT

# Files up to this many bytes are hashed whole; of larger ones, evenly spaced blocks are.
WHOLE = 32 * 2**20
BLOCK = 2**20
BLOCKS = 16


def code_digest(program: str | Path) -> str:
    """Digest of a program and of every module beside it that it imports, directly or not.

    program: a Python file, relative to the workflow's folder; imports are resolved in its own
    folder, wherever in the file they stand, and modules found elsewhere (torch, pandas) are left
    to the environment's versions.
    """
    program = ROOT / program
    folder = program.parent
    digest = hashlib.sha256()
    for path in sorted(closure(program)):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def closure(program: Path) -> set[Path]:
    """A program and the files of its own folder that it imports, transitively."""
    folder = program.parent
    seen: set[Path] = set()
    waiting = [program]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _imports(path.read_bytes()):
            module = folder.joinpath(*name.split("."))
            for candidate in (module.with_suffix(".py"), module / "__init__.py"):
                if candidate.is_file():
                    waiting.append(candidate)
    return seen


@cache
def _imports(code: bytes) -> list[str]:
    """Dotted names that may be modules: `from a import b` gives both a and a.b."""
    names = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def source_digest(*files: str | Path) -> str:
    """Digest of the content of local files, by names and bytes, never by times.

    Files above 32 MiB (weights) are sampled, size and 16 evenly spaced blocks of 1 MiB, so
    that planning stays quick with local checkpoints of many gigabytes; the fetched copy's
    manifest has the full hash of every file. "missing" if one does not exist; InputError if one
    cannot be read.
    """
    paths = [Path(file) for file in files]
    if not all(path.exists() for path in paths):
        return "missing"
    digest = hashlib.sha256()
    for path in sorted(paths):
        state = path.stat()
        digest.update(f"{path.name}\0{state.st_size}\0".encode())
        try:
            digest.update(_content(path.absolute(), state.st_size, state.st_mtime_ns))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()[:16]


@cache
def _content(path: Path, size: int, changed: int) -> bytes:
    """What stands for a file's bytes; read once in a process unless its size or time changes."""
    with path.open("rb") as content:
        if size <= WHOLE:
            return hashlib.file_digest(content, "sha256").digest()
        digest = hashlib.sha256()
        for i in range(BLOCKS):
            content.seek(i * (size - BLOCK) // (BLOCKS - 1))
            digest.update(content.read(BLOCK))
        return digest.digest()
