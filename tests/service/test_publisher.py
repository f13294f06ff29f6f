"""What every publisher promises (contracts.Publisher), and what RabbitMQ's own promises."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from collector.bus.stdout import StdoutPublisher
from collector.core.contracts import Batch, Outcome, Publisher
from collector.core.model import Message
from collector.core.shutdown import Stop
from tests.servers.rabbitmq import EXCHANGE, RabbitServer, Vhost
from tests.service.sending import KEY, Sender, publisher_on, wait_for


class Case(NamedTuple):
    """A publisher that runs, and what a consumer has got of it: routing keys, ids and bodies."""

    publisher: Publisher
    received: Callable[[], list[tuple[str, str, object]]]


@pytest.fixture
def vhost(rabbit: RabbitServer) -> Iterator[Vhost]:
    """A vhost with a queue for everything."""
    vhost = rabbit.fresh_vhost(["all"])
    yield vhost
    rabbit.remove_vhost(vhost)


@pytest.fixture(params=["rabbitmq", "stdout"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Each publisher in turn."""
    if request.param == "stdout":
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        printing = StdoutPublisher(EXCHANGE, Stop(), stream)
        printing.start()

        def lines() -> list[tuple[str, str, object]]:
            objects = [json.loads(line) for line in stream.buffer.getvalue().splitlines()]
            assert all(each["exchange"] == EXCHANGE for each in objects)
            return [(each["routing_key"], each["message_id"], each["body"]) for each in objects]

        yield Case(printing, lines)
        return
    rabbit: RabbitServer = request.getfixturevalue("rabbit")
    vhost: Vhost = request.getfixturevalue("vhost")
    with publisher_on(vhost) as publisher:
        yield Case(
            publisher, lambda: [(each.routing_key, each.message_id, json.loads(each.body)) for each in rabbit.drain(vhost, "all")]
        )


# Every publisher


def test_a_confirmed_batch_has_arrived_in_order_with_its_ids_and_bodies(case: Case) -> None:
    told: list[Outcome] = []
    messages = [Message(f"{number:040d}", json.dumps({"n": number, "text": "Zürich"}).encode()) for number in range(100)]
    case.publisher.publish(Batch("esnet_interfaces", messages, told.append))
    wait_for(lambda: told)
    assert told == [Outcome.CONFIRMED]
    expected = [("esnet_interfaces", each.message_id, json.loads(each.body)) for each in messages]
    assert case.received() == expected


def test_an_empty_batch_is_an_error_of_the_caller(case: Case) -> None:
    with pytest.raises(ValueError, match="empty"):
        case.publisher.publish(Batch(KEY, [], lambda _: None))


