"""The collector from end to end: a process of its own between Netbeam, a database and the bus, with every message counted."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Clock, MysqlTable, Rig, SqliteTable, wait_for
from tests.rig.tables import RECORD_TYPES
from tests.servers.databases import DatabaseServer
from tests.servers.rabbitmq import RabbitServer
from tests.simulation.faults import Fault, Kind

NewRig = Callable[..., Rig]
MINUTE_MS = 60_000
DAY_S = 86_400.0
POINTS_A_MINUTE = 2


def stopped_clock() -> Clock:
    """A time of yesterday that stands still until a test moves it on."""
    return Clock(behind_s=DAY_S / 2, rate=0)


def talking(rig: Rig) -> int:
    """How many series have points."""
    return len(RECORD_TYPES) * sum(not rig.network.silent(each) for each in rig.network.resources)


def settled(rig: Rig, settle_s: float = 0) -> str:
    """Where every checkpoint is after a complete cycle at Netbeam's present time."""
    return str((rig.clock() // 1000 * 1000 - round(settle_s * 1000)) // MINUTE_MS * MINUTE_MS)


def once_twice_and_again(rig: Rig, clock: Clock) -> None:
    """Three times `run --once`: from the start of collection, for the points since, and when there are none."""
    rig.once()
    first = rig.check_exactly()
    assert rig.checkpoints() == {settled(rig)}
    assert sorted(row.name for row in rig.table.rows()) == sorted(rig.network.resources)
    minutes = 30 - (30 * MINUTE_MS + clock() // 1000 * 1000) % MINUTE_MS / MINUTE_MS  # back from the listing, up to the minute
    assert first.points == talking(rig) * int(minutes * POINTS_A_MINUTE)
    assert first.interfaces == len(rig.network.resources)
    clock.advance(300)
    rig.once()
    second = rig.check_exactly()
    assert rig.checkpoints() == {settled(rig)}
    assert second.points - first.points == talking(rig) * 5 * POINTS_A_MINUTE
    assert second.interfaces - first.interfaces == len(rig.network.resources)
    rig.once()
    assert rig.check().points == second.points


def test_once_publishes_every_point_exactly_once_on_either_server(
    database_server: DatabaseServer, new_rig: NewRig
) -> None:
    clock = stopped_clock()
    once_twice_and_again(new_rig(32, table=MysqlTable(database_server), clock=clock), clock)


def test_once_needs_no_server_with_a_file_and_stdout(tmp_path: Path) -> None:
    clock = stopped_clock()
    with Rig(SimulatedNetwork.synthetic(32), SqliteTable(tmp_path / "table.sqlite"), clock=clock, directory=tmp_path) as rig:
        once_twice_and_again(rig, clock)


def test_windows_are_half_open_whichever_ends_netbeam_includes(tmp_path: Path) -> None:
    clock = stopped_clock()
    with Rig(SimulatedNetwork.synthetic(8), SqliteTable(tmp_path / "table.sqlite"), clock=clock, directory=tmp_path) as rig:
        for begin_inclusive, end_inclusive in ((True, False), (False, True), (True, True), (False, False)):
            rig.behaviour.begin_inclusive, rig.behaviour.end_inclusive = begin_inclusive, end_inclusive
            rig.once(MAX_WINDOW=240)
            assert rig.checkpoints() == {settled(rig)}
            clock.advance(720)
        assert rig.check_exactly().points > 0


def test_only_the_record_types_that_are_wanted_are_collected(new_rig: NewRig) -> None:
    clock = stopped_clock()
    rig = new_rig(16, clock=clock)
    rig.once(RECORD_TYPES="traffic,discards")
    assert rig.checkpoints("traffic", "discards") == {settled(rig)}
    assert rig.checkpoints("errors") == {None}
    assert {record_type for _, record_type in rig.heard().points} == {"traffic", "discards"}
    clock.advance(600)
    rig.once()
    rig.check_exactly()  # the third one from where a new interface starts, half an hour before its first listing
    assert rig.checkpoints() == {settled(rig)}


def test_cycle_after_cycle_each_collects_what_is_new(new_rig: NewRig) -> None:
    rig = new_rig(16, clock=Clock(behind_s=DAY_S / 2, rate=200))
    collector = rig.start()
    # two cycles may begin within one of Netbeam's minutes, and then the second one finds nothing
    collector.wait_for(lambda: sum(int(cycle["points"]) > 0 for cycle in collector.cycles()) >= 4, what="four cycles with points")
    assert collector.terminate() == 0
    rig.check_exactly()
    assert {cycle["outcome"] for cycle in collector.cycles()[:-1]} == {"complete"}


def test_interfaces_are_sent_whole_at_first_and_then_when_they_change(new_rig: NewRig) -> None:
    rig = new_rig(16, clock=Clock(behind_s=DAY_S / 2))
    collector = rig.start()
    collector.wait_for_cycles(2)
    assert len(rig.heard().interfaces) == 16
    changed = rig.network.resources[3]
    rig.behaviour.edit_listing = lambda entries: [
        {**each, "description": "moved"} if each["resource"] == changed else each for each in entries
    ]
    collector.wait_for_cycles(3)
    assert len(rig.heard().interfaces) == 17
    assert (rig.heard().interfaces[-1].resource, rig.heard().interfaces[-1].body["description"]) == (changed, "moved")
    collector.terminate()


def test_all_interfaces_are_sent_again_at_every_snapshot(new_rig: NewRig) -> None:
    rig = new_rig(16)
    collector = rig.start(INTERFACE_SNAPSHOT_INTERVAL=1)
    collector.wait_for(lambda: len(rig.heard().interfaces) >= 48)
    collector.terminate()
    times = {each.timestamp_ms for each in rig.heard().interfaces}
    assert len(rig.heard().interfaces) == 16 * len(times)
    assert rig.heard().interface_duplicates == 0


def test_an_interface_that_goes_is_collected_to_its_end_and_starts_anew_when_it_returns(new_rig: NewRig) -> None:
    clock = stopped_clock()
    rig = new_rig(16, clock=clock)
    gone = next(each for each in rig.network.resources if not rig.network.silent(each))
    collector = rig.start()
    collector.wait_for(lambda: rig.checkpoints() == {settled(rig)})
    clock.advance(210)
    rig.network.absent = frozenset({gone})
    left_ms = clock() // 1000 * 1000
    collector.wait_for(lambda: [row.status for row in rig.table.rows() if row.name == gone] == ["0"])
    clock.advance(600)
    collector.wait_for(lambda: rig.checkpoints() == {settled(rig)})
    (old,) = (row for row in rig.table.rows() if row.name == gone)
    assert old.active_until == str(left_ms)
    assert set(old.until.values()) == {str(left_ms)}  # to the millisecond, not to the minute
    rig.network.absent = frozenset()
    returned_ms = clock() // 1000 * 1000
    collector.wait_for(lambda: rig.checkpoints() == {settled(rig)} and len(rig.table.rows()) == 17)
    before, now = (row for row in rig.table.rows() if row.name == gone)
    assert (before, now.status, now.active_from) == (old, "1", str(returned_ms))
    assert collector.terminate() == 0
    rig.check_exactly()


def test_interfaces_that_come_and_go_all_the_time_lose_nothing_and_repeat_nothing(new_rig: NewRig) -> None:
    network = SimulatedNetwork.synthetic(60)
    network.rotation_ms = 2 * MINUTE_MS
    rig = new_rig(network=network, clock=Clock(behind_s=DAY_S / 2, rate=120))
    collector = rig.start()
    collector.wait_for(lambda: len(rig.table.rows()) >= 66)
    network.rotation_ms = None
    collector.wait_for_cycles(2)
    assert collector.terminate() == 0
    rig.check_exactly()
    assert sum(row.active for row in rig.table.rows()) == 60


class TestSignals:
    """The first signal ends it within 8 s with exit code 0, the second at once with 128 and its number."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_between_cycles_ends_it_at_once(self, new_rig: NewRig, number: int) -> None:
        rig = new_rig(8)
        collector = rig.start(POLL_INTERVAL=900)
        collector.wait_for_cycles(1)
        collector.signal(number)
        assert collector.wait(5) == 0
        rig.check_exactly()

    def test_what_is_confirmed_is_in_the_table_after_a_signal_in_mid_cycle(self, new_rig: NewRig) -> None:
        rig = new_rig(120)
        rig.behaviour.latency_s = 0.2
        collector = rig.start("run", "--once", NETBEAM_CONCURRENCY=4)
        collector.wait_for(lambda: rig.bus and rig.bus.waiting() > 800, what="800 messages")
        assert collector.terminate(8) == 0
        counts = rig.check_exactly()
        assert counts.points > 0
        assert None in rig.checkpoints(), "the signal came too late for this test"
        rig.behaviour.latency_s = 0
        rig.once()
        rig.check_exactly()
        assert None not in rig.checkpoints()

    def test_a_signal_while_netbeam_hangs_ends_it_within_eight_seconds(self, new_rig: NewRig) -> None:
        rig = new_rig(16)
        rig.behaviour.points = (Fault(kind=Kind.HANG, share=0.2),)
        collector = rig.start()
        collector.wait_for(lambda: rig.simulation.at_once >= 3, what="3 hanging requests")
        assert collector.terminate(8) == 0
        rig.check_exactly()

    def test_a_second_signal_ends_it_at_once(self, new_rig: NewRig) -> None:
        rig = new_rig(16)
        rig.behaviour.points = (Fault(kind=Kind.HANG),)
        collector = rig.start()
        collector.wait_for(lambda: rig.simulation.at_once >= 3, what="3 hanging requests")
        collector.signal(signal.SIGTERM)
        with pytest.raises(AssertionError):
            collector.wait(1.2)  # two signals within a second count as one
        collector.signal(signal.SIGINT)
        assert collector.wait(1) == 128 + signal.SIGINT

    def test_a_signal_while_it_waits_for_its_systems_ends_it(self, new_rig: NewRig) -> None:
        rig = new_rig(8)
        nobody = 1  # a port on which nobody listens
        collector = rig.start(RMQ_PORT=nobody)
        collector.wait_for_log("RabbitMQ")
        assert collector.terminate(5) == 0
        collector = rig.start(MYSQL_PORT=nobody)
        collector.wait_for_log("MySQL")
        assert collector.terminate(5) == 0


class TestStandby:
    """Two collectors on one table never work at the same time."""

    def test_of_two_that_start_together_one_works_and_the_other_takes_over(self, new_rig: NewRig) -> None:
        rig = new_rig(16, clock=Clock(behind_s=DAY_S / 2, rate=60))
        pair = [rig.start(), rig.start()]
        wait_for(lambda: any(each.log_lines("standing by") for each in pair), what="a standby")
        wait_for(lambda: any(each.cycles() for each in pair), what="a cycle")
        standby, worker = sorted(pair, key=lambda each: bool(each.cycles()))
        worker.wait_for_cycles(3)
        assert not standby.cycles()
        assert worker.terminate() == 0
        standby.wait_for_cycles(3)
        assert standby.terminate() == 0
        rig.check_exactly()
        assert len(rig.table.rows()) == 16

    def test_a_standby_takes_over_from_one_that_was_killed(self, new_rig: NewRig) -> None:
        rig = new_rig(16, clock=Clock(behind_s=DAY_S / 2, rate=60))
        worker = rig.start()
        worker.wait_for_cycles(1)
        standby = rig.start()
        standby.wait_for_log("standing by")
        worker.kill()
        standby.wait_for_cycles(2)
        rig.check()
        assert standby.terminate() == 0

    def test_a_standby_waits_for_a_file_too(self, tmp_path: Path) -> None:
        table = SqliteTable(tmp_path / "table.sqlite")
        clock = Clock(behind_s=DAY_S / 2, rate=60)
        with Rig(SimulatedNetwork.synthetic(8), table, clock=clock, directory=tmp_path) as rig:
            worker = rig.start()
            worker.wait_for_cycles(1)
            standby = rig.start()
            standby.wait_for_log("standing by")
            assert worker.terminate() == 0
            standby.wait_for_cycles(2)
            assert standby.terminate() == 0
            rig.check_exactly()


def test_messages_may_go_to_another_exchange_and_other_keys(new_rig: NewRig, rabbit: RabbitServer) -> None:
    rig = new_rig(8)
    assert rig.bus
    vhost = rig.bus.vhost
    rabbit.declare_exchange(vhost, "other")
    rabbit.declare_queue(vhost, "interfaces", "i", exchange="other")
    rabbit.declare_queue(vhost, "points", "t", exchange="other")
    rig.once(RMQ_EXCHANGE="other", RMQ_INTERFACE_KEY="i", RMQ_TRAFFIC_KEY="t")
    assert rabbit.queue_length(vhost, "interfaces") == 8
    assert rabbit.queue_length(vhost, "points") > 0
    assert rig.bus.waiting() == 0
