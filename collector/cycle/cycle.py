"""One pass: list, reconcile, announce, plan, fetch, publish, advance.

Only the order of things stands here. The pure steps are functions (`reconcile`, `plan`), the three systems are behind their
contracts, and an outage of the store leaves `run` as an exception: the caller takes the lock again and starts a new pass.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from collector.core.contracts import Outcome, Publisher, Source, Store
from collector.core.counters import Count, Counters
from collector.core.errors import AnswerError, LockLostError, UnavailableError
from collector.core.model import Listing, Series, Table
from collector.core.report import CycleReport
from collector.core.shutdown import Stop
from collector.cycle.flow_control import Gate
from collector.cycle.interface_messages import Announcements
from collector.cycle.pipeline import Transfer
from collector.cycle.plan import PlanRules, Span, collected, settled_ms, spans
from collector.cycle.reconcile import ReconcileRules, reconcile
from collector.cycle.rounds import Rounds
from collector.cycle.series_state import Memory
from collector.cycle.totals import Progress, start_positions

log = logging.getLogger(__name__)

MOST_NAMED = 10
CLOCK_TOLERANCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a cycle works with."""

    source: Source
    store: Store
    publisher: Publisher
    gate: Gate
    transfer: Transfer
    announcements: Announcements
    memory: Memory
    counters: Counters
    stop: Stop


