"""Tells a source that is away from a few devices that it cannot answer for (SPEC section 1)."""

import enum

FAILURES = 20
"""So many windows in a row fail before the source is doubted."""
OTHERS = 5
"""So many series of other devices fail too before it counts as away."""


class Mode(enum.Enum):
    """How to go on."""

    FULL = "full"
    """All at once."""
    CAREFUL = "careful"
    """One at a time, with devices that are not among the suspects."""
    AWAY = "away"
    """One at a time, at growing intervals, until one succeeds."""


class Breaker:
    """Told each window's success or failure, it says how to go on. Not safe to use from several threads at once.

    Where no other device is left to try, the devices that fail are at fault only if the source has answered for others
    in the same batch: then their windows are asked like all, and their failures count no more. Otherwise one device that
    Netbeam cannot read would look like an outage at the end of every batch, once all others are done.
    """

    def __init__(self) -> None:
        self.mode = Mode.FULL
        self.suspects: set[str] = set()
        """Devices that failed since the last success."""
        self._failures = 0
        self._others = 0
        self._answered = False
        self._at_fault: set[str] = set()

    def begin(self) -> None:
        """A new batch; a source that is away stays away."""
        self._answered = False
        self._at_fault.clear()

    def succeeded(self) -> None:
        """A window was answered: the source is there."""
        self._answered = True
        self._restart()

    def failed(self, device: str, alone: bool = False) -> None:
        """A window failed after all its tries; `alone`: it was the only one asked at that time."""
        if device in self._at_fault:
            return
        self.suspects.add(device)
        self._failures += 1
        if self.mode is Mode.FULL and self._failures >= FAILURES:
            self.mode, self._others = Mode.CAREFUL, 0
        elif self.mode is Mode.CAREFUL and alone:
            self._others += 1
            if self._others >= OTHERS:
                self.mode = Mode.AWAY

    def no_other_left(self) -> None:
        """Every window that is left belongs to a suspect."""
        if self.mode is not Mode.CAREFUL:
            return
        if self._answered and len(self.suspects) <= OTHERS:
            self._at_fault |= self.suspects
            self._restart()
        else:
            self.mode = Mode.AWAY

    def _restart(self) -> None:
        self.mode, self._failures = Mode.FULL, 0
        if self.suspects:
            self.suspects = set()
