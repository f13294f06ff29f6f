"""Collectors that share the interfaces over one database: each does its own share, all of it, and no more."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from collector.source.simulated.network import SimulatedNetwork
from tests.inside import HURRIED
from tests.rig import Collector, MysqlTable, Rig, SqliteTable, wait_for
from tests.servers.databases import DatabaseServer
from tests.servers.ports import free_port
from tests.service.faults import MINUTE_MS, NewRig, flying, metric

LIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "esnet-interfaces.csv"
"""ESnet's list, where it is at hand; else as many invented interfaces."""
COUNT = 10_679
FEW_NEW = 1000
"""More names than these are not taken at once, unless they are the first ones of all."""
STANDBY = "standing by"
WARNING = "shares have no collector"


def share_of(name: str, of: int) -> int:
    """The number of the share that the name belongs to."""
    return zlib.crc32(name.encode()) % of + 1


def names_of(rig: Rig, number: int, of: int) -> list[str]:
    """The share's interfaces, sorted."""
    return sorted(name for name in rig.network.resources if share_of(name, of) == number)


def start(rig: Rig, share: str, **settings: object) -> Collector:
    """A hurried collector that works on the share."""
    return rig.start("run", **{**HURRIED, "SHARD": share, **settings})


def start_working(rig: Rig, *shares: str, **settings: object) -> list[Collector]:
    """One for each share; all of them have had a cycle."""
    collectors = [start(rig, share, **settings) for share in shares]
    for each in collectors:
        each.wait_for_cycles(1)
    return collectors


def collected(rig: Rig, names: Sequence[str], since_ms: int) -> bool:
    """Whether every one of these that has points has an active row that is collected to that time."""
    rows = {row.name: row for row in rig.table.rows() if row.active}
    talking = [name for name in names if not rig.network.silent(name)]
    return all(name in rows and min(int(each or 0) for each in rows[name].until.values()) >= since_ms for name in talking)


def wait_until_collected(rig: Rig, names: Sequence[str] | None = None) -> None:
    """Wait until the interfaces, by default all, are collected up to what is now the present."""
    present = rig.clock() // MINUTE_MS * MINUTE_MS
    wait_for(lambda: collected(rig, names or rig.network.resources, present), what=f"every checkpoint at {present}")


def finish(rig: Rig, *working: Collector) -> None:
    """End them in good order, those that work at last, or a standby would take over."""
    for each in sorted(rig.collectors, key=lambda each: each in working):
        assert not each.running or each.terminate(8) == 0


def assert_undisturbed(collector: Collector, since: int) -> None:
    """Every cycle after the first `since` was complete and up to date, with the whole share and nothing left over."""
    cycles = collector.cycles()[since:]
    assert cycles
    for each in cycles:
        figures = [each[key] for key in ("outcome", "listed", "outstanding", "retired")]
        assert figures == ["complete", cycles[0]["active"], "0", "0"], collector.tail()
        # measured by our clock, which the source's is far behind of here; a minute's data is not due yet
        assert int(each["lag_traffic"]) <= int(cycles[0]["lag_traffic"]) + 60 + float(each["seconds"]), collector.tail()
    assert not collector.log_lines("cycle failed|not available|the lock|took over"), collector.tail()


def test_three_shares_of_the_whole_list_are_disjoint_and_together_whole(new_rig: NewRig) -> None:
    network = SimulatedNetwork.from_csv(LIST) if LIST.exists() else SimulatedNetwork.synthetic(COUNT)
    rig = new_rig(
        network=network, RECORD_TYPES="traffic", INITIAL_LOOKBACK=120, SETTLE_DELAY=0, NETBEAM_CONCURRENCY=16,
    )  # fmt: skip
    bus = rig.bus
    assert bus is not None
    done: set[str] = set()
    for number in (3, 1, 2):
        mine = names_of(rig, number, 3)
        assert len(mine) > FEW_NEW
        asked = rig.simulation.counts["points"]
        cycle = rig.once(SHARD=f"{number}/3").cycles()[-1]
        figures = [cycle[each] for each in ("listed", "active", "new", "interface_messages", "windows")]
        assert figures == [str(len(mine))] * 5
        assert rig.simulation.counts["points"] - asked == len(mine)
        announced = [each.resource for each in bus.drain().interfaces[len(done) :]]
        assert sorted(announced) == mine
        done.update(mine)
        assert sorted(row.name for row in rig.table.rows()) == sorted(done)
        assert {name for name, _ in bus.heard.points} <= done
    assert done == set(network.resources)
    assert rig.check_exactly().points > 0


