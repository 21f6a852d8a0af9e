"""Whether two mathematical answers mean the same, asked of math-verify in killable processes.

Answers come from language models: 9^{9^{9^9}}, a megabyte of braces, null bytes. So every
question is answered in a worker process with a limit on processor time and on memory, both
enforced by the kernel; a worker that crosses one dies and is replaced, and the question counts as
not judged. Processor time, not wall-clock time: a busy machine gives the same verdicts.

The workers are forked from a server that has imported math-verify once.
"""

import cmath
import multiprocessing
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

Question = tuple[str, ...]
"""("right", gold, answer) -> True, or else where the answer lies; ("same", a, b) -> bool."""

Place = tuple[str, complex | str]
"""What answers that are the same share, and a number (or text) to compare: see `_place`."""

NUMBER = "number"  # the first of what has no symbols


@dataclass(frozen=True)
class Verdict:
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

    workers: how many at once; the verdicts do not depend on it.
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

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """Answer every question, in order."""
        verdicts: list[Verdict | None] = [None] * len(questions)
        waiting = list(range(len(questions)))[::-1]
        workers = min(self.workers, 1 + len(questions) // 4)  # each takes a second to start
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
                verdict = self._verdict(worker)
                if verdict is not None:
                    verdicts[worker.job] = verdict
                    self._busy.remove(worker)
                    if worker.process.is_alive():
                        self._idle.append(worker)
                    else:
                        _stop(worker)
        return verdicts

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["math_verify"])
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self.time_limit, self.memory_limit), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _verdict(self, worker: _Worker) -> Verdict | None:
        """What a worker has to say; None while it thinks."""
        late = Verdict(None, f"over {self.time_limit:g} s")
        if worker.connection.poll():
            try:
                return worker.connection.recv()
            except (EOFError, ConnectionResetError):
                worker.process.join()
                status = worker.process.exitcode
                if status == -signal.SIGPROF:
                    return late
                return Verdict(None, f"the judging process ended with status {status}")
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
    _right("1", "x+1")  # what is built on first use is no part of an answer's time
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    kinds = {"right": _right, "same": _same}
    while True:
        try:
            kind, *arguments = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, time_limit)
        try:
            verdict = Verdict(kinds[kind](*arguments))
        except MemoryError:
            verdict = Verdict(None, f"over {memory_limit / 2**20:.0f} MiB")
        except RecursionError:
            verdict = Verdict(None, "nested too deep")
        except _UnreadableError:
            verdict = Verdict(None, "not readable as mathematics")
        except Exception as error:
            verdict = Verdict(None, f"math-verify failed: {type(error).__name__}")
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(verdict)


_JOINED = re.compile(r"\\(?:text|textrm|mathrm|mbox)\s?\{[\s,]{0,9}(?:or|and)\s{0,9}\}")
_SCALED = re.compile(
    r"\s*\\?[ ,~]?\s?(?:\\(?:text|textrm|mathrm|mbox)\s?\{\s{0,9})?\b"
    r"(hundred|thousand|million|billion|trillion)\b([^{}]{0,40}\}|)"
)
_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}


def _parse(answer: str) -> list:
    from math_verify import parse

    # Without the space math-verify reads 699\text{or}700 as 699700, and it skips every word.
    answer = _JOINED.sub(", ", answer)
    answer = _SCALED.sub(lambda found: rf" \cdot 10^{{{_POWERS[found[1]]}}}", answer)
    return parse(rf"\boxed{{{answer}}}", parsing_timeout=None)


class _UnreadableError(Exception):
    """math-verify made nothing of an answer but its text."""


def _right(gold: str, answer: str) -> bool | Place:
    """True, or where a wrong answer lies."""
    gold_parsed, parsed = _parse(gold), _parse(answer)
    if _is_text(parsed) and not _is_text(gold_parsed):
        raise _UnreadableError  # it would be called wrong without having been compared
    place = _place(parsed, answer)
    if _far(_place(gold_parsed, gold), place) or not _verify(gold_parsed, parsed):
        return place
    return True


def _verify(gold: list, answer: list) -> bool:
    from math_verify import verify

    try:
        return verify(gold, answer, timeout_seconds=None, raise_on_error=True)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        # One of its ways to compare failed; another may still find them equal.
        if verify(gold, answer, timeout_seconds=None):
            return True
        raise


def _is_text(parsed: list) -> bool:
    """Whether math-verify made nothing of an answer but its text."""
    return all(isinstance(part, str) for part in parsed)


def _same(first: str, second: str) -> bool:
    """Two spellings of one answer; verify is not symmetric, equality is."""
    parsed = _parse(first), _parse(second)
    return _verify(*parsed) or _verify(*parsed[::-1])


def _place(parsed: list, answer: str) -> Place:
    """What answers that are the same must share: a key, and a number to compare within it.

    An expression's number is its value with its symbols at fixed irrational points; a set's, a
    tuple's, an interval's, a matrix's the sum over what is in it. x = 5 lies where 5 does. For
    anything else (relations, infinities, text) the number is replaced by its printed form.
    """
    import sympy

    if not parsed:
        return "text", answer
    whole = parsed[0]
    if isinstance(whole, sympy.Eq) and isinstance(whole.lhs, sympy.Symbol):
        whole = whole.rhs
    parts = _parts(whole)
    if parts is None:
        return type(whole).__name__, str(whole)
    symbols = sorted({symbol for part in parts for symbol in part.free_symbols}, key=str)
    points = {symbol: sympy.sqrt(7 + 3 * i) / 2 for i, symbol in enumerate(symbols)}
    values = [_number(part.subs(points)) for part in parts]
    if isinstance(whole, sympy.Expr):
        if values[0] is None:
            return type(whole).__name__, str(whole)
        return " ".join([NUMBER, *map(str, symbols)]), values[0]
    return " ".join([f"{len(parts)} of", *map(str, symbols)]), sum(filter(None, values), 0j)


def _parts(whole: Any) -> list | None:
    """The expressions that an answer consists of; None if it is of another kind."""
    import sympy

    if isinstance(whole, sympy.Expr):
        return [whole]
    if isinstance(whole, sympy.Interval):
        return [whole.start, whole.end]
    if isinstance(whole, sympy.MatrixBase):
        return list(whole)
    if isinstance(whole, (sympy.Tuple, sympy.FiniteSet, sympy.Union)):
        found = [_parts(part) for part in whole.args]
        return None if None in found else [part for parts in found for part in parts]
    return None


def _number(expression: Any) -> complex | None:
    """The value of an expression without symbols; None for an infinity and what else has none."""
    try:
        value = complex(expression.evalf(15))
    except Exception:
        return None
    return value if cmath.isfinite(value) else None


def _far(gold: Place, answer: Place) -> bool:
    """Whether two values, one of them without symbols, are so far apart that nothing else need be
    tried: verify would take its time to simplify their difference. 28 % may be 28 or 0.28."""
    keys = gold[0], answer[0]
    if NUMBER not in keys or not all(key.startswith(NUMBER) for key in keys):
        return False
    return all(
        abs(scale * gold[1] - answer[1]) > 1e-3 * max(1.0, abs(scale * gold[1]), abs(answer[1]))
        for scale in (0.01, 1.0, 100.0)
    )
