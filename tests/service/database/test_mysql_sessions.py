"""The lock goes with its session, however that one is lost, and nothing is written without it."""

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from collector.core.counters import Count, Counters
from collector.core.errors import LockLostError, UnavailableError
from collector.core.model import Changes, NewRow
from collector.core.shutdown import Stop
from collector.store import mysql
from collector.store.mysql import MysqlStore
from collector.store.session import Session
from tests.servers.databases import Account, DatabaseServer, MariaDB, execute
from tests.service.database.steps import (
    NOW,
    ROOT,
    T0,
    T1,
    T2,
    NewStore,
    Sql,
    in_background,
    move,
    retire,
    settings,
    wait_until,
    wait_until_waiting,
)


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
        self, database_server: DatabaseServer, account: Account, store: MysqlStore, new_store: NewStore
    ) -> None:
        rows = store.read(NOW).rows
        assert database_server.kill_connections(account.user) == 1
        with pytest.raises(LockLostError):
            store.apply(Changes(new=(NewRow("devices/b", T1),)))
        assert not store.holds_lock()
        assert store.outage.down
        with pytest.raises(LockLostError):  # no new session behind anybody's back
            store.advance([move(rows[0], T1)])
        assert database_server.connections(account.user) == []
        store.open()
        with pytest.raises(LockLostError):  # a new session, but not yet the lock
            store.advance([move(rows[0], T1)])
        standby = new_store()
        standby.open()
        assert standby.take_lock(5)
        assert not store.take_lock(0)
        assert store.lock_holder() in ("127.0.0.1", "localhost")
        standby.close()
        assert store.take_lock(5)
        assert store.read(NOW).rows == rows
        assert store.advance([move(rows[0], T1)]) == []

    def test_a_session_killed_between_two_statements_leaves_nothing_half_done(
        self, database_server: DatabaseServer, account: Account, sql: Sql, store: MysqlStore, operator: Any
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
        assert store.advance([move(row, T1) for row in rows]) == []

    def test_a_lock_that_somebody_else_has_got_is_noticed_before_a_write(
        self, database_server: DatabaseServer, store: MysqlStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = store.read(NOW).rows
        store._execute("SELECT RELEASE_LOCK(%s)", [store._lock_name])  # as a second GET_LOCK would do on 5.6
        with pytest.raises(LockLostError, match="does not hold the lock"):
            store.advance([move(rows[0], T1)])
        assert not store.holds_lock()

    def test_a_short_wait_timeout_on_the_server_does_not_cost_the_lock(
        self, database_server: DatabaseServer, account: Account, new_store: NewStore
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
        self, database_server: DatabaseServer, new_store: NewStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mysql, "PING_S", 0.05)
        store = new_store()
        for _ in range(2):  # after a close and another open, too
            store.open()
            assert store.take_lock(5)
            proven_at = store._proven_at
            wait_until(lambda: store._proven_at > proven_at)  # noqa: B023
            assert store.holds_lock()
            store.close()

    def test_the_keeper_notices_that_the_session_is_lost(
        self,
        database_server: DatabaseServer,
        account: Account,
        new_store: NewStore,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(mysql, "PING_S", 0.05)
        stop, counters = Stop(), Counters()
        store = new_store(stop, counters)
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
        assert counters.get(Count.RECONNECTS, "mysql") == 1

    def test_a_lock_that_was_not_proven_for_long_counts_as_lost(self, store: MysqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
        assert store.holds_lock()
        monkeypatch.setattr(mysql, "PROVEN_S", 0.0)
        assert not store.holds_lock()


def idle_s(server: DatabaseServer, account: Account) -> int:
    return int(server.sql("SELECT MIN(time) FROM information_schema.processlist WHERE user = %s", (account.user,))[0][0])


HOLDER = """
import sys
from collector.store import session
from collector.config.systems import MysqlSettings, Secret
from collector.core.errors import LockLostError
from collector.core.model import Changes, NewRow
from collector.store.mysql import MysqlStore
from collector.core.shutdown import Stop
from collector.core.counters import Count, Counters

host, port, database, user, password = sys.argv[1:]
session.SETTINGS = tuple(each.replace("wait_timeout = 20", "wait_timeout = 2") for each in session.SETTINGS)
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
    database_server: DatabaseServer, account: Account, new_store: NewStore
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
