"""The store of completions: what an engine made once is kept, and never made again.

It lies beside the experiments and belongs to no rule: whatever makes a sampling job run again, the
completions are still there. One folder a setting (all that a completion depends on but its prompt,
its seed and its length limit):

    completions/<model>-<digest of the setting>/
        setting.json                     the setting, to be read
        <time>-<host>-<process>-<random>.jsonl.gz

Every process writes a file of its own, whose name no other process can choose. A file is a row of
gzip members (RFC 1952), one a block of finished completions, one JSON object each; gzip's CRC-32
is the block's checksum, and `zcat` shows the whole. A block that is damaged or was not written to
its end is left out and said; those before and behind it count.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import socket
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from lowrank.errors import InputError
from lowrank.files import read_json, write_json
from lowrank.plan.checkpoint_files import INDEX, SINGLE

SETTING = "setting.json"
SUFFIX = ".jsonl.gz"
SYNC_SECONDS = 10.0
GZIP = b"\x1f\x8b\x08"  # how every gzip member begins
GZIP_FORMAT = 31  # zlib's word for a gzip member with the largest window
PIECE = 1 << 16  # bytes given to the decompressor at a time


@dataclass(frozen=True)
class Run:
    """The process that made a completion.

    device: what the processor calls itself. versions: of the engine and what it stands on.
    tokenizer: digest of the tokenizer that wrote the text.
    """

    device: str
    versions: dict[str, str]
    tokenizer: str


@dataclass(frozen=True)
class Kept:
    """One completion in the store.

    key: what it is of beside the setting, see `completion_key`. benchmark, problem_id, sample:
    what it was made for. ids: generated token ids, int32. finish: stop | length.
    """

    key: str
    benchmark: str
    problem_id: str
    sample: int
    ids: np.ndarray
    text: str
    finish: str
    run: Run


def digest(content: Any) -> str:
    """SHA-256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def served(name: str) -> bool:
    """Whether a file of a model's or an adapter's folder decides its completions."""
    weights = name.endswith((".safetensors", ".safetensors.index.json"))
    return weights or name in ("config.json", "adapter_config.json")


def served_digest(hashes: dict[str, str]) -> str:
    """A digest of what a folder serves; hashes: SHA-256 of its files, by name.

    Of a single file of weights no loader reads the index.
    """
    passed_over = {INDEX} if SINGLE in hashes else set()
    return digest(
        {name: h for name, h in hashes.items() if served(name) and name not in passed_over}
    )


def completion_key(prompt_digest: str, seed: int, max_tokens: int) -> str:
    """What a completion is of within a setting: its prompt, its seed and its length limit."""
    return digest([prompt_digest, seed, max_tokens])


def setting_folder(store: str | Path, model: str, setting: dict[str, Any]) -> Path:
    """Where the completions of a setting lie; made, with its setting.json, if it is new.

    InputError if the folder cannot be written, or holds another setting under the same digest.
    """
    name = re.sub(r"[^\w.-]", "_", model)
    folder = Path(store) / f"{name}-{digest(setting)[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SETTING).is_file():
            write_json(folder / SETTING, setting)
    except OSError as error:
        raise InputError(
            f"{folder}: completions cannot be kept there ({error.strerror}); make it writable, or"
            " name another place for the store"
        ) from None
    found = read_json(folder / SETTING)
    if found != json.loads(json.dumps(setting)):
        raise InputError(
            f"{folder / SETTING}: is not the setting that the folder is named after; it was"
            " edited, put it back or move the folder away"
        )
    return folder


def what_differs(folder: Path, setting: dict[str, Any]) -> str | None:
    """How a setting without completions differs from the most alike one of its model that has some.

    None if this one has some, or no other has.
    """
    if any(folder.glob(f"*{SUFFIX}")):
        return None
    model = folder.name.rpartition("-")[0]
    differences: list[list[str]] = []
    for path in sorted(folder.parent.glob(f"{model}-*/{SETTING}")):
        if path.parent != folder and any(path.parent.glob(f"*{SUFFIX}")):
            here, there = _flat(setting), _flat(read_json(path))
            keys = sorted(k for k in {*here, *there} if here.get(k) != there.get(k))
            differences.append([f"{k}: {there.get(k)} there, {here.get(k)} here" for k in keys])
    if not differences:
        return None
    fewest = min(differences, key=len)
    return "; ".join(fewest)


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


