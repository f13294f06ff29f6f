"""Which windows are due (SPEC section 3): functions of the table, an explicit now and the settings."""

from collections.abc import Iterable
from dataclasses import dataclass

from collector.core.model import FIRST_MS, RecordType, Row, Series, Table, Window

MINUTE_MS = 60_000
SHORTEST_TRY_MS = 900_000
"""After failures a series asks for half as much each time, but not for less than 15 minutes."""


@dataclass(frozen=True, slots=True)
class PlanRules:
    """The settings that planning depends on, in milliseconds."""

    record_types: tuple[RecordType, ...]
    settle_ms: int
    lookback_ms: int
    max_window_ms: int
    max_backlog_ms: int
    """0: no limit."""


@dataclass(frozen=True, slots=True)
class Span:
    """All that is due of a series, `[begin_ms, end_ms)`; asked for in windows, one after the other."""

    series: Series
    begin_ms: int
    end_ms: int
    checkpoint_ms: int | None
    skipped_from_ms: int | None = None
    """Where the series stood when it was further behind than the backlog's limit: from there to `begin_ms` is skipped."""

    def window(self, most_ms: int) -> Window:
        """The first window of the span, at most that long."""
        return Window(self.series, self.begin_ms, min(self.end_ms, self.begin_ms + most_ms), self.checkpoint_ms)

    def after(self, window: Window) -> "Span | None":
        """What is left once that window is done; None when that is nothing."""
        if window.end_ms >= self.end_ms:
            return None
        return Span(self.series, window.end_ms, self.end_ms, window.end_ms)


def settled_ms(now_ms: int, settle_ms: int) -> int:
    """Up to where Netbeam's points are taken to be complete: `SETTLE_DELAY` ago, truncated to the minute."""
    return (now_ms - settle_ms) // MINUTE_MS * MINUTE_MS


def spans(table: Table, now_ms: int, rules: PlanRules) -> list[Span]:
    """What is due of each series of each row that is collected, in the table's order."""
    settled = settled_ms(now_ms, rules.settle_ms)
    due = []
    for row, earlier in collected(table.rows):
        end_ms = settled if row.active_until_ms is None else min(settled, row.active_until_ms)
        for record_type in rules.record_types:
            begin_ms = begin_of(row, record_type, earlier, rules.lookback_ms)
            if begin_ms >= end_ms:
                continue
            series = Series(row.id, row.name, record_type)
            checkpoint_ms = row.checkpoints.get(record_type)
            if rules.max_backlog_ms and end_ms - begin_ms > rules.max_backlog_ms:
                due.append(Span(series, end_ms - rules.max_backlog_ms, end_ms, checkpoint_ms, skipped_from_ms=begin_ms))
            else:
                due.append(Span(series, begin_ms, end_ms, checkpoint_ms))
    return due


def collected(rows: Iterable[Row]) -> list[tuple[Row, list[Row]]]:
    """The rows that are collected, each with the earlier ones of its name; of two active ones the lower id counts."""
    by_name: dict[str, list[Row]] = {}
    chosen = []
    for row in sorted(rows, key=lambda row: row.id):
        earlier = by_name.setdefault(row.name, [])
        if not (row.active and any(each.active for each in earlier)):
            chosen.append((row, list(earlier)))
        earlier.append(row)
    return chosen


def begin_of(row: Row, record_type: RecordType, earlier: Iterable[Row], lookback_ms: int) -> int:
    """Where a series goes on: at its checkpoint, or, without one, `INITIAL_LOOKBACK` before it was first listed.

    Without a checkpoint it never goes back behind what an earlier row of its name covers, since no point comes twice, nor
    behind the first time of 13 digits, however long the lookback is.
    """
    checkpoint_ms = row.checkpoints.get(record_type)
    if checkpoint_ms is not None:
        return checkpoint_ms
    bounds = [FIRST_MS, row.active_from_ms - lookback_ms]
    for each in earlier:
        bounds += each.ends(record_type)
    return max(bounds)
