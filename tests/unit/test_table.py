"""What raw rows of the table mean, and in which order checkpoints are written."""

import random
import sqlite3
from collections.abc import Sequence

import pytest

from collector.core.model import Changes, Move, NewRow, RecordType, Retirement, Row, Series, UntrustedRow
from collector.store import sql
from collector.store.sql import Result
from collector.store.sqlite import CREATE, DIALECT
from tests.fakes import drained

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


def test_a_table_that_lacks_columns_is_told_with_the_statement_that_adds_them() -> None:
    assert sql.lacking(("id", "status"), "database X") == "table esnet_interfaces in database X lacks the columns id, status"
    assert sql.adding(("id", "errors_until", "status"), "int") == (
        "ALTER TABLE esnet_interfaces ADD id int, ADD errors_until varchar(13) DEFAULT NULL, ADD status varchar(2) NOT NULL;"
    )


def move(row_id: int, to_ms: int, from_ms: int | None = None, record_type: RecordType = TRAFFIC) -> Move:
    return Move(Series(row_id, f"devices/a/interfaces/{row_id}", record_type), from_ms, to_ms)


def test_moves_to_one_value_share_statements_whatever_they_come_from() -> None:
    moves = [move(number, T3, (None, T0, T1)[number % 3]) for number in range(1, 1501)]
    assert [len(some) for some in sql.batches(moves)] == [1000, 500]


def test_moves_to_values_of_their_own_share_statements_too() -> None:
    moves = [move(number, T1 + number) for number in range(250)]
    assert [len(some) for some in sql.batches(moves)] == [200, 50]


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
        found = sql.parse(database.execute(sql.select(DIALECT, NOW), ()).rows, NOW)
        assert found.rows == (
            Row(1, "devices/a/interfaces/1", T1, None, {TRAFFIC: T0}),
            Row(2, "devices/a/interfaces/2", T1),
        )


def test_every_move_is_done_or_comes_back_whatever_mixture_it_comes_in() -> None:
    with Sqlite() as database:
        database.insert(400)
        database.connection.execute("UPDATE esnet_interfaces SET traffic_until = ? WHERE id % 3 = 0", (str(T0),))
        database.connection.execute("UPDATE esnet_interfaces SET traffic_until = '' WHERE id = 5")
        moves = [move(number, T2 if number % 2 else T1 + number, None if number % 3 else T0) for number in range(1, 401)]
        wrong = [move(number, T3, T1) for number in (401, 402)]
        assert sql.advance([*moves, *wrong], DIALECT, database.execute) == [moves[4], *wrong]
        assert database.checkpoints() == {each.series.row_id: str(each.to_ms) for each in moves} | {5: ""}


def test_rows_that_share_an_id_are_moved_by_statements_of_their_own() -> None:
    moves = [Move(Series(7, f"devices/a/{number}", TRAFFIC), None, T1 + number % 2) for number in range(60)]
    batches = list(sql.batches(moves))
    assert {len(some) for some in batches} == {1}
    assert {one for some in batches for one in some} == set(moves)


def some_rows(chance: random.Random) -> list[dict[str, str | None]]:
    """What differs from a good row, in up to eight rows: times of every kind, in every column."""
    wrong = (None, str(NOW + DAY + 1), f"0{T1}", "999", "", "17000000000ab", "170000000000 ")

    def row() -> dict[str, str | None]:
        times = [str(chance.choice((T0, T1, T3, NOW + DAY))) if chance.random() < 0.8 else chance.choice(wrong) for _ in range(5)]
        return dict(zip(sql.COLUMNS[2:], [chance.choice("1002"), times[0] or "999", *times[1:]], strict=True))

    return [row() for _ in range(chance.randrange(9))]


def test_only_drained_rows_are_left_out_and_the_newest_checkpoint_is_of_all_rows() -> None:
    chance = random.Random(7)
    marks = ", ".join("?" * len(sql.COLUMNS))
    with Sqlite() as database:
        for _ in range(60):
            drawn, record_types = some_rows(chance), chance.sample(list(RecordType), chance.randint(1, len(RecordType)))
            database.connection.execute("DELETE FROM esnet_interfaces")
            for number, changed in enumerate(drawn, 1):
                database.connection.execute(f"INSERT INTO esnet_interfaces VALUES ({marks})", raw(id=number, **changed))
            whole = sql.parse(database.execute(sql.select(DIALECT, NOW), ()).rows, NOW)
            some = sql.parse(database.execute(sql.select(DIALECT, NOW, record_types), ()).rows, NOW)
            assert some.untrusted == whole.untrusted
            assert some.rows == tuple(row for row in whole.rows if not drained(row, record_types))
            texts = [changed[column] for changed in drawn for column in sql.CHECKPOINT.values()]
            trusted = [int(each) for each in texts if each and len(each) == 13 and each.isdigit() and int(each) <= NOW + DAY]
            assert sql.newest_ms(NOW, DIALECT, database.execute) == max(trusted, default=None)


def test_history_is_of_the_names_asked_for_byte_for_byte() -> None:
    with Sqlite() as database:
        names = ("devices/a/Ae1", "devices/a/ae1", "devices/b/1", "devices/a/Ae1")
        sql.apply(Changes(new=tuple(NewRow(name, T0) for name in names)), DIALECT, database.execute)
        sql.apply(Changes(retired=(Retirement(1, "devices/a/Ae1", T1),)), DIALECT, database.execute)
        found = sql.history({"devices/a/Ae1", "devices/none"}, NOW, DIALECT, database.execute)
        assert [(row.id, row.active) for row in found] == [(1, False), (4, True)]
        assert sql.history((), NOW, DIALECT, database.execute) == ()
