"""Faults of RabbitMQ while messages are in flight: nothing that counts as confirmed is missing, and all of it heals."""

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

import collector.bus.connection
from collector.bus.confirms import Confirms
from collector.bus.connection import Connection
from collector.bus.driver import Loop
from collector.bus.publisher import AmqpPublisher
from collector.core.contracts import Batch, Outcome
from collector.core.counters import Count, Counters
from collector.core.errors import CollectorError
from collector.core.model import Message
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from tests.servers.rabbitmq import RabbitServer, Vhost
from tests.service.sending import KEY, QUICK, Sender, publisher_on, settings_of, wait_for


@pytest.fixture
def vhost(rabbit: RabbitServer) -> Iterator[Vhost]:
    """A vhost with a durable queue for everything."""
    vhost = rabbit.fresh_vhost()
    rabbit.declare_queue(vhost, "all", durable=True)
    rabbit.declare_exchange(vhost, "unbound")
    yield vhost
    rabbit.remove_vhost(vhost)


@contextmanager
def sending(publisher: AmqpPublisher, *allowed: Outcome) -> Iterator[Sender]:
    """Publishes all the while, with at most 50 batches in flight; at the end all are confirmed, or else what is allowed."""
    sender, over = Sender(publisher), threading.Event()

    def publish() -> None:
        while not over.wait(0.005):
            if sender.untold < 50:
                sender.send(20)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield sender
    finally:
        over.set()
        thread.join()
    assert sender.outcomes().keys() <= {Outcome.CONFIRMED, *allowed}


def confirmed(sender: Sender) -> int:
    return len(sender.confirmed_ids())


def wait_for_progress(sender: Sender, messages: int = 100) -> None:
    target = confirmed(sender) + messages
    wait_for(lambda: confirmed(sender) >= target, 30.0, "more confirms")


def assert_nothing_is_missing(rabbit: RabbitServer, vhost: Vhost, sender: Sender) -> None:
    """All that was confirmed is in the queue, in its order when repetitions are left out."""
    arrived = [each.message_id for each in rabbit.drain(vhost, "all")]
    assert list(dict.fromkeys(arrived)) == sender.confirmed_ids()


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_nothing_is_lost_when_the_broker_closes_the_connection_ten_times(rabbit: RabbitServer, vhost: Vhost) -> None:
    counters = Counters()
    with publisher_on(vhost, counters=counters) as publisher, sending(publisher) as sender:
        for closed in range(10):
            time.sleep(random.uniform(0, 0.05))  # somewhere in mid-publish
            assert rabbit.close_connections(vhost) == 1
            wait_for(lambda closed=closed: counters.get(Count.RECONNECTS, "rabbitmq") > closed)  # type: ignore[misc]
    assert counters.get(Count.RECONNECTS, "rabbitmq") == 10
    assert_nothing_is_missing(rabbit, vhost, sender)


