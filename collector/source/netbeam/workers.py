"""The threads that ask a source for windows: all at once while it answers, one at a time while it is in doubt."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from collector.core.backoff import growing
from collector.core.contracts import Fetched, Intake
from collector.core.model import Window
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.source.netbeam.breaker import Breaker

PROBE_FIRST_S = 1.0
PROBE_MOST_S = 30.0
"""Between two windows that are asked while the source is away."""
LATE_S = 0.5
"""What is in flight gets this much longer than the grace of a stop; then the fetch returns without it."""
_LOOK_S = 0.25

Asked = tuple[Fetched, object]
"""What came for a window; the object is kept until that has been delivered, since the answer's memory is reserved by it."""
Ask = Callable[[Window, bool, float], Asked | None]
"""Asks for a window; the flag says whether to try only once, the time is the batch's `until`. None comes back when the
source may not be asked any more in this batch: it wants a pause, or the collector stops."""


@dataclass(eq=False, slots=True)
class _Batch:
    """The windows of one fetch; all under the lock of the workers."""

    intake: Intake
    until: float
    pending: deque[Window]
    taken: int = 0
    """Windows in the hands of a worker: waiting to be admitted, or asked."""
    asked: int = 0
    closed: bool = False
    """Nothing more is asked."""
    left: bool = False
    """The fetch has returned, so nothing more is delivered."""
    probe_at: float = 0.0
    probe_delays_s: Iterator[float] = field(default_factory=lambda: growing(PROBE_FIRST_S, PROBE_MOST_S))

    @property
    def open(self) -> bool:
        return not self.closed and bool(self.pending)

    def sort(self, comes_last: Callable[[str], bool]) -> None:
        """Put the windows of these devices behind all others; nothing else changes its place."""
        self.pending = deque(sorted(self.pending, key=lambda window: comes_last(window.series.device)))


class Workers:
    """Up to `size` threads for each fetch, which keeps the contract of `contracts.Source.fetch`.

    Each worker takes the next window, waits until it is admitted, asks, and delivers the answer.
    """

    def __init__(self, size: int, ask: Ask, outage: Outage, stop: Stop, *, once: bool) -> None:
        self._size = size
        self._ask = ask
        self._outage = outage
        self._stop = stop
        self._once = once
        self._breaker = Breaker()
        self._changed = threading.Condition()

    @property
    def away(self) -> bool:
        """Whether the source counts as away; that lasts until a window is answered."""
        return self._breaker.away

    def fetch(self, windows: Sequence[Window], intake: Intake, until: float) -> None:
        """Ask for these windows; one batch at a time."""
        if self._stop.is_set():
            return
        batch = _Batch(intake, until, deque(windows))
        self._breaker.begin()
        batch.sort(self._breaker.comes_last)
        for number in range(min(self._size, len(windows))):
            threading.Thread(target=self._work, args=(batch,), name=f"fetch-{number + 1}", daemon=True).start()
        with self._changed:
            while batch.open or batch.taken:
                give_up_at = self._stop.give_up_at
                if give_up_at is not None:
                    batch.closed = True
                    if time.monotonic() > give_up_at + LATE_S:
                        break
                self._changed.wait(_LOOK_S)
            batch.left = True
            self._changed.notify_all()

    def _work(self, batch: _Batch) -> None:
        try:
            while (taken := self._take(batch)) is not None:
                window, alone = taken
                if self._is_admitted(batch, window):
                    self._ask_for(batch, window, alone)
        except Exception as error:
            self._stop.fail(error, threading.current_thread().name)

    def _take(self, batch: _Batch) -> tuple[Window, bool] | None:
        """The next window, as soon as one may be asked, and whether it is to be asked alone; None: the fetch is over."""
        with self._changed:
            while not batch.left:
                wait_s = 0.0
                if batch.open and not self._stop.is_set():
                    alone = self._breaker.in_doubt
                    wait_s = max(0.0, batch.probe_at - time.monotonic()) if self.away else 0.0
                    if not wait_s and not (alone and batch.taken):
                        batch.taken += 1
                        return batch.pending.popleft(), alone
                self._changed.wait(wait_s or None)
            return None

    def _is_admitted(self, batch: _Batch, window: Window) -> bool:
        """Wait for room; where the window may not be asked then, it is put back, and comes first unless its device failed."""
        admitted = bool(batch.intake.admit((window,)))
        with self._changed:
            # when the source came into doubt meanwhile, the room is for the window that is asked alone
            if admitted and not (self._breaker.in_doubt and batch.asked) and not self._stop.is_set():
                batch.asked += 1
                return True
        if admitted:
            # before it is put back, since the next worker that takes the window has it admitted anew
            batch.intake.release((window,))
        with self._changed:
            batch.closed = batch.closed or not admitted
            batch.taken -= 1
            batch.pending.appendleft(window)
            batch.sort(self._breaker.comes_last)
            self._changed.notify_all()
        return False

    def _ask_for(self, batch: _Batch, window: Window, alone: bool) -> None:
        asked = self._ask(window, self.away, batch.until)
        if asked is None:
            batch.intake.release((window,))
        elif not batch.left:
            batch.intake.deliver(asked[0])
        with self._changed:
            batch.asked -= 1
            batch.taken -= 1
            if asked is None:
                batch.closed = True
            else:
                self._note(batch, asked[0], alone)
            if not batch.open or self._breaker.in_doubt:
                self._changed.notify_all()

    def _note(self, batch: _Batch, fetched: Fetched, alone: bool) -> None:
        breaker, device = self._breaker, fetched.window.series.device
        before = breaker.in_doubt, breaker.comes_last(device)
        if fetched.failure is None:
            breaker.succeeded(device)
            self._outage.ended()
        else:
            breaker.failed(device, alone)
            if self.away:
                self._outage.failed(fetched.failure)
                batch.probe_at = time.monotonic() + next(batch.probe_delays_s)
                batch.closed = batch.closed or self._once or batch.probe_at > batch.until
        if (breaker.in_doubt, breaker.comes_last(device)) != before:
            batch.sort(breaker.comes_last)
            self._changed.notify_all()
