"""Tells a source that is away from a few devices that it cannot answer for."""

import enum

FAILURES = 20
"""So many windows in a row fail before the source is doubted."""
ALONE_FAILURES = 5
"""So many of those that are then asked one at a time fail too before it counts as away."""
DEVICE_FAILURES = 5
"""So many windows of a device fail in a row before its others come last, and count no more where others were answered."""


class Mode(enum.Enum):
    """How to go on."""

    FULL = "full"
    """All at once."""
    CAREFUL = "careful"
    """One at a time, devices that have not failed first."""
    AWAY = "away"
    """One at a time, at growing intervals, until one succeeds."""


class Breaker:
    """Told each window's success or failure, it says how to go on. Not safe to use from several threads at once.

    One device that fails or hangs looks like an outage as long as its windows are asked one after the other, and again at
    the end of a batch, when nothing else is left. So its windows go behind all others, and its failures prove nothing
    about a source that has answered for other devices in the same batch.
    """

    def __init__(self) -> None:
        self.mode = Mode.FULL
        self.device_failures: dict[str, int] = {}
        """Windows that failed in a row, by device; kept from batch to batch."""
        self._failures = 0
        self._alone_failures = 0
        self._answered = False

    def begin(self) -> None:
        """A new batch; a source that is away stays away."""
        self._answered = False

    def succeeded(self, device: str) -> None:
        """A window was answered: the source is there."""
        self._answered = True
        self.device_failures.pop(device, None)
        self._restart()

    def failed(self, device: str, alone: bool) -> None:
        """A window failed after all its tries; `alone`: it was taken to be asked alone."""
        self.device_failures[device] = self.device_failures.get(device, 0) + 1
        if self._answered and self.device_failures[device] > DEVICE_FAILURES:
            if alone and self.mode is Mode.CAREFUL:
                self._restart()  # only devices that fail are left
            return
        self._failures += 1
        if self.mode is Mode.FULL and self._failures >= FAILURES:
            self.mode, self._alone_failures = Mode.CAREFUL, 0
        elif self.mode is Mode.CAREFUL and alone:
            self._alone_failures += 1
            if self._alone_failures >= ALONE_FAILURES:
                self.mode = Mode.AWAY

    def comes_last(self, device: str) -> bool:
        """Whether windows of this device are asked after those of all others."""
        least = DEVICE_FAILURES if self.mode is Mode.FULL else 1
        return self.device_failures.get(device, 0) >= least

    def _restart(self) -> None:
        self.mode, self._failures = Mode.FULL, 0
