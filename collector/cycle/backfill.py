"""A past range slice by slice, oldest first: what of it got on the bus, and where to go on for the rest.

A slice is collected in rounds, like a cycle: one window of each series that is not done, then the next. No more than one
slice is held in memory, whatever the range. Nothing here judges silence: a series without points has none.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from collector.core.backoff import growing
from collector.core.model import Series
from collector.core.report import WindowOutcome
from collector.cycle.collection import Collection
from collector.cycle.pipeline import Pipeline, WindowResult
from collector.cycle.plan import SHORTEST_TRY_MS, Span
from collector.cycle.rules import Rules
from collector.cycle.series_state import SeriesStates

SLICE_MS = 3_600_000
"""The longest slice: what is published again when a stopped backfill goes on is an hour at the most."""
FAILURES = 3
"""So often in a row a series may fail, the last time with the shortest window, before its slice goes on without it."""
PAUSES_S = (2.0, 30.0)
"""After rounds in which nothing got through: to ask again at once would get the same answer."""
ROUND_S = 86_400.0
"""A round ends after a day at the latest, and with it a pause that the source asked for; what is left goes into the next."""
MOST_REASONS = 20


class Meter(Protocol):
    """Whom a backfill tells how far it has come."""

    def add(self, series_ms: int, points: int) -> None:
        """So much time of one series is dealt with, and had so many points."""

    def tick(self) -> None:
        """Time has passed."""


@dataclass(slots=True)
class RangeReport:
    """What became of the range; `left_from_ms` is where the first slice begins that has anything unpublished."""

    points: int = 0
    again: int = 0
    """Points from `left_from_ms` on: they come once more when the rest is fetched."""
    left_from_ms: int | None = None
    with_points: set[Series] = field(default_factory=set)
    """The series that had points."""
    failures: Counter[str] = field(default_factory=Counter)
    """Windows that were given up, by the reason."""
    examples: dict[str, str] = field(default_factory=dict)
    """A series for each reason."""

    def leave(self, begin_ms: int) -> None:
        """Something of the slice that begins there is not published."""
        if self.left_from_ms is None:
            self.left_from_ms = begin_ms

    def note_failure(self, reason: str, series: Series) -> None:
        """A series was given up; the rarer reasons are counted together."""
        if reason not in self.failures and len(self.failures) >= MOST_REASONS:
            reason = "other reasons"
        self.failures[reason] += 1
        self.examples.setdefault(reason, f"{series.name} {series.record_type}")


class PastRange:
    """Publishes a range of these series; used by one thread, once.

    `is_there` asks whether the source answers at all; it is called when windows failed and nothing got through in the same
    round. An outage is waited for and counts for nothing. While the source is there, series that fail are given up in the end.
    """

    def __init__(
        self,
        series: Sequence[Series],
        pipeline: Pipeline,
        rules: Rules,
        meter: Meter,
        is_there: Callable[[], bool],
    ) -> None:
        self.report = RangeReport()
        self._series = series
        self._pipeline, self._flow, self._stop = pipeline, pipeline.flow, pipeline.stop
        self._meter = meter
        self._is_there = is_there
        self._slice_ms = min(SLICE_MS, rules.max_window_ms)
        self._states = SeriesStates(rules)
        self._failures: Counter[Series] = Counter()
        """Of the slice, in a row."""
        self._given_up: set[Series] = set()
        """In the slice before: these get one try."""

    def publish(self, begin_ms: int, end_ms: int) -> RangeReport:
        """Publish `[begin_ms, end_ms)`; ends early at a stop, and when no queue takes the messages."""
        for slice_ms in range(begin_ms, end_ms, self._slice_ms):
            if self._over():
                self.report.leave(slice_ms)
                break
            before = self.report.points
            self._publish_slice(slice_ms, min(end_ms, slice_ms + self._slice_ms))
            if self.report.left_from_ms is not None:
                self.report.again += self.report.points - before
        return self.report

    def _over(self) -> bool:
        return self._stop.is_set() or bool(self._flow.unroutable)

    def _publish_slice(self, begin_ms: int, end_ms: int) -> None:
        collection = Collection(
            self._pipeline, self._states, (Span(series, begin_ms, end_ms) for series in self._series)
        )
        given_up: set[Series] = set()
        self._failures.clear()
        pauses_s = growing(*PAUSES_S)
        while collection.left:
            failed, got_through = self._round(collection)
            if self._over():
                break
            if failed and (got_through or self._is_there()):
                given_up |= self._count(collection, failed)
            if got_through:
                pauses_s = growing(*PAUSES_S)
            elif collection.left:
                self._stop.wait(next(pauses_s))
        self._given_up = given_up
        if collection.left or given_up:
            self.report.leave(begin_ms)

    def _round(self, collection: Collection) -> tuple[list[WindowResult], bool]:
        """One window of each series that is left; those that the source did not answer, and whether any got through.

        What the broker refused or never confirmed stays for the next round: the flow control knows how to go on.
        """
        until = self._pipeline.monotonic() + ROUND_S
        self._flow.begin(until)
        failed, got_through = [], False
        for results in collection.round(until):
            for result in results:
                if result.done:
                    got_through = True
                    self._done(result)
                elif result.outcome is WindowOutcome.FAILED:
                    failed.append(result)
            self._meter.tick()
        return failed, got_through

    def _done(self, result: WindowResult) -> None:
        window, series = result.window, result.window.series
        self._failures.pop(series, None)
        if result.points:
            self.report.with_points.add(series)
        self.report.points += result.points
        self._meter.add(window.end_ms - window.begin_ms, result.points)

    def _count(self, collection: Collection, failed: list[WindowResult]) -> set[Series]:
        """Failures while the source is there: as in the cycle the next try asks for half as much, but here it has an end."""
        given_up = set()
        for result in failed:
            series = result.window.series
            self._failures[series] += 1
            shortest = result.window.end_ms - result.window.begin_ms <= SHORTEST_TRY_MS or not result.shorten
            if series in self._given_up or (self._failures[series] >= FAILURES and shortest):
                self.report.note_failure(result.failure, series)
                span = collection.left[series]
                self._meter.add(span.end_ms - span.begin_ms, 0)
                given_up.add(series)
        collection.drop(given_up)
        return given_up
