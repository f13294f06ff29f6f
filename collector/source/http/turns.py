"""When the next request may go out: at the rate that is allowed, and not while the server wants none."""

import logging
import math
import threading
import time

from collector.core.errors import UnavailableError
from collector.core.shutdown import Stop

log = logging.getLogger(__name__)

MOST_PAUSE_S = 900.0
"""A cycle without an end waits for no longer pause than the usual distance of two cycles (POLL_INTERVAL)."""


class NotAskedError(UnavailableError):
    """The try was not made: the server wants none before the end of the cycle, or the collector stops."""


class Turns:
    """Starts requests at an even distance, never closer than the rate allows (0: no limit), and none during a pause."""

    def __init__(self, name: str, rate: float, stop: Stop) -> None:
        self._name = name
        self._distance_s = 1 / rate if rate > 0 else 0.0
        self._stop = stop
        self._paused_until = 0.0
        self._last = -math.inf
        self._lock = threading.Lock()

    def wait(self, until: float) -> None:
        """Wait for the end of a pause, and for the rate. Raises NotAskedError."""
        while True:
            pause_s = self._paused_until - time.monotonic()
            if pause_s > 0:
                if self._paused_until > until or (until == math.inf and pause_s > MOST_PAUSE_S):
                    raise NotAskedError(f"not asked: {self._name} wants no request before the end of the cycle")
                self._stop.wait(pause_s)
            else:
                self.take()
            if self._stop.is_set():
                raise NotAskedError("not asked: the collector stops")
            if pause_s <= 0 and self._paused_until <= time.monotonic():  # a pause may begin while one waits for the rate
                return

    def pause(self, seconds: float) -> None:
        """Ask nothing for that long; two pauses at once are as long as the longer one."""
        paused_until = time.monotonic() + seconds
        if seconds > 0 and paused_until > self._paused_until + 1:
            log.warning("%s asked for a pause seconds=%.1f", self._name, seconds)
        self._paused_until = max(self._paused_until, paused_until)

    def resume(self) -> None:
        """Forget a pause that the server asked for: a new cycle begins."""
        self._paused_until = 0.0

    def take(self) -> None:
        """Wait for the rate alone; returns at once after a stop."""
        if not self._distance_s:
            return
        with self._lock:  # held while waiting: a request that is late must not come close to the next one
            while (wait_s := self._last + self._distance_s - time.monotonic()) > 0 and not self._stop.wait(wait_s):
                pass
            self._last = time.monotonic()
