"""The values that the collector works with: frozen, and checked when they are made.

Times are integer milliseconds since the epoch, UTC. Ranges are half-open: `[begin_ms, end_ms)`.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from collector.core.share import Share
from collector.core.text import ESCAPE, unescaped

FIRST_MS = 10**12
"""The smallest time of 13 digits, September 2001; the table holds times as text of 13 digits."""
LAST_MS = 10**13 - 1
MAX_RESOURCE_LENGTH = 128
"""The table's `name` is varchar(128)."""
GRID_MS = 30_000
"""The points of both sources stand on a grid of 30 s."""

JsonObject = dict[str, Any]

_EPOCH = datetime.fromtimestamp(0, UTC)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class RecordType(enum.StrEnum):
    """What is measured of an interface; the value is its name in URLs, in messages and in the table."""

    TRAFFIC = "traffic"
    ERRORS = "errors"
    DISCARDS = "discards"

    __hash__ = str.__hash__
    """Every look-up has a record type in its key, and the `__hash__` of `Enum` is slow, being Python."""


def is_time(ms: object) -> bool:
    """Whether a value is a time that the table and the consumer can hold: an integer of 13 digits."""
    return type(ms) is int and FIRST_MS <= ms <= LAST_MS


def iso(ms: int) -> str:
    """A time as people and `--begin` take it: ISO 8601, UTC, with milliseconds where it has any."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds").replace("+00:00", "Z")


def iso_ms(text: str) -> int | None:
    """The time that a text in ISO 8601 says, in UTC where it names no zone; None where it says none that `is_time`."""
    try:
        moment = datetime.fromisoformat(text)
        ms = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None
    return ms if is_time(ms) else None


def resource_fault(resource: object) -> str | None:
    """Why this cannot be collected as an interface's identity, or None when it can.

    A resource is a relative path below Netbeam's base URL, with Stardust too: what would leave that path or cut it is refused.
    """
    if not isinstance(resource, str):
        return "no resource" if resource is None else f"resource is {type(resource).__name__}, not text"
    if not resource:
        return "empty resource"
    if len(resource) > MAX_RESOURCE_LENGTH:
        return f"resource of {len(resource)} characters, at most {MAX_RESOURCE_LENGTH} fit"
    if any(not "!" <= character <= "~" for character in resource):
        return "resource with white space or a character outside printable ASCII"
    if "?" in resource or "#" in resource:
        return "resource with ? or #"
    if _SCHEME.match(resource) or resource.startswith("//"):
        return "resource with a scheme or a host"
    if resource.count("%") != len(ESCAPE.findall(resource)):
        return "resource with a % that is no escape"
    segments = resource.split("/")
    if "" in segments:
        return "resource with an empty segment"
    if any(unescaped(segment) in (".", "..") for segment in segments):
        return "resource with a segment . or .."
    return None


class Series(NamedTuple):
    """One record type of one row of the table: the unit that has a checkpoint.

    A named tuple, since it is the key of every look-up, tens of times a window, and a tuple's hash is ten times as fast.
    """

    row_id: int
    name: str
    record_type: RecordType

    @property
    def device(self) -> str:
        """The device that the interface belongs to; a name of another shape stands for itself."""
        parts = self.name.split("/")
        return parts[1] if len(parts) > 1 else self.name


@dataclass(frozen=True, slots=True)
class Window:
    """What is asked of the source at once of one series: from `begin_ms` up to, not including, `end_ms`."""

    series: Series
    begin_ms: int
    end_ms: int
    superseded: bool = False
    """The row is retired, and a later row of its name has had points: points that are missing here are not waited for."""

    def __post_init__(self) -> None:
        if not (is_time(self.begin_ms) and is_time(self.end_ms) and self.begin_ms < self.end_ms):
            raise ValueError(f"no window: [{self.begin_ms}, {self.end_ms})")

    @property
    def grid_points(self) -> int:
        """How many points of the grid the window can hold, at the most."""
        return (self.end_ms - self.begin_ms) // GRID_MS + 1


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a checkpoint: from what the row must still hold (None: no checkpoint yet) to its new value."""

    series: Series
    from_ms: int | None
    to_ms: int

    def __post_init__(self) -> None:
        if not is_time(self.to_ms) or (self.from_ms is not None and self.from_ms >= self.to_ms):
            raise ValueError(f"no step of a checkpoint: from {self.from_ms} to {self.to_ms}")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `esnet_interfaces` that can be trusted; `checkpoints` holds the record types that have one."""

    id: int
    name: str
    active_from_ms: int
    active_until_ms: int | None = None
    checkpoints: Mapping[RecordType, int] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Listed when the table was last reconciled (status 1); otherwise retired at `active_until_ms` (status 0)."""
        return self.active_until_ms is None

    def ends(self, record_type: RecordType) -> list[int]:
        """The times up to which the row covers its name: a later row of the name must not go back behind them."""
        bounds = (self.active_until_ms, self.checkpoints.get(record_type))
        return [each for each in bounds if each is not None]


@dataclass(frozen=True, slots=True)
class UntrustedRow:
    """A row that is left alone, and why."""

    id: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """What `esnet_interfaces` holds at one moment, in the order of the ids."""

    rows: tuple[Row, ...] = ()
    untrusted: tuple[UntrustedRow, ...] = ()
    newest_ms: int | None = None
    """The newest checkpoint of any series: the source has had points up to that time. None: there is no checkpoint yet."""

    def of(self, share: Share) -> "Table":
        """What of it belongs to a share; `newest_ms` is everybody's."""
        if share.whole:
            return self
        rows = tuple(row for row in self.rows if share.holds(row.name))
        untrusted = tuple(row for row in self.untrusted if share.holds(row.name))
        return Table(rows, untrusted, self.newest_ms)


@dataclass(frozen=True, slots=True)
class Listing:
    """The source's list of interfaces: the usable ones by resource, first come first kept; the others with their fault."""

    time_ms: int
    interfaces: Mapping[str, JsonObject]
    skipped: tuple[str, ...] = ()
    clock_ahead_s: float = 0.0
    """How far our clock is ahead of the source's (negative: behind); 0 when the source did not say."""

    def __post_init__(self) -> None:
        if not is_time(self.time_ms):
            raise ValueError(f"no time: {self.time_ms}")

    def of(self, share: Share) -> "Listing":
        """What of it belongs to a share."""
        if share.whole:
            return self
        mine = {name: interface for name, interface in self.interfaces.items() if share.holds(name)}
        return Listing(self.time_ms, mine, self.skipped, self.clock_ahead_s)


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row to insert: active from the listing's time, with checkpoints where the start is already known."""

    name: str
    active_from_ms: int
    checkpoints: Mapping[RecordType, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retirement:
    """A row to give status 0; `active_until_ms` is the time of the listing that first lacked it."""

    row_id: int
    name: str
    active_until_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """Names that a listing lacks, or has in excess, and that change nothing yet because they are too many at once.

    Each with the time of the listing that showed it first.
    """

    missing: Mapping[str, int] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.missing) + len(self.added)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a listing changes in the table; `held` is what a second listing has to confirm."""

    new: tuple[NewRow, ...] = ()
    retired: tuple[Retirement, ...] = ()
    held: Held = field(default_factory=Held)


class Message(NamedTuple):
    """What goes on the bus: a body of strict JSON in UTF-8, and the `message_id` that a repetition shares."""

    message_id: str
    body: bytes
