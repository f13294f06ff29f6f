"""The table `esnet_interfaces`: what its raw rows mean, and the statements that change it, for every database alike.

No driver here: a store hands in `Execute`, which runs one statement in the transaction that the store has begun.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from collector.core.model import (
    FIRST_MS,
    Changes,
    Move,
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
"""All of them are needed, whatever is collected."""
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
ROWS_AT_ONCE = 1000
"""Rows of a long answer that are in memory as they came."""
NAMES_AT_ONCE = 5000
"""Names in one statement that looks for them: each one reads the whole table, since there is no index on names."""
CASES = 200
"""Rows in one statement that gives each its own value: the server compares each row with each case."""
TYPES = {
    "name": "varchar(128) NOT NULL",
    "status": "varchar(2) NOT NULL",
    "active_from": "varchar(13) NOT NULL",
    **dict.fromkeys(COLUMNS[4:], "varchar(13) DEFAULT NULL"),
}
"""As the table has them; `id` is each database's own."""

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
    """Where the databases differ: the parameter's mark, texts compared byte for byte, and text as a number."""

    mark: str
    identity: str
    """`id name`; compared byte for byte."""
    holding: str
    """`id name value`, the value being that of the column in braces, or NULL; compared byte for byte."""
    length: str
    integer: str

    def marks(self, count: int) -> str:
        """That many parameters, separated by commas."""
        return ", ".join([self.mark] * count)

    def these(self, count: int, column: str | None = None) -> str:
        """A condition for `count` rows: twice as many parameters, the ids and then the identities, with `column` its values.

        Ids find the rows through the primary key; but that is (id, name), so an id alone may be somebody else's too.
        """
        identity = self.identity if column is None else self.holding.format(column)
        return f"id IN ({self.marks(count)}) AND {identity} IN ({self.marks(count)})"

    def time(self, column: str) -> str:
        """The column's text as a number; 0 or so where it is none."""
        return f"CAST({column} AS {self.integer})"

    def trusted(self, column: str, now_ms: int) -> str:
        """Whether it holds 13 digits, and no time that is more than a day ahead; NULL where it is NULL."""
        between = f"{self.time(column)} BETWEEN {FIRST_MS} AND {now_ms + MOST_AHEAD_MS}"
        return f"({self.length}({column}) = 13 AND {between})"


# S608: the statements are put together from the constants above and from integers; every text is a parameter.


def select(dialect: Dialect, now_ms: int, undrained_in: Collection[RecordType] | None = None) -> str:
    """The rows in the order of the ids: all, or the active ones, those not drained in these, and those not to be trusted."""
    where = "" if undrained_in is None else f" WHERE COALESCE({_drained(dialect, now_ms, undrained_in)}, 0) = 0"
    return f"SELECT {', '.join(COLUMNS)} FROM {NAME}{where} ORDER BY id, name"  # noqa: S608


def _drained(dialect: Dialect, now_ms: int, record_types: Collection[RecordType]) -> str:
    """Whether a row is retired, can be trusted, and has been collected to its end. The most telling comes first."""
    conditions = [f"status = '{RETIRED}'"]
    for record_type, column in CHECKPOINT.items():
        trusted = dialect.trusted(column, now_ms)
        if record_type in record_types:
            conditions.append(f"{trusted} AND {dialect.time(column)} >= {dialect.time('active_until')}")
        else:
            conditions.append(f"({column} IS NULL OR {trusted})")
    conditions += [dialect.trusted(column, now_ms) for column in ("active_from", "active_until")]
    return f"({' AND '.join(conditions)})"


def newest_ms(now_ms: int, dialect: Dialect, execute: Execute) -> int | None:
    """The newest checkpoint that can be trusted, of all rows and record types."""
    columns = CHECKPOINT.values()
    newest = [f"MAX(CASE WHEN {dialect.trusted(each, now_ms)} THEN {dialect.time(each)} END)" for each in columns]
    (found,) = execute(f"SELECT {', '.join(newest)} FROM {NAME}", ()).rows  # noqa: S608
    return max((_integer(value) for value in found if value is not None), default=None)


