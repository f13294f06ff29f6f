"""What is remembered of each series from cycle to cycle: when it was asked, up to when answered, whether it is idle or failed.

Kept in memory only: after a restart every series is asked again, and nothing but requests is lost.
"""

import random
import statistics
import zlib
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from operator import itemgetter

from collector.core.model import RecordType, Row, Series, Window
from collector.core.report import AnsweredUpTo
from collector.cycle.plan import SHORTEST_TRY_MS, Span
from collector.cycle.rules import Rules

PATIENCE = 2
"""A series is asked in each cycle until more cycles than these in a row have brought no point."""


@dataclass(slots=True)
class SeriesState:
    """What is known of one series."""

    checkpoint_ms: int | None = None
    """What its row holds. When it was changed in the table by hand, the series is asked again."""
    active: bool = True
    """Of an active row."""
    confirmed_ms: int | None = None
    """Where its checkpoint belongs by what this cycle has confirmed, written to the table or not; None before that."""
    answered_ms: int | None = None
    """Up to when it was answered, and what it had is confirmed."""
    settled_ms: int | None = None
    """The settled end of the cycle in which it was last asked, if it was answered up to there."""
    empty: int = 0
    """How many cycles have answered it up to its end since the last one with a point; -1 until that one has reached the end."""
    most_ms: int | None = None
    """How long the next window may be after a failure; None: as long as the setting allows."""
    asked_in: int = 0
    """The number of the cycle in which it was last asked."""


def by_chance() -> Callable[[int], int]:
    """Places for row ids in an order that differs from start to start."""
    seed = random.getrandbits(60)
    return lambda row_id: hash((seed, row_id))


