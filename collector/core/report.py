"""What one cycle does and did: the source of its log line, of the metrics and of the page for people."""

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from collector.core.fields import Fields
from collector.core.model import RecordType

MOST_FAILING = 10
"""So many of the interfaces that fail most are named."""


class WindowOutcome(enum.StrEnum):
    """What became of a window that was asked for."""

    DONE = "done"
    """Its points are on the bus, and the checkpoint has moved."""
    EMPTY = "empty"
    """Answered without a point."""
    FAILED = "failed"
    """Not answered."""
    RETURNED = "returned"
    """No queue takes its messages."""
    REFUSED = "refused"
    """The broker said no: a queue is full, say."""
    LOST = "lost"
    """Given up before the broker confirmed it."""
    MOVED = "moved"
    """Answered, but somebody had changed the checkpoint in the table meanwhile."""


class CycleOutcome(enum.StrEnum):
    """How a cycle ended."""

    COMPLETE = "complete"
    """Everything that was due has been asked for; single windows may have failed."""
    CUT = "cut"
    """Cut short: by the next cycle, which was due, or by a stop."""
    FAILED = "failed"
    """A dependency failed it; `reasons` says which and how."""


class ReasonKind(enum.Enum):
    """What a reason is about: where it is said depends on that."""

    FAILURE = "failure"
    """The cycle as a whole has failed."""
    DEPENDENCY = "dependency"
    """The cycle as a whole has failed because of an outage, which has log lines of its own."""
    NO_TRY = "no try"
    """Windows that were due and got no try."""
    LEFT = "left"
    """Something else that is left for the next cycle."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a cycle failed, or what it left for the next one; the text is one line."""

    text: str
    kind: ReasonKind

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class AnsweredUpTo:
    """Up to when the series of one record type were answered, and confirmed where there were points; idle ones left out.

    The lag at a moment is `now - SETTLE_DELAY` less one of these times, so that it grows with the clock.
    """

    worst_ms: int
    median_ms: int
    series: int


def _no_windows() -> dict[WindowOutcome, int]:
    return dict.fromkeys(WindowOutcome, 0)


@dataclass(slots=True, kw_only=True)
class CycleReport:
    """The figures of one cycle, while it runs and when it has ended.

    Written by the cycle's thread alone. Others may read it at any time: while `outcome` is None the cycle is running.
    """

    start_ms: int
    outcome: CycleOutcome | None = None
    seconds: float = 0.0
    reasons: list[Reason] = field(default_factory=list)
    listed: int | None = None
    """Usable entries of the listing; None while there is none, and when it failed."""
    new: int = 0
    retired: int = 0
    held_back: int = 0
    """Interfaces that the listing lacked, or had in excess, and that changed nothing because they were too many at once."""
    active: int = 0
    draining: int = 0
    """Retired rows that are still collected up to their end."""
    untrusted: int = 0
    settled_ms: int = 0
    """Up to where this cycle collects."""
    settle_ms: int = 0
    """SETTLE_DELAY: how long after the fact the source's points are complete."""
    interface_messages: int = 0
    """Confirmed ones; so are the points."""
    points: int = 0
    planned: int = 0
    """Windows that were planned so far."""
    done: int = 0
    """Windows that have an outcome by now, written to the table or not."""
    idle: int = 0
    """Series that were left out because they have been silent for a while."""
    windows: dict[WindowOutcome, int] = field(default_factory=_no_windows)
    outstanding: int = 0
    """Windows that were due and got no try."""
    checkpoints_moved: int = 0
    database_s: float = 0.0
    answered_up_to: Mapping[RecordType, AnsweredUpTo] = field(default_factory=dict)
    newest_ms: dict[RecordType, int] = field(default_factory=dict)
    """The newest point on the bus; before the first one of a record type, the table's newest checkpoint."""
    failures: Counter[str] = field(default_factory=Counter)
    failures_of: Counter[str] = field(default_factory=Counter)
    """Failed windows, by the reason and by the interface."""
    failing: tuple[tuple[str, int], ...] = ()
    """The interfaces with the most failed windows in this cycle, worst first."""

    @property
    def left_over(self) -> bool:
        """Whether a window, an interface message or the listing was left for the next cycle."""
        return bool(self.reasons) or self.outcome is not CycleOutcome.COMPLETE

    @property
    def texts(self) -> tuple[str, ...]:
        """The reasons, as people read them."""
        return tuple(each.text for each in self.reasons)

    def add(self, kind: ReasonKind, text: str) -> None:
        """Note why it fails, or what it leaves."""
        self.reasons.append(Reason(text, kind))

    @property
    def failed(self) -> bool:
        """Whether one of the reasons is that it failed as a whole."""
        return any(each.kind in (ReasonKind.FAILURE, ReasonKind.DEPENDENCY) for each in self.reasons)

    def lag_ms(self, answered: AnsweredUpTo) -> int:
        """How far the worst series of a record type is behind what could be collected, at the cycle's end."""
        return max(0, self.start_ms + round(self.seconds * 1000) - self.settle_ms - answered.worst_ms)

    def line(self) -> Fields:
        """The figures by name, for the log; the lag is that of the metrics and of the page at the cycle's end."""
        figures = {
            "outcome": "running" if self.outcome is None else self.outcome.value,
            "seconds": round(self.seconds, 1),
            "listed": "failed" if self.listed is None else self.listed,
            "active": self.active,
            "new": self.new,
            "retired": self.retired,
            "held_back": self.held_back,
            "draining": self.draining,
            "interface_messages": self.interface_messages,
            "points": self.points,
            "windows": self.done,
            **{f"windows_{outcome}": count for outcome, count in self.windows.items() if count},
            "outstanding": self.outstanding,
            "idle": self.idle,
            "database_seconds": round(self.database_s, 2),
            **{f"lag_{each}": self.lag_ms(answered) // 1000 for each, answered in self.answered_up_to.items()},
        }
        return Fields(figures)
