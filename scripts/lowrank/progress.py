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

    def take_over(self, items: int = 1) -> None:
        """Count items as finished by an earlier run; the rate is measured from here on."""
        self.done += items
        self.before += items
        self.start = time.monotonic()

    def step(self, items: int = 1, note: str = "") -> None:
        """Count `items` more as finished; `note` is added to the line, if one is due."""
        self.done += items
        now = time.monotonic()
        if self.done < self.total and now - self.said < self.every:
            return
        self.said = now
        made = self.done - self.before
        rate = made / max(now - self.start, 1e-9)
        line = f"{self.done}/{self.total} {self.what}"
        if made:
            line += f", {rate:.3g}/s, {duration((self.total - self.done) / rate)} left"
        print(line + (f", {note}" if note else ""), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> [duration(s) for s in (0.4, 89, 600, 9000, 200000)]
    ['0 s', '89 s', '10 min', '2 h 30 min', '55 h 33 min']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