def test_nothing_is_lost_when_the_broker_is_stopped_or_killed_and_started(
    rabbit: RabbitServer, vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    with publisher_on(vhost) as publisher, sending(publisher) as sender:
        for end in (rabbit.stop, rabbit.kill):
            wait_for_progress(sender)
            end()
            wait_for(lambda: publisher.outage.down)
            assert not publisher.ready
            rabbit.start()
            wait_for_progress(sender)
            wait_for(lambda: not publisher.outage.down)
    assert publisher.refusal is None
    assert_nothing_is_missing(rabbit, vhost, sender)
    assert [line.split(" error=")[0].split(" seconds=")[0] for line in lines_of(caplog)] == [
        "RabbitMQ is not available",
        "RabbitMQ is available again",
    ] * 2


def test_a_frozen_broker_is_noticed_and_thawed_it_gets_the_rest(rabbit: RabbitServer, vhost: Vhost) -> None:
    with publisher_on(vhost) as idle, publisher_on(vhost) as publisher, sending(publisher) as sender:
        wait_for_progress(sender)
        with rabbit.frozen():
            wait_for(lambda: publisher.outage.down)
            assert publisher.outage.last_error == "no confirms for 2 s"
            wait_for(lambda: "no answer in time" in publisher.outage.last_error)
            wait_for(lambda: idle.outage.down)
            assert "missed heartbeats" in idle.outage.last_error
        wait_for_progress(sender)
        wait_for(lambda: idle.ready)
    assert_nothing_is_missing(rabbit, vhost, sender)


def test_closing_takes_no_longer_than_allowed_when_the_broker_is_frozen(rabbit: RabbitServer, vhost: Vhost) -> None:
    with publisher_on(vhost) as publisher:
        sender = Sender(publisher)
        with rabbit.frozen():
            sender.send()
            began = time.monotonic()
            publisher.close(1.0)
            assert time.monotonic() - began < 1.2
        assert sender.outcomes(0.1) == {Outcome.LOST: 1}


@pytest.mark.parametrize("patience_s", [60.0, 0.5], ids=["waits", "connects anew"])
def test_a_blocked_publisher_says_so_once_and_goes_on_when_it_is_unblocked(
    rabbit: RabbitServer, vhost: Vhost, caplog: pytest.LogCaptureFixture, patience_s: float
) -> None:
    timing, counters = replace(QUICK, blocked=patience_s, confirm=1.0), Counters()
    with publisher_on(vhost, timing=timing, counters=counters) as publisher, sending(publisher) as sender:
        wait_for_progress(sender)
        rabbit.alarm(True)
        try:
            wait_for(lambda: publisher.outage.down)
            assert "blocked by the broker" in publisher.outage.last_error
            if patience_s < 1:
                wait_for(lambda: counters.get(Count.RECONNECTS, "rabbitmq") >= 2)
            else:
                time.sleep(2 * timing.confirm)  # a blocked broker owes no confirms
                assert not publisher.ready
            assert publisher.outage.down
            assert len(lines_of(caplog)) == 1
        finally:
            rabbit.alarm(False)
        wait_for_progress(sender)
        wait_for(lambda: not publisher.outage.down)
        assert publisher.ready
    assert_nothing_is_missing(rabbit, vhost, sender)
    assert len(lines_of(caplog)) == 2


def test_a_publisher_that_is_unblocked_while_it_disconnects_ends_in_good_order(
    rabbit: RabbitServer, vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    with publisher_on(vhost) as publisher:
        sender = Sender(publisher)
        rabbit.alarm(True)
        try:
            # what is sent before the alarm has come to this connection is confirmed
            wait_for(lambda: (sender.send(), publisher.outage.down)[1])
            sender.send()
            closing = threading.Thread(target=publisher.close, args=(8.0,))
            closing.start()
            wait_for(lambda: publisher._ended)
        finally:
            rabbit.alarm(False)
        closing.join()
    outcomes = sender.outcomes(0.1)
    assert outcomes[Outcome.LOST] >= 1
    assert outcomes.keys() <= {Outcome.LOST, Outcome.CONFIRMED}
    assert "unexpected error" not in caplog.text


def test_an_exchange_that_is_deleted_is_a_refusal_until_it_is_declared_again(
    rabbit: RabbitServer, vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    with publisher_on(vhost) as publisher, sending(publisher, Outcome.RETURNED) as sender:
        wait_for_progress(sender)
        rabbit.delete_exchange(vhost)
        wait_for(lambda: publisher.refusal)
        assert not publisher.ready
        assert "RMQ_EXCHANGE" in publisher.outage.last_error
        rabbit.declare_exchange(vhost)
        rabbit.declare_queue(vhost, "all", durable=True)  # bound again, a moment later
        wait_for(lambda: publisher.refusal is None)
        wait_for_progress(sender)
    assert len(lines_of(caplog)) == 2


def test_a_permission_that_is_revoked_is_one_outage_until_it_is_given_back(
    rabbit: RabbitServer, vhost: Vhost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []
    failed = Outage.failed

    def count(outage: Outage, error: str | CollectorError) -> None:
        failures.append(str(error))
        failed(outage, error)

    monkeypatch.setattr(Outage, "failed", count)
    with publisher_on(vhost) as publisher, sending(publisher) as sender:
        wait_for_progress(sender)
        rabbit.set_permissions(vhost, write="")
        rabbit.close_connections(vhost)  # a busy channel goes on with what it was allowed
        wait_for(lambda: any("publishing refused" in each for each in failures))
        said = len(lines_of(caplog))
        wait_for(lambda: sum("publishing refused" in each for each in failures) >= 4)
        assert publisher.outage.down
        assert len(lines_of(caplog)) == said
        rabbit.set_permissions(vhost)
        wait_for_progress(sender)
        wait_for(lambda: not publisher.outage.down)
    assert_nothing_is_missing(rabbit, vhost, sender)
    assert len(lines_of(caplog)) == said + 1


def test_delays_grow_while_connecting_works_and_publishing_does_not(
    rabbit: RabbitServer, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    rabbit.set_permissions(vhost, write="")
    delays: list[float] = []

    def exactly(seconds: float) -> float:
        delays.append(seconds)
        return seconds

    monkeypatch.setattr(collector.bus.connection, "jittered", exactly)
    with publisher_on(vhost) as publisher:
        sender = Sender(publisher)
        sender.send()
        wait_for(lambda: len(delays) >= 5)
        assert delays[:5] == [0.1, 0.2, 0.4, 0.4, 0.4]
        rabbit.set_permissions(vhost)
        assert sender.outcomes() == {Outcome.CONFIRMED: 1}
        rabbit.close_connections(vhost)
        wait_for(lambda: delays[-1] == 0.1)


def test_what_is_withdrawn_while_the_broker_is_away_is_lost_and_not_sent_later(rabbit: RabbitServer, vhost: Vhost) -> None:
    with publisher_on(vhost) as publisher:
        sender = Sender(publisher)
        with rabbit.frozen():
            for _ in range(10):
                sender.send()
            wait_for(lambda: publisher.outage.down)
            for _ in range(10):
                sender.send()
            publisher.withdraw()
            assert sender.outcomes() == {Outcome.LOST: 20}
        wait_for(lambda: publisher.ready)
        sender.send()
        assert sender.outcomes() == {Outcome.LOST: 20, Outcome.CONFIRMED: 1}
    arrived = {each.message_id for each in rabbit.drain(vhost, "all")}
    assert arrived & {each for ids in sender.ids[10:20] for each in ids} == set()
    assert set(sender.ids[20]) <= arrived


def test_an_unexpected_error_ends_the_run_and_loses_what_is_pending(
    vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(_: Outcome) -> None:
        raise RuntimeError("unforeseen")

    stop = Stop()
    publisher = AmqpPublisher(settings_of(vhost), "osg.psdata.raw", stop, Counters(), QUICK)
    publisher.start()
    wait_for(lambda: publisher.ready)
    sender = Sender(publisher)
    publisher.publish(Batch(KEY, [Message("0" * 40, b"{}")], explode))
    wait_for(stop.is_set)
    assert isinstance(stop.failure, RuntimeError)
    sender.send()
    assert sender.outcomes(5.0) == {Outcome.LOST: 1}
    assert not publisher.ready
    publisher.close(1.0)
    assert "thread=publisher" in caplog.text


@pytest.mark.parametrize(
    ("owner", "step"),
    [(Connection, "_opened"), (Connection, "_exchange_found"), (Confirms, "mark_returned"), (Confirms, "settle")],
)
def test_an_error_while_dealing_with_pika_ends_the_run_and_poses_as_nothing_else(
    vhost: Vhost, monkeypatch: pytest.MonkeyPatch, owner: type, step: str
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(owner, step, explode)
    stop = Stop()
    publisher = AmqpPublisher(settings_of(vhost), "unbound", stop, Counters(), QUICK)
    publisher.start()
    sender = Sender(publisher)
    sender.send()
    assert sender.outcomes() == {Outcome.LOST: 1}
    assert isinstance(stop.failure, RuntimeError)
    assert not publisher.outage.down
    publisher.close(1.0)


def test_an_error_that_nobody_foresaw_in_pika_is_an_outage_with_its_traceback_at_debug(
    vhost: Vhost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors, turn = iter([AttributeError("unforeseen")]), Loop.turn

    def fail_once(loop: Loop) -> None:
        for error in errors:
            raise error
        turn(loop)

    with caplog.at_level(logging.DEBUG), publisher_on(vhost) as publisher:
        monkeypatch.setattr(Loop, "turn", fail_once)
        wait_for(lambda: "the broker behaves as none does: AttributeError unforeseen" in caplog.text)
        wait_for(lambda: publisher.ready)
    assert [record.levelname for record in caplog.records if record.exc_info] == ["DEBUG"]


def test_pika_says_nothing_of_its_own(rabbit: RabbitServer, vhost: Vhost, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), publisher_on(vhost) as publisher:
        rabbit.close_connections(vhost)
        wait_for(lambda: publisher.outage.down)
        wait_for(lambda: publisher.ready)
    assert {record.name for record in caplog.records} == {"collector.core.outage"}
