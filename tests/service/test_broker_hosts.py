"""What `check` finds out about each broker, without a message that arrives and without anything that stays."""

from collections.abc import Iterator

import pika.spec as spec
import pytest

from collector.bus.hosts import HostFinding, look_at_hosts
from collector.config.systems import Secret
from collector.core.errors import ConfigurationError, NoExchangeError, UnavailableError
from tests.servers.rabbitmq import EXCHANGE, RabbitServer, Vhost
from tests.servers.rogue_broker import Peer, RogueBroker
from tests.service.sending import settings_of

KEYS = ("esnet_traffic", "esnet_interfaces")


@pytest.fixture
def vhost(rabbit: RabbitServer) -> Iterator[Vhost]:
    """A vhost with a queue for everything."""
    vhost = rabbit.fresh_vhost(["all"])
    yield vhost
    rabbit.remove_vhost(vhost)


def test_a_user_who_may_publish_is_fine_and_nothing_is_delivered(rabbit: RabbitServer, vhost: Vhost) -> None:
    rabbit.set_permissions(vhost, configure="", read="")
    assert look_at_hosts(settings_of(vhost), EXCHANGE, KEYS) == [HostFinding(vhost.host, vhost.port)]
    rabbit.set_permissions(vhost)
    assert rabbit.queue_length(vhost, "all") == 0


def test_every_host_is_tried_and_stands_for_itself(vhost: Vhost) -> None:
    settings = settings_of(vhost, hosts=("nosuch.example.invalid", vhost.host, "127.0.0.77"))
    first, second, third = look_at_hosts(settings, EXCHANGE, KEYS)
    assert [each.host for each in (first, second, third)] == list(settings.hosts)
    assert second.error is None
    assert isinstance(first.error, UnavailableError)
    assert "known" in str(first.error)
    assert str(third.error) == "Connection refused (RMQ_HOST, RMQ_PORT)"


def test_a_user_who_may_not_publish_is_named_with_the_exchange(rabbit: RabbitServer, vhost: Vhost) -> None:
    rabbit.set_permissions(vhost, write="")
    (found,) = look_at_hosts(settings_of(vhost), EXCHANGE, KEYS)
    assert isinstance(found.error, ConfigurationError)
    assert f"publishing refused to user {vhost.user!r} at exchange {EXCHANGE!r}" in str(found.error)


def test_an_internal_exchange_is_named(rabbit: RabbitServer, vhost: Vhost) -> None:
    with rabbit.channel(vhost) as channel:
        channel.exchange_declare("inside", "topic", internal=True)
    (found,) = look_at_hosts(settings_of(vhost), "inside", KEYS)
    assert isinstance(found.error, ConfigurationError)
    assert "internal exchange 'inside'" in str(found.error)


def test_a_missing_exchange_a_login_and_a_vhost_are_told_apart(rabbit: RabbitServer, vhost: Vhost) -> None:
    (missing,) = look_at_hosts(settings_of(vhost, declare=True), "nosuch", KEYS)
    assert isinstance(missing.error, NoExchangeError)
    assert not rabbit.exchange_exists(vhost, "nosuch")
    (login,) = look_at_hosts(settings_of(vhost, password=Secret("wrong")), EXCHANGE, KEYS)
    assert "RMQ_USER and RMQ_PASS" in str(login.error)
    (place,) = look_at_hosts(settings_of(vhost, vhost="nosuch"), EXCHANGE, KEYS)
    assert "RMQ_VHOST" in str(place.error)


def test_a_broker_without_transactions_leaves_open_whether_the_user_may_publish(vhost: Vhost) -> None:
    def script(peer: Peer) -> None:
        peer.open_connection()
        peer.await_method(spec.Channel.Open)
        peer.method(spec.Channel.OpenOk())
        peer.await_method(spec.Exchange.Declare)
        peer.method(spec.Exchange.DeclareOk())
        peer.await_method(spec.Tx.Select)
        peer.method(spec.Connection.Close(540, "NOT_IMPLEMENTED", 90, 10), 0)
        peer.await_method(spec.Connection.CloseOk)

    with RogueBroker(script) as broker:
        (found,) = look_at_hosts(settings_of(vhost, port=broker.port), EXCHANGE, KEYS)
    assert found.error is None
    assert "shows only when publishing" in str(found.unsure)


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-\x1b[2J\r\n", b"\0" * 100], ids=["nothing", "ssh", "zeros"])
def test_whatever_answers_in_place_of_a_broker_is_one_short_line_in_time(vhost: Vhost, says: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.send(says)
        peer.read()

    with RogueBroker(script) as broker:
        (found,) = look_at_hosts(settings_of(vhost, port=broker.port), EXCHANGE, KEYS, timeout_s=1.0)
    assert isinstance(found.error, UnavailableError)
    assert str(found.error).isprintable()
    assert len(str(found.error)) < 300