@dataclass
class Segment:
    """The file of one process: blocks are appended, nothing is ever changed."""

    path: Path
    run: Run
    file: FileIO
    synced: float = field(default_factory=time.monotonic)

    def add(self, completions: Iterable[Kept]) -> None:
        """Append a block. It is with the operating system at once (a kill -9 cannot take it back)
        and on the disk after at most SYNC_SECONDS of further calls to `add` or `sync`."""
        rows = [
            {
                "key": made.key,
                "benchmark": made.benchmark,
                "problem_id": made.problem_id,
                "sample": made.sample,
                "finish": made.finish,
                # Four bytes an id: a number in decimal would be a Python object when it is read.
                "ids": base64.b64encode(made.ids.astype("<i4").tobytes()).decode("ascii"),
                "text": made.text,
            }
            for made in completions
        ]
        if not rows:
            return
        # ASCII, so that a lone surrogate or a null byte in a completion cannot break the file.
        line = json.dumps({"run": vars(self.run), "completions": rows}) + "\n"
        packer = zlib.compressobj(6, zlib.DEFLATED, GZIP_FORMAT)
        block = packer.compress(line.encode("ascii")) + packer.flush()
        before = self.file.tell()
        try:
            left = memoryview(block)
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            self.file.truncate(before)
            raise InputError(
                f"{self.path}: {error.strerror}; what was finished before is kept, free some"
                " space and run it again"
            ) from None
        self.sync()

    def sync(self, every: float = SYNC_SECONDS) -> None:
        """Force the file to the disk, if that was last done `every` seconds ago or earlier."""
        if time.monotonic() - self.synced >= every:
            os.fsync(self.file.fileno())
            self.synced = time.monotonic()


@contextmanager
def segment(folder: Path, run: Run) -> Iterator[Segment]:
    """A new file in a setting's folder; removed again if nothing was added."""
    host = re.sub(r"[^\w-]", "_", socket.gethostname())
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{host}-{os.getpid()}"
    path = folder / f"{name}-{secrets.token_hex(4)}{SUFFIX}"
    with path.open("xb", buffering=0) as file:
        opened = Segment(path, run, file)
        try:
            yield opened
        finally:
            if file.tell() == 0:
                path.unlink()
            else:
                opened.sync(every=0)


def kept(folder: Path) -> Iterator[Kept]:
    """Every completion of a setting, the oldest file first, damaged blocks left out and said."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        yield from _completions(path)


def _completions(path: Path) -> Iterator[Kept]:
    for start, block in _blocks(path):
        try:
            content = json.loads(block)
            run = Run(**content["run"])
            rows = [
                Kept(**{**row, "ids": np.frombuffer(base64.b64decode(row["ids"]), "<i4")}, run=run)
                for row in content["completions"]
            ]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            _say(f"{path}: the block at byte {start} is not one of this store ({error}); left out")
            continue
        yield from rows


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """(first byte, content) of every whole gzip member of a file; what is between them is said."""
    data = path.read_bytes()
    start, damaged = 0, None
    while start < len(data):
        whole = _member(data, start)
        if whole is not None:
            content, end = whole
            if damaged is not None:
                _say(f"{path}: bytes {damaged} to {start - 1} are damaged; what they held is lost")
                damaged = None
            yield start, content
            start = end
            continue
        damaged = start if damaged is None else damaged
        start = data.find(GZIP, start + 1)
        if start < 0:
            break
    if damaged is not None:
        _say(
            f"{path}: {len(data) - damaged} bytes at the end are not whole: damaged, or a process"
            " was stopped while it wrote; what they held counts as not made"
        )


def _member(data: bytes, start: int) -> tuple[bytes, int] | None:
    """Content and end of the gzip member that begins at `start`; None if none is whole there."""
    unpacker = zlib.decompressobj(GZIP_FORMAT)
    parts, position = [], start
    try:
        while not unpacker.eof:
            piece = data[position : position + PIECE]
            if not piece:
                return None
            parts.append(unpacker.decompress(piece))
            position += len(piece)
    except zlib.error:
        return None
    return b"".join(parts), position - len(unpacker.unused_data)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
