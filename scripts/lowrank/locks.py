"""Locks that processes of all users of a machine share, and that go with the process.

A lock is flock on a file that everyone finds: in the folder that LOWRANK_LOCKS names, else in
/run/lock, /dev/shm or /tmp, the first that everyone may write to. The system gives it back when
the process ends, however it ends. It is the process's alone: forked children close the file at
once, other programs never get it, so no child drops it and none keeps it.

The files are empty and stay. To lock one it must be readable, not writable, so it does not matter
who made it. Links are not followed.
"""

import fcntl
import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path

from lowrank.errors import InputError
from lowrank.progress import duration

LOCKS = "LOWRANK_LOCKS"
FOLDERS = ("/run/lock", "/dev/shm", "/tmp")
PREFIX = "low-rank-reasoning-"
MAKING = 2.0  # seconds that another user's new file may take to become readable

_open: set[int] = set()


def _forget() -> None:
    while _open:
        os.close(_open.pop())


os.register_at_fork(after_in_child=_forget)


def folder() -> Path:
    """Where the files lie; made, for everyone, if LOWRANK_LOCKS names one that is not there."""
    named = os.environ.get(LOCKS)
    if not named:
        return next((Path(name) for name in FOLDERS if _is_everyones(name)), Path(FOLDERS[-1]))
    path = Path(named)
    try:
        path.mkdir(parents=True)
        path.chmod(0o1777)  # as /tmp: everyone may add files, none may remove another's
    except FileExistsError:
        pass
    except OSError as error:
        raise InputError(f"{LOCKS} is {named}: {error.strerror}; name another folder") from None
    return path


def _is_everyones(name: str) -> bool:
    try:
        return Path(name).stat().st_mode & 0o1777 == 0o1777
    except OSError:
        return False


def path_of(name: str) -> Path:
    return folder() / f"{PREFIX}{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock"


def take(name: str) -> int | None:
    """Take a lock without waiting: what `give` takes back; None while another process has it."""
    path = path_of(name)
    while True:
        file = _opened(path)
        _open.add(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = path.lstat()
            if os.path.samestat(there, os.fstat(file)):
                return file
        except FileNotFoundError:
            pass  # removed meanwhile: who comes next would lock another file
        except BlockingIOError:
            give(file)
            return None
        except OSError as error:
            give(file)
            raise InputError(
                f"{path.parent}: files cannot be locked there ({error.strerror}); set {LOCKS} to a"
                " folder on a local disk that all users of the machine may write to"
            ) from None
        give(file)


def give(file: int) -> None:
    """Give a lock back."""
    _open.discard(file)
    os.close(file)


def _opened(path: Path) -> int:
    """The file, made if it is not there; InputError if it is no file, or not ours to open."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    until = time.monotonic() + MAKING
    while True:
        try:
            # Never O_CREAT alone: in folders like /tmp, Linux refuses it for others' files.
            file = _reopened(path, flags)
        except FileNotFoundError:
            try:
                file = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue
            except OSError as error:
                raise InputError(
                    f"{path}: cannot be made ({error.strerror}); set {LOCKS} to a folder that all"
                    " users of the machine may write to"
                ) from None
            os.fchmod(file, 0o666)  # whatever the umask
        except OSError as error:
            if isinstance(error, PermissionError) and time.monotonic() < until:
                time.sleep(0.05)
                continue
            raise InputError(
                f"{path}: cannot be opened ({error.strerror}); have its owner remove it, or set"
                f" {LOCKS} to another folder, the same for all users of the machine"
            ) from None
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
        raise InputError(f"{path}: is no plain file; remove it, or set {LOCKS} to another folder")


def _reopened(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_RDWR)  # NFS locks only what is open for writing
    except PermissionError:
        return os.open(path, flags | os.O_RDONLY)


def holder(name: str) -> str:
    """Who has a lock, as far as the system shows it: "process 4711 of alice, for 3 min"."""
    with suppress(OSError):
        number = str(path_of(name).lstat().st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            # 1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF
            words = line.split()
            if words[1] == "FLOCK" and words[5].split(":")[-1] == number and int(words[4]) > 0:
                return described(int(words[4]))
    return "another process"


def described(process: int) -> str:
    """A process in words: its number, its user, how long it has been running."""
    words = f"process {process}"
    with suppress(OSError, KeyError, ValueError, IndexError):
        words += f" of {Path(f'/proc/{process}').owner()}"
        # The name before the last ) may hold anything; starttime is the 22nd field, in ticks.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        words += f", for {duration(time.clock_gettime(time.CLOCK_BOOTTIME) - began)}"
    return words
