"""The simulated Netbeam's time. The collector's cycles never start later than what Netbeam's `Date` says, so a test that holds
this clock decides which points there are and how far each cycle collects."""

import time


class Clock:
    """Runs at `rate` seconds a second (0: stands still) from `behind_s` before the machine's time; may be set forward by steps.

    Behind the machine's clock at all times, or else the collector's own clock is the one that counts.
    """

    def __init__(self, behind_s: float = 0.0, rate: float = 1.0) -> None:
        self._rate = rate
        self._base_s = time.time() - behind_s
        self._at = time.monotonic()

    def __call__(self) -> int:
        """The time in ms."""
        return int((self._base_s + (time.monotonic() - self._at) * self._rate) * 1000)

    def advance(self, seconds: float) -> None:
        """Set it forward, or back."""
        self._base_s += seconds

    def set_rate(self, rate: float) -> None:
        """Let it run at another speed from now on."""
        self._base_s, self._at, self._rate = self() / 1000, time.monotonic(), rate
