"""The threads that ask a source for windows: all at once while it answers, one at a time while it is in doubt."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from collector.core.backoff import growing
from collector.core.contracts import Fetched, Intake
from collector.core.model import Window
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.source.netbeam.breaker import Breaker, Mode

PROBE_FIRST_S = 1.0
PROBE_MOST_S = 30.0
"""Between two windows that are asked while the source is away."""
LATE_S = 0.5
"""What is in flight gets this much longer than the grace of a stop; then the fetch returns without it."""
_LOOK_S = 0.25



class Asked(NamedTuple):
    """What came for a window; `answer` is kept until it has been delivered, and with it the memory that it was admitted to."""

    fetched: Fetched
    answer: object = None


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

    @property
    def open(self) -> bool:
        return not self.closed and bool(self.pending)

    def put_back(self, window: Window) -> None:
        """A window that was taken, and is not asked now; it comes first."""
        self.taken -= 1
        self.pending.appendleft(window)

    def sort(self, comes_last: Callable[[str], bool]) -> None:
        """Put the windows of these devices behind all others; nothing else changes its place."""
        self.pending = deque(sorted(self.pending, key=lambda window: comes_last(window.series.device)))


class Workers:
    """`size` threads, started with the first batch. `fetch` keeps the contract of `contracts.Source.fetch`.

    Each worker takes the next window, waits until it is admitted, asks, and delivers the answer.
    """

    def __init__(self, size: int, ask: Ask, outage: Outage, stop: Stop, *, once: bool) -> None:
        self._size = size
        self._ask = ask
        self._outage = outage
        self._stop = stop
        self._once = once
        self._breaker = Breaker()
        self._probe_at = 0.0
        self._probe_delays_s: Iterator[float] = iter(())
        self._changed = threading.Condition()
        self._batch: _Batch | None = None
        self._threads: list[threading.Thread] = []

    @property
    def away(self) -> bool:
        """Whether the source counts as away; that lasts until a window is answered."""
        return self._breaker.mode is Mode.AWAY

    def fetch(self, windows: Sequence[Window], intake: Intake, until: float) -> None:
        """Ask for these windows; one batch at a time."""
        if self._stop.is_set() or not windows:
            return
        batch = _Batch(intake, until, deque(windows))
        with self._changed:
            self._breaker.begin()
            batch.sort(self._breaker.comes_last)
            self._probe_at, self._probe_delays_s = 0.0, growing(PROBE_FIRST_S, PROBE_MOST_S)
            self._batch = batch
            self._start_threads()
            self._changed.notify_all()
            while batch.open or batch.taken:
                give_up_at = self._stop.give_up_at
                if give_up_at is not None:
                    batch.closed = True
                    if time.monotonic() > give_up_at + LATE_S:
                        break
                self._changed.wait(_LOOK_S)
            batch.left = True
            self._batch = None

    def _start_threads(self) -> None:
        while len(self._threads) < self._size:
            thread = threading.Thread(target=self._work, name=f"fetch-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        try:
            while True:
                self._serve(*self._take())
        except Exception as error:
            self._stop.fail(error, threading.current_thread().name)

    def _take(self) -> tuple[_Batch, Window, bool]:
        """The next window, as soon as one may be asked, and whether it is to be asked alone."""
        with self._changed:
            while True:
                batch, wait_s = self._batch, None
                if batch is not None and batch.open and not self._stop.is_set():
                    alone = self._breaker.mode is not Mode.FULL
                    wait_s = self._probe_at - time.monotonic() if self.away else 0.0
                    if not (alone and batch.taken) and wait_s <= 0:
                        batch.taken += 1
                        return batch, batch.pending.popleft(), alone
                self._changed.wait(wait_s if wait_s and wait_s > 0 else None)

    def _serve(self, batch: _Batch, window: Window, alone: bool) -> None:
        admitted = bool(batch.intake.admit((window,)))
        with self._changed:
            doubted = self._breaker.mode is not Mode.FULL and batch.asked > 0
            ask = admitted and not doubted and not self._stop.is_set()
            if ask:
                batch.asked += 1
            else:
                batch.closed = batch.closed or not admitted
                batch.put_back(window)
                batch.sort(self._breaker.comes_last)  # in doubt it comes first only if its device has not failed
                self._changed.notify_all()
        if ask:
            self._ask_for(batch, window, alone)
        elif admitted:
            # the source came into doubt meanwhile: the room is for the window that is asked alone
            batch.intake.release((window,))

    def _ask_for(self, batch: _Batch, window: Window, alone: bool) -> None:
        asked = self._ask(window, self.away, batch.until)
        if asked is None:
            batch.intake.release((window,))
        elif not batch.left:
            batch.intake.deliver(asked.fetched)
        with self._changed:
            batch.asked -= 1
            if asked is None:
                batch.closed = True
                batch.put_back(window)
            else:
                batch.taken -= 1
                self._note(batch, asked.fetched, alone)
            if not batch.open or self._breaker.mode is not Mode.FULL:
                self._changed.notify_all()

    def _note(self, batch: _Batch, fetched: Fetched, alone: bool) -> None:
        breaker, device = self._breaker, fetched.window.series.device
        before, was_last = breaker.mode, breaker.comes_last(device)
        if fetched.failure is None:
            breaker.succeeded(device)
            self._outage.ended()
        else:
            breaker.failed(device, alone)
            if self.away:
                self._outage.failed(fetched.failure)
                self._plan_probe(batch)
        if breaker.mode is not before:
            batch.sort(breaker.comes_last)
            self._changed.notify_all()
        elif breaker.comes_last(device) and not was_last:
            batch.sort(breaker.comes_last)

    def _plan_probe(self, batch: _Batch) -> None:
        self._probe_at = time.monotonic() + next(self._probe_delays_s)
        if self._once or self._probe_at > batch.until:
            batch.closed = True
