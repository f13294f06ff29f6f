"""The windows of one cycle: asked for, noted, and written to the table once they are on the bus."""

import logging
from collections import Counter
from collections.abc import Callable

from collector.core.errors import CollectorError
from collector.core.model import RecordType
from collector.core.report import MOST_FAILING, CycleReport, ReasonKind, WindowOutcome
from collector.core.text import counted
from collector.cycle.checkpoints import Checkpoints
from collector.cycle.collection import Collection
from collector.cycle.pipeline import Pipeline, WindowResult
from collector.cycle.plan import Span
from collector.cycle.series_state import SeriesStates

log = logging.getLogger(__name__)

ADVANCE_S = 15.0
"""Confirmed windows are written together about so often: after a crash no more than these are published twice. Of a full
cycle's time the database takes 2.3 to 2.5 % where it is every 5 s, and 1.5 to 2.1 % every 10 or 15 s."""
PROGRESS_S = 60.0
"""A cycle that lasts longer says so often how far it is."""
MOST_REASONS = 3
"""Of failed windows, in a report: the commonest are named, the others counted."""


class CycleWindows:
    """Collects what is due in each cycle; used by the cycle's thread."""

    def __init__(self, pipeline: Pipeline, states: SeriesStates, checkpoints: Checkpoints, beat: Callable[[], None]) -> None:
        self._pipeline, self._states, self._checkpoints, self._beat = pipeline, states, checkpoints, beat
        self._monotonic = pipeline.monotonic
        self.newest_ms: dict[RecordType, int] = {}
        """The newest point on the bus, since the start."""
        self._said = 0.0
        self._failures: Counter[str] = Counter()
        self._failing: Counter[str] = Counter()
        """Failed windows of this cycle, by the reason and by the interface."""

    def begin(self) -> None:
        """A new cycle."""
        self._said = self._monotonic()
        self._failures.clear()
        self._failing.clear()

    def collect(self, due: list[Span], until: float, report: CycleReport) -> None:
        """Every series' first window, then every series' second, and so on.

        Raises UnavailableError and ConfigurationError of the store; what is confirmed by then is written by the next cycle.
        """
        collection = Collection(self._pipeline, self._states, due)
        while collection.left and not self._pipeline.stop.is_set() and self._monotonic() < until:
            report.planned += len(collection.left)
            self._round(collection, until, report)
            if not collection.complete:
                break
            collection.drop(collection.unanswered)
        report.outstanding += len(collection.left.keys() - collection.unanswered)

    def conclude(self, report: CycleReport) -> None:
        """Say in the report which windows were not done, and why."""
        report.failing = tuple(self._failing.most_common(MOST_FAILING))
        for reason, count in self._failures.most_common(MOST_REASONS):
            report.add(ReasonKind.LEFT, f"{counted(count, 'window')} failed: {reason}")
        if len(self._failures) > MOST_REASONS:
            rest = self._failures.total() - sum(count for _, count in self._failures.most_common(MOST_REASONS))
            report.add(ReasonKind.LEFT, f"{counted(rest, 'window')} failed for other reasons")

    def _round(self, collection: Collection, until: float, report: CycleReport) -> None:
        failure: CollectorError | None = None
        written = self._monotonic()
        for results in collection.round(until):
            self._beat()
            for result in results:
                self._note(result, report)
            at = self._monotonic()
            if at - self._said >= PROGRESS_S:
                self._said = at
                log.info("cycle goes on windows=%d of=%d points=%d", report.done, report.planned, report.points)
            if failure is None and at - written >= ADVANCE_S:
                try:
                    collection.drop(self._checkpoints.write(report))
                    report.reached = self._states.reached()
                except CollectorError as error:
                    # what is in flight lands first, so that the next cycle finds the way clear and knows what is confirmed
                    failure = error
                    self._pipeline.flow.shut()
                written = at
        if failure:
            raise failure
        collection.drop(self._checkpoints.write(report))

    def _note(self, result: WindowResult, report: CycleReport) -> None:
        window, series = result.window, result.window.series
        report.done += 1
        log.debug(
            "window ended outcome=%s points=%d seconds=%.3f name=%s record_type=%s begin=%d end=%d",
            result.outcome, result.points, result.seconds, series.name, series.record_type, window.begin_ms, window.end_ms,
        )  # fmt: skip
        self._checkpoints.ended(result, report)
        if result.answered:
            report.points += result.points
            if result.points and result.newest_ms is not None:
                self.newest_ms[series.record_type] = max(result.newest_ms, self.newest_ms.get(series.record_type, 0))
        elif result.outcome is WindowOutcome.FAILED:
            self._failures[result.failure] += 1
            self._failing[series.name] += 1
