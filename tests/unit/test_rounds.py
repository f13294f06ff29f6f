"""In which order windows are asked for, and who is left out: rounds, turns, failures, idle series, stops."""

import pytest

from collector.core.contracts import Outcome
from collector.core.model import Listing, Table, Window
from collector.core.report import CycleOutcome
from tests.fakes import HOUR_MS, no_points, three_points
from tests.world import SETTLED_MS, World, behind, hurry

WINDOW_MS = 6 * HOUR_MS


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def lengths(windows: list[Window]) -> list[float]:
    """In hours."""
    return [(window.end_ms - window.begin_ms) / HOUR_MS for window in windows]


def test_every_series_gets_its_first_window_before_any_gets_its_second() -> None:
    world = World([*behind(2, 15 * HOUR_MS), *behind(2, 2 * HOUR_MS, first_id=3), *behind(1, 7 * HOUR_MS, first_id=5)])
    report = world.run()
    assert world.asked == [1, 2, 3, 4, 5, 1, 2, 5, 1, 2]
    assert lengths(world.source.asked) == [6, 6, 2, 2, 6, 6, 6, 1, 3, 3]
    assert world.checkpoints() == [0] * 5
    assert (report.requests_planned, report.outstanding, report.outcome) == (10, 0, CycleOutcome.COMPLETE)


def test_second_window_begins_at_the_checkpoint_that_the_first_one_left() -> None:
    world = World(behind(1, 13 * HOUR_MS))
    world.run()
    assert [move.from_ms for move in world.store.advanced] == [SETTLED_MS - hours * HOUR_MS for hours in (13, 7, 1)]


def test_series_whose_window_failed_gets_no_second_one_in_this_cycle() -> None:
    world = World(
        behind(3, 13 * HOUR_MS), lambda window: "cut off" if window.series.row_id == 2 else three_points(window)
    )
    world.run()
    assert world.asked == [1, 2, 3, 1, 3, 1, 3]


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.REFUSED])
def test_series_whose_points_were_not_confirmed_gets_no_second_window_in_this_cycle(outcome: Outcome) -> None:
    world = World(behind(2, 13 * HOUR_MS))
    world.step_s = 0.5
    world.outcomes(Outcome.CONFIRMED, outcome)
    world.run()
    assert world.asked == [1, 2, 1, 1]


def test_no_window_is_started_once_the_next_cycle_is_due_and_those_without_a_turn_come_first_then() -> None:
    world = World(behind(5))
    world.on_answer(2, lambda: world.clock.advance(900))
    report = world.run(900)
    assert world.asked == [1, 2]
    assert (report.outcome, report.outstanding, report.checkpoints_moved) == (CycleOutcome.CUT, 3, 2)
    assert report.reasons == ("3 windows got no try",)
    assert world.run(900).outcome is CycleOutcome.COMPLETE
    assert world.asked == [1, 2, 3, 4, 5, 1, 2]


def test_turns_go_round_however_often_cycles_are_cut_short() -> None:
    world = World(behind(7))
    for _ in range(5):
        world.on_answer(3, lambda: world.clock.advance(900))
        world.run(900)
    assert world.asked == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 1, 2]  # 7 had its turn in the third, with 1 and 2


def test_second_windows_that_got_no_try_are_outstanding() -> None:
    world = World([*behind(2, 15 * HOUR_MS), *behind(1, first_id=3)])
    world.on_answer(3, lambda: world.clock.advance(900))
    report = world.run(900)
    assert world.asked == [1, 2, 3]
    assert (report.outcome, report.outstanding) == (CycleOutcome.CUT, 2)


def test_cycle_that_is_over_before_its_windows_starts_none() -> None:
    world = World(behind(3))
    read = world.store.read

    def slow_read(now_ms: int, _undrained: object = None) -> Table:
        world.clock.advance(900)
        return read(now_ms)

    world.store.read = slow_read  # type: ignore[assignment,method-assign]
    report = world.run(900)
    assert world.asked == []
    assert (report.outcome, report.outstanding, report.listed) == (CycleOutcome.CUT, 3, 3)


@pytest.mark.parametrize("listing_s", [900, 1000, 1799, 2700])
def test_listing_that_lasts_until_the_next_cycle_is_due_costs_that_cycle_and_not_the_windows(listing_s: float) -> None:
    world = World(behind(3))
    listed = world.source.list

    def slow_list(now_ms: int) -> Listing:
        world.clock.advance(listing_s)
        return listed(now_ms)

    world.source.list = slow_list  # type: ignore[method-assign]
    report = world.run(900)
    assert (report.outcome, report.outstanding, len(world.asked)) == (CycleOutcome.COMPLETE, 0, 3)


