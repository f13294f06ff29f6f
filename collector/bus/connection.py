"""The connection to RabbitMQ and its one channel: made, watched, and made anew after each loss.

pika's callbacks only note what happened, and `act` deals with it between two turns of pika's loop: an exception in a
callback would pose as a lost connection, and a channel opened in one waits for ever.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pika
import pika.exceptions
from pika.adapters.select_connection import IOLoop

from collector.bus.broker import Timing, explain, explain_channel, parameters
from collector.bus.confirms import Confirms
from collector.config.configuration import RabbitSettings
from collector.core.backoff import growing, jittered
from collector.core.counters import Count, Counters
from collector.core.errors import CollectorError, ConfigurationError, NoExchangeError, UnavailableError
from collector.core.outage import Outage


class Link:
    """Keeps a channel in confirm mode open, on one of the hosts, with the exchange known to be there.

    All of it belongs to one thread; `ready` and `refusal` may be read by others. A new channel restarts `confirms`.
    """

    def __init__(
        self, settings: RabbitSettings, exchange: str, confirms: Confirms, outage: Outage, counters: Counters, timing: Timing
    ) -> None:
        self.loop = IOLoop()
        self.ready = False
        self.refusal: ConfigurationError | None = None
        self.connection: Any = None
        self.channel: Any = None
        self._settings, self._exchange, self._timing = settings, exchange, timing
        self._confirms, self._outage, self._counters = confirms, outage, counters
        self._events: deque[Callable[[], None]] = deque()
        self._answers: list[Any] = []
        self._returns: list[tuple[Any, ...]] = []
        self._hosts: list[str] = []
        self._errors: list[CollectorError] = []
        self._was_ready = self._doubtful = self._leaving = False
        self._proven = True
        self._blocked: str | None = None
        self._delays: Iterator[float] = growing(timing.first_delay, timing.most_delay)
        self._retry_at: float | None = None
        self._heard_at = 0.0

    def heard(self) -> None:
        """The broker has answered, or has just been asked: the time to wait for a confirm begins."""
        self._heard_at = time.monotonic()

    def take_returned(self) -> set[str]:
        """Ids of the messages that no queue took; each comes before the ack of the same message, so take them before."""
        returns, self._returns = self._returns, []
        return {properties.message_id for _channel, _method, properties, _body in returns}

    def take_answers(self) -> list[tuple[int, bool, bool]]:
        """The acks and nacks that have come: tag, multiple, refused."""
        if not self._answers:
            return []
        self.heard()
        methods, self._answers = [frame.method for frame in self._answers], []
        return [(method.delivery_tag, method.multiple, isinstance(method, pika.spec.Basic.Nack)) for method in methods]

    def settled(self) -> None:
        """Answers have been dealt with; a channel that has settled all that was pending before it counts as good."""
        if not self._proven and self._confirms.caught_up:
            self._prove()

    def act(self) -> None:
        """Deal with what was noted, and with what is due."""
        while self._events:
            self._events.popleft()()
        if self._leaving:
            return
        now = time.monotonic()
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            if self.connection is None:
                self.begin()
            else:
                self._open_channel()
        silent_s = now - self._heard_at
        if self._blocked is not None:
            self._outage.failed(self._blocked)
        elif self.ready and self._confirms.unsettled:
            if silent_s > self._timing.confirm:
                self._drop(f"no confirms for {self._timing.confirm:.0f} s")
        elif self.ready and not self._proven and silent_s > self._timing.proof:
            self._prove()
        elif self.channel is not None and not self.ready and silent_s > 2 * self._timing.connect:
            self._drop("no answer in time")

    # Connecting: a round tries every host once, and a delay follows a round without success.

    def begin(self) -> None:
        """Begin to connect."""
        self._hosts = list(self._settings.hosts)
        random.shuffle(self._hosts)
        self._errors = []
        self._connect()

    def _connect(self) -> None:
        host = self._hosts.pop()
        try:
            wanted = parameters(self._settings, host, self._timing)
        except ConfigurationError as error:
            self._not_connected(host, error)
            return
        self.connection = pika.SelectConnection(
            wanted,
            on_open_callback=self._noting(self._opened),
            on_open_error_callback=self._noting(self._open_failed, host),
            on_close_callback=self._noting(self._closed),
            custom_ioloop=self.loop,
        )
        self.connection.add_on_connection_blocked_callback(self._noting(self._on_blocked))
        self.connection.add_on_connection_unblocked_callback(self._noting(self._on_unblocked))

    def _noting(self, handler: Callable[..., None], *first: Any) -> Callable[..., None]:
        """A callback for pika that has the handler called by `act`, with `first` and what pika passes."""
        return lambda *arguments: self._events.append(partial(handler, *first, *arguments))

    def _open_failed(self, host: str, connection: Any, error: BaseException | None) -> None:
        if connection is self.connection:
            self.connection = None
            self._not_connected(host, explain(error, self._settings))

    def _not_connected(self, host: str, error: CollectorError) -> None:
        if self._leaving:
            return
        if isinstance(error, UnavailableError):
            error = UnavailableError(f"{host}:{self._settings.port}: {error}")
        self._errors.append(error)
        if self._hosts:
            self._connect()
            return
        refused = any(isinstance(each, ConfigurationError) for each in self._errors)
        reason = "; ".join(dict.fromkeys(str(each) for each in self._errors))
        self._unavailable(ConfigurationError(reason) if refused else UnavailableError(reason))

    def _unavailable(self, error: CollectorError) -> None:
        """Say why, and try again after a delay."""
        self.ready, self.channel, self._blocked = False, None, None
        self.refusal = error if isinstance(error, ConfigurationError) else None
        self._outage.failed(error)
        delay = jittered(next(self._delays))
        self._retry_at = time.monotonic() + delay
        self.loop.call_later(delay, nothing)

    def _opened(self, connection: Any) -> None:
        if connection is self.connection:
            self._open_channel()

    def _open_channel(self, declare: bool = False) -> None:
        """Open a channel on the connection; what was in flight on an older one has to be sent again."""
        self._confirms.restart()
        self.heard()
        if not self.connection.is_open:
            return  # its closing is noted already
        self.channel = self.connection.channel(on_open_callback=self._noting(self._channel_opened, declare))
        self.channel.add_on_close_callback(self._noting(self._channel_closed, declare))
        self.channel.add_on_return_callback(lambda *returned: self._returns.append(returned))

    def _channel_opened(self, declare: bool, channel: Any) -> None:
        if channel is self.channel and channel.is_open:
            channel.confirm_delivery(lambda frame: self._answers.append(frame), callback=nothing)
            found = self._noting(self._exchange_found, channel)
            channel.exchange_declare(self._exchange, "topic", passive=not declare, durable=True, callback=found)

    def _exchange_found(self, channel: Any, _frame: object) -> None:
        if channel is not self.channel or not channel.is_open or self._leaving:
            return
        self.ready, self.refusal, self._proven = True, None, False
        self.heard()
        if self._was_ready:
            self._counters.add(Count.RECONNECTS, label="rabbitmq")
        self._was_ready = True
        if not self._doubtful:
            self._outage.ended()

    # Losing: by the broker's word, by silence, or by the broker closing the channel for what was published on it.

    def _channel_closed(self, declare: bool, channel: Any, reason: Any) -> None:
        """The broker closed the channel alone; the connection is kept, and a channel is opened on it after a delay."""
        if channel is not self.channel or not self.connection.is_open or self._leaving:
            return
        declaring = declare and not self.ready
        error = explain_channel(reason, self._settings, self._exchange, declaring)
        if isinstance(error, NoExchangeError) and self._settings.declare and not self.ready and not declare:
            self._open_channel(declare=True)
        else:
            self._lose(error)

    def _closed(self, connection: Any, reason: BaseException) -> None:
        if connection is self.connection:
            self.connection = None
            if not self._leaving:
                self._lose(explain(reason, self._settings))

    def _drop(self, reason: str) -> None:
        self.abort()
        self._lose(UnavailableError(reason))

    def _lose(self, error: CollectorError) -> None:
        # Whatever was in flight may be why: until it is settled, being connected again is not being well again.
        self._doubtful = self._doubtful or self._confirms.pending
        self._confirms.restart()
        self._unavailable(error)

    def _prove(self) -> None:
        """The connection does what it is for: the next delay is short again."""
        self._proven, self._doubtful = True, False
        self._delays = growing(self._timing.first_delay, self._timing.most_delay)
        self._outage.ended()

    def abort(self) -> None:
        """Drop the connection without a word to the broker, which may be frozen; pika's next turn closes the socket."""
        connection, self.connection = self.connection, None
        if connection is not None and not connection.is_closed:
            # the public close() waits for the broker's answer; and a ConnectionOpenAborted in the middle of the login trips
            # an assertion of pika 1.4.4
            connection._terminate_stream(pika.exceptions.AMQPConnectionError("given up"))

    def leave(self) -> None:
        """Begin to disconnect in good order; `connection` is None when that is done."""
        self._leaving, self.ready = True, False
        if self.connection is not None and self.connection.is_open:
            self.connection.close()
        else:
            self.abort()

    def end(self) -> None:
        """Close whatever is open, at once and for good."""
        self._leaving, self.ready = True, False
        self.abort()
        for _ in range(3):  # a connection that is still being made takes several turns to go away
            self.loop.process_timeouts()
        self.loop.close()

    # What the broker says on an open connection.

    def _on_blocked(self, connection: Any, frame: Any) -> None:
        if connection is self.connection and self.ready:
            self.ready = False
            self._blocked = f"publishing is blocked by the broker: {frame.method.reason}"

    def _on_unblocked(self, connection: Any, _frame: object) -> None:
        if connection is self.connection and self._blocked is not None and not self._leaving:
            self.ready, self._blocked = True, None
            self.heard()
            self._outage.ended()


def nothing(*_: object) -> None:
    """A callback whose being called is enough: it ends the wait of pika's loop."""
