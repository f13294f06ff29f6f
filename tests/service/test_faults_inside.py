"""An exception that nobody foresaw, in each thread and in each callback: the collector ends with a message and a code, within
seconds, and the promise holds. It never runs on while it collects nothing."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.inside import injected
from tests.rig import Collector, Rig, wait_for
from tests.rig.heard import TRAFFIC_KEY
from tests.servers.ports import free_port
from tests.servers.rabbitmq import RabbitServer
from tests.service.faults import NewRig, flying, start

END_S = 9.0
"""The grace of what is in flight, and the rest of a stop, in whole seconds of the log's clock."""
AT_ONCE = 6
"""Collectors that run beside each other."""
CRASH = "by an unexpected error|unexpected error"

MAIN = (
    "cycle.cycle:Cycle._plan@2", "cycle.cycle:reconcile@2", "cycle.checkpoints:Checkpoints.write@3",
    "store.mysql:MysqlStore.advance@2", "store.mysql:MysqlStore.read@3", "commands.run:Daemon._wait_for@2",
    "cycle.flow_control:FlowControl.begin@2",
)  # fmt: skip
FETCH_AND_FEED = (
    "source.netbeam.api:Netbeam._ask@30", "source.netbeam.workers:Workers._ask_for@30", "cycle.pipeline:select@30",
    "cycle.pipeline:traffic_messages@10", "cycle.flow_control:FlowControl.admit@40", "source.netbeam.workers:Workers.fetch@2",
    "cycle.interface_messages:interface_message@5", "source.http.connection:Watchdog._look@3",
)  # fmt: skip
PUBLISHER = (
    "bus.publisher:AmqpPublisher._send@2", "bus.publisher:AmqpPublisher._take_inbox@20",
    "bus.publisher:AmqpPublisher._take_answers@20", "bus.framing:Encoder.encode@5", "bus.confirms:Confirms.settle@5",
    "cycle.flow_control:FlowControl.settle@5", "bus.connection:Connection._opened", "bus.connection:Connection._open_channel",
    "bus.connection:Connection._exchange_found", "bus.connection:Connection.act@30", "bus.publisher:AmqpPublisher.publish@20",
)  # fmt: skip
OTHERS = ("store.mysql:suppress", "socketserver:BaseServer.service_actions@3")


def assert_ends(rig: Rig, collector: Collector, target: str) -> float:
    """With a message and a code, soon after it; and nothing is lost. Returns how long the end took."""
    code = collector.wait()
    ended = time.time()
    assert code == 1, f"{target}: exit code {code}\n{collector.tail()}"
    said = collector.log_lines(CRASH)
    assert said, f"{target}: ended without a message\n{collector.tail()}"
    assert f"injected into {target.split(':')[1].split('@')[0]}" in collector.log
    seconds = ended - datetime.fromisoformat(said[0].split(" ")[0]).timestamp()
    assert seconds < END_S, f"{target}: ended after {seconds:.0f} s"
    rig.check()
    return seconds


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it holds within END_S."""
    end = time.monotonic() + END_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def run(new_rig: NewRig, targets: Sequence[str]) -> list[tuple[Rig, Collector, str]]:
    running = []
    for target in targets:
        rig = flying(new_rig)
        collector = rig.start("run", **injected(target), METRICS_PORT=free_port())
        collector.tracebacks_expected = True
        running.append((rig, collector, target))
    return running


@pytest.mark.parametrize("targets", [MAIN, FETCH_AND_FEED, PUBLISHER, OTHERS], ids=["main", "fetch", "publisher", "others"])
def test_an_exception_in_any_thread_ends_the_collector(new_rig: NewRig, targets: Sequence[str]) -> None:
    slowest_s = 0.0
    for first in range(0, len(targets), AT_ONCE):
        running = run(new_rig, targets[first : first + AT_ONCE])
        slowest_s = max(slowest_s, *(assert_ends(*each) for each in running))
    print(f"| exception inside: {targets[0]} … | {len(targets)} | | | 0 | ended within {slowest_s:.0f} s |")


def test_an_exception_in_a_callback_that_an_event_calls_ends_the_collector(new_rig: NewRig, rabbit: RabbitServer) -> None:
    events: list[tuple[str, Callable[[Rig], object]]] = [
        ("bus.connection:Connection._closed", lambda rig: rabbit.close_connections(rig.bus.vhost)),  # type: ignore[union-attr]
        ("bus.connection:Connection._channel_closed", lambda rig: rabbit.delete_exchange(rig.bus.vhost)),  # type: ignore[union-attr]
        ("bus.connection:Connection._lose", lambda rig: rabbit.close_connections(rig.bus.vhost)),  # type: ignore[union-attr]
        ("bus.confirms:Confirms.mark_returned", lambda rig: rig.bus.unbind(TRAFFIC_KEY)),  # type: ignore[union-attr]
        ("bus.connection:Connection._on_blocked", lambda rig: rabbit.alarm(True)),
        ("bus.connection:Connection._on_unblocked", lambda rig: rabbit.alarm(False)),
    ]
    rigs = []
    for target, _ in events:
        rig = flying(new_rig)
        collector = start(rig, **injected(target))
        collector.tracebacks_expected = True
        rigs.append((rig, collector))
    try:
        for (rig, collector), (target, event) in zip(rigs, events, strict=True):
            if target.endswith("_on_unblocked"):
                collector.wait_for_log("RabbitMQ is not available")
            event(rig)
        for (rig, collector), (target, event) in zip(rigs, events, strict=True):
            if not soon(lambda collector=collector: not collector.running):  # type: ignore[misc]
                event(rig)  # seen once: the collector went on, and why it was not met is not known
            assert_ends(rig, collector, target)
    finally:
        rabbit.alarm(False)


def test_an_exception_while_it_ends_does_not_keep_it_from_ending(new_rig: NewRig) -> None:
    targets = ("bus.driver:Loop.end", "bus.connection:Connection.end", "store.mysql:MysqlStore.close")
    for target in targets:
        rig = flying(new_rig)
        collector = start(rig, **injected(target))
        collector.tracebacks_expected = True
        collector.terminate(8)
        assert "injected into" in collector.log
        rig.check()


def test_an_exception_in_a_page_is_that_page_only(new_rig: NewRig) -> None:
    rig, at = flying(new_rig), free_port()
    collector = start(rig, **injected("watch.server:judge"), METRICS_PORT=str(at))
    collector.tracebacks_expected = True
    with pytest.raises(HTTPError, match="500") as failed:
        urlopen(f"http://127.0.0.1:{at}/healthz", timeout=5)
    failed.value.close()
    with urlopen(f"http://127.0.0.1:{at}/livez", timeout=5) as answer:
        assert answer.status == 200
    collector.wait_for_cycles(1)
    assert collector.terminate(8) == 0
    rig.check()


def test_before_the_first_connection_it_ends_too(new_rig: NewRig) -> None:
    rig = flying(new_rig)
    collector = rig.start("run", **injected("bus.connection:Connection._open_failed"), RMQ_PORT=1)
    collector.tracebacks_expected = True
    wait_for(lambda: not collector.running)
    assert collector.exit_code == 1
    assert collector.log_lines(CRASH)