def test_listing_brake_announcements_and_metrics_are_the_share_s_own(new_rig: NewRig) -> None:
    rig = flying(new_rig, 120, POLL_INTERVAL=2)
    bus = rig.bus
    assert bus is not None
    at = [free_port(), free_port()]
    pair = [start(rig, f"{number}/2", METRICS_PORT=port) for number, port in enumerate(at, 1)]
    mine = [names_of(rig, number, 2) for number in (1, 2)]
    for each in pair:
        each.wait_for_cycles(2)
    for number, (collector, names, port) in enumerate(zip(pair, mine, at, strict=True), 1):
        assert {each["listed"] for each in collector.cycles()} == {str(len(names))}
        assert [int(each["interface_messages"]) for each in collector.cycles()][:2] == [len(names), 0]
        wait_for(lambda port=port, names=names: metric(port, 'interfaces{state="active"}') == len(names))  # type: ignore[misc]
        assert metric(port, f'share_info{{role="working",share="{number}/2"}}') == 1
        wait_for(lambda port=port: metric(port, "shares_free") == 0)  # type: ignore[misc]
    assert sorted(each.resource for each in bus.drain().interfaces) == sorted(rig.network.resources)

    # too many for one share, and not too many for the whole list: only the share's own brake holds them back
    few, many = mine[0][:5], mine[1][:14]
    assert len(many) > 0.2 * len(mine[1])
    assert len(few) + len(many) < 0.2 * len(rig.network.resources)
    rig.network.absent = frozenset([*few, *many])
    pair[1].wait_for(lambda: any(each["held_back"] == str(len(many)) for each in pair[1].cycles()), what="the brake")
    for collector, gone in zip(pair, (few, many), strict=True):
        collector.wait_for(lambda c=collector, g=gone: c.cycles()[-1]["retired"] == str(len(g)) or retired(c) == len(g))  # type: ignore[misc]
    assert {each["held_back"] for each in pair[0].cycles()} == {"0"}
    assert sorted(row.name for row in rig.table.rows() if not row.active) == sorted([*few, *many])
    finish(rig)
    rig.check()


def retired(collector: Collector) -> int:
    """How many rows all its cycles retired."""
    return sum(int(each["retired"]) for each in collector.cycles())


def test_share_s_standby_takes_over_and_the_other_share_does_not_notice(
    database_server: DatabaseServer, new_rig: NewRig
) -> None:
    rig = flying(new_rig, 32, table=MysqlTable(database_server), MAX_WINDOW=60, record=True)
    rig.behaviour.latency_s = 0.02
    doomed, other = start_working(rig, "1/2", "2/2")
    for each in (doomed, other):
        each.wait_for(lambda each=each: each.cycles()[-1]["outcome"] == "complete", what="the backlog is collected")  # type: ignore[misc]
    standby, others_standby = start(rig, "1/2"), start(rig, "2/2")
    for each in (standby, others_standby):
        each.wait_for_log(STANDBY)
    cycles, theirs = len(other.cycles()), set(names_of(rig, 1, 2))
    doomed.wait_for(lambda: rig.simulation.requests[-1].resource in theirs, what="the middle of a cycle")
    doomed.kill()
    standby.wait_for_log("took over")
    standby.wait_for_cycles(2)
    other.wait_for(lambda: len(other.cycles()) >= cycles + 2, what="its cycles go on")
    wait_until_collected(rig)
    assert_undisturbed(other, cycles)
    finish(rig, standby, other)
    counts = rig.check()
    assert not others_standby.cycles()
    assert sorted(row.name for row in rig.table.rows()) == sorted(rig.network.resources)
    print(f"FIGURES shares, {database_server.name}: a worker is killed: {counts}")


