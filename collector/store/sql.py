"""The table `esnet_interfaces`: what its raw rows mean, and the statements that change it, for every database alike.

No driver here: a store hands in `Execute`, which runs one statement in the transaction that the store has begun.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from collector.core.model import (
    Changes,
    Move,
    NewRow,
    RecordType,
    Retirement,
    Row,
    Series,
    Table,
    UntrustedRow,
    is_time,
    resource_fault,
)

NAME = "esnet_interfaces"
COLUMNS = ("id", "name", "status", "active_from", "active_until", "errors_until", "discards_until", "traffic_until")
"""In the order of SPEC section 2; all of them are needed, whatever is collected."""
CHECKPOINT = {
    RecordType.ERRORS: "errors_until",
    RecordType.DISCARDS: "discards_until",
    RecordType.TRAFFIC: "traffic_until",
}
"""The column that holds a record type's checkpoint. Columns in statements come from here, never from a value."""
ACTIVE, RETIRED = "1", "0"
MOST_AHEAD_MS = 86_400_000
"""A time further ahead than a day was not written by a collector with a sane clock."""
CHUNK = 1000
"""Rows in one statement: below 200 kB, far from any `max_allowed_packet` and from SQLite's limit of parameters."""

_TIME = re.compile(r"[0-9]{13}")
_INSERTED = ("name", "status", "active_from", *CHECKPOINT.values())
_T = TypeVar("_T")


class Result(NamedTuple):
    """What one statement gave: its rows, and how many rows it changed."""

    rows: Sequence[Sequence[object]]
    changed: int


Execute = Callable[[str, Sequence[object]], Result]
"""Runs one statement with its parameters, in a transaction that the store ends."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the databases differ: the parameter's mark, equality that knows NULL, and texts compared byte for byte."""

    mark: str
    same: str
    identity: str
    name: str
    """The name alone, compared byte for byte."""

    def marks(self, count: int) -> str:
        """That many parameters, separated by commas."""
        return ", ".join([self.mark] * count)

    def these(self, count: int) -> str:
        """A condition for `count` rows: twice as many parameters, the ids and then the identities.

        Ids find the rows through the primary key; but that is (id, name), so an id alone may be somebody else's too.
        """
        return f"id IN ({self.marks(count)}) AND {self.identity} IN ({self.marks(count)})"


# S608: the statements are put together from the constants above; every value is a parameter.


def select_all() -> str:
    """All rows, in the order of the ids."""
    return f"SELECT {', '.join(COLUMNS)} FROM {NAME} ORDER BY id, name"  # noqa: S608


def select_undrained(record_types: Iterable[RecordType]) -> str:
    """The active rows, those that cannot be trusted, and the retired ones that are not drained in these record types."""
    columns = [CHECKPOINT[each] for each in record_types]
    undrained = "".join(f" OR {column} IS NULL OR {column} < active_until" for column in columns)
    kept = f"status <> '{RETIRED}' OR active_until IS NULL{undrained}"
    return f"SELECT {', '.join(COLUMNS)} FROM {NAME} WHERE {kept} ORDER BY id, name"  # noqa: S608


def history(names: Collection[str], now_ms: int, dialect: Dialect, execute: Execute) -> tuple[Row, ...]:
    """Every row of these names that can be trusted, in the order of the ids."""
    found: list[Row] = []
    for some in _chunks(sorted(names)):
        statement = f"SELECT {', '.join(COLUMNS)} FROM {NAME} WHERE {dialect.name} IN ({dialect.marks(len(some))})"  # noqa: S608
        found += parse(execute(statement, list(some)).rows, now_ms).rows
    return tuple(sorted(found, key=lambda row: (row.id, row.name)))


def parse(raw: Iterable[Sequence[object]], now_ms: int) -> Table:
    """The table from its rows as a driver gives them: text, bytes (a binary collation) or integers, in COLUMNS' order."""
    rows: list[Row] = []
    untrusted: list[UntrustedRow] = []
    for values in raw:
        row = _parse_row(values, now_ms)
        if isinstance(row, Row):
            rows.append(row)
        else:
            untrusted.append(row)
    checkpoints = [checkpoint for row in rows for checkpoint in row.checkpoints.values()]
    return Table(tuple(rows), tuple(untrusted), max(checkpoints, default=None))


def text(value: object) -> str | None:
    """A column's text, whichever way the driver hands it over; bytes that are no UTF-8 become a text that is no name."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="replace")
    return str(value)


def missing_columns(present: Iterable[object]) -> tuple[str, ...]:
    """Those of the table's columns that are not among these names; upper and lower case are the same."""
    names = {str(text(each)).lower() for each in present}
    return tuple(column for column in COLUMNS if column not in names)


def lacking(columns: Sequence[str], where: str) -> str:
    """What to say of a table that lacks these columns."""
    return f"table {NAME} in {where} lacks the column{'s' if len(columns) > 1 else ''} {', '.join(columns)}"


