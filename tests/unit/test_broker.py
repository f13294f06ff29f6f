"""What an operator reads for each way in which pika says that there is no connection or no channel."""

import socket
import ssl
from pathlib import Path
from typing import Any

import pika.exceptions
import pytest
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorAMQPHandshakeError,
    AMQPConnectorSocketConnectError,
    AMQPConnectorStackTimeout,
    AMQPConnectorTransportSetupError,
)

from collector.bus.broker import WHERE, Timing, combined, explain, explain_channel, is_message_fault, parameters
from collector.config.systems import RabbitSettings, Secret
from collector.core.errors import CollectorError, ConfigurationError, NoExchangeError, UnavailableError

SETTINGS = RabbitSettings(hosts=("h",), port=5672, user="me", password=Secret("secret"), vhost="v")


def closed(code: int, text: str) -> str:
    return repr(pika.exceptions.ConnectionClosedByBroker(code, text))


def verification_failed() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "unable to get local issuer certificate"
    return error


def wrapped(error: Exception) -> Any:
    """As pika reports that no address of a host took a connection."""
    failed = AMQPConnectionWorkflowFailed([AMQPConnectorSocketConnectError(error)])
    return pika.exceptions.AMQPConnectionError(failed)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            pika.exceptions.ProbableAuthenticationError(closed(403, "ACCESS_REFUSED - Login was refused using PLAIN")),
            ConfigurationError,
            "login of user 'me' refused: see RMQ_USER and RMQ_PASS",
        ),
        (
            pika.exceptions.ProbableAuthenticationError(repr(pika.exceptions.StreamLostError("Transport indicated EOF"))),
            UnavailableError,
            "connection lost: StreamLostError: ('Transport indicated EOF',)",
        ),
        (
            pika.exceptions.ProbableAccessDeniedError(closed(530, "NOT_ALLOWED - vhost v not found")),
            ConfigurationError,
            "vhost 'v' refused, there is no such vhost: see RMQ_VHOST",
        ),
        (
            pika.exceptions.ProbableAccessDeniedError(closed(530, "NOT_ALLOWED - access to vhost 'v' refused for user 'me'")),
            ConfigurationError,
            "vhost 'v' refused, user 'me' has no access to it: see RMQ_VHOST",
        ),
        (
            pika.exceptions.ProbableAccessDeniedError(closed(530, "NOT_ALLOWED - connection limit (1) is reached")),
            UnavailableError,
            "closed by the broker: 530 NOT_ALLOWED - connection limit (1) is reached",
        ),
        (wrapped(ConnectionRefusedError(111, "Connection refused")), UnavailableError, "Connection refused (RMQ_HOST, RMQ_PORT)"),
        (wrapped(socket.gaierror(-2, "Name or service not known")), UnavailableError, f"Name or service not known{WHERE}"),
        (wrapped(TimeoutError("TCP connection attempt timed out: 'h'/(...)")), UnavailableError, f"no answer in time{WHERE}"),
        (wrapped(AMQPConnectorStackTimeout("Timeout while ...")), UnavailableError, f"no answer in time{WHERE}"),
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorAMQPHandshakeError(pika.exceptions.ConnectionOpenAborted("..."))]),
            UnavailableError,
            f"no answer in time{WHERE}",
        ),
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorTransportSetupError(verification_failed())]),
            UnavailableError,
            "certificate not accepted: unable to get local issuer certificate (RMQ_HOST, RMQ_CA_FILE)",
        ),
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorTransportSetupError(ssl.SSLError(1, "[SSL] wrong version number"))]),
            UnavailableError,
            "TLS failed: [SSL] wrong version number (RMQ_PORT, RMQ_TLS)",
        ),
        (
            pika.exceptions.IncompatibleProtocolError("..."),
            UnavailableError,
            "closed without speaking AMQP 0-9-1 (RMQ_PORT, RMQ_TLS)",
        ),
        (pika.exceptions.AuthenticationError("PLAIN"), UnavailableError, "login with user and password is not offered"),
        (pika.exceptions.ConnectionBlockedTimeout("..."), UnavailableError, "blocked for too long"),
        (
            pika.exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - bye"),
            UnavailableError,
            "closed by the broker: 320 CONNECTION_FORCED - bye",
        ),
        (pika.exceptions.StreamLostError("Transport EOF"), UnavailableError, "connection lost: Transport EOF"),
        (pika.exceptions.AMQPHeartbeatTimeout("No activity"), UnavailableError, "connection lost: No activity"),
        (pika.exceptions.StreamLostError(), UnavailableError, "connection lost: StreamLostError"),
        (None, UnavailableError, "connection lost: NoneType"),
    ],
)
def test_a_connection_that_is_not_there_is_explained_in_one_line(
    error: BaseException | None, kind: type[CollectorError], text: str
) -> None:
    explained = explain(error, SETTINGS)
    assert type(explained) is kind
    assert str(explained) == text


