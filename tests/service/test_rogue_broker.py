"""Brokers that are broken or hostile: the publisher lives, says in one short line what is wrong, and goes on with a good one."""

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pika.frame
import pika.spec as spec
import pytest

from collector.bus.publisher import AmqpPublisher
from collector.config.systems import RabbitSettings, Secret
from collector.core.contracts import Batch, Outcome
from collector.core.counters import Count, Counters
from collector.core.model import Message
from collector.core.shutdown import Stop
from tests.rig import Collector, Rig
from tests.servers.rogue_broker import BODY, HEADER, HEARTBEAT, METHOD, Peer, RogueBroker, Script
from tests.service.sending import KEY, QUICK, Sender, wait_for

IMPATIENT = replace(QUICK, connect=0.5)
GROWTH_MIB = 100
"""What a hostile broker may make the process grow by; the whole collector is allowed 250."""
LONGEST_LINE = 700


@contextmanager
def publisher_at(broker: RogueBroker, *, counters: Counters | None = None, **changes: Any) -> Iterator[AmqpPublisher]:
    """A publisher of that broker's, which must not end the run and must end in time itself."""
    fields = {"hosts": (broker.host,), "port": broker.port, "user": "me", "password": Secret("s3cret"), **changes}
    stop = Stop()
    publisher = AmqpPublisher(RabbitSettings(**fields), "osg.psdata.raw", stop, counters or Counters(), IMPATIENT)
    publisher.start()
    try:
        yield publisher
        assert publisher._thread.is_alive()
    finally:
        began = time.monotonic()
        publisher.close(2.0)
        assert time.monotonic() - began < 2.5
    assert stop.failure is None


def good(peer: Peer) -> None:
    peer.be_ready()
    peer.confirm_all()


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def check_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Few lines, short ones, without control characters, and all of them the collector's own."""
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= 4, lines
    for record, line in zip(caplog.records, lines, strict=True):
        assert record.name.startswith("collector."), record.name
        assert line.isprintable()
        assert len(line) <= LONGEST_LINE
        assert "s3cret" not in line
        assert record.exc_info is None


# What a broker may do instead of each step


def then(*steps: Callable[[Peer], Any]) -> Script:
    def script(peer: Peer) -> None:
        for step in steps:
            step(peer)

    return script


def table(name: str, value: bytes) -> bytes:
    """The beginning of a Start frame's payload, whose server properties hold one raw value."""
    entry = bytes((len(name),)) + name.encode() + value
    return struct.pack(">IBB", spec.Connection.Start.INDEX, 0, 9) + struct.pack(">I", len(entry)) + entry


def rest_of_start(mechanisms: bytes = b"PLAIN") -> bytes:
    return struct.pack(">I", len(mechanisms)) + mechanisms + struct.pack(">I", 5) + b"en_US"


def greet(payload: bytes) -> Callable[[Peer], None]:
    def step(peer: Peer) -> None:
        peer.hear_header()
        peer.frame(METHOD, payload, 0)

    return step


def say(content: bytes) -> Callable[[Peer], None]:
    return lambda peer: peer.send(content)


def hang_up(_: Peer) -> None:
    """The connection ends with the script."""


def hear(peer: Peer) -> None:
    while True:
        peer.read()


def answer_channel(peer: Peer) -> None:
    peer.await_method(spec.Channel.Open)
    peer.method(spec.Channel.OpenOk())


NESTED = b"F\x00\x00\x00\x06\x01k" * 20_000
GARBAGE = bytes(range(256)) * 40

