"""What is remembered of each series from cycle to cycle: up to when it was answered, who is idle, who failed, whose turn it is.

Kept in memory only: after a restart every series is asked again, and nothing but requests is lost.
"""

import random
import statistics
import zlib
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from operator import itemgetter

from collector.core.model import RecordType, Row, Series, Window
from collector.core.report import Reached
from collector.cycle.plan import SHORTEST_TRY_MS, Span

PATIENCE = 2
"""The first two empty answers change nothing."""


@dataclass(slots=True)
class _Known:
    checkpoint_ms: int | None
    """What the row held when all of this was true; somebody who changes it wants the series asked again."""
    active: bool = True
    """Of an active row."""
    answered_ms: int | None = None
    """Up to when it was answered, and what it had is confirmed."""
    settled_ms: int | None = None
    """The settled end of the cycle in which it was last asked, if it was answered up to there."""
    empty: int = 0
    """How many cycles have answered it up to its end since the one that brought a point; -1 in that cycle."""
    most_ms: int | None = None
    """How long the next window may be after a failure; None: as long as the setting allows."""
    turn: int = 0
    """The cycle in which it was last asked."""


def by_chance() -> Callable[[int], int]:
    """Places for row ids in an order that differs from start to start."""
    seed = random.getrandbits(60)
    return lambda row_id: hash((seed, row_id))