class Cycle:
    """Runs pass after pass and remembers between them what the table does not hold; used by one thread."""

    def __init__(
        self,
        parts: Parts,
        reconcile_rules: ReconcileRules,
        plan_rules: PlanRules,
        *,
        once: bool = False,
        backfill: Callable[[int, int], str] = "backfill --begin {} --end {}".format,
        beat: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._reconcile_rules = reconcile_rules
        self._plan_rules = plan_rules
        self._once = once
        self._backfill = backfill
        """The command that a warning names: it publishes what lies between two times."""
        self._beat = beat
        self._monotonic = monotonic
        self._held: dict[str, int] = {}
        self._rounds = Rounds(
            parts.store, parts.gate, parts.transfer, parts.memory, parts.stop, once=once, beat=beat, monotonic=monotonic
        )

    def run(self, now_ms: int, until: float) -> CycleReport:
        """One pass at `now_ms`; no window is started after the monotonic time `until`.

        Raises UnavailableError and ConfigurationError of the store; what is confirmed by then is written by the next pass.
        """
        self._beat()
        progress = Progress(now_ms, self._monotonic(), self._parts.store.database_s)
        self._parts.gate.begin(until)
        self._rounds.begin(progress)
        listing = self._list(now_ms, progress)
        until = self._after_listing(until)
        now_ms = listing.time_ms if listing else self._parts.source.latest_ms(now_ms)
        table = self._reconcile(listing, now_ms, progress)
        if listing:
            self._announce(listing, until, progress)
        del listing  # some 30 MB that the rest of the pass has no use for
        progress.settled_ms = settled_ms(now_ms, self._plan_rules.settle_ms)
        due = self._plan(table, now_ms, progress)
        idle = self._rounds.collect(due, now_ms, until, progress)
        return self._report(due, idle, progress)

    def forget_lately(self) -> None:
        """What earlier cycles found missing says nothing after a time in which another collector may have worked.

        It may have seen the interfaces again: to retire them as of the old listing would leave a gap behind their checkpoints.
        """
        self._held.clear()
        self._parts.memory.forget_doubts()

    def _list(self, now_ms: int, progress: Progress) -> Listing | None:
        try:
            listing = self._parts.source.list(now_ms)
        except (UnavailableError, AnswerError) as error:
            progress.failed.append(f"listing: {error}")
            log.warning("listing failed, going on with the interfaces of the table error=%r", str(error))
            return None
        progress.listed = len(listing.interfaces)
        self._parts.counters.add(Count.LISTING_ENTRIES_SKIPPED, len(listing.skipped))
        for fault in listing.skipped:
            log.warning("listing entry skipped %s", fault)
        if abs(listing.clock_ahead_s) > CLOCK_TOLERANCE_S:
            log.warning("our clock and Netbeam's differ, is NTP running? ahead_seconds=%.0f", listing.clock_ahead_s)
        return listing

    def _after_listing(self, until: float) -> float:
        """The end of the time for windows.

        A listing that lasts until the next cycle is due costs that cycle, not the windows: or else a Netbeam that takes longer
        for it than POLL_INTERVAL, its three tries included, would never be asked for a point.
        """
        late_s, poll_s = self._monotonic() - until, self._reconcile_rules.poll_ms / 1000
        if late_s < 0:
            return until
        until += poll_s * (1 + late_s // poll_s)
        until += poll_s * (until - self._monotonic() < poll_s / 2)
        self._parts.gate.begin(until)
        return until

    def _reconcile(self, listing: Listing | None, now_ms: int, progress: Progress) -> Table:
        store = self._parts.store
        table = store.read(now_ms)
        if listing:
            changes = reconcile(listing, table, self._held, self._reconcile_rules)
            if changes.new or changes.retired:
                store.apply(changes)
                table = store.read(now_ms)
            self._held = dict(changes.held)
            progress.new, progress.retired, progress.held_back = len(changes.new), len(changes.retired), len(changes.held)
            if changes.held:
                self._say_held_back(len(changes.held), sum(row.active for row in table.rows), progress)
        if table.untrusted:
            named = "; ".join(f"id {row.id} {row.name}: {row.reason}" for row in table.untrusted[:MOST_NAMED])
            log.warning("rows that cannot be trusted are left alone count=%d rows=%r", len(table.untrusted), named)
            if not any(row.active for row in table.rows):
                progress.failed.append("no active row of the table can be trusted: is the clock right?")
        progress.table = table
        self._beat()
        return table

    def _say_held_back(self, held: int, active: int, progress: Progress) -> None:
        line = f"the listing lacks {held} of {active} active interfaces, none of them is retired"
        if self._once:
            progress.left.append(f"{line}; MAX_RETIRED_SHARE=1 accepts the list")
        else:
            log.warning("%s until a second listing lacks them too", line)

    def _announce(self, listing: Listing, until: float, progress: Progress) -> None:
        announcements, working = self._parts.announcements, True
        for results in self._parts.transfer.interfaces(announcements.due(listing), until):
            self._beat()
            if working and not self._parts.store.holds_lock():
                # without the lock nothing is admitted, and the rest of the cycle would go by with waiting for it
                working = False
                self._parts.gate.shut()
            for result in results:
                if result.outcome is Outcome.CONFIRMED:
                    announcements.confirmed(result.resource)
                    progress.interface_messages += 1
        if not working:
            raise LockLostError("the lock is not ours any more")
        if announcements.left:
            progress.left.append("interface messages were not all confirmed")

    def _plan(self, table: Table, now_ms: int, progress: Progress) -> list[Span]:
        due = spans(table, now_ms, self._plan_rules)
        progress.positions = start_positions(due)
        record_types = self._plan_rules.record_types
        progress.active_rows = {row.id for row, _ in collected(table.rows) if row.active}
        progress.active_series = len(progress.active_rows) * len(record_types)
        left = {row.id for row in table.rows if not row.drained(record_types)}
        # SPEC has the only cycle judge by series with a checkpoint alone
        continues = not self._once and any(each in row.checkpoints for row in table.rows for each in record_types)
        self._parts.memory.begin(left, continues=continues)
        skipped = [span for span in due if span.skipped_from_ms is not None]
        if skipped:
            begin_ms = min(span.skipped_from_ms for span in skipped if span.skipped_from_ms is not None)
            end_ms = max(span.begin_ms for span in skipped)
            command = self._backfill(begin_ms, end_ms)
            log.warning("series further behind than MAX_BACKLOG start there series=%d fetch_the_rest=%r", len(skipped), command)
        return due

    def _report(self, due: list[Span], idle: set[Series], progress: Progress) -> CycleReport:
        parts = self._parts
        if parts.source.outage.down:
            progress.failed.append(f"Netbeam is not available: {parts.source.outage.last_error}")
        broker = parts.publisher.outage
        if broker.down and (progress.outstanding or progress.windows[Outcome.LOST.value] or parts.announcements.left):
            progress.failed.append(f"{broker.dependency} is not available: {broker.last_error}")
        progress.failed += [f"no queue takes messages with routing key {key}" for key in parts.gate.unroutable]
        progress.conclude(progress.active_series - len(idle))
        for outcome, count in progress.windows.items():
            parts.counters.add(Count.WINDOWS, count, outcome)
        report = progress.report(
            seconds=self._monotonic() - progress.began,
            database_s=parts.store.database_s,
            lag=progress.lag(self._plan_rules.record_types, idle),
            draining=len({span.series.row_id for span in due} - progress.active_rows),
            stopped=parts.stop.is_set(),
        )
        parts.counters.add(Count.CYCLES, 1, report.outcome.value)
        return report
