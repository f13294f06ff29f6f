"""What every store promises (contracts.Store), on MariaDB, on MySQL 5.6 and on an SQLite file."""

import logging
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from collector.config.systems import MysqlSettings, Secret
from collector.core.contracts import Store
from collector.core.errors import CollectorError, ConfigurationError, LockLostError, NoTableError, UnavailableError
from collector.core.model import Changes, Move, NewRow, RecordType, Retirement, Row, Series
from collector.core.shutdown import Stop
from collector.store import sql
from collector.store.mysql import MysqlStore
from collector.store.sqlite import SqliteStore
from tests.servers.databases import Account, DatabaseServer

NOW = 1_790_000_000_000
T0, T1, T2, T3 = (NOW - 3_600_000 + minute * 60_000 for minute in (0, 10, 20, 30))
TRAFFIC, ERRORS, DISCARDS = RecordType.TRAFFIC, RecordType.ERRORS, RecordType.DISCARDS
NAMES = ("devices/a/interfaces/Ae1", "devices/a/interfaces/ae1", "devices/a/interfaces/1%2F1", "devices/a/interfaces/1%2f1")
ODD = ("a/b';DROP/**/TABLE/**/x;--", 'a/"b\\', "a/b\\';", "a/%25s%28x%29s", "a/`b`--/**/c", "a/b\\", "a/~!$&()*+,=@_{}|^<>")


class MysqlPlace:
    """A database of one server."""

    def __init__(self, server: DatabaseServer) -> None:
        self.server = server
        self.account: Account = server.fresh_database()
        self.where = f"database {self.account.database}"

    def store(self, stop: Stop) -> Store:
        account = self.account
        settings = MysqlSettings(
            host="127.0.0.1",
            port=self.server.port,
            database=account.database,
            user=account.user,
            password=Secret(account.password),
        )
        return MysqlStore(settings, stop)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        return self.server.sql(statement, database=self.account.database)

    def fail_on_update(self) -> None:
        self.sql("CREATE TRIGGER no BEFORE UPDATE ON esnet_interfaces FOR EACH ROW SIGNAL SQLSTATE '45000'")


class SqlitePlace:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)

    def store(self, stop: Stop) -> Store:
        return SqliteStore(str(self.path), stop)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    def fail_on_update(self) -> None:
        self.sql("CREATE TRIGGER no BEFORE UPDATE ON esnet_interfaces BEGIN SELECT RAISE(ABORT, 'no'); END")


Place = MysqlPlace | SqlitePlace
NewStore = Callable[..., Store]