def test_batches_of_several_threads_are_each_told_once(case: Case) -> None:
    sender = Sender(case.publisher)
    threads = [threading.Thread(target=sender.send_many, args=(50, 20)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sender.outcomes() == {Outcome.CONFIRMED: 200}
    received = [message_id for _, message_id, _ in case.received()]
    assert sorted(received) == sorted(sender.confirmed_ids())


def test_closing_waits_for_the_confirms_of_what_was_handed_over(case: Case) -> None:
    sender = Sender(case.publisher)
    for _ in range(200):
        sender.send(20)
    case.publisher.close(10.0)
    assert sender.untold == 0
    assert sender.outcomes() == {Outcome.CONFIRMED: 200}
    assert len(case.received()) == 4000


def test_after_closing_nothing_is_ready_and_batches_are_lost(case: Case) -> None:
    case.publisher.close(2.0)
    case.publisher.close(2.0)
    assert not case.publisher.ready
    sender = Sender(case.publisher)
    sender.send()
    assert sender.told == {0: [Outcome.LOST]}
    case.publisher.withdraw()


def test_a_publisher_goes_on_after_withdrawing(case: Case) -> None:
    sender = Sender(case.publisher)
    for _ in range(100):
        sender.send(20)
    case.publisher.withdraw()
    last = sender.send()
    outcomes = sender.outcomes()
    assert outcomes.keys() <= {Outcome.CONFIRMED, Outcome.LOST}
    assert sender.told[last] == [Outcome.CONFIRMED]


def test_a_publisher_that_works_is_up(case: Case) -> None:
    assert case.publisher.ready
    assert case.publisher.refusal is None
    assert case.publisher.outage.up_once
    assert not case.publisher.outage.down


# RabbitMQ


def test_messages_are_persistent_json_of_this_application(rabbit: RabbitServer, vhost: Vhost) -> None:
    with publisher_on(vhost) as publisher:
        sender = Sender(publisher)
        sender.send(1)
        assert sender.outcomes() == {Outcome.CONFIRMED: 1}
    (delivered,) = rabbit.drain(vhost, "all")
    properties = delivered.properties
    assert (properties.content_type, properties.delivery_mode, properties.app_id) == ("application/json", 2, "esnet-collector")
    assert properties.message_id == sender.ids[0][0]


def test_a_message_of_several_frames_arrives_whole(rabbit: RabbitServer, vhost: Vhost) -> None:
    told: list[Outcome] = []
    body = b'"' + b"x" * 400_000 + b'"'
    with publisher_on(vhost) as publisher:
        publisher.publish(Batch(KEY, [Message("0" * 40, body)], told.append))
        wait_for(lambda: told)
    assert [each.body for each in rabbit.drain(vhost, "all")] == [body]


@pytest.mark.parametrize("key", ["x" * 256, "\ud800"], ids=["long", "lone surrogate"])
def test_a_routing_key_that_amqp_cannot_carry_is_an_error_of_the_caller(vhost: Vhost, key: str) -> None:
    with publisher_on(vhost) as publisher:
        with pytest.raises(ValueError, match=r"at most 255|surrogates"):
            publisher.publish(Batch(key, [Message("0" * 40, b"{}")], lambda _: None))
        assert publisher.ready


def test_a_key_that_no_queue_takes_returns_its_batches_and_no_others(rabbit: RabbitServer) -> None:
    vhost = rabbit.fresh_vhost({"traffic": KEY})
    with publisher_on(vhost) as publisher:
        sender = Sender(publisher)
        for key in (KEY, "nobody") * 20:
            sender.send(3, key)
        assert sender.outcomes() == {Outcome.CONFIRMED: 20, Outcome.RETURNED: 20}
        assert all(sender.told[number] == [Outcome.CONFIRMED] for number in range(0, 40, 2))
        rabbit.declare_queue(vhost, "late", "nobody")
        sender.send(2, "nobody")
        assert sender.outcomes()[Outcome.CONFIRMED] == 21
    rabbit.remove_vhost(vhost)


def test_without_mandatory_what_no_queue_takes_is_confirmed(rabbit: RabbitServer) -> None:
    vhost = rabbit.fresh_vhost()
    with publisher_on(vhost, mandatory=False) as publisher:
        sender = Sender(publisher)
        sender.send()
        assert sender.outcomes() == {Outcome.CONFIRMED: 1}
    rabbit.remove_vhost(vhost)


def test_a_full_queue_refuses_the_batches_that_it_does_not_take(rabbit: RabbitServer) -> None:
    vhost = rabbit.fresh_vhost()
    rabbit.declare_queue(vhost, "full", arguments={"x-max-length": 25, "x-overflow": "reject-publish"})
    with publisher_on(vhost) as publisher:
        sender = Sender(publisher)
        for _ in range(5):
            sender.send(10)
        outcomes = sender.outcomes()
        # the queue may go a few messages beyond its length before it rejects
        assert outcomes[Outcome.CONFIRMED] >= 2
        assert outcomes[Outcome.REFUSED] >= 1
        assert outcomes.total() == 5
        assert publisher.ready
        rabbit.purge(vhost, "full")
        again = sender.send(10)
        sender.outcomes()
        assert sender.told[again] == [Outcome.CONFIRMED]
    rabbit.remove_vhost(vhost)


def test_a_lone_nack_refuses_its_batch_and_no_other(rabbit: RabbitServer) -> None:
    vhost = rabbit.fresh_vhost({"all": KEY})
    rabbit.declare_queue(vhost, "full", "poison", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    rabbit.declare_queue(vhost, "also", "poison")
    with publisher_on(vhost) as publisher:
        sender = Sender(publisher)
        sender.send(1, "poison")
        sender.outcomes()
        for _ in range(20):
            sender.send(5)
            sender.send(1, "poison")
        sender.outcomes()
        assert [sender.told[number] for number in range(1, 41)] == [[Outcome.CONFIRMED], [Outcome.REFUSED]] * 20
    rabbit.remove_vhost(vhost)


def test_a_user_who_may_only_write_publishes(rabbit: RabbitServer, vhost: Vhost) -> None:
    rabbit.set_permissions(vhost, configure="", read="")
    with publisher_on(vhost, declare=True) as publisher:
        sender = Sender(publisher)
        sender.send()
        assert sender.outcomes() == {Outcome.CONFIRMED: 1}
    rabbit.set_permissions(vhost)
