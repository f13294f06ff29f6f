"""Log lines of which a hostile or broken neighbour could cause thousands: ten examples a cycle, then one with the count."""

import logging
import threading
from collections import Counter

MOST_LINES = 10
"""Of one kind in one cycle."""


class LimitedLog:
    """Warnings by their kind; any thread."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._said: Counter[str] = Counter()

    def warning(self, kind: str, details: str, *values: object) -> None:
        """Warn, unless there were too many of this kind already; `details` is a template of `key=%s` pairs."""
        with self._lock:
            self._said[kind] += 1
            if self._said[kind] > MOST_LINES:
                return
        self._log.warning(f"{kind} {details}", *values)

    def conclude(self) -> None:
        """The cycle has ended: one line for each kind of which there were more, with their number."""
        with self._lock:
            said, self._said = self._said, Counter()
        for kind, number in said.items():
            if number > MOST_LINES:
                self._log.warning("%s, more of them this cycle count=%d", kind, number - MOST_LINES)
