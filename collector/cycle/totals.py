"""The figures of the running cycle, and the report that they make in the end."""

from collections import Counter
from dataclasses import dataclass, field

from collector.core.contracts import Outcome
from collector.core.model import RecordType, Series, Table
from collector.core.report import CycleOutcome, CycleReport, Lag
from collector.cycle.pipeline import WindowResult
from collector.cycle.plan import Span

MOST_FAILING = 10


@dataclass(slots=True)
class Progress:
    """What has happened so far in this cycle; used by the cycle's thread alone."""

    start_ms: int
    began: float
    database_began_s: float
    listed: int | None = None
    new: int = 0
    retired: int = 0
    held_back: int = 0
    table: Table = field(default_factory=Table)
    active_rows: set[int] = field(default_factory=set)
    """The ids of those that are collected and still listed."""
    active_series: int = 0
    settled_ms: int = 0
    """Up to where this cycle collects."""
    interface_messages: int = 0
    points: int = 0
    planned: int = 0
    idle: int = 0
    outstanding: int = 0
    moved: int = 0
    windows: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    """Failed windows by the reason; `failing` by the interface."""
    failing: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    """Why the cycle as a whole has failed; a line each."""
    left: list[str] = field(default_factory=list)
    """What else was left for the next cycle."""
    positions: dict[Series, int] = field(default_factory=dict)
    """Where each series that had something due stands now."""

    def note(self, result: WindowResult) -> None:
        """Count a window that did not get to the bus, or its points when they did."""
        if result.outcome is None:
            self.windows["failed"] += 1
            self.failures[result.failure] += 1
            self.failing[result.window.series.name] += 1
        elif result.outcome is Outcome.CONFIRMED:
            self.points += result.points
        else:
            self.windows[result.outcome.value] += 1

    def conclude(self, series: int) -> None:
        """Turn the counts of single windows into lines for the operator; `series` is how many are asked in most cycles."""
        for reason, count in self.failures.most_common(5):
            self.left.append(f"{count} windows failed: {reason}")
        for outcome in (Outcome.REFUSED, Outcome.RETURNED, Outcome.LOST):
            if count := self.windows[outcome.value]:
                self.left.append(f"{count} windows were {outcome.value} by RabbitMQ" if outcome is not Outcome.LOST
                                 else f"{count} windows were not confirmed by RabbitMQ")  # fmt: skip
        if count := self.windows["moved"]:
            self.left.append(f"{count} windows are not done: their checkpoint was changed in the table meanwhile")
        if self.outstanding:
            self.left.append(f"{self.outstanding} windows got no try")
        tried = sum(self.windows.values())
        got_through = any(self.windows[outcome] for outcome in ("done", "empty", "doubted", "moved", "held"))
        # a few that fail by themselves and are due more often than the others are no failure of the whole
        if tried and 2 * tried >= series and not got_through:
            self.failed.append("no window got through")

    def lag(self, record_types: tuple[RecordType, ...], idle: set[Series]) -> dict[RecordType, Lag]:
        """How far the active series are behind, by record type; idle ones are silent by themselves and left out."""
        lags, end_ms = {}, self.settled_ms
        active = [row for row in self.table.rows if row.active]
        for record_type in record_types:
            series = (Series(row.id, row.name, record_type) for row in active)
            behind = sorted(max(0, end_ms - self.positions.get(each, end_ms)) / 1000 for each in series if each not in idle)
            if behind:
                lags[record_type] = Lag(worst_s=behind[-1], median_s=behind[len(behind) // 2], series=len(behind))
        return lags

    def report(
        self, *, seconds: float, database_s: float, lag: dict[RecordType, Lag], draining: int, stopped: bool
    ) -> CycleReport:
        """The report of the cycle that has just ended."""
        if self.failed:
            outcome = CycleOutcome.FAILED
        else:
            outcome = CycleOutcome.CUT if self.outstanding or stopped else CycleOutcome.COMPLETE
        return CycleReport(
            start_ms=self.start_ms,
            seconds=seconds,
            outcome=outcome,
            reasons=tuple(self.failed + self.left),
            listed=self.listed,
            new=self.new,
            retired=self.retired,
            held_back=self.held_back,
            active=sum(row.active for row in self.table.rows),
            draining=draining,
            untrusted=len(self.table.untrusted),
            interface_messages=self.interface_messages,
            points=self.points,
            requests_planned=self.planned,
            idle=self.idle,
            windows=dict(self.windows),
            outstanding=self.outstanding,
            checkpoints_moved=self.moved,
            database_s=database_s - self.database_began_s,
            lag=lag,
            failing=tuple(self.failing.most_common(MOST_FAILING)),
        )


def start_positions(spans: list[Span]) -> dict[Series, int]:
    """Where the series of these spans stand before the cycle: what MAX_BACKLOG skips counts as behind."""
    return {span.series: span.begin_ms if span.skipped_from_ms is None else span.skipped_from_ms for span in spans}