@pytest.mark.parametrize(
    ("code", "text", "declaring", "kind", "named"),
    [
        (404, "NOT_FOUND - no exchange 'e' in vhost 'v'", False, NoExchangeError, "RMQ_EXCHANGE"),
        (403, "ACCESS_REFUSED - access to exchange 'e' in vhost 'v' refused", True, ConfigurationError, "RMQ_DECLARE"),
        (
            403,
            "ACCESS_REFUSED - access to exchange 'e' in vhost 'v' refused",
            False,
            ConfigurationError,
            "user 'me' at exchange 'e'",
        ),
        (403, "ACCESS_REFUSED - cannot publish to internal exchange 'e'", False, ConfigurationError, "internal exchange 'e'"),
        (406, "PRECONDITION_FAILED - message size is too large", False, UnavailableError, "message size"),
    ],
)
def test_a_channel_that_is_closed_is_explained_with_the_variable_to_look_at(
    code: int, text: str, declaring: bool, kind: type[CollectorError], named: str
) -> None:
    closing = pika.exceptions.ChannelClosedByBroker(code, text)
    explained = explain_channel(closing, SETTINGS, "e", declaring)
    assert type(explained) is kind
    assert named in str(explained)
    assert is_message_fault(closing) is (code == 406)


@pytest.mark.parametrize(
    "error",
    [pika.exceptions.ConnectionClosedByBroker(320, "\x1b[2J" + "x" * 9999), pika.exceptions.StreamLostError("\u202e" * 9999)],
)
def test_what_a_broker_says_is_cut_and_cannot_move_a_cursor(error: Exception) -> None:
    said = str(explain(error, SETTINGS))
    assert said.isprintable()
    assert len(said) < 4000
    assert len(str(explain_channel(pika.exceptions.ChannelClosedByBroker(406, "x" * 9999), SETTINGS, "e", False))) < 600


def test_what_a_broker_sent_amiss_explains_more_than_what_pika_makes_of_it() -> None:
    error = pika.exceptions.IncompatibleProtocolError("...")
    assert str(explain(error, SETTINGS, "the broker sent a frame of 4 GB")) == "the broker sent a frame of 4 GB"


def test_the_password_is_read_anew_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = RabbitSettings(hosts=("h",), port=5672, user="me", password=Secret(file=str(file), variable="RMQ_PASS_FILE"))
    for password in ("first", "second"):
        file.write_text(password + "\n")
        assert parameters(settings, "h", Timing()).credentials.password == password
    file.unlink()
    with pytest.raises(ConfigurationError, match="RMQ_PASS_FILE"):
        parameters(settings, "h", Timing())


def test_the_reasons_of_all_hosts_are_told_and_where_to_look_once() -> None:
    error = combined([UnavailableError(f"{host}:5672: Connection refused{WHERE}") for host in "abc"])
    assert type(error) is UnavailableError
    assert str(error) == "; ".join(f"{host}:5672: Connection refused" for host in "abc") + " (RMQ_HOST, RMQ_PORT)"


def test_one_host_that_refuses_the_login_makes_it_the_operators_matter() -> None:
    refused = ConfigurationError("login refused")
    error = combined([refused, UnavailableError("b:5672: no answer"), refused])
    assert type(error) is ConfigurationError
    assert str(error) == "login refused; b:5672: no answer"
