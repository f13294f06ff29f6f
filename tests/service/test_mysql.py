"""MySQL and MariaDB as they are met in the field: tables made by hand, refusals, other people's locks, lost sessions."""

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from collector import mysql
from collector.config import MysqlSettings, Secret
from collector.errors import ConfigurationError, LockLostError, UnavailableError
from collector.model import Changes, NewRow, RecordType, Retirement, Row, Series, Window
from collector.mysql import MysqlStore
from collector.mysql_session import Session
from collector.stop import Stop
from tests.servers.databases import Account, DatabaseServer, MariaDB, MySQL56, execute

NOW = 1_790_000_000_000
T0, T1, T2 = (NOW - 3_600_000 + minute * 60_000 for minute in (0, 10, 20))
TRAFFIC = RecordType.TRAFFIC
A, B, C, D = (f"devices/a/interfaces/{letter}" for letter in "abcd")
ROOT = Path(__file__).parents[2]
SQL_FILE = ROOT / "sql" / "esnet_interfaces.sql"
BY_HAND = """CREATE TABLE esnet_interfaces (
    id int NOT NULL AUTO_INCREMENT, name varchar(128) NOT NULL, status varchar(2) NOT NULL, active_from varchar(13) NOT NULL,
    active_until varchar(13), errors_until varchar(13), discards_until varchar(13), traffic_until varchar(13),
    PRIMARY KEY (id, name)) """


def settings(server: DatabaseServer, account: Account, **changed: Any) -> MysqlSettings:
    values: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "database": account.database, "user": account.user}
    return MysqlSettings(**(values | {"password": Secret(account.password)} | changed))


@pytest.fixture
def account(database_server: DatabaseServer) -> Account:
    return database_server.fresh_database()


@pytest.fixture
def sql(database_server: DatabaseServer, account: Account) -> Callable[[str], list[Any]]:
    """Runs a statement in the test's database, with all rights."""
    return lambda statement: database_server.sql(statement, database=account.database)


@pytest.fixture
def new_store(database_server: DatabaseServer, account: Account) -> Iterator[Callable[..., MysqlStore]]:
    """Makes a store, not yet open; all of them are closed at the end."""
    made: list[MysqlStore] = []

    def make(stop: Stop | None = None, **changed: Any) -> MysqlStore:
        made.append(MysqlStore(settings(database_server, account, **changed), stop or Stop()))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def store(new_store: Callable[..., MysqlStore]) -> MysqlStore:
    """A store that is open and holds the lock, with four rows."""
    made = new_store()
    made.open()
    assert made.take_lock(0)
    made.apply(Changes(new=tuple(NewRow(name, T0) for name in (A, B, C, D))))
    return made


def window(row: Row, end_ms: int, checkpoint_ms: int | None = None) -> Window:
    return Window(Series(row.id, row.name, TRAFFIC), checkpoint_ms or T0, end_ms, checkpoint_ms)


def retire(*rows: tuple[Row, int]) -> Changes:
    return Changes(retired=tuple(Retirement(row.id, row.name, until_ms) for row, until_ms in rows))


def wait_until(condition: Callable[[], object], every_s: float = 0.02) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(every_s)


@contextmanager
def in_background(call: Callable[[], object]) -> Iterator[list[object]]:
    """Runs a call beside the test; the list gets what it returned or raised."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield outcome
    thread.join(20)
    assert outcome, "the call has not ended"


@pytest.fixture
def operator(database_server: DatabaseServer, account: Account) -> Iterator[Any]:
    """A connection of somebody else's, in a transaction."""
    with database_server.admin(account.database) as connection:
        execute(connection, "START TRANSACTION")
        yield connection


