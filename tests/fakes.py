"""In-memory stand-ins for the three systems around the cycle, and a clock that only a test moves.

Each keeps its contract (collector/contracts.py). What a test wants to go wrong is an attribute, what it wants to see is a list.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence

from collector.core.contracts import Batch, Fetched, Intake, Outcome
from collector.core.errors import CollectorError, ConfigurationError, LockLostError
from collector.core.model import Changes, JsonObject, Listing, Move, RecordType, Row, Series, Table, UntrustedRow, Window
from collector.core.outage import Outage

NOW_MS = 1_764_000_000_000
"""A multiple of 900 s on the clock."""
MINUTE_MS = 60_000
HOUR_MS = 3_600_000

Points = Callable[[Window], Sequence[object] | str]
"""What a fake Netbeam answers for a window: its points, or the text of a failure."""


class Clock:
    """A monotonic clock in seconds and a wall clock in ms that stand still until `advance`."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.seconds = 1000.0
        self._offset_ms = now_ms - 1_000_000

    def monotonic(self) -> float:
        """What `time.monotonic` would give."""
        return self.seconds

    @property
    def now_ms(self) -> int:
        """What the wall clock shows."""
        return round(self.seconds * 1000) + self._offset_ms

    def advance(self, seconds: float) -> None:
        """Let both go on."""
        self.seconds += seconds


def resource(number: int) -> str:
    """The identity of the n-th interface."""
    return f"devices/test-cr{number % 7}/interfaces/{number}%2F1"


def interface(name: str, **changed: object) -> JsonObject:
    """An interface object with the keys that Netbeam sends."""
    flags = dict.fromkeys(("lhcone", "oscars", "intercloud", "intracloud"), False)
    texts = dict.fromkeys(("nokiaType", "visibility", "connection", "link", "sector", "site", "remoteDevice", "remotePort"))
    keys: JsonObject = {
        "namespace": "esnet/prod", "resource": name, "name": name[-5:], "device": "test-cr1", "ifIndex": "1610899520",
        "description": "to the north", "speed": 100_000, "vlan": None, "port": "1/1/1", "tags": [], "ipv4": "10.0.0.1",
    }  # fmt: skip
    return {**keys, **flags, **texts, **changed}


def three_points(window: Window) -> list[object]:
    """Points at the window's begin, thereafter, and at its last millisecond."""
    return [[at, 1, 2.5] for at in (window.begin_ms, window.begin_ms + 1, window.end_ms - 1)]


def no_points(_window: Window) -> list[object]:
    """No points."""
    return []


class FakeSource:
    """Implements contracts.Source over `interfaces` and `points`."""

    name = "Netbeam"

    def __init__(self, names: Iterable[str] = (), points: Points = three_points, journal: list[str] | None = None) -> None:
        self.outage = Outage(self.name)
        self.interfaces = {name: interface(name) for name in names}
        self.skipped: tuple[str, ...] = ()
        self.points = points
        self.error: CollectorError | None = None
        """What `list` raises."""
        self.ahead_ms = 0
        """How far our clock is ahead of the source's."""
        self.asked: list[Window] = []
        self.journal = [] if journal is None else journal

    def list(self, now_ms: int) -> Listing:
        """What `interfaces` holds."""
        self.journal.append("list")
        if self.error:
            raise self.error
        return Listing(self.latest_ms(now_ms), dict(self.interfaces), self.skipped, self.ahead_ms / 1000)

    def latest_ms(self, now_ms: int) -> int:
        """By the source's own clock, when that is behind."""
        return min(now_ms, now_ms - self.ahead_ms)

    def fetch(self, windows: Sequence[Window], intake: Intake, until: float) -> None:
        """Answer one after the other, in their order."""
        self.journal.append("fetch")
        for window in windows:
            if not intake.admit((window,)):
                return
            self.asked.append(window)
            answer = self.points(window)
            intake.deliver(Fetched(window, failure=answer) if isinstance(answer, str) else Fetched(window, answer))

    def close(self) -> None:
        """Nothing is open."""


class FakeIntake:
    """Implements contracts.Intake by three functions, and admits one window at a time."""

    def __init__(
        self, admits: Callable[[Window], bool], released: Callable[[Window], None], delivered: Callable[[Fetched], None]
    ) -> None:
        self._admits, self._released, self.deliver = admits, released, delivered

    def admit(self, batch: Sequence[Window]) -> int:
        """One at a time."""
        return int(self._admits(batch[0]))

    def release(self, batch: Sequence[Window]) -> None:
        """Tell each."""
        for window in batch:
            self._released(window)


def drained(row: Row, record_types: Collection[RecordType]) -> bool:
    """Whether a retired row has been collected up to its end, in each of these record types."""
    until = row.active_until_ms
    return until is not None and all(row.checkpoints.get(each, 0) >= until for each in record_types)


