"""From windows to confirmed messages, and what became of each."""

import itertools
import json
import logging
from collections.abc import Iterator
from typing import TypeVar

import pytest

from collector.core.contracts import Batch, Outcome
from collector.core.counters import Count
from collector.core.model import Message, RecordType, Window
from collector.core.report import WindowOutcome
from collector.cycle.messages import traffic_messages
from collector.cycle.pipeline import WindowResult
from tests.fakes import NOW_MS, no_points, series
from tests.world import INTERFACES, ROOM, TRAFFIC, World, behind, hurry, limited

CONFIRMED, RETURNED, REFUSED, LOST = Outcome.CONFIRMED, Outcome.RETURNED, Outcome.REFUSED, Outcome.LOST
ROWS = behind(5)
WINDOWS = [Window(series(row), NOW_MS - 900_000, NOW_MS) for row in ROWS]
FOREVER = 1e9
_T = TypeVar("_T")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def world() -> World:
    world = World(ROWS)
    world.flow.begin(FOREVER)
    return world


def flat(results: Iterator[list[_T]]) -> list[_T]:
    return list(itertools.chain.from_iterable(limited(results)))


def moved(world: World, windows: list[Window] = WINDOWS, until: float = FOREVER) -> list[WindowResult]:
    results = flat(world.pipeline.windows(windows, until))
    world.assert_room_is_free()
    return results


def interface_messages(count: int) -> Iterator[tuple[str, Message]]:
    return ((f"a/{number}", Message(str(number), b"{}")) for number in range(count))


def test_each_window_s_points_go_out_as_one_batch_and_come_back_with_their_outcome(world: World) -> None:
    world.outcomes(CONFIRMED, LOST, REFUSED)
    results = moved(world, WINDOWS[:3])
    newest_ms = NOW_MS - 1
    assert results == [
        WindowResult(window, outcome, 3, newest_ms)
        for window, outcome in zip(WINDOWS, (WindowOutcome.DONE, WindowOutcome.LOST, WindowOutcome.REFUSED), strict=False)
    ]
    assert [batch.routing_key for batch in world.publisher.batches] == [TRAFFIC] * 3
    at = WINDOWS[0].begin_ms
    points = [(at, 1, 2.5), (at + 1, 1, 2.5), (NOW_MS - 1, 1, 2.5)]
    assert world.publisher.batches[0].messages == traffic_messages(ROWS[0].name, RecordType.TRAFFIC, points)


def test_window_lasts_from_its_admission_to_its_outcome(world: World) -> None:
    def points(window: Window) -> list[object] | str:
        world.clock.advance(2.5)
        return "status 500" if window is WINDOWS[0] else [] if window is WINDOWS[1] else [[window.begin_ms, 1, 2]]

    world.source.points = points
    assert [result.seconds for result in moved(world, WINDOWS[:3])] == [2.5] * 3


@pytest.mark.parametrize("outcome", Outcome)
def test_points_are_counted_by_outcome(world: World, outcome: Outcome) -> None:
    world.publisher.answer = lambda _batch: outcome
    moved(world, WINDOWS[:1])
    counted = {count for count, _ in world.counters.counts()}
    by_outcome = {
        CONFIRMED: {Count.POINTS_CONFIRMED},
        Outcome.UNACCEPTABLE: {Count.POINTS_CONFIRMED},
        RETURNED: {Count.POINTS_RETURNED},
        REFUSED: {Count.POINTS_REFUSED},
    }
    assert counted == {Count.POINTS_PUBLISHED, *by_outcome.get(outcome, set())}


def test_window_without_points_is_done_and_publishes_nothing(world: World) -> None:
    world.source.points = no_points
    assert moved(world) == [WindowResult(window, WindowOutcome.EMPTY) for window in WINDOWS]
    assert world.publisher.batches == []


def test_window_that_failed_says_why(world: World) -> None:
    world.source.points = lambda window: "status 500" if window is WINDOWS[1] else []
    assert moved(world)[1] == WindowResult(WINDOWS[1], WindowOutcome.FAILED, failure="status 500")


