"""What the collector remembers of each series from cycle to cycle: who is idle, who failed, whose turn it is.

Kept in memory only: after a restart every series is asked again, and nothing but requests is lost.
"""

import zlib
from collections.abc import Iterable, Set
from dataclasses import dataclass

from collector.core.model import Series, Window
from collector.cycle.plan import SHORTEST_TRY_MS, Span

PATIENCE = 2
"""The first two empty windows change nothing."""


@dataclass(slots=True)
class _Known:
    talks: bool | None = None
    """Whether the last window had points; None while no window was answered."""
    empty_windows: int = 0
    """In a row, believed or not."""
    doubted_ms: int | None = None
    """Up to where the cycle collected in which it came back empty and was not believed."""
    most_ms: int | None = None
    """How long the next window may be after a failure; None: as long as the setting allows."""
    turn: int = 0
    """The cycle in which it was last asked."""


class Memory:
    """The memory of all series; used by the cycle's thread alone."""

    def __init__(self, poll_ms: int, idle_backoff_ms: int, max_window_ms: int) -> None:
        self._poll_ms = poll_ms
        self._most_idle = max(1, idle_backoff_ms // poll_ms)
        self._max_window_ms = max_window_ms
        self._series: dict[Series, _Known] = {}
        self._continues = False

    def choose(self, spans: Iterable[Span], now_ms: int) -> tuple[list[Span], list[Span]]:
        """The spans to ask for in this cycle, those that got no turn before first; and those left out as idle."""
        chosen: list[Span] = []
        idle: list[Span] = []
        for span in spans:
            (idle if self._rests(span, now_ms) else chosen).append(span)
        chosen.sort(key=lambda span: self._known(span.series).turn)
        return chosen, idle

    def begin(self, row_ids: Set[int], *, continues: bool) -> None:
        """A new cycle: forget the series of all other rows, which are gone or drained.

        `continues`: the table has been collected before, so that any series of which nothing is known may have had points.
        """
        self._continues = continues
        self._series = {series: known for series, known in self._series.items() if series.row_id in row_ids}

    def window(self, span: Span) -> Window:
        """The next window of a span, as long as the settings and the series' failures allow."""
        known = self._series.get(span.series)
        return span.window(min(self._max_window_ms, known.most_ms or self._max_window_ms) if known else self._max_window_ms)

    def talks(self, window: Window) -> bool | None:
        """Whether its series had points in the last window; None: nobody knows, and it may have had some."""
        known = self._series.get(window.series)
        if known and known.talks is not None:
            return known.talks
        return None if self._continues or window.checkpoint_ms is not None else False

    @property
    def anybody_talks(self) -> bool:
        """Whether any series had points in its last window."""
        return any(known.talks for known in self._series.values())

    def doubted_ms(self, series: Series) -> int | None:
        """Up to where the cycle collected in which it came back empty and was not believed; None: it is not doubted."""
        known = self._series.get(series)
        return known.doubted_ms if known else None

    def is_idle(self, series: Series) -> bool:
        """Whether it has been silent for long enough to be asked less often."""
        return self._every(series) > 1

    def asked(self, window: Window, turn: int) -> None:
        """The series got its turn in this cycle."""
        self._known(window.series).turn = turn

    def talked(self, window: Window) -> None:
        """The window came back with points, whatever became of them."""
        known = self._known(window.series)
        known.talks, known.empty_windows = True, 0
        known.doubted_ms = known.most_ms = None

    def answered_empty(
        self, window: Window, settled_ms: int, *, sound: bool = True, credible: bool = True, at_once: bool = False
    ) -> bool:
        """The window came back without points; whether that is believed, so that the window is done.

        A series that had points in its last window, or has a checkpoint from before the start, is asked again until a later
        round finds it empty too, and others not (`credible`): Netbeam may have failed in the middle of a round, or for less
        than half of the series, and what it lacked is there then. `settled_ms` is up to where this cycle collects; `at_once`
        believes the first answer. Where the round is not `sound`, only a series that is known to be silent is believed.
        """
        known = self._known(window.series)
        known.most_ms = None
        if not sound and known.talks is not False:
            return False
        first = known.doubted_ms is None
        suspect = known.talks or (known.talks is None and window.checkpoint_ms is not None)
        if suspect and not at_once and (first or not credible):
            if first:
                known.doubted_ms = settled_ms
                known.empty_windows += 1
            return False
        known.talks, known.doubted_ms = False, None
        known.empty_windows += 1
        return True

    def forget_doubts(self) -> None:
        """What came back empty lately says nothing: it takes two more empty answers to be believed."""
        for known in self._series.values():
            if known.doubted_ms is not None:
                known.doubted_ms, known.empty_windows = None, 0

    def failed(self, window: Window) -> None:
        """Netbeam did not answer the window: the series' next one is half as long, but 15 minutes at least."""
        self._known(window.series).most_ms = max(SHORTEST_TRY_MS, (window.end_ms - window.begin_ms) // 2)

    def _known(self, series: Series) -> _Known:
        return self._series.setdefault(series, _Known())

    def _every(self, series: Series) -> int:
        """An idle series is asked every so many cycles: 2, 4, 8, … up to `IDLE_BACKOFF`."""
        known = self._series.get(series)
        if known is None or known.empty_windows <= PATIENCE:
            return 1
        return int(min(2.0 ** min(known.empty_windows - PATIENCE, 30), self._most_idle))

    def _rests(self, span: Span, now_ms: int) -> bool:
        every = self._every(span.series)
        if every == 1 or span.end_ms - span.begin_ms >= every * self._poll_ms:
            return False
        # its own place among the cycles, by its name, so that the idle ones do not all come at once
        place = zlib.crc32(f"{span.series.name}{span.series.record_type}".encode())
        return (round(now_ms / self._poll_ms) - place) % every != 0
