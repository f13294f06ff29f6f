"""One cycle: list, reconcile, announce, plan, fetch, publish, advance.

Only the order of things stands here, and what is said at its end. The pure steps are functions (`reconcile`, `spans`,
`silence`), fetching and publishing are the pipeline's, and the three systems are behind their contracts. An outage of the store
leaves `run` as an exception: the caller takes the lock again and starts a new cycle.
"""

import logging
from collections.abc import Callable, Sequence

from collector.core.contracts import Outcome, Store
from collector.core.counters import Count
from collector.core.errors import AnswerError, CollectorError, LockLostError, UnavailableError
from collector.core.model import Held, Listing, RecordType, Row, Table
from collector.core.report import CycleOutcome, CycleReport, ReasonKind, WindowOutcome
from collector.core.text import printable
from collector.cycle.checkpoints import Checkpoints
from collector.cycle.collection import Collection
from collector.cycle.conclusion import conclude
from collector.cycle.interface_messages import Announcements
from collector.cycle.name_history import NameHistory
from collector.cycle.pipeline import Pipeline, WindowResult
from collector.cycle.plan import Span, collected, names_to_look_up, settled_ms, spans
from collector.cycle.reconcile import new_names, reconcile
from collector.cycle.rules import Rules
from collector.cycle.series_state import SeriesStates

log = logging.getLogger(__name__)

MOST_NAMED = 10
"""Of rows that cannot be trusted, in one warning."""
CLOCK_TOLERANCE_S = 60.0
ADVANCE_S = 15.0
"""Confirmed windows are written together about so often: after a crash no more than these are published twice. Of a full
cycle's time the database takes 2.3 to 2.5 % where it is every 5 s, and 1.5 to 2.1 % every 10 or 15 s."""
PROGRESS_S = 60.0
"""A cycle that lasts longer says so often how far it is."""


