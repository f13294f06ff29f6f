"""Where every series stands, as far as the table tells: a function of the table, an explicit now and the settings.

The collector's own lag (`progress`) leaves idle series out. The table does not know them, so here they are as far behind
as `IDLE_BACKOFF` lets them fall, and only beyond that is a series late.
"""

import enum
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from collector.core.model import RecordType, Row, Series, Table, UntrustedRow
from collector.core.report import Lag
from collector.cycle.plan import PlanRules, begin_of, collected


class State(enum.StrEnum):
    """What becomes of a row."""

    ACTIVE = "active"
    DRAINING = "draining"
    """Retired, and still collected up to its `active_until`."""
    RETIRED = "retired"
    """Collected up to its end."""
    DOUBLE = "double"
    """Active, and not collected: an earlier active row has the same name."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far one series has come."""

    series: Series
    checkpoint_ms: int | None
    reached_ms: int
    """The checkpoint, or where a series without one begins."""
    behind_s: float
    """Behind what is due: `now - SETTLE_DELAY`, or the row's `active_until` when that is earlier."""
    late: bool


@dataclass(frozen=True, slots=True)
class RowStanding:
    """A row, what becomes of it, and its series in the order of RECORD_TYPES."""

    row: Row
    state: State
    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """The whole table at one moment; `late_after_s` is how far behind a series may be before it is late."""

    now_ms: int
    due_ms: int
    late_after_s: float
    rows: tuple[RowStanding, ...]
    untrusted: tuple[UntrustedRow, ...]

    def count(self, state: State) -> int:
        """The rows in that state."""
        return sum(each.state is state for each in self.rows)

    def positions(self, *states: State) -> list[Position]:
        """The series of the rows in these states."""
        return [position for each in self.rows if each.state in states for position in each.positions]

    @property
    def late(self) -> list[Position]:
        """The late series among those that are collected."""
        return [each for each in self.positions(State.ACTIVE, State.DRAINING) if each.late]

    def lag(self) -> dict[RecordType, Lag]:
        """How far the active series of each record type are behind."""
        behind: dict[RecordType, list[float]] = {}
        for each in self.positions(State.ACTIVE):
            behind.setdefault(each.series.record_type, []).append(each.behind_s)
        return {key: Lag(max(values), statistics.median(values), len(values)) for key, values in behind.items()}

    def furthest(self, most: int) -> list[Position]:
        """The series that are furthest behind, at most so many; those that are not behind at all are left out."""
        behind = [each for each in self.positions(State.ACTIVE, State.DRAINING) if each.behind_s > 0]
        return sorted(behind, key=lambda each: (-each.behind_s, each.series.name, each.series.record_type))[:most]

    def of(self, name: str) -> "Standing":
        """The part of it that one name has."""
        rows = tuple(each for each in self.rows if each.row.name == name)
        untrusted = tuple(each for each in self.untrusted if each.name == name)
        return Standing(self.now_ms, self.due_ms, self.late_after_s, rows, untrusted)


def stand(table: Table, now_ms: int, rules: PlanRules, late_after_s: float) -> Standing:
    """Judge every row of the table."""
    due_ms = now_ms - rules.settle_ms
    taken = {(row.id, row.name): earlier for row, earlier in collected(table.rows)}
    rows = []
    for row in table.rows:
        earlier = taken.get((row.id, row.name))
        if earlier is None:
            rows.append(RowStanding(row, State.DOUBLE, ()))
            continue
        positions = tuple(_position(row, each, earlier, due_ms, rules, late_after_s) for each in rules.record_types)
        rows.append(RowStanding(row, _state(row, positions), positions))
    return Standing(now_ms, due_ms, late_after_s, tuple(rows), table.untrusted)


def _position(
    row: Row, record_type: RecordType, earlier: Iterable[Row], due_ms: int, rules: PlanRules, late_after_s: float
) -> Position:
    reached_ms = begin_of(row, record_type, earlier, rules.lookback_ms)
    end_ms = due_ms if row.active_until_ms is None else min(due_ms, row.active_until_ms)
    # a row that is still draining is judged by now, like all others: the little that it lacks should have come long ago
    late = reached_ms < end_ms and (due_ms - reached_ms) / 1000 > late_after_s
    series = Series(row.id, row.name, record_type)
    return Position(series, row.checkpoints.get(record_type), reached_ms, max(0, end_ms - reached_ms) / 1000, late)


def _state(row: Row, positions: Iterable[Position]) -> State:
    until_ms = row.active_until_ms
    if until_ms is None:
        return State.ACTIVE
    return State.DRAINING if any(each.reached_ms < until_ms for each in positions) else State.RETIRED
