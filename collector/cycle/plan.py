"""Which windows are due: functions of the table, an explicit now and the settings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from collector.core.model import FIRST_MS, RecordType, Row, Series, Window
from collector.cycle.rules import Rules

MINUTE_MS = 60_000
SHORTEST_TRY_MS = 900_000
"""After failures a series asks for half as much each time, but not for less than 15 minutes."""

History = Mapping[str, Sequence[Row]]
"""Every row of a name, in the order of the ids; for the names that it has."""


@dataclass(frozen=True, slots=True)
class Span:
    """All that is due of a series, `[begin_ms, end_ms)`; asked for in windows, one after the other."""

    series: Series
    begin_ms: int
    end_ms: int
    skipped_from_ms: int | None = None
    """Where the series stood when it was further behind than the backlog's limit: from there to `begin_ms` is skipped."""
    superseded: bool = False
    """See Window.superseded."""

    def window(self, most_ms: int) -> Window:
        """The first window of the span, at most that long."""
        end_ms = min(self.end_ms, self.begin_ms + most_ms)
        return Window(self.series, self.begin_ms, end_ms, self.superseded)

    def after(self, window: Window) -> "Span | None":
        """What is left once that window is done; None when that is nothing. The checkpoint may not have moved."""
        if window.end_ms >= self.end_ms:
            return None
        return Span(self.series, window.end_ms, self.end_ms, superseded=self.superseded)


def settled_ms(now_ms: int, settle_ms: int) -> int:
    """Up to where the source's points are taken to be complete: `SETTLE_DELAY` ago, truncated to the minute."""
    return (now_ms - settle_ms) // MINUTE_MS * MINUTE_MS


def spans(rows: Iterable[Row], history: History, now_ms: int, rules: Rules) -> list[Span]:
    """What is due of each series of each row that is collected, in the table's order.

    `history` has to hold the names of `names_to_look_up`.
    """
    settled = settled_ms(now_ms, rules.settle_ms)
    due = []
    for row, others in collected(rows, history):
        end_ms = settled if row.active_until_ms is None else min(settled, row.active_until_ms)
        for record_type in rules.record_types:
            begin_ms = begin_of(row, record_type, others, rules)
            if begin_ms >= end_ms:
                continue
            series = Series(row.id, row.name, record_type)
            superseded = not row.active and _superseded(row, record_type, others, rules)
            skipped_from_ms = None
            if rules.max_backlog_ms and end_ms - begin_ms > rules.max_backlog_ms:
                begin_ms, skipped_from_ms = end_ms - rules.max_backlog_ms, begin_ms
            due.append(Span(series, begin_ms, end_ms, skipped_from_ms, superseded))
    return due


def names_to_look_up(rows: Iterable[Row], record_types: Iterable[RecordType]) -> set[str]:
    """The names of which every row has to be known: of rows without a checkpoint, and of retired ones."""
    wanted = tuple(record_types)
    return {row.name for row in rows if not row.active or any(each not in row.checkpoints for each in wanted)}


def collected(rows: Iterable[Row], history: History | None = None) -> list[tuple[Row, Sequence[Row]]]:
    """The rows that are collected, each with all known rows of its name. One with an active earlier row is not collected."""
    mine = sorted(rows, key=lambda row: row.id)
    of_table: dict[str, list[Row]] = {}
    for row in mine:
        of_table.setdefault(row.name, []).append(row)
    families: History = {**of_table, **(history or {})}
    return [
        (row, families[row.name])
        for row in mine
        if not any(each.active and each.id < row.id for each in families[row.name])
    ]


def begin_of(row: Row, record_type: RecordType, family: Iterable[Row], rules: Rules) -> int:
    """Where a series goes on: at its checkpoint, or, without one, where `first_begin` says.

    Two rows of a name that were active at once retire together: the later one has nothing that the earlier one has not.
    """
    checkpoint_ms = row.checkpoints.get(record_type)
    begin_ms = first_begin(row, record_type, family, rules) if checkpoint_ms is None else checkpoint_ms
    return begin_ms if row.active else max([begin_ms, *_covered(row, record_type, family)])


def first_begin(row: Row, record_type: RecordType, family: Iterable[Row], rules: Rules) -> int:
    """Where a series without a checkpoint begins: `INITIAL_LOOKBACK` before its row was first listed, or after earlier rows."""
    begin_ms = max(FIRST_MS, row.active_from_ms - rules.lookback_ms)
    return begin_after_earlier_rows(row.active_from_ms, begin_ms, _covered(row, record_type, family), rules)


def begin_after_earlier_rows(active_from_ms: int, begin_ms: int, covered: Sequence[int], rules: Rules) -> int:
    """Where a new row of a name begins, `begin_ms` by its listing; `covered` are the times up to which earlier rows cover it.

    Never before these, since no point comes twice; and right there when the name was gone for no longer than LATE_DATA, so
    that a listing that flaps costs nothing.
    """
    if not covered:
        return begin_ms
    covered_ms = max(covered)
    return covered_ms if active_from_ms - covered_ms <= rules.late_ms else max(begin_ms, covered_ms)


def _covered(row: Row, record_type: RecordType, family: Iterable[Row]) -> list[int]:
    """The times up to which the earlier rows of its name cover it."""
    return [bound for each in family if each.id < row.id for bound in each.ends(record_type)]


def _superseded(row: Row, record_type: RecordType, family: Iterable[Row], rules: Rules) -> bool:
    """Whether a later row of the name has had points: what the earlier one still lacks would come before a newer point."""
    return any(
        each.id > row.id
        and (checkpoint_ms := each.checkpoints.get(record_type)) is not None
        and checkpoint_ms > first_begin(each, record_type, family, rules)
        for each in family
    )
