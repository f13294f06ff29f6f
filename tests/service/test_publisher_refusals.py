"""What keeps the publisher from RabbitMQ: named by its variable where an operator can mend it, and mended without a restart."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.bus.publisher import AmqpPublisher
from collector.config.systems import Secret
from collector.core.contracts import Outcome, Publisher
from collector.core.counters import Count, Counters
from collector.core.errors import ConfigurationError, NoExchangeError
from collector.core.shutdown import Stop
from tests.servers.certificates import Certificates
from tests.servers.ports import free_port
from tests.servers.rabbitmq import EXCHANGE, RabbitServer, Vhost
from tests.service.sending import Sender, publisher_on, settings_of, wait_for


@pytest.fixture
def vhost(rabbit: RabbitServer) -> Iterator[Vhost]:
    """A vhost with a queue for everything."""
    vhost = rabbit.fresh_vhost(["all"])
    yield vhost
    rabbit.remove_vhost(vhost)


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
    # a refusal before anything has worked is said by the program's end, or here by whoever asks
    assert [line for line in lines if line.startswith("RabbitMQ is ")] == ["RabbitMQ is available again seconds=0"]
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
    port = free_port()
    with publisher_on(vhost, ready=False, port=port) as publisher:
        wait_for(lambda: publisher.outage.down)
        assert publisher.outage.last_error == f"127.0.0.1:{port}: Connection refused (RMQ_HOST, RMQ_PORT)"
        assert publisher.refusal is None
        sender = Sender(publisher)
        sender.send()
        publisher.withdraw()
        assert sender.outcomes() == {Outcome.LOST: 1}
        sender.send()
    assert sender.outcomes() == {Outcome.LOST: 2}


def test_a_publisher_that_was_never_started_loses_its_batches_when_closed(vhost: Vhost) -> None:
    publisher = AmqpPublisher(settings_of(vhost), EXCHANGE, Stop(), Counters())
    sender = Sender(publisher)
    sender.send()
    publisher.close(1.0)
    sender.send()
    assert sender.outcomes() == {Outcome.LOST: 2}


# Messages that are too large for the broker


def test_a_message_over_the_size_that_the_broker_takes_is_given_up_and_the_others_arrive(
    rabbit: RabbitServer, vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    usual = rabbit.eval("begin {ok, S} = application:get_env(rabbit, max_message_size), S end")
    rabbit.eval("application:set_env(rabbit, max_message_size, 1000)")
    try:
        with publisher_on(vhost, counters=counters) as publisher:
            sender = Sender(publisher)
            for number in range(400):
                if number in (100, 250):
                    sender.send(1, body=b'"' + b"x" * 5000 + b'"')
                sender.send(20)
            assert sender.outcomes() == {Outcome.CONFIRMED: 400, Outcome.UNACCEPTABLE: 2}
            assert not publisher.outage.down
    finally:
        rabbit.eval(f"application:set_env(rabbit, max_message_size, {usual})")
    arrived = [each.message_id for each in rabbit.drain(vhost, "all")]
    assert list(dict.fromkeys(arrived)) == sender.confirmed_ids()
    assert counters.get(Count.MESSAGES_UNACCEPTABLE) == 2
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("message size 5002 is larger than configured max size 1000" in line for line in lines)


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
    mixed_up: dict[str, dict[str, Any]] = {
        "this port speaks TLS": {"port": rabbit.tls_port},
        "TLS failed": {"tls": True, "ca_file": certificates.authority},
    }
    for said, changes in mixed_up.items():
        with publisher_on(vhost, ready=False, **changes) as publisher:
            wait_for(lambda: publisher.outage.down)
            assert f"{vhost.host}:{changes.get('port', vhost.port)}: {said}" in publisher.outage.last_error
            assert "(RMQ_PORT, RMQ_TLS)" in publisher.outage.last_error


def test_a_certificate_that_cannot_be_read_is_a_refusal(vhost: Vhost, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with publisher_on(vhost, ready=False, tls=True, ca_file=str(file)) as publisher:
        assert "RMQ_CA_FILE" in str(refusal_of(publisher))
    with publisher_on(vhost, ready=False, tls=True, cert_file=str(file), key_file=str(file)) as publisher:
        assert "RMQ_CERT_FILE" in str(refusal_of(publisher))
