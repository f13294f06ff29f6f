"""How a connection to RabbitMQ is made, and what it means when there is none: pika's errors as the collector's own."""

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import pika
import pika.adapters.utils.connection_workflow as workflow
import pika.exceptions

from collector.config.systems import RabbitSettings
from collector.core.errors import CollectorError, ConfigurationError, NoExchangeError, UnavailableError
from collector.core.text import printable

MESSAGE_FAULTS = frozenset({311, 406, 501, 502, 503, 505, 540})
"""With these codes a broker closes a channel, or the connection, for a message that it does not take: for its size
(406, and 311 of the AMQP specification) or for its form. No other message is to blame, and no permission."""

NO_CONFIRMS = "the broker does not offer publisher confirms, by which nothing is lost: see RMQ_HOST"

WHERE = " (RMQ_HOST, RMQ_PORT)"
"""What to look at when nobody answers there."""

_CLOSED_BY_BROKER = re.compile(r"""ConnectionClosedByBroker: \((\d+)\) ["'](.*)["']""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the publisher waits for what, in seconds."""

    connect: float = 5.0
    """For one address to take a TCP connection; twice as long for all that comes up to an open connection."""
    heartbeat: int = 20
    """pika notices a silent peer 5 s later; RabbitMQ advises 5 to 20."""
    confirm: float = 30.0
    """With messages in flight, not blocked, and not one confirm in this time, the connection counts as dead."""
    blocked: float = 60.0
    """A broker that blocks longer than this is connected to anew."""
    first_delay: float = 1.0
    most_delay: float = 15.0
    """Between attempts to connect."""
    proof: float = 10.0
    """After a loss with messages in flight the connection counts as good with a confirm, or when it is idle this long."""


def combined(errors: Sequence[CollectorError]) -> CollectorError:
    """Why none of several hosts can be used: a ConfigurationError when the operator can mend one of the reasons."""
    said = list(dict.fromkeys(str(each) for each in errors))
    reason = "; ".join([*(each.removesuffix(WHERE) for each in said[:-1]), *said[-1:]])
    refused = any(isinstance(each, ConfigurationError) for each in errors)
    return ConfigurationError(reason) if refused else UnavailableError(reason)


def parameters(settings: RabbitSettings, host: str, timing: Timing) -> pika.ConnectionParameters:
    """What pika needs for one host. Raises ConfigurationError for files (password, certificates) that cannot be used."""
    return pika.ConnectionParameters(
        host=host,
        port=settings.port,
        virtual_host=settings.vhost,
        credentials=pika.PlainCredentials(settings.user, settings.password.read()),
        ssl_options=pika.SSLOptions(tls_context(settings), host) if settings.tls else None,
        heartbeat=timing.heartbeat,
        blocked_connection_timeout=timing.blocked,
        socket_timeout=timing.connect,
        stack_timeout=2 * timing.connect,
        connection_attempts=1,
        client_properties={"product": "esnet-collector", "connection_name": "esnet-collector"},
    )


def tls_context(settings: RabbitSettings) -> ssl.SSLContext:
    """TLS with the peer and its name verified; files are read anew, so that a renewed certificate is used at once."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"RMQ_CA_FILE must name a file of certificates in PEM: {_text(error)}") from error
    if settings.cert_file is None:
        return context
    try:
        # without a password of its own, an encrypted key would ask for one on the terminal
        context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"RMQ_CERT_FILE and RMQ_KEY_FILE must name a certificate and its key in PEM: {_text(error)}"
        ) from error
    return context


def explain(error: BaseException | None, settings: RabbitSettings, fault: str | None = None) -> CollectorError:
    """Why there is no connection: a ConfigurationError when only the operator can mend it.

    `fault` is what the broker sent amiss, where that ended the connection.
    """
    if fault is not None:
        return UnavailableError(fault)
    error = _innermost(error)
    code, text = _reply(error)
    if isinstance(error, pika.exceptions.ProbableAuthenticationError) and code == 403:
        return ConfigurationError(f"login of user {settings.user!r} refused: see RMQ_USER and RMQ_PASS")
    if isinstance(error, pika.exceptions.ProbableAccessDeniedError) and code == 530 and "limit" not in text:
        reason = "there is no such vhost" if "not found" in text else f"user {settings.user!r} has no access to it"
        return ConfigurationError(f"vhost {settings.vhost!r} refused, {reason}: see RMQ_VHOST")
    return UnavailableError(printable(f"closed by the broker: {code} {text}" if code else _explain_loss(error)))


def _reply(error: BaseException | None) -> tuple[int, str]:
    """The broker's code and text, when it closed the connection itself; 0 when it did not."""
    if isinstance(error, pika.exceptions.ConnectionClosed):
        return error.reply_code, error.reply_text
    # while it is being opened, pika guesses from the stage at the cause, whatever it was, and keeps the rest as text
    said = _CLOSED_BY_BROKER.search(str(error))
    return (int(said[1]), said[2]) if said else (0, "")


def _innermost(error: BaseException | None) -> BaseException | None:
    """pika wraps the cause of a failed attempt up to three times."""
    while True:
        if isinstance(error, workflow.AMQPConnectionWorkflowFailed):
            error = error.exceptions[-1]
        elif isinstance(error, workflow.AMQPConnectorPhaseErrorBase):
            error = error.exception
        elif isinstance(error, pika.exceptions.AMQPConnectionError) and error.args and isinstance(error.args[0], Exception):
            error = error.args[0]
        else:
            return error


def explain_channel(
    error: pika.exceptions.ChannelClosed, settings: RabbitSettings, exchange: str, declaring: bool
) -> CollectorError:
    """Why the broker closed the channel, on which the exchange was looked for or declared and then published to."""
    if error.reply_code == 404:
        return NoExchangeError(
            f"no exchange {exchange!r} in vhost {settings.vhost!r}: see RMQ_EXCHANGE, or RMQ_DECLARE=true to declare it"
        )
    said = printable(error.reply_text)
    if error.reply_code == 403 and declaring:
        return ConfigurationError(f"user {settings.user!r} may not declare exchange {exchange!r}: see RMQ_DECLARE")
    if error.reply_code == 403:  # the user lacks the permission, or the exchange is internal
        return ConfigurationError(
            f"publishing refused to user {settings.user!r} at exchange {exchange!r}: {said} (RMQ_USER, RMQ_EXCHANGE)"
        )
    return UnavailableError(f"publishing refused: {said}")


def is_message_fault(error: object) -> bool:
    """Whether the broker closed a channel or a connection for a message that was published on it."""
    closed_by_broker = (pika.exceptions.ConnectionClosedByBroker, pika.exceptions.ChannelClosedByBroker)
    return isinstance(error, closed_by_broker) and error.reply_code in MESSAGE_FAULTS


def _explain_loss(error: BaseException | None) -> str:
    """One line for a connection that was not made or was lost."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message} (RMQ_HOST, RMQ_CA_FILE)"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {_text(error)} (RMQ_PORT, RMQ_TLS)"
    if isinstance(error, TimeoutError | workflow.AMQPConnectorStackTimeout | pika.exceptions.ConnectionOpenAborted):
        return f"no answer in time{WHERE}"
    if isinstance(error, OSError):
        return f"{_text(error)}{WHERE}"
    if isinstance(error, pika.exceptions.IncompatibleProtocolError):
        return "closed without speaking AMQP 0-9-1 (RMQ_PORT, RMQ_TLS)"
    if isinstance(error, pika.exceptions.AuthenticationError):
        return "login with user and password is not offered"
    if isinstance(error, pika.exceptions.ConnectionBlockedTimeout):
        return "blocked for too long"
    said = str(error.args[0]) if error is not None and error.args else type(error).__name__
    return f"connection lost: {said}"


def _text(error: BaseException) -> str:
    """What the operating system or OpenSSL says, in one line."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "reason", None) or str(error.args[-1])
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
