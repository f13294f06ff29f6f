"""The collector's state: what it remembers of cycles and roles."""

import pytest

from collector.core.model import RecordType
from collector.core.outage import Outage
from collector.core.report import AnsweredUpTo, CycleOutcome, CycleReport, WindowOutcome
from collector.watch.state import KEPT_REPORTS, CollectorState, Role, System

START_MS = 1_764_000_000_000


class Clock:
    """A monotonic and a wall clock that a test moves by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return START_MS / 1000 + self.seconds - 1000.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> CollectorState:
    return CollectorState({}, 900, 900, None, clock.monotonic, clock.now)


def report(outcome: CycleOutcome = CycleOutcome.COMPLETE, moved: int = 0, start_ms: int = START_MS) -> CycleReport:
    return CycleReport(start_ms=start_ms, seconds=12.5, outcome=outcome, checkpoints_moved=moved)


def test_new_state_is_starting_and_awaits_a_cycle_from_now_on(state: CollectorState) -> None:
    snapshot = state.snapshot()
    assert (snapshot.role, snapshot.role_since_ms, snapshot.started_ms) == (Role.STARTING, START_MS, START_MS)
    assert (snapshot.awaited_since_s, snapshot.beat_s, snapshot.poll_interval_s) == (1000.0, 1000.0, 900)
    assert (snapshot.last_completed_ms, snapshot.reports, snapshot.latest) == (None, (), None)


@pytest.mark.parametrize(
    ("outcome", "moved", "counts"),
    [
        (CycleOutcome.COMPLETE, 0, True),
        (CycleOutcome.COMPLETE, 9, True),
        (CycleOutcome.CUT, 0, False),
        (CycleOutcome.CUT, 1, True),
        (CycleOutcome.FAILED, 0, False),
        (CycleOutcome.FAILED, 9, False),
    ],
)
def test_cycle_counts_as_completed_when_complete_or_cut_with_progress(
    state: CollectorState, clock: Clock, outcome: CycleOutcome, moved: int, counts: bool
) -> None:
    clock.seconds += 60
    state.add(report(outcome, moved))
    snapshot = state.snapshot()
    assert snapshot.awaited_since_s == (1060.0 if counts else 1000.0)
    assert snapshot.last_completed_ms == (START_MS + 12_500 if counts else None)
    assert snapshot.latest == report(outcome, moved)


def test_only_the_last_reports_are_kept_oldest_first(state: CollectorState) -> None:
    for number in range(KEPT_REPORTS + 5):
        state.add(report(start_ms=START_MS + number))
    kept = state.snapshot().reports
    assert [each.start_ms - START_MS for each in kept] == list(range(5, KEPT_REPORTS + 5))


def test_failed_cycle_does_not_forget_when_the_last_one_completed(state: CollectorState) -> None:
    state.add(report())
    state.add(report(CycleOutcome.FAILED, start_ms=START_MS + 900_000))
    assert state.snapshot().last_completed_ms == START_MS + 12_500


def test_waiting_for_a_cycle_starts_anew_when_a_standby_takes_over(state: CollectorState, clock: Clock) -> None:
    state.enter(Role.STANDBY)
    clock.seconds += 86_400
    state.enter(Role.WORKING)
    snapshot = state.snapshot()
    assert snapshot.awaited_since_s == clock.seconds
    assert (snapshot.role, snapshot.role_since_ms) == (Role.WORKING, START_MS + 86_400_000)


def test_waiting_for_a_cycle_goes_on_when_starting_becomes_working(state: CollectorState, clock: Clock) -> None:
    clock.seconds += 5000
    state.enter(Role.WORKING)
    assert state.snapshot().awaited_since_s == 1000.0


def test_standby_keeps_its_history_but_has_no_latest_report(state: CollectorState) -> None:
    state.enter(Role.WORKING)
    state.add(report(CycleOutcome.FAILED))
    state.enter(Role.STANDBY)
    snapshot = state.snapshot()
    assert len(snapshot.reports) == 1
    assert snapshot.latest is None


def test_entering_the_same_role_again_keeps_its_time_and_beats(state: CollectorState, clock: Clock) -> None:
    state.enter(Role.STANDBY)
    clock.seconds += 30
    state.enter(Role.STANDBY)
    snapshot = state.snapshot()
    assert snapshot.role_since_ms == START_MS
    assert snapshot.beat_s == clock.seconds
    assert state.role is Role.STANDBY


def test_beat_is_the_time_of_the_last_turn(state: CollectorState, clock: Clock) -> None:
    clock.seconds += 7
    state.beat()
    assert state.snapshot().beat_s == 1007.0


def test_dependency_is_up_only_once_it_has_been_used(clock: Clock) -> None:
    outage = Outage("MySQL", clock.monotonic, clock.now)
    state = CollectorState({System.DATABASE: outage}, 900, 900, None, clock.monotonic, clock.now)
    (untried,) = state.snapshot().dependencies
    assert (untried.name, untried.up, untried.down) == ("MySQL", False, False)
    outage.ended()
    (used,) = state.snapshot().dependencies
    assert used.up
    clock.seconds += 60
    outage.failed("connection refused")
    (down,) = state.snapshot().dependencies
    assert (down.up, down.down, down.since_ms, down.last_error) == (False, True, START_MS + 60_000, "connection refused")


def reaching(worst_ms: int, newest_ms: int | None = None) -> CycleReport:
    """A cycle's report that came as far as the table."""
    made = report()
    made.answered_up_to = {RecordType.TRAFFIC: AnsweredUpTo(worst_ms, worst_ms, 5)}
    made.newest_ms = {} if newest_ms is None else {RecordType.TRAFFIC: newest_ms}
    return made