def test_invalid_points_are_one_warning_a_window_and_the_good_ones_go_out(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    good, far, near = [NOW_MS - 5, 1, 2], [NOW_MS + 61_000, 1, 2], [NOW_MS, 1, 2]
    world.source.points = lambda window: [good, ["x"], [1, 2, 3], far, near, good] if window is WINDOWS[0] else [near]
    with caplog.at_level(logging.WARNING):
        results = moved(world, WINDOWS[:2])
    assert [result.points for result in results] == [1, 0]
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"name={ROWS[0].name} record_type=traffic" in line
    assert "invalid=2 outside=1 example=['x']" in line
    counted = [world.counters.get(count) for count in (Count.POINTS_INVALID, Count.POINTS_OUTSIDE, Count.POINTS_DOUBLE)]
    assert counted == [2, 3, 1]


def test_points_far_outside_are_a_warning_even_when_all_are_valid(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.source.points = lambda _window: [[NOW_MS + 61_000, 1, 2]]
    moved(world, WINDOWS[:1])
    assert "outside=1 example=none" in caplog.text


def test_what_was_not_admitted_has_no_result(world: World) -> None:
    world.on_answer(2, world.flow.shut)
    assert [result.window for result in moved(world)] == WINDOWS[:2]


def test_unroutable_windows_end_the_batch(world: World) -> None:
    world.outcomes(RETURNED)
    assert [result.outcome for result in moved(world)] == [WindowOutcome.RETURNED]


def test_error_that_nobody_foresaw_ends_the_collector_and_the_batch(world: World, caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("a bug")

    def bug() -> None:
        raise error

    world.on_answer(3, bug)
    results = flat(world.pipeline.windows(WINDOWS, FOREVER))
    assert len(results) == 2
    assert world.stop.failure is error
    assert "Traceback" in caplog.text


def test_stop_lets_what_is_in_flight_land_within_the_grace(world: World) -> None:
    world.outcomes(CONFIRMED, None)
    world.on_answer(2, world.stop.set)
    results: list[WindowResult] = []
    for some in limited(world.pipeline.windows(WINDOWS, FOREVER)):
        results += some
        if world.publisher.in_flight and len(results) == 1:
            world.clock.advance(4.9)
            world.publisher.in_flight.pop().done(CONFIRMED)
    assert [result.outcome for result in results] == [WindowOutcome.DONE, WindowOutcome.DONE]


def test_after_the_grace_of_a_stop_what_is_in_flight_is_given_up(world: World) -> None:
    world.outcomes(None, CONFIRMED, None)
    world.on_answer(3, world.stop.set)
    results: list[WindowResult] = []
    for some in limited(world.pipeline.windows(WINDOWS, FOREVER)):
        results += some
        if len(world.publisher.in_flight) == 2:
            world.clock.advance(5)
    assert {result.window.series.row_id: result.outcome for result in results} == {
        1: WindowOutcome.LOST, 2: WindowOutcome.DONE, 3: WindowOutcome.LOST
    }  # fmt: skip
    world.assert_room_is_free()


@pytest.mark.parametrize("over", [True, False])
def test_broker_that_is_away_is_not_waited_for_once_the_cycle_is_over(world: World, over: bool) -> None:
    world.publisher.answer = lambda _batch: None
    world.on_answer(2, lambda: setattr(world.publisher, "ready", False))
    until = world.clock.seconds + 60
    world.flow.begin(until)
    pipeline = limited(world.pipeline.windows(WINDOWS, until))
    while world.publisher.ready or len(world.publisher.in_flight) < 2:
        assert next(pipeline) == []
    assert next(pipeline) == []  # it may come back
    world.clock.advance(60 if over else 59)
    if not over:
        world.publisher.ready, world.publisher.answer = True, lambda _batch: CONFIRMED
        for batch in world.publisher.in_flight:
            batch.done(CONFIRMED)
    results = flat(pipeline)
    assert [result.outcome for result in results] == ([WindowOutcome.LOST] * 2 if over else [WindowOutcome.DONE] * 5)
    world.assert_room_is_free()


def test_only_cycle_gives_up_what_is_in_flight_when_patience_has_ended() -> None:
    world = World(ROWS, patience_s=30.0)
    world.flow.begin(FOREVER)
    world.publisher.answer = lambda _batch: None
    world.on_answer(2, lambda: setattr(world.publisher, "ready", False))
    results: list[WindowResult] = []
    for some in limited(world.pipeline.windows(WINDOWS, FOREVER)):
        results += some
        world.clock.advance(10)
    assert [result.outcome for result in results] == [WindowOutcome.LOST, WindowOutcome.LOST]
    world.assert_room_is_free()


def test_caller_gets_its_turn_though_nothing_comes(world: World) -> None:
    world.publisher.answer = lambda _batch: None
    pipeline = world.pipeline.windows(WINDOWS[:1], FOREVER)
    assert [next(pipeline) for _ in range(4)] == [[]] * 4
    world.publisher.withdraw()
    assert [result.outcome for result in flat(pipeline)] == [WindowOutcome.LOST]


def test_room_bounds_what_is_in_flight(world: World) -> None:
    held: list[Batch] = []
    most = 0

    def answer(batch: Batch) -> None:
        nonlocal most
        held.append(batch)
        most = max(most, sum(len(each.messages) for each in held))

    world.publisher.answer = answer
    world.source.points = lambda window: [[at, 1, 1] for at in range(window.begin_ms, window.end_ms, 30_000)]
    windows = [Window(series(row), NOW_MS - 6 * 3_600_000, NOW_MS) for row in behind(12)]
    results: list[WindowResult] = []
    for some in limited(world.pipeline.windows(windows, FOREVER)):
        results += some
        while held:
            held.pop(0).done(CONFIRMED)
    assert len(results) == 12
    assert 0 < most <= ROOM
    world.assert_room_is_free()


def test_interface_messages_go_out_one_by_one_with_their_resource(world: World) -> None:
    outcomes = [CONFIRMED, LOST, CONFIRMED]
    world.publisher.answer = lambda batch: outcomes[int(batch.messages[0].message_id)]
    results = flat(world.pipeline.interfaces(interface_messages(3), FOREVER))
    assert results == [(f"a/{number}", outcome) for number, outcome in enumerate(outcomes)]
    assert {batch.routing_key for batch in world.publisher.batches} == {INTERFACES}
    assert (world.counters.get(Count.INTERFACES_PUBLISHED), world.counters.get(Count.INTERFACES_CONFIRMED)) == (3, 2)
    world.assert_room_is_free()


@pytest.mark.parametrize("outcome", [RETURNED, REFUSED])
def test_interface_messages_that_are_not_taken_leave_the_way_free_for_points(world: World, outcome: Outcome) -> None:
    world.publisher.answer = lambda batch: outcome if batch.routing_key == INTERFACES else CONFIRMED
    results = flat(world.pipeline.interfaces(interface_messages(99), FOREVER))
    assert results == [("a/0", outcome)]
    assert {result.outcome for result in moved(world)} == {WindowOutcome.DONE}


def test_bodies_are_json_with_the_names_that_the_consumer_reads(world: World) -> None:
    moved(world, WINDOWS[:1])
    bodies = [json.loads(message.body) for message in world.publisher.batches[0].messages]
    assert [list(body) for body in bodies] == [["name", "recordType", "timestamp", "in", "out"]] * 3
