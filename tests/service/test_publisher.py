"""What every publisher promises (contracts.Publisher), and what RabbitMQ's own promises."""

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from collector.amqp import AmqpPublisher
from collector.config import Secret
from collector.contracts import Batch, Outcome, Publisher
from collector.errors import ConfigurationError, NoExchangeError
from collector.model import Message
from collector.stdout import StdoutPublisher
from collector.stop import Stop
from collector.tally import Tally
from tests.servers.certificates import Certificates
from tests.servers.rabbitmq import EXCHANGE, RabbitServer, Vhost, free_ports
from tests.service.sending import KEY, Sender, publisher_on, settings_of, wait_for


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


# Refusals: what only the operator can mend, named by its variable, and mended without a restart


def refusal_of(publisher: Publisher) -> ConfigurationError:
    wait_for(lambda: publisher.refusal, what="refusal")
    assert publisher.refusal is not None
    assert not publisher.ready
    assert publisher.outage.last_error == str(publisher.refusal)
    return publisher.refusal


def test_a_refused_login_names_its_variables_and_heals(
    rabbit: RabbitServer, vhost: Vhost, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "password"
    file.write_text("not-the-secret\n")
    password = Secret(file=str(file), variable="RMQ_PASS_FILE")
    with caplog.at_level(logging.DEBUG), publisher_on(vhost, ready=False, password=password) as publisher:
        assert "RMQ_USER and RMQ_PASS" in str(refusal_of(publisher))
        file.write_text(vhost.password + "\n")
        wait_for(lambda: publisher.ready)
        assert publisher.refusal is None
        assert not publisher.outage.down
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert not any(secret in line for line in lines for secret in ("not-the-secret", vhost.password))


def test_a_password_file_that_is_gone_is_a_refusal(vhost: Vhost, tmp_path: Path) -> None:
    password = Secret(file=str(tmp_path / "none"), variable="RMQ_PASS_FILE")
    with publisher_on(vhost, ready=False, password=password) as publisher:
        assert "RMQ_PASS_FILE" in str(refusal_of(publisher))


def test_a_vhost_that_is_not_there_or_not_allowed_names_its_variable(rabbit: RabbitServer, vhost: Vhost) -> None:
    with publisher_on(vhost, ready=False, vhost="nowhere") as publisher:
        assert str(refusal_of(publisher)) == "vhost 'nowhere' refused, there is no such vhost: see RMQ_VHOST"
    other = rabbit.fresh_vhost()
    with publisher_on(vhost, ready=False, vhost=other.name) as publisher:
        assert "has no access to it: see RMQ_VHOST" in str(refusal_of(publisher))
    rabbit.remove_vhost(other)


def test_a_missing_exchange_names_its_variable_and_heals(rabbit: RabbitServer) -> None:
    vhost = rabbit.fresh_vhost(exchange=None)
    with publisher_on(vhost, ready=False) as publisher:
        refusal = refusal_of(publisher)
        assert isinstance(refusal, NoExchangeError)
        assert "RMQ_EXCHANGE" in str(refusal)
        rabbit.declare_exchange(vhost)
        wait_for(lambda: publisher.ready)
        assert publisher.refusal is None
    rabbit.remove_vhost(vhost)


def test_a_missing_exchange_is_declared_when_that_is_wanted(rabbit: RabbitServer) -> None:
    vhost = rabbit.fresh_vhost(exchange=None)
    with publisher_on(vhost, exchange="mine", declare=True) as publisher:
        assert publisher.refusal is None
    with rabbit.channel(vhost) as channel:
        channel.exchange_declare("mine", "topic", durable=True)  # raises when it were of another kind
    rabbit.remove_vhost(vhost)


def test_a_declaration_that_is_not_allowed_says_so(rabbit: RabbitServer) -> None:
    vhost = rabbit.fresh_vhost(exchange=None)
    rabbit.set_permissions(vhost, configure="")
    with publisher_on(vhost, ready=False, declare=True) as publisher:
        assert "RMQ_DECLARE" in str(refusal_of(publisher))
    rabbit.remove_vhost(vhost)


def test_hosts_are_tried_in_turn_before_any_delay(vhost: Vhost) -> None:
    for _ in range(4):  # the order is random
        began = time.monotonic()
        with publisher_on(vhost, hosts=("127.0.0.1", "127.0.0.77", "no-such-host.invalid")) as publisher:
            assert time.monotonic() - began < 5
            assert not publisher.outage.down
            assert publisher.outage.last_error == ""


def test_a_broker_that_is_not_there_is_an_outage_with_the_reason(vhost: Vhost) -> None:
    (port,) = free_ports(1)
    with publisher_on(vhost, ready=False, port=port) as publisher:
        wait_for(lambda: publisher.outage.down)
        assert publisher.outage.last_error == f"127.0.0.1:{port}: Connection refused"
        assert publisher.refusal is None
        sender = Sender(publisher)
        sender.send()
        publisher.withdraw()
        assert sender.outcomes() == {Outcome.LOST: 1}
        sender.send()
    assert sender.outcomes() == {Outcome.LOST: 2}


def test_a_publisher_that_was_never_started_loses_its_batches_when_closed(vhost: Vhost) -> None:
    publisher = AmqpPublisher(settings_of(vhost), EXCHANGE, Stop(), Tally())
    sender = Sender(publisher)
    sender.send()
    publisher.close(1.0)
    sender.send()
    assert sender.outcomes() == {Outcome.LOST: 2}


# TLS


def test_tls_with_a_verified_peer_and_a_client_certificate(
    rabbit: RabbitServer, vhost: Vhost, certificates: Certificates
) -> None:
    files: dict[str, Any] = {"cert_file": certificates.client, "key_file": certificates.client_key}
    with publisher_on(vhost, tls=True, port=rabbit.tls_port, ca_file=certificates.authority, **files) as publisher:
        sender = Sender(publisher)
        sender.send_many(300)
        assert sender.outcomes() == {Outcome.CONFIRMED: 300}
        subject = "[rabbit_networking:connection_info(P, [peer_cert_subject]) || P <- rabbit_networking:connections()]"
        assert "CN=client" in rabbit.eval(f'lists:flatten(io_lib:format("~p", [{subject}]))')


def test_tls_refuses_a_peer_that_is_not_verified(rabbit: RabbitServer, vhost: Vhost, certificates: Certificates) -> None:
    for changes in ({"ca_file": certificates.stranger}, {"ca_file": certificates.authority, "hosts": ("localhost",)}):
        with publisher_on(vhost, ready=False, tls=True, port=rabbit.tls_port, **changes) as publisher:
            wait_for(lambda: publisher.outage.down)
            assert "certificate not accepted" in publisher.outage.last_error
            assert "RMQ_CA_FILE" in publisher.outage.last_error


def test_plain_and_tls_ports_that_are_mixed_up_are_named(rabbit: RabbitServer, vhost: Vhost, certificates: Certificates) -> None:
    for changes in ({"port": rabbit.tls_port}, {"tls": True, "ca_file": certificates.authority}):
        with publisher_on(vhost, ready=False, **changes) as publisher:
            wait_for(lambda: publisher.outage.down)
            assert "RMQ_PORT, RMQ_TLS" in publisher.outage.last_error


def test_a_certificate_that_cannot_be_read_is_a_refusal(vhost: Vhost, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with publisher_on(vhost, ready=False, tls=True, ca_file=str(file)) as publisher:
        assert "RMQ_CA_FILE" in str(refusal_of(publisher))
    with publisher_on(vhost, ready=False, tls=True, cert_file=str(file), key_file=str(file)) as publisher:
        assert "RMQ_CERT_FILE" in str(refusal_of(publisher))
