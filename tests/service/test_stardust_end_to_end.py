"""The collector from end to end with Stardust, and switched between the two sources on one table."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.core.model import RecordType
from collector.source.simulated.network import Point, SimulatedNetwork
from collector.source.simulated.stardust_server import Reply
from tests.rig import Bus, Clock, MysqlTable, SqliteTable, wait_for
from tests.rig.running import Collector
from tests.rig.stardust import StardustRig, stardust_network
from tests.rig.tables import RECORD_TYPES
from tests.servers.databases import MariaDB
from tests.servers.rabbitmq import RabbitServer

NewRig = Callable[..., StardustRig]
BEHIND_S = 43_200.0
GRID_MS = 30_000


@pytest.fixture
def new_rig(tmp_path: Path) -> Iterator[NewRig]:
    """Makes one rig with its table in a file and its messages on stdout; time is half a day ago and stands still."""
    rigs: list[StardustRig] = []

    def make(network: SimulatedNetwork | None = None, **options: Any) -> StardustRig:
        clock = options.pop("clock", None) or Clock(behind_s=BEHIND_S, rate=0)
        table = options.pop("table", None) or SqliteTable(tmp_path / "table.sqlite")
        rigs.append(StardustRig(network or stardust_network(32), table, clock=clock, directory=tmp_path, **options))
        return rigs[-1].__enter__()

    failed = False
    try:
        yield make
    except BaseException:
        failed = True
        raise
    finally:
        for each in rigs:
            each.__exit__(AssertionError if failed else None, None, None)


class TwoNames(SimulatedNetwork):
    """Some of its names have an escape with Netbeam that Stardust's lack; both have the same points."""

    def expected_points(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> list[Point]:
        known = resource if resource in self.speeds else resource.replace("lc-", "lc%2D")
        return super().expected_points(known, record_type, begin_ms, end_ms)


def talking(rig: StardustRig) -> int:
    """How many series have points."""
    return len(RECORD_TYPES) * sum(not rig.network.silent(each) for each in rig.network.resources)


def test_once_brings_every_point_exactly_once(new_rig: NewRig) -> None:
    rig = new_rig()
    rig.once()
    first = rig.check_exactly()
    assert first.interfaces == 32
    assert talking(rig) * 50 < first.points <= talking(rig) * 61
    for seconds in (300, 30, 930):
        rig.clock.advance(seconds)  # type: ignore[attr-defined]
        rig.once()
        rig.check_exactly()
    counts = rig.check_exactly()
    assert counts.points >= first.points + talking(rig) * (2 * 21 - 1)
    assert not rig.simulation.counts


def test_messages_and_table_are_mariadb_s_and_rabbitmq_s_as_well(
    new_rig: NewRig, mariadb: MariaDB, rabbit: RabbitServer
) -> None:
    rig = new_rig(table=MysqlTable(mariadb), bus=Bus(rabbit))
    rig.once()
    rig.clock.advance(900)  # type: ignore[attr-defined]
    rig.once()
    assert rig.check_exactly().points > talking(rig) * 80


def test_kills_and_partial_answers_lose_nothing(new_rig: NewRig) -> None:
    rig = new_rig(stardust_network(300))
    number = [0]

    def every_third_is_partial(body: dict[str, Any], answer: bytes) -> Reply | bytes | None:
        number[0] += 1
        if "aggs" in body or number[0] % 3:
            return None
        value = json.loads(answer)
        value["_shards"] |= {"successful": 4, "failed": 1}
        hits = value["hits"]["hits"][::2]
        value["hits"] = {"total": {"value": len(hits), "relation": "eq"}, "hits": hits}
        return json.dumps(value).encode()

    rig.stardust.distort = every_third_is_partial
    for _ in range(3):
        rig.stardust.latency_s = 0.05
        collector = rig.start("run")
        wait_for(lambda: rig.collectors[-1].stdout.count("\n") > 300, what="the first points")
        collector.kill()
        rig.check()
        rig.clock.advance(300)  # type: ignore[attr-defined]
    assert rig.once(expect=None).exit_code in (0, 1)
    rig.stardust.distort = None
    rig.once()
    counts = rig.check()
    assert counts.points > talking(rig) * 60


def test_documents_that_come_late_are_collected_by_a_new_process(new_rig: NewRig) -> None:
    rig = new_rig()
    late_from_ms = rig.clock() - 600_000
    rig.stardust.index.withheld = lambda identity, start: start >= late_from_ms and hash(identity) % 2 == 0
    rig.once()
    rig.clock.advance(1800)  # type: ignore[attr-defined]
    rig.once(expect=None)
    rig.check()
    rig.stardust.index.withheld = None
    rig.clock.advance(900)  # type: ignore[attr-defined]
    rig.once()
    counts = rig.check_exactly()
    assert counts.points >= talking(rig) * 2 * (30 + 30 + 15 - 2)


def test_a_switch_of_the_source_and_back_goes_on_from_the_same_checkpoints(new_rig: NewRig) -> None:
    network = TwoNames(SimulatedNetwork.synthetic(64).speeds.items())
    both = [name for name in network.resources if "%2D" not in name]
    rig = new_rig(network, INITIAL_LOOKBACK=1800)
    rig.once(SOURCE="netbeam")
    before = rig.check_exactly()
    for source in ("stardust", "netbeam"):
        rig.clock.advance(900)  # type: ignore[attr-defined]
        old = {row.id: row for row in rig.table.rows()}
        rig.once(SOURCE=source)
        counts = rig.check()
        assert counts.duplicates == counts.missing == 0
        rows = [row for row in rig.table.rows() if row.name in both]
        assert [row.id for row in rows] == [row.id for row in old.values() if row.name in both]
        assert all(row.active for row in rows)
    assert counts.points >= before.points + 2 * 29 * talking(rig) * len(both) // 64
    # what Stardust lacks was retired, and came back with Netbeam as a new row; what only Stardust has is retired now
    others = len(network.resources) - len(both)
    seen = [(row.active, "%2D" in row.name) for row in rig.table.rows() if row.name not in both]
    assert sorted(seen) == sorted([(False, True), (True, True), (False, False)] * others)


def test_a_point_that_both_sources_send_has_one_message_id(new_rig: NewRig) -> None:
    rig = new_rig(INITIAL_LOOKBACK=1800)
    rig.once(SOURCE="netbeam")
    points = rig.check_exactly().points
    back_ms = str(rig.clock() // 1000 * 1000 - 1_200_000)
    columns = ", ".join(f"{each}_until = '{back_ms}'" for each in ("traffic", "errors"))
    rig.table.sql(f"UPDATE esnet_interfaces SET {columns} WHERE traffic_until IS NOT NULL")
    rig.once(SOURCE="stardust")
    counts = rig.check()  # whoever hears a point twice compares message_id and values
    assert counts.points == points
    assert counts.duplicates >= talking(rig) * 2 // 3 * 38


def test_too_many_names_that_the_other_source_lacks_are_held_back(new_rig: NewRig) -> None:
    rig = new_rig(stardust_network(64))
    rig.once(SOURCE="netbeam")
    rig.network.absent = frozenset(rig.network.resources[:20])
    rig.clock.advance(900)  # type: ignore[attr-defined]
    collector = rig.once(expect=1)
    assert "MAX_RETIRED_SHARE" in collector.log
    assert all(row.active for row in rig.table.rows())


def test_check_says_how_old_the_newest_document_is(new_rig: NewRig) -> None:
    rig = new_rig()
    rig.once()
    collector = rig.start("check")
    collector.wait()
    line = next(each for each in collector.stdout.splitlines() if each.startswith("Stardust: "))
    assert line.startswith(f"Stardust: ok: {rig.stardust.url}/sd_public_interfaces: 32 interfaces")
    assert "the newest document's interval began" in line


def test_a_refused_login_and_a_missing_index_are_failures_and_no_configuration_error(new_rig: NewRig) -> None:
    rig = new_rig()
    rig.stardust.distort = lambda *_: Reply(401, b'{"error":{"reason":"missing authentication credentials"},"status":401}')
    assert "missing authentication credentials" in rig.once(expect=1).log
    rig.stardust.distort = None
    assert "no such index" in rig.once(expect=1, STARDUST_INDEX="other").log
    rig.once()


def test_backfill_takes_a_past_range_from_stardust(new_rig: NewRig) -> None:
    rig = new_rig()
    rig.once()
    begin_ms = (rig.clock() // GRID_MS - 400) * GRID_MS
    collector = rig.start("backfill", "--begin", str(begin_ms), "--end", str(begin_ms + 1_800_000), "--record-type", "errors")
    assert collector.wait() == 0
    there = rig.heard().points
    for name in rig.network.resources:
        expected = rig.network.expected_points(name, RecordType.ERRORS, begin_ms, begin_ms + 1_800_000)
        assert all(there[name, "errors"][at] == (into, out) for at, into, out in expected)


def test_the_demonstration_shows_stardust_s_points(tmp_path: Path) -> None:
    collector = Collector(("demo", "--source", "stardust", "--cycles", "2", "--json"), {}, tmp_path)
    assert collector.wait() == 0
    assert collector.stdout.count("esnet_traffic") > 100
    collector.check_output(())
