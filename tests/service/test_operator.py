"""What an operator does to the table while the collector works: it is respected, and nothing is lost by it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Clock, Collector, MysqlTable, Rig
from tests.rig.tables import COLUMNS, CREATE_BY_HAND, RECORD_TYPES, Table
from tests.servers.databases import DatabaseServer, MariaDB, connect, execute

NewRig = Callable[..., Rig]
DAY_S = 86_400.0
MINUTE_MS = 60_000
POINTS_A_MINUTE = 2


def talking(rig: Rig) -> list[str]:
    """The interfaces that have points."""
    return [each for each in rig.network.resources if not rig.network.silent(each)]


def now(rig: Rig) -> str:
    """Where every checkpoint is after a complete cycle at Netbeam's present time."""
    return str(rig.clock() // MINUTE_MS * MINUTE_MS)


def collect(rig: Rig, collector: Collector) -> None:
    """Wait until all rows that can be trusted are collected up to the present time."""
    collector.wait_for(lambda: rig.checkpoints() == {now(rig)}, what="all checkpoints at the present time")


def dump(table: Table) -> list[Sequence[Any]]:
    """All rows as they are."""
    return table.sql(f"SELECT {', '.join(COLUMNS)} FROM esnet_interfaces ORDER BY id")


def restore(table: MysqlTable, rows: Sequence[Sequence[Any]]) -> None:
    """As mysqldump's output does it: drop, create, lock, insert."""
    account = table.account
    one = f"({', '.join(['%s'] * len(COLUMNS))})"
    with connect(table.server.port, account.user, account.password, account.database) as connection:
        execute(connection, "DROP TABLE esnet_interfaces")
        execute(connection, CREATE_BY_HAND)
        execute(connection, "LOCK TABLES esnet_interfaces WRITE")
        values = [value for row in rows for value in row]
        execute(
            connection, f"INSERT INTO esnet_interfaces ({', '.join(COLUMNS)}) VALUES {', '.join([one] * len(rows))}", values
        )
        execute(connection, "UNLOCK TABLES")


@pytest.fixture
def clock() -> Clock:
    """A time of the day before yesterday that stands still until a test moves it on."""
    return Clock(behind_s=DAY_S / 2, rate=0)


def test_a_checkpoint_that_is_rewound_in_mid_cycle_stays_and_is_collected_again(
    database_server: DatabaseServer, new_rig: NewRig, clock: Clock
) -> None:
    rig = new_rig(8, table=MysqlTable(database_server), clock=clock, record=True, POLL_INTERVAL=4)
    collector = rig.start()
    collect(rig, collector)
    name = talking(rig)[0]
    before = int(now(rig))
    rewound = before - 20 * MINUTE_MS
    rig.behaviour.latency_s = 0.5
    clock.advance(300)
    asked = len(rig.simulation.requests)
    collector.wait_for(
        lambda: [each for each in rig.simulation.requests[asked:] if (each.resource, each.record_type) == (name, "traffic")],
        what="a request for the window",
    )
    rig.table.sql("UPDATE esnet_interfaces SET traffic_until = %s WHERE name = %s", (str(rewound), name))
    rig.behaviour.latency_s = 0
    collector.wait_for_log("1 window not done: the checkpoint was changed in the table meanwhile")
    collect(rig, collector)
    assert collector.terminate() == 0
    counts = rig.check()
    # from where it was put back to where it was, and the window that was on its way
    assert counts.duplicates == (20 + 5) * POINTS_A_MINUTE
    print(f"FIGURES operator, rewound in mid-cycle, {database_server.name}: {counts}")


def test_rows_that_cannot_be_trusted_are_left_alone_and_named_once_a_cycle(new_rig: NewRig, clock: Clock) -> None:
    rig = new_rig(16, clock=clock, IDLE_BACKOFF=0)
    rig.table.create()
    listed = str(clock())
    ahead = str(clock() + 2 * round(DAY_S) * 1000)
    odd = (
        ("1", "17000", None, None),
        ("2", listed, None, None),
        ("1", listed, listed, None),
        ("0", listed, None, None),
        ("1", listed, None, ahead),
        ("1", listed, None, "999"),
    )
    for name, values in zip(rig.network.resources, odd, strict=False):
        rig.table.sql(
            "INSERT INTO esnet_interfaces (name, status, active_from, active_until, traffic_until) VALUES (%s, %s, %s, %s, %s)",
            (name, *values),
        )
    by_hand = dump(rig.table)
    collector = rig.start()
    collector.wait_for_cycles(3)
    rows = rig.table.rows()
    assert dump(rig.table)[: len(odd)] == by_hand
    assert {row.name for row in rows[len(odd) :]} == set(rig.network.resources[len(odd) :])
    assert all(set(row.until.values()) == {now(rig)} for row in rows[len(odd) :] if not rig.network.silent(row.name))
    cycles, warnings = len(collector.cycles()), collector.log_lines(f"cannot be trusted are left alone count={len(odd)} ")
    assert cycles <= len(warnings) <= cycles + 1
    assert {name for name, _ in rig.heard().points} == set(talking(rig)) - set(rig.network.resources[: len(odd)])
    # mended by hand they are collected like any other, without a restart
    rig.table.sql("UPDATE esnet_interfaces SET status = '1', active_from = %s, active_until = NULL, traffic_until = NULL "
                  "WHERE id <= %s", (listed, len(odd)))  # fmt: skip
    collect(rig, collector)
    assert collector.terminate() == 0
    assert {name for name, _ in rig.heard().points} == set(talking(rig))
    rig.check_exactly()


class TestRestoredFromABackup:
    """Some hours old: what has come since comes again, with the same message_id, and nothing is lost."""

    def prepare(self, rig: Rig, clock: Clock) -> tuple[list[Sequence[Any]], Collector]:
        """A backup, and hours after it, in which an interface came and another one went."""
        first, second = talking(rig)[:2]
        rig.network.absent = frozenset({first})
        collector = rig.start(MAX_WINDOW=3 * 3600)
        collect(rig, collector)
        backup = dump(rig.table)
        clock.advance(DAY_S / 5)
        rig.network.absent = frozenset({second})
        collector.wait_for_cycles(2)
        clock.advance(DAY_S / 5)
        rig.network.absent = frozenset()
        collector.wait_for(lambda: len(rig.table.rows()) == 9, what="the one that went and came back")
        collect(rig, collector)
        rig.check()
        return backup, collector

    def finish(self, rig: Rig, collector: Collector, how: str) -> None:
        collect(rig, collector)
        assert collector.terminate() == 0
        counts = rig.check()
        # each series that was there from the backup on comes again
        assert counts.duplicates >= (len(talking(rig)) - 2) * len(RECORD_TYPES) * 2 * DAY_S / 5 / 60 * POINTS_A_MINUTE
        print(f"FIGURES operator, restored while {how}: {counts}")

    def test_while_it_is_stopped(self, mariadb: MariaDB, new_rig: NewRig, clock: Clock) -> None:
        table = MysqlTable(mariadb)
        rig = new_rig(8, table=table, clock=clock, IDLE_BACKOFF=0)
        backup, collector = self.prepare(rig, clock)
        assert collector.terminate() == 0
        restore(table, backup)
        self.finish(rig, rig.start(), "stopped")

    def test_while_it_runs(self, mariadb: MariaDB, new_rig: NewRig, clock: Clock) -> None:
        table = MysqlTable(mariadb)
        rig = new_rig(8, table=table, clock=clock, IDLE_BACKOFF=0)
        backup, collector = self.prepare(rig, clock)
        rig.behaviour.latency_s = 0.1
        clock.advance(120)
        asked = rig.simulation.counts["points"]
        collector.wait_for(lambda: rig.simulation.counts["points"] > asked, what="a request for points")
        restore(table, backup)
        rig.behaviour.latency_s = 0
        self.finish(rig, collector, "running")


@pytest.mark.parametrize("statement", ["DELETE FROM esnet_interfaces WHERE name = %s", "DROP TABLE esnet_interfaces"])
def test_rows_that_are_removed_in_mid_run_are_made_anew_and_nothing_is_lost(
    new_rig: NewRig, clock: Clock, statement: str
) -> None:
    rig = new_rig(8, clock=clock, IDLE_BACKOFF=0)
    collector = rig.start()
    collect(rig, collector)
    rig.behaviour.latency_s = 0.3
    clock.advance(300)
    asked = rig.simulation.counts["points"]
    collector.wait_for(lambda: rig.simulation.counts["points"] > asked, what="a request for points")
    began = time.monotonic()
    rig.table.sql(statement, (talking(rig)[0],) if "%s" in statement else ())
    rig.behaviour.latency_s = 0
    collector.wait_for(lambda: len(rig.table.rows()) == 8, what="the rows anew")
    collect(rig, collector)
    seconds = time.monotonic() - began
    clock.advance(300)
    collect(rig, collector)
    assert collector.terminate() == 0
    assert sorted(row.name for row in rig.table.rows()) == sorted(rig.network.resources)
    print(f"FIGURES operator, {statement[:6]}: {rig.check()} recovered_s={seconds:.1f}")


def test_of_two_active_rows_of_one_name_the_second_is_left_alone(new_rig: NewRig, clock: Clock) -> None:
    rig = new_rig(network=SimulatedNetwork.synthetic(8), clock=clock, IDLE_BACKOFF=0)
    collector = rig.start()
    collect(rig, collector)
    name = talking(rig)[0]
    rig.table.sql(
        "INSERT INTO esnet_interfaces (name, status, active_from) VALUES (%s, '1', %s)", (name, str(clock() - MINUTE_MS))
    )
    clock.advance(300)
    collector.wait_for_cycles(2)
    first, second = [row for row in rig.table.rows() if row.name == name]
    assert set(first.until.values()) == {now(rig)}
    assert set(second.until.values()) == {None}
    assert collector.terminate() == 0
    rig.check_exactly()
