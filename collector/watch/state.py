"""What the collector is doing right now and what its last cycles did: written by the main loop, read by the web server."""

import copy
import enum
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from collector.core.model import RecordType
from collector.core.outage import Outage
from collector.core.report import AnsweredUpTo, CycleOutcome, CycleReport

KEPT_REPORTS = 96
"""A day of cycles at the default interval of 900 s."""


class Role(enum.StrEnum):
    """What this collector is there for at the moment."""

    STARTING = "starting"
    """Waiting for its dependencies; no cycle yet."""
    STANDBY = "standby"
    """Another collector holds the lock; ready to take over."""
    WORKING = "working"
    """Holds the lock and runs cycles."""


class System(enum.Enum):
    """The three systems around the collector."""

    SOURCE = "source"
    DATABASE = "database"
    BROKER = "broker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which collector this is and what it works on, in words for people; empty where there is nothing to say."""

    host: str = field(default_factory=socket.gethostname)
    source: str = ""
    database: str = ""
    exchange: str = ""
    share: str = "1/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A copy of what is known of one dependency; `since_ms` is when it went down, or when it became usable."""

    system: System
    name: str
    down: bool
    up_once: bool
    since_ms: int
    last_error: str

    @property
    def up(self) -> bool:
        """Known to be usable; one that nobody has tried yet is neither up nor down."""
        return self.up_once and not self.down


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state at one moment. Times in ms are UTC, times in s the monotonic clock's."""

    identity: Identity
    role: Role
    role_since_ms: int
    started_ms: int
    poll_interval_s: float
    settle_delay_s: float
    now_ms: int
    now_s: float
    beat_s: float
    """When the main loop turned last."""
    awaited_since_s: float
    """From when on a completed cycle is awaited: the last one, the start, or the end of a standby, whatever came last."""
    last_completed_ms: int | None = None
    reports: tuple[CycleReport, ...] = ()
    """Of cycles that have ended, oldest first."""
    latest: CycleReport | None = None
    """The newest of them, unless it is from before a standby: its figures are history then."""
    running: CycleReport | None = None
    """The cycle that runs, as far as it is."""
    figures: CycleReport | None = None
    """The newest report that came as far as reading the table: what it says of interfaces and series still holds in an outage."""
    newest_ms: Mapping[RecordType, int] = field(default_factory=dict)
    """The newest point on the bus; before the first one after a start, the table's newest checkpoint."""
    dependencies: tuple[Dependency, ...] = ()
    holder: str = ""
    """On a standby: the machine that has the lock, if that is known."""
    shares_free: int | None = None
    """How many shares nobody works on, if that is known."""

    @property
    def answered_up_to(self) -> Mapping[RecordType, AnsweredUpTo]:
        """Up to when the series of each record type were answered."""
        return self.figures.answered_up_to if self.figures else {}

    @property
    def asked(self) -> tuple[Dependency, ...]:
        """Those dependencies of which this role keeps up to date what is known.

        A standby runs no cycle, so it asks the source nothing. It does ask MySQL for the lock, and stays connected to RabbitMQ.
        """
        return tuple(each for each in self.dependencies if self.role is not Role.STANDBY or each.system is not System.SOURCE)

    @property
    def down(self) -> tuple[Dependency, ...]:
        """Those of them that are down."""
        return tuple(each for each in self.asked if each.down)

    @property
    def cycle(self) -> CycleReport | None:
        """The running cycle, else the last one."""
        return self.running or self.latest

    def lag_s(self, answered_ms: int) -> float:
        """How far what was answered up to that time is behind what could be collected; it grows with the clock."""
        return max(0.0, (self.now_ms - answered_ms) / 1000 - self.settle_delay_s)

    def with_report(self, report: CycleReport) -> "Snapshot":
        """With what this newer report says of the table and of the newest points, as far as it says something."""
        newest_ms = {each: max(ms, self.newest_ms.get(each, 0)) for each, ms in report.newest_ms.items()}
        # in the first cycle of all the interfaces are counted before a series is answered
        figures = report if report.answered_up_to or report.active else self.figures
        return replace(self, figures=figures, newest_ms={**self.newest_ms, **newest_ms})


