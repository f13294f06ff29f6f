"""Whether the collector does its work: the judgement behind /healthz, /livez, the page and one metric."""

from dataclasses import dataclass

from collector.core.report import CycleOutcome, CycleReport, ReasonKind
from collector.core.text import printable
from collector.watch.format import duration, utc
from collector.watch.state import Dependency, Role, Snapshot

INTERVALS_WITHOUT_CYCLE = 3
"""So many poll intervals without a completed cycle are a failure: one or two may be missed for a slow source's sake."""
MOST_SILENT_S = 300.0
"""A main loop that turns beats far more often than this."""
_OF_THE_OUTAGE = frozenset({ReasonKind.DEPENDENCY, ReasonKind.NO_TRY})


@dataclass(frozen=True, slots=True)
class Health:
    """What /healthz says: "ok", "standby" or "failing", and why it fails: a line each, printable and of bounded length."""

    status: str
    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.reasons


def judge(snapshot: Snapshot) -> Health:
    """Sum up the state.

    A standby owes no cycle, but it must be able to take over: one whose MySQL or RabbitMQ is down is not well.
    """
    reasons = [_down(each) for each in snapshot.down]
    if snapshot.role is not Role.STANDBY:
        waited_s = snapshot.now_s - snapshot.awaited_since_s
        if waited_s >= INTERVALS_WITHOUT_CYCLE * snapshot.poll_interval_s:
            reasons.append(f"no cycle completed for {duration(waited_s)}; one is due every {duration(snapshot.poll_interval_s)}")
        if snapshot.latest is not None and snapshot.latest.outcome is CycleOutcome.FAILED:
            reasons += _failed(snapshot.latest, said=bool(snapshot.down))
    status = "failing" if reasons else "standby" if snapshot.role is Role.STANDBY else "ok"
    return Health(status, tuple(map(printable, reasons)))


def alive(snapshot: Snapshot) -> bool:
    """Whether the main loop turns: its last beat is at most five minutes, or two intervals, old."""
    return snapshot.now_s - snapshot.beat_s <= max(MOST_SILENT_S, 2 * snapshot.poll_interval_s)


def _down(dependency: Dependency) -> str:
    return f"{dependency.name} is down since {utc(dependency.since_ms)} UTC: {dependency.last_error or 'no reason known'}"


def _failed(report: CycleReport, said: bool) -> list[str]:
    """Why the cycle failed, without an outage that still goes on and has been said already."""
    why = dict.fromkeys(each.text for each in report.reasons if not (said and each.kind in _OF_THE_OUTAGE))
    if why:
        return [f"the last cycle failed: {'; '.join(why)}"]
    return [] if said else ["the last cycle failed"]
