"""What each host of RMQ_HOST says to somebody who wants to publish, found out without changing anything."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pika.exceptions
from pika.adapters.select_connection import IOLoop

from collector.bus.broker import NO_CONFIRMS, WHERE, Timing, explain, explain_channel, offers_confirms, parameters
from collector.bus.driver import BrokerConnection, silence_pika
from collector.config.systems import RabbitSettings
from collector.core.errors import CollectorError, ConfigurationError, UnavailableError
from collector.core.text import printable

TIMEOUT_S = 10.0
"""For one host, from the connection to the last answer."""
GOODBYE_S = 1.0
TICK_S = 0.2
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
    with ThreadPoolExecutor(len(settings.hosts)) as pool:
        looks = [pool.submit(_Look(settings, exchange, routing_keys, host).run, timeout_s) for host in settings.hosts]
        return [look.result() for look in looks]


class _Look:
    """One host's connection, step by step; pika's callbacks are noted, and dealt with between two turns of its loop."""

    def __init__(self, settings: RabbitSettings, exchange: str, routing_keys: Sequence[str], host: str) -> None:
        self._settings, self._exchange, self._routing_keys, self._host = settings, exchange, routing_keys, host
        self._loop = IOLoop()
        self._events: deque[Callable[[], None]] = deque()
        self._connection: BrokerConnection | None = None
        self._found = False
        self._asking = False
        self._error: CollectorError | None = None
        self._unsure: str | None = None

    def run(self, timeout_s: float) -> HostFinding:
        """Look, for so long at the most."""
        self._error = UnavailableError(f"no answer within {timeout_s:.0f} s{WHERE}")
        self._loop.activate_poller()
        try:
            wanted = parameters(self._settings, self._host, Timing())
            self._connection = BrokerConnection(
                wanted,
                on_open_callback=self._noting(self._opened),
                on_open_error_callback=self._noting(self._not_open),
                on_close_callback=self._noting(self._not_open),
                custom_ioloop=self._loop,
            )
            self._turn_until(time.monotonic() + timeout_s)
        except CollectorError as error:
            self._error = error
        except Exception as error:  # whatever a broken broker makes pika raise
            self._error = UnavailableError(printable(f"the broker behaves as none does: {error!r}", 200))
        finally:
            self._leave()
        return HostFinding(self._host, self._settings.port, self._error, self._unsure)

    def _turn_until(self, until: float) -> None:
        while not self._found and time.monotonic() < until:
            self._loop.call_later(TICK_S, lambda: None)
            self._loop.poll()
            self._loop.process_timeouts()
            while self._events and not self._found:
                self._events.popleft()()

    def _noting(self, handler: Callable[..., None]) -> Callable[..., None]:
        return lambda *arguments: self._events.append(partial(handler, *arguments))

    def _end(self, error: CollectorError | None) -> None:
        self._found, self._error = True, error

    def _opened(self, connection: BrokerConnection) -> None:
        if not offers_confirms(connection):
            self._end(ConfigurationError(NO_CONFIRMS))
            return
        connection.channel(on_open_callback=self._noting(self._channel_opened))

    def _channel_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._noting(self._channel_closed))
        channel.exchange_declare(self._exchange, passive=True, callback=self._noting(partial(self._exchange_found, channel)))

    def _exchange_found(self, channel: Any, _frame: object) -> None:
        self._asking = True
        channel.tx_select(callback=self._noting(partial(self._transaction_begun, channel)))

    def _transaction_begun(self, channel: Any, _frame: object) -> None:
        for routing_key in self._routing_keys:
            channel.basic_publish(self._exchange, routing_key, b"{}")
        channel.tx_rollback(callback=self._noting(lambda _frame: self._end(None)))

    def _channel_closed(self, _channel: object, reason: Any) -> None:
        if not isinstance(reason, pika.exceptions.ChannelClosed):
            return  # the connection has gone, which is noted too
        if not self._closed_while_asking(reason):
            self._end(explain_channel(reason, self._settings, self._exchange, False))

    def _not_open(self, connection: BrokerConnection, reason: BaseException) -> None:
        if not self._closed_while_asking(reason):
            self._end(explain(reason, self._settings, connection.fault))

    def _closed_while_asking(self, reason: object) -> bool:
        """Whether it was closed because the broker has no transactions: then the exchange is all that is known."""
        if self._asking and getattr(reason, "reply_code", 0) == NOT_IMPLEMENTED:
            self._unsure = "whether the user may publish shows only when publishing: the broker has no transactions"
            self._end(None)
            return True
        return False

    def _leave(self) -> None:
        """Disconnect in good order, or else at once."""
        connection, until = self._connection, time.monotonic() + GOODBYE_S
        try:
            if connection is not None and connection.is_open:
                connection.close()
            while connection is not None and not connection.is_closed and time.monotonic() < until:
                self._loop.call_later(TICK_S, lambda: None)
                self._loop.poll()
                self._loop.process_timeouts()
            if connection is not None and not connection.is_closed:
                connection.abort()
                for _ in range(3):
                    self._loop.process_timeouts()
        except Exception:  # noqa: S110  # nobody waits for anything any more
            pass
        finally:
            self._loop.close()