class TestTable:
    """Whoever made it."""

    def test_the_collector_and_the_sql_file_create_the_same_table(
        self, sql: Callable[[str], list[Any]], new_store: Callable[..., MysqlStore]
    ) -> None:
        sql(SQL_FILE.read_text().rstrip().rstrip(";"))
        by_file = sql("SHOW CREATE TABLE esnet_interfaces")
        sql("DROP TABLE esnet_interfaces")
        new_store().open()
        assert sql("SHOW CREATE TABLE esnet_interfaces") == by_file

    @pytest.mark.parametrize(
        "made",
        [
            "CHARACTER SET latin1",
            "CHARACTER SET utf8 COLLATE utf8_general_ci",
            "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "CHARACTER SET binary",
            "CHARACTER SET utf16",
        ],
    )
    def test_a_table_made_by_hand_with_rows_in_it_works_whatever_its_collation(
        self, sql: Callable[[str], list[Any]], new_store: Callable[..., MysqlStore], made: str
    ) -> None:
        sql(BY_HAND + made)
        sql(f"INSERT INTO esnet_interfaces (name, status, active_from) VALUES ('devices/x/Ae1', '1', '{T0}')")
        sql(f"INSERT INTO esnet_interfaces (name, status, active_from) VALUES ('devices/x/ae1', '1', '{T0}')")
        store = new_store()
        store.open()
        assert store.take_lock(0)
        upper, lower = store.read(NOW).rows
        assert (upper.name, lower.name) == ("devices/x/Ae1", "devices/x/ae1")
        assert store.advance([window(lower, T1)]) == []
        stranger = Window(Series(upper.id, lower.name, TRAFFIC), T0, T1)
        assert store.advance([stranger]) == [stranger]
        store.apply(Changes(new=(NewRow("devices/x/AE1", T1),), retired=(Retirement(upper.id, upper.name, T2),)))
        first, second, third = store.read(NOW).rows
        assert (first.active_until_ms, first.checkpoints) == (T2, {})
        assert (second.active_until_ms, second.checkpoints) == (None, {TRAFFIC: T1})
        assert (third.name, third.active_from_ms) == ("devices/x/AE1", T1)

    def test_rows_that_share_an_id_move_one_by_one(self, sql: Callable[[str], list[Any]], store: MysqlStore) -> None:
        shared = [f"(77, 'devices/x/{name}', '1', '{T0}')" for name in ("Ae1", "Be1", "Ce1")]
        sql(f"INSERT INTO esnet_interfaces (id, name, status, active_from) VALUES {', '.join(shared)}")
        first, second, third = (row for row in store.read(NOW).rows if row.id == 77)
        assert store.advance([window(first, T1), window(third, T1)]) == []
        store.apply(retire((second, T2)))
        found = [(row.checkpoints, row.active_until_ms) for row in store.read(NOW).rows if row.id == 77]
        assert found == [({TRAFFIC: T1}, None), ({}, T2), ({TRAFFIC: T1}, None)]

    def test_a_column_that_is_too_narrow_is_refused_before_a_long_name_comes(
        self, sql: Callable[[str], list[Any]], new_store: Callable[..., MysqlStore]
    ) -> None:
        sql(BY_HAND.replace("varchar(128)", "varchar(64)").replace("traffic_until varchar(13)", "traffic_until varchar(10)"))
        with pytest.raises(ConfigurationError) as caught:
            new_store().open()
        assert ["column name is varchar(64)" in caught.value.problems[0], len(caught.value.problems)] == [True, 2]

    def test_a_table_that_is_dropped_meanwhile_is_the_operators_to_mend(
        self, sql: Callable[[str], list[Any]], store: MysqlStore
    ) -> None:
        sql("DROP TABLE esnet_interfaces")
        with pytest.raises(ConfigurationError, match="esnet_interfaces"):
            store.read(NOW)
        assert store.holds_lock()
        store.open()
        assert store.read(NOW).rows == ()


