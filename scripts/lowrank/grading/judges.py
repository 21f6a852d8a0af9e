"""What mathematical answers mean, asked of math-verify and sympy in killable processes.

Answers come from language models: 9^{9^{9^9}}, a megabyte of braces, null bytes. So every
question is answered in a worker process with a limit on processor time and on memory, both
enforced by the kernel; a worker that crosses one dies and is replaced, and the question counts as
not judged. Processor time, not wall-clock time: a busy machine gives the same replies.

The workers are forked from a server that has imported math-verify once.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from lowrank.grading.forms import Form, UnreadableError
from lowrank.progress import Progress

Question = tuple[str, ...]
"""("form", answer) -> its form (see `algebra`); ("same", one, other) -> bool."""

MANY = 100  # questions from which progress is shown
UNREADABLE = "not readable as mathematics"


@dataclass(frozen=True)
class Reply:
    """`value` is what a question asks for; None with a `reason` where it could not be judged."""

    value: Any
    reason: str | None = None


@dataclass
class _Worker:
    process: Any
    connection: Connection
    job: int = -1
    deadline: float = 0.0


class Judges:
    """Worker processes that answer questions; use as a context manager, they end with it.

    workers: how many at once; the replies do not depend on it.
    time_limit: seconds of processor time a question may take.
    memory_limit: bytes of address space a worker may have.
    """

    def __init__(self, workers: int = 1, time_limit: float = 3.0, memory_limit: int = 2**30):
        self.workers, self.time_limit, self.memory_limit = workers, time_limit, memory_limit
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def __enter__(self) -> "Judges":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._idle + self._busy:
            _stop(worker)
        self._idle, self._busy = [], []

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer every question, in order."""
        replies: dict[int, Reply] = {}
        waiting = list(range(len(questions)))[::-1]
        workers = min(self.workers, 1 + len(questions) // 4)  # each takes a second to start
        progress = Progress(len(questions), "answers read") if len(questions) >= MANY else None
        while waiting or self._busy:
            while waiting and len(self._busy) < workers:
                worker = self._idle.pop() if self._idle else self._start()
                worker.job = waiting.pop()
                # For one that waits without computing; the kernel ends one that computes.
                worker.deadline = time.monotonic() + 60 + 20 * self.time_limit
                worker.connection.send(questions[worker.job])
                self._busy.append(worker)
            wait([worker.connection for worker in self._busy], timeout=1.0)
            for worker in list(self._busy):
                reply = self._reply(worker)
                if reply is not None:
                    replies[worker.job] = reply
                    self._busy.remove(worker)
                    if progress:
                        progress.step()
                    if worker.process.is_alive():
                        self._idle.append(worker)
                    else:
                        _stop(worker)
        return [replies[job] for job in range(len(questions))]

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["math_verify", "lowrank.grading.algebra"])
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self.time_limit, self.memory_limit), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _reply(self, worker: _Worker) -> Reply | None:
        """What a worker has to say; None while it thinks."""
        late = Reply(None, f"over {self.time_limit:g} s")
        if worker.connection.poll():
            try:
                reply: Reply = worker.connection.recv()
                return reply
            except (EOFError, ConnectionResetError):
                worker.process.join()
                status = worker.process.exitcode
                if status == -signal.SIGPROF:
                    return late
                return Reply(None, f"the judging process ended with status {status}")
        if time.monotonic() > worker.deadline:
            worker.process.kill()
            worker.process.join()
            return late
        return None


def _stop(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.kill()
    worker.process.join()


# --- inside a worker -------------------------------------------------------------------------


def _serve(connection: Connection, time_limit: float, memory_limit: int) -> None:
    import logging
    import resource

    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # its default action is to end the process
    from lowrank.grading import algebra

    kinds: dict[str, Callable[..., Form]] = {"form": algebra.form, "same": algebra.same}
    algebra.form("x+1")  # what is built on first use is no part of an answer's time
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    while True:
        try:
            kind, *arguments = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, time_limit)
        try:
            reply = Reply(kinds[kind](*arguments))
        except MemoryError:
            reply = Reply(None, f"over {memory_limit / 2**20:.0f} MiB")
        except RecursionError:
            reply = Reply(None, "nested too deep")
        except UnreadableError:
            reply = Reply(None, UNREADABLE)
        except Exception as error:
            reply = Reply(None, f"math-verify failed: {type(error).__name__}")
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(reply)
