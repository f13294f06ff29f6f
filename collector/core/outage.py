"""What is known of one dependency: up or down, since when, and why; and the few log lines that an outage is worth."""

import logging
import threading
import time
from collections.abc import Callable

from collector.core.errors import CollectorError, ConfigurationError

log = logging.getLogger(__name__)

REMINDER_S = 60.0
"""A continuing outage is said once a minute."""


class Outage:
    """The state of one dependency, told by its adapter: a line when it goes down, one a minute, one when it is back."""

    def __init__(self, dependency: str, monotonic: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time):
        self.dependency = dependency
        self.down = False
        self.up_once = False
        self.last_error = ""
        self.since_ms = int(now() * 1000)
        self._monotonic = monotonic
        self._now = now
        self._began = self._said = 0.0
        self._lock = threading.Lock()

    def follow(self, now: Callable[[], float]) -> None:
        """Tell times by this clock, as the demonstration's page does."""
        self._now = now
        self.since_ms = int(now() * 1000)

    def failed(self, error: str | CollectorError, *, starting: bool = False) -> None:
        """It cannot be used, for this reason; call it at each failed try.

        A refusal at the start has no line here: the program ends by it, and says it then. `starting`: this still counts as
        the start, although the dependency has been usable once.
        """
        with self._lock:
            at = self._monotonic()
            self.last_error = str(error)
            if not self.down:
                self.down, self._began, self._said = True, at, at
                self.since_ms = int(self._now() * 1000)
                if (self.up_once and not starting) or not isinstance(error, ConfigurationError):
                    log.warning("%s is not available error=%r", self.dependency, self.last_error)
            elif at - self._said >= REMINDER_S:
                self._said = at
                log.warning("%s is still not available seconds=%.0f error=%r", self.dependency, at - self._began, self.last_error)

    def ended(self) -> None:
        """It can be used; call it at each success."""
        if self.up_once and not self.down:
            return
        with self._lock:
            if self.down:
                log.warning("%s is available again seconds=%.0f", self.dependency, self._monotonic() - self._began)
            self.down, self.up_once = False, True
            self.since_ms = int(self._now() * 1000)