class SeriesStates:
    """The states of all series; used by the cycle's thread alone.

    `place` orders the rows that were last asked in the same cycle. It differs from start to start, so that restarts and cycles
    that are cut short do not always leave out the same ones.
    """

    def __init__(self, rules: Rules, place: Callable[[int], float] | None = None) -> None:
        self._rules = rules
        self._place = place or by_chance()
        self._states: dict[Series, SeriesState] = {}
        self._cycle = 0
        self._now_ms = self._settled_ms = 0
        self.idle: Set[Series] = frozenset()
        """The series that are left out of this cycle."""

    def begin(self, rows: Iterable[Row], now_ms: int, settled_ms: int) -> None:
        """A new cycle of these rows; the series of all others are forgotten, since these are gone or drained."""
        self._cycle += 1
        self._now_ms, self._settled_ms = now_ms, settled_ms
        before, self._states = self._states, {}
        for row in rows:
            for record_type in self._rules.record_types:
                series, checkpoint_ms = Series(row.id, row.name, record_type), row.checkpoints.get(record_type)
                state = before.get(series) or SeriesState(checkpoint_ms)
                if state.checkpoint_ms != checkpoint_ms:
                    state = SeriesState(checkpoint_ms, most_ms=state.most_ms, asked_in=state.asked_in)
                state.active, state.confirmed_ms = row.active, None
                if state.settled_ms is None and checkpoint_ms is not None and checkpoint_ms >= settled_ms:
                    state.settled_ms = settled_ms  # nothing is due: answered up to there before a restart
                self._states[series] = state

    def choose(self, spans: Iterable[Span]) -> list[Span]:
        """The spans to ask for in this cycle, those that were not asked for the longest time first; without the `idle` series.

        A series that was already answered up to this settled end is neither chosen nor idle. One that a later row of its name
        supersedes is never idle: its last points may have come together with the newer ones, and then it is done.
        """
        chosen: list[tuple[int, float, Span]] = []
        idle: set[Series] = set()
        for span in spans:
            state = self.of(span.series)
            if state.settled_ms == self._settled_ms:
                continue
            if not self._rules.once and not span.superseded and self._is_idle(span.series, state):
                idle.add(span.series)
            else:
                chosen.append((state.asked_in, self._place(span.series.row_id), span))
        chosen.sort(key=itemgetter(0, 1))
        self.idle = idle
        return [span for _, _, span in chosen]

    def of(self, series: Series) -> SeriesState:
        """Its state."""
        state = self._states.get(series)
        if state is None:
            state = self._states[series] = SeriesState()
        return state

    def window(self, span: Span) -> Window:
        """The next window of a span, as long as the settings and the series' failures allow."""
        return span.window(min(self._rules.max_window_ms, self.of(span.series).most_ms or self._rules.max_window_ms))

    def expects_points(self, series: Series) -> bool:
        """Whether it is likely to have points: it had some when last answered, or, before that, it talks."""
        state = self.of(series)
        return self.talks(state.checkpoint_ms) if state.answered_ms is None else state.empty <= 0

    def asked(self, series: Series) -> None:
        """It was asked in this cycle."""
        self.of(series).asked_in = self._cycle

    def failed(self, window: Window, shorten: bool = True) -> None:
        """The window was not answered: the series' next one is half as long, but 15 minutes at least."""
        state = self.of(window.series)
        state.settled_ms = None
        if shorten:
            state.most_ms = max(SHORTEST_TRY_MS, (window.end_ms - window.begin_ms) // 2)

    def answered(self, window: Window, end_ms: int, had_points: bool) -> None:
        """The window was answered, and what it had is confirmed; `end_ms` is where the series' span ends."""
        state = self.of(window.series)
        state.answered_ms, state.settled_ms = window.end_ms, None
        if had_points:
            state.empty = -1
        if window.end_ms >= end_ms:
            state.settled_ms = self._settled_ms
            state.most_ms = None
            state.empty += 1

    def skips(self, span: Span) -> bool:
        """Whether the beginning of the span that is skipped was never answered."""
        answered_ms = self.of(span.series).answered_ms
        return span.skipped_from_ms is not None and (answered_ms is None or answered_ms < span.begin_ms)

    def talks(self, checkpoint_ms: int | None) -> bool:
        """Whether a series with this checkpoint talks."""
        return self._rules.talks(checkpoint_ms, self._settled_ms)

    def checkpoints_of_answered(self) -> dict[RecordType, list[tuple[int | None, int]]]:
        """Of the active series that were answered, when last asked, up to the settled end: the checkpoint, and that end."""
        found: dict[RecordType, list[tuple[int | None, int]]] = {each: [] for each in self._rules.record_types}
        for series, state in self._states.items():
            if state.active and state.settled_ms is not None:
                found[series.record_type].append((state.checkpoint_ms, state.settled_ms))
        return found

    def answered_up_to(self) -> dict[RecordType, AnsweredUpTo]:
        """Up to when the active series were answered; before its first answer one that talks counts by its checkpoint."""
        found: dict[RecordType, list[int]] = {each: [] for each in self._rules.record_types}
        for series, state in self._states.items():
            if not state.active or series in self.idle or self._was_idle(state):
                continue
            at_ms = state.answered_ms
            if at_ms is None and self.talks(state.checkpoint_ms):
                at_ms = state.checkpoint_ms
            if at_ms is not None:
                found[series.record_type].append(at_ms)
        return {
            record_type: AnsweredUpTo(min(times), statistics.median_low(times), len(times))
            for record_type, times in found.items()
            if times
        }

    def _every(self, state: SeriesState) -> int:
        """An idle series is asked every so many cycles: 2, 4, 8, … up to `IDLE_BACKOFF`."""
        if state.empty <= PATIENCE:
            return 1
        return min(1 << min(state.empty - PATIENCE, 30), max(1, self._rules.idle_backoff_ms // self._rules.poll_ms))

    def _was_idle(self, state: SeriesState) -> bool:
        """Whether it was idle until this cycle and was not answered in it yet. It does not count as behind: it was not asked."""
        return self._every(state) > 1 and not self.talks(state.checkpoint_ms) and state.settled_ms != self._settled_ms

    def _is_idle(self, series: Series, state: SeriesState) -> bool:
        if state.settled_ms is None or self.talks(state.checkpoint_ms):
            return False
        every = self._every(state)
        if every == 1 or self._settled_ms - state.settled_ms >= every * self._rules.poll_ms:
            return False
        # in which of the cycles is a matter of its name, so that the idle ones do not all come at once
        place = zlib.crc32(f"{series.name}{series.record_type}".encode())
        return (round(self._now_ms / self._rules.poll_ms) - place) % every != 0
