"""The connection to RabbitMQ and its one channel: made, watched, and made anew after each loss.

pika's callbacks only note what happened, and `act` deals with it between two turns of pika's loop: an exception in a
callback would pose as a lost connection, and a channel opened in one waits for ever.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from pika.adapters.select_connection import IOLoop

from collector.bus.broker import (
    NO_CONFIRMS,
    Timing,
    Tries,
    explain,
    explain_channel,
    is_message_fault,
    offers_confirms,
    parameters,
)
from collector.bus.channel import ConfirmChannel
from collector.bus.confirms import Confirms
from collector.bus.driver import BrokerConnection
from collector.config.systems import RabbitSettings
from collector.core.backoff import growing, jittered
from collector.core.counters import Count, Counters
from collector.core.errors import CollectorError, ConfigurationError, NoExchangeError, UnavailableError
from collector.core.outage import Outage
from collector.core.text import printable

ACCESS_REFUSED = 403
FAULT_DELAY_S = 0.02
"""Before the next channel when one was closed for a message: looking for it takes some fifteen of them."""


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
        self.loop = IOLoop()
        self.usable = False
        """What waits may be sent: the exchange is there, and the broker does not block."""
        self.ready = False
        """Usable, and not waiting for a proof that publishing is allowed again."""
        self.refusal: ConfigurationError | None = None
        self.connection: BrokerConnection | None = None
        self.channel: ConfirmChannel | None = None
        self._settings, self._exchange, self._timing = settings, exchange, timing
        self._confirms, self._outage, self._counters, self._on_fault = confirms, outage, counters, on_fault
        self._events: deque[Callable[[], None]] = deque()
        self._tries = Tries(settings)
        self._was_ready = self._doubtful = self._leaving = False
        self._proven = True
        self._denied: ConfigurationError | None = None  # publishing was forbidden, and nothing has been confirmed since
        self._blocked: str | None = None
        self._delays: Iterator[float] = growing(timing.first_delay, timing.most_delay)
        self._retry_at: float | None = None
        self._heard_at = 0.0

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
        with self._neighbour():
            self.loop.poll()
            self.loop.process_timeouts()

    def write(self, frames: bytes) -> None:
        """Hand frames to the socket."""
        if self.connection is not None:
            with self._neighbour():
                self.connection.write(frames)

    @property
    def unsent_bytes(self) -> int:
        """What was handed over and the socket has not taken yet."""
        return 0 if self.connection is None else self.connection.unsent_bytes

    @property
    def frame_max(self) -> int:
        """The size of a frame that was agreed on, in bytes, at the most."""
        return 0 if self.connection is None else int(self.connection.params.frame_max)

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
        if self._blocked is not None:
            self._outage.failed(self._blocked)
        elif self._denied is not None and self.usable:
            self._outage.failed(self._denied)
        self._look_at_the_clock(now - self._heard_at)

    def _look_at_the_clock(self, silent_s: float) -> None:
        if self._blocked is not None:
            return
        if self.usable and self._confirms.unsettled:
            if silent_s > self._timing.confirm:
                self._drop(f"no confirms for {self._timing.confirm:.0f} s")
        elif self.usable and not self._proven and silent_s > self._timing.proof:
            self._prove()
        elif self.channel is not None and not self.usable and silent_s > 2 * self._timing.connect:
            self._drop("no answer in time")

    @contextmanager
    def _neighbour(self) -> Iterator[None]:
        """Around every call of pika's: whatever it raises, of whatever type, is the broker's doing and an outage."""
        try:
            yield
        except Exception as error:
            self._drop(printable(f"the broker behaves as none does: {type(error).__name__} {error}", 200))

    # Connecting: a round tries every host once, and a delay follows a round without success.

    def begin(self) -> None:
        """Begin to connect."""
        self._tries = Tries(self._settings)
        self._connect(self._tries.first())

    def _connect(self, host: str) -> None:
        try:
            wanted = parameters(self._settings, host, self._timing)
        except ConfigurationError as error:
            self._not_connected(host, error)
            return
        with self._neighbour():
            self.connection = BrokerConnection(
                wanted,
                on_open_callback=self._noting(self._opened, host),
                on_open_error_callback=self._noting(self._open_failed, host),
                on_close_callback=self._noting(self._closed),
                custom_ioloop=self.loop,
            )
            self.connection.add_on_connection_blocked_callback(self._noting(self._on_blocked))
            self.connection.add_on_connection_unblocked_callback(self._noting(self._on_unblocked))

    def _noting(self, handler: Callable[..., None], *first: Any) -> Callable[..., None]:
        """A callback for pika that has the handler called by `act`, with `first` and what pika passes."""
        return lambda *arguments: self._events.append(partial(handler, *first, *arguments))

    def _open_failed(self, host: str, connection: BrokerConnection, error: BaseException | None) -> None:
        if connection is self.connection:
            self.connection = None
            self._not_connected(host, explain(error, self._settings, connection.fault))

    def _not_connected(self, host: str, error: CollectorError) -> None:
        if self._leaving:
            return
        following = self._tries.failed(host, error)
        if following is not None:
            self._connect(following)
        else:
            self._unavailable(self._tries.error)

    def _unavailable(self, error: CollectorError) -> None:
        """Say why, and try again after a delay."""
        self.refusal = error if isinstance(error, ConfigurationError) else None
        self._retry_after(jittered(next(self._delays)))
        self._outage.failed(error)

    def _retry_after(self, delay_s: float) -> None:
        self.usable, self.ready, self.channel, self._blocked = False, False, None, None
        self._retry_at = time.monotonic() + delay_s
        self.loop.call_later(delay_s, nothing)

    def _opened(self, host: str, connection: BrokerConnection) -> None:
        if connection is not self.connection:
            return
        if offers_confirms(connection):
            self._open_channel()
            return
        self.abort()
        self._lose(ConfigurationError(f"{host}:{self._settings.port}: {NO_CONFIRMS}"))

    def _open_channel(self, declare: bool = False) -> None:
        """Open a channel on the connection; what was in flight on an older one has to be sent again."""
        self._confirms.restart()
        self.heard()
        if self.connection is None or not self.connection.is_open:
            return  # its closing is noted already
        with self._neighbour():
            opened, closed = self._noting(self._channel_opened, declare), self._noting(self._channel_closed, declare)
            self.channel = ConfirmChannel(self.connection, opened, closed)

    def _channel_opened(self, declare: bool, channel: ConfirmChannel) -> None:
        if channel is self.channel and channel.is_open:
            with self._neighbour():
                channel.find(self._exchange, declare, self._noting(self._exchange_found))

    def _exchange_found(self, channel: ConfirmChannel) -> None:
        if channel is not self.channel or not channel.is_open or self._leaving:
            return
        self.usable, self.ready, self._proven = True, self._denied is None, False
        self.refusal = self._denied
        self.heard()
        if self._was_ready:
            self._counters.add(Count.RECONNECTS, label="rabbitmq")
        self._was_ready = True
        if not self._doubtful:
            self._outage.ended()

    # Losing: by the broker's word, by silence, or by the broker closing the channel for what was published on it.

    def _channel_closed(self, declare: bool, channel: ConfirmChannel, reason: Any) -> None:
        """The broker closed the channel alone; the connection is kept, and a channel is opened on it after a delay."""
        if channel is not self.channel or self.connection is None or not self.connection.is_open or self._leaving:
            return
        error = explain_channel(reason, self._settings, self._exchange, declare and not self.usable)
        if isinstance(error, NoExchangeError) and self._settings.declare and not self.usable and not declare:
            self._open_channel(declare=True)
            return
        if self.usable and reason.reply_code == ACCESS_REFUSED and isinstance(error, ConfigurationError):
            self._denied = error
        self._lose(error, reason)

    def _closed(self, connection: BrokerConnection, reason: BaseException) -> None:
        if connection is self.connection:
            self.connection = None
            if not self._leaving:
                self._lose(explain(reason, self._settings, connection.fault), reason)

    def _drop(self, reason: str) -> None:
        self.abort()
        if not self._leaving:
            self._lose(UnavailableError(reason))

    def _lose(self, error: CollectorError, reason: BaseException | None = None) -> None:
        # Whatever was in flight may be why: until it is settled, being connected again is not being well again.
        self._doubtful = self._doubtful or self._confirms.pending
        at_fault = self.usable and is_message_fault(reason) and self._confirms.unsettled
        if at_fault:
            self._on_fault(str(error))
        self._confirms.restart()
        if at_fault:
            self._retry_after(FAULT_DELAY_S)
        else:
            self._unavailable(error)

    def _prove(self) -> None:
        """The connection does what it is for: the next delay is short again."""
        self._proven, self.ready = True, True
        if self._denied is not None:
            return  # nothing was published that could show whether that is allowed now; the next message will
        self._doubtful, self.refusal = False, None
        self._delays = growing(self._timing.first_delay, self._timing.most_delay)
        self._outage.ended()

    def abort(self) -> None:
        """Drop the connection without a word to the broker."""
        connection, self.connection = self.connection, None
        if connection is not None and not connection.is_closed:
            with self._neighbour():
                connection.abort()

    def leave(self) -> None:
        """Begin to disconnect in good order; `connection` is None when that is done."""
        self._leaving, self.usable, self.ready = True, False, False
        if self.connection is not None and self.connection.is_open:
            with self._neighbour():
                self.connection.close()
        else:
            self.abort()

    def end(self) -> None:
        """Close whatever is open, at once and for good."""
        self._leaving, self.usable, self.ready = True, False, False
        self.abort()
        for _ in range(3):  # a connection that is still being made takes several turns to go away
            with self._neighbour():
                self.loop.process_timeouts()
        self.loop.close()

    # What the broker says on an open connection.

    def _on_blocked(self, connection: BrokerConnection, frame: Any) -> None:
        if connection is self.connection and self.usable:
            self.usable = self.ready = False
            self._blocked = f"publishing is blocked by the broker: {printable(frame.method.reason)}"

    def _on_unblocked(self, connection: BrokerConnection, _frame: object) -> None:
        if connection is self.connection and self._blocked is not None and not self._leaving:
            self.usable, self.ready, self._blocked = True, self._denied is None, None
            self.heard()
            if not self._doubtful:
                self._outage.ended()


def nothing(*_: object) -> None:
    """A callback whose being called is enough: it ends the wait of pika's loop."""
