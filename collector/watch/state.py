"""What the collector is doing right now and what its last cycles did: written by the main loop, read by whoever watches."""

import copy
import enum
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from collector.core.model import RecordType
from collector.core.outage import Outage
from collector.core.report import CycleOutcome, CycleReport, Reached

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
    """The state at one moment. Wall times are ms UTC; `beat` and `awaited_since` are seconds of the monotonic clock."""

    identity: Identity
    role: Role
    role_since_ms: int
    started_ms: int
    poll_interval_s: float
    settle_delay_s: float
    beat: float
    """When the main loop turned last."""
    awaited_since: float
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
    """On a standby: who holds the lock, if that is known."""
    shares_free: int | None = None
    """How many shares nobody works on, if that is known."""

    @property
    def reached(self) -> Mapping[RecordType, Reached]:
        """Up to when the series of each record type were answered."""
        return self.figures.reached if self.figures else {}

    def lag_s(self, reached_ms: int, now_ms: int) -> float:
        """How far what was answered up to that time is behind what could be collected by now; it grows with the clock."""
        return max(0.0, (now_ms - reached_ms) / 1000 - self.settle_delay_s)


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
        self._poll_interval_s = poll_interval_s
        self._settle_delay_s = settle_delay_s
        self._identity = identity or Identity()
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._role = Role.STARTING
        self._role_since_ms = self._started_ms = int(now() * 1000)
        self._beat = self._awaited_since = monotonic()
        self._last_completed_ms: int | None = None
        self._reports: deque[CycleReport] = deque(maxlen=KEPT_REPORTS)
        self._latest: CycleReport | None = None
        self._running: CycleReport | None = None
        self._figures: CycleReport | None = None
        self._newest_ms: dict[RecordType, int] = {}
        self._holder = ""
        self._shares_free: int | None = None

    @property
    def role(self) -> Role:
        """What this collector is there for at the moment."""
        return self._role

    @property
    def running(self) -> CycleReport | None:
        """The report that the cycle is writing into, while one runs."""
        return self._running

    def enter(self, role: Role, holder: str = "") -> None:
        """Change the role; entering the one that it has already changes nothing but the beat. `holder`: who has the lock."""
        with self._lock:
            self._beat = self._monotonic()
            self._holder = holder
            if role is self._role:
                return
            if self._role is Role.STANDBY:
                self._awaited_since = self._beat
            if role is Role.STANDBY:
                # another collector works on from here: what was known is history
                self._latest = self._running = self._figures = None
                self._newest_ms = {}
            self._role, self._role_since_ms = role, int(self._now() * 1000)

    def beat(self) -> None:
        """The main loop has turned; call it once a minute or more often, in a cycle too."""
        with self._lock:
            self._beat = self._monotonic()

    def begin(self, report: CycleReport) -> None:
        """A cycle begins, and writes its figures into this report while it runs."""
        with self._lock:
            self._beat = self._monotonic()
            self._running = report

    def add(self, report: CycleReport) -> None:
        """A cycle has ended; nothing is written into its report any more."""
        with self._lock:
            self._beat = self._monotonic()
            self._running = None
            self._reports.append(report)
            self._latest = report
            self._figures = report if _has_figures(report) else self._figures
            self._newest_ms = _newest(self._newest_ms, report)
            if completed(report):
                self._awaited_since = self._beat
                self._last_completed_ms = report.start_ms + int(report.seconds * 1000)

    def count_free_shares(self, number: int | None) -> None:
        """So many shares have nobody who works on them; None: not known."""
        with self._lock:
            self._shares_free = number

    def snapshot(self) -> Snapshot:
        """Everything at one moment."""
        with self._lock:
            running = _copied(self._running) if self._running else None
            return Snapshot(
                identity=self._identity,
                role=self._role,
                role_since_ms=self._role_since_ms,
                started_ms=self._started_ms,
                poll_interval_s=self._poll_interval_s,
                settle_delay_s=self._settle_delay_s,
                beat=self._beat,
                awaited_since=self._awaited_since,
                last_completed_ms=self._last_completed_ms,
                reports=tuple(self._reports),
                latest=self._latest,
                running=running,
                figures=running if running and _has_figures(running) else self._figures,
                newest_ms=_newest(self._newest_ms, running) if running else dict(self._newest_ms),
                dependencies=tuple(_dependency(system, outage) for system, outage in self._outages.items()),
                holder=self._holder,
                shares_free=self._shares_free,
            )


def _has_figures(report: CycleReport) -> bool:
    """Whether the cycle came as far as reading the table; in the first of all nothing is reached for a while then."""
    return bool(report.reached or report.active)


def _copied(report: CycleReport) -> CycleReport:
    """The report as it is now: the cycle goes on writing into the other one."""
    copied = copy.copy(report)
    copied.windows, copied.newest_ms, copied.reasons = dict(report.windows), dict(report.newest_ms), list(report.reasons)
    return copied


def _newest(known: Mapping[RecordType, int], report: CycleReport) -> dict[RecordType, int]:
    return {**known, **{each: max(ms, known.get(each, 0)) for each, ms in report.newest_ms.items()}}


def _dependency(system: System, outage: Outage) -> Dependency:
    return Dependency(
        system=system,
        name=outage.dependency,
        down=outage.down,
        up_once=outage.up_once,
        since_ms=outage.since_ms,
        last_error=outage.last_error,
    )