class SeriesStates:
    """The states of all series; used by the cycle's thread alone.

    A series *talks* while its checkpoint lies less than LATE_DATA behind the settled end; `late_ms` is None where every
    series with a checkpoint does. `place` is a row's place among those of one turn: by chance, so that restarts and cycles
    that are cut short starve nobody.
    """

    def __init__(
        self,
        poll_ms: int,
        idle_backoff_ms: int,
        max_window_ms: int,
        late_ms: int | None,
        place: Callable[[int], float] | None = None,
    ) -> None:
        self._poll_ms = poll_ms
        self._most_idle = max(1, idle_backoff_ms // poll_ms)
        self._max_window_ms = max_window_ms
        self._late_ms = late_ms
        self._place = place or by_chance()
        self._states: dict[Series, _Known] = {}
        self._turn = 0
        self._now_ms = self._settled_ms = 0
        self._record_types: tuple[RecordType, ...] = ()
        self.idle: Set[Series] = frozenset()
        """The series that are left out of this cycle."""

    def begin(self, rows: Iterable[Row], record_types: tuple[RecordType, ...], now_ms: int, settled_ms: int) -> None:
        """A new cycle of these rows; the series of all others are forgotten, since these are gone or drained."""
        self._turn += 1
        self._record_types, self._now_ms, self._settled_ms = record_types, now_ms, settled_ms
        before, self._states = self._states, {}
        for row in rows:
            for record_type in record_types:
                series, checkpoint_ms = Series(row.id, row.name, record_type), row.checkpoints.get(record_type)
                known = before.get(series) or _Known(checkpoint_ms)
                if known.checkpoint_ms != checkpoint_ms:
                    known = _Known(checkpoint_ms, most_ms=known.most_ms, turn=known.turn)
                known.active = row.active
                self._states[series] = known

    def choose(self, spans: Iterable[Span], *, everyone: bool = False) -> list[Span]:
        """The spans to ask for in this cycle, those that got no turn before first; without those that are `idle`.

        A series that was already answered up to this end as of this settled time is in neither. One that a later row of its
        name supersedes does not rest: what it lacks may have come together with the newer points, and then it is over.
        """
        chosen: list[tuple[int, float, Span]] = []
        idle: set[Series] = set()
        for span in spans:
            known = self._states[span.series]
            if known.settled_ms == self._settled_ms:
                continue
            if not everyone and not span.superseded and self._rests(span.series, known):
                idle.add(span.series)
            else:
                chosen.append((known.turn, self._place(span.series.row_id), span))
        chosen.sort(key=itemgetter(0, 1))
        self.idle = idle
        return [span for _, _, span in chosen]

    def window(self, span: Span) -> Window:
        """The next window of a span, as long as the settings and the series' failures allow."""
        known = self._states.get(span.series)
        return span.window(min(self._max_window_ms, (known and known.most_ms) or self._max_window_ms))

    def expects_points(self, window: Window) -> bool:
        """Whether the series is likely to have points: it had some when last answered, or, before that, it talks."""
        known = self._states.get(window.series)
        if known is None or known.answered_ms is None:
            return self.talks(window.checkpoint_ms)
        return known.empty <= 0

    def asked(self, window: Window) -> None:
        """The series got its turn in this cycle."""
        self._known(window).turn = self._turn

    def failed(self, window: Window, shorten: bool = True) -> None:
        """The window was not answered: the series' next one is half as long, but 15 minutes at least."""
        known = self._known(window)
        known.settled_ms = None
        if shorten:
            known.most_ms = max(SHORTEST_TRY_MS, (window.end_ms - window.begin_ms) // 2)

    def answered(self, window: Window, end_ms: int, had_points: bool) -> None:
        """The window was answered, and what it had is confirmed; `end_ms` is where the series' span ends."""
        known = self._known(window)
        known.answered_ms, known.settled_ms = window.end_ms, None
        if had_points:
            known.empty = -1
        if window.end_ms >= end_ms:
            known.settled_ms = self._settled_ms
            known.most_ms = None
            known.empty += 1

    def skips(self, span: Span) -> bool:
        """Whether the beginning of the span that is skipped was never answered."""
        known = self._states.get(span.series)
        answered_ms = known.answered_ms if known else None
        return span.skipped_from_ms is not None and (answered_ms is None or answered_ms < span.begin_ms)

    def moved(self, series: Series, checkpoint_ms: int) -> None:
        """The table holds this checkpoint now."""
        if known := self._states.get(series):
            known.checkpoint_ms = checkpoint_ms

    def forget(self, series: Series) -> None:
        """Somebody changed its checkpoint in the table: it is asked again."""
        if known := self._states.get(series):
            known.answered_ms = known.settled_ms = None

    def talks(self, checkpoint_ms: int | None) -> bool:
        """Whether a series with this checkpoint talks."""
        if checkpoint_ms is None:
            return False
        return self._late_ms is None or checkpoint_ms > self._settled_ms - self._late_ms

    def counted(self) -> dict[RecordType, list[tuple[int | None, int]]]:
        """Of the active series that were answered, when last asked, up to the settled end: the checkpoint, and that end."""
        found: dict[RecordType, list[tuple[int | None, int]]] = {each: [] for each in self._record_types}
        for series, known in self._states.items():
            if known.active and known.settled_ms is not None:
                found[series.record_type].append((known.checkpoint_ms, known.settled_ms))
        return found

    def reached(self) -> dict[RecordType, Reached]:
        """Up to when the active series were answered; before its first answer one that talks counts by its checkpoint."""
        found: dict[RecordType, list[int]] = {each: [] for each in self._record_types}
        for series, known in self._states.items():
            if not known.active or series in self.idle or self._comes_from_rest(known):
                continue
            at_ms = known.answered_ms
            if at_ms is None and self.talks(known.checkpoint_ms):
                at_ms = known.checkpoint_ms
            if at_ms is not None:
                found[series.record_type].append(at_ms)
        return {each: Reached(min(times), statistics.median_low(times), len(times)) for each, times in found.items() if times}

    def _known(self, window: Window) -> _Known:
        known = self._states.get(window.series)
        if known is None:
            known = self._states[window.series] = _Known(window.checkpoint_ms)
        return known

    def _every(self, known: _Known) -> int:
        """An idle series is asked every so many cycles: 2, 4, 8, … up to `IDLE_BACKOFF`."""
        if known.empty <= PATIENCE:
            return 1
        return int(min(2.0 ** min(known.empty - PATIENCE, 30), self._most_idle))

    def _comes_from_rest(self, known: _Known) -> bool:
        """Whether it has rested until this cycle, in which it was not answered yet: it is not behind, it was not asked."""
        return self._every(known) > 1 and not self.talks(known.checkpoint_ms) and known.settled_ms != self._settled_ms

    def _rests(self, series: Series, known: _Known) -> bool:
        if known.settled_ms is None or self.talks(known.checkpoint_ms):
            return False
        every = self._every(known)
        if every == 1 or self._settled_ms - known.settled_ms >= every * self._poll_ms:
            return False
        # its own place among the cycles, by its name, so that the idle ones do not all come at once
        place = zlib.crc32(f"{series.name}{series.record_type}".encode())
        return (round(self._now_ms / self._poll_ms) - place) % every != 0