def test_running_cycle_is_seen_as_far_as_it_is_and_a_snapshot_does_not_change(state: CollectorState) -> None:
    running = CycleReport(start_ms=START_MS)
    state.begin(running)
    running.planned, running.done, running.windows[WindowOutcome.DONE] = 10, 3, 3
    seen = state.snapshot().running
    running.done = running.windows[WindowOutcome.DONE] = 4
    assert seen is not None
    assert (seen.outcome, seen.planned, seen.done, seen.windows[WindowOutcome.DONE]) == (None, 10, 3, 3)
    running.outcome = CycleOutcome.COMPLETE
    state.add(running)
    assert (state.snapshot().running, state.snapshot().latest) == (None, running)


def test_what_is_known_of_the_series_outlives_a_cycle_that_did_not_reach_the_table(state: CollectorState) -> None:
    known = reaching(START_MS - 60_000, START_MS - 30_000)
    state.add(known)
    state.add(report(CycleOutcome.FAILED))
    state.begin(CycleReport(start_ms=START_MS))
    snapshot = state.snapshot()
    assert snapshot.figures is known
    assert snapshot.answered_up_to == known.answered_up_to
    assert snapshot.newest_ms == {RecordType.TRAFFIC: START_MS - 30_000}


def test_first_cycle_shows_its_interfaces_before_a_series_is_answered(state: CollectorState) -> None:
    running = CycleReport(start_ms=START_MS)
    state.begin(running)
    assert state.snapshot().figures is None
    running.active = 9
    figures = state.snapshot().figures
    assert figures is not None
    assert figures.active == 9
    state.add(report(CycleOutcome.FAILED))
    assert state.snapshot().figures is None


def test_running_cycle_s_own_figures_come_first_and_the_newest_point_never_grows_older(state: CollectorState) -> None:
    state.add(reaching(START_MS - 60_000, START_MS))
    running = reaching(START_MS + 5, START_MS - 900_000)
    state.begin(running)
    snapshot = state.snapshot()
    assert snapshot.answered_up_to == running.answered_up_to
    assert snapshot.newest_ms == {RecordType.TRAFFIC: START_MS}
    running.newest_ms[RecordType.TRAFFIC] = START_MS + 30_000
    assert state.snapshot().newest_ms == {RecordType.TRAFFIC: START_MS + 30_000}


def test_standby_forgets_what_it_knew_and_says_who_works(state: CollectorState) -> None:
    state.enter(Role.WORKING)
    state.add(reaching(START_MS, START_MS))
    state.enter(Role.STANDBY, "10.0.0.7")
    snapshot = state.snapshot()
    assert (snapshot.figures, snapshot.newest_ms, snapshot.holder) == (None, {}, "10.0.0.7")
    state.enter(Role.WORKING)
    assert state.snapshot().holder == ""


def test_lag_grows_with_the_clock_and_is_never_negative(state: CollectorState, clock: Clock) -> None:
    lags = []
    for seconds in (0, 900, 901, 5000):
        clock.seconds = 1000.0 + seconds
        lags.append(state.snapshot().lag_s(START_MS))
    assert lags == [0, 0, 1, 4100]
