"""Up to where every series has points, as far as the table tells: a function of the table, an explicit now and the settings.

A checkpoint follows the newest point. A series *talks* while its checkpoint lies less than LATE_DATA behind what is settled;
one that has been silent for longer trails by LATE_DATA, and its checkpoint says no more than that.
"""

import enum
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from collector.core.model import RecordType, Row, Table, UntrustedRow
from collector.cycle.plan import collected, spans
from collector.cycle.rules import Rules


class RowState(enum.StrEnum):
    """What becomes of a row."""

    ACTIVE = "active"
    DRAINING = "draining"
    """Retired, and still collected up to its `active_until`."""
    RETIRED = "retired"
    """Collected up to its end."""
    DOUBLE = "double"
    """Active, and not collected: an earlier active row has the same name."""


class Voice(enum.StrEnum):
    """Whether a series has points."""

    TALKING = "talking"
    SILENT = "silent"
    """For LATE_DATA or longer."""
    UNHEARD = "no points yet"
    """It has no checkpoint."""


@dataclass(frozen=True, slots=True)
class Position:
    """One series: its checkpoint, and how far that is behind what is settled, or behind the end of a retired row."""

    record_type: RecordType
    checkpoint_ms: int | None
    behind_s: float | None
    """None without a checkpoint."""
    voice: Voice


@dataclass(frozen=True, slots=True)
class RecordTypeLag:
    """How far the talking series of one record type are behind, and how many others there are; all of active rows."""

    talking: int
    median_s: float | None
    """None when none talks; so is `worst_s`."""
    worst_s: float | None
    silent: int
    no_points_yet: int


@dataclass(frozen=True, slots=True)
class RowLag:
    """A row, what becomes of it, and its series in the order of RECORD_TYPES."""

    row: Row
    state: RowState
    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class TableLag:
    """The whole table at one moment."""

    now_ms: int
    settled_ms: int
    rows: tuple[RowLag, ...]
    untrusted: tuple[UntrustedRow, ...]

    def counts(self) -> dict[str, int]:
        """How many rows there are in each state; `untrusted` is one more."""
        states = Counter(each.state for each in self.rows)
        return {**{state.value: states[state] for state in RowState}, "untrusted": len(self.untrusted)}

    def active(self) -> list[tuple[str, Position]]:
        """The series of active rows, each with its row's name."""
        return [(each.row.name, position) for each in self.rows if each.state is RowState.ACTIVE for position in each.positions]

    def by_record_type(self) -> dict[RecordType, RecordTypeLag]:
        """By record type."""
        positions: dict[RecordType, list[Position]] = {}
        for _, position in self.active():
            positions.setdefault(position.record_type, []).append(position)
        return {record_type: _lag(each) for record_type, each in positions.items()}

    def furthest(self, most: int) -> list[tuple[str, Position]]:
        """The talking series that are furthest behind, at most so many; those that are not behind at all are left out."""
        behind = [(name, each) for name, each in self.active() if each.voice is Voice.TALKING and each.behind_s]
        return sorted(behind, key=lambda pair: (-(pair[1].behind_s or 0), pair[0], pair[1].record_type))[:most]

    def of(self, name: str) -> "TableLag":
        """The part of it that one name has."""
        rows = tuple(each for each in self.rows if each.row.name == name)
        return replace(self, rows=rows, untrusted=tuple(each for each in self.untrusted if each.name == name))


def table_lag(table: Table, now_ms: int, rules: Rules) -> TableLag:
    """Judge every row as a cycle would at this moment."""
    settled_ms = now_ms - rules.settle_ms
    collected_ids = {row.id for row, _ in collected(table.rows)}
    due_ids = {span.series.row_id for span in spans(table.rows, {}, now_ms, rules)}
    rows = []
    for row in table.rows:
        if row.id not in collected_ids:
            rows.append(RowLag(row, RowState.DOUBLE, ()))
            continue
        state = RowState.ACTIVE if row.active else RowState.DRAINING if row.id in due_ids else RowState.RETIRED
        positions = (_position(row, each, settled_ms, rules) for each in rules.record_types)
        rows.append(RowLag(row, state, tuple(positions)))
    return TableLag(now_ms, settled_ms, tuple(rows), table.untrusted)


def _position(row: Row, record_type: RecordType, settled_ms: int, rules: Rules) -> Position:
    checkpoint_ms = row.checkpoints.get(record_type)
    if checkpoint_ms is None:
        return Position(record_type, None, None, Voice.UNHEARD)
    end_ms = settled_ms if row.active_until_ms is None else min(settled_ms, row.active_until_ms)
    voice = Voice.TALKING if rules.talks(checkpoint_ms, end_ms) else Voice.SILENT
    return Position(record_type, checkpoint_ms, max(0, end_ms - checkpoint_ms) / 1000, voice)


def _lag(positions: Sequence[Position]) -> RecordTypeLag:
    voices = Counter(each.voice for each in positions)
    behind = [each.behind_s for each in positions if each.voice is Voice.TALKING and each.behind_s is not None]
    median_s = statistics.median(behind) if behind else None
    return RecordTypeLag(len(behind), median_s, max(behind, default=None), voices[Voice.SILENT], voices[Voice.UNHEARD])
