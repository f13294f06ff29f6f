"""What raw rows of the table mean, and in which order checkpoints are written."""

import sqlite3
from collections.abc import Sequence

import pytest

from collector.core.model import Changes, Move, NewRow, RecordType, Retirement, Row, Series, UntrustedRow
from collector.store import sql
from collector.store.sql import Result
from collector.store.sqlite import CREATE, DIALECT

NOW = 1_700_000_000_000
DAY = 86_400_000
T0, T1, T2, T3 = (NOW - 3_600_000 + minute * 60_000 for minute in (0, 10, 20, 30))
TRAFFIC, ERRORS = RecordType.TRAFFIC, RecordType.ERRORS


def raw(**changed: object) -> tuple[object, ...]:
    """A good row as a driver gives it, but for what is changed."""
    values: dict[str, object] = dict.fromkeys(sql.COLUMNS)
    values |= {"id": 7, "name": "devices/a/interfaces/b", "status": "1", "active_from": str(T0)}
    return tuple((values | changed).values())


def parsed(**changed: object) -> Row | UntrustedRow:
    found = sql.parse([raw(**changed)], NOW)
    return (found.rows + found.untrusted)[0]


def reason(**changed: object) -> str:
    row = parsed(**changed)
    assert isinstance(row, UntrustedRow)
    return row.reason


def test_an_active_row_without_checkpoints_is_read() -> None:
    assert parsed() == Row(7, "devices/a/interfaces/b", T0)


def test_a_retired_row_with_checkpoints_is_read() -> None:
    row = parsed(status="0", active_until=str(T3), traffic_until=str(T1), errors_until=str(T2))
    assert row == Row(7, "devices/a/interfaces/b", T0, T3, {TRAFFIC: T1, ERRORS: T2})


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_of_a_binary_collation_are_read_like_text(kind: type[bytes | bytearray]) -> None:
    columns = {"name": b"devices/a/interfaces/Ae1", "status": b"1", "active_from": b"%d" % T0, "traffic_until": b"%d" % T1}
    row = parsed(**{key: kind(value) for key, value in columns.items()})
    assert row == Row(7, "devices/a/interfaces/Ae1", T0, None, {TRAFFIC: T1})


def test_numbers_of_a_table_made_with_bigint_are_read() -> None:
    assert parsed(status=0, active_from=T0, active_until=T1) == Row(7, "devices/a/interfaces/b", T0, T1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"status": "2"}, "status is '2'"),
        ({"status": ""}, "status is ''"),
        ({"status": None}, "status is None"),
        ({"active_until": str(T1)}, "status is '1', but active_until"),
        ({"status": "0"}, "status is '0', but active_until is NULL"),
        ({"active_from": None}, "active_from is None"),
        ({"active_from": "999"}, "active_from is '999'"),
        ({"active_from": "0000000000001"}, "active_from is '0000000000001'"),
        ({"active_from": "170000000000\u0660"}, "active_from is"),
        ({"traffic_until": "17000000000000"}, "traffic_until is"),
        ({"traffic_until": "-170000000000"}, "traffic_until is"),
        ({"traffic_until": "170000000000 "}, "traffic_until is"),
        ({"traffic_until": "1700000000000\n"}, "traffic_until is"),
        ({"traffic_until": ""}, "traffic_until is ''"),
        ({"errors_until": "soon"}, "errors_until is 'soon'"),
        ({"discards_until": str(NOW + DAY + 1)}, "more than a day ahead"),
        ({"active_from": str(NOW + DAY + 1)}, "active_from is 1700086400001, more than a day ahead"),
        ({"status": "0", "active_until": str(NOW + DAY + 1)}, "more than a day ahead"),
        ({"name": ""}, "empty resource"),
        ({"name": "a b"}, "white space"),
        ({"name": "../secret"}, "segment . or .."),
        ({"name": b"caf\xe9"}, "outside printable ASCII"),
    ],
)
def test_a_row_that_cannot_be_trusted_is_set_apart_with_its_reason(changed: dict[str, object], said: str) -> None:
    assert said in reason(**changed)


def test_a_time_a_day_ahead_is_still_trusted() -> None:
    assert isinstance(parsed(traffic_until=str(NOW + DAY)), Row)


def test_one_bad_row_leaves_the_others_alone_and_in_order() -> None:
    found = sql.parse([raw(id=1), raw(id=2, status="x"), raw(id=3)], NOW)
    assert [row.id for row in found.rows] == [1, 3]
    assert [row.id for row in found.untrusted] == [2]


