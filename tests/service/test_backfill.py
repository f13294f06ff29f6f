"""`backfill` as an operator runs it: real broker, real database, simulated Netbeam, and the command that it prints."""

import os
import pty
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pytest

from collector.core.model import RecordType
from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Bus, Collector, MysqlTable, Rig, wait_for
from tests.rig.heard import TRAFFIC_KEY
from tests.rig.running import PROGRAM
from tests.servers.databases import MariaDB
from tests.servers.rabbitmq import RabbitServer
from tests.simulation.faults import Fault, Kind

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
INTERFACES = 12


@pytest.fixture
def rig(mariadb: MariaDB, rabbit: RabbitServer) -> Iterator[Rig]:
    """Twelve interfaces, half of them silent, slices of a quarter of an hour, and a table that is still to be made."""
    network = SimulatedNetwork.synthetic(INTERFACES)
    with Rig(network, MysqlTable(mariadb), Bus(rabbit, durable=True), MAX_WINDOW=900) as made:
        yield made


def fill(rig: Rig) -> None:
    """A row for every interface as if all had been collected up to now; the first was retired long ago."""
    now_ms = rig.clock()
    rig.table.create()
    for number, name in enumerate(rig.network.resources):
        until_ms = now_ms if number else now_ms - 240 * HOUR_MS
        rig.table.insert(name, now_ms - 480 * HOUR_MS, None if number else until_ms, **dict.fromkeys(RecordType, until_ms))


def past(rig: Rig, hours: float = 3) -> tuple[int, int]:
    """A range that ended an hour ago, on no minute and no second."""
    end_ms = rig.clock() // 1000 * 1000 - HOUR_MS + 123
    return end_ms - round(hours * HOUR_MS), end_ms


def start(rig: Rig, begin_ms: int, end_ms: int, *words: str, **settings: str) -> Collector:
    return rig.start("backfill", "--begin", str(begin_ms), "--end", str(end_ms), *words, **settings)


def waiting(rig: Rig) -> int:
    """How many messages nobody has taken yet."""
    assert rig.bus is not None
    return rig.bus.waiting()


def printed_command(backfill: Collector) -> list[str]:
    """The words of the command that goes on, less the options that the rig gives to every collector."""
    commands = [line for line in backfill.stdout.splitlines() if " backfill " in line]
    assert len(commands) == 1, backfill.stdout
    words = shlex.split(commands[0])
    assert words[:3] == [sys.executable, str(PROGRAM), "backfill"]
    return [word for word in words[2:] if not word.startswith("--env-file=")]