def history(names: Collection[str], now_ms: int, dialect: Dialect, execute: Execute) -> tuple[Row, ...]:
    """Every row of these names that can be trusted, in the order of the ids."""
    found: list[Row] = []
    for some in _chunks(sorted(names), NAMES_AT_ONCE):
        # by the column's own collation, which takes at least equal names for equal, and is quicker than bytes
        statement = f"SELECT {', '.join(COLUMNS)} FROM {NAME} WHERE name IN ({dialect.marks(len(some))})"  # noqa: S608
        wanted = frozenset(some)
        found += [row for row in parse(execute(statement, list(some)).rows, now_ms).rows if row.name in wanted]
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
    return Table(tuple(rows), tuple(untrusted))


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


def adding(columns: Sequence[str], id_type: str) -> str:
    """The statement that adds them, for MySQL."""
    return f"ALTER TABLE {NAME} {', '.join(f'ADD {each} {TYPES.get(each, id_type)}' for each in columns)};"


def apply(changes: Changes, dialect: Dialect, execute: Execute) -> None:
    """Insert the new rows and retire the others; the store's transaction makes it all or nothing."""
    for new in _chunks(changes.new):
        values = ", ".join([f"({dialect.marks(len(_INSERTED))})"] * len(new))
        statement = f"INSERT INTO {NAME} ({', '.join(_INSERTED)}) VALUES {values}"  # noqa: S608
        parameters: list[object] = []
        for row in new:
            checkpoints = (row.checkpoints.get(each) for each in CHECKPOINT)
            parameters += [row.name, ACTIVE, str(row.active_from_ms), *(None if ms is None else str(ms) for ms in checkpoints)]
        execute(statement, parameters)
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
    for record_type, column in CHECKPOINT.items():
        for some in batches([each for each in moves if each.series.record_type is record_type]):
            if execute(*_moving(column, some, dialect)).changed < len(some):
                missed += some
    return _not_written(missed, dialect, execute) if missed else []


def _moving(column: str, moves: Sequence[Move], dialect: Dialect) -> tuple[str, list[object]]:
    """One statement for moves of one record type, no two of one id; its parameters."""
    new: dict[int, str] = {each.series.row_id: str(each.to_ms) for each in moves}
    value, parameters = dialect.mark, [*dict.fromkeys(new.values())]
    if len(parameters) > 1:
        value = f"CASE id {' '.join(f'WHEN {row_id} THEN {dialect.mark}' for row_id in new)} END"
        parameters = list(new.values())
    held = [f"{each.series.row_id} {each.series.name} {each.from_ms or 'NULL'}" for each in moves]
    statement = f"UPDATE {NAME} SET {column} = {value} WHERE {dialect.these(len(moves), column)}"  # noqa: S608
    return statement, [*parameters, *new, *held]


def batches(moves: Iterable[Move]) -> Iterator[Sequence[Move]]:
    """The moves by the statement that does them: many of one new value, or some that have each their own."""
    waiting = sorted(moves, key=lambda move: move.to_ms)
    while waiting:
        # a row that shares its id with another one, as only a table made by hand has it, comes in another statement
        by_id: dict[int, Move] = {}
        for each in waiting:
            by_id.setdefault(each.series.row_id, each)
        some = list(by_id.values())
        yield from _chunks(some, CHUNK if some[0].to_ms == some[-1].to_ms else CASES)
        waiting = [each for each in waiting if by_id[each.series.row_id] is not each]


def _not_written(missed: Sequence[Move], dialect: Dialect, execute: Execute) -> list[Move]:
    """Those whose row does not hold the new value."""
    held: dict[Series, object] = {}
    for record_type, column in CHECKPOINT.items():
        for some in _chunks([each.series for each in missed if each.series.record_type is record_type]):
            statement = f"SELECT id, name, {column} FROM {NAME} WHERE {dialect.these(len(some))}"  # noqa: S608
            for row_id, name, value in execute(statement, _these((each.row_id, each.name) for each in some)).rows:
                held[Series(_integer(row_id), str(text(name)), record_type)] = text(value)
    return [each for each in missed if held.get(each.series) != str(each.to_ms)]


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


def _these(rows: Iterable[tuple[int, str]]) -> list[object]:
    """The parameters of `Dialect.these`."""
    pairs = list(rows)
    return [*(row_id for row_id, _ in pairs), *(f"{row_id} {name}" for row_id, name in pairs)]


def _chunks(items: Sequence[_T], size: int = CHUNK) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
