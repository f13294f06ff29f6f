"""Tells a source that is away from a few devices that it cannot answer for."""

FAILURES = 20
"""So many windows in a row fail before the source is doubted."""
ALONE_FAILURES = 5
"""So many of those that are then asked one at a time fail too before it counts as away."""
DEVICE_FAILURES = 5
"""So many windows of a device fail in a row before the rest of them are asked last. Where the source has answered for
other devices, its failures then count no more."""


class Breaker:
    """Told each window's success or failure, it says how to go on. Not safe to use from several threads at once.

    One device that fails or hangs looks like an outage as long as its windows are asked one after the other, and again at
    the end of a batch, when nothing else is left. So its windows go behind all others, and its failures prove nothing
    about a source that has answered for other devices in the same batch.
    """

    def __init__(self) -> None:
        self._failures = 0
        """Windows that failed in a row; while the source is in doubt, only those that were asked alone count."""
        self._device_failures: dict[str, int] = {}
        """Windows that failed in a row, by device; kept from batch to batch."""
        self._answered = False

    @property
    def in_doubt(self) -> bool:
        """Whether to ask for one window at a time."""
        return self._failures >= FAILURES

    @property
    def away(self) -> bool:
        """Whether to ask for one window at growing intervals only, until one succeeds."""
        return self._failures >= FAILURES + ALONE_FAILURES

    def begin(self) -> None:
        """A new batch; a source that is away stays away."""
        self._answered = False

    def succeeded(self, device: str) -> None:
        """A window was answered: the source is there."""
        self._answered = True
        self._device_failures.pop(device, None)
        self._failures = 0

    def failed(self, device: str, alone: bool) -> None:
        """A window failed after all its tries; `alone`: it was taken to be asked alone."""
        self._device_failures[device] = self._device_failures.get(device, 0) + 1
        if self._answered and self._device_failures[device] > DEVICE_FAILURES:
            if alone and not self.away:
                self._failures = 0  # only devices that fail are left
        elif alone or not self.in_doubt:
            self._failures += 1

    def comes_last(self, device: str) -> bool:
        """Whether windows of this device are asked after those of all others; in doubt one failure is enough."""
        return self._device_failures.get(device, 0) >= (1 if self.in_doubt else DEVICE_FAILURES)
