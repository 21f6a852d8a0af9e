"""A journal of finished completions, so that a killed sampling job loses seconds, not hours."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lowrank.errors import InputError

SYNC_SECONDS = 10.0

Key = tuple[str, int]  # (problem_id, sample)


@dataclass
class Journal:
    """Completions of one shard, one JSON line each, after a header that says what they are of.

    done: what is in it: (problem_id, sample) -> {"text", "tokens", "finish"}.
    runs: one entry a process that wrote to it: {"device": ..., "completions": ...}.
    """

    path: Path
    file: IO[bytes]
    done: dict[Key, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    synced: float = field(default_factory=time.monotonic)

    def begin_run(self, device: str) -> None:
        """Note that a new process goes on from here, on `device`."""
        self._append({"run": {"device": device}})
        self.runs.append({"device": device, "completions": 0})

    def add(self, key: Key, text: str, tokens: int, finish: str) -> None:
        """Append a completion. It is with the operating system at once (a kill -9 cannot take it
        back) and on the disk after at most SYNC_SECONDS of further calls to `add` or `sync`."""
        row = {"text": text, "tokens": tokens, "finish": finish}
        self._append({"problem_id": key[0], "sample": key[1], **row})
        self.done[key] = row
        self.runs[-1]["completions"] += 1

    def sync(self, every: float = SYNC_SECONDS) -> None:
        """Force the file to the disk, if that was last done `every` seconds ago or earlier."""
        if time.monotonic() - self.synced >= every:
            os.fsync(self.file.fileno())
            self.synced = time.monotonic()

    def remove(self) -> None:
        """Delete the journal: the table holds everything now."""
        self.path.unlink(missing_ok=True)

    def _append(self, line: dict[str, Any]) -> None:
        # ASCII, so that a lone surrogate or a null byte in a completion cannot break the file.
        self.file.write(json.dumps(line).encode("ascii") + b"\n")
        self.file.flush()
        self.sync()


@contextmanager
def open_journal(path: str | Path, digest: str) -> Iterator[Journal]:
    """The journal at `path` for completions whose `digest` (of all that determines them) is given.

    One with another digest is set aside as `<name>.stale`, with a line on stderr; what follows
    the last whole line (a process killed while writing) is cut off.
    InputError if another process has it open.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _open_alone(path)
    try:
        header, rows, whole = _read(file)
        if header is not None and header.get("digest") != digest:
            stale = path.with_name(path.name + ".stale")
            print(
                f"{path}: of another model, prompt, parameter or version; set aside as"
                f" {stale.name}, sampling begins anew",
                file=sys.stderr,
                flush=True,
            )
            os.replace(path, stale)
            file.close()
            file = _open_alone(path)
            header, rows, whole = None, [], 0
        file.truncate(whole)
        file.seek(whole)
        journal = Journal(path, file)
        if header is None:
            journal._append({"digest": digest})
        for row in rows:
            if "run" in row:
                journal.runs.append({"device": row["run"]["device"], "completions": 0})
                continue
            key = (row.pop("problem_id"), row.pop("sample"))
            journal.done[key] = row
            journal.runs[-1]["completions"] += 1
        yield journal
        journal.sync(every=0)
    finally:
        file.close()


def _open_alone(path: Path) -> IO[bytes]:
    """Open for reading and appending, locked; the system unlocks on any exit, kill -9 too."""
    file = path.open("a+b")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InputError(
            f"{path}: another process is sampling this shard; wait for it or end it"
        ) from None
    except (ImportError, OSError):
        pass  # a file system without locks: the workflow's own lock has to do
    return file


def _read(file: IO[bytes]) -> tuple[dict[str, Any] | None, list[dict[str, Any]], int]:
    """Header, rows and length in bytes of the part of a journal that is whole."""
    file.seek(0)
    header, rows, whole = None, [], 0
    for line in file.read().splitlines(keepends=True):
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            row = None
        if not isinstance(row, dict):
            break
        if header is None:
            if "digest" not in row:
                break
            header = row
        elif "run" in row or (rows and row.keys() >= {"problem_id", "sample", "text", "tokens"}):
            rows.append(row)
        else:
            break
        whole += len(line)
    return header, rows, whole
