"""The time of a simulated network: the machine's, or one that starts in the past and runs quicker."""

import time
from collections.abc import Callable


def wall_ms() -> int:
    """The time of the machine."""
    return time.time_ns() // 1_000_000


class QuickClock:
    """Starts `behind_s` seconds in the past and runs `speed` times quicker than the machine's clock until it has caught up.

    A demonstration gets each minute's points every few seconds so. `ms` is for the simulation, `seconds` for the collector
    beside it, which must live in the same time: its clock would be hours ahead otherwise.
    """

    def __init__(
        self,
        speed: float,
        behind_s: float,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._speed = speed
        self._wall, self._monotonic = wall, monotonic
        self._began, self._start_s = monotonic(), wall() - behind_s

    def seconds(self) -> float:
        """The time now, in seconds since the epoch."""
        return min(self._wall(), self._start_s + (self._monotonic() - self._began) * self._speed)

    def ms(self) -> int:
        """The same in ms."""
        return int(self.seconds() * 1000)
