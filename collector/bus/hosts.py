"""What each host of RMQ_HOST says to somebody who wants to publish, found out without changing anything."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pika.exceptions

from collector.bus.broker import NO_CONFIRMS, WHERE, Timing, explain, explain_channel, parameters
from collector.bus.driver import BrokerConnection, Loop, silence_pika
from collector.config.systems import RabbitSettings
from collector.core.errors import CollectorError, ConfigurationError, UnavailableError
from collector.core.text import printable

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""For one host, from the connection to the last answer."""
GOODBYE_S = 1.0
NOT_IMPLEMENTED = 540


@dataclass(frozen=True, slots=True)
class HostFinding:
    """One host: what is wrong with it, or None when the exchange is there and the user may publish to it.

    The error is a NoExchangeError where only the exchange is missing. `unsure` is what could not be found out.
    """

    host: str
    port: int
    error: CollectorError | None = None
    unsure: str | None = None


def look_at_hosts(
    settings: RabbitSettings, exchange: str, routing_keys: Sequence[str], timeout_s: float = TIMEOUT_S
) -> list[HostFinding]:
    """Log in to every host, all at once, and find out whether messages with these keys could be published; in order.

    The exchange is looked at passively. Whether the user may write is asked by a transaction that is rolled back, so that
    nothing is delivered. Which queues are bound shows only when publishing.
    """
    silence_pika()

    def look(host: str) -> HostFinding:
        error, unsure = None, None
        try:
            unsure = _Look(settings, host, timeout_s).run(exchange, routing_keys)
        except CollectorError as found:
            error = found
        except Exception as found:  # whatever a broken broker makes pika raise
            log.debug("RabbitMQ: unforeseen error in pika", exc_info=True)  # or the bug is ours
            error = UnavailableError(printable(f"the broker behaves as none does: {found!r}", 200))
        return HostFinding(host, settings.port, error, unsure)

    with ThreadPoolExecutor(len(settings.hosts)) as pool:
        return list(pool.map(look, settings.hosts))


class _ClosedError(Exception):
    """The connection was not made, or it or the channel was closed; `reason` is pika's."""

    def __init__(self, reason: Any) -> None:
        self.reason = reason


class _Look:
    """One host's connection, asked step by step: pika's callbacks note what happened, and each step waits for its own."""

    def __init__(self, settings: RabbitSettings, host: str, timeout_s: float) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._until = time.monotonic() + timeout_s
        self._reasons: list[Any] = []
        wanted = parameters(settings, host, Timing())
        self._loop = Loop()
        self._loop.wake(timeout_s)
        self._connection = BrokerConnection(
            wanted, on_open_error_callback=self._closed, on_close_callback=self._closed, custom_ioloop=self._loop
        )

    def run(self, exchange: str, routing_keys: Sequence[str]) -> str | None:
        """Find out whether the user may publish; returns what could not be found out. Raises CollectorError."""
        found = False
        try:
            self._wait(lambda: self._connection.is_open)
            if not self._connection.offers_confirms:
                raise ConfigurationError(NO_CONFIRMS)
            channel = self._answer(lambda callback: self._connection.channel(on_open_callback=callback))
            channel.add_on_close_callback(self._closed)
            self._answer(partial(channel.exchange_declare, exchange, passive=True))
            found = True
            self._answer(channel.tx_select)
            for routing_key in routing_keys:
                channel.basic_publish(exchange, routing_key, b"{}")
            self._answer(channel.tx_rollback)
        except _ClosedError as closed:
            if found and getattr(closed.reason, "reply_code", 0) == NOT_IMPLEMENTED:
                return "whether the user may publish shows only when publishing: the broker has no transactions"
            if isinstance(closed.reason, pika.exceptions.ChannelClosed):
                raise explain_channel(closed.reason, self._settings, exchange, False) from closed
            raise explain(closed.reason, self._settings, self._connection.fault) from closed
        finally:
            self._loop.end(self._connection, time.monotonic() + GOODBYE_S)
        return None

    def _closed(self, _closed: object, reason: Any) -> None:
        self._reasons.append(reason)

    def _answer(self, ask: Callable[..., object]) -> Any:
        """Ask something with a callback, and return what that is called with."""
        answers: list[Any] = []
        ask(callback=answers.append)
        self._wait(lambda: answers)
        return answers[0]

    def _wait(self, done: Callable[[], object]) -> None:
        while not self._reasons and not done():
            if time.monotonic() >= self._until:
                raise UnavailableError(f"no answer within {self._timeout_s:.0f} s{WHERE}")
            self._loop.turn()
        if self._reasons:
            raise _ClosedError(self._reasons[0])
