"""The promise: no checkpoint is ahead of what the broker has confirmed, and what a checkpoint covers is on the bus.

`compare` looks at a table and at what was heard on the bus *after* the table was read, in this order, and says what is there,
what is missing and what is wrong, by the network's own account of its points.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from collector.core.model import RecordType
from collector.source.simulated.network import Point
from tests.rig.heard import Heard, same
from tests.rig.tables import RECORD_TYPES, TableRow

LOOKBACK_S = 1800.0
LATE_DATA_MS = 86_400_000
MOST_LINES = 12

Starts = Mapping[tuple[int, str], int]
"""Where the collection of a row's record type began, by the row's id, in ms; for rows that did not start by the usual rule."""


class Network(Protocol):
    """Who knows which points there are: `collector.source.simulated.network.SimulatedNetwork`, or several of them."""

    def expected_points(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> list[Point]:
        """All points in `[begin_ms, end_ms)`. Raises KeyError for an interface that it does not have."""


@dataclass(slots=True)
class Counts:
    """What a comparison found. `points` + `missing` is what the checkpoints promise."""

    points: int = 0
    """Covered by a checkpoint, and on the bus with the right value."""
    missing: int = 0
    """Covered by a checkpoint, and not on the bus."""
    duplicates: int = 0
    beyond: int = 0
    """On the bus, and not covered: confirmed, but not written to the table yet; or before a row's start."""
    interfaces: int = 0
    """Messages."""
    wrong: int = 0
    """Points with another value than Netbeam's, or that Netbeam does not have; messages outside of the contract."""
    lines: list[str] = field(default_factory=list)
    """The first differences, for people."""

    def note(self, line: str) -> None:
        """Keep a line, unless there are enough."""
        if len(self.lines) < MOST_LINES:
            self.lines.append(line)

    def __str__(self) -> str:
        figures = f"points={self.points} duplicates={self.duplicates} missing={self.missing} wrong={self.wrong}"
        return f"{figures} beyond={self.beyond} interfaces={self.interfaces}"


class InvariantError(AssertionError):
    """The promise is broken; `counts` says how."""

    def __init__(self, counts: Counts) -> None:
        super().__init__("\n  ".join([str(counts), *counts.lines]))
        self.counts = counts


def check_invariant(
    network: Network,
    rows: Sequence[TableRow],
    heard: Heard,
    *,
    lookback_s: float = LOOKBACK_S,
    starts: Starts | None = None,
    now_ms: int | None = None,
) -> Counts:
    """Compare, and raise InvariantError with a readable difference when anything is missing or wrong."""
    counts = compare(network, rows, heard, lookback_s=lookback_s, starts=starts, now_ms=now_ms)
    if counts.missing or counts.wrong:
        raise InvariantError(counts)
    return counts


def compare(
    network: Network,
    rows: Sequence[TableRow],
    heard: Heard,
    *,
    lookback_s: float = LOOKBACK_S,
    starts: Starts | None = None,
    now_ms: int | None = None,
) -> Counts:
    """Look for every point of every row and record type from the start of its collection to its checkpoint.

    With `now_ms`, Netbeam's time when the table was read, no checkpoint may be later than that.
    """
    counts = Counts(duplicates=heard.duplicates, interfaces=len(heard.interfaces), wrong=heard.fault_count)
    for fault in heard.faults:
        counts.note(fault)
    covered: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row, record_type, begin_ms in starts_of(rows, lookback_s, starts or {}):
        until = row.until[record_type]
        if until is None:
            continue
        if now_ms is not None and int(until) > now_ms:
            counts.wrong += 1
            counts.note(f"row {row.id} {row.name}: {record_type}_until {until} is ahead of Netbeam's own time {now_ms}")
        if begin_ms < int(until):
            covered.setdefault((row.name, record_type), []).append((begin_ms, int(until)))
            _compare_row(network, row, record_type, begin_ms, int(until), heard, counts)
    for (name, record_type), points in heard.points.items():
        ranges = covered.get((name, record_type), [])
        counts.beyond += sum(not any(begin <= at < end for begin, end in ranges) for at in points)
        _compare_values(network, name, record_type, heard, counts)
    return counts


def starts_of(
    rows: Iterable[TableRow], lookback_s: float = LOOKBACK_S, starts: Starts | None = None
) -> list[tuple[TableRow, str, int]]:
    """Every row that is collected and every record type, with the time in ms from which on it is.

    `active_from` less the lookback, but not before what an earlier row of the name covers, and right there when it ended
    no longer ago than LATE_DATA; `starts` has the
    exceptions: rows made by hand, those that were new after an absence, and what MAX_BACKLOG skipped.
    """
    given = starts or {}
    found: list[tuple[TableRow, str, int]] = []
    earlier: dict[str, list[TableRow]] = {}
    for row in sorted(rows, key=lambda row: row.id):
        if not _trusted(row):
            continue
        before = earlier.setdefault(row.name, [])
        if not (row.active and any(each.active for each in before)):
            for record_type in RECORD_TYPES:
                begin_ms = int(row.active_from) - round(lookback_s * 1000)
                covered = [int(each.active_until) for each in before if each.active_until is not None]
                covered += [int(until) for each in before if (until := each.until[record_type]) is not None]
                if covered:
                    flaps = int(row.active_from) - max(covered) <= LATE_DATA_MS
                    begin_ms = max(covered) if flaps else max(begin_ms, *covered)
                found.append((row, record_type, given.get((row.id, record_type), begin_ms)))
        before.append(row)
    return found


def _trusted(row: TableRow) -> bool:
    times = [each for each in (row.active_from, row.active_until, *row.until.values()) if each is not None]
    return row.status in ("0", "1") and all(len(each) == 13 and each.isdigit() for each in times)


def _expected(network: Network, name: str, record_type: str, begin_ms: int, end_ms: int) -> list[Point]:
    try:
        return network.expected_points(name, RecordType(record_type), begin_ms, end_ms)
    except KeyError:  # an interface that there has never been
        return []


def _compare_row(
    network: Network, row: TableRow, record_type: str, begin_ms: int, end_ms: int, heard: Heard, counts: Counts
) -> None:
    there = heard.points.get((row.name, record_type), {})
    expected = _expected(network, row.name, record_type, begin_ms, end_ms)
    missing = [point[0] for point in expected if point[0] not in there]
    counts.points += len(expected) - len(missing)
    counts.missing += len(missing)
    if missing:
        counts.note(
            f"row {row.id} {row.name} {record_type}: collected [{begin_ms}, {end_ms}), {len(missing)} of {len(expected)} points "
            f"are missing, the first at {missing[0]}, the last at {missing[-1]}"
        )


def _compare_values(network: Network, name: str, record_type: str, heard: Heard, counts: Counts) -> None:
    there = heard.points[name, record_type]
    expected = _expected(network, name, record_type, min(there), max(there) + 1)
    right = {at: (into, out) for at, into, out in expected}
    for at, found in there.items():
        if at not in right:
            counts.wrong += 1
            counts.note(f"{name} {record_type}: Netbeam has no point at {at}, the bus has {found}")
        elif not same(right[at], found):
            counts.wrong += 1
            counts.note(f"{name} {record_type}: the point at {at} is {right[at]}, the bus has {found}")