BEFORE_READY: dict[str, tuple[Script, str]] = {
    "closes at once": (hang_up, "AMQP 0-9-1"),
    "closes after the greeting": (Peer.start, "connection lost"),
    "closes after tuning": (then(Peer.start, Peer.tune), "connection lost"),
    "closes after opening": (Peer.open_connection, "connection lost"),
    "closes after the channel": (then(Peer.open_connection, answer_channel), "connection lost"),
    "says nothing": (hear, "no answer in time"),
    "speaks HTTP": (then(Peer.hear_header, say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), hear), "does not speak AMQP 0-9-1"),
    "speaks MySQL": (then(say(b"J\x00\x00\x00\x0a5.6.24\x00\x1b[2J"), hear), "does not speak AMQP 0-9-1"),
    "speaks another version": (then(Peer.hear_header, say(b"AMQP\x00\x01\x00\x00")), "without speaking AMQP 0-9-1"),
    "no confirms": (then(lambda peer: peer.open_connection({"capabilities": {}}), hear), "does not offer publisher confirms"),
    "no capabilities": (then(lambda peer: peer.open_connection({}), hear), "does not offer publisher confirms"),
    "confirms denied": (
        then(lambda peer: peer.open_connection({"capabilities": {"publisher_confirms": False}}), hear),
        "does not offer publisher confirms",
    ),
    "capabilities are a text": (
        then(lambda peer: peer.open_connection({"capabilities": "\x1b[31mall"}), hear),
        "does not offer publisher confirms",
    ),
    "capabilities are a list": (
        then(lambda peer: peer.open_connection({"capabilities": [1]}), hear),
        "does not offer publisher confirms",
    ),
    "a table that is nested without end": (then(greet(table("c", NESTED) + rest_of_start()), hear), "cannot be read"),
    "a table with a value of no kind": (then(greet(table("c", b"\x07") + rest_of_start()), hear), "cannot be read"),
    "a time beyond time": (then(greet(table("c", b"T" + b"\xff" * 8) + rest_of_start()), hear), ""),
    "a greeting cut short": (then(greet(b"\x00\x0a\x00\x0a\x00\x09\x00\x00"), hear), "cannot be read"),
    "a method of no kind": (then(greet(b"\x00\xff\x00\xff"), hear), "cannot be read"),
    "a method without a number": (then(greet(b""), hear), "cannot be read"),
    "an AMQP of version 7": (
        then(greet(struct.pack(">IBBI", spec.Connection.Start.INDEX, 7, 7, 0) + rest_of_start()), hear),
        "",
    ),
    "no login that we have": (then(lambda peer: peer.start(mechanisms="GSSAPI"), hear), "not offered"),
    "a login with a question": (
        then(Peer.start, lambda peer: peer.method(spec.Connection.Secure("\x1b]0;who\x07"), 0), hear),
        "no answer in time",
    ),
    "frames of a byte": (then(Peer.start, lambda peer: peer.tune(frame_max=1), hear), "cannot be read"),
    "no channels": (
        then(Peer.start, lambda peer: peer.tune(channel_max=1), lambda peer: peer.method(spec.Connection.OpenOk(), 0), hear),
        "no answer in time",
    ),
    "opened before the login": (then(Peer.hear_header, lambda peer: peer.method(spec.Connection.OpenOk(), 0), hear), ""),
    "a frame of 4 GB": (
        then(Peer.hear_header, say(struct.pack(">BHI", METHOD, 0, 2**32 - 1)), lambda peer: peer.flood(b"\0" * 65_536)),
        "a frame of over",
    ),
    "a frame without its end": (
        then(Peer.hear_header, say(struct.pack(">BHI", METHOD, 0, 4) + b"\0" * 5), hear),
        "cannot be read",
    ),
    "garbage": (then(Peer.hear_header, say(GARBAGE), hear), "does not speak AMQP 0-9-1"),
    "closes with a code and escapes": (
        then(Peer.start, lambda peer: peer.method(spec.Connection.Close(541, "\x1b[2J\u202e" + "x" * 200, 0, 0), 0), hear),
        "closed by the broker: 541",
    ),
    "closes the channel at once": (
        then(
            Peer.open_connection,
            lambda peer: peer.await_method(spec.Channel.Open),
            lambda peer: peer.close_channel(504, "\x9b31m\n" * 30),
            hear,
        ),
        "publishing refused",
    ),
    "closes the channel for the exchange": (
        then(
            Peer.open_connection,
            answer_channel,
            lambda peer: peer.await_method(spec.Confirm.Select),
            lambda peer: peer.method(spec.Confirm.SelectOk()),
            lambda peer: peer.await_method(spec.Exchange.Declare),
            lambda peer: peer.close_channel(406, "precondition"),
            hear,
        ),
        "publishing refused",
    ),
}


