"""What is remembered of each series from cycle to cycle: up to when it was answered, who is idle, who failed, whose turn it is.

Kept in memory only: after a restart every series is asked again, and nothing but requests is lost.
"""

import random
import statistics
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass

from collector.core.model import RecordType, Row, Series, Window
from collector.core.report import Reached
from collector.cycle.plan import SHORTEST_TRY_MS, Span

PATIENCE = 2
"""The first two empty answers change nothing."""


@dataclass(slots=True)
class _Known:
    checkpoint_ms: int | None
    """What the row held when all of this was true; somebody who changes it wants the series asked again."""
    answered_ms: int | None = None
    """Up to when it was answered, and what it had is confirmed."""
    in_full: bool = False
    """When it was last asked, it was answered up to what was then the settled end."""
    settled_ms: int = 0
    """What that settled end was."""
    asked_ms: int = 0
    """When the cycle began in which it was last answered up to its end."""
    had_points: bool = False
    """In this cycle."""
    empty: int = 0
    """Cycles in a row that it was answered in without a point."""
    most_ms: int | None = None
    """How long the next window may be after a failure; None: as long as the setting allows."""
    turn: int = 0
    """The cycle in which it was last asked."""


class SeriesStates:
    """The states of all series; used by the cycle's thread alone.

    A series *talks* while its checkpoint lies less than LATE_DATA behind the settled end; `late_ms` is None where every
    series with a checkpoint does.
    """

    def __init__(
        self,
        poll_ms: int,
        idle_backoff_ms: int,
        max_window_ms: int,
        late_ms: int | None,
        shuffled: Callable[[], float] = random.random,
    ) -> None:
        self._poll_ms = poll_ms
        self._most_idle = max(1, idle_backoff_ms // poll_ms)
        self._max_window_ms = max_window_ms
        self._late_ms = late_ms
        self._shuffled = shuffled
        self._states: dict[Series, _Known] = {}
        self._place: dict[int, float] = {}
        """Each row's place among those of one turn, by chance, so that restarts and cycles that are cut short starve nobody."""
        self._turn = 0
        self._now_ms = self._settled_ms = 0

    def begin(self, row_ids: Set[int], now_ms: int, settled_ms: int) -> None:
        """A new cycle; the series of all other rows are forgotten, since these are gone or drained."""
        self._turn += 1
        self._now_ms, self._settled_ms = now_ms, settled_ms
        self._states = {series: known for series, known in self._states.items() if series.row_id in row_ids}
        self._place = {row_id: place for row_id, place in self._place.items() if row_id in row_ids}

    def choose(self, spans: Iterable[Span], *, everyone: bool = False) -> tuple[list[Span], list[Span]]:
        """The spans to ask for in this cycle, those that got no turn before first; and those left out as idle.

        A series that was already answered up to this end as of this settled time is in neither. One that a later row of its
        name supersedes does not rest: what it lacks may have come together with the newer points, and then it is over.
        """
        chosen: list[Span] = []
        idle: list[Span] = []
        for span in spans:
            known = self._known(span.series, span.checkpoint_ms)
            known.had_points = False
            if known.checkpoint_ms != span.checkpoint_ms:
                known.checkpoint_ms, known.answered_ms, known.in_full, known.empty = span.checkpoint_ms, None, False, 0
            if known.in_full and known.settled_ms == self._settled_ms:
                continue
            rests = not everyone and not span.superseded and self._rests(span, known)
            (idle if rests else chosen).append(span)
        chosen.sort(key=lambda span: (self._states[span.series].turn, self._place_of(span.series.row_id)))
        return chosen, idle

    def window(self, span: Span) -> Window:
        """The next window of a span, as long as the settings and the series' failures allow."""
        known = self._states.get(span.series)
        return span.window(min(self._max_window_ms, (known and known.most_ms) or self._max_window_ms))

    def expects_points(self, window: Window) -> bool:
        """Whether the series is likely to have points: it had some when last answered, or, before that, it talks."""
        known = self._states.get(window.series)
        if known is None or known.answered_ms is None:
            return self.talks(window.checkpoint_ms)
        return known.had_points or known.empty == 0

    def asked(self, window: Window) -> None:
        """The series got its turn in this cycle."""
        self._known(window.series, window.checkpoint_ms).turn = self._turn

    def failed(self, window: Window, shorten: bool = True) -> None:
        """The window was not answered: the series' next one is half as long, but 15 minutes at least."""
        known = self._known(window.series, window.checkpoint_ms)
        known.in_full = False
        if shorten:
            known.most_ms = max(SHORTEST_TRY_MS, (window.end_ms - window.begin_ms) // 2)

    def answered(self, window: Window, end_ms: int, had_points: bool) -> None:
        """The window was answered, and what it had is confirmed; `end_ms` is where the series' span ends."""
        known = self._known(window.series, window.checkpoint_ms)
        known.answered_ms = window.end_ms
        known.had_points = known.had_points or had_points
        known.in_full = window.end_ms >= end_ms
        if known.in_full:
            known.settled_ms = self._settled_ms
            known.most_ms = None
            known.asked_ms = self._now_ms
            known.empty = 0 if known.had_points else known.empty + 1

    def skips(self, span: Span) -> bool:
        """Whether the beginning of the span that is skipped was never answered."""
        known = self._states.get(span.series)
        answered_ms = known.answered_ms if known else None
        return span.skipped_from_ms is not None and (answered_ms is None or answered_ms < span.begin_ms)

    def moved(self, checkpoints: Mapping[Series, int]) -> None:
        """The table holds these checkpoints now."""
        for series, checkpoint_ms in checkpoints.items():
            self._known(series, checkpoint_ms).checkpoint_ms = checkpoint_ms

    def forget(self, series: Collection[Series]) -> None:
        """Somebody changed their checkpoints in the table: they are asked again."""
        for each in series:
            self._states.pop(each, None)

    def talks(self, checkpoint_ms: int | None) -> bool:
        """Whether a series with this checkpoint talks."""
        if checkpoint_ms is None:
            return False
        return self._late_ms is None or checkpoint_ms > self._settled_ms - self._late_ms

    def counted(self, rows: Iterable[Row], record_type: RecordType) -> list[tuple[int | None, int]]:
        """Of those series that were answered, when last asked, up to the settled end: the checkpoint, and that end."""
        known = (self._states.get(Series(row.id, row.name, record_type)) for row in rows)
        return [(each.checkpoint_ms, each.answered_ms) for each in known if each and each.in_full and each.answered_ms]

    def reached(self, rows: Iterable[Row], record_types: Iterable[RecordType], idle: Set[Series]) -> dict[RecordType, Reached]:
        """Up to when the series of these rows were answered; before its first answer one that talks counts by its checkpoint."""
        active = list(rows)
        found = {}
        for record_type in record_types:
            times = []
            for row in active:
                series = Series(row.id, row.name, record_type)
                known = self._states.get(series)
                if series in idle or (known is not None and self._comes_from_rest(known)):
                    continue
                if known is not None and known.answered_ms is not None:
                    times.append(known.answered_ms)
                elif self.talks(checkpoint_ms := row.checkpoints.get(record_type)) and checkpoint_ms is not None:
                    times.append(checkpoint_ms)
            if times:
                found[record_type] = Reached(min(times), int(statistics.median_low(times)), len(times))
        return found

    def _known(self, series: Series, checkpoint_ms: int | None) -> _Known:
        known = self._states.get(series)
        if known is None:
            known = self._states[series] = _Known(checkpoint_ms)
        return known

    def _place_of(self, row_id: int) -> float:
        place = self._place.get(row_id)
        if place is None:
            place = self._place[row_id] = self._shuffled()
        return place

    def _every(self, known: _Known) -> int:
        """An idle series is asked every so many cycles: 2, 4, 8, … up to `IDLE_BACKOFF`."""
        if known.empty <= PATIENCE:
            return 1
        return int(min(2.0 ** min(known.empty - PATIENCE, 30), self._most_idle))

    def _comes_from_rest(self, known: _Known) -> bool:
        """Whether it has rested until this cycle, in which it was not answered yet: it is not behind, it was not asked."""
        return self._every(known) > 1 and not self.talks(known.checkpoint_ms) and known.settled_ms != self._settled_ms

    def _rests(self, span: Span, known: _Known) -> bool:
        if self.talks(span.checkpoint_ms):
            return False
        every = self._every(known)
        if every == 1 or self._now_ms - known.asked_ms >= every * self._poll_ms:
            return False
        # its own place among the cycles, by its name, so that the idle ones do not all come at once
        place = zlib.crc32(f"{span.series.name}{span.series.record_type}".encode())
        return (round(self._now_ms / self._poll_ms) - place) % every != 0