class FakeStore:
    """Implements contracts.Store over a dict of rows by id."""

    def __init__(self, *rows: Row, journal: list[str] | None = None) -> None:
        self.outage = Outage("MySQL")
        self.database_s = 0.0
        self.rows = {row.id: row for row in rows}
        self.untrusted: tuple[UntrustedRow, ...] = ()
        self.writer = True
        self.free = 0
        """Whether the lock is ours."""
        self.errors: dict[str, CollectorError] = {}
        """What the methods of these names raise."""
        self.advanced: list[Move] = []
        self.journal = [] if journal is None else journal

    def open(self, create: bool = True) -> None:
        """Nothing has to be connected."""
        self._called("open")

    def take_lock(self, timeout_s: float) -> bool:
        """Whoever asks gets it."""
        self._called("take_lock")
        self.writer = True
        return True

    def holds_lock(self) -> bool:
        """What `writer` says."""
        return self.writer

    def free_shares(self) -> int:
        """As many as `free` says."""
        self._called("free_shares")
        return self.free

    def lock_holder(self) -> str:
        """Nobody else is there."""
        return ""

    def read(self, now_ms: int, undrained_in: tuple[RecordType, ...] | None = None) -> Table:
        """The rows in the order of their ids."""
        self._called("read")
        rows = [self.rows[row_id] for row_id in sorted(self.rows)]
        newest_ms = max((each for row in rows for each in row.checkpoints.values()), default=None)
        wanted = tuple(row for row in rows if undrained_in is None or row.active or not drained(row, undrained_in))
        return Table(wanted, self.untrusted, newest_ms)

    def history(self, names: Collection[str]) -> tuple[Row, ...]:
        """The rows of these names."""
        self._called("history")
        return tuple(self.rows[row_id] for row_id in sorted(self.rows) if self.rows[row_id].name in names)

    def apply(self, changes: Changes) -> None:
        """All or nothing."""
        self._called("apply", writes=True)
        for retirement in changes.retired:
            row = self.rows[retirement.row_id]
            assert row.active, "only active rows are retired"
            assert row.name == retirement.name
            self.rows[row.id] = dataclasses.replace(row, active_until_ms=retirement.active_until_ms)
        for new in changes.new:
            row_id = max(self.rows, default=0) + 1
            self.rows[row_id] = Row(row_id, new.name, new.active_from_ms, None, dict(new.checkpoints))

    def advance(self, moves: Sequence[Move]) -> list[Move]:
        """Compare and set; a row that holds the new value already counts as moved."""
        self._called("advance", writes=True)
        assert len({move.series for move in moves}) == len(moves), "at most one move a series"
        missed = [move for move in moves if self.checkpoint(move.series) not in (move.from_ms, move.to_ms)]
        for move in moves:
            if move not in missed:
                self.move(move.series, move.to_ms)
                self.advanced.append(move)
        return missed

    def close(self) -> None:
        """Nothing is open."""

    def checkpoint(self, series: Series) -> int | None:
        """What the row of a series holds; -1 where there is no such row, since that equals nothing."""
        row = self.rows.get(series.row_id)
        return row.checkpoints.get(series.record_type) if row and row.name == series.name else -1

    def move(self, series: Series, to_ms: int) -> None:
        """Set a checkpoint, as an operator's UPDATE may too."""
        row = self.rows[series.row_id]
        self.rows[row.id] = dataclasses.replace(row, checkpoints={**row.checkpoints, series.record_type: to_ms})

    def of(self, name: str) -> list[Row]:
        """The rows of a name, in the order of their ids."""
        return [self.rows[row_id] for row_id in sorted(self.rows) if self.rows[row_id].name == name]

    def _called(self, method: str, writes: bool = False) -> None:
        self.journal.append(method)
        if error := self.errors.get(method):
            raise error
        if writes and not self.writer:
            raise LockLostError("the lock is not ours any more")


class FakePublisher:
    """Implements contracts.Publisher: `answer` decides what becomes of a batch, None leaves it in flight."""

    def __init__(self, answer: Callable[[Batch], Outcome | None] = lambda _batch: Outcome.CONFIRMED) -> None:
        self.outage = Outage("RabbitMQ")
        self.ready = True
        self.refusal: ConfigurationError | None = None
        self.answer = answer
        self.batches: list[Batch] = []
        self.in_flight: list[Batch] = []
        self._open = True

    def start(self) -> None:
        """Nothing has to be connected."""

    def publish(self, batch: Batch) -> None:
        """Take a batch and tell its outcome at once, unless it stays in flight."""
        if not batch.messages:
            raise ValueError("an empty batch")
        self.batches.append(batch)
        outcome = self.answer(batch) if self._open else Outcome.LOST
        if outcome is None:
            self.in_flight.append(batch)
        else:
            batch.done(outcome)

    def withdraw(self) -> None:
        """Lose what is in flight."""
        lost, self.in_flight = self.in_flight, []
        for batch in lost:
            batch.done(Outcome.LOST)

    def close(self, timeout_s: float) -> None:
        """Lose what is in flight and all that follows."""
        self._open = self.ready = False
        self.withdraw()

    def published(self, routing_key: str) -> int:
        """How many messages with that key were taken so far."""
        return sum(len(batch.messages) for batch in self.batches if batch.routing_key == routing_key)


def series(row: Row, record_type: RecordType = RecordType.TRAFFIC) -> Series:
    """The series of a row."""
    return Series(row.id, row.name, record_type)