class TestAccess:
    """Refusals, and rights that suffice."""

    @pytest.mark.parametrize(
        ("changed", "variable"),
        [
            ({"password": Secret("wrong-one")}, "MYSQL_PASSWORD"),
            ({"user": "nobody_at_all"}, "MYSQL_USER"),
            ({"database": "no_such_database"}, "MYSQL_DATABASE"),
            ({"database": "mysql"}, "MYSQL_DATABASE"),
        ],
    )
    def test_a_refusal_names_the_variable_and_no_secret(
        self, new_store: Callable[..., MysqlStore], account: Account, changed: dict[str, Any], variable: str
    ) -> None:
        refused = new_store(**changed)
        with pytest.raises(ConfigurationError, match=variable) as caught:
            refused.open()
        assert not {account.password, "wrong-one"} & set(str(caught.value).split("'"))
        assert refused.outage.down

    def test_a_server_that_is_not_there_may_come_later(self, new_store: Callable[..., MysqlStore]) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            for changed in ({"port": nobody.getsockname()[1]}, {"host": "no-such-host.invalid"}):
                with pytest.raises(UnavailableError):
                    new_store(**changed).open()

    def test_reading_needs_the_right_to_select_and_no_other(
        self, database_server: DatabaseServer, account: Account, store: MysqlStore, new_store: Callable[..., MysqlStore]
    ) -> None:
        reader = database_server.reader(account.database)
        reading = new_store(user=reader.user, password=Secret(reader.password))
        reading.open(create=False)
        assert reading.read(NOW) == store.read(NOW)

    def test_a_user_who_may_not_create_works_on_a_table_that_is_there(self, database_server: DatabaseServer) -> None:
        account = database_server.fresh_database(grants="SELECT, INSERT, UPDATE")
        with closing(MysqlStore(settings(database_server, account), Stop())) as store:
            with pytest.raises(ConfigurationError, match=r"cannot be created.*sql/esnet_interfaces.sql"):
                store.open()
            database_server.sql(BY_HAND, database=account.database)
            store.open()
            assert store.take_lock(0)
            store.apply(Changes(new=(NewRow(A, T0),)))
            assert [row.name for row in store.read(NOW).rows] == [A]

    def test_a_right_that_is_missing_is_the_operators_to_mend(self, database_server: DatabaseServer) -> None:
        account = database_server.fresh_database(grants="SELECT, UPDATE")
        database_server.sql(BY_HAND, database=account.database)
        with closing(MysqlStore(settings(database_server, account), Stop())) as store:
            store.open()
            assert store.take_lock(0)
            with pytest.raises(ConfigurationError, match="rights of MYSQL_USER"):
                store.apply(Changes(new=(NewRow(A, T0),)))

    def test_a_password_file_is_read_again_at_each_connect(
        self, database_server: DatabaseServer, account: Account, new_store: Callable[..., MysqlStore], tmp_path: Path
    ) -> None:
        file = tmp_path / "password"
        file.write_text(account.password + "\n")
        store = new_store(password=Secret(file=str(file)))
        store.open()
        database_server.sql(f"SET PASSWORD FOR '{account.user}'@'%' = PASSWORD('another''s \"one\" #$')")
        file.write_text("another's \"one\" #$\n")
        database_server.kill_connections(account.user)
        store.open()
        assert store.read(NOW).rows == ()

    def test_the_drivers_debug_log_which_shows_passwords_stays_off(self) -> None:
        assert not logging.getLogger("mysql.connector").isEnabledFor(logging.INFO)


