"""What one cycle did: the source of its log line, of the metrics and of the page for people."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from collector.core.model import RecordType


class CycleOutcome(enum.StrEnum):
    """How a cycle ended."""

    COMPLETE = "complete"
    """Everything that was due has been asked for; single windows may have failed."""
    CUT = "cut"
    """Cut short: by the next cycle, which was due, or by a stop."""
    FAILED = "failed"
    """A dependency failed it; `reasons` says which and how."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the active series of one record type are behind what could be collected, in seconds; idle ones left out."""

    worst_s: float
    median_s: float
    series: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleReport:
    """The figures of one cycle.

    Windows are counted by outcome: done, empty, failed, returned, refused, lost, moved, held, doubted.
    """

    start_ms: int
    seconds: float
    outcome: CycleOutcome
    reasons: tuple[str, ...] = ()
    """Why it failed, or what it left for the next one; a line each."""
    listed: int | None = None
    """Usable entries of the listing; None when the listing failed."""
    new: int = 0
    retired: int = 0
    held_back: int = 0
    """Interfaces that the listing lacked and that were not retired, because they were too many at once."""
    active: int = 0
    draining: int = 0
    """Retired rows that are still collected up to their end."""
    untrusted: int = 0
    interface_messages: int = 0
    """Confirmed ones; so are the points."""
    points: int = 0
    requests_planned: int = 0
    idle: int = 0
    """Series that were left out because they have been silent for a while."""
    windows: Mapping[str, int] = field(default_factory=dict)
    outstanding: int = 0
    """Windows that were due and got no try."""
    checkpoints_moved: int = 0
    database_s: float = 0.0
    lag: Mapping[RecordType, Lag] = field(default_factory=dict)
    failing: tuple[tuple[str, int], ...] = ()
    """The interfaces with the most failed windows in this cycle, worst first, at most ten."""

    @property
    def left_over(self) -> bool:
        """Whether a window, an interface message or the listing was left for the next cycle."""
        return bool(self.reasons) or self.outcome is not CycleOutcome.COMPLETE

    def line(self) -> str:
        """The figures in one line, for the log."""
        figures = {
            "outcome": self.outcome.value,
            "seconds": f"{self.seconds:.1f}",
            "listed": "failed" if self.listed is None else self.listed,
            "active": self.active,
            "new": self.new,
            "retired": self.retired,
            "held_back": self.held_back,
            "draining": self.draining,
            "interface_messages": self.interface_messages,
            "points": self.points,
            "windows": sum(self.windows.values()),
            **{f"windows_{outcome}": count for outcome, count in sorted(self.windows.items()) if count},
            "outstanding": self.outstanding,
            "idle": self.idle,
            "database_seconds": f"{self.database_s:.2f}",
            **{f"lag_{record_type}": f"{lag.worst_s:.0f}" for record_type, lag in self.lag.items()},
        }
        return " ".join(f"{name}={value}" for name, value in figures.items())