def apply(changes: Changes, dialect: Dialect, execute: Execute) -> None:
    """Insert the new rows and retire the others; the store's transaction makes it all or nothing."""
    for new in _chunks(changes.new):
        values = ", ".join([f"({dialect.marks(len(_INSERTED))})"] * len(new))
        statement = f"INSERT INTO {NAME} ({', '.join(_INSERTED)}) VALUES {values}"  # noqa: S608
        execute(statement, [value for row in new for value in _inserted(row)])
    by_time: dict[int, list[Retirement]] = {}
    for each in changes.retired:
        by_time.setdefault(each.active_until_ms, []).append(each)
    for until_ms, retired in by_time.items():
        for some in _chunks(retired):
            statement = (
                f"UPDATE {NAME} SET status = {dialect.mark}, active_until = {dialect.mark} "  # noqa: S608
                f"WHERE {dialect.these(len(some))} AND status = {dialect.mark} AND active_until IS NULL"
            )
            these = _these((each.row_id, each.name) for each in some)
            execute(statement, [RETIRED, str(until_ms), *these, ACTIVE])


def advance(moves: Sequence[Move], dialect: Dialect, execute: Execute) -> list[Move]:
    """Move checkpoints where the row holds what it should; the others come back.

    A row that holds the new value already counts as moved: after a commit whose answer was lost, the same call comes again.
    """
    missed: list[Move] = []
    for (record_type, from_ms, to_ms), group in grouped(moves).items():
        column = CHECKPOINT[record_type]
        for some in _chunks(group):
            statement = (
                f"UPDATE {NAME} SET {column} = {dialect.mark} "  # noqa: S608
                f"WHERE {dialect.these(len(some))} AND {column} {dialect.same} {dialect.mark}"
            )
            these = _these((each.series.row_id, each.series.name) for each in some)
            moved = execute(statement, [str(to_ms), *these, _or_null(from_ms)]).changed
            if moved < len(some):
                missed += some
    return _not_written(missed, dialect, execute) if missed else []


def _not_written(missed: Sequence[Move], dialect: Dialect, execute: Execute) -> list[Move]:
    """Those whose row does not hold the new value."""
    held: dict[Series, object] = {}
    for record_type, column in CHECKPOINT.items():
        for some in _chunks([each.series for each in missed if each.series.record_type is record_type]):
            statement = f"SELECT id, name, {column} FROM {NAME} WHERE {dialect.these(len(some))}"  # noqa: S608
            for row_id, name, value in execute(statement, _these((each.row_id, each.name) for each in some)).rows:
                held[Series(_integer(row_id), str(text(name)), record_type)] = text(value)
    return [each for each in missed if held.get(each.series) != str(each.to_ms)]


def grouped(moves: Iterable[Move]) -> dict[tuple[RecordType, int | None, int], list[Move]]:
    """The moves by what they write, so that one statement does for many rows."""
    groups: dict[tuple[RecordType, int | None, int], list[Move]] = {}
    for each in moves:
        groups.setdefault((each.series.record_type, each.from_ms, each.to_ms), []).append(each)
    return groups


def _parse_row(values: Sequence[object], now_ms: int) -> Row | UntrustedRow:
    row_id = _integer(values[0])
    column: Mapping[str, str | None] = {key: text(value) for key, value in zip(COLUMNS, values, strict=True)}
    name, until = column["name"] or "", column["active_until"]
    fault = resource_fault(name) or _status_fault(column["status"], until)
    for key in COLUMNS[3:]:
        if fault is None and (key == "active_from" or column[key] is not None):
            fault = _time_fault(key, column[key], now_ms)
    if fault is not None:
        return UntrustedRow(row_id, name, fault)
    checkpoints = {each: int(time_ms) for each, key in CHECKPOINT.items() if (time_ms := column[key]) is not None}
    return Row(row_id, name, int(column["active_from"] or 0), None if until is None else int(until), checkpoints)


def _status_fault(status: str | None, active_until: str | None) -> str | None:
    if status not in (ACTIVE, RETIRED):
        return f"status is {status!r}, neither '0' nor '1'"
    if status == ACTIVE and active_until is not None:
        return f"status is '1', but active_until is {active_until!r}"
    if status == RETIRED and active_until is None:
        return "status is '0', but active_until is NULL"
    return None


def _time_fault(column: str, value: str | None, now_ms: int) -> str | None:
    if value is None or not _TIME.fullmatch(value) or not is_time(int(value)):
        return f"{column} is {value!r}, not a time in milliseconds of 13 digits"
    if int(value) > now_ms + MOST_AHEAD_MS:
        return f"{column} is {value}, more than a day ahead"
    return None


def _integer(value: object) -> int:
    return value if isinstance(value, int) else int(str(text(value)))


def _inserted(row: NewRow) -> list[str | None]:
    checkpoints = [_or_null(row.checkpoints.get(record_type)) for record_type in CHECKPOINT]
    return [row.name, ACTIVE, str(row.active_from_ms), *checkpoints]


def _these(rows: Iterable[tuple[int, str]]) -> list[object]:
    """The parameters of `Dialect.these`."""
    pairs = list(rows)
    return [*(row_id for row_id, _ in pairs), *(f"{row_id} {name}" for row_id, name in pairs)]


def _or_null(ms: int | None) -> str | None:
    return None if ms is None else str(ms)


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