@pytest.fixture(params=["mariadb", "mysql56", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return SqlitePlace(tmp_path / "table #1?.sqlite")
    return MysqlPlace(request.getfixturevalue(request.param))


@pytest.fixture
def new_store(place: Place) -> Iterator[NewStore]:
    """Makes a store, not yet open; all of them are closed at the end."""
    made: list[Store] = []

    def make(stop: Stop | None = None) -> Store:
        made.append(place.store(stop or Stop()))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def store(new_store: NewStore) -> Store:
    """A store that is open and holds the lock, on an empty table."""
    made = new_store()
    made.open()
    assert made.take_lock(0)
    return made


def insert(store: Store, *names: str) -> tuple[Row, ...]:
    store.apply(Changes(new=tuple(NewRow(name, T0) for name in names)))
    return store.read(NOW).rows


def move(row: Row, to_ms: int, from_ms: int | None = None, record_type: RecordType = TRAFFIC) -> Move:
    return Move(Series(row.id, row.name, record_type), from_ms, to_ms)


def test_a_missing_table_is_created_with_the_columns_of_the_specification(store: Store, place: Place) -> None:
    place.sql(f"SELECT {', '.join(sql.COLUMNS)} FROM esnet_interfaces")
    assert store.read(NOW).rows == ()
    assert store.outage.up_once
    assert not store.outage.down


def test_opening_again_keeps_the_lock_and_the_rows(store: Store) -> None:
    insert(store, *NAMES)
    store.open()
    assert store.holds_lock()
    assert store.take_lock(0)
    assert len(store.read(NOW).rows) == len(NAMES)


def test_a_reader_creates_nothing_and_says_what_is_missing(new_store: NewStore, place: Place) -> None:
    if isinstance(place, SqlitePlace):
        place.sql("CREATE TABLE other (x int)")
    reader = new_store()
    with pytest.raises(NoTableError, match=r"no table esnet_interfaces in .*") as caught:
        reader.open(create=False)
    assert place.where in str(caught.value)
    assert not reader.outage.down
    new_store().open()
    reader.open(create=False)
    assert reader.read(NOW).rows == ()


@pytest.mark.parametrize("create", [True, False])
def test_a_table_that_lacks_columns_is_refused_and_they_are_named(new_store: NewStore, place: Place, create: bool) -> None:
    columns = ", ".join(f"{name} varchar(128)" for name in sql.COLUMNS if name not in ("active_until", "errors_until"))
    place.sql(f"CREATE TABLE esnet_interfaces ({columns})")
    with pytest.raises(ConfigurationError, match="lacks the columns active_until, errors_until") as caught:
        new_store().open(create=create)
    assert place.where in str(caught.value)


def test_new_rows_and_retired_ones_are_read_back(store: Store) -> None:
    new = (NewRow(NAMES[0], T1, {TRAFFIC: T0, ERRORS: T1}), NewRow(NAMES[1], T1))
    store.apply(Changes(new=new))
    first, second = store.read(NOW).rows
    assert first == Row(first.id, NAMES[0], T1, None, {TRAFFIC: T0, ERRORS: T1})
    assert second == Row(second.id, NAMES[1], T1)
    store.apply(Changes(new=(NewRow(NAMES[2], T2),), retired=(Retirement(first.id, first.name, T2),)))
    assert store.read(NOW).rows == (
        Row(first.id, NAMES[0], T1, T2, {TRAFFIC: T0, ERRORS: T1}),
        second,
        Row(second.id + 1, NAMES[2], T2),
    )


def test_rows_that_are_retired_at_different_times_keep_their_own(store: Store) -> None:
    rows = insert(store, *NAMES)
    store.apply(Changes(retired=tuple(Retirement(row.id, row.name, at) for row, at in zip(rows, (T1, T2, T1), strict=False))))
    assert [row.active_until_ms for row in store.read(NOW).rows] == [T1, T2, T1, None]


def test_names_of_every_kind_come_back_and_move_as_they_are(store: Store) -> None:
    rows = insert(store, *NAMES, *ODD)
    assert [row.name for row in rows] == [*NAMES, *ODD]
    assert store.advance([move(row, T1) for row in rows]) == []
    store.apply(Changes(retired=tuple(Retirement(row.id, row.name, T2) for row in rows)))
    for row in store.read(NOW).rows:
        assert (row.active_until_ms, row.checkpoints) == (T2, {TRAFFIC: T1})


def test_changes_are_all_or_nothing(store: Store, place: Place) -> None:
    (row,) = insert(store, NAMES[0])
    place.fail_on_update()
    with pytest.raises(CollectorError):
        store.apply(Changes(new=(NewRow(NAMES[1], T1),), retired=(Retirement(row.id, row.name, T1),)))
    assert store.read(NOW).rows == (row,)
    assert store.holds_lock()
    place.sql("DROP TRIGGER no")
    store.apply(Changes(new=(NewRow(NAMES[1], T1),), retired=(Retirement(row.id, row.name, T1),)))
    assert [each.active for each in store.read(NOW).rows] == [False, True]
    assert not store.outage.down


def test_checkpoints_move_by_record_type(store: Store) -> None:
    rows = insert(store, *NAMES)
    assert store.advance([move(rows[0], T1), move(rows[1], T2, None, ERRORS), move(rows[1], T1, None, DISCARDS)]) == []
    assert store.advance([move(rows[0], T3, T1)]) == []
    assert [row.checkpoints for row in store.read(NOW).rows] == [{TRAFFIC: T3}, {ERRORS: T2, DISCARDS: T1}, {}, {}]


def test_a_checkpoint_that_an_operator_rewound_stays_and_its_window_comes_back(store: Store, place: Place) -> None:
    rows = insert(store, *NAMES)
    assert store.advance([move(row, T2) for row in rows]) == []
    place.sql(f"UPDATE esnet_interfaces SET traffic_until = '{T1}' WHERE id = {rows[1].id}")
    place.sql(f"UPDATE esnet_interfaces SET traffic_until = NULL WHERE id = {rows[2].id}")
    place.sql(f"DELETE FROM esnet_interfaces WHERE id = {rows[3].id}")
    moves = [move(row, T3, T2) for row in rows]
    assert store.advance(moves) == moves[1:]
    assert [row.checkpoints for row in store.read(NOW).rows] == [{TRAFFIC: T3}, {TRAFFIC: T1}, {}]


def test_the_same_advance_again_counts_as_written(store: Store) -> None:
    rows = insert(store, *NAMES)
    moves = [move(rows[0], T2), move(rows[1], T1)]
    for _ in range(2):
        assert store.advance(moves) == []
        assert [row.checkpoints for row in store.read(NOW).rows] == [{TRAFFIC: T2}, {TRAFFIC: T1}, {}, {}]


def test_checkpoints_that_have_each_a_value_of_its_own_move_together(store: Store) -> None:
    rows = insert(store, *(f"devices/a/interfaces/{number}" for number in range(450)))
    for begin_ms, end_ms in ((None, T1), (T1, T2)):
        moves = [move(row, end_ms + row.id, None if begin_ms is None else begin_ms + row.id) for row in rows]
        assert store.advance(moves) == []
        assert [row.checkpoints for row in store.read(NOW).rows] == [{TRAFFIC: end_ms + row.id} for row in rows]
    moves = [move(row, T3 + row.id, T2 + row.id + (row.id == rows[7].id)) for row in rows]
    assert store.advance(moves) == [moves[7]]


def test_a_cycle_reads_active_rows_and_those_not_drained_and_the_newest_checkpoint_of_all(store: Store, place: Place) -> None:
    rows = insert(store, *NAMES, "devices/b")
    store.apply(Changes(retired=tuple(Retirement(row.id, row.name, T2) for row in rows[:4])))
    store.advance([move(rows[0], T3), move(rows[1], T1), move(rows[2], T2), move(rows[2], T2, None, ERRORS)])
    place.sql(f"UPDATE esnet_interfaces SET discards_until = '999' WHERE id = {rows[0].id}")
    table = store.read(NOW, (TRAFFIC, ERRORS))
    assert [row.id for row in table.rows] == [rows[1].id, rows[3].id, rows[4].id]
    assert [row.id for row in table.untrusted] == [rows[0].id]
    assert table.newest_ms == T3
    assert [row.id for row in store.read(NOW, (TRAFFIC,)).rows] == [rows[1].id, rows[3].id, rows[4].id]
    assert [row.id for row in store.read(NOW, (DISCARDS,)).rows] == [row.id for row in rows[1:]]


def test_history_has_every_row_of_a_name_byte_for_byte(store: Store) -> None:
    rows = insert(store, *NAMES, *ODD)
    store.apply(Changes(retired=(Retirement(rows[0].id, rows[0].name, T2),)))
    store.apply(Changes(new=(NewRow(NAMES[0], T3),)))
    assert [(row.name, row.active_until_ms) for row in store.history([NAMES[0]])] == [(NAMES[0], T2), (NAMES[0], None)]
    assert [row.name for row in store.history(ODD)] == list(ODD)
    assert store.history(["devices/none"]) == ()


def test_three_hundred_thousand_retired_rows_are_not_what_a_cycle_reads(store: Store, place: Place) -> None:
    rows = insert(store, *NAMES)
    columns = "name, status, active_from, active_until, errors_until, discards_until, traffic_until"
    done = f"'0', '{T0}', {', '.join([repr(str(T2))] * 4)}"
    place.sql(f"INSERT INTO esnet_interfaces ({columns}) VALUES {', '.join([f'({NAMES[0]!r}, {done})'] * 1000)}")
    while int(str(place.sql("SELECT COUNT(*) FROM esnet_interfaces")[0][0])) < 300_000:
        place.sql(f"INSERT INTO esnet_interfaces ({columns}) SELECT {columns} FROM esnet_interfaces WHERE status = '0'")
    tracemalloc.start()
    try:
        table = store.read(NOW, tuple(RecordType))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert (table.rows, table.newest_ms) == (rows, T2)


def test_rows_that_cannot_be_trusted_are_read_apart(store: Store, place: Place) -> None:
    rows = insert(store, *NAMES)
    place.sql(f"UPDATE esnet_interfaces SET traffic_until = '999' WHERE id = {rows[1].id}")
    place.sql(f"UPDATE esnet_interfaces SET active_from = '{NOW + 2 * 86_400_000}' WHERE id = {rows[2].id}")
    found = store.read(NOW)
    assert [row.id for row in found.rows] == [rows[0].id, rows[3].id]
    assert ["999" in found.untrusted[0].reason, "a day ahead" in found.untrusted[1].reason] == [True, True]


def test_a_row_that_nothing_can_read_is_an_outage_with_its_traceback_at_debug(
    new_store: NewStore, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.sql(f"CREATE TABLE esnet_interfaces ({', '.join(f'{name} varchar(128)' for name in sql.COLUMNS)})")
    place.sql("INSERT INTO esnet_interfaces (id, name) VALUES ('seven', 'devices/a')")
    store = new_store()
    store.open()
    with caplog.at_level(logging.DEBUG), pytest.raises(UnavailableError, match="its answer cannot be used: ValueError"):
        store.read(NOW)
    assert store.outage.down
    assert [record.levelname for record in caplog.records if record.exc_info] == ["DEBUG"]


def test_ten_thousand_rows_are_written_and_read_whole(store: Store, record_property: Callable[[str, object], None]) -> None:
    names = [f"devices/d{number // 70}/interfaces/{number}" for number in range(10_679)]
    taken_s = {}
    began = time.monotonic()
    store.apply(Changes(new=tuple(NewRow(name, T0) for name in names)))
    taken_s["insert"] = time.monotonic() - began
    began = time.monotonic()
    rows = store.read(NOW).rows
    taken_s["read"] = time.monotonic() - began
    assert [row.name for row in rows] == names
    began = time.monotonic()
    assert store.advance([move(row, T1, None, each) for row in rows for each in RecordType]) == []
    taken_s["advance 32,037"] = time.monotonic() - began
    assert {tuple(row.checkpoints.values()) for row in store.read(NOW).rows} == {(T1, T1, T1)}
    record_property("seconds", taken_s)


def test_the_lock_has_one_holder_and_is_free_once_that_one_has_closed(new_store: NewStore) -> None:
    first, second = new_store(), new_store()
    first.open()
    second.open()
    assert first.take_lock(0)
    assert not second.take_lock(0)
    assert (first.holds_lock(), second.holds_lock()) == (True, False)
    first.close()
    assert not first.holds_lock()
    assert second.take_lock(10)
    first.close()


def test_a_standby_takes_over_while_it_waits(new_store: NewStore) -> None:
    first, second = new_store(), new_store()
    first.open()
    second.open()
    assert first.take_lock(0)
    taken: list[bool] = []
    waiting = threading.Thread(target=lambda: taken.append(second.take_lock(20)))
    waiting.start()
    first.close()
    waiting.join(20)
    assert taken == [True]


def test_waiting_for_the_lock_ends_at_a_stop(new_store: NewStore) -> None:
    stop = Stop()
    first, second = new_store(), new_store(stop)
    first.open()
    second.open()
    assert first.take_lock(0)
    began = time.monotonic()
    threading.Timer(0.2, stop.set).start()
    assert not second.take_lock(60)
    assert time.monotonic() - began < 5


def test_nothing_is_written_without_the_lock(new_store: NewStore, store: Store) -> None:
    rows = insert(store, *NAMES)
    other = new_store()
    other.open()
    with pytest.raises(LockLostError):
        other.apply(Changes(new=(NewRow("devices/b", T0),)))
    with pytest.raises(LockLostError):
        other.advance([move(rows[0], T1)])
    assert other.read(NOW).rows == rows


def test_a_reader_reads_beside_the_one_who_writes(new_store: NewStore, store: Store) -> None:
    rows = insert(store, *NAMES)
    reader = new_store()
    reader.open(create=False)
    assert reader.read(NOW).rows == rows
    assert store.advance([move(rows[0], T1)]) == []
    assert reader.read(NOW).rows[0].checkpoints == {TRAFFIC: T1}


def test_a_closed_store_can_be_opened_again(store: Store) -> None:
    insert(store, *NAMES)
    store.close()
    with pytest.raises(UnavailableError):
        store.read(NOW)
    with pytest.raises(LockLostError):
        store.apply(Changes())
    store.open()
    assert store.take_lock(5)
    assert len(store.read(NOW).rows) == len(NAMES)


def test_time_in_the_database_is_added_up(store: Store) -> None:
    before = store.database_s
    insert(store, *NAMES)
    assert 0 < before < store.database_s


class TestSqliteFile:
    """What only a file can do."""

    @pytest.fixture
    def stop(self) -> Stop:
        return Stop()

    @pytest.mark.parametrize("create", [True, False])
    @pytest.mark.parametrize("name", ["", "missing/sql.sqlite", "text"])
    def test_a_path_that_cannot_be_the_table_is_refused_by_name(
        self, tmp_path: Path, stop: Stop, name: str, create: bool
    ) -> None:
        (tmp_path / "text").write_text("this is no database, and longer than a header of SQLite would be: " * 20)
        path = str(tmp_path / name)
        with pytest.raises(ConfigurationError) as caught, closing(SqliteStore(path, stop)) as store:
            store.open(create=create)
        assert path in str(caught.value)

    def test_a_reader_does_not_create_the_file(self, tmp_path: Path, stop: Stop) -> None:
        path = tmp_path / "none.sqlite"
        with pytest.raises(ConfigurationError, match="there is no such file"):
            SqliteStore(str(path), stop).open(create=False)
        assert not path.exists()

    def test_a_file_that_was_replaced_is_not_written_any_more(self, tmp_path: Path, stop: Stop) -> None:
        path = tmp_path / "sql.sqlite"
        with closing(SqliteStore(str(path), stop)) as store:
            store.open()
            assert store.take_lock(0)
            insert(store, *NAMES)
            path.unlink()
            with pytest.raises(LockLostError, match="moved, replaced or removed"):
                store.apply(Changes(new=(NewRow("devices/b", T0),)))
            assert not store.holds_lock()
            store.open()
            assert store.take_lock(0)
            assert store.read(NOW).rows == ()

    def test_somebody_elses_long_transaction_is_an_outage_that_passes(self, tmp_path: Path, stop: Stop) -> None:
        path = tmp_path / "sql.sqlite"
        with closing(SqliteStore(str(path), stop)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
            store.open()
            assert store.take_lock(0)
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(UnavailableError, match="locked"):
                store.apply(Changes(new=(NewRow("devices/b", T0),)))
            assert store.outage.down
            other.execute("ROLLBACK")
            assert [row.name for row in insert(store, "devices/b")] == ["devices/b"]
            assert not store.outage.down
