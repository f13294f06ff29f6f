"""The end of the collector: one event that every wait listens to, and the reason when it is not a signal."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

GRACE_S = 5.0
"""How long what is in flight may still take after a stop; the rest of the promised 8 s is for writing checkpoints."""


class Stop:
    """Set once, by a signal handler or by a thread that cannot go on; waited for by everybody."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._event = threading.Event()
        self._monotonic = monotonic
        self._since: float | None = None
        self.failure: BaseException | None = None

    def set(self) -> None:
        """Ask everything to end; what is in flight gets `GRACE_S`."""
        if self._since is None:
            self._since = self._monotonic()
        self._event.set()

    def fail(self, error: BaseException, thread: str) -> None:
        """End because a thread met an error that nobody foresaw; logged with its traceback, exit code 1."""
        log.error("thread ended by an unexpected error thread=%s", thread, exc_info=error)
        self.failure = self.failure or error
        self.set()

    def is_set(self) -> bool:
        """Whether the end has been asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until the end is asked for; True when it is."""
        return self._event.wait(max(0.0, seconds))

    @property
    def give_up_at(self) -> float | None:
        """The monotonic time at which what is in flight is given up; None while nobody asked for the end."""
        return None if self._since is None else self._since + GRACE_S
