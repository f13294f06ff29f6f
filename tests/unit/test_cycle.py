"""One pass: what it lists, reconciles, announces and reports."""

import logging
import re
from dataclasses import replace

import pytest

from collector.core.contracts import Outcome
from collector.core.counters import Count
from collector.core.errors import AnswerError, CollectorError, UnavailableError
from collector.core.model import LAST_MS, RecordType, Row, UntrustedRow, Window
from collector.core.report import CycleOutcome, CycleReport
from collector.core.share import Share
from collector.cycle.cycle import ADVANCE_S
from tests.fakes import HOUR_MS, MINUTE_MS, NOW_MS, interface, no_points, resource, three_points
from tests.world import INTERFACES, SETTLED_MS, TRAFFIC, World, behind, happened, hurry

DAY_MS = 24 * HOUR_MS


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def warnings(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [line for line in lines if word in line]


def test_pass_lists_reconciles_fetches_and_advances_in_this_order() -> None:
    world = World(behind(1), listed=["devices/new/interfaces/1", resource(1)])
    world.run()
    assert world.journal == ["list", "read", "history", "apply", "read", "fetch", "advance"]


def test_first_cycle_of_all_makes_rows_publishes_interfaces_and_collects_the_lookback() -> None:
    names = ["devices/a/interfaces/1", "devices/a/interfaces/2"]
    world = World(listed=names)
    report = world.run()
    assert [(row.name, row.active_from_ms) for row in world.store.rows.values()] == [(name, NOW_MS) for name in names]
    assert [(window.begin_ms, window.end_ms) for window in world.source.asked] == [(NOW_MS - 1_800_000, SETTLED_MS)] * 2
    assert (world.publisher.published(INTERFACES), world.publisher.published(TRAFFIC)) == (2, 6)
    assert (report.listed, report.new, report.active, report.interface_messages) == (2, 2, 2, 2)
    assert report.outcome is CycleOutcome.COMPLETE
    assert not report.left_over


def test_next_cycle_goes_on_where_the_last_one_ended() -> None:
    world = World(behind(2), record_types=tuple(RecordType))
    world.run()
    world.source.asked.clear()
    report = world.next()
    assert {(window.begin_ms, window.end_ms) for window in world.source.asked} == {(SETTLED_MS, SETTLED_MS + 900_000)}
    assert (len(world.source.asked), report.interface_messages) == (6, 0)


def test_nothing_due_is_a_complete_cycle() -> None:
    world = World(behind(2, 0))
    report = world.run()
    assert world.asked == []
    assert (report.outcome, report.texts) == (CycleOutcome.COMPLETE, ())


@pytest.mark.parametrize("error", [UnavailableError("status 502"), AnswerError("listing is empty")])
def test_listing_that_fails_leaves_the_table_alone_and_the_cycle_goes_on(
    error: CollectorError, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(behind(3), listed=[resource(1)])
    world.source.error = error
    report = world.run()
    assert "apply" not in world.journal
    assert world.checkpoints() == [0, 0, 0]
    assert (report.outcome, report.listed, report.texts) == (CycleOutcome.FAILED, None, (f"listing: {error}",))
    assert len(warnings(caplog, str(error))) == 1
    assert world.publisher.published(INTERFACES) == 0


def test_entry_that_cannot_be_collected_is_one_warning_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    world = World(behind(1))
    world.source.skipped = ("entry 7: empty resource", "entry 9 '..': resource with a segment . or ..")
    assert world.run().outcome is CycleOutcome.COMPLETE
    assert len(warnings(caplog, "entry")) == 2
    assert world.counters.get(Count.LISTING_ENTRIES_SKIPPED) == 2


def test_row_that_is_no_longer_listed_is_collected_up_to_its_end_and_then_left_alone() -> None:
    world = World(behind(2), listed=[resource(1)])
    report = world.run()
    assert (report.retired, report.active, report.draining) == (1, 1, 1)
    assert world.store.rows[2].active_until_ms == NOW_MS
    assert world.next().draining == 1
    assert world.checkpoints() == [900_000, 900_000]  # to the row's end, NOW_MS, and no further
    asked = len(world.asked)
    report = world.next()
    assert world.asked[asked:] == [1]
    assert report.draining == 0
    assert all(series.row_id == 1 for series in world.cycle._states._states)  # the other one is forgotten


def test_name_that_comes_back_is_a_new_row_that_starts_where_the_old_one_ends() -> None:
    world = World(behind(2), listed=[resource(1)])
    world.run()
    world.source.interfaces[resource(2)] = interface(resource(2))
    world.next()
    world.next()
    old, new = world.store.of(resource(2))
    assert (old.active_until_ms, new.active_from_ms) == (NOW_MS, NOW_MS + 900_000)
    windows = sorted((each for each in world.source.asked if each.series.name == old.name), key=lambda each: each.begin_ms)
    edges = [each.begin_ms for each in windows] + [windows[-1].end_ms]
    assert edges == [SETTLED_MS - 900_000, SETTLED_MS, NOW_MS, NOW_MS + 900_000]
    assert [each.series.row_id for each in windows] == [2, 2, 3]


def test_short_list_is_held_back_until_a_second_one_an_interval_later() -> None:
    world = World(behind(40), listed=[resource(number) for number in range(1, 21)])
    first = world.run()
    assert (first.held_back, first.retired, first.active) == (20, 0, 40)
    assert len(set(world.asked)) == 40
    world.clock.advance(60)
    assert world.run().held_back == 20
    second = world.next()
    assert (second.held_back, second.retired, second.active) == (0, 20, 20)
    assert {row.active_until_ms for row in world.store.rows.values()} == {None, NOW_MS}


def test_short_list_is_the_first_one_again_after_another_collector_may_have_worked() -> None:
    world = World(behind(40), listed=[resource(number) for number in range(1, 21)])
    assert world.run().held_back == 20
    world.cycle.forget_earlier_cycles()
    first = world.next()
    assert (first.held_back, first.retired, first.active) == (20, 0, 40)
    assert world.next().retired == 20
    assert {row.active_until_ms for row in world.store.rows.values()} == {None, first.start_ms}


def test_only_cycle_retires_nothing_of_a_short_list_and_says_what_would_accept_it(caplog: pytest.LogCaptureFixture) -> None:
    world = World(behind(40), listed=[resource(number) for number in range(1, 21)], once=True)
    report = world.run()
    assert all(row.active for row in world.store.rows.values())
    assert report.left_over
    assert "MAX_RETIRED_SHARE=1" in report.texts[0]
    assert warnings(caplog, "second listing") == []
    assert world.checkpoints() == [0] * 40


@pytest.mark.parametrize(
    ("ahead_ms", "settled_ms", "warned"),
    [(0, SETTLED_MS, 0), (-HOUR_MS, SETTLED_MS, 1), (60_000, SETTLED_MS - MINUTE_MS, 0), (HOUR_MS, SETTLED_MS - HOUR_MS, 1)],
)
@pytest.mark.parametrize("listing_works", [True, False])
def test_netbeam_s_clock_limits_the_cycle_s_start_and_a_difference_is_one_warning(
    ahead_ms: int, settled_ms: int, warned: int, listing_works: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(behind(3, 2 * HOUR_MS))
    world.source.ahead_ms = ahead_ms
    world.source.error = None if listing_works else UnavailableError("status 502")
    report = world.run()
    assert {window.end_ms for window in world.source.asked} == {settled_ms}
    assert report.start_ms == NOW_MS
    assert len(warnings(caplog, "NTP")) == (warned if listing_works else 0)


def test_interface_message_has_the_listing_s_time_by_netbeam_s_clock() -> None:
    world = World(behind(1))
    world.source.ahead_ms = 5000
    world.run()
    assert b'"timestamp": %d}' % (NOW_MS - 5000) in world.publisher.batches[0].messages[0].body


def test_interface_message_that_is_lost_is_left_for_the_next_cycle() -> None:
    world = World(behind(2))
    lost = [Outcome.LOST]
    world.publisher.answer = lambda batch: lost.pop() if batch.routing_key == INTERFACES and lost else Outcome.CONFIRMED
    report = world.run()
    assert (report.interface_messages, report.outcome) == (1, CycleOutcome.COMPLETE)
    assert report.texts == ("interface messages were not all confirmed",)
    assert world.checkpoints() == [0, 0]
    again = world.next()
    assert (again.interface_messages, again.left_over) == (1, False)


def test_backlog_beyond_the_limit_is_one_warning_with_the_command_that_fetches_it(caplog: pytest.LogCaptureFixture) -> None:
    world = World([*behind(2, 40 * DAY_MS), *behind(1, 33 * DAY_MS + 1, first_id=3), *behind(2, first_id=4)],
                  max_backlog_ms=30 * DAY_MS, max_window_ms=30 * DAY_MS)  # fmt: skip
    report = world.run()
    (line,) = warnings(caplog, "MAX_BACKLOG")
    assert "series=3" in line
    command = re.search(r"backfill --begin (\d+) --end (\d+)'", line)
    assert command
    begin_ms, end_ms = map(int, command.groups())
    assert (begin_ms, end_ms) == (SETTLED_MS - 40 * DAY_MS, SETTLED_MS - 30 * DAY_MS)
    assert [window.begin_ms - SETTLED_MS for window in world.source.asked[:3]] == [-30 * DAY_MS] * 3
    assert world.checkpoints() == [0] * 5
    assert report.outcome is CycleOutcome.COMPLETE
    world.next()
    assert len(warnings(caplog, "MAX_BACKLOG")) == 1


def test_rows_that_cannot_be_trusted_are_one_warning_a_cycle(caplog: pytest.LogCaptureFixture) -> None:
    world = World(behind(1))
    world.store.untrusted = (UntrustedRow(8, "a/b", "status is '2'"), UntrustedRow(9, "a/c\n", "no time"))
    report = world.run()
    assert report.untrusted == 2
    (line,) = warnings(caplog, "trusted")
    assert "id 8 a/b: status is '2'" in line
    assert "\n" not in line


def test_table_of_which_no_row_can_be_trusted_fails_the_cycle() -> None:
    world = World(listed=[resource(1)])
    world.store.untrusted = (UntrustedRow(8, resource(1), "active_from is ahead of our clock"),)
    report = world.run()
    assert report.outcome is CycleOutcome.FAILED
    assert report.texts == ("no active row of the table can be trusted: is the clock right?",)


def test_few_that_fail_and_are_due_alone_are_no_failure_of_the_whole() -> None:
    up_to_date = [replace(row, checkpoints={RecordType.TRAFFIC: SETTLED_MS}) for row in behind(20, first_id=2)]
    report = World([*behind(1), *up_to_date], lambda window: "status 500").run()
    assert report.outcome is CycleOutcome.COMPLETE
    assert report.texts == ("1 window failed: status 500",)


def lag_s(report: CycleReport) -> tuple[float, float, int]:
    answered = report.answered_up_to[RecordType.TRAFFIC]
    return (report.settled_ms - answered.worst_ms) / 1000, (report.settled_ms - answered.median_ms) / 1000, answered.series


def test_lag_is_how_far_active_series_were_answered_and_leaves_idle_ones_out() -> None:
    world = World(behind(5, HOUR_MS), lambda window: "status 500" if window.series.row_id < 3 else three_points(window))
    assert lag_s(world.run()) == (3600, 0, 5)
    world = World(behind(5, 25 * HOUR_MS), no_points)
    reports = [world.next() for _ in range(8)]
    assert any(report.idle for report in reports)
    for report in reports:
        assert lag_s(report)[0] == 0 if report.idle < 5 else RecordType.TRAFFIC not in report.answered_up_to


def test_a_silent_series_counts_once_it_was_answered_and_one_that_talks_from_the_start() -> None:
    rows = [*behind(1), *behind(1, 2 * DAY_MS, first_id=2), *behind(1, checkpoint=False, first_id=3)]
    report = World(rows, lambda _window: "status 500").run()
    assert lag_s(report) == (900, 900, 1)
    report = World(rows, no_points).run()
    assert lag_s(report) == (0, 0, 3)


def test_cycle_in_which_no_window_got_through_has_failed() -> None:
    report = World(behind(3), lambda _window: "certificate not verified").run()
    assert report.outcome is CycleOutcome.FAILED
    assert report.texts == ("3 windows failed: certificate not verified", "no window got through")


def test_netbeam_that_is_away_fails_the_cycle() -> None:
    world = World(behind(3))
    world.source.outage.failed("timed out")
    report = world.run()
    assert (report.outcome, report.texts) == (CycleOutcome.FAILED, ("Netbeam is not available: timed out",))


def test_broker_s_short_outage_that_cost_nothing_does_not_fail_the_cycle() -> None:
    world = World(behind(3))
    world.on_answer(3, lambda: world.publisher.outage.failed("reset"))
    assert not world.run().left_over


def test_report_s_line_and_counts_tell_the_same() -> None:
    world = World(behind(4), lambda w: {1: "status 500", 2: []}.get(w.series.row_id, three_points(w)))
    report = world.run()
    assert happened(report) == {"failed": 1, "empty": 1, "done": 2}
    counted = {outcome: world.counters.get(Count.WINDOWS, outcome) for outcome in report.windows}
    assert counted == report.windows
    assert world.counters.get(Count.CYCLES, "complete") == 1
    assert "windows=4 windows_done=2 windows_empty=1 windows_failed=1" in str(report.line())


def test_windows_are_counted_and_series_seen_while_the_first_cycle_runs() -> None:
    world = World(behind(3, checkpoint=False), max_window_ms=12 * HOUR_MS)
    seen: list[tuple[int, int]] = []

    def look() -> None:
        report = world.reports[-1]
        answered = report.answered_up_to.get(RecordType.TRAFFIC)
        seen.append((world.counters.get(Count.WINDOWS, "done"), answered.series if answered else 0))

    world.on_turn, world.step_s = look, ADVANCE_S
    world.run()
    assert (0, 0) in seen
    assert (3, 3) in seen
    assert world.counters.get(Count.WINDOWS, "done") == 9


def test_cycle_that_the_store_ends_leaves_what_was_planned_and_not_done() -> None:
    world = World(behind(3))

    def lost() -> None:
        world.store.writer = False

    world.on_answer(2, lost)
    world.step_s = ADVANCE_S
    with pytest.raises(CollectorError):
        world.run()
    report = world.reports[-1]
    assert (report.planned, report.done + report.outstanding) == (3, 3)
    assert report.outstanding > 0


def test_one_window_is_no_windows() -> None:
    world = World(behind(1))
    world.outcomes(Outcome.REFUSED)
    assert "1 window refused by RabbitMQ" in world.run().texts


def test_series_with_the_most_failures_are_named_first() -> None:
    types = tuple(RecordType)

    def points(window: Window) -> list[object] | str:
        bad = window.series.row_id == 2 or (window.series.row_id == 1 and window.series.record_type is RecordType.ERRORS)
        return "status 500" if bad else three_points(window)

    report = World(behind(3), points, record_types=types).run()
    assert report.failing == ((resource(2), 3), (resource(1), 1))


def test_hand_made_row_at_the_edge_of_time_does_not_end_the_cycle() -> None:
    world = World([Row(1, resource(1), 10**12), Row(2, resource(2), LAST_MS)], max_window_ms=NOW_MS)
    assert world.run().outcome is CycleOutcome.COMPLETE
    assert world.source.asked[0].begin_ms == 10**12


def test_a_share_reconciles_collects_and_announces_its_own_interfaces_alone() -> None:
    names = [resource(number) for number in range(1, 31)]
    worlds = [World(listed=names, share=Share(number, 3)) for number in (1, 2, 3)]
    mine = []
    for world in worlds:
        report = world.run()
        held = {row.name for row in world.store.rows.values()}
        assert {window.series.name for window in world.source.asked} == held
        assert world.publisher.published(INTERFACES) == report.listed == report.active == len(held)
        mine.append(held)
    assert sum(map(len, mine)) == 30
    assert set().union(*mine) == set(names)


def test_rows_of_other_shares_are_neither_retired_nor_collected() -> None:
    world = World(behind(30), listed=[resource(1)], share=Share(1, 3))
    world.run()
    foreign = [row for row in world.store.rows.values() if not Share(1, 3).holds(row.name)]
    assert all(row.active and row.checkpoints[RecordType.TRAFFIC] == SETTLED_MS - 900_000 for row in foreign)


def test_dropped_points_are_ten_lines_a_cycle_and_one_with_the_count(caplog: pytest.LogCaptureFixture) -> None:
    world = World(behind(40), lambda window: [[window.begin_ms, "x", 1]])
    world.run()
    lines = warnings(caplog, "points dropped")
    assert len(lines) == 11
    assert lines[-1].endswith("count=30")
    world.next()
    assert len(warnings(caplog, "points dropped")) == 22
