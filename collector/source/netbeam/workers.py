"""The threads that ask a source for windows: all at once while it answers, one at a time while it is in doubt."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from collector.core.backoff import growing
from collector.core.contracts import Fetched, Intake
from collector.core.model import Window
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.source.netbeam.breaker import Breaker, Mode

PROBE_FIRST_S = 1.0
PROBE_MOST_S = 30.0
"""Between two windows that are asked while the source is away (SPEC section 1)."""
LATE_S = 0.5
"""What is in flight gets this much longer than the grace of a stop; who is stuck even then is left behind."""
LAME_FAILURES = 5
"""So many windows of a device fail in a row before its other windows come after those of all other devices."""
_LOOK_S = 0.25

Ask = Callable[[Window, bool, float], Fetched | None]
"""Asks for a window; the flag says whether to try only once, the time is the batch's `until`. None comes back when the
source may not be asked any more in this batch: it wants a pause, or the collector stops."""


@dataclass(eq=False, slots=True)
class _Batch:
    """The windows of one fetch, and who has which. All under the crew's lock."""

    intake: Intake
    until: float
    pending: deque[Window]
    taken: int = 0
    """Windows in the hands of a thread: waiting to be admitted, or asked."""
    asking: int = 0
    closed: bool = False
    """Nothing more is asked."""
    left: bool = False
    """The fetch has returned, so nothing more is delivered."""

    @property
    def open(self) -> bool:
        return not self.closed and bool(self.pending)

    def take(self) -> Window:
        """The next window."""
        self.taken += 1
        return self.pending.popleft()

    def take_of_others(self, suspects: set[str], rather_any: bool) -> Window | None:
        """The next window of a device that is not among the suspects; `rather_any`: or else the next of all."""
        for index, window in enumerate(self.pending):
            if window.series.device not in suspects:
                del self.pending[index]
                self.taken += 1
                return window
        return self.take() if rather_any and self.open else None

    def put_back(self, window: Window) -> None:
        """A window that was taken, and is not asked now; it comes first."""
        self.taken -= 1
        self.pending.appendleft(window)

    def defer_lame(self, devices: Collection[str]) -> None:
        """Put these devices' windows behind all others, but for the first of each, which shows whether it answers again."""
        first: set[str] = set()
        later: list[Window] = []
        sooner: list[Window] = []
        for window in self.pending:
            device = window.series.device
            (later if device in devices and device in first else sooner).append(window)
            first.add(device)
        self.pending = deque(sooner + later)

    def defer(self, suspects: set[str]) -> None:
        """Put the suspects' windows behind all others."""
        later = [window for window in self.pending if window.series.device in suspects]
        if later:
            self.pending = deque(window for window in self.pending if window.series.device not in suspects)
            self.pending.extend(later)


