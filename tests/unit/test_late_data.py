"""Late points: the checkpoint follows the newest one, and silence is believed after LATE_DATA."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core.contracts import Batch, Outcome
from collector.core.model import RecordType, Row, Series, Window
from collector.core.report import CycleOutcome
from collector.cycle import checkpoints
from collector.cycle.alarm import silence
from collector.cycle.checkpoints import next_checkpoint
from tests.fakes import HOUR_MS, MINUTE_MS, NOW_MS, no_points, resource
from tests.unit.conftest import EXAMPLES
from tests.world import POLL_S, RULES, SETTLED_MS, TRAFFIC, World, behind, hurry

DAY_MS = 24 * HOUR_MS
STEP_MS = 150_000
"""The grid of these tests, five times as coarse as the real one: a day has fewer points to make and to count."""
SERIES = Series(1, "a", RecordType.TRAFFIC)
BEGIN, END = SETTLED_MS - HOUR_MS, SETTLED_MS


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(checkpoints, "GRID_MS", STEP_MS)


@pytest.mark.parametrize(
    ("newest_ms", "confirmed_ms", "table_newest_ms", "late_ms", "moves_to"),
    [
        (END - STEP_MS, BEGIN, None, DAY_MS, END),
        (END - 1, BEGIN, None, DAY_MS, END),
        (END - STEP_MS - 1, BEGIN, None, DAY_MS, END - STEP_MS),
        (BEGIN, BEGIN, None, DAY_MS, BEGIN + 1),
        (None, BEGIN, None, DAY_MS, None),
        (None, BEGIN, END, DAY_MS, None),
        (None, BEGIN, END + DAY_MS - HOUR_MS, DAY_MS, None),  # just to where it stands
        (None, BEGIN, END + DAY_MS - HOUR_MS + 1, DAY_MS, BEGIN + 1),
        (None, BEGIN, END + 9 * DAY_MS, DAY_MS, END),  # never beyond what was answered
        (BEGIN + 5, BEGIN, END + DAY_MS - MINUTE_MS, DAY_MS, END - MINUTE_MS),
        (None, BEGIN, None, 0, END),
        (BEGIN, BEGIN, END, 0, END),
        (None, BEGIN - DAY_MS, END, DAY_MS, BEGIN - DAY_MS + HOUR_MS),  # empty windows before this one count as one with it
        (None, END - 5, END + 9 * DAY_MS, DAY_MS, END),
        (None, END, END + 9 * DAY_MS, DAY_MS, None),
    ],
)
def test_checkpoint_after_an_answer(
    newest_ms: int | None, confirmed_ms: int, table_newest_ms: int | None, late_ms: int, moves_to: int | None
) -> None:
    window = Window(SERIES, BEGIN, END)
    assert next_checkpoint(window, newest_ms, confirmed_ms, table_newest_ms, late_ms) == moves_to


NUMBERS = {resource(number): number for number in range(1, 50)}


class LateSource:
    """Points on the grid, each there from some time on; what a test has it withhold comes later."""

    def __init__(self, world: World, delay: dict[int, int] | None = None, gaps: tuple[tuple[int, int], ...] = ()) -> None:
        self.world, self.gaps = world, gaps
        self.delay = delay or {}
        """How late an interface's points are, in ms, by its number."""
        self.offset = 0
        self._there_ms: dict[str, int] = {}
        self.at_ms: int | None = None
        """As of when it answers; None: the clock's time."""
        world.source.points = self.points

    def exists(self, at: int) -> bool:
        return not any(begin <= at < end for begin, end in self.gaps)

    def points(self, window: Window) -> list[object]:
        name = window.series.name
        # what was there once stays there
        there_ms = max((self.at_ms or self.world.clock.now_ms) - self.delay.get(NUMBERS[name], 0), self._there_ms.get(name, 0))
        self._there_ms[name] = there_ms
        first = -(-(window.begin_ms - self.offset) // STEP_MS) * STEP_MS + self.offset
        return [[at, 1, 2] for at in range(first, window.end_ms, STEP_MS) if self.exists(at) and at <= there_ms]


TIMESTAMP = b'"timestamp": '


def seen(world: World) -> dict[str, list[int]]:
    """The timestamps on the bus, by interface, in the order in which they came."""
    found: dict[str, list[int]] = {}
    for batch in world.publisher.batches:
        if batch.routing_key == TRAFFIC:
            first = batch.messages[0].body
            at = first.index(TIMESTAMP) + len(TIMESTAMP)
            name = json.loads(first)["name"]
            assert all(message.body[:at] == first[:at] for message in batch.messages)
            found.setdefault(name, []).extend(int(message.body[at : at + 13]) for message in batch.messages)
    return found


def assert_complete(world: World, source: LateSource, begin_ms: int, end_ms: int, rows: range) -> None:
    """Each point between these times is on the bus, and each once."""
    heard = seen(world)
    expected = [at for at in range(-(-begin_ms // STEP_MS) * STEP_MS, end_ms, STEP_MS) if source.exists(at)]
    for row_id in rows:
        came = heard.get(resource(row_id), [])
        assert len(came) == len(set(came)), "a point came twice"
        assert came == sorted(came), "a point came after a newer one of its series"
        assert [at for at in came if begin_ms <= at < end_ms] == expected


@pytest.mark.parametrize("late", [30, 16, 1, 20])
@pytest.mark.parametrize("restarts", [True, False])
def test_series_that_are_two_hours_late_lose_nothing_whoever_collects(late: int, restarts: bool) -> None:
    world = World(behind(30))
    source = LateSource(world, dict.fromkeys(range(1, late + 1), 2 * HOUR_MS))
    for _ in range(12):
        world.next()
        if restarts:
            world.restart()
    assert_complete(world, source, SETTLED_MS - 900_000, SETTLED_MS, range(1, 31))
    source.delay.clear()
    world.next()
    assert set(world.checkpoints()) == {13 * 900_000}
    assert_complete(world, source, SETTLED_MS - 900_000, world.clock.now_ms - 900_000, range(1, 31))


def test_a_real_gap_of_nine_hours_for_all_series_holds_up_nothing() -> None:
    world = World(behind(20))
    source = LateSource(world, gaps=((SETTLED_MS, SETTLED_MS + 9 * HOUR_MS),))
    for _ in range(36):
        world.next()
    reports = [world.next() for _ in range(2)]
    assert set(world.checkpoints()) == {38 * 900_000}
    assert reports[-1].outcome is CycleOutcome.COMPLETE
    assert_complete(world, source, SETTLED_MS - 900_000, world.clock.now_ms - 900_000, range(1, 21))


def test_a_source_that_is_silent_for_thirty_hours_and_then_has_its_points_loses_none() -> None:
    world = World(behind(12), max_window_ms=2 * DAY_MS)
    source = LateSource(world, dict.fromkeys(range(1, 13), 30 * HOUR_MS))
    for _ in range(6):
        world.clock.advance(5 * 3600)
        world.next()
        world.restart()
    source.delay.clear()
    world.next()
    assert_complete(world, source, SETTLED_MS - 900_000, world.clock.now_ms - 900_000, range(1, 13))


def test_after_three_days_away_a_mistaken_empty_answer_costs_nothing() -> None:
    world = World(behind(4, 3 * DAY_MS), max_window_ms=2 * DAY_MS)
    source = LateSource(world)
    world.source.points = lambda window: no_points(window) if window.series.row_id <= 2 else source.points(window)
    world.run()
    assert world.checkpoints()[0] == -3 * DAY_MS
    world.source.points = source.points
    world.next()
    assert_complete(world, source, SETTLED_MS - 3 * DAY_MS, world.clock.now_ms - 900_000, range(1, 5))


def test_a_gap_across_the_end_of_a_window_gives_each_point_once() -> None:
    world = World([Row(1, resource(1), NOW_MS)], max_window_ms=12 * HOUR_MS, once=True)
    world.rules = replace(world.rules, lookback_ms=60 * HOUR_MS)
    world.restart()
    begin_ms = NOW_MS - 60 * HOUR_MS
    source = LateSource(world, gaps=((begin_ms + 10 * HOUR_MS, begin_ms + 26 * HOUR_MS),))
    report = world.run()
    assert not report.left_over
    assert world.checkpoints() == [0]
    assert_complete(world, source, begin_ms, SETTLED_MS, range(1, 2))


def test_a_dead_interface_trails_by_late_data_and_no_more() -> None:
    world = World(behind(3), max_window_ms=2 * DAY_MS)
    live = LateSource(world)
    world.source.points = lambda window: no_points(window) if window.series.row_id == 1 else live.points(window)
    for _ in range(2):
        world.clock.advance(20 * 3600)
        world.next()
    for _ in range(5):
        world.next()
    dead, *others = world.checkpoints()
    assert set(others) == {world.clock.now_ms - 900_000 - SETTLED_MS}
    assert dead is not None
    assert others[0] is not None
    assert DAY_MS <= others[0] - dead <= DAY_MS + HOUR_MS + 900_000


def test_with_no_late_data_an_answered_window_moves_the_checkpoint_to_its_end() -> None:
    world = World(behind(3), no_points, late_ms=0)
    assert world.run().outcome is CycleOutcome.COMPLETE
    assert world.checkpoints() == [0, 0, 0]


@settings(max_examples=EXAMPLES // 2)
@given(seed=st.integers(0, 10**6))
def test_whatever_happens_points_that_come_in_order_and_in_time_are_on_the_bus_once(seed: int) -> None:
    """Random histories: late series, gaps, downtime, restarts, failures, windows that the broker loses, cut cycles, idleness."""
    chance = random.Random(seed)
    count = chance.randint(2, 3)
    late_ms = chance.choice([DAY_MS, 6 * HOUR_MS])
    world = World(behind(count), max_window_ms=chance.choice([HOUR_MS, 6 * HOUR_MS, 2 * DAY_MS]), late_ms=late_ms)
    gap = SETTLED_MS + chance.randint(0, 8) * HOUR_MS
    source = LateSource(world, gaps=((gap, gap + chance.randint(0, 9) * HOUR_MS),))

    def troubled(window: Window) -> list[object] | str:
        return "status 500" if chance.random() < 0.05 else source.points(window)

    def answer(batch: Batch) -> Outcome:
        lost = batch.routing_key == TRAFFIC and chance.random() < 0.05
        return Outcome.LOST if lost else Outcome.CONFIRMED

    world.source.points, world.publisher.answer = troubled, answer
    for _ in range(chance.randint(3, 14)):
        for row_id in range(1, count + 1):
            if chance.random() < 0.1:
                # never all of them later than LATE_DATA, and no series loses the order of its points
                source.delay[row_id] = chance.choice([0, 0, HOUR_MS, min(5 * HOUR_MS, late_ms // 2)])
        if chance.random() < 0.1:
            world.clock.advance(chance.randint(1, 12) * 3600)
        world.next()
        if chance.random() < 0.2:
            world.restart()
    source.delay.clear()
    world.source.points, world.publisher.answer = source.points, lambda _batch: Outcome.CONFIRMED
    # past the gap, and for long enough that each idle series gets its turn
    world.clock.advance(max(0, gap + 10 * HOUR_MS - world.clock.now_ms) / 1000)
    for _ in range(10):
        world.next()
    end_ms = world.clock.now_ms - 900_000
    expected = [at for at in range(SETTLED_MS - 900_000, end_ms, STEP_MS) if source.exists(at)]
    for row_id in range(1, count + 1):
        came = sorted(set(seen(world).get(resource(row_id), [])))
        assert came == expected, f"row {row_id} lacks {sorted(set(expected) - set(came))[:3]}"
        assert world.store.rows[row_id].checkpoints[RecordType.TRAFFIC] == end_ms, "stuck"


def retire_and_return(world: World, source: LateSource) -> None:
    """The first interface is not listed in one cycle, in which its points are late."""
    source.delay[1] = 2 * HOUR_MS
    gone = world.source.interfaces.pop(resource(1))
    world.next()
    world.source.interfaces[resource(1)] = gone
    world.next()


@pytest.mark.parametrize("restarts", [True, False])
def test_late_points_of_a_row_that_retired_and_returned_are_collected(restarts: bool) -> None:
    world = World(behind(3))
    source = LateSource(world)
    world.next()
    retire_and_return(world, source)
    for _ in range(6):
        world.next()
        if restarts:
            world.restart()
    source.delay.clear()
    for _ in range(5):  # the new row has no checkpoint yet, and may be asked less often
        world.next()
    assert_complete(world, source, SETTLED_MS - 900_000, world.clock.now_ms - 900_000, range(1, 4))


def test_the_rest_of_a_retired_row_is_not_given_up_because_one_request_failed() -> None:
    world = World(behind(3))
    source = LateSource(world)
    world.next()
    retire_and_return(world, source)
    source.delay.clear()
    world.source.points = lambda window: "status 500" if window.series.row_id == 1 else source.points(window)
    world.next()
    world.source.points = source.points
    world.next()
    assert_complete(world, source, SETTLED_MS - 900_000, world.clock.now_ms - 900_000, range(2, 4))
    assert set(seen(world)[resource(1)]) == set(seen(world)[resource(2)])


def test_the_rest_of_a_retired_row_that_stays_silent_is_not_asked_for_ever() -> None:
    world = World(behind(3))
    source = LateSource(world)
    world.next()
    gone = world.source.interfaces.pop(resource(1))
    source.delay[1] = 10 * DAY_MS
    world.next()
    world.source.interfaces[resource(1)] = gone
    live = LateSource(world)
    world.source.points = lambda window: [] if window.series.row_id == 1 else live.points(window)
    for _ in range(3):
        world.next()
    world.source.asked.clear()
    for _ in range(3):
        assert world.next().draining == 0
    assert 1 not in world.asked


LIMIT_MS = 2 * POLL_S * 1000 + 600_000


def series_at(*behind_ms: int | None) -> list[tuple[int | None, int]]:
    return [(None if each is None else SETTLED_MS - each, SETTLED_MS) for each in behind_ms]


@pytest.mark.parametrize(
    ("behind_ms", "alarms"),
    [
        ([LIMIT_MS + 1] * 11, 1),
        ([LIMIT_MS] * 11, 0),
        ([LIMIT_MS + 1] * 10, 0),
        ([LIMIT_MS + 1] * 11 + [0] * 10, 1),
        ([LIMIT_MS + 1] * 11 + [0] * 11, 0),
        ([LIMIT_MS + 1] * 11 + [DAY_MS] * 50 + [None] * 50, 1),
        ([DAY_MS] * 11, 1),
        ([DAY_MS] * 10 + [None] * 50, 0),
        ([DAY_MS] * 11 + [DAY_MS - 1], 0),
        ([None] * 50, 0),
        ([], 0),
    ],
)
def test_alarm_of_silence(behind_ms: list[int | None], alarms: int) -> None:
    reasons = silence({RecordType.TRAFFIC: series_at(*behind_ms), RecordType.ERRORS: []}, "Netbeam", RULES)
    assert len(reasons) == alarms
    assert all("since 20" in reason for reason in reasons)


@pytest.mark.parametrize(("late_ms", "alarms"), [(LIMIT_MS, 0), (LIMIT_MS + 2, 1)])
def test_there_is_no_alarm_where_late_data_leaves_no_time_between(late_ms: int, alarms: int) -> None:
    rules = replace(RULES, late_ms=late_ms)
    assert len(silence({RecordType.TRAFFIC: series_at(*[LIMIT_MS + 1] * 11)}, "Netbeam", rules)) == alarms


def test_alarm_fails_the_cycle_says_how_many_and_since_when_and_moves_nothing() -> None:
    world = World(behind(12), no_points)
    reports = [world.next() for _ in range(4)]
    assert [report.outcome for report in reports] == [CycleOutcome.COMPLETE] + [CycleOutcome.FAILED] * 3
    assert "no traffic points for 12 of 12 series since 2025-11-24T15:30:00Z" in reports[-1].texts[0]
    assert set(world.checkpoints()) == {-900_000}
    assert World(behind(12, LIMIT_MS + 900_000), no_points, once=True).run().left_over


def test_series_that_were_not_asked_while_the_source_or_the_broker_was_away_raise_no_alarm() -> None:
    world = World(behind(12))
    world.next()
    world.publisher.ready, world.step_s = False, 5.0
    for _ in range(5):
        report = world.next(60)
        assert not any("has had no" in reason for reason in report.texts)
