"""The one kind of error a user can mend, and how a program says it and ends."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from lowrank import ending


class InputError(ValueError):
    """Something handed to a program is wrong.

    The message is one sentence that names the file, the key or the tensor, what was found,
    what was expected and what to do about it.
    """


# What a disk refuses -> what is wrong, and what to do.
MORE_ROOM = "make room, or let results lie where there is more"
MAY_WRITE = "change that, or let results lie elsewhere"
REFUSED = {
    errno.ENOSPC: ("the disk is full", MORE_ROOM),
    errno.EDQUOT: ("the quota on this disk is full", MORE_ROOM),
    errno.EFBIG: ("the file is larger than is allowed here (ulimit -f)", "raise that limit"),
    errno.EROFS: ("nothing can be written on this disk", MAY_WRITE),
    errno.EACCES: ("this is not permitted", MAY_WRITE),
}


def run(main: Callable[[], None]) -> int:
    """Call `main`; print an InputError, what the disk refused, or that SIGTERM came, as one line.

    Returns the exit status.
    """
    with ending.listening():
        try:
            main()
        except InputError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 1
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            why, remedy = REFUSED[error.errno]
            where = f"{error.filename}: " if error.filename else ""
            print(
                f"error: {where}{why}; {remedy}, and run it again: what was finished is kept",
                file=sys.stderr,
            )
            return 1
        except ending.Ended:
            print(ending.MESSAGE, file=sys.stderr)
            return ending.STATUS
        return 0


def run_and_leave(main: Callable[[], None]) -> NoReturn:
    """`run`, then end the process at once.

    For programs that load torch: every file is whole by then, and what torch and vLLM would still
    do (threads to end, kernels to take apart) takes seconds and can only fail.
    """
    status = run(main)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def at_least_one(text: str) -> int:
    """A whole number from 1, as the type of a command-line option."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)