class Crew:
    """`size` threads, started with the first batch. `fetch` keeps the contract of `contracts.Source.fetch`."""

    def __init__(self, size: int, ask: Ask, outage: Outage, stop: Stop, *, once: bool) -> None:
        self._size = size
        self._ask = ask
        self._outage = outage
        self._stop = stop
        self._once = once
        self._breaker = Breaker()
        self._changed = threading.Condition()
        self._batch: _Batch | None = None
        self._threads: list[threading.Thread] = []
        self._last_failure = ""
        self._failures: dict[str, int] = {}
        """Windows that failed in a row, by device; kept from batch to batch."""

    @property
    def away(self) -> bool:
        """Whether the source counts as away; that lasts until a window is answered."""
        return self._breaker.mode is Mode.AWAY

    def fetch(self, windows: Sequence[Window], intake: Intake, until: float) -> None:
        """Ask for these windows; one batch at a time."""
        if self._stop.is_set() or not windows:
            return
        batch = _Batch(intake, until, deque(windows))
        lame = {device for device, failures in self._failures.items() if failures >= LAME_FAILURES}
        if lame:
            batch.defer_lame(lame)
        self._breaker.begin()
        at_once = self.away
        with self._changed:
            self._batch = batch
            self._start_threads()
            self._changed.notify_all()
        while True:
            self._wait(batch, lambda: self._in_doubt(batch) or self._done(batch))
            if not batch.open:
                break
            self._one_at_a_time(batch, at_once)
            at_once = False
        self._end(batch)

    def _start_threads(self) -> None:
        while len(self._threads) < self._size:
            thread = threading.Thread(target=self._work, name=f"fetch-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        try:
            while True:
                self._serve(*self._next())
        except Exception as error:
            self._stop.fail(error, threading.current_thread().name)

    def _next(self) -> tuple[_Batch, Window]:
        with self._changed:
            while True:
                batch = self._batch
                if batch is not None and batch.open and self._all_may_ask():
                    return batch, batch.take()
                self._changed.wait()

    def _serve(self, batch: _Batch, window: Window) -> None:
        admitted = bool(batch.intake.admit((window,)))
        with self._changed:
            ask = admitted and self._all_may_ask()
            if ask:
                batch.asking += 1
            else:
                batch.closed = batch.closed or not admitted
                batch.put_back(window)
                self._changed.notify_all()
        if ask:
            self._ask_for(batch, window, alone=False)
        elif admitted:
            # the source came into doubt meanwhile: the room is for the one that is asked alone
            batch.intake.release((window,))

    def _ask_for(self, batch: _Batch, window: Window, *, alone: bool) -> None:
        fetched = self._ask(window, alone and self.away, batch.until)
        if fetched is None:
            batch.intake.release((window,))
        elif not batch.left:
            batch.intake.deliver(fetched)
        with self._changed:
            batch.asking -= 1
            if fetched is None:
                batch.closed = True
                batch.put_back(window)
            else:
                batch.taken -= 1
                self._note(batch, fetched, alone)
            if not batch.asking and (not batch.open or self._breaker.mode is not Mode.FULL):
                self._changed.notify_all()

    def _note(self, batch: _Batch, fetched: Fetched, alone: bool) -> None:
        breaker, device = self._breaker, fetched.window.series.device
        if fetched.failure is not None:
            self._last_failure = fetched.failure
            self._failures[device] = self._failures.get(device, 0) + 1
            if self._failures[device] == LAME_FAILURES:
                # else one whose every answer takes all tries to time out has every thread wait for it before long
                batch.defer({device})
            breaker.failed(device, alone)
            if breaker.mode is Mode.AWAY:
                self._outage.failed(fetched.failure)
            return
        self._failures.pop(device, None)
        doubted = breaker.mode is not Mode.FULL
        if doubted:
            batch.defer(breaker.suspects)
        breaker.succeeded()
        self._outage.ended()
        if doubted:
            self._changed.notify_all()

    def _one_at_a_time(self, batch: _Batch, at_once: bool) -> None:
        """Ask in the calling thread until one succeeds, or until the batch is at its end; `at_once`: do not wait at first."""
        delays_s = growing(PROBE_FIRST_S, PROBE_MOST_S)
        while batch.open and self._breaker.mode is not Mode.FULL and not self._stop.is_set():
            if self.away and not at_once and (self._once or not self._wait_for_probe(next(delays_s), batch.until)):
                with self._changed:
                    batch.closed = True
                return
            at_once = False
            with self._changed:
                window = batch.take_of_others(self._breaker.suspects, rather_any=self.away)
                if window is None:
                    self._no_other_left()
                    continue
            admitted = bool(batch.intake.admit((window,)))
            with self._changed:
                if not admitted:
                    batch.closed = True
                    batch.put_back(window)
                    return
                batch.asking += 1
            self._ask_for(batch, window, alone=True)

    def _wait_for_probe(self, seconds: float, until: float) -> bool:
        """False when the cycle is over first."""
        return not self._stop.wait(min(seconds, until - time.monotonic())) and time.monotonic() < until

    def _no_other_left(self) -> None:
        self._breaker.no_other_left()
        if self.away:
            self._outage.failed(self._last_failure)
        self._changed.notify_all()

    def _end(self, batch: _Batch) -> None:
        """Wait for what is in flight."""
        with self._changed:
            batch.closed = batch.closed or bool(batch.pending)
        self._wait(batch, lambda: not batch.taken)
        with self._changed:
            if not batch.closed and self._breaker.mode is Mode.CAREFUL:
                self._no_other_left()
            batch.left = True
            self._batch = None

    def _all_may_ask(self) -> bool:
        return self._breaker.mode is Mode.FULL and not self._stop.is_set()

    def _in_doubt(self, batch: _Batch) -> bool:
        return self._breaker.mode is not Mode.FULL and not batch.asking and batch.open

    @staticmethod
    def _done(batch: _Batch) -> bool:
        return not batch.open and not batch.taken

    def _wait(self, batch: _Batch, over: Callable[[], bool]) -> None:
        """Wait for that, or for a stop: then nothing more is asked, and who is stuck is left behind after the grace."""
        with self._changed:
            while not over():
                give_up_at = self._stop.give_up_at
                if give_up_at is not None:
                    batch.closed = True
                    if time.monotonic() > give_up_at + LATE_S:
                        return
                self._changed.wait(_LOOK_S)
