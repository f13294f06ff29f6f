"""One pass: what it lists, reconciles, announces and reports."""

import logging
import re
from dataclasses import replace

import pytest

from collector.core.contracts import Outcome
from collector.core.counters import Count
from collector.core.errors import AnswerError, CollectorError, UnavailableError
from collector.core.model import LAST_MS, RecordType, Row, UntrustedRow, Window
from collector.core.report import CycleOutcome
from tests.fakes import HOUR_MS, MINUTE_MS, NOW_MS, interface, no_points, resource, three_points
from tests.world import INTERFACES, SETTLED_MS, TRAFFIC, World, behind, hurry

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
    assert world.journal == ["list", "read", "apply", "read", "fetch", "advance"]


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
    assert (report.outcome, report.reasons) == (CycleOutcome.COMPLETE, ())


@pytest.mark.parametrize("error", [UnavailableError("status 502"), AnswerError("listing is empty")])
def test_listing_that_fails_leaves_the_table_alone_and_the_cycle_goes_on(
    error: CollectorError, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(behind(3), listed=[resource(1)])
    world.source.error = error
    report = world.run()
    assert "apply" not in world.journal
    assert world.checkpoints() == [0, 0, 0]
    assert (report.outcome, report.listed, report.reasons) == (CycleOutcome.FAILED, None, (f"listing: {error}",))
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
    gone = next(window for window in world.source.asked if window.series.row_id == 2)
    assert world.memory.talks(gone) is None  # forgotten


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
    world.cycle.forget_lately()
    first = world.next()
    assert (first.held_back, first.retired, first.active) == (20, 0, 40)
    assert world.next().retired == 20
    assert {row.active_until_ms for row in world.store.rows.values()} == {None, first.start_ms}


def test_only_cycle_retires_nothing_of_a_short_list_and_says_what_would_accept_it(caplog: pytest.LogCaptureFixture) -> None:
    world = World(behind(40), listed=[resource(number) for number in range(1, 21)], once=True)
    report = world.run()
    assert all(row.active for row in world.store.rows.values())
    assert report.left_over
    assert "MAX_RETIRED_SHARE=1" in report.reasons[0]
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
    assert report.reasons == ("interface messages were not all confirmed",)
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
    assert report.reasons == ("no active row of the table can be trusted: is the clock right?",)


def test_few_that_fail_and_are_due_alone_are_no_failure_of_the_whole() -> None:
    up_to_date = [replace(row, checkpoints={RecordType.TRAFFIC: SETTLED_MS}) for row in behind(20, first_id=2)]
    report = World([*behind(1), *up_to_date], lambda window: "status 500").run()
    assert report.outcome is CycleOutcome.COMPLETE
    assert report.reasons == ("1 windows failed: status 500",)


def test_lag_is_how_far_active_series_are_behind_and_leaves_idle_ones_out() -> None:
    world = World(behind(5, HOUR_MS), lambda window: "status 500" if window.series.row_id < 3 else three_points(window))
    lag = world.run().lag[RecordType.TRAFFIC]
    assert (lag.worst_s, lag.median_s, lag.series) == (3600, 0, 5)
    world = World(behind(5), no_points)
    reports = [world.next() for _ in range(8)]
    assert any(report.idle for report in reports)
    assert reports[0].lag[RecordType.TRAFFIC].worst_s == 1800  # not believed yet
    for report in reports[1:]:
        assert report.lag[RecordType.TRAFFIC].worst_s == 0 if report.idle < 5 else RecordType.TRAFFIC not in report.lag


def test_what_the_backlog_s_limit_skips_counts_as_behind_until_it_is_past() -> None:
    world = World(behind(1, 40 * DAY_MS), lambda _window: "status 500", max_backlog_ms=30 * DAY_MS)
    assert world.run().lag[RecordType.TRAFFIC].worst_s == 40 * DAY_MS / 1000


def test_cycle_in_which_no_window_got_through_has_failed() -> None:
    report = World(behind(3), lambda _window: "certificate not verified").run()
    assert report.outcome is CycleOutcome.FAILED
    assert report.reasons == ("no window got through", "3 windows failed: certificate not verified")


def test_netbeam_that_is_away_fails_the_cycle() -> None:
    world = World(behind(3))
    world.source.outage.failed("timed out")
    report = world.run()
    assert (report.outcome, report.reasons) == (CycleOutcome.FAILED, ("Netbeam is not available: timed out",))


def test_broker_s_short_outage_that_cost_nothing_does_not_fail_the_cycle() -> None:
    world = World(behind(3))
    world.on_answer(3, lambda: world.publisher.outage.failed("reset"))
    assert not world.run().left_over


def silent_after(world: World, cycles: int, row_ids: range) -> None:
    """Some cycles with points, then none for these rows."""
    for _ in range(cycles):
        assert world.next().outcome is CycleOutcome.COMPLETE
    world.source.points = lambda window: no_points(window) if window.series.row_id in row_ids else three_points(window)


def test_silence_of_all_moves_no_checkpoint_of_the_silent_makes_none_idle_and_fails_the_cycle() -> None:
    world = World(behind(21))
    silent_after(world, 1, range(1, 12))
    before = world.checkpoints()
    for number in range(1, 6):
        report = world.next()
        assert world.checkpoints() == before[:11] + [900_000 * (number + 1)] * 10
        assert (report.outcome, report.windows["held"], report.idle) == (CycleOutcome.FAILED, 11, 0)
        assert "no points for 11 series" in report.reasons[0]
    world.source.points = three_points
    world.next()
    assert len(set(world.checkpoints())) == 1
    held = [window for window in world.source.asked if window.series.row_id == 1]
    assert held[-1].begin_ms == held[1].begin_ms


@pytest.mark.parametrize(("rows", "silent"), [(10, 10), (22, 11), (100, 50)])
def test_few_or_half_that_fall_silent_are_nothing_special(rows: int, silent: int) -> None:
    world = World(behind(rows))
    silent_after(world, 1, range(1, silent + 1))
    assert world.next().windows.get("doubted") == silent
    assert world.checkpoints() == [900_000] * silent + [900_000 * 2] * (rows - silent)
    report = world.next()
    assert report.outcome is CycleOutcome.COMPLETE
    assert report.windows["empty"] == silent
    assert set(world.checkpoints()) == {900_000 * 3}


def test_silence_that_begins_and_ends_in_mid_round_loses_nothing() -> None:
    world = World(behind(40))
    silent_after(world, 1, range(25, 41))
    assert world.next().windows == {"done": 24, "doubted": 16}  # began when most had been answered
    world.source.points = no_points
    assert world.next().windows == {"held": 40}
    world.source.points = lambda window: no_points(window) if window.series.row_id <= 16 else three_points(window)
    assert world.next().windows == {"done": 24, "doubted": 16}  # ended when some had been answered
    world.source.points = three_points
    assert world.next().windows == {"done": 40}
    assert set(world.checkpoints()) == {900_000 * 5}
    began = [{window.begin_ms for window in world.source.asked if window.series.row_id == row_id} for row_id in (1, 20, 40)]
    assert [len(each) for each in began] == [3, 4, 3]  # what came back empty was asked again from the same beginning


def test_silence_that_begins_in_the_first_round_of_a_restart_loses_nothing() -> None:
    world = World(behind(40), lambda window: three_points(window) if window.series.row_id <= 2 else [])
    assert world.run().windows == {"done": 2, "doubted": 38}
    world.source.points = no_points
    for _ in range(3):
        assert world.next().windows == {"held": 40}
    world.source.points = three_points
    assert world.next().windows == {"done": 40}
    assert set(world.checkpoints()) == {900_000 * 4}


def test_silence_of_all_after_a_first_cycle_that_was_cut_short_holds_back_series_without_a_checkpoint_too() -> None:
    world = World([*behind(2), *behind(30, checkpoint=False, first_id=3)], no_points)
    for _ in range(3):
        assert world.next().windows == {"held": 32}
    assert world.checkpoints() == [-900_000] * 2 + [None] * 30
    world.source.points = three_points
    assert set(world.next().windows) == {"done"}
    assert set(world.checkpoints()) == {900_000 * 4}


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("answered", [8, 20])
def test_silence_in_a_cycle_that_was_cut_short_is_not_believed_though_it_is_that_of_few(answered: int, once: bool) -> None:
    world = World([*behind(2), *behind(40, checkpoint=False, first_id=3)], no_points, once=once)
    world.on_answer(answered, world.stop.set if once else lambda: world.clock.advance(900))
    assert world.run(900).windows == {"doubted": answered}
    assert world.checkpoints() == [-900_000] * 2 + [None] * 40


@pytest.mark.parametrize("once", [True, False])
def test_silence_of_those_few_that_a_failing_netbeam_still_answers_is_not_believed(once: bool) -> None:
    rows = [*behind(2), *behind(40, checkpoint=False, first_id=3)]
    world = World(rows, lambda window: "status 500" if window.series.row_id > 9 else no_points(window), once=once)
    assert world.run().windows == {"failed": 33, "doubted": 9}
    assert world.checkpoints() == [-900_000] * 2 + [None] * 40
    world = World(rows, lambda window: [three_points(window), "status 500", []][window.series.row_id % 3], once=once)
    assert world.run().windows["empty"] >= 13  # where others have points, it says something


@pytest.mark.parametrize("checkpoint", [True, False])
def test_one_device_that_always_fails_holds_back_no_silent_ones(checkpoint: bool) -> None:
    rows = behind(8, checkpoint=checkpoint)
    world = World(rows, lambda window: "status 500" if window.series.row_id == 1 else no_points(window))
    for _ in range(3):
        world.next()
    assert all(at is not None and at > 0 for at in world.checkpoints()[1:])


def test_series_that_is_known_to_be_silent_moves_on_in_a_cycle_that_was_cut_short() -> None:
    world = World(behind(30), lambda window: no_points(window) if window.series.row_id <= 5 else three_points(window))
    for _ in range(2):
        world.next()
    world.on_answer(5, lambda: world.clock.advance(900))
    assert world.next(800).windows == {"empty": 5}
    assert world.checkpoints()[:5] == [900_000 * 3] * 5


def test_new_series_that_are_silent_are_no_failure_where_the_others_have_nothing_due() -> None:
    world = World(behind(12))
    world.run()
    world.source.interfaces = {name: interface(name) for name in map(resource, range(1, 31))}
    world.source.points = no_points
    report = world.run()
    assert (report.new, report.outcome, report.windows) == (18, CycleOutcome.COMPLETE, {"empty": 18})


def test_cycles_within_one_minute_neither_believe_what_is_doubted_nor_take_it_for_a_failure_of_netbeam() -> None:
    world = World(behind(40), lambda window: three_points(window) if window.series.row_id <= 20 else [])
    assert world.run().windows == {"done": 20, "doubted": 20}
    for _ in range(2):
        report = world.run()
        assert (report.windows, report.outcome) == ({"doubted": 20}, CycleOutcome.COMPLETE)
    world.source.points = no_points
    assert world.next().windows == {"held": 40}
    world.source.points = lambda window: three_points(window) if window.series.row_id <= 20 else []
    assert world.next().windows == {"done": 20, "doubted": 20}
    assert world.next().windows == {"done": 20, "empty": 20}
    assert len(set(world.checkpoints())) == 1


def test_some_that_fall_silent_cycle_after_cycle_are_no_failure_of_netbeam() -> None:
    world = World(behind(24))
    silent_after(world, 1, range(1, 11))
    assert world.next().windows == {"done": 14, "doubted": 10}
    world.source.points = lambda window: no_points(window) if window.series.row_id <= 15 else three_points(window)
    assert world.next().windows == {"done": 9, "doubted": 5, "empty": 10}
    report = world.next()
    assert (report.outcome, report.windows) == (CycleOutcome.COMPLETE, {"done": 9, "empty": 15})
    assert len(set(world.checkpoints())) == 1


def test_holes_of_different_series_in_a_backlog_stop_no_catching_up() -> None:
    def holes(window: Window) -> list[object]:
        hole = (SETTLED_MS - window.begin_ms) // (6 * HOUR_MS) == (10 if window.series.row_id <= 15 else 6)
        return no_points(window) if hole and window.series.row_id <= 30 else three_points(window)

    world = World(behind(50, 72 * HOUR_MS), holes)
    reports = [world.next() for _ in range(6)]
    assert {report.outcome for report in reports} == {CycleOutcome.COMPLETE}
    assert set(world.checkpoints()) == {900_000 * 6}


def test_points_that_did_not_get_to_the_bus_end_a_doubt() -> None:
    world = World(behind(30))
    silent_after(world, 1, range(1, 2))
    assert world.next().windows == {"done": 29, "doubted": 1}
    world.source.points = three_points
    world.outcomes(*[Outcome.LOST] * 30)
    assert world.next().windows == {"lost": 30}
    world.source.points = lambda window: no_points(window) if window.series.row_id == 1 else three_points(window)
    assert world.next().windows == {"done": 29, "doubted": 1}


def test_doubts_are_forgotten_where_another_collector_may_have_worked() -> None:
    world = World(behind(30))
    silent_after(world, 1, range(1, 2))
    world.next()
    world.cycle.forget_lately()
    assert world.next().windows == {"done": 29, "doubted": 1}


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize(("rows", "talking", "held"), [(11, 0, True), (10, 0, False), (11, 1, False)])
def test_where_no_earlier_cycle_is_known_all_of_more_than_ten_with_a_checkpoint_must_be_silent(
    rows: int, talking: int, held: bool, once: bool
) -> None:
    world = World(behind(rows), lambda window: three_points(window) if window.series.row_id <= talking else [], once=once)
    report = world.run()
    assert report.windows.get("held", 0) == (rows if held else 0)
    silent = -900_000 if held or not once else 0
    assert world.checkpoints() == [0] * talking + [silent] * (rows - talking)
    assert report.left_over is held


def test_new_rows_without_points_are_no_silence() -> None:
    world = World(listed=[resource(number) for number in range(1, 30)], points=no_points)
    assert world.run().windows == {"empty": 29}
    assert world.next().outcome is CycleOutcome.COMPLETE


def test_points_that_did_not_get_to_the_bus_were_heard_all_the_same() -> None:
    world = World(behind(40))
    silent_after(world, 1, range(1, 13))
    world.outcomes(*[Outcome.LOST] * 20)
    report = world.next()
    assert report.windows == {"doubted": 12, "lost": 20, "done": 8}


def test_silence_in_the_second_round_holds_back_that_round_only() -> None:
    end_ms = SETTLED_MS - 6 * HOUR_MS
    world = World(behind(12, 12 * HOUR_MS), lambda window: three_points(window) if window.begin_ms < end_ms else [])
    report = world.run()
    assert set(world.checkpoints()) == {-6 * HOUR_MS}
    assert report.windows == {"done": 12, "held": 12}


def test_report_s_line_and_counts_tell_the_same() -> None:
    world = World(behind(4), lambda w: {1: "status 500", 2: []}.get(w.series.row_id, three_points(w)))
    report = world.run()
    assert report.windows == {"failed": 1, "doubted": 1, "done": 2}
    counted = {outcome: world.counters.get(Count.WINDOWS, outcome) for outcome in report.windows}
    assert counted == report.windows
    assert world.counters.get(Count.CYCLES, "complete") == 1
    assert "windows=4 windows_done=2 windows_doubted=1 windows_failed=1" in report.line()


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