def test_only_cycle_goes_on_until_all_is_done() -> None:
    world = World(behind(2, 49 * HOUR_MS), once=True)
    report = world.run()
    assert len(world.asked) == 18
    assert not report.left_over


def test_stop_in_mid_cycle_starts_no_new_window_and_writes_what_is_confirmed() -> None:
    world = World(behind(5, 13 * HOUR_MS))
    world.on_answer(3, world.stop.set)
    report = world.run()
    assert world.asked == [1, 2, 3]
    assert world.checkpoints() == [-7 * HOUR_MS] * 3 + [-13 * HOUR_MS] * 2
    assert (report.outcome, report.outstanding) == (CycleOutcome.CUT, 2 + 3)


def test_stop_gives_up_what_is_in_flight_after_its_grace_and_keeps_the_rest() -> None:
    world = World(behind(3))
    world.outcomes(Outcome.CONFIRMED, None)

    def stop() -> None:
        world.stop.set()
        world.step_s = 1

    world.on_answer(2, stop)
    world.run()
    assert world.checkpoints() == [0, -900_000, -900_000]
    assert world.clock.seconds < 1000 + 8


def test_each_failure_halves_the_next_try_until_one_succeeds() -> None:
    world = World(behind(1, 24 * HOUR_MS), lambda _window: "cut off after 9 bytes")
    for _ in range(7):
        world.run()
    assert lengths(world.source.asked) == [6, 3, 1.5, 0.75, 0.375, 0.25, 0.25]
    world.source.points = three_points
    world.run()
    assert lengths(world.source.asked)[7:] == [0.25, 6, 6, 6, 5.75]


def test_idle_series_are_asked_less_often_and_the_only_cycle_asks_every_one() -> None:
    world = World([*behind(30), *behind(1, first_id=31)], lambda w: three_points(w) if w.series.row_id == 31 else [])
    asked, idle = [], []
    for _ in range(16):
        before = len(world.asked)
        report = world.next()
        asked.append(len(world.asked) - before)
        idle.append(report.idle)
        assert report.outcome is CycleOutcome.COMPLETE
        assert asked[-1] + idle[-1] == 31
        assert 31 in world.asked[before:]
    assert asked[:3] == [31, 31, 31]
    assert all(each < 20 for each in asked[8:])
    for row_id in range(1, 31):
        first, *mine = [window for window in world.source.asked if window.series.row_id == row_id]
        assert mine[0].begin_ms == first.begin_ms  # the first empty one is not believed
        assert [window.begin_ms for window in mine[1:]] == [window.end_ms for window in mine[:-1]]
        assert max(lengths(mine)) <= 1.25
    world.cycle._rounds._once = True
    before = len(world.asked)
    world.next()
    assert sorted(world.asked[before:]) == list(range(1, 32))


def test_series_that_wakes_loses_nothing_of_its_sleep() -> None:
    world = World(behind(1), no_points)
    for _ in range(12):
        world.next()
    asleep = len(world.source.asked)
    world.source.points = three_points
    while len(world.source.asked) == asleep:
        world.next()
    assert world.source.asked[asleep].begin_ms == world.source.asked[asleep - 1].end_ms
    covered = len(world.source.asked)
    for number in range(1, 4):
        world.next()
        assert len(world.source.asked) == covered + number


def test_no_idle_backoff_asks_everybody_every_time() -> None:
    world = World(behind(3), no_points, idle_ms=0)
    for _ in range(8):
        world.next()
    assert len(world.asked) == 24


def test_window_that_needs_more_than_all_room_is_fetched_all_the_same() -> None:
    days = 60 * 24 * HOUR_MS
    world = World(behind(3, days), max_window_ms=days)
    assert world.run().outcome is CycleOutcome.COMPLETE
    assert world.asked == [1, 2, 3]


@pytest.mark.parametrize("once", [False, True])
def test_rests_too_short_for_a_point_are_no_silence(once: bool) -> None:
    world = World(behind(12, 6 * HOUR_MS + 1000), lambda window: [] if window.between_points else three_points(window), once=once)
    report = world.run()
    assert lengths(world.source.asked[12:]) == [1 / 3600] * 12
    assert (report.outcome, report.reasons) == (CycleOutcome.COMPLETE, ())
    assert world.checkpoints() == [0] * 12
