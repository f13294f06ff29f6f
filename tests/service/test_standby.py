"""Two collectors on one table: who writes is logged by the database itself, by the login of each."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Bus, Clock, Collector, Counts, MysqlTable, Rig, SqliteTable, wait_for
from tests.rig.audit import Audit
from tests.rig.wire import Wire
from tests.servers.databases import Account, DatabaseServer, MariaDB
from tests.servers.rabbitmq import RabbitServer

DAY_S = 86_400.0
TAKEOVER_S = 30.0
WORKING = "cycle ended outcome=(complete|cut)"
INTERFACES = 16


class Team:
    """An empty table with its audit, and collectors that each have a login of their own.

    Netbeam's time runs a minute a second, and a window is a minute.
    """

    def __init__(self, server: DatabaseServer, rabbit: RabbitServer, directory: Path) -> None:
        self.table = MysqlTable(server)
        self.table.create()
        self.audit = Audit(self.table)
        self.rig = Rig(
            SimulatedNetwork.synthetic(INTERFACES), self.table, Bus(rabbit), clock=Clock(behind_s=DAY_S / 2, rate=60),
            directory=directory, MAX_WINDOW=60, IDLE_BACKOFF=0,
        )  # fmt: skip
        self.rig.behaviour.latency_s = 0.02
        self._server = server
        self._accounts: dict[Collector, Account] = {}

    def start(self, **settings: object) -> Collector:
        """A collector with a login that nobody else has."""
        database = self.table.account.database
        account = Account(database, f"{database}_{len(self._accounts)}", "secret")
        self._server.sql(f"GRANT ALL ON {database}.* TO '{account.user}'@'%' IDENTIFIED BY '{account.password}'")
        settings |= {"MYSQL_USER": account.user, "MYSQL_PASSWORD": account.password}
        collector = self.rig.start("run", env_file="", **settings)
        self._accounts[collector] = account
        return collector

    def start_two(self) -> tuple[Collector, Collector]:
        """Two at the same moment: the one that works, and the one that stands by."""
        pair = [self.start(), self.start()]
        wait_for(lambda: any(each.log_lines("standing by") for each in pair), what="a standby")
        wait_for(lambda: any(self.writes(each) for each in pair), what="a writer")
        standby, worker = sorted(pair, key=self.writes)
        return worker, standby

    def start_beside(self) -> Collector:
        """One that stands by."""
        standby = self.start()
        standby.wait_for_log("standing by")
        return standby

    def writes(self, collector: Collector) -> int:
        """How many rows it has written."""
        return self.audit.writes(self._accounts[collector])

    def user(self, collector: Collector) -> str:
        """Its login."""
        return self._accounts[collector].user

    def mid_cycle(self, worker: Collector) -> None:
        """Wait until points are being asked for, and checkpoints have been written meanwhile."""
        asked, written = self.rig.simulation.counts["points"], self.writes(worker)
        worker.wait_for(lambda: self.rig.simulation.counts["points"] > asked and self.writes(worker) > written)

    def wait_for_turn(self, standby: Collector, since: float) -> float:
        """Wait until it writes; the seconds that it took since that wall time."""
        standby.wait_for(lambda: self.writes(standby), TAKEOVER_S + 5, "the takeover")
        seconds = self.audit.first_write(self._accounts[standby]) - since
        assert 0 <= seconds <= TAKEOVER_S
        return seconds

    def finish(self, *turns: Collector) -> Counts:
        """All end in good order; they wrote in these turns and no others, no checkpoint fell, and the promise holds."""
        turns[-1].wait_for_log(WORKING, times=len(turns[-1].log_lines(WORKING)) + 1)
        # the one at work last, or another one would take over
        for each in sorted(self.rig.collectors, key=lambda each: each is turns[-1]):
            if each.running:
                assert each.terminate(8) == 0
        assert self.audit.turns() == [self.user(each) for each in turns]
        assert self.audit.falls() == 0
        rows = self.table.rows()
        assert sorted(row.name for row in rows) == sorted(self.rig.network.resources)
        return self.rig.check()


@pytest.fixture
def new_team(rabbit: RabbitServer, tmp_path: Path) -> Iterator[Callable[[DatabaseServer], Team]]:
    with ExitStack() as stack:

        def make(server: DatabaseServer) -> Team:
            team = Team(server, rabbit, tmp_path)
            stack.enter_context(team.rig)
            return team

        yield make


def test_two_start_at_once_and_the_other_takes_over_after_a_kill_and_after_a_stop(
    database_server: DatabaseServer, new_team: Callable[[DatabaseServer], Team]
) -> None:
    team = new_team(database_server)
    first, second = team.start_two()
    team.mid_cycle(first)
    assert team.rig.check().duplicates == 0
    killed_at = time.time()
    first.kill()
    in_flight = team.rig.check().beyond
    killed_s = team.wait_for_turn(second, killed_at)
    third = team.start_beside()
    team.mid_cycle(second)
    stopped_at = time.time()
    assert second.terminate(8) == 0
    stopped_s = team.wait_for_turn(third, stopped_at)
    counts = team.finish(first, second, third)
    assert counts.duplicates <= in_flight
    figures = f"killed_s={killed_s:.1f} stopped_s={stopped_s:.1f} in_flight={in_flight}"
    print(f"FIGURES standby, {database_server.name}: {figures} {counts}")


def test_who_is_frozen_or_cut_off_loses_its_turn_and_writes_no_more(
    mariadb: MariaDB, new_team: Callable[[DatabaseServer], Team]
) -> None:
    # both at the same time: the server takes 20 s to give up either of them
    frozen_team, cut_team = new_team(mariadb), new_team(mariadb)
    wire = Wire(mariadb.port)
    frozen, cut = frozen_team.start(), cut_team.start(MYSQL_PORT=wire.port)
    for team, worker in ((frozen_team, frozen), (cut_team, cut)):
        worker.wait_for(lambda team=team, worker=worker: team.writes(worker), what="a writer")  # type: ignore[misc]
    heirs = frozen_team.start_beside(), cut_team.start_beside()
    frozen_team.mid_cycle(frozen)
    frozen_at = time.time()
    frozen.freeze()
    cut_team.mid_cycle(cut)
    cut_at = time.time()
    wire.cut()
    frozen_s = frozen_team.wait_for_turn(heirs[0], frozen_at)
    cut_s = cut_team.wait_for_turn(heirs[1], cut_at)
    frozen.thaw()
    wire.mend()
    for each in (frozen, cut):
        each.wait_for_log("standing by")
    for team, worker, heir, seconds, fault in (
        (frozen_team, frozen, heirs[0], frozen_s, "frozen"),
        (cut_team, cut, heirs[1], cut_s, "cut off"),
    ):
        counts = team.finish(worker, heir)
        assert counts.duplicates <= one_window_of_each(team)
        print(f"FIGURES standby, {fault}: takeover_s={seconds:.1f} {counts}")
    wire.close()


def one_window_of_each(team: Team) -> int:
    """How many points may be in flight: two of each series' window of a minute."""
    network = team.rig.network
    return 3 * 2 * sum(not network.silent(each) for each in network.resources)