def test_number_of_shares_changes_while_all_run_and_nothing_is_lost(new_rig: NewRig) -> None:
    rig = flying(new_rig, 90)
    rig.behaviour.latency_s = 0.01
    later = rig.network.resources[60:]
    rig.network.absent = frozenset(later)
    old = start_working(rig, "1/2", "2/2")
    new = start_working(rig, "1/3")
    # names that are new to collectors of both numbers at the same moment: each of the two inserts a row
    rig.network.absent = frozenset(later[15:])
    wait_until_collected(rig, later[:15])
    assert old[0].terminate(8) == 0
    new += start_working(rig, "2/3")
    rig.network.absent = frozenset()
    wait_until_collected(rig, [name for name in later if share_of(name, 3) != 3 or share_of(name, 2) == 2])
    assert old[1].terminate(8) == 0
    new += start_working(rig, "3/3")
    wait_until_collected(rig)

    # a name that has two rows by all means, the later one ahead of the other
    rows = {row.name: row for row in rig.table.rows() if row.active}
    name = next(name for name in rows if not rig.network.silent(name))
    ahead = {each: int(until or 0) for each, until in rows[name].until.items()}
    twin = rig.table.insert(name, int(rows[name].active_from), **ahead)
    behind = str(ahead["traffic"] - 120_000), rows[name].id
    rig.table.sql("UPDATE esnet_interfaces SET traffic_until = %s WHERE id = %s", behind)
    wait_for(lambda: not next(row for row in rig.table.rows() if row.id == twin).active, what="the end of the second row")
    wait_until_collected(rig)
    finish(rig)
    counts = rig.check()
    every = [row.name for row in rig.table.rows()]
    assert sorted(row.name for row in rig.table.rows() if row.active) == sorted(rig.network.resources)
    assert {each["outcome"] for collector in (*old, *new) for each in collector.cycles()} <= {"complete", "cut"}
    print(f"FIGURES shares, from 2 to 3: second_rows={len(every) - len(set(every)) - 1} {counts}")


def test_share_that_nobody_works_on_is_warned_about_and_shown_by_workers_and_standbys(new_rig: NewRig) -> None:
    rig = flying(new_rig, 16)
    at = [free_port(), free_port()]
    worker = start(rig, "1/3", METRICS_PORT=at[0])
    worker.wait_for_log(WARNING)
    standby = start(rig, "1/3", METRICS_PORT=at[1])
    standby.wait_for_log(WARNING)
    assert all("free=2 of=3" in each.log_lines(WARNING)[0] for each in (worker, standby))
    assert [metric(port, "shares_free") for port in at] == [2, 2]
    start(rig, "3/3").wait_for_cycles(1)
    wait_for(lambda: [metric(port, "shares_free") for port in at] == [1, 1], what="a share less is free")
    start(rig, "2/3").wait_for_cycles(1)
    wait_for(lambda: [metric(port, "shares_free") for port in at] == [0, 0], what="no share is free")
    wait_until_collected(rig)
    finish(rig, worker)
    # once an hour
    assert [len(each.log_lines(WARNING)) for each in (worker, standby)] == [1, 1]
    rig.check()


def test_free_share_is_said_by_a_collector_that_never_comes_to_wait(new_rig: NewRig) -> None:
    rig = flying(new_rig, 64, NETBEAM_RATE=10)
    worker = start(rig, "1/2")
    worker.wait_for_log(WARNING)
    assert {each["outcome"] for each in worker.cycles()} == {"cut"}
    finish(rig)


def test_shares_stand_by_while_a_collector_without_one_works(database_server: DatabaseServer, new_rig: NewRig) -> None:
    rig = flying(new_rig, 16, table=MysqlTable(database_server))
    whole = start_working(rig, "1/1")[0]
    at = free_port()
    shares = [start(rig, "1/2", METRICS_PORT=at), start(rig, "2/2")]
    for each in shares:
        each.wait_for_log(STANDBY)
    wait_for(lambda: metric(at, 'share_info{role="standby",share="1/2"}') == 1, what="the role in the metric")
    whole.wait_for_cycles(3)
    assert not any(each.cycles() or each.log_lines(WARNING) for each in shares)
    assert whole.terminate(8) == 0
    for each in shares:
        each.wait_for_cycles(1)
    wait_until_collected(rig)
    rig.check_exactly()

    # and the other way round: shares at work make way
    whole = start_working(rig, "1/1")[0]
    for each in shares:
        each.wait_for_log(STANDBY, times=2)
    cycles = [len(each.cycles()) for each in shares]
    whole.wait_for_cycles(2)
    assert [len(each.cycles()) for each in shares] == cycles
    wait_until_collected(rig)
    finish(rig, whole)
    rig.check()


@pytest.mark.parametrize("value", ["0/2", "3/2", "1/1001", "2", "two/three", "1/2/3"])
def test_wrong_share_is_exit_code_2_and_named(value: str, new_rig: NewRig) -> None:
    wrong = new_rig(1).start("run", SHARD=value)
    assert wrong.wait() == 2
    assert wrong.log_lines("SHARD.*1 <= k <= n <= 1000")


def test_share_of_a_file_is_exit_code_2_and_named(tmp_path: Path) -> None:
    with Rig(SimulatedNetwork.synthetic(1), SqliteTable(tmp_path / "table.sqlite"), directory=tmp_path) as rig:
        several = rig.start("run", SHARD="1/2")
        assert several.wait() == 2
        assert several.log_lines("SHARD must be 1/1 with --sqlite")
        rig.once(SHARD="1/1")
