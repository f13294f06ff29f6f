"""What the collector is doing right now and what its last cycles did: written by the main loop, read by whoever watches."""

import enum
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collector.core.outage import Outage
from collector.core.report import CycleOutcome, CycleReport

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A copy of what is known of one dependency; `since_ms` is when it went down, or when it became usable."""

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

    role: Role
    role_since_ms: int
    started_ms: int
    poll_interval_s: float
    beat: float
    """When the main loop turned last."""
    awaited_since: float
    """From when on a completed cycle is awaited: the last one, the start, or the end of a standby, whatever came last."""
    last_completed_ms: int | None
    reports: tuple[CycleReport, ...]
    """Oldest first."""
    latest: CycleReport | None
    """The newest report, unless it is from before a standby: its figures are history then."""
    dependencies: tuple[Dependency, ...]


def completed(report: CycleReport) -> bool:
    """Whether a cycle counts as completed; one that was cut does if a checkpoint moved in it (SPEC section 8)."""
    if report.outcome is CycleOutcome.CUT:
        return report.checkpoints_moved > 0
    return report.outcome is CycleOutcome.COMPLETE


class CollectorState:
    """Holds the role, the last reports and the dependencies' outages; safe to use from every thread."""

    def __init__(
        self,
        dependencies: Sequence[Outage],
        poll_interval_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._dependencies = tuple(dependencies)
        self._poll_interval_s = poll_interval_s
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._role = Role.STARTING
        self._role_since_ms = self._started_ms = int(now() * 1000)
        self._beat = self._awaited_since = monotonic()
        self._last_completed_ms: int | None = None
        self._reports: deque[CycleReport] = deque(maxlen=KEPT_REPORTS)
        self._latest: CycleReport | None = None
        self.running: CycleReport | None = None
        """The report of the cycle that is running."""

    def begin(self, report: CycleReport) -> None:
        """A cycle has begun."""
        self.running = report

    @property
    def role(self) -> Role:
        """What this collector is there for at the moment."""
        return self._role

    def enter(self, role: Role) -> None:
        """Change the role; entering the one that it has already changes nothing but the beat."""
        with self._lock:
            self._beat = self._monotonic()
            if role is self._role:
                return
            if self._role is Role.STANDBY:
                self._awaited_since = self._beat
            if role is Role.STANDBY:
                self._latest = None
            self._role, self._role_since_ms = role, int(self._now() * 1000)

    def beat(self) -> None:
        """The main loop has turned; call it once a minute or more often, in a cycle too."""
        with self._lock:
            self._beat = self._monotonic()

    def add(self, report: CycleReport) -> None:
        """A cycle has ended."""
        with self._lock:
            self._beat = self._monotonic()
            self.running = None
            self._reports.append(report)
            self._latest = report
            if completed(report):
                self._awaited_since = self._beat
                self._last_completed_ms = report.start_ms + int(report.seconds * 1000)

    def snapshot(self) -> Snapshot:
        """Everything at one moment."""
        with self._lock:
            return Snapshot(
                role=self._role,
                role_since_ms=self._role_since_ms,
                started_ms=self._started_ms,
                poll_interval_s=self._poll_interval_s,
                beat=self._beat,
                awaited_since=self._awaited_since,
                last_completed_ms=self._last_completed_ms,
                reports=tuple(self._reports),
                latest=self._latest,
                dependencies=tuple(
                    Dependency(
                        name=each.dependency,
                        down=each.down,
                        up_once=each.up_once,
                        since_ms=each.since_ms,
                        last_error=each.last_error,
                    )
                    for each in self._dependencies
                ),
            )
