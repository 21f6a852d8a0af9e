"""SIGTERM, which a scheduler sends before it kills: a program ends with what it has finished."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STATUS = 128 + signal.SIGTERM  # as a shell has it for a program that SIGTERM ended
MESSAGE = (
    "ended by SIGTERM (a time limit, or it was cancelled): what was finished is kept, run it again"
    " to go on from there"
)

_held = False
_came = False


class Ended(BaseException):
    """SIGTERM came. No Exception, so that nothing takes it for a failure of its own and goes on."""


@contextmanager
def listening() -> Iterator[None]:
    """In the block, the first SIGTERM raises Ended in the main thread; further ones do nothing.

    Processes that are forked from this one end at a SIGTERM as if there were no such block.
    """
    global _came
    before = signal.signal(signal.SIGTERM, _note)
    try:
        yield
    finally:
        _came = False
        signal.signal(signal.SIGTERM, before)


def _note(number: int, frame: Any) -> None:
    global _came
    # A scheduler sends it to every process of a job, and some pass theirs on.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _came = True
    if not _held:
        raise Ended


def _forget() -> None:
    if signal.getsignal(signal.SIGTERM) is _note:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)


@contextmanager
def held() -> Iterator[Callable[[], None]]:
    """In the block, SIGTERM waits until the function that is given is called, or the block ends.

    For work that is lost if it is broken off anywhere: call it where all that is done is kept.
    """
    global _held
    _held = True
    try:
        yield _raise_if_it_came
    finally:
        _held = False
        _raise_if_it_came()


def _raise_if_it_came() -> None:
    if _came:
        raise Ended
