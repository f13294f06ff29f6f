"""Up to where every series has points, as far as the table tells: a function of the table, an explicit now and the settings.

A checkpoint follows the newest point. A series *talks* while its checkpoint lies less than LATE_DATA behind what is settled;
one that has been silent for longer trails by LATE_DATA, and its checkpoint says no more than that.
"""

import enum
import statistics
from collections.abc import Sequence, Set
from dataclasses import dataclass

from collector.core.model import RecordType, Row, Table, UntrustedRow


class State(enum.StrEnum):
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

    row: Row
    record_type: RecordType
    checkpoint_ms: int | None
    behind_s: float | None
    """None without a checkpoint."""
    voice: Voice


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the talking series of one record type are behind, and how many others there are; all of active rows."""

    talking: int
    median_s: float | None
    """None when none talks; so is `worst_s`."""
    worst_s: float | None
    silent: int
    unheard: int


@dataclass(frozen=True, slots=True)
class RowStanding:
    """A row, what becomes of it, and its series in the order of RECORD_TYPES."""

    row: Row
    state: State
    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class LagRules:
    """What talking means. Where `late_s` is not over `pause_s`, every series with a checkpoint talks."""

    record_types: tuple[RecordType, ...]
    settle_s: float
    late_s: float
    pause_s: float
    """A series further behind than this has had no points for a while."""

    def voice(self, behind_s: float | None) -> Voice:
        """Of a series that is so far behind."""
        if behind_s is None:
            return Voice.UNHEARD
        return Voice.TALKING if self.late_s <= self.pause_s or behind_s < self.late_s else Voice.SILENT


@dataclass(frozen=True, slots=True)
class Standing:
    """The whole table at one moment."""

    now_ms: int
    settled_ms: int
    rows: tuple[RowStanding, ...]
    untrusted: tuple[UntrustedRow, ...]

    def count(self, state: State) -> int:
        """The rows in that state."""
        return sum(each.state is state for each in self.rows)

    def active(self, record_type: RecordType | None = None) -> list[Position]:
        """The series of active rows, of one record type or of all."""
        positions = [position for each in self.rows if each.state is State.ACTIVE for position in each.positions]
        return [each for each in positions if record_type in (None, each.record_type)]

    def lag(self) -> dict[RecordType, Lag]:
        """By record type."""
        return {each: _lag(self.active(each)) for each in dict.fromkeys(each.record_type for each in self.active())}

    def furthest(self, most: int) -> list[Position]:
        """The talking series that are furthest behind, at most so many; those that are not behind at all are left out."""
        behind = [each for each in self.active() if each.voice is Voice.TALKING and each.behind_s]
        return sorted(behind, key=lambda each: (-(each.behind_s or 0), each.row.name, each.record_type))[:most]

    def of(self, name: str) -> "Standing":
        """The part of it that one name has."""
        rows = tuple(each for each in self.rows if each.row.name == name)
        return Standing(self.now_ms, self.settled_ms, rows, tuple(each for each in self.untrusted if each.name == name))


def stand(table: Table, collected: Set[int], due: Set[int], now_ms: int, rules: LagRules) -> Standing:
    """Judge every row. `collected` are the ids of the rows that are, `due` those of which anything is due."""
    settled_ms = now_ms - round(rules.settle_s * 1000)
    rows = []
    for row in table.rows:
        if row.id not in collected:
            rows.append(RowStanding(row, State.DOUBLE, ()))
            continue
        state = State.ACTIVE if row.active else State.DRAINING if row.id in due else State.RETIRED
        rows.append(RowStanding(row, state, tuple(_position(row, each, settled_ms, rules) for each in rules.record_types)))
    return Standing(now_ms, settled_ms, tuple(rows), table.untrusted)


def _position(row: Row, record_type: RecordType, settled_ms: int, rules: LagRules) -> Position:
    checkpoint_ms = row.checkpoints.get(record_type)
    end_ms = settled_ms if row.active_until_ms is None else min(settled_ms, row.active_until_ms)
    behind_s = None if checkpoint_ms is None else max(0, end_ms - checkpoint_ms) / 1000
    return Position(row, record_type, checkpoint_ms, behind_s, rules.voice(behind_s))


def _lag(positions: Sequence[Position]) -> Lag:
    behind = [each.behind_s for each in positions if each.voice is Voice.TALKING and each.behind_s is not None]
    silent, unheard = (sum(each.voice is voice for each in positions) for voice in (Voice.SILENT, Voice.UNHEARD))
    return Lag(len(behind), statistics.median(behind) if behind else None, max(behind, default=None), silent, unheard)
