"""The windows of one cycle, round after round: asked for, noted, judged, and written to the table once they are on the bus.

A round is one window of each series that has any left; nothing here knows how the windows were planned.
"""

import time
from collections.abc import Callable

from collector.core.contracts import Outcome, Store
from collector.core.errors import CollectorError, LockLostError
from collector.core.model import Move, Series, Window
from collector.core.shutdown import Stop
from collector.cycle.flow_control import Gate
from collector.cycle.pipeline import Transfer, WindowResult
from collector.cycle.plan import Span
from collector.cycle.series_state import Memory
from collector.cycle.silence import Silence
from collector.cycle.totals import Progress

ADVANCE_S = 15.0
"""Confirmed windows are written together about so often: after a crash no more than these are published twice.

Of a full cycle's time the database takes 2.3 to 2.5 % when it is every 5 s and 1.5 to 2.1 % every 10 s; every 15 s 2.0 %, on
the day of the 2.1.
"""


class Rounds:
    """Collects what is due, and remembers between cycles what is on the bus but not in the table; used by one thread."""

    def __init__(
        self,
        store: Store,
        gate: Gate,
        transfer: Transfer,
        memory: Memory,
        stop: Stop,
        *,
        once: bool = False,
        beat: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._gate = gate
        self._transfer = transfer
        self._memory = memory
        self._stop = stop
        self._once = once
        self._beat = beat
        self._monotonic = monotonic
        self._turn = 0
        self._confirmed: dict[Window, str] = {}
        """On the bus, but not yet in the table, each with how it is counted then; kept over an outage of the store."""

    def begin(self, progress: Progress) -> None:
        """A new cycle, which first writes what an earlier one could not. Raises like `collect`."""
        self._turn += 1
        self._advance(progress)

    def collect(self, due: list[Span], now_ms: int, until: float, progress: Progress) -> set[Series]:
        """Every series' first window, then every series' second, and so on; returns the series left out as idle.

        Raises UnavailableError and ConfigurationError of the store; what is confirmed by then is written by the next cycle.
        """
        left, idle = (due, []) if self._once else self._memory.choose(due, now_ms)
        progress.idle = len(idle)
        while left and not self._stop.is_set() and self._monotonic() < until:
            windows = [self._memory.window(span) for span in left]
            progress.planned += len(windows)
            asked, done = self._round(windows, until, progress)
            unasked = len(windows) - len(asked)
            pairs = zip(left, windows, strict=True)
            left = [rest for span, window in pairs if window.series in done and (rest := span.after(window))]
            if unasked:
                progress.outstanding += unasked
                break
        progress.outstanding += len(left)
        return {span.series for span in idle}

    def _round(self, windows: list[Window], until: float, progress: Progress) -> tuple[set[Series], set[Series]]:
        """One window of each series; returns the series that were asked, and those whose window is done."""
        silence = Silence(self._memory.anybody_talks, 0 if self._once else progress.active_series)
        asked: set[Series] = set()
        done: set[Series] = set()
        failure: CollectorError | None = None
        written = self._monotonic()
        for results in self._transfer.windows(windows, until):
            self._beat()
            for result in results:
                asked.add(result.window.series)
                self._note(result, silence, progress)
            if failure is None and self._monotonic() - written >= ADVANCE_S:
                try:
                    done |= self._advance(progress)
                except CollectorError as error:
                    # what is in flight lands first, so that the next pass finds the way clear and knows what is confirmed
                    failure = error
                    self._gate.shut()
                written = self._monotonic()
        if failure:
            raise failure
        silence.whole = len(asked) == len(windows)
        self._judge(silence, progress)
        return asked, done | self._advance(progress)

    def _judge(self, silence: Silence, progress: Progress) -> None:
        """Whether the windows that came back empty are done."""
        if silence.of_all:
            progress.windows["held"] += len(silence.empty)
            line = f"Netbeam has no points for {silence.silent} series at once: taken for its failure, nothing moves"
            progress.failed.append(line)
            self._memory.forget_doubts()
            return
        judged = {"sound": silence.sound, "credible": silence.credible, "at_once": self._once}
        for window in silence.empty:
            if self._memory.answered_empty(window, progress.settled_ms, **judged):
                self._confirmed[window] = "empty"
            else:
                progress.windows["doubted"] += 1

    def _note(self, result: WindowResult, silence: Silence, progress: Progress) -> None:
        memory, window = self._memory, result.window
        memory.asked(window, self._turn)
        progress.note(result)
        if result.outcome is None:
            memory.failed(window)
            silence.failed += 1
            return
        if window.between_points and not result.points:
            # says nothing about the series or Netbeam
            if result.outcome is Outcome.CONFIRMED:
                self._confirmed[window] = "empty"
            return
        doubted_ms = memory.doubted_ms(window.series)
        doubted, again = doubted_ms is not None, doubted_ms == progress.settled_ms
        silence.add(window, memory.talks(window), result.points, doubted=doubted, again=again)
        if result.points:
            memory.talked(window)
            if result.outcome is Outcome.CONFIRMED:
                self._confirmed[window] = "done"

    def _advance(self, progress: Progress) -> set[Series]:
        """Write what is confirmed: the only place that moves a checkpoint. Returns the series that have moved."""
        if not self._store.holds_lock():
            raise LockLostError("the lock is not ours any more")
        windows = self._confirmed
        if not windows:
            return set()
        moves = [Move(each.series, each.checkpoint_ms, each.end_ms) for each in windows]
        refused = {move.series for move in self._store.advance(moves)}
        self._confirmed = {}
        progress.windows.update("moved" if window.series in refused else kind for window, kind in windows.items())
        moved = {window.series: window.end_ms for window in windows if window.series not in refused}
        progress.moved += len(moved)
        progress.positions.update(moved)
        return set(moved)