class TestOthersLocks:
    """Deadlocks, lock waits, and a server that takes no writes."""

    def test_a_deadlock_is_no_failure_and_nothing_is_written_twice(
        self, sql: Callable[[str], list[Any]], store: MysqlStore, operator: Any
    ) -> None:
        rows = store.read(NOW).rows
        # the operator has changed more rows, so the server undoes the collector's transaction
        sql("CREATE TABLE other (x int)")
        execute(operator, f"INSERT INTO other VALUES {', '.join(['(1)'] * 50)}")
        execute(operator, f"UPDATE esnet_interfaces SET errors_until = '{T0}' WHERE id = {rows[1].id}")
        changes = Changes(new=(NewRow("devices/b", T1),), retired=retire((rows[0], T1), (rows[1], T2)).retired)
        before = deadlocks(sql)
        with in_background(lambda: store.apply(changes)) as outcome:
            wait_until_waiting(sql)
            execute(operator, f"UPDATE esnet_interfaces SET errors_until = '{T0}' WHERE id = {rows[0].id}")
            execute(operator, "COMMIT")
        assert outcome == [None]
        assert deadlocks(sql) == before + 1
        after = store.read(NOW).rows
        assert [(row.name, row.active_until_ms) for row in after] == [(A, T1), (B, T2), (C, None), (D, None), ("devices/b", None)]
        assert store.holds_lock()

    def test_a_lock_that_is_given_back_in_time_costs_one_more_try(
        self, sql: Callable[[str], list[Any]], store: MysqlStore, operator: Any
    ) -> None:
        rows = store.read(NOW).rows
        execute(operator, f"UPDATE esnet_interfaces SET errors_until = '{T0}' WHERE id = {rows[1].id}")
        before = rollbacks(sql)
        with in_background(lambda: store.advance([window(rows[0], T1), window(rows[1], T1)])) as outcome:
            wait_until(lambda: rollbacks(sql) > before)
            execute(operator, "COMMIT")
        assert outcome == [[]]
        assert [row.checkpoints.get(TRAFFIC) for row in store.read(NOW).rows] == [T1, T1, None, None]

    def test_a_lock_that_stays_is_an_outage_and_leaves_nothing_half_done(self, store: MysqlStore, operator: Any) -> None:
        rows = store.read(NOW).rows
        execute(operator, f"UPDATE esnet_interfaces SET errors_until = '{T0}' WHERE id = {rows[1].id}")
        with pytest.raises(UnavailableError, match="Lock wait timeout") as caught:
            store.apply(Changes(new=(NewRow("devices/b", T1),), retired=retire((rows[1], T1)).retired))
        assert not isinstance(caught.value, LockLostError)
        assert store.read(NOW).rows == rows
        assert store.holds_lock()

    def test_a_server_that_is_read_only_is_an_outage_that_passes(
        self, database_server: DatabaseServer, store: MysqlStore
    ) -> None:
        database_server.sql("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(UnavailableError, match="read-only") as caught:
                store.apply(Changes(new=(NewRow("devices/b", T1),)))
            assert not isinstance(caught.value, LockLostError)
            assert store.outage.down
        finally:
            database_server.sql("SET GLOBAL read_only = 0")
        store.apply(Changes(new=(NewRow("devices/b", T1),)))
        assert not store.outage.down


def wait_until_waiting(sql: Callable[[str], list[Any]]) -> None:
    """Somebody waits for somebody else's row lock. The server refreshes that table only for who reads it every 0.1 s."""
    wait_until(lambda: sql("SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"), every_s=0.15)


def rollbacks(sql: Callable[[str], list[Any]]) -> int:
    return int(sql("SHOW GLOBAL STATUS LIKE 'Com_rollback'")[0][1])


def deadlocks(sql: Callable[[str], list[Any]]) -> int:
    found = sql("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")
    return int(found[0][0])


class TestLostSessions:
    """The lock goes with the session, and nothing is written without it."""

    def test_the_session_is_set_up_so_that_who_is_cut_off_loses_it(
        self, database_server: DatabaseServer, account: Account
    ) -> None:
        database_server.sql("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'")
        try:
            session = Session(settings(database_server, account))
        finally:
            database_server.sql("SET GLOBAL sql_mode = DEFAULT")
        found = session.execute("SELECT @@wait_timeout, @@net_read_timeout, @@net_write_timeout, @@sql_mode, %s", ["a\\'b"])
        assert list(found.rows[0]) == [20, 10, 10, "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION", "a\\'b"]
        session.quit()

    def test_a_killed_session_loses_the_lock_and_writes_nothing(
        self, database_server: DatabaseServer, account: Account, store: MysqlStore, new_store: Callable[..., MysqlStore]
    ) -> None:
        rows = store.read(NOW).rows
        assert database_server.kill_connections(account.user) == 1
        with pytest.raises(LockLostError):
            store.apply(Changes(new=(NewRow("devices/b", T1),)))
        assert not store.holds_lock()
        assert store.outage.down
        with pytest.raises(LockLostError):  # no new session behind anybody's back
            store.advance([window(rows[0], T1)])
        assert database_server.connections(account.user) == []
        store.open()
        with pytest.raises(LockLostError):  # a new session, but not yet the lock
            store.advance([window(rows[0], T1)])
        standby = new_store()
        standby.open()
        assert standby.take_lock(5)
        assert not store.take_lock(0)
        standby.close()
        assert store.take_lock(5)
        assert store.read(NOW).rows == rows
        assert store.advance([window(rows[0], T1)]) == []

    def test_a_session_killed_between_two_statements_leaves_nothing_half_done(
        self, database_server: DatabaseServer, account: Account, sql: Callable[[str], list[Any]], store: MysqlStore, operator: Any
    ) -> None:
        rows = store.read(NOW).rows
        execute(operator, f"UPDATE esnet_interfaces SET errors_until = '{T0}' WHERE id = {rows[1].id}")
        changes = Changes(new=(NewRow("devices/b", T1),), retired=retire((rows[0], T1), (rows[1], T2)).retired)
        with in_background(lambda: store.apply(changes)) as outcome:
            wait_until_waiting(sql)
            database_server.kill_connections(account.user)
        assert isinstance(outcome[0], LockLostError)
        execute(operator, "ROLLBACK")
        store.open()
        assert store.read(NOW).rows == rows

    def test_a_server_that_restarts_costs_a_lost_lock_and_no_more(
        self, database_server: DatabaseServer, store: MysqlStore
    ) -> None:
        rows = store.read(NOW).rows
        database_server.restart()
        with pytest.raises(LockLostError):
            store.read(NOW)
        store.open()
        assert store.take_lock(0)
        assert store.advance([window(row, T1) for row in rows]) == []

    def test_a_lock_that_somebody_else_has_got_is_noticed_before_a_write(
        self, database_server: DatabaseServer, store: MysqlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = store.read(NOW).rows
        store._execute("SELECT RELEASE_LOCK(%s)", [store._lock_name])  # as a second GET_LOCK would do on 5.6
        with pytest.raises(LockLostError, match="does not hold the lock"):
            store.advance([window(rows[0], T1)])
        assert not store.holds_lock()

    def test_a_short_wait_timeout_on_the_server_does_not_cost_the_lock(
        self, database_server: DatabaseServer, account: Account, new_store: Callable[..., MysqlStore]
    ) -> None:
        database_server.sql("SET GLOBAL wait_timeout = 2")
        try:
            store = new_store()
            store.open()
            assert store.take_lock(0)
            wait_until(lambda: idle_s(database_server, account) >= 3)
            store.apply(Changes(new=(NewRow("devices/b", T1),)))
            assert store.holds_lock()
        finally:
            database_server.sql("SET GLOBAL wait_timeout = DEFAULT")

    def test_the_keeper_pings_a_session_that_is_not_used(
        self, database_server: DatabaseServer, new_store: Callable[..., MysqlStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mysql, "PING_S", 0.05)
        store = new_store()
        store.open()
        assert store.take_lock(0)
        proven_at = store._proven_at
        wait_until(lambda: store._proven_at > proven_at)
        assert store.holds_lock()

    def test_the_keeper_notices_that_the_session_is_lost(
        self,
        database_server: DatabaseServer,
        account: Account,
        new_store: Callable[..., MysqlStore],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(mysql, "PING_S", 0.05)
        stop = Stop()
        store = new_store(stop)
        store.open()
        assert store.take_lock(0)
        database_server.kill_connections(account.user)
        wait_until(lambda: not store.holds_lock())
        wait_until(lambda: store.outage.down)
        with pytest.raises(LockLostError):
            store.apply(Changes())
        store.open()
        assert store.take_lock(5)
        assert not stop.is_set()

    def test_a_lock_that_was_not_proven_for_long_counts_as_lost(
        self, store: MysqlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert store.holds_lock()
        monkeypatch.setattr(mysql, "PROVEN_S", 0.0)
        assert not store.holds_lock()


def idle_s(server: DatabaseServer, account: Account) -> int:
    return int(server.sql("SELECT MIN(time) FROM information_schema.processlist WHERE user = %s", (account.user,))[0][0])


HOLDER = """
import sys
from collector import mysql_session
from collector.config import MysqlSettings, Secret
from collector.errors import LockLostError
from collector.model import Changes, NewRow
from collector.mysql import MysqlStore
from collector.stop import Stop

host, port, database, user, password = sys.argv[1:]
mysql_session.SETTINGS = tuple(each.replace("wait_timeout = 20", "wait_timeout = 2") for each in mysql_session.SETTINGS)
values = {"host": host, "port": int(port), "database": database, "user": user}
store = MysqlStore(MysqlSettings(**values, password=Secret(password)), Stop())
store.open()
print(store.take_lock(0), flush=True)
sys.stdin.readline()
try:
    store.apply(Changes(new=(NewRow("devices/frozen", 1_790_000_000_000),)))
    print("written", flush=True)
except LockLostError:
    print("lost", store.holds_lock(), flush=True)
"""
"""A collector's store in a program of its own, with a shorter wait_timeout, so that the test need not take 20 s."""


def test_a_holder_that_is_frozen_loses_the_lock_and_writes_nothing_when_it_goes_on(
    database_server: DatabaseServer, account: Account, new_store: Callable[..., MysqlStore]
) -> None:
    standby = new_store()
    standby.open()
    words = ["127.0.0.1", str(database_server.port), *account]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "True\n"
            holder.send_signal(signal.SIGSTOP)
            assert standby.take_lock(15)
            holder.send_signal(signal.SIGCONT)
            holder.stdin.write("go on\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == "lost False\n"
        finally:
            holder.kill()
    assert standby.read(NOW).rows == ()
    assert standby.holds_lock()


class TestFrozenServer:
    """Connections stay open, and nothing answers."""

    def test_a_frozen_server_costs_seconds_and_the_lock(self, mariadb: MariaDB) -> None:
        account = mariadb.fresh_database()
        with closing(MysqlStore(settings(mariadb, account), Stop())) as store:
            store.open()
            assert store.take_lock(0)
            began = time.monotonic()
            mariadb.freeze()
            try:
                with pytest.raises(LockLostError, match="no answer in time"):
                    store.read(NOW)
                assert not store.holds_lock()
            finally:
                mariadb.thaw()
            assert time.monotonic() - began < 7
            store.open()
            assert store.take_lock(5)

    def test_after_a_stop_a_frozen_server_is_given_a_second(self, database_server: DatabaseServer, account: Account) -> None:
        stop = Stop(lambda: time.monotonic() - 60)
        stores = [MysqlStore(settings(database_server, account), stop) for _ in range(3)]
        for each in stores[:2]:
            each.open()
        assert stores[0].take_lock(0)
        stop.set()
        began = time.monotonic()
        database_server.freeze()
        try:
            with pytest.raises(LockLostError):
                stores[0].apply(Changes())
            stores[1].close()
            with pytest.raises(UnavailableError):
                stores[2].open()
        finally:
            database_server.thaw()
        assert time.monotonic() - began < 5


class Cutter:
    """A relay to a server that closes both sides after so many bytes of the server's answers."""

    def __init__(self, port: int, after: int) -> None:
        self._target, self._after = port, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.close()
        self._thread.join(5)

    def _run(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            forward = threading.Thread(target=self._copy, args=(client, server, None), daemon=True)
            forward.start()
            self._copy(server, client, self._after)
            for each in (client, server):
                each.shutdown(socket.SHUT_RDWR)
            forward.join(5)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
        try:
            while (limit is None or limit > 0) and (chunk := source.recv(65536 if limit is None else limit)):
                target.sendall(chunk)
                limit = None if limit is None else limit - len(chunk)
        except OSError:
            pass


@pytest.mark.parametrize("after", [0, 3, 20, 60, 90, 200, 330, 500, 700, 1000, 1500])
def test_an_answer_that_is_cut_off_anywhere_is_an_outage(mariadb: MariaDB, after: int) -> None:
    account = mariadb.fresh_database()
    with closing(MysqlStore(settings(mariadb, account), Stop())) as whole:
        whole.open()
        assert whole.take_lock(0)
        whole.apply(Changes(new=tuple(NewRow(f"devices/a/interfaces/{number}", T0) for number in range(50))))

    def open_and_read(store: MysqlStore) -> None:
        store.open()
        store.read(NOW)

    with (
        closing(Cutter(mariadb.port, after)) as cutter,
        closing(MysqlStore(settings(mariadb, account, port=cutter.port), Stop())) as store,
        pytest.raises(UnavailableError),
    ):
        open_and_read(store)


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


def certificates(directory: Path) -> Path:
    """An authority and a server's certificate of it for 127.0.0.1; the authority's file."""
    request = ("req", "-x509", "-subj", "/CN=test", "-days", "2", "-nodes", "-newkey", "rsa:2048")
    openssl(directory, *request, "-keyout", "ca.key", "-out", "ca.pem")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
    openssl(directory, *request, "-keyout", "server.key", "-out", "server.pem", *signed, "-addext", "basicConstraints=CA:FALSE")
    return directory / "ca.pem"


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_server(ca_file: Path) -> Iterator[MariaDB]:
    """A MariaDB with a certificate for 127.0.0.1."""
    directory = ca_file.parent
    files = [f"--ssl-ca={ca_file}", f"--ssl-cert={directory / 'server.pem'}", f"--ssl-key={directory / 'server.key'}"]
    with MariaDB(files) as server:
        yield server


def cipher(server: DatabaseServer, **changed: Any) -> object:
    """What a session of the collector is encrypted with."""
    session = Session(settings(server, server.fresh_database(), **changed))
    found = session.execute("SHOW STATUS LIKE 'Ssl_cipher'").rows[0][1]
    session.quit()
    return found


class TestTls:
    """With MYSQL_CA_FILE the peer is verified; without it TLS is used where it works."""

    def test_a_peer_that_the_authority_vouches_for_is_accepted(self, tls_server: MariaDB, ca_file: Path) -> None:
        assert cipher(tls_server, ca_file=str(ca_file))

    def test_without_a_ca_file_tls_is_used_where_it_works(self, tls_server: MariaDB, database_server: DatabaseServer) -> None:
        assert cipher(tls_server)
        assert not cipher(database_server)

    def test_without_a_ca_file_the_tls_of_mysql_56_which_is_too_old_is_left_alone(self, ca_file: Path) -> None:
        directory = ca_file.parent
        openssl(directory, "rsa", "-in", "server.key", "-traditional", "-out", "old.key")
        files = [f"--ssl-ca={ca_file}", f"--ssl-cert={directory / 'server.pem'}", f"--ssl-key={directory / 'old.key'}"]
        with MySQL56(files) as server:
            assert server.sql("SELECT @@have_ssl") == [("YES",)]
            assert not cipher(server)
            with pytest.raises(UnavailableError, match="SSL"):
                cipher(server, ca_file=str(ca_file))

    def test_a_peer_of_another_authority_or_another_name_is_refused(
        self, tls_server: MariaDB, ca_file: Path, tmp_path: Path
    ) -> None:
        for changed in ({"ca_file": str(certificates(tmp_path))}, {"ca_file": str(ca_file), "host": "localhost"}):
            with pytest.raises(ConfigurationError, match="MYSQL_CA_FILE"):
                cipher(tls_server, **changed)

    def test_a_server_without_tls_is_not_talked_to_when_a_ca_file_is_set(self, mariadb: MariaDB, ca_file: Path) -> None:
        with pytest.raises(UnavailableError, match="SSL is required"):
            cipher(mariadb, ca_file=str(ca_file))

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_a_ca_file_that_cannot_be_used_is_refused_by_name(
        self, mariadb: MariaDB, tmp_path: Path, content: str | None
    ) -> None:
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_text(content)
        with pytest.raises(ConfigurationError, match=f"MYSQL_CA_FILE {file}"):
            cipher(mariadb, ca_file=str(file))
