"""Whether the collector does its work: the judgement behind /healthz, /livez, the page and one metric."""

from dataclasses import dataclass

from collector.core.report import CycleOutcome
from collector.watch.format import duration, utc
from collector.watch.state import Dependency, Role, Snapshot

INTERVALS_WITHOUT_CYCLE = 3
"""So many poll intervals without a completed cycle are a failure (SPEC section 8)."""
MOST_SILENT_S = 300.0
"""A main loop that turns beats far more often than this."""
NOT_ASKED_BY_STANDBY = frozenset({"Netbeam"})
"""A standby runs no cycle, so what it knows of these is old. It does ask MySQL for the lock, and stays connected to RabbitMQ."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether all is well, and if not, why: a line for each reason."""

    ok: bool
    role: Role
    reasons: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """What /healthz says: ok, standby or failing."""
        if not self.ok:
            return "failing"
        return "standby" if self.role is Role.STANDBY else "ok"


def judge(snapshot: Snapshot, now: float) -> Health:
    """Sum up the state at the monotonic time `now` (SPEC section 8).

    A standby owes no cycle, but it must be able to take over: one whose MySQL or RabbitMQ is down is not well.
    """
    reasons = [_down(each) for each in snapshot.dependencies if each.down and asked(each, snapshot.role)]
    if snapshot.role is not Role.STANDBY:
        waited_s = now - snapshot.awaited_since
        if waited_s >= INTERVALS_WITHOUT_CYCLE * snapshot.poll_interval_s:
            reasons.append(f"no cycle completed for {duration(waited_s)}; one is due every {duration(snapshot.poll_interval_s)}")
        if snapshot.latest is not None and snapshot.latest.outcome is CycleOutcome.FAILED:
            why = "; ".join(snapshot.latest.texts)
            reasons.append(f"the last cycle failed: {why}" if why else "the last cycle failed")
    return Health(not reasons, snapshot.role, tuple(reasons))


def asked(dependency: Dependency, role: Role) -> bool:
    """Whether what is known of the dependency is kept up to date in this role."""
    return role is not Role.STANDBY or dependency.name not in NOT_ASKED_BY_STANDBY


def alive(snapshot: Snapshot, now: float) -> bool:
    """Whether the main loop turns: its last beat is at most five minutes, or two intervals, old."""
    return now - snapshot.beat <= max(MOST_SILENT_S, 2 * snapshot.poll_interval_s)


def _down(dependency: Dependency) -> str:
    return f"{dependency.name} is down since {utc(dependency.since_ms)} UTC: {dependency.last_error or 'no reason known'}"