def completed(report: CycleReport) -> bool:
    """Whether a cycle counts as completed; one that was cut does if a checkpoint moved in it, since it made progress."""
    if report.outcome is CycleOutcome.CUT:
        return report.checkpoints_moved > 0
    return report.outcome is CycleOutcome.COMPLETE


class CollectorState:
    """Holds the role, the running cycle, the last reports and the dependencies' outages; safe to use from every thread."""

    def __init__(
        self,
        outages: Mapping[System, Outage],
        poll_interval_s: float,
        settle_delay_s: float = 0.0,
        identity: Identity | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._outages = dict(outages)
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        now_ms, now_s = int(now() * 1000), monotonic()
        self._beat_s = now_s
        self._running: CycleReport | None = None
        self._known = Snapshot(
            identity=identity or Identity(),
            role=Role.STARTING,
            role_since_ms=now_ms,
            started_ms=now_ms,
            poll_interval_s=poll_interval_s,
            settle_delay_s=settle_delay_s,
            now_ms=now_ms,
            now_s=now_s,
            beat_s=now_s,
            awaited_since_s=now_s,
        )
        """All but what moves by itself: the time, the beat, the running cycle and the outages."""

    @property
    def role(self) -> Role:
        """What this collector is there for at the moment."""
        return self._known.role

    @property
    def running(self) -> CycleReport | None:
        """The report that the cycle is writing into, while one runs."""
        return self._running

    def enter(self, role: Role, holder: str = "") -> None:
        """Change the role; entering the one that it has already changes nothing but the beat. `holder`: who has the lock."""
        with self._lock:
            self._beat_s = self._monotonic()
            known = replace(self._known, holder=holder)
            if role is not known.role:
                if known.role is Role.STANDBY:
                    known = replace(known, awaited_since_s=self._beat_s)
                if role is Role.STANDBY:
                    # another collector works on from here: what was known is history
                    self._running = None
                    known = replace(known, latest=None, figures=None, newest_ms={})
                known = replace(known, role=role, role_since_ms=int(self._now() * 1000))
            self._known = known

    def beat(self) -> None:
        """The main loop has turned; call it once a minute or more often, in a cycle too."""
        self._beat_s = self._monotonic()

    def begin(self, report: CycleReport) -> None:
        """A cycle begins, and writes its figures into this report while it runs."""
        self.beat()
        self._running = report

    def add(self, report: CycleReport) -> None:
        """A cycle has ended; nothing is written into its report any more."""
        with self._lock:
            self._beat_s = self._monotonic()
            reports = (*self._known.reports, report)[-KEPT_REPORTS:]
            known = replace(self._known.with_report(report), reports=reports, latest=report)
            if completed(report):
                ended_ms = report.start_ms + int(report.seconds * 1000)
                known = replace(known, awaited_since_s=self._beat_s, last_completed_ms=ended_ms)
            self._known, self._running = known, None

    def count_free_shares(self, number: int | None) -> None:
        """So many shares have nobody who works on them; None: not known."""
        with self._lock:
            self._known = replace(self._known, shares_free=number)

    def snapshot(self) -> Snapshot:
        """Everything at one moment."""
        with self._lock:
            known, running = self._known, _copied(self._running) if self._running else None
        return replace(
            known.with_report(running) if running else known,
            now_ms=int(self._now() * 1000),
            now_s=self._monotonic(),
            beat_s=self._beat_s,
            running=running,
            dependencies=tuple(_dependency(system, outage) for system, outage in self._outages.items()),
        )


def _copied(report: CycleReport) -> CycleReport:
    """The report as it is now: the cycle goes on writing into the other one."""
    copied = copy.copy(report)
    copied.windows, copied.newest_ms, copied.reasons = dict(report.windows), dict(report.newest_ms), list(report.reasons)
    return copied


def _dependency(system: System, outage: Outage) -> Dependency:
    return Dependency(
        system=system,
        name=outage.dependency,
        down=outage.down,
        up_once=outage.up_once,
        since_ms=outage.since_ms,
        last_error=outage.last_error,
    )
