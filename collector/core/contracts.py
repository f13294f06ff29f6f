"""What the cycle asks of the three systems around it. Each has one adapter or more, and a test that all of them pass."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.core.errors import ConfigurationError
from collector.core.model import Changes, Listing, Message, Table, Window
from collector.core.outage import Outage


@dataclass(frozen=True, slots=True)
class Fetched:
    """Netbeam's answer for one window: its points as they came, unchecked; or, with `failure`, why there is none."""

    window: Window
    points: Sequence[object] = ()
    failure: str | None = None


Admit = Callable[[Window], bool]
"""Blocks until the window may be asked for; False when nothing more is to be asked in this batch. Called by any thread."""

Release = Callable[[Window], None]
"""Gives back what `admit` took for a window that is not asked for after all. Called by any thread."""


class Source(Protocol):
    """Where interfaces and points come from."""

    outage: Outage

    def list(self, now_ms: int) -> Listing:
        """The interfaces, as of `now_ms`, or of the source's own clock when that is earlier.

        Raises UnavailableError or AnswerError; both leave the table alone.
        """

    def latest_ms(self, now_ms: int) -> int:
        """`now_ms`, or the source's own clock as far as it is known, when that is earlier."""

    def fetch(
        self, windows: Sequence[Window], admit: Admit, release: Release, deliver: Callable[[Fetched], None], until: float
    ) -> None:
        """Ask for these windows and deliver each answer as it comes, from any thread; returns when all is delivered.

        A window is asked for only after `admit` has allowed it, in an order of the source's choice, and is then delivered
        exactly once, or released. What `admit` refused, or what an outage left, is not delivered. `until` is the monotonic
        time at which the cycle is over: a pause that the source asked for ends there.
        """

    def close(self) -> None:
        """Close the connections; afterwards it cannot be used."""


class Outcome(enum.StrEnum):
    """What became of a batch."""

    CONFIRMED = "confirmed"
    """The broker has confirmed every message."""
    RETURNED = "returned"
    """No queue takes messages of this routing key."""
    REFUSED = "refused"
    """The broker said no (`basic.nack`): a queue is full, say."""
    LOST = "lost"
    """Given up before the broker confirmed it; it may have arrived."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Messages of one routing key that are confirmed together; `done` is told their outcome, once, from any thread."""

    routing_key: str
    messages: Sequence[Message]
    done: Callable[[Outcome], None]


class Publisher(Protocol):
    """Where messages go. It numbers, sends and repeats; what is in flight is bounded by its user, not by itself."""

    outage: Outage

    @property
    def ready(self) -> bool:
        """Whether a batch would be sent now: connected, the exchange there, not blocked by the broker."""

    @property
    def refusal(self) -> ConfigurationError | None:
        """Why the broker will not have us (login, vhost, exchange), while that is the newest thing known."""

    def start(self) -> None:
        """Begin to connect, and stay connected until closed."""

    def publish(self, batch: Batch) -> None:
        """Send a batch, again after each reconnect until it is confirmed; returns at once. An empty batch is an error."""

    def withdraw(self) -> None:
        """Give up all that is in flight: each batch is told LOST."""

    def close(self, timeout_s: float) -> None:
        """End in good order within `timeout_s`; what is still in flight is told LOST."""


class Store(Protocol):
    """The table `esnet_interfaces` and the lock that makes one collector its only writer.

    Every method raises UnavailableError when the table cannot be reached, and ConfigurationError when that is the
    operator's to mend (a refused login, a missing database or column).
    """

    outage: Outage

    @property
    def database_s(self) -> float:
        """Seconds spent in the database so far; waiting for the lock does not count."""

    def open(self, create: bool = True) -> None:
        """Connect; with `create`, make the table when it is missing (without it: NoTableError); check its columns.

        Safe to call again.
        """

    def take_lock(self, timeout_s: float) -> bool:
        """Become the only writer; False when another one is, after waiting up to `timeout_s`."""

    def holds_lock(self) -> bool:
        """Whether the lock was certainly ours at this moment: proven by use or ping in the last seconds. Any thread."""

    def read(self, now_ms: int) -> Table:
        """The whole table; rows that cannot be trusted at `now_ms` apart."""

    def apply(self, changes: Changes) -> None:
        """Insert and retire rows, all or nothing. Raises LockLostError when this is no longer the writer."""

    def advance(self, windows: Sequence[Window]) -> list[Window]:
        """Move each window's checkpoint to its end, where the row still holds the one that the window began at.

        To be called with windows whose every message is confirmed, at most one a series. Returns those whose row held
        another value. Raises LockLostError when this is no longer the writer.
        """

    def close(self) -> None:
        """Give the lock back and disconnect; safe to call again."""
