"""Windows, round after round: one of each series that has anything left, then the next; for the cycle and for the backfill."""

from collections.abc import Iterable, Iterator

from collector.core.model import Series, Window
from collector.core.report import WindowOutcome
from collector.cycle.pipeline import Pipeline, WindowResult
from collector.cycle.plan import Span
from collector.cycle.series_state import SeriesStates

SILENT_ROOM = 625
"""Messages to expect of a series that had none when last asked. Its window may be a day long: with room for a day's points each,
only a few requests could be in flight. Points that come after all take the room that they need."""


class Collection:
    """What is left of the spans; used by one thread. The caller drops a series that it waits for no longer."""

    def __init__(self, pipeline: Pipeline, states: SeriesStates, spans: Iterable[Span]) -> None:
        self._pipeline = pipeline
        self._states = states
        self.left: dict[Series, Span] = {span.series: span for span in spans}
        self.not_done: set[Series] = set()
        """The series whose window of the last round was not answered or not confirmed; in the next round it comes again."""
        self.complete = True
        """Whether each window of the last round has a result."""

    def round(self, until: float) -> Iterator[list[WindowResult]]:
        """Ask for one window of each series that is left; yields results as they come, at least every `TICK_S`."""
        windows = [self._states.window(span) for span in self.left.values()]
        self.not_done = set()
        asked = 0
        for results in self._pipeline.windows(windows, until, self._room_for):
            asked += len(results)
            for result in results:
                self._note(result)
            yield results
        self.complete = asked == len(windows)

    def drop(self, series: Iterable[Series]) -> None:
        """Ask no more for these."""
        for each in series:
            self.left.pop(each, None)

    def _note(self, result: WindowResult) -> None:
        window, series = result.window, result.window.series
        self._states.asked(series)
        if result.done:
            span = self.left.pop(series)
            self._states.answered(window, span.end_ms, result.newest_ms is not None)
            if rest := span.after(window):
                self.left[series] = rest
            return
        self.not_done.add(series)
        if result.outcome is WindowOutcome.FAILED:
            self._states.failed(window, result.shorten)

    def _room_for(self, window: Window) -> int:
        return window.grid_points if self._states.expects_points(window.series) else min(window.grid_points, SILENT_ROOM)
