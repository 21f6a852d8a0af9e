"""Progress of long work, as lines in a log."""

import sys
import time


class Progress:
    """Counts finished items and says so on stderr: how many, how fast, how long still.

    A line is printed at the first and last item and at most every `every` seconds between.
    """

    def __init__(self, total: int, what: str, done: int = 0, every: float = 5.0):
        self.total, self.what, self.done, self.every = total, what, done, every
        self.before = done  # finished by an earlier run: no part of this run's rate
        self.start = time.monotonic()
        self.said = float("-inf")

    def step(self, items: int = 1) -> None:
        """Count `items` more as finished."""
        self.done += items
        now = time.monotonic()
        if self.done < self.total and now - self.said < self.every:
            return
        self.said = now
        rate = (self.done - self.before) / max(now - self.start, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        print(
            f"{self.done}/{self.total} {self.what}, {rate:.3g}/s, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