def printed_begin(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_published(
    rig: Rig, begin_ms: int, end_ms: int, names: Iterable[str] = (), record_types: Iterable[RecordType] = RecordType
) -> None:
    """Everything of the range is on the bus, and nothing else is."""
    heard = rig.heard()
    expected = {}
    for name in names or rig.network.resources:
        for kind in record_types:
            if points := rig.network.expected_points(name, kind, begin_ms, end_ms):
                expected[name, kind.value] = {at: (into, out) for at, into, out in points}
    assert heard.points == expected
    assert heard.faults == []
    assert set(heard.messages) == {TRAFFIC_KEY}


def test_range_of_every_name_is_published_exactly_once_and_the_table_stays(rig: Rig) -> None:
    fill(rig)
    before = rig.table.rows()
    begin_ms, end_ms = past(rig)
    backfill = start(rig, begin_ms, end_ms)
    assert backfill.wait() == 0
    check_published(rig, begin_ms, end_ms)
    assert rig.heard().duplicates == 0
    assert not rig.heard().out_of_order
    assert rig.table.rows() == before
    assert "Published " in backfill.stdout


def test_stopped_at_any_moment_it_goes_on_with_the_printed_command_and_nothing_is_missing(rig: Rig) -> None:
    fill(rig)
    rig.behaviour.latency_s = 0.02
    begin_ms, end_ms = past(rig, hours=4)
    words = ["backfill", "--begin", str(begin_ms), "--end", str(end_ms)]
    for number in (signal.SIGTERM, signal.SIGINT):
        rig.heard()
        backfill = rig.start(*words)
        some = random.randint(1, 2000)
        backfill.wait_for(lambda: waiting(rig) >= some)  # noqa: B023  # asked at once
        backfill.signal(number)
        assert backfill.wait(8) == 1
        words = printed_command(backfill)
    rig.behaviour.latency_s = 0
    assert rig.start(*words).wait() == 0
    check_published(rig, begin_ms, end_ms)


def test_stop_while_netbeam_hangs_or_the_broker_is_not_there_ends_in_time_with_the_command(rig: Rig) -> None:
    fill(rig)
    rig.behaviour.latency_s = 3600
    begin_ms, end_ms = past(rig)
    hanging = start(rig, begin_ms, end_ms)
    waiting_at_start = start(rig, begin_ms, end_ms, RMQ_PORT="9")
    hanging.wait_for(lambda: rig.simulation.counts["points"] or rig.simulation.at_once)
    waiting_at_start.wait_for_log("RabbitMQ is not available")
    for each in (hanging, waiting_at_start):
        each.signal(signal.SIGTERM)
    for each in (hanging, waiting_at_start):
        assert each.wait(8) == 1
        assert printed_command(each)[1:3] == ["--begin", printed_begin(begin_ms)]


def test_beside_a_collector_at_work_neither_disturbs_the_other(rig: Rig) -> None:
    collector = rig.start()
    collector.wait_for_cycles(2)
    begin_ms, end_ms = past(rig)
    backfill = start(rig, begin_ms, end_ms)
    assert backfill.wait() == 0
    collector.wait_for_cycles(2)
    assert collector.terminate() == 0
    assert {cycle["outcome"] for cycle in collector.cycles()} <= {"complete", "cut"}  # cut: a second is short on a busy machine
    assert not [cycle for cycle in collector.cycles() if "windows_moved" in cycle]
    rig.check()
    heard = rig.heard()
    for name in rig.network.resources:
        for kind in RecordType:
            times = {at for at, *_ in rig.network.expected_points(name, kind, begin_ms, end_ms)}
            assert times <= set(heard.series(name, kind))
    assert heard.duplicates == 0


def test_interface_and_record_type_narrow_it_and_come_again_in_the_command(rig: Rig) -> None:
    fill(rig)
    chosen = [name for name in rig.network.resources if name.startswith("devices/amst-cr5/")]
    begin_ms, end_ms = past(rig)
    rig.behaviour.points = (Fault(kind=Kind.STATUS, status=403, resources=chosen[1:2]),)
    backfill = start(rig, begin_ms, end_ms, "--interface", "devices/amst-cr5/*", "--record-type", "errors")
    assert backfill.wait() == 1
    assert f"reason='status 403' example='{chosen[1]} errors'" in backfill.log
    rig.behaviour.points = ()
    assert rig.start(*printed_command(backfill)).wait() == 0
    check_published(rig, begin_ms, end_ms, chosen, [RecordType.ERRORS])


def test_without_a_table_the_listing_counts_and_none_is_made(rig: Rig) -> None:
    begin_ms, end_ms = past(rig, hours=0.5)
    backfill = start(rig, begin_ms, end_ms)
    assert backfill.wait() == 0
    check_published(rig, begin_ms, end_ms)
    assert "no table esnet_interfaces" in backfill.log
    assert rig.table.sql("SHOW TABLES") == []


def test_rights_to_read_are_enough(rig: Rig, mariadb: MariaDB) -> None:
    fill(rig)
    assert isinstance(rig.table, MysqlTable)
    reader = mariadb.reader(rig.table.account.database)
    begin_ms, end_ms = past(rig, hours=0.5)
    assert start(rig, begin_ms, end_ms, MYSQL_USER=reader.user, MYSQL_PASSWORD=reader.password).wait() == 0
    check_published(rig, begin_ms, end_ms)


def test_netbeam_that_goes_away_is_waited_for(rig: Rig) -> None:
    fill(rig)
    rig.behaviour.latency_s = 0.02
    begin_ms, end_ms = past(rig)
    backfill = start(rig, begin_ms, end_ms)
    backfill.wait_for(lambda: waiting(rig) > 100)
    # few windows of the slice may be left, too few to tell by: then the listing tells
    rig.behaviour.points = rig.behaviour.listing = (Fault(kind=Kind.STATUS, status=503),)
    backfill.wait_for_log("Netbeam is not available")
    rig.behaviour.points = rig.behaviour.listing = ()
    assert backfill.wait() == 0
    check_published(rig, begin_ms, end_ms)


def test_broker_that_blocks_and_then_cuts_the_connection_is_waited_for(rig: Rig, rabbit: RabbitServer) -> None:
    fill(rig)
    assert rig.bus is not None
    begin_ms, end_ms = past(rig)
    rabbit.alarm(True)
    try:
        backfill = start(rig, begin_ms, end_ms)
        backfill.wait_for_log("backfill begun|RabbitMQ is not available")
        wait_for(lambda: rig.bus is not None and rabbit.connections(rig.bus.vhost) > 0, what="a connection")
        rabbit.close_connections(rig.bus.vhost)
    finally:
        rabbit.alarm(False)
    assert backfill.wait() == 0
    check_published(rig, begin_ms, end_ms)


def test_key_that_no_queue_takes_is_named_and_the_command_goes_on_from_the_begin(rig: Rig) -> None:
    fill(rig)
    assert rig.bus is not None
    rig.bus.unbind(TRAFFIC_KEY)
    begin_ms, end_ms = past(rig, hours=0.5)
    backfill = start(rig, begin_ms, end_ms)
    assert backfill.wait() == 1
    assert f"no queue takes messages exchange='osg.psdata.raw' routing_key='{TRAFFIC_KEY}'" in backfill.log
    rig.bus.bind(TRAFFIC_KEY)
    assert rig.start(*printed_command(backfill)).wait() == 0
    check_published(rig, begin_ms, end_ms)


def test_refused_login_is_the_operators(rig: Rig) -> None:
    fill(rig)
    begin_ms, end_ms = past(rig)
    for wrong in ({"RMQ_PASS": "wrong"}, {"MYSQL_PASSWORD": "wrong"}):
        backfill = start(rig, begin_ms, end_ms, **wrong)
        assert backfill.wait() == 2
        assert " backfill " not in backfill.stdout


def test_rate_is_kept(rig: Rig) -> None:
    fill(rig)
    rig.simulation.record = True
    begin_ms, end_ms = past(rig, hours=0.25)
    assert start(rig, begin_ms, end_ms, "--rate", "30", "--record-type", "traffic").wait() == 0
    times = [request.at for request in rig.simulation.requests]
    assert len(times) == INTERFACES
    assert times[-1] - times[0] >= (INTERFACES - 1) / 30 * 0.95


def test_closed_stdout_is_a_stop(rig: Rig) -> None:
    fill(rig)
    begin_ms, end_ms = past(rig)
    words = ["backfill", f"--begin={begin_ms}", f"--end={end_ms}", "--stdout", f"--env-file={os.devnull}"]
    command = [sys.executable, str(PROGRAM), *words]
    with subprocess.Popen(command, env=rig.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline().startswith('{"exchange"')
        child.stdout.close()
        log = child.stderr.read()
        assert child.wait(10) == 1
    assert "Traceback" not in log
    assert log.rstrip().endswith(f"--env-file={os.devnull} --stdout")


def test_progress_is_a_bar_on_a_terminal_below_the_lines_of_the_log(rig: Rig) -> None:
    fill(rig)
    begin_ms, end_ms = past(rig, hours=1)
    screen, terminal = pty.openpty()
    words = ["backfill", f"--begin={begin_ms}", f"--end={end_ms}", f"--env-file={os.devnull}"]
    command = [sys.executable, str(PROGRAM), *words]
    with subprocess.Popen(command, env=rig.environment(), stdout=subprocess.DEVNULL, stderr=terminal) as child:
        os.close(terminal)
        seen = b""
        while chunk := read(screen):
            seen += chunk
        assert child.wait(10) == 0
    os.close(screen)
    assert b"100% |" in seen
    assert b" points, " in seen
    assert b"backfill begun" in seen


def read(screen: int) -> bytes:
    """What the terminal shows next; nothing once nobody writes to it."""
    try:
        return os.read(screen, 65_536)
    except OSError:
        return b""