@pytest.mark.parametrize("name", BEFORE_READY)
def test_a_broker_that_fails_before_it_is_ready_is_an_outage_and_the_next_one_is_used(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    script, said = BEFORE_READY[name]
    memory_mib = resident_mib()
    with RogueBroker(script) as broker, publisher_at(broker) as publisher:
        sender = Sender(publisher)
        sender.send()
        wait_for(lambda: publisher.outage.down, what="an outage")
        assert not publisher.ready
        assert said in publisher.outage.last_error
        assert resident_mib() - memory_mib < GROWTH_MIB
        broker.script = good
        assert sender.outcomes() == {Outcome.CONFIRMED: 1}
        wait_for(lambda: not publisher.outage.down)
    check_lines(caplog)


def test_a_broker_without_confirms_is_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    with RogueBroker(BEFORE_READY["no confirms"][0]) as broker, publisher_at(broker) as publisher:
        wait_for(lambda: publisher.refusal)
        assert f"{broker.host}:{broker.port}" in str(publisher.refusal)
        assert "RMQ_HOST" in str(publisher.refusal)
        broker.script = good
        wait_for(lambda: publisher.ready)
        assert publisher.refusal is None


RETURN = pika.frame.Method(1, spec.Basic.Return(312, "NO_ROUTE", "e", "k")).marshal()


def content_header(size: int) -> bytes:
    header: bytes = pika.frame.Header(1, size, spec.BasicProperties(message_id="0" * 40)).marshal()
    return header


def body_frame(size: int) -> bytes:
    return struct.pack(">BHI", BODY, 1, size) + b"x" * size + b"\xce"


def returns(*frames: bytes) -> Callable[[Peer], None]:
    def step(peer: Peer) -> None:
        for frame in frames[:-1]:
            peer.send(frame)
        peer.flood(frames[-1])

    return step


ONCE_READY: dict[str, tuple[Callable[[Peer], Any], str]] = {
    "hangs up": (hang_up, "connection lost"),
    "a returned message of an exabyte": (returns(RETURN, content_header(2**60), body_frame(100_000)), "a message of"),
    "a returned message without end": (returns(RETURN, content_header(2**20), body_frame(0)), "an empty piece"),
    "more of a message than it said": (returns(RETURN, content_header(10), body_frame(100_000)), "cannot be read"),
    "a body out of nowhere": (returns(body_frame(10)), "cannot be read"),
    "properties of no kind": (
        then(lambda peer: peer.frame(HEADER, struct.pack(">HHQH", 77, 0, 1, 0)), hear),
        "cannot be read",
    ),
    "a frame of 4 GB": (returns(struct.pack(">BHI", METHOD, 1, 2**32 - 1), b"\0" * 65_536), "a frame of over"),
    "garbage": (then(say(GARBAGE), hear), "does not speak AMQP"),
    "another greeting": (then(lambda peer: peer.method(spec.Connection.Start(), 0), hear), ""),
    "silence": (hear, "no confirms for 2 s"),
}


@pytest.mark.parametrize("name", ONCE_READY)
def test_a_broker_that_fails_while_it_is_published_to_is_an_outage_and_nothing_is_lost(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault, said = ONCE_READY[name]
    memory_mib = resident_mib()
    with RogueBroker(then(Peer.be_ready, fault)) as broker, publisher_at(broker) as publisher:
        sender = Sender(publisher)
        wait_for(lambda: publisher.outage.up_once or publisher.outage.down)
        for _ in range(20):
            sender.send()
        wait_for(lambda: publisher.outage.down, what="an outage")
        assert said in publisher.outage.last_error
        assert resident_mib() - memory_mib < GROWTH_MIB
        broker.script = good
        assert sender.outcomes() == {Outcome.CONFIRMED: 20}
        wait_for(lambda: not publisher.outage.down)
    check_lines(caplog)


FLOODS: dict[str, bytes] = {
    "heartbeats": struct.pack(">BHIB", HEARTBEAT, 0, 0, 0xCE),
    "frames of another channel": pika.frame.Method(77, spec.Basic.Ack(1)).marshal()
    + body_frame(100).replace(b"\x03\x00\x01", b"\x03\x00\x4d"),
    "acks of nothing": pika.frame.Method(1, spec.Basic.Ack(2**63)).marshal(),
    "returns of nothing": RETURN + content_header(0),
    "blocked and unblocked": pika.frame.Method(0, spec.Connection.Blocked("\x1b[2J" * 50)).marshal()
    + pika.frame.Method(0, spec.Connection.Unblocked()).marshal(),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_takes_neither_memory_nor_the_log_and_the_end_comes_in_time(name: str, caplog: pytest.LogCaptureFixture) -> None:
    memory_mib = resident_mib()
    script = then(Peer.be_ready, lambda peer: peer.flood(FLOODS[name] * 2000))
    with RogueBroker(script) as broker, publisher_at(broker) as publisher:
        wait_for(lambda: publisher.outage.up_once or publisher.outage.down)
        sender = Sender(publisher)
        sender.send()
        time.sleep(1.5)
        assert resident_mib() - memory_mib < GROWTH_MIB
        assert all(record.getMessage().isprintable() for record in caplog.records)
        assert not any(record.name.startswith("pika") for record in caplog.records)


# Messages that a broker does not take


class Picky:
    """Confirms what it takes, and closes the channel, or with a code of the connection's that, for what it does not."""

    def __init__(self, takes: Callable[[bytes], bool], code: int = 406, connection: bool = False) -> None:
        self.takes, self.code, self.connection = takes, code, connection
        self.taken: list[bytes] = []
        self.closed = 0
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        peer.open_connection()
        while True:
            peer.open_channel()
            if not self._serve(peer):
                return

    def _serve(self, peer: Peer) -> bool:
        for message in peer.published():
            if self.takes(message.body):
                with self._lock:
                    self.taken.append(message.body)
                peer.method(spec.Basic.Ack(message.tag))
                continue
            self.closed += 1
            text = "PRECONDITION_FAILED - \x1b[31mmessage size is larger than configured"
            if self.connection:
                peer.method(spec.Connection.Close(self.code, text, 60, 40), 0)
                peer.await_method(spec.Connection.CloseOk)
                return False
            peer.close_channel(self.code, text)
            return True
        return False


@pytest.mark.parametrize(
    ("code", "connection"), [(406, False), (311, False), (501, True), (502, True)], ids=["406", "311", "501", "502"]
)
def test_messages_that_a_broker_does_not_take_are_given_up_and_named_and_hold_up_nobody(
    caplog: pytest.LogCaptureFixture, code: int, connection: bool
) -> None:
    picky = Picky(lambda body: b"bad" not in body, code, connection)
    counters = Counters()
    with RogueBroker(picky) as broker, publisher_at(broker, counters=counters) as publisher:
        wait_for(lambda: publisher.ready)
        told: dict[str, list[Outcome]] = {}
        sent: set[bytes] = set()
        for number in range(300):
            bodies = [b'"%d.%d"' % (number, index) for index in range(10)]
            if number in (50, 200):
                bodies[7] = b'"bad %d"' % number
            if number == 120:
                bodies = [b'"bad alone"']
            sent |= {each for each in bodies if b"bad" not in each}
            messages = [Message(f"{number:020d}{index:020d}", body) for index, body in enumerate(bodies)]
            outcomes = told[str(number)] = []
            publisher.publish(Batch(KEY, messages, outcomes.append))
        wait_for(lambda: all(told.values()), 30.0, "outcomes")
        assert [name for name, outcomes in told.items() if outcomes != [Outcome.CONFIRMED]] == ["120"]
        assert told["120"] == [Outcome.UNACCEPTABLE]
        assert set(picky.taken) == sent
        assert counters.get(Count.MESSAGES_UNACCEPTABLE) == 3
        assert not publisher.outage.down
        wait_for(lambda: publisher.ready)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3, lines
    for line, body in zip(lines, ("bad 50", "bad alone", "bad 200"), strict=True):
        assert "message given up" in line
        assert body in line
        assert f"routing_key={KEY}" in line
        assert line.isprintable()


def test_a_broker_that_takes_nothing_any_more_loses_nothing_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    refusing = threading.Event()
    picky = Picky(lambda body: not refusing.is_set())
    counters = Counters()
    with RogueBroker(picky) as broker, publisher_at(broker, counters=counters) as publisher:
        wait_for(lambda: publisher.ready)
        refusing.set()
        sender = Sender(publisher)
        for _ in range(100):
            sender.send(3)
        assert sender.outcomes().keys() == {Outcome.REFUSED}
        assert counters.get(Count.MESSAGES_UNACCEPTABLE) == 0
        assert picky.closed < 30
        refusing.clear()
        wait_for(lambda: publisher.ready)
        again = sender.send()
        wait_for(lambda: sender.told[again] == [Outcome.CONFIRMED])
    lines = [record.getMessage() for record in caplog.records]
    assert lines
    assert all("the broker refuses message after message" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_port_of_another_protocol_is_said_with_host_and_port() -> None:
    with RogueBroker(BEFORE_READY["speaks MySQL"][0]) as broker, publisher_at(broker) as publisher:
        wait_for(lambda: publisher.outage.down)
        assert publisher.outage.last_error.startswith(f"{broker.host}:{broker.port}: this port does not speak AMQP 0-9-1")
        assert publisher.outage.last_error.endswith("(RMQ_PORT, RMQ_TLS)")


# The whole collector


def resident_mib_of(collector: Collector) -> float:
    lines = Path(f"/proc/{collector.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def test_a_collector_outlives_one_rogue_after_the_other_and_ends_in_good_order(new_rig: Callable[..., Rig]) -> None:
    rig = new_rig(8)
    with RogueBroker(good) as broker:
        collector = rig.start("run", RMQ_PORT=broker.port, POLL_INTERVAL=1, INITIAL_LOOKBACK=60)
        collector.wait_for_cycles(1)
        memory_mib = resident_mib_of(collector)
        rogues: list[Script] = [
            BEFORE_READY["a frame of 4 GB"][0],
            BEFORE_READY["no confirms"][0],
            BEFORE_READY["a table that is nested without end"][0],
            then(Peer.be_ready, ONCE_READY["a returned message without end"][0]),
            then(Peer.be_ready, lambda peer: peer.flood(FLOODS["heartbeats"] * 2000)),
        ]
        for rogue in rogues:
            connections, broker.script = broker.connections, rogue
            broker.hang_up()
            collector.wait_for(lambda before=connections: broker.connections > before, what="another connection")  # type: ignore[misc]
            time.sleep(1)
            assert collector.running
            assert resident_mib_of(collector) - memory_mib < GROWTH_MIB
        assert collector.terminate(8) == 0
    assert "unexpected" not in collector.log
    assert max(len(line) for line in collector.log.splitlines()) < LONGEST_LINE
    assert all(line.isprintable() for line in collector.log.splitlines())
