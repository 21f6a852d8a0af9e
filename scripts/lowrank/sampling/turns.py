"""Whose turn it is to make a sample number of a setting: no completion is to be made twice.

Two means, as no file system can be relied on for either alone:

- One byte of the file `lock` stands for one sample number, locked by fcntl. The system gives it
  back when the process ends, however it ends. NFS and Lustre know such locks, or refuse them, or
  keep each to its own machine, depending on how they are mounted.
- A file a sample number, `turn-7`, which only one process can create (O_EXCL, which NFS has had
  since its version 3), and whose time its process renews. It is believed where the lock cannot
  tell: of another machine, or where there are no locks.

Neither can lose a completion: every process writes to a file of its own (lowrank.sampling.store).
"""

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

LOCK = "lock"
TURN = "turn-"
BEAT = 10.0  # seconds after which a process renews its files
# Seconds without renewal after which a process counts as ended: NFS may show times a minute old.
ENDED = 150.0
POLL = 0.5
SAY = 60.0  # seconds between two lines about waiting


@contextmanager
def claimed(folder: Path, samples: Iterable[int]) -> Iterator[None]:
    """Hold the right to make these sample numbers of a setting; wait while another process has it.

    What a process that was killed held is free at once for processes of its machine, if the file
    system has locks, else after ENDED seconds.
    """
    me = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
    turns: list[Path] = []
    over = threading.Event()
    # Kept open: a process loses its locks on a file when it closes any of its handles on it.
    with (folder / LOCK).open("ab") as file:
        renewing = threading.Thread(target=_renew, args=(turns, me, over), daemon=True)
        renewing.start()
        try:
            for sample in sorted(set(samples)):
                turns.append(_wait(folder, file, sample, me))
            yield
        finally:
            over.set()
            renewing.join()
            for turn in turns:
                if _holder(turn) == me:
                    turn.unlink(missing_ok=True)


def in_use(folder: Path) -> bool:
    """Whether a process has claimed samples of a setting."""
    with (folder / LOCK).open("ab") as file:
        locked = _lock(file)
    return locked is False or any(_lives(turn, bool(locked)) for turn in folder.glob(f"{TURN}*"))


def _wait(folder: Path, file: BufferedWriter, sample: int, me: str) -> Path:
    """Wait for a sample number's turn and take it; returns its file."""
    turn, said = folder / f"{TURN}{sample}", float("-inf")
    while True:
        locked = _lock(file, sample)
        if locked is not False and _take(turn, me, bool(locked)):
            return turn
        if time.monotonic() - said >= SAY:
            said = time.monotonic()
            who = (_holder(turn) or "").partition(" ")[0]
            _say(
                f"{folder}: another process{' on ' * bool(who)}{who} is sampling this model;"
                " waiting for it"
            )
        time.sleep(POLL)


def _lock(file: BufferedWriter, sample: int | None = None) -> bool | None:
    """Lock a sample number's byte, or all: True if done, False if another has it, None without."""
    try:
        import fcntl

        length, start = (0, 0) if sample is None else (1, sample)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
    except (BlockingIOError, PermissionError):
        return False
    except (ImportError, OSError):  # ENOLCK, ENOSYS, EOPNOTSUPP: no locks here
        return None
    return True


def _take(turn: Path, me: str, locked: bool) -> bool:
    """Create a sample number's file, in the place of one whose process has ended."""
    if turn.exists() and not _lives(turn, locked):
        # Of two that find this, one moves it.
        aside = turn.with_name(f".{turn.name}-{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            turn.rename(aside)
            aside.unlink()
    try:
        with turn.open("x", encoding="utf-8") as file:
            json.dump(me, file)
    except FileExistsError:
        return False
    return True


def _lives(turn: Path, locked: bool) -> bool:
    """Whether the process that holds a sample number still runs, as far as can be told.

    locked: whether this process holds the number's lock, which nobody else on this machine does.
    """
    host = (_holder(turn) or "").partition(" ")[0]
    if locked and host == socket.gethostname():
        return False
    try:
        renewed = turn.stat().st_mtime
        # The file system's own time: clocks of machines differ.
        os.utime(turn.with_name(LOCK))
        return turn.with_name(LOCK).stat().st_mtime - renewed < ENDED
    except FileNotFoundError:
        return False


def _renew(turns: list[Path], me: str, over: threading.Event) -> None:
    """Renew the files of a process until it is over; say so if one was taken."""
    taken: set[Path] = set()
    while not over.wait(BEAT):
        for turn in [turn for turn in turns if turn not in taken]:
            if _holder(turn) == me:
                with contextlib.suppress(OSError):
                    os.utime(turn)
            else:
                taken.add(turn)
                _say(
                    f"{turn}: was taken by another process, as this one seemed to have ended: a"
                    " completion may be made twice, and the first one counts"
                )


def _holder(turn: Path) -> str | None:
    """Who holds a sample number: machine, process, a random word; None if that cannot be read."""
    try:
        holder = json.loads(turn.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, str) else None


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
