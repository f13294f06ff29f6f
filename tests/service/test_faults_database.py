"""One collector on each server goes through everything that a database does to it, and every point arrives."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from collector.source.simulated.network import SimulatedNetwork
from collector.store.mysql import lock_name
from tests.rig import Bus, Clock, Collector, Counts, MysqlTable, Rig, wait_for
from tests.rig.tables import CREATE_BY_HAND
from tests.rig.wire import Wire, pass_on
from tests.servers.databases import DatabaseServer, MariaDB, execute
from tests.servers.rabbitmq import RabbitServer

NewRig = Callable[..., Rig]
MINUTE_MS = 60_000
DAY_S = 86_400.0
PATIENCE_S = 40.0
STOP_S = 8.0
"""How long a collector may take to end."""

BETWEEN = {
    "the begin": (b"START TRANSACTION", 1),
    "the proof of the lock": (b"IS_USED_LOCK", 1),
    "the first update": (b"UPDATE esnet_interfaces", 1),
    "the second update": (b"UPDATE esnet_interfaces", 2),
    "the commit": (b"COMMIT", 1),
    "the insert": (b"INSERT INTO esnet_interfaces", 1),
    "the retirement": (b"SET status =", 1),
}
"""Before what a connection is cut: a statement, and which one of those that come."""


mariadb_only = pytest.mark.parametrize("ground", ["mariadb"], indirect=True, scope="module")
"""For what takes long and does not depend on the server."""


class Ground:
    """A collector at work on a server, with a wire between them; Netbeam's time runs a minute a second.

    A window is a minute, so that after each fault there are many rounds of windows, and in between many transactions.
    """

    def __init__(self, server: DatabaseServer, rig: Rig) -> None:
        assert isinstance(rig.table, MysqlTable)
        self.server, self.rig, self.table = server, rig, rig.table
        self.wire = Wire(server.port)
        rig.behaviour.latency_s = 0.01
        self.collector = rig.start(MYSQL_PORT=self.wire.port, MAX_WINDOW=60, IDLE_BACKOFF=0, LATE_DATA=0)
        self.collector.wait_for_cycles(1)
        self._before = Counts()

    @property
    def user(self) -> str:
        return self.table.account.user

    @property
    def last_row(self) -> int:
        """The row that the collector's statements lock last."""
        return int(self.table.sql("SELECT MAX(id) FROM esnet_interfaces WHERE status = '1'")[0][0])

    def mid_cycle(self) -> None:
        """Wait until points are being asked for."""
        asked = self.rig.simulation.counts["points"]
        self.collector.wait_for(lambda: self.rig.simulation.counts["points"] > asked, what="a request for points")

    def strike(self, fault: Callable[[], object]) -> None:
        """Do it in mid-cycle; wait until the collector has met it and has got over it."""
        self.mid_cycle()
        outages = self.said("MySQL is not available")
        fault()
        self.heal(outages)

    def heal(self, outages: int) -> None:
        """Wait for one outage more than those, and then for a cycle that works: the delay after the next one is short."""
        self.collector.wait_for(lambda: self.said("MySQL is not available") > outages, what="an outage")
        worked = self.said("outcome=(complete|cut)")
        self.collector.wait_for(lambda: self.said("outcome=(complete|cut)") > worked, what="a cycle that works")

    def said(self, pattern: str) -> int:
        """How many lines of the log match."""
        return len(self.collector.log_lines(pattern))

    def recover(self, fault: str, times: int = 1) -> Counts:
        """Wait until all is collected up to this moment, and check the promise."""
        began, aim = time.monotonic(), str(self.rig.clock() // MINUTE_MS * MINUTE_MS)

        def complete() -> bool:
            oldest = self.table.sql(
                "SELECT MIN(LEAST(COALESCE(traffic_until, 0), COALESCE(errors_until, 0), COALESCE(discards_until, 0))) "
                "FROM esnet_interfaces WHERE status = '1'"
            )
            return str(oldest[0][0]) >= aim

        self.collector.wait_for(complete, PATIENCE_S, "all checkpoints at the present time")
        seconds = time.monotonic() - began
        counts = self.rig.check()
        print(
            f"FIGURES {self.server.name}: {fault} times={times} points={counts.points - self._before.points} "
            f"duplicates={counts.duplicates - self._before.duplicates} missing={counts.missing} recovered_s={seconds:.1f}"
        )
        self._before = counts
        return counts


@pytest.fixture(scope="module", params=["mariadb", "mysql56"])
def ground(
    request: pytest.FixtureRequest, rabbit: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    """The same collector for all tests of a server: each fault strikes one that has lived through those before it."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    directory = tmp_path_factory.mktemp("ground")
    clock = Clock(behind_s=DAY_S / 2, rate=60)
    with Rig(SimulatedNetwork.synthetic(16), MysqlTable(server), Bus(rabbit), clock=clock, directory=directory) as rig:
        made = Ground(server, rig)
        yield made
        assert made.collector.terminate() == 0
        rig.check()
        made.wire.close()


class TestKilledConnections:
    def cut(self, ground: Ground, statement: bytes, number: int, lose_answer: bool = False) -> None:
        """Kill the collector's session before the n-th of these statements, or keep the answer to it back."""
        seen = 0
        struck: list[bytes] = []

        def watch(piece: bytes) -> bool:
            nonlocal seen
            if statement not in piece or struck:
                return False
            seen += 1
            if seen < number:
                return False
            struck.append(piece)
            if not lose_answer:
                ground.server.kill_connections(ground.user)
            return lose_answer

        absent = ground.rig.network.absent
        if statement.startswith((b"INSERT", b"SET status")):
            ground.rig.network.absent = frozenset() if absent else frozenset({ground.rig.network.resources[1]})
        ground.wire.watch = watch
        ground.collector.wait_for(lambda: struck, what=f"a {statement!r}")
        ground.wire.watch = pass_on

    def test_a_session_killed_between_any_two_statements_costs_nothing(self, ground: Ground) -> None:
        # the retirement first, so that there is something to insert
        places = sorted(BETWEEN.items(), key=lambda item: item[0] != "the retirement")
        if ground.server.name != MariaDB.name:
            places = [(place, what) for place, what in places if place in ("the second update", "the commit")]
        for _, (statement, number) in places:
            losses = ground.said("MySQL is not available")
            self.cut(ground, statement, number)
            ground.heal(losses)
        ground.recover("killed between two statements", len(places))

    def test_a_commit_whose_answer_is_lost_counts_and_repeats_nothing(self, ground: Ground) -> None:
        before = ground.recover("nothing", 0)
        outages = ground.said("MySQL is not available")
        self.cut(ground, b"COMMIT", 1, lose_answer=True)
        ground.heal(outages)
        after = ground.recover("the answer to a commit lost")
        assert after.duplicates == before.duplicates

    def test_sessions_killed_at_any_time_cost_nothing(self, ground: Ground) -> None:
        for _ in range(3):
            ground.strike(lambda: ground.server.kill_connections(ground.user))
        ground.recover("killed in mid-cycle", 3)


class TestOthersLocks:
    """An operator at work in the same table."""

    def test_a_deadlock_goes_unnoticed(self, ground: Ground) -> None:
        outages, before = ground.said("MySQL is not available"), self.deadlocks(ground)
        with ground.server.admin(ground.table.account.database) as operator:
            execute(operator, "CREATE TABLE ballast (x int)")
            deadline = time.monotonic() + PATIENCE_S
            while self.deadlocks(ground) == before:
                assert time.monotonic() < deadline, "no deadlock"
                execute(operator, "START TRANSACTION")
                # who has changed less is undone: the collector
                execute(operator, f"INSERT INTO ballast VALUES {', '.join(['(1)'] * 500)}")
                execute(operator, "SELECT id FROM esnet_interfaces WHERE id = %s FOR UPDATE", (ground.last_row,))
                if self.waits(ground):
                    execute(operator, "SELECT MIN(id) FROM esnet_interfaces FOR UPDATE")
                    execute(operator, "SELECT id FROM esnet_interfaces FOR UPDATE")
                execute(operator, "ROLLBACK")
            execute(operator, "DROP TABLE ballast")
        ground.recover("deadlock")
        assert ground.said("MySQL is not available") == outages

    @mariadb_only
    def test_a_lock_that_stays_is_one_outage_and_ends_with_it(self, ground: Ground) -> None:
        outages = ground.said("MySQL is (not )?available")
        with ground.server.admin(ground.table.account.database) as operator:
            execute(operator, "START TRANSACTION")
            execute(operator, "SELECT id FROM esnet_interfaces WHERE id = %s FOR UPDATE", (ground.last_row,))
            ground.collector.wait_for(lambda: ground.said("MySQL is not available.*Lock wait") > 0, what="an outage")
            failed = ground.said("outcome=failed")
            ground.collector.wait_for(lambda: ground.said("outcome=failed") > failed, what="another try")
            execute(operator, "ROLLBACK")
        ground.recover("lock timeout")
        assert ground.said("MySQL is (not )?available") == outages + 2, ground.collector.tail()

    @staticmethod
    def deadlocks(ground: Ground) -> int:
        found = ground.server.sql("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")
        return int(found[0][0])

    @staticmethod
    def waits(ground: Ground) -> bool:
        """Whether the collector comes to wait for the operator. The server refreshes that table every 0.1 s."""
        deadline = time.monotonic() + 3
        while not ground.server.sql("SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.11)
        return True


def test_a_server_that_is_read_only_for_a_while_is_one_outage(ground: Ground) -> None:
    outages = ground.said("MySQL is (not )?available")
    ground.server.sql("SET GLOBAL read_only = 1")
    try:
        ground.collector.wait_for_log("MySQL is not available.*read-only")
        tries: list[bytes] = []
        ground.wire.watch = lambda piece: b"WHERE 1 = 0" in piece and bool(tries.append(piece))  # type: ignore[func-returns-value]
        ground.collector.wait_for(lambda: len(tries) >= 2, what="two more tries")
    finally:
        ground.wire.watch = pass_on
        ground.server.sql("SET GLOBAL read_only = 0")
    ground.recover("read-only")
    assert ground.said("MySQL is (not )?available") == outages + 2, ground.collector.tail()


@mariadb_only
def test_a_wait_timeout_of_two_seconds_on_the_server_goes_unnoticed(ground: Ground) -> None:
    usual = ground.server.sql("SELECT @@GLOBAL.wait_timeout")[0][0]
    ground.server.sql("SET GLOBAL wait_timeout = 2")
    try:
        seen = ground.said("MySQL is available again")
        ground.server.kill_connections(ground.user)  # the next session begins with the new value
        ground.collector.wait_for_log("MySQL is available again", times=seen + 1)
        ground.collector.wait_for_cycles(1)
        outages = ground.said("MySQL is not available")
        ground.rig.behaviour.latency_s = 3.0  # longer than the server would wait
        ground.collector.wait_for_cycles(2)
        assert ground.said("MySQL is not available") == outages
    finally:
        ground.rig.behaviour.latency_s = 0.01
        ground.server.sql(f"SET GLOBAL wait_timeout = {usual}")
    ground.recover("wait_timeout of 2 s")


class TestServer:
    def test_a_server_that_freezes_and_goes_on_costs_a_pause(self, ground: Ground) -> None:
        def freeze() -> None:
            outages = ground.said("MySQL is not available")
            ground.server.freeze()
            try:
                ground.collector.wait_for(lambda: ground.said("MySQL is not available") > outages, what="an outage")
            finally:
                ground.server.thaw()

        ground.strike(freeze)
        ground.recover("frozen and continued")

    def test_a_server_that_is_stopped_and_started_costs_a_pause(self, ground: Ground) -> None:
        ground.strike(ground.server.restart)
        ground.recover("stopped and started")

    def test_a_server_that_crashes_and_comes_back_costs_a_pause(self, ground: Ground) -> None:
        def crash() -> None:
            ground.server.kill()
            ground.server.restart()

        ground.strike(crash)
        ground.recover("killed and started")


def test_a_primary_that_becomes_read_only_is_left_for_the_one_that_takes_over(mariadb: MariaDB, new_rig: NewRig) -> None:
    rig = new_rig(16, clock=Clock(behind_s=DAY_S, rate=60), MAX_WINDOW=60, IDLE_BACKOFF=0)
    rig.behaviour.latency_s = 0.01
    assert isinstance(rig.table, MysqlTable)
    account, lock = rig.table.account, "SELECT IS_USED_LOCK(%s)"
    wire = Wire(mariadb.port)
    collector = rig.start(MYSQL_PORT=wire.port)
    collector.wait_for_cycles(1)
    with MariaDB() as heir:
        mariadb.sql("SET GLOBAL read_only = 1")
        try:
            # as replication would have it; the collector goes on trying meanwhile
            heir.sql(f"CREATE DATABASE {account.database}")
            heir.sql(f"GRANT ALL ON {account.database}.* TO '{account.user}'@'%' IDENTIFIED BY '{account.password}'")
            heir.sql(CREATE_BY_HAND, database=account.database)
            rows = mariadb.sql("SELECT * FROM esnet_interfaces", database=account.database)
            for row in rows:
                heir.sql(f"INSERT INTO esnet_interfaces VALUES ({', '.join(['%s'] * len(row))})", row, account.database)
            before = heir.sql("SELECT MIN(traffic_until) FROM esnet_interfaces", database=account.database)
            collector.wait_for_log("MySQL is not available.*read-only")
            wire.target = heir.port
            began = time.monotonic()

            def moved() -> bool:
                return heir.sql("SELECT MIN(traffic_until) FROM esnet_interfaces", database=account.database) > before

            collector.wait_for(moved, 90, "checkpoints that move at the new primary")
            assert heir.sql(lock, (lock_name(account.database),)) != [(None,)]
            assert mariadb.sql(lock, (lock_name(account.database),)) == [(None,)]
            assert len(collector.log_lines("MySQL is (not )?available")) == 2, collector.tail()
            print(f"FIGURES new primary: seconds={time.monotonic() - began:.1f}")
            assert collector.terminate() == 0
        finally:
            mariadb.sql("SET GLOBAL read_only = 0")
            wire.close()


class TestSignalsWhileItHangs:
    """A stop ends it within 8 s, and a second signal at once, whatever the database does."""

    @pytest.fixture
    def hanging(self, new_rig: NewRig, mariadb: MariaDB) -> Iterator[tuple[Rig, list[Collector]]]:
        """Four collectors at a server that has just frozen: one at work, one standing by, two that try to connect."""
        rig = new_rig(16, clock=Clock(behind_s=DAY_S / 2, rate=60), MAX_WINDOW=60)
        rig.behaviour.latency_s = 0.05
        wire = Wire(mariadb.port)
        wire.cut()
        connecting = [rig.start(MYSQL_PORT=wire.port) for _ in range(2)]
        worker = rig.start()
        worker.wait_for(lambda: rig.bus and rig.bus.waiting() > 200, what="200 messages")
        standby = rig.start()
        standby.wait_for_log("standing by")
        for each in connecting:
            each.wait_for_log("MySQL is not available")
        asked = rig.simulation.counts["points"]
        worker.wait_for(lambda: rig.simulation.counts["points"] > asked, what="a request for points")
        mariadb.freeze()
        try:
            yield rig, [worker, standby, *connecting]
        finally:
            mariadb.thaw()
            wire.close()

    def test_the_first_signal_ends_them_all_with_0_within_8_seconds(
        self, hanging: tuple[Rig, list[Collector]], mariadb: MariaDB
    ) -> None:
        rig, collectors = hanging
        sent_at = time.monotonic()
        for each in collectors:
            each.signal(signal.SIGTERM)
        wait_for(lambda: not any([each.running for each in collectors]), STOP_S + 1, "the end of all of them")
        assert {each.exit_code for each in collectors} == {0}
        seconds = [round((each.ended_at or 0) - sent_at, 1) for each in collectors]
        assert max(seconds) <= STOP_S, seconds
        mariadb.thaw()
        counts = rig.check()
        print(f"FIGURES SIGTERM at a frozen server: seconds={seconds} {counts}")
        rig.behaviour.latency_s = 0
        rig.once(MAX_WINDOW=21600)
        rig.check()

    def test_the_second_signal_ends_them_at_once(self, hanging: tuple[Rig, list[Collector]], mariadb: MariaDB) -> None:
        rig, (worker, standby, *_) = hanging
        for each in (worker, standby):
            each.signal(signal.SIGTERM)
        with pytest.raises(AssertionError):
            worker.wait(1.2)  # it hangs; and two signals within a second count as one
        for each in (worker, standby):
            each.signal(signal.SIGHUP)
        assert [worker.wait(2), standby.wait(2)] == [128 + signal.SIGHUP] * 2
        mariadb.thaw()
        rig.check()