def test_missing_columns_are_named_whatever_the_case_and_type_of_the_others() -> None:
    present: list[object] = [b"ID", "Name", "status", "active_from", "active_until", "traffic_until"]
    assert sql.missing_columns(present) == ("errors_until", "discards_until")
    assert sql.lacking(("a",), "X").endswith("lacks the column a")


def move(row_id: int, to_ms: int, from_ms: int | None = None, record_type: RecordType = TRAFFIC) -> Move:
    return Move(Series(row_id, f"devices/a/interfaces/{row_id}", record_type), from_ms, to_ms)


def test_windows_that_move_alike_are_one_group() -> None:
    groups = sql.grouped([move(1, T2), move(2, T2), move(3, T2, T1), move(4, T3), move(5, T2, None, ERRORS)])
    found = {key: [each.series.row_id for each in group] for key, group in groups.items()}
    assert found == {(TRAFFIC, None, T2): [1, 2], (TRAFFIC, T1, T2): [3], (TRAFFIC, None, T3): [4], (ERRORS, None, T2): [5]}


class Sqlite:
    """The statements need a database, and one in memory is quick; both dialects are met in the service tests."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute(CREATE)
        self.statements: list[str] = []

    def __enter__(self) -> "Sqlite":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def execute(self, statement: str, parameters: Sequence[object]) -> Result:
        self.statements.append(statement)
        cursor = self.connection.execute(statement, tuple(parameters))
        return Result(cursor.fetchall(), cursor.rowcount)

    def insert(self, count: int) -> None:
        new = tuple(NewRow(f"devices/a/interfaces/{number}", T0) for number in range(1, count + 1))
        sql.apply(Changes(new=new), DIALECT, self.execute)
        self.statements.clear()

    def checkpoints(self) -> dict[int, str | None]:
        return dict(self.connection.execute("SELECT id, traffic_until FROM esnet_interfaces"))


def test_checkpoints_of_a_thousand_rows_are_moved_by_one_statement() -> None:
    with Sqlite() as database:
        database.insert(1500)
        assert sql.advance([move(number, T1) for number in range(1, 1501)], DIALECT, database.execute) == []
        assert len(database.statements) == 2
        assert set(database.checkpoints().values()) == {str(T1)}


def test_only_windows_whose_row_was_rewound_come_back() -> None:
    with Sqlite() as database:
        database.insert(3)
        database.connection.execute("UPDATE esnet_interfaces SET traffic_until = ? WHERE id = 2", (str(T0),))
        moves = [move(number, T1) for number in (1, 2, 3)]
        assert sql.advance(moves, DIALECT, database.execute) == [moves[1]]
        assert database.checkpoints() == {1: str(T1), 2: str(T0), 3: str(T1)}


def test_checkpoints_written_before_count_as_moved_when_they_come_again() -> None:
    with Sqlite() as database:
        database.insert(2)
        moves = [move(1, T2), move(2, T1)]
        for _ in range(2):
            assert sql.advance(moves, DIALECT, database.execute) == []
            assert database.checkpoints() == {1: str(T2), 2: str(T1)}


def test_the_row_of_another_name_with_the_same_id_does_not_move() -> None:
    with Sqlite() as database:
        database.insert(2)
        stranger = Move(Series(1, "devices/a/interfaces/2", TRAFFIC), None, T1)
        late = [stranger, move(2, T1)]
        assert sql.advance(late, DIALECT, database.execute) == [stranger]
        sql.apply(Changes(retired=(Retirement(1, "devices/A/interfaces/1", T1),)), DIALECT, database.execute)
        row = database.connection.execute("SELECT status, active_until, traffic_until FROM esnet_interfaces WHERE id = 1")
        assert row.fetchone() == ("1", None, None)


def test_a_retired_row_is_not_retired_again() -> None:
    with Sqlite() as database:
        database.insert(1)
        for until_ms in (T1, T2):
            retired = (Retirement(1, "devices/a/interfaces/1", until_ms),)
            sql.apply(Changes(retired=retired), DIALECT, database.execute)
        assert database.connection.execute("SELECT status, active_until FROM esnet_interfaces").fetchall() == [("0", str(T1))]


def test_a_new_row_starts_from_the_checkpoints_that_it_brings() -> None:
    with Sqlite() as database:
        new = (NewRow("devices/a/interfaces/1", T1, {TRAFFIC: T0}), NewRow("devices/a/interfaces/2", T1))
        sql.apply(Changes(new=new), DIALECT, database.execute)
        found = sql.parse(database.execute(sql.select_all(), ()).rows, NOW)
        assert found.rows == (
            Row(1, "devices/a/interfaces/1", T1, None, {TRAFFIC: T0}),
            Row(2, "devices/a/interfaces/2", T1),
        )