class Cycle:
    """Runs cycle after cycle and remembers between them what the table does not hold; used by one thread.

    `begun` is handed each cycle's report when the cycle begins; `backfill` makes the command line for a range in ms.
    `place` is as for SeriesStates.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        rules: Rules,
        *,
        place: Callable[[int], float] | None = None,
        begun: Callable[[CycleReport], None] = lambda report: None,
        beat: Callable[[], None] = lambda: None,
        backfill: Callable[[int, int], str] = lambda begin_ms, end_ms: f"backfill --begin {begin_ms} --end {end_ms}",
    ) -> None:
        self._source, self._flow = pipeline.source, pipeline.flow
        self._stop, self._counters, self._limited = pipeline.stop, pipeline.counters, pipeline.limited
        self._monotonic = pipeline.monotonic
        self._pipeline, self._store, self._rules = pipeline, store, rules
        self._begun, self._beat, self._backfill = begun, beat, backfill
        self._announcements = Announcements(rules.snapshot_s, self._counters, self._monotonic, self._limited)
        self._states = SeriesStates(rules, place)
        self._checkpoints = Checkpoints(store, self._states, self._counters, rules.late_ms)
        self._history = NameHistory(store)
        self._held = Held()
        """Names that the last listing lacked or had in excess, and that were left as they were."""
        self._newest_ms: dict[RecordType, int] = {}
        """The newest point on the bus, since the start."""
        self._said = 0.0
        """When the log last said how far the cycle is, or when it began."""

    def run(self, now_ms: int, until: float) -> CycleReport:
        """One cycle at `now_ms`; no window is started after the monotonic time `until`.

        Raises UnavailableError and ConfigurationError of the store; what is confirmed by then is written by the next cycle.
        """
        report = CycleReport(start_ms=now_ms, settle_ms=self._rules.settle_ms, newest_ms=self._newest_ms)
        began = self._said = self._monotonic()
        database_began_s = self._store.database_s
        self._begun(report)
        self._beat()
        self._flow.begin(until)
        try:
            self._checkpoints.write(report)
            listing = self._list(now_ms, report)
            until = self._after_listing(until)
            now_ms = listing.time_ms if listing else self._source.latest_ms(now_ms)
            table = self._reconcile(listing, now_ms, report)
            if listing:
                self._announce(listing, until, report)
            del listing  # some 30 MB that the rest of the cycle has no use for
            due = self._plan(table, now_ms, report)
            rows = [row for row, _ in collected(table.rows)]
            self._checkpoints.begin(table.newest_ms)
            self._states.begin(rows, now_ms, report.settled_ms)
            chosen = self._states.choose(due)
            self._say_skipped(due)
            self._note_plan(rows, chosen, len(table.untrusted), report)
            self._collect(chosen, until, report)
            report.answered_up_to = self._states.answered_up_to()
            conclude(report, self._pipeline, self._states.checkpoints_of_answered(), self._announcements.left, self._rules)
        except CollectorError:
            # windows that got no try, or whose checkpoint was not written, because of the store's outage
            report.outstanding = max(report.outstanding, report.planned - report.done)
            raise
        finally:
            self._limited.conclude()
            report.seconds = self._monotonic() - began
            report.database_s = self._store.database_s - database_began_s
        return self._counted(report)

    def forget_earlier_cycles(self) -> None:
        """Forget what earlier cycles noted, since another collector may have worked in between.

        It may have listed a missing interface again: to retire that one as of the old listing would leave a gap behind its
        checkpoint.
        """
        self._held = Held()
        self._history.forget()
        self._newest_ms.clear()

    def _list(self, now_ms: int, report: CycleReport) -> Listing | None:
        try:
            whole = self._source.list(now_ms)
        except (UnavailableError, AnswerError) as error:
            if not self._source.outage.down:
                report.add(ReasonKind.FAILURE, f"listing: {error}")
            log.warning("listing failed, going on with the interfaces of the table error=%r", str(error))
            return None
        self._counters.add(Count.LISTING_ENTRIES_SKIPPED, len(whole.skipped))
        for fault in whole.skipped:
            self._limited.warning("listing entry skipped", "fault=%r", printable(fault))
        if abs(whole.clock_ahead_s) > CLOCK_TOLERANCE_S:
            clocks = f"our clock and {self._source.name}'s differ, is NTP running?"
            log.warning("%s ahead_seconds=%.0f", clocks, whole.clock_ahead_s)
        listing = whole.of(self._rules.share)
        report.listed = len(listing.interfaces)
        return listing

    def _after_listing(self, until: float) -> float:
        """The end of the time for windows.

        A listing that lasts until the next cycle is due leaves its windows the time of that cycle, or of the one after it: at
        least half an interval. Otherwise a source whose listing takes longer than POLL_INTERVAL, its three tries included,
        would never be asked for a point.
        """
        late_s, poll_s = self._monotonic() - until, self._rules.poll_ms / 1000
        if late_s < 0:
            return until
        until += poll_s * (1 + late_s // poll_s)
        until += poll_s * (until - self._monotonic() < poll_s / 2)
        self._flow.begin(until)
        return until

    def _reconcile(self, listing: Listing | None, now_ms: int, report: CycleReport) -> Table:
        """Bring the table into line with the listing; the table of this share as it is then."""
        table = self._read(now_ms)
        if listing:
            history = self._history.of(new_names(listing, table), table.rows)
            changes = reconcile(listing, table, history, self._held, self._rules)
            if changes.new or changes.retired:
                self._store.apply(changes)
                table = self._read(now_ms)
            self._held = changes.held
            report.new, report.retired, report.held_back = len(changes.new), len(changes.retired), len(changes.held)
            if changes.held:
                self._say_held_back(changes.held, sum(row.active for row in table.rows), report)
        if table.untrusted:
            named = [f"id {row.id} {row.name}: {row.reason}" for row in table.untrusted[:MOST_NAMED]]
            template = "".join(f" row_{number}=%r" for number, _ in enumerate(named, 1))
            log.warning(f"rows that cannot be trusted are left alone count=%d{template}", len(table.untrusted), *named)
            if not any(row.active for row in table.rows):
                report.add(ReasonKind.FAILURE, "no active row of the table can be trusted: is the clock right?")
        self._beat()
        return table

    def _read(self, now_ms: int) -> Table:
        return self._store.read(now_ms, self._rules.record_types).of(self._rules.share)

    def _say_held_back(self, held: Held, active: int, report: CycleReport) -> None:
        lacks = f"lacks {len(held.missing)} of {active} active interfaces, none of them is retired"
        adds = f"adds {len(held.added)} interfaces to {active} active ones, none of them is taken"
        line = "the listing " + " and ".join([*([lacks] if held.missing else []), *([adds] if held.added else [])])
        if self._rules.once:
            report.add(ReasonKind.LEFT, f"{line}; MAX_RETIRED_SHARE=1 accepts the list")
        else:
            log.warning("%s until a second listing says the same", line)

    def _announce(self, listing: Listing, until: float, report: CycleReport) -> None:
        working = True
        for results in self._pipeline.interfaces(self._announcements.due(listing), until):
            self._beat()
            if working and not self._store.holds_lock():
                # without the lock nothing is admitted, and the wait for it would last until the end of the cycle
                working = False
                self._flow.shut()
            for resource, outcome in results:
                if outcome in (Outcome.CONFIRMED, Outcome.UNACCEPTABLE):
                    self._announcements.settled(resource)
                    report.interface_messages += outcome is Outcome.CONFIRMED
        if not working:
            raise LockLostError("the lock is not ours any more")
        if self._announcements.left:
            report.add(ReasonKind.LEFT, "interface messages were not all confirmed")

    def _plan(self, table: Table, now_ms: int, report: CycleReport) -> list[Span]:
        """What is due of each series."""
        names = names_to_look_up(table.rows, self._rules.record_types)
        history = self._history.of(names, table.rows)
        self._history.keep_only(names)
        report.settled_ms = settled_ms(now_ms, self._rules.settle_ms)
        return spans(table.rows, history, now_ms, self._rules)

    def _note_plan(self, rows: Sequence[Row], chosen: Sequence[Span], untrusted: int, report: CycleReport) -> None:
        """Note what is collected in this cycle, and what is not."""
        # before `active`: from then on the page shows this report's figures, `answered_up_to` among them
        report.answered_up_to = self._states.answered_up_to()
        active = [row for row in rows if row.active]
        report.idle, report.active, report.untrusted = len(self._states.idle), len(active), untrusted
        asked = {span.series.row_id for span in chosen} | {series.row_id for series in self._states.idle}
        report.draining = len(asked - {row.id for row in active})
        for record_type in self._rules.record_types:
            checkpoints = [row.checkpoints[record_type] for row in active if record_type in row.checkpoints]
            if checkpoints:
                self._newest_ms.setdefault(record_type, max(checkpoints))

    def _say_skipped(self, due: list[Span]) -> None:
        skips = [span for span in due if self._states.skips(span)]
        skipped = [(span.skipped_from_ms, span.begin_ms) for span in skips if span.skipped_from_ms is not None]
        if skipped:
            command = self._backfill(min(begin_ms for begin_ms, _ in skipped), max(end_ms for _, end_ms in skipped))
            log.warning("series further behind than MAX_BACKLOG start there series=%d fetch_the_rest=%r", len(skipped), command)

    def _collect(self, due: list[Span], until: float, report: CycleReport) -> None:
        """Every series' first window, then every series' second, and so on."""
        collection = Collection(self._pipeline, self._states, due)
        while collection.left and not self._stop.is_set() and self._monotonic() < until:
            report.planned += len(collection.left)
            self._round(collection, until, report)
            if not collection.complete:
                break
            collection.drop(collection.not_done)
        report.outstanding += len(collection.left.keys() - collection.not_done)

    def _round(self, collection: Collection, until: float, report: CycleReport) -> None:
        failure: CollectorError | None = None
        written = self._monotonic()
        for results in collection.round(until):
            self._beat()
            for result in results:
                self._note(result, report)
            at = self._monotonic()
            if at - self._said >= PROGRESS_S:
                self._said = at
                log.info("cycle goes on windows=%d of=%d points=%d", report.done, report.planned, report.points)
            if failure is None and at - written >= ADVANCE_S:
                try:
                    collection.drop(self._checkpoints.write(report))
                    report.answered_up_to = self._states.answered_up_to()
                except CollectorError as error:
                    # raised once every window in flight has its outcome: the next cycle then writes all that is confirmed
                    failure = error
                    self._flow.shut()
                written = at
        if failure:
            raise failure
        collection.drop(self._checkpoints.write(report))

    def _note(self, result: WindowResult, report: CycleReport) -> None:
        window, series = result.window, result.window.series
        report.done += 1
        log.debug(
            "window ended outcome=%s points=%d seconds=%.3f name=%s record_type=%s begin=%d end=%d",
            result.outcome, result.points, result.seconds, series.name, series.record_type, window.begin_ms, window.end_ms,
        )  # fmt: skip
        self._checkpoints.ended(result, report)
        if result.done:
            report.points += result.points
            if result.points and result.newest_ms is not None:
                self._newest_ms[series.record_type] = max(result.newest_ms, self._newest_ms.get(series.record_type, 0))
        elif result.outcome is WindowOutcome.FAILED:
            report.failures[result.failure] += 1
            report.failures_of[series.name] += 1

    def _counted(self, report: CycleReport) -> CycleReport:
        if report.failed:
            report.outcome = CycleOutcome.FAILED
        else:
            report.outcome = CycleOutcome.CUT if report.outstanding or self._stop.is_set() else CycleOutcome.COMPLETE
        self._counters.add(Count.CYCLES, 1, report.outcome.value)
        return report
