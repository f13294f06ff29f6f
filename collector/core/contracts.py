"""What the cycle asks of the three systems around it. Each has one adapter or more, and a test that all of them pass."""

import enum
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.core.errors import ConfigurationError
from collector.core.model import Changes, Listing, Message, Move, RecordType, Row, Table, Window
from collector.core.outage import Outage


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source's answer for one window: its points as they came, unchecked; or, with `failure`, why there is none."""

    window: Window
    points: Sequence[object] = ()
    """Lists of timestamp in ms, in and out."""
    failure: str | None = None
    shorten: bool = True
    """With a failure: whether the series' next window should be shorter, since this one may be too much for the source."""


class Intake(Protocol):
    """What a fetch is handed: says how much may be asked for, and takes the answers. Called by any thread."""

    def admit(self, windows: Sequence[Window]) -> int:
        """Wait until some of these may be asked for, and say how many, from the front; 0: nothing more in this fetch."""

    def release(self, windows: Sequence[Window]) -> None:
        """Give back what was admitted and is not asked for after all."""

    def deliver(self, fetched: Fetched) -> None:
        """Take an answer: exactly one for each window that was admitted and not released."""


class Source(Protocol):
    """Where interfaces and points come from."""

    name: str
    """As people know it."""
    outage: Outage

    def list(self, now_ms: int) -> Listing:
        """The interfaces, as of `now_ms`, or of the source's own clock when that is earlier.

        Raises UnavailableError or AnswerError; both leave the table alone.
        """

    def latest_ms(self, now_ms: int) -> int:
        """`now_ms`, or the source's own clock as far as it is known, when that is earlier."""

    def fetch(self, windows: Sequence[Window], intake: Intake, until: float) -> None:
        """Ask for these windows, of each series one, and hand each answer to the intake; returns when all were handed over.

        A window is asked for only after the intake has admitted it, in an order of the source's choice. What was not
        admitted, or what an outage left, has no answer. `until` is the monotonic time at which the cycle is over: a pause
        that the source asked for ends there.
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
    """The broker said no (`basic.nack`): a queue is full, say. Or it refuses whatever has this routing key."""
    LOST = "lost"
    """Given up before the broker confirmed it; it may have arrived."""
    UNACCEPTABLE = "unacceptable"
    """The broker refuses a message itself, by its size or form: the publisher has named it and never sends it again.

    Told when nothing else of the batch is left. A batch that lost such a message and has others is CONFIRMED with these.
    """


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
        """Whether a batch would be sent now: connected, the exchange there, not blocked by the broker.

        Where publishing itself was refused it is false until a batch that waits is confirmed, or until none waits any more
        and it is worth a try.
        """

    @property
    def refusal(self) -> ConfigurationError | None:
        """Why the broker will not have us (login, vhost, exchange, publishing), while that is the newest thing known."""

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

    def free_shares(self) -> int:
        """How many of the shares have nobody who holds their lock."""

    def lock_holder(self) -> str:
        """On which machine the one that has the lock runs; empty where that cannot be known."""

    def read(self, now_ms: int, undrained_in: tuple[RecordType, ...] | None = None) -> Table:
        """The active rows, and the retired ones that are not drained in these record types (None: all rows).

        Rows that cannot be trusted at `now_ms` stand apart. `newest_ms` is of the whole table all the same.
        """

    def history(self, names: Collection[str]) -> tuple[Row, ...]:
        """Every row of these names that can be trusted, the drained ones too, in the order of the ids."""

    def apply(self, changes: Changes) -> None:
        """Insert and retire rows, all or nothing. Raises LockLostError when this is no longer the writer."""

    def advance(self, moves: Sequence[Move]) -> list[Move]:
        """Move checkpoints, each from what its row must still hold; at most one a series.

        To be called when the broker has confirmed every message of what they cover. Returns those whose row held another
        value; a row that holds the new value already counts as moved. Raises LockLostError when this is no longer the writer.
        """

    def close(self) -> None:
        """Give the lock back and disconnect; safe to call again."""