def test_a_short_freeze_costs_nobody_the_lock(mariadb: MariaDB, new_team: Callable[[DatabaseServer], Team]) -> None:
    team = new_team(mariadb)
    worker, standby = team.start_two()
    team.mid_cycle(worker)
    worker.freeze()
    time.sleep(2)
    worker.thaw()
    counts = team.finish(worker)
    assert not standby.log_lines(WORKING)
    assert counts.duplicates == 0


def test_a_file_has_one_writer_too(tmp_path: Path) -> None:
    clock = Clock(behind_s=DAY_S / 2, rate=60)
    table = SqliteTable(tmp_path / "table.sqlite")
    network = SimulatedNetwork.synthetic(INTERFACES)
    with Rig(network, table, clock=clock, directory=tmp_path, MAX_WINDOW=60, IDLE_BACKOFF=0) as rig:
        rig.behaviour.latency_s = 0.02
        pair = [rig.start(), rig.start()]
        wait_for(lambda: any(each.log_lines("standing by") for each in pair), what="a standby")
        wait_for(lambda: any(each.log_lines(WORKING) for each in pair), what="a cycle")
        second, first = sorted(pair, key=lambda each: bool(each.log_lines(WORKING)))
        # who is frozen keeps a file's lock: nobody else works, and nothing is lost
        first.freeze()
        lines = len(first.log_lines())
        time.sleep(1)
        assert not second.log_lines(WORKING)
        first.thaw()
        first.wait_for(lambda: len(first.log_lines()) > lines)
        first.wait_for_log(WORKING, times=len(first.log_lines(WORKING)) + 1)
        assert rig.check().duplicates == 0
        asked = rig.simulation.counts["points"]
        first.wait_for(lambda: rig.simulation.counts["points"] > asked + 20)
        first.kill()
        in_flight = rig.check().beyond
        began = time.monotonic()
        second.wait_for_log(WORKING, TAKEOVER_S)
        killed_s = time.monotonic() - began
        third = rig.start()
        third.wait_for_log("standing by")
        assert second.terminate(8) == 0
        third.wait_for_log(WORKING, TAKEOVER_S)
        assert third.terminate(8) == 0
        counts = rig.check()
        assert counts.duplicates <= in_flight
        assert sorted(row.name for row in table.rows()) == sorted(network.resources)
        print(f"FIGURES standby, SQLite: killed_s={killed_s:.1f} in_flight={in_flight} {counts}")
