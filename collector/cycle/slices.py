"""A past range slice by slice, oldest first: what of it got on the bus, and where to go on for the rest.

A slice is worked on in rounds, like a cycle: one window of each series that is not done, then the next. No more than one
slice is held in memory, whatever the range.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from collector.core.backoff import growing
from collector.core.contracts import Outcome
from collector.core.model import GRID_MS, Series, Window
from collector.core.shutdown import Stop
from collector.cycle.flow_control import Gate
from collector.cycle.pipeline import Transfer, WindowResult
from collector.cycle.plan import SHORTEST_TRY_MS, Span
from collector.cycle.silence import Silence

log = logging.getLogger(__name__)

FAILURES = 3
"""So often in a row a series may fail, the last time with the shortest window, before its slice goes on without it."""
PAUSES_S = (2.0, 30.0)
"""After rounds in which nothing got through: who asks again at once gets the same answer."""
ROUND_S = 86_400.0
"""A round ends after a day at the latest, and with it a pause that Netbeam asked for; what is left goes into the next."""
MOST_REASONS = 20


class Meter(Protocol):
    """Whom a backfill tells how far it has come."""

    def add(self, series_ms: int, points: int) -> None:
        """So much time of one series is dealt with, and had so many points."""

    def tick(self) -> None:
        """Time has passed."""


@dataclass(slots=True)
class Account:
    """What became of the range; `left_from_ms` is where the first slice begins that has anything unpublished."""

    points: int = 0
    left_from_ms: int | None = None
    failures: Counter[str] = field(default_factory=Counter)
    """Windows that were given up, by the reason."""
    examples: dict[str, str] = field(default_factory=dict)
    """A series for each reason."""

    def leave(self, begin_ms: int) -> None:
        """Something of the slice that begins there is not published."""
        self.left_from_ms = begin_ms if self.left_from_ms is None else min(self.left_from_ms, begin_ms)

    def note_failure(self, reason: str, series: Series) -> None:
        """A series was given up; the rarer reasons are counted together."""
        if reason not in self.failures and len(self.failures) >= MOST_REASONS:
            reason = "other reasons"
        self.failures[reason] += 1
        self.examples.setdefault(reason, f"{series.name} {series.record_type}")


class Slices:
    """Publishes a range of these series; used by one thread, once.

    `is_there` asks whether Netbeam answers at all. Where nothing that got through in the same round has told it already,
    it tells an outage, which is waited for and counts for nothing, from series at fault, which are given up in the end.
    """

    def __init__(
        self,
        series: Sequence[Series],
        transfer: Transfer,
        gate: Gate,
        stop: Stop,
        meter: Meter,
        is_there: Callable[[], bool],
        *,
        slice_ms: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.account = Account()
        self._series = series
        self._transfer, self._gate, self._stop, self._meter = transfer, gate, stop, meter
        self._is_there = is_there
        self._slice_ms = slice_ms
        self._monotonic = monotonic
        self._most_ms: dict[Series, int] = {}
        """How long the next window of a series that has failed may be."""
        self._given_up: set[Series] = set()
        """In the slice before: these get one try."""
        self._talking: set[Series] = set()
        """Those that had points when last answered."""

    def publish(self, begin_ms: int, end_ms: int) -> Account:
        """Publish `[begin_ms, end_ms)`; ends early at a stop, and when no queue takes the messages."""
        for slice_ms in range(begin_ms, end_ms, self._slice_ms):
            if self._over():
                self.account.leave(slice_ms)
                break
            self._publish_slice(slice_ms, min(end_ms, slice_ms + self._slice_ms))
        return self.account

    def _over(self) -> bool:
        return self._stop.is_set() or bool(self._gate.unroutable)

    def _publish_slice(self, begin_ms: int, end_ms: int) -> None:
        state = _Slice({series: Span(series, begin_ms, end_ms, None) for series in self._series})
        pauses_s = growing(*PAUSES_S)
        while state.left:
            failed, got_through = self._round(state)
            if self._over():
                break
            if failed and (got_through or self._is_there()):
                self._count(state, failed)
            if got_through:
                pauses_s = growing(*PAUSES_S)
            elif state.left:
                self._stop.wait(next(pauses_s))
        self._given_up = state.given_up
        silent = self._is_silent(state, end_ms - begin_ms)
        if silent:
            line = "Netbeam has no points for many series at once that had some just before: taken for its failure"
            log.warning("%s begin=%d end=%d", line, begin_ms, end_ms)
        if silent or state.left or state.given_up:
            self.account.leave(begin_ms)

    def _round(self, state: "_Slice") -> tuple[list[WindowResult], bool]:
        """One window of each series that is left; those that Netbeam did not answer, and whether any got through."""
        windows = [span.window(self._most_ms.get(series, self._slice_ms)) for series, span in state.left.items()]
        until = self._monotonic() + ROUND_S
        self._gate.begin(until)
        failed, got_through = [], False
        for results in self._transfer.windows(windows, until):
            for result in results:
                if result.outcome is Outcome.CONFIRMED:
                    got_through = True
                    self._done(state, result)
                elif result.outcome is None:
                    failed.append(result)
                # what the broker refused or never confirmed stays for the next round: the gate knows how to go on
            self._meter.tick()
        return failed, got_through

    def _count(self, state: "_Slice", failed: list[WindowResult]) -> None:
        """Failures while Netbeam is there. As in the cycle the next try asks for half as much, but here it has an end."""
        for result in failed:
            window, series = result.window, result.window.series
            state.failures[series] += 1
            length_ms = window.end_ms - window.begin_ms
            self._most_ms[series] = max(SHORTEST_TRY_MS, length_ms // 2)
            if series in self._given_up or (state.failures[series] >= FAILURES and length_ms <= SHORTEST_TRY_MS):
                self.account.note_failure(result.failure, series)
                span = state.give_up(series)
                self._meter.add(span.end_ms - span.begin_ms, 0)

    def _done(self, state: "_Slice", result: WindowResult) -> None:
        window, series = result.window, result.window.series
        self._most_ms.pop(series, None)
        state.failures.pop(series, None)
        state.points[series] += result.points
        state.advance(window)
        self.account.points += result.points
        self._meter.add(window.end_ms - window.begin_ms, result.points)

    def _is_silent(self, state: "_Slice", length_ms: int) -> bool:
        """Whether Netbeam has failed, by SPEC's rule of the silence of all, as against the slice before.

        A backfill that begins with this slice takes its word for it: nothing is known of an earlier one.
        """
        talking = [series for series in self._talking if series in state.points]
        silence = Silence(talked_before=len(talking), fell_silent=sum(not state.points[series] for series in talking))
        # a slice shorter than two steps of the grid may be without points by right
        if silence.of_all and length_ms >= 2 * GRID_MS:
            return True
        self._talking -= state.points.keys()
        self._talking |= {series for series, points in state.points.items() if points}
        return False


class _Slice:
    """What is left of one slice, and what it has had so far."""

    def __init__(self, spans: dict[Series, Span]) -> None:
        self.left = spans
        self.points: Counter[Series] = Counter()
        """Of the series that were answered; 0 when there are none."""
        self.failures: Counter[Series] = Counter()
        """In a row."""
        self.given_up: set[Series] = set()

    def advance(self, window: Window) -> None:
        """That window is done."""
        rest = self.left[window.series].after(window)
        if rest:
            self.left[window.series] = rest
        else:
            del self.left[window.series]

    def give_up(self, series: Series) -> Span:
        """Go on without this series; returns what it lacks."""
        self.given_up.add(series)
        return self.left.pop(series)
