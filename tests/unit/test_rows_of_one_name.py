"""Interfaces that go and come back, or that have two rows at once: no point is lost between their rows, and none comes twice."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core.contracts import Batch, Outcome
from collector.core.model import Move, RecordType, Row, Window
from collector.core.share import Share
from collector.cycle import checkpoints
from collector.cycle import reconcile as reconciling
from tests.fakes import HOUR_MS, NOW_MS, interface, resource, series
from tests.unit.conftest import EXAMPLES
from tests.unit.test_late_data import DAY_MS, STEP_MS, LateSource, retire_and_return, seen
from tests.world import ROOM, SETTLED_MS, TRAFFIC, World, behind, hurry

KIND = RecordType.TRAFFIC


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(checkpoints, "GRID_MS", STEP_MS)


def assert_nothing_missing(world: World, source: LateSource, begin_ms: int, end_ms: int, *numbers: int) -> None:
    heard = seen(world)
    expected = {at for at in range(-(-begin_ms // STEP_MS) * STEP_MS, end_ms, STEP_MS) if source.exists(at)}
    for number in numbers:
        assert expected <= set(heard.get(resource(number), [])), f"{resource(number)} lacks points"


def twice(world: World, number: int) -> int:
    came = seen(world)[resource(number)]
    return len(came) - len(set(came))


def test_the_rest_of_a_retired_row_survives_a_kill_between_its_windows() -> None:
    gone_ms, begin_ms = SETTLED_MS - DAY_MS, SETTLED_MS - 5 * DAY_MS
    old = Row(1, resource(1), SETTLED_MS - 30 * DAY_MS, gone_ms, {KIND: begin_ms})
    world = World([old, Row(2, resource(1), gone_ms + 900_000)], max_window_ms=2 * DAY_MS)
    source = LateSource(world)
    advance = world.store.advance

    def killed(moves: list[Move]) -> list[Move]:
        advance(moves)
        raise KeyboardInterrupt

    world.store.advance = killed  # type: ignore[assignment,method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.store.advance = advance  # type: ignore[method-assign]
    world.flow._room = ROOM
    world.restart()
    for _ in range(4):
        world.next()
    assert_nothing_missing(world, source, begin_ms, SETTLED_MS, 1)


@pytest.mark.parametrize("trouble", ["failed", "lost"])
@pytest.mark.parametrize("restarts", [True, False])
def test_the_rest_of_a_retired_row_survives_what_happens_when_its_successor_has_points(trouble: str, restarts: bool) -> None:
    world = World(behind(3))
    source = LateSource(world)
    world.next()
    retire_and_return(world, source)
    source.delay.clear()

    def failing(window: Window) -> list[object] | str:
        return "status 500" if window.series.row_id == 1 else source.points(window)

    lost: list[Batch] = []

    def losing(batch: Batch) -> Outcome:
        end_ms = world.store.rows[1].active_until_ms
        assert end_ms is not None
        first = json.loads(batch.messages[0].body)
        if batch.routing_key == TRAFFIC and first["name"] == resource(1) and first["timestamp"] < end_ms:
            lost.append(batch)
            return Outcome.LOST
        return Outcome.CONFIRMED

    if trouble == "failed":
        world.source.points = failing
    else:
        world.publisher.answer = losing
    world.next()
    assert bool(lost) is (trouble == "lost")
    for batch in lost:
        world.publisher.batches.remove(batch)  # not on the bus
    world.source.points, world.publisher.answer = source.points, lambda _batch: Outcome.CONFIRMED
    if restarts:
        world.restart()
    for _ in range(3):
        world.next()
    assert_nothing_missing(world, source, SETTLED_MS - 900_000, SETTLED_MS + 5 * 900_000, 1, 2, 3)


def test_rows_that_a_successor_supersedes_leave_what_a_cycle_reads() -> None:
    world = World(behind(3))
    source = LateSource(world)
    world.next()
    for _ in range(3):
        down = (world.clock.now_ms - 1_800_000, world.clock.now_ms + 2 * HOUR_MS)
        source.gaps = (*source.gaps, down)
        gone = world.source.interfaces.pop(resource(1))
        for _ in range(8):
            world.next()
        world.source.interfaces[resource(1)] = gone
        for _ in range(6):
            world.next()
    world.clock.advance(2 * 86_400)
    for _ in range(3):
        world.next()
    assert len(world.store.rows) == 6
    assert len(world.store.read(world.clock.now_ms, (KIND,)).rows) == 3


@pytest.mark.parametrize(
    "rival",
    [
        Row(2, resource(1), SETTLED_MS + 600_000),
        Row(2, resource(1), NOW_MS - DAY_MS, None, {KIND: SETTLED_MS - 900_000}),
        Row(2, resource(1), NOW_MS - DAY_MS, None, {RecordType.ERRORS: SETTLED_MS}),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_two_active_rows_of_a_name_give_no_point_twice(rival: Row, listed: bool) -> None:
    names = [resource(1), resource(3)] if listed else [resource(3)]
    world = World([*behind(1, 1_800_000), rival, *behind(1, first_id=3)], listed=names)
    source = LateSource(world)
    for _ in range(4):
        world.next()
    assert twice(world, 1) == 0
    assert sum(row.active for row in world.store.of(resource(1))) == listed
    assert_nothing_missing(world, source, SETTLED_MS - 1_800_000, SETTLED_MS, 1)


def test_names_that_were_held_back_begin_the_lookback_before_the_listing_that_showed_them_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciling, "FEW_NEW", 10)
    world = World(behind(3))
    LateSource(world)
    world.source.points = lambda window: [[-(-window.end_ms // STEP_MS) * STEP_MS - STEP_MS, 1, 2]]
    world.clock.advance(0.05)
    world.run()
    names = [f"devices/n/interfaces/{number}" for number in range(12)]
    world.source.interfaces |= {name: interface(name) for name in names}
    world.clock.advance(900)
    first_ms = world.clock.now_ms
    assert world.run().held_back == 12
    world.clock.advance(900)
    assert world.run().new == 12
    begin_ms = first_ms - 1_800_000
    assert min(window.begin_ms for window in world.source.asked if window.series.name == names[-1]) == begin_ms


def test_the_first_listing_of_a_share_is_taken_though_others_have_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "FEW_NEW", 10)
    names = [f"devices/a/interfaces/{number}" for number in range(60)]
    world = World(listed=names, share=Share(1, 2))
    first = world.run().new
    world.rules = replace(world.rules, share=Share(2, 2))
    world.restart()
    assert world.run().new == 60 - first > 10


def test_an_operator_who_rewinds_an_idle_series_does_not_wait() -> None:
    world = World(behind(2), max_window_ms=2 * DAY_MS)
    live = LateSource(world)
    world.source.points = lambda window: [] if window.series.row_id == 1 else live.points(window)
    world.clock.advance(2 * 86_400)
    for _ in range(30):
        world.next()
    world.store.move(series(world.store.rows[1]), SETTLED_MS - DAY_MS)
    world.source.asked.clear()
    world.next()
    assert 1 in world.asked


def test_a_dead_series_is_not_warned_about_for_ever_where_late_data_is_all_of_the_backlog(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(behind(3), max_window_ms=2 * DAY_MS, max_backlog_ms=DAY_MS, late_ms=DAY_MS)
    live = LateSource(world)
    world.source.points = lambda window: [] if window.series.row_id == 1 else live.points(window)
    for _ in range(100):
        world.next()
    caplog.clear()
    for _ in range(10):
        world.next()
    assert "MAX_BACKLOG" not in caplog.text


def test_a_rewind_between_cycles_is_not_compared_with_what_the_last_one_wrote() -> None:
    world = World(behind(2))
    LateSource(world)
    world.next()
    world.store.move(series(world.store.rows[1]), SETTLED_MS - 600_000)
    report = world.next()
    assert report.windows["moved"] == 0  # type: ignore[index]
    assert world.checkpoints() == [1_800_000, 1_800_000]


def test_what_another_collector_wrote_about_a_name_is_looked_up_anew() -> None:
    drained = Row(1, resource(1), NOW_MS - DAY_MS, NOW_MS - 3 * HOUR_MS, {KIND: NOW_MS - 3 * HOUR_MS})
    world = World([drained], listed=[resource(2)])
    world.store.rows[2] = Row(2, resource(1), NOW_MS - 2 * HOUR_MS)
    world.next()
    asked = world.journal.count("history")
    world.cycle.forget_earlier_cycles()
    world.next()
    assert world.journal.count("history") > asked


@settings(max_examples=EXAMPLES // 2)
@given(seed=st.integers(0, 10**6))
def test_names_that_come_and_go_in_cycles_that_are_cut_short_lose_nothing(seed: int) -> None:
    """Points are late by interface, never in disorder; listings lack names; cycles are cut, windows fail, restarts come."""
    chance = random.Random(seed)
    world = World(behind(4), max_window_ms=chance.choice([HOUR_MS, 6 * HOUR_MS]))
    source = LateSource(world)
    kept = dict(world.source.interfaces)
    for _ in range(chance.randint(4, 14)):
        world.source.interfaces = {name: each for name, each in kept.items() if chance.random() < 0.8 or name == resource(4)}
        # a whole name is late, its rows alike, so that no point comes before a newer one of the name
        source.delay = {number: chance.choice([0, 0, HOUR_MS]) for number in (1, 2, 3)} if chance.random() < 0.3 else source.delay
        # what a source completes between two windows of one cycle may come before a newer point: not tried here
        source.at_ms = (world.clock.now_ms // 900_000 + 1) * 900_000
        if chance.random() < 0.3:
            count = chance.randint(1, 4)
            world.source.points = source.points
            world.on_answer(count, lambda: world.clock.advance(899))
            world.next(900)
        else:
            world.source.points = lambda window: "status 500" if chance.random() < 0.15 else source.points(window)
            world.next()
        world.source.points = source.points
        if chance.random() < 0.3:
            world.restart()
    source.delay, source.at_ms = {}, None
    world.source.interfaces = kept
    for _ in range(10):
        world.next()
    for number in (1, 2, 3, 4):
        assert twice(world, number) == 0
    assert_nothing_missing(world, source, SETTLED_MS - 900_000, world.clock.now_ms - 900_000, 1, 2, 3, 4)
    for row in world.store.rows.values():
        assert not row.active or row.checkpoints[KIND] == world.clock.now_ms - 900_000, "stuck"
    assert len(world.store.read(world.clock.now_ms, (KIND,)).rows) == 4
