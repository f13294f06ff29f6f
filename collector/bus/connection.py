"""The connection to RabbitMQ and its one channel: made, watched, and made anew after each loss.

pika's callbacks only note what happened, and `act` deals with it between two turns of pika's loop: an exception in a
callback would pose as a lost connection, and a channel opened in one waits for ever.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from collector.bus.broker import NO_CONFIRMS, Timing, combined, explain, explain_channel, is_message_fault, parameters
from collector.bus.channel import ConfirmChannel
from collector.bus.confirms import Confirms
from collector.bus.driver import BrokerConnection, Loop
from collector.config.systems import RabbitSettings
from collector.core.backoff import growing, jittered
from collector.core.counters import Count, Counters
from collector.core.errors import CollectorError, ConfigurationError, NoExchangeError, UnavailableError
from collector.core.model import Message
from collector.core.outage import Outage
from collector.core.text import printable

log = logging.getLogger(__name__)

ACCESS_REFUSED = 403
FAULT_DELAY_S = 0.02
"""Before the next channel when one was closed for a message: looking for it takes some twenty of them."""


class Connection:
    """Keeps a channel in confirm mode open, on one of the hosts, with the exchange known to be there.

    All of it belongs to one thread; `ready` and `refusal` may be read by others. A new channel restarts `confirms`.
    `on_fault` is told why the broker closed a channel for one of the messages on it, before `confirms` are restarted.
    """

    def __init__(
        self,
        settings: RabbitSettings,
        exchange: str,
        confirms: Confirms,
        outage: Outage,
        counters: Counters,
        timing: Timing,
        on_fault: Callable[[str], None],
    ) -> None:
        self.loop = Loop()
        self.usable = False
        """What waits may be sent: the exchange is there, and the broker does not block."""
        self.refusal: ConfigurationError | None = None
        self.connection: BrokerConnection | None = None
        self.channel: ConfirmChannel | None = None
        self._settings, self._exchange, self._timing = settings, exchange, timing
        self._confirms, self._outage, self._counters, self._on_fault = confirms, outage, counters, on_fault
        self._events: deque[tuple[Callable[..., None], Sequence[Any]]] = deque()
        self._doubtful = False  # what was in flight at the last loss may be why, and is not settled
        self._proven = True
        self._denied: ConfigurationError | None = None  # publishing was forbidden, and nothing has been confirmed since
        self._blocked: str | None = None
        self._delays: Iterator[float] = growing(timing.first_delay, timing.most_delay)
        self._retry_at: float | None = None
        self._heard_at = 0.0

    @property
    def ready(self) -> bool:
        """Usable, and not waiting for a proof that publishing is allowed again."""
        return self.usable and (self._denied is None or self._proven)

    def heard(self) -> None:
        """The broker has answered, or has just been asked: the time to wait for a confirm begins."""
        self._heard_at = time.monotonic()

    def settled(self) -> None:
        """Answers have come and are dealt with; a channel that has settled all that was pending before it counts as good."""
        self.heard()
        if (self._denied is not None or not self._proven) and self._confirms.caught_up:
            self._denied = None
            self._prove()

    def turn(self) -> None:
        """One turn of pika's loop: reads, writes and timers; at most as long as the next timer is away."""
        with self._pika_errors_as_outage():
            self.loop.turn()

    def publish(self, routing_key: str, messages: Sequence[Message]) -> None:
        """Hand messages to the socket; to be called only while that is `usable`."""
        if self.connection is not None and self.channel is not None:
            frames = self.channel.frames(routing_key, messages)
            with self._pika_errors_as_outage():
                self.connection.write(frames)

    @property
    def unsent_bytes(self) -> int:
        """What was handed over and the socket has not taken yet."""
        return 0 if self.connection is None else self.connection.unsent_bytes

    def act(self) -> None:
        """Deal with what was noted, and with what is due."""
        while self._events:
            handler, passed = self._events.popleft()
            if passed[0] is self.connection or passed[0] is self.channel:  # not one that was given up since
                handler(*passed)
        self._look_at_the_clock(time.monotonic())

    def _look_at_the_clock(self, now: float) -> None:
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            if self.connection is None:
                self.begin()
            else:
                self._open_channel()
        if self._blocked is not None:
            self._outage.failed(self._blocked)
            return
        if self._denied is not None and self.usable:
            self._outage.failed(self._denied)
        silent_s = now - self._heard_at
        if self.usable and self._confirms.unsettled:
            if silent_s > self._timing.confirm:
                self._drop(f"no confirms for {self._timing.confirm:.0f} s")
        elif self.usable and not self._proven and silent_s > self._timing.proof:
            self._prove()
        elif self.channel is not None and not self.usable and silent_s > 2 * self._timing.connect:
            self._drop("no answer in time")

    @contextmanager
    def _pika_errors_as_outage(self) -> Iterator[None]:
        """Around every call into pika. What it raises, of whatever type, is taken to be the broker's doing."""
        try:
            yield
        except Exception as error:
            log.debug("RabbitMQ: unforeseen error in pika", exc_info=True)  # or the bug is ours
            self._drop(printable(f"the broker behaves as none does: {type(error).__name__} {error}", 200))

    # Connecting: a round tries every host once, and a delay follows a round without success.

    def begin(self) -> None:
        """Begin to connect."""
        self._hosts = random.sample(self._settings.hosts, len(self._settings.hosts))  # what is not tried yet
        self._errors: list[CollectorError] = []  # why the others cannot be used
        self._connect()

    def _connect(self) -> None:
        self._host = self._hosts.pop()
        try:
            wanted = parameters(self._settings, self._host, self._timing)
        except ConfigurationError as error:
            self._not_connected(error)
            return
        with self._pika_errors_as_outage():
            self.connection = BrokerConnection(
                wanted,
                on_open_callback=self._noting(self._opened),
                on_open_error_callback=self._noting(self._open_failed),
                on_close_callback=self._noting(self._closed),
                custom_ioloop=self.loop,
            )
            self.connection.add_on_connection_blocked_callback(self._noting(self._on_blocked))
            self.connection.add_on_connection_unblocked_callback(self._noting(self._on_unblocked))

    def _noting(self, handler: Callable[..., None]) -> Callable[..., None]:
        """A callback for pika that has `act` call the handler with the same: the connection or channel, and what is said."""
        return lambda *passed: self._events.append((handler, passed))

    def _open_failed(self, connection: BrokerConnection, error: BaseException | None) -> None:
        self.connection = None
        self._not_connected(explain(error, self._settings, connection.fault))

    def _not_connected(self, error: CollectorError) -> None:
        if isinstance(error, UnavailableError):
            error = UnavailableError(f"{self._host}:{self._settings.port}: {error}")
        self._errors.append(error)
        if self._hosts:
            self._connect()
        else:
            self._unavailable(combined(self._errors))

    def _unavailable(self, error: CollectorError) -> None:
        """Say why, and try again after a delay."""
        self._retry_after(jittered(next(self._delays)))
        self._outage.failed(error)
        # last: another thread that reads a refusal finds its reason in the outage
        self.refusal = error if isinstance(error, ConfigurationError) else None

    def _retry_after(self, delay_s: float) -> None:
        self.usable, self.channel, self._blocked = False, None, None
        self._retry_at = time.monotonic() + delay_s
        self.loop.wake(delay_s)

    def _opened(self, connection: BrokerConnection) -> None:
        if connection.offers_confirms:
            self._open_channel()
            return
        self._abort()
        self._lose(ConfigurationError(f"{self._host}:{self._settings.port}: {NO_CONFIRMS}"))

    def _open_channel(self, declare: bool = False) -> None:
        """Open a channel on the connection; what was in flight on an older one has to be sent again."""
        self._confirms.restart()
        self.heard()
        if self.connection is None or not self.connection.is_open:
            return  # its closing is noted already
        with self._pika_errors_as_outage():
            found, closed = self._noting(self._exchange_found), self._noting(self._channel_closed)
            self.channel = ConfirmChannel(self.connection, self._exchange, declare, self._settings.mandatory, found, closed)

    def _exchange_found(self, channel: ConfirmChannel) -> None:
        if not channel.is_open:
            return
        self._proven = False
        self.refusal = self._denied
        if self._outage.up_once:
            self._counters.add(Count.RECONNECTS, label="rabbitmq")
        self._go_on()

    # Losing: by the broker's word, by silence, or by the broker closing the channel for what was published on it.

    def _channel_closed(self, channel: ConfirmChannel, reason: Any) -> None:
        """The broker closed the channel alone; the connection is kept, and a channel is opened on it after a delay."""
        if self.connection is None or not self.connection.is_open:
            return
        error = explain_channel(reason, self._settings, self._exchange, channel.declare and not self.usable)
        if isinstance(error, NoExchangeError) and self._settings.declare and not self.usable and not channel.declare:
            self._open_channel(declare=True)
            return
        if self.usable and reason.reply_code == ACCESS_REFUSED and isinstance(error, ConfigurationError):
            self._denied = error
        self._lose(error, reason)

    def _closed(self, connection: BrokerConnection, reason: BaseException) -> None:
        self.connection = None
        self._lose(explain(reason, self._settings, connection.fault), reason)

    def _drop(self, reason: str) -> None:
        self._abort()
        self._lose(UnavailableError(reason))

    def _lose(self, error: CollectorError, reason: BaseException | None = None) -> None:
        # until what was in flight is settled, being connected again is not being well again
        self._doubtful = self._doubtful or self._confirms.pending
        if self.usable and is_message_fault(reason) and self._confirms.unsettled:
            self._on_fault(str(error))
            self._confirms.restart()
            self._retry_after(FAULT_DELAY_S)
        else:
            self._confirms.restart()
            self._unavailable(error)

    def _prove(self) -> None:
        """The connection does what it is for: the next delay is short again."""
        self._proven = True
        if self._denied is not None:
            return  # nothing was published that could show whether that is allowed now; the next message will
        self._doubtful, self.refusal = False, None
        self._delays = growing(self._timing.first_delay, self._timing.most_delay)
        self._outage.ended()

    def _abort(self) -> None:
        """Drop the connection without a word to the broker."""
        connection, self.connection = self.connection, None
        if connection is not None and not connection.is_closed:
            with self._pika_errors_as_outage():
                connection.abort()

    def end(self, until: float) -> None:
        """Disconnect in good order, at `until` without a word, and for good."""
        self.usable = False
        self.loop.end(self.connection, until)

    def _on_blocked(self, _connection: BrokerConnection, frame: Any) -> None:
        if self.usable:
            self.usable = False
            self._blocked = f"publishing is blocked by the broker: {printable(frame.method.reason)}"

    def _on_unblocked(self, _connection: BrokerConnection, _frame: object) -> None:
        if self._blocked is not None:
            self._go_on()

    def _go_on(self) -> None:
        self.usable, self._blocked = True, None
        self.heard()
        if not self._doubtful:
            self._outage.ended()
