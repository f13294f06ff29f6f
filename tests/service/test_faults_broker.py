"""Every fault of RabbitMQ against a collector that runs: what was confirmed is on the bus, nothing else counts, and it heals."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Bus, Collector, Rig
from tests.rig.heard import INTERFACE_KEY, TRAFFIC_KEY
from tests.servers.ports import free_port
from tests.servers.rabbitmq import EXCHANGE, RabbitServer
from tests.service.faults import NewRig, finish, flying, health, metric, start, wait_for_all

LATENCY_S = 0.02
CLOSED = 10
CONCURRENCY = 8
TRIES = 3
GROWTH_MIB = 8
"""What a collector may grow by while its broker is away: less than the points of a second, held, would take."""


@pytest.fixture
def broker(rabbit: RabbitServer) -> Iterator[RabbitServer]:
    """The run's broker, up and well afterwards whatever happened."""
    yield rabbit
    if rabbit._broker is None:
        rabbit.start()
    rabbit.thaw()
    rabbit.alarm(False)


def durable(new_rig: NewRig, broker: RabbitServer, count: int = 16, **options: object) -> Rig:
    rig = flying(new_rig, count, bus=Bus(broker, durable=True), **options)
    rig.behaviour.latency_s = LATENCY_S
    return rig


def resident_mib(collector: Collector) -> float:
    lines = Path(f"/proc/{collector.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def await_down(collector: Collector, at: int, said: str = "") -> None:
    """Until /healthz names RabbitMQ and its last error."""

    def down() -> bool:
        status, reasons = health(at)
        return status == 503 and "RabbitMQ is down since" in reasons and said in reasons

    collector.wait_for(down, what=f"503 with RabbitMQ and {said!r}")


def await_up(collector: Collector, at: int) -> None:
    collector.wait_for(lambda: health(at)[0] == 200, what="200")


def outage_lines(collector: Collector) -> list[str]:
    lines = collector.log_lines(" WARNING RabbitMQ is ")
    return [line.split(" ", 2)[2].split(" error=")[0].split(" seconds=")[0] for line in lines]


BEGIN, END = "RabbitMQ is not available", "RabbitMQ is available again"


def test_connections_closed_by_the_broker_ten_times_in_one_run(new_rig: NewRig, broker: RabbitServer) -> None:
    rig = durable(new_rig, broker, 32)
    assert rig.bus
    collector = start(rig)
    chance = random.Random(4)
    for number in range(CLOSED):
        time.sleep(chance.uniform(0, 1))  # somewhere in a cycle
        assert broker.close_connections(rig.bus.vhost) == 1
        collector.wait_for_log(END, times=number + 1)
    recovered_s = wait_for_all(rig, collector)
    assert outage_lines(collector) == [BEGIN, END] * CLOSED
    finish(rig, collector, "RabbitMQ closes the connection", CLOSED, recovered_s)


def test_broker_killed_in_mid_cycle_and_started(new_rig: NewRig, broker: RabbitServer) -> None:
    at = free_port()
    rig = durable(new_rig, broker, 32, METRICS_PORT=at)
    collector = start(rig)
    assert health(at) == (200, "")
    collector.wait_for(lambda: rig.simulation.at_once, what="a cycle")
    broker.kill()
    await_down(collector, at, "refused")
    requests, listings, memory_mib = rig.simulation.counts["points"], rig.simulation.counts["listing"], resident_mib(collector)
    cycles = len(collector.cycles())
    collector.wait_for_cycles(4)
    assert rig.simulation.counts["listing"] >= listings + 3, "listing stopped"
    # what was being asked when the broker went, and no more
    assert rig.simulation.counts["points"] - requests <= CONCURRENCY * TRIES
    assert resident_mib(collector) - memory_mib < GROWTH_MIB
    assert outage_lines(collector) == [BEGIN]
    said = collector.log_lines("RabbitMQ")
    assert len(said) <= 1 + 3 * (len(collector.cycles()) - cycles + 1), said
    broker.start()
    recovered_s = wait_for_all(rig, collector)
    await_up(collector, at)
    assert outage_lines(collector) == [BEGIN, END]
    finish(rig, collector, "RabbitMQ: killed with -9 in mid-cycle, started", 1, recovered_s)


def test_broker_stopped_and_started_in_a_long_cycle_is_two_lines_of_the_log(new_rig: NewRig, broker: RabbitServer) -> None:
    rig = durable(new_rig, broker, 32, POLL_INTERVAL=900, NETBEAM_RATE=30)
    collector = rig.start()  # not hurried: the delays between attempts are those of every day
    collector.wait_for(lambda: rig.bus and rig.bus.waiting() > 200, what="points")
    before = len(collector.log_lines())
    broker.stop()
    collector.wait_for_log(BEGIN)
    time.sleep(4)  # attempts after 1 and 2 s more
    assert len(collector.log_lines()) == before + 1
    broker.start()
    collector.wait_for_cycles(1)
    lines = collector.log_lines()[before:]
    assert [BEGIN in lines[0], END in lines[1], "cycle ended outcome=complete" in lines[2], len(lines)] == [True, True, True, 3]
    finish(rig, collector, "RabbitMQ: stopped and started in mid-cycle", 1, 0)


def test_broker_frozen_and_continued(new_rig: NewRig, broker: RabbitServer) -> None:
    at = free_port()
    rig = durable(new_rig, broker, METRICS_PORT=at)
    collector = start(rig)
    with broker.frozen():  # shorter than anybody notices
        collector.wait_for_cycles(1)
    first_s = wait_for_all(rig, collector)
    with broker.frozen():
        await_down(collector, at)
        requests = rig.simulation.counts["points"]
        collector.wait_for_cycles(2)
        assert rig.simulation.counts["points"] == requests
    recovered_s = wait_for_all(rig, collector)
    await_up(collector, at)
    finish(rig, collector, "RabbitMQ: frozen and continued", 2, max(first_s, recovered_s))


def test_memory_alarm_raised_and_lowered(new_rig: NewRig, broker: RabbitServer) -> None:
    at = free_port()
    rig = durable(new_rig, broker, METRICS_PORT=at)
    collector = start(rig)
    broker.alarm(True)
    await_down(collector, at, "publishing is blocked by the broker")
    collector.wait_for_cycles(1)
    requests, memory_mib = rig.simulation.counts["points"], resident_mib(collector)
    collector.wait_for_cycles(3)
    assert rig.simulation.counts["points"] == requests
    assert resident_mib(collector) - memory_mib < GROWTH_MIB
    broker.alarm(False)
    recovered_s = wait_for_all(rig, collector)
    await_up(collector, at)
    assert outage_lines(collector) == [BEGIN, END]
    finish(rig, collector, "RabbitMQ: memory alarm", 1, recovered_s)


def test_exchange_deleted_and_declared_again(new_rig: NewRig, broker: RabbitServer) -> None:
    at = free_port()
    rig = durable(new_rig, broker, METRICS_PORT=at)
    assert rig.bus
    collector = start(rig)
    broker.delete_exchange(rig.bus.vhost)
    await_down(collector, at, f"no exchange '{EXCHANGE}'")
    collector.wait_for_cycles(2)
    broker.declare_exchange(rig.bus.vhost)
    rig.bus.bind(TRAFFIC_KEY)
    rig.bus.bind(INTERFACE_KEY)
    recovered_s = wait_for_all(rig, collector)
    await_up(collector, at)
    finish(rig, collector, "RabbitMQ: exchange deleted and declared", 1, recovered_s)


def test_permission_revoked_and_given_back(new_rig: NewRig, broker: RabbitServer) -> None:
    at = free_port()
    rig = durable(new_rig, broker, METRICS_PORT=at)
    assert rig.bus
    collector = start(rig)
    broker.set_permissions(rig.bus.vhost, write="")
    broker.close_connections(rig.bus.vhost)  # else the broker goes by what it remembers
    await_down(collector, at, "publishing refused")
    collector.wait_for_cycles(2)
    broker.set_permissions(rig.bus.vhost)
    recovered_s = wait_for_all(rig, collector)
    await_up(collector, at)
    assert outage_lines(collector)[-2:] == [BEGIN, END]
    finish(rig, collector, "RabbitMQ: permission revoked", 1, recovered_s)


@pytest.mark.parametrize("most_bytes", [400, 250], ids=["some interfaces", "all interfaces"])
def test_messages_over_the_size_that_the_broker_takes_hold_up_no_points(
    new_rig: NewRig, broker: RabbitServer, most_bytes: int
) -> None:
    at = free_port()
    rig = durable(new_rig, broker, METRICS_PORT=at)
    usual = broker.eval("begin {ok, S} = application:get_env(rabbit, max_message_size), S end")
    broker.eval(f"application:set_env(rabbit, max_message_size, {most_bytes})")
    try:
        collector = start(rig)
        collector.wait_for(lambda: metric(at, "messages_unacceptable_total") > 0)
        recovered_s = wait_for_all(rig, collector)
        assert collector.log_lines("message given up, the broker refuses it")
        finish(rig, collector, f"RabbitMQ: takes {most_bytes} bytes", 1, recovered_s)
    finally:
        broker.eval(f"application:set_env(rabbit, max_message_size, {usual})")


def test_once_gives_up_after_half_a_minute_where_it_may_not_publish(new_rig: NewRig, broker: RabbitServer) -> None:
    denied = flying(new_rig, 4, bus=Bus(broker))
    internal = flying(new_rig, 4, bus=Bus(broker))
    assert denied.bus
    assert internal.bus
    broker.set_permissions(denied.bus.vhost, write="")
    with broker.channel(internal.bus.vhost) as channel:
        channel.exchange_declare("inside", "topic", internal=True)
    began = time.monotonic()
    runs = [denied.start("run", "--once"), internal.start("run", "--once", RMQ_EXCHANGE="inside")]
    named = [f"user '{denied.bus.vhost.user}' at exchange '{EXCHANGE}'", "cannot publish to internal exchange 'inside'"]
    for collector, names in zip(runs, named, strict=True):
        assert collector.wait(60) == 1
        assert 25 < time.monotonic() - began < 45
        lines = collector.log_lines("WARNING RabbitMQ is not available")
        assert len(lines) == 1
        assert names in lines[0]


def test_a_user_who_may_only_write_is_enough(new_rig: NewRig, broker: RabbitServer) -> None:
    rig = durable(new_rig, broker)
    assert rig.bus
    broker.set_permissions(rig.bus.vhost, configure="", read="")
    collector = start(rig)
    assert collector.terminate(8) == 0
    broker.set_permissions(rig.bus.vhost)  # for the consumer, who is the same user here
    rig.check_exactly()


@pytest.mark.parametrize("key", [TRAFFIC_KEY, INTERFACE_KEY])
def test_a_key_that_no_queue_takes_holds_back_its_own_messages_only(new_rig: NewRig, broker: RabbitServer, key: str) -> None:
    at = free_port()
    rig = durable(new_rig, broker, METRICS_PORT=at)
    assert rig.bus
    rig.bus.unbind(key)
    collector = rig.start()
    collector.wait_for_log(f"no queue takes the messages, .* routing_key={key}")
    collector.wait_for_cycles(2)
    settled = rig.checkpoints()
    points, cycles = metric(at, "points_returned_total"), len(collector.cycles())
    interfaces = metric(at, "interface_messages_returned_total")
    collector.wait_for_cycles(3)
    heard, more = rig.heard(), len(collector.cycles()) - cycles + 1
    if key == TRAFFIC_KEY:
        assert (heard.point_count, {each.resource for each in heard.interfaces}) == (0, set(rig.network.resources))
        returned = [int(cycle.get("windows_returned", 0)) for cycle in collector.cycles()]
        found = next(number for number, windows in enumerate(returned) if windows)  # a slow start may cut the first one short
        assert max(returned[found + 1 :]) <= 1, "more than a probe"
        assert metric(at, "points_returned_total") > points
    else:
        assert heard.point_count > 0
        assert not heard.interfaces
        assert settled != rig.checkpoints()
        assert 1 <= metric(at, "interface_messages_returned_total") - interfaces <= more
    assert len(collector.log_lines("no queue takes the messages")) == 1
    assert f"routing key {key}" in health(at)[1]
    rig.bus.bind(key)
    recovered_s = wait_for_all(rig, collector)
    collector.wait_for(lambda: {each.resource for each in rig.heard().interfaces} == set(rig.network.resources))
    await_up(collector, at)
    assert len(collector.log_lines("messages are taken again")) == 1
    finish(rig, collector, f"RabbitMQ: no queue takes {key}", 1, recovered_s)


def test_a_queue_that_is_full_refuses_and_is_drained(new_rig: NewRig, broker: RabbitServer) -> None:
    bus = Bus(broker, durable=True, arguments={"x-max-length": 400, "x-overflow": "reject-publish"})
    at = free_port()
    rig = flying(new_rig, 16, bus=bus, METRICS_PORT=at, INITIAL_LOOKBACK=60)
    collector = start(rig)
    collector.wait_for_log("the broker refuses messages")
    collector.wait_for(lambda: metric(at, "points_refused_total") > 0)
    requests = rig.simulation.counts["points"]
    collector.wait_for_cycles(2)
    assert rig.simulation.counts["points"] - requests <= 2 * 12, "asked as if the queue were not full"
    rig.check()
    bus.drain()
    collector.wait_for_log("messages are taken again")

    def collected() -> bool:
        bus.drain()
        return "outcome=complete" in collector.log_lines("cycle ended")[-1]

    collector.wait_for(collected)
    assert collector.terminate(8) == 0
    counts = rig.check()
    print(f"| RabbitMQ: queue full | 1 | {counts.points} | {counts.duplicates} | {counts.missing} | |")


def test_a_signal_while_the_broker_hangs_ends_it_within_eight_seconds(new_rig: NewRig, broker: RabbitServer) -> None:
    rig = durable(new_rig, broker, 64)
    collector = rig.start()
    collector.wait_for(lambda: rig.bus and rig.bus.waiting() > 200, what="points")
    with broker.frozen():
        time.sleep(0.3)  # some more are sent, and nothing is confirmed
        assert collector.terminate(8) == 0
    rig.check()
    again = start(rig)
    finish(rig, again, "SIGTERM while RabbitMQ is frozen", 1, again.seconds)
