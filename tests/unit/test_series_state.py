"""What is remembered of each series: who is idle, who failed, whose turn it is, up to when it was answered."""

import itertools
from dataclasses import replace

import pytest

from collector.core.model import RecordType, Row, Series
from collector.cycle.plan import Span
from collector.cycle.series_state import SeriesStates
from tests.fakes import HOUR_MS, NOW_MS
from tests.world import RULES

POLL_MS = 900_000
DAY_MS = 24 * HOUR_MS


class Cycles:
    """Cycle after cycle of one silent series after the other; `asked` says in which cycles each was."""

    def __init__(self, count: int = 1, idle_ms: int = HOUR_MS, checkpoint_ms: int | None = None) -> None:
        self.states = SeriesStates(replace(RULES, idle_backoff_ms=idle_ms, max_window_ms=2 * DAY_MS), place=lambda row_id: 0)
        self.series = [Series(number, f"a/{number}", RecordType.TRAFFIC) for number in range(count)]
        self.checkpoint_ms = checkpoint_ms
        self.now_ms = NOW_MS
        self.turn = 0
        self.asked: dict[int, list[int]] = {each.row_id: [] for each in self.series}

    def next(self, points: bool = False, fails: bool = False, later_ms: int = POLL_MS) -> int:
        """One cycle; how many were asked."""
        self.turn += 1
        self.now_ms += later_ms
        settled_ms = self.now_ms - POLL_MS
        self.begin(settled_ms)
        begin_ms = settled_ms - DAY_MS if self.checkpoint_ms is None else self.checkpoint_ms
        chosen = self.states.choose(Span(each, begin_ms, settled_ms) for each in self.series)
        for span in chosen:
            window = self.states.window(span)
            self.asked[span.series.row_id].append(self.turn)
            self.states.asked(window.series)
            if fails:
                self.states.failed(window)
            else:
                self.states.answered(window, span.end_ms, points)
        return len(chosen)

    def begin(self, settled_ms: int) -> None:
        checkpoints = {} if self.checkpoint_ms is None else {RecordType.TRAFFIC: self.checkpoint_ms}
        rows = [Row(each.row_id, each.name, NOW_MS - DAY_MS, None, checkpoints) for each in self.series]
        self.states.begin(rows, self.now_ms, settled_ms)

    def lengths(self) -> int:
        """How long the next window may be."""
        settled_ms = self.now_ms - POLL_MS
        window = self.states.window(Span(self.series[0], settled_ms - DAY_MS, settled_ms))
        return window.end_ms - window.begin_ms


def gaps(turns: list[int]) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise(turns)]


def test_the_first_two_empty_answers_change_nothing_then_a_silent_series_is_asked_less_and_less_often() -> None:
    cycles = Cycles()
    for _ in range(30):
        cycles.next()
    found = gaps(cycles.asked[0])
    assert found[:2] == [1, 1]
    assert set(found[4:]) == {4}
    assert max(found) <= 4


def test_idle_series_do_not_all_come_in_the_same_cycle() -> None:
    cycles = Cycles(200)
    for _ in range(10):
        cycles.next()
    assert all(20 < cycles.next() < 90 for _ in range(8))


@pytest.mark.parametrize(("checkpoint_ms", "idle"), [(NOW_MS - POLL_MS, False), (NOW_MS - 30 * HOUR_MS, True)])
def test_a_series_that_talks_is_never_idle(checkpoint_ms: int, idle: bool) -> None:
    cycles = Cycles(checkpoint_ms=checkpoint_ms)
    asked = [cycles.next() for _ in range(20)]
    assert (0 in asked) is idle


def test_without_idle_backoff_everybody_is_asked() -> None:
    cycles = Cycles(idle_ms=0)
    assert [cycles.next() for _ in range(20)] == [1] * 20


def test_points_end_the_idleness() -> None:
    cycles = Cycles()
    for _ in range(12):
        cycles.next()
    while not cycles.next(points=True):
        pass
    assert [cycles.next() for _ in range(2)] == [1, 1]


def test_a_turn_that_passed_by_is_made_up_for() -> None:
    cycles = Cycles()
    for _ in range(12):
        cycles.next()
    for _ in range(5):
        assert cycles.next(later_ms=4 * POLL_MS) == 1


def test_after_a_failure_half_as_much_is_asked_until_the_series_was_answered_up_to_its_end() -> None:
    cycles = Cycles()
    cycles.next(fails=True)
    assert cycles.lengths() == DAY_MS // 2
    for _ in range(9):
        cycles.next(fails=True)
    assert cycles.lengths() == POLL_MS
    cycles.next()  # answered, but only its first 15 minutes
    assert cycles.lengths() == POLL_MS
    settled_ms = cycles.now_ms - POLL_MS
    span = Span(cycles.series[0], settled_ms - POLL_MS, settled_ms)
    cycles.states.answered(cycles.states.window(span), settled_ms, had_points=False)
    assert cycles.lengths() == DAY_MS


def test_a_group_that_failed_shortens_nobody_s_window() -> None:
    cycles = Cycles()
    cycles.next()
    settled_ms = cycles.now_ms - POLL_MS
    window = cycles.states.window(Span(cycles.series[0], settled_ms - DAY_MS, settled_ms))
    cycles.states.failed(window, shorten=False)
    assert cycles.lengths() == DAY_MS


def test_a_series_that_was_answered_up_to_this_end_is_not_asked_again_unless_somebody_rewound_it() -> None:
    cycles = Cycles(checkpoint_ms=NOW_MS - HOUR_MS)
    assert cycles.next() == 1
    assert cycles.next(later_ms=0) == 0
    cycles.checkpoint_ms = NOW_MS - 2 * HOUR_MS
    assert cycles.next(later_ms=0) == 1


def test_those_that_got_no_turn_come_first_and_series_of_a_row_stay_together() -> None:
    chance, types = {1: 0.7, 2: 0.2, 3: 0.5}, tuple(RecordType)
    states = SeriesStates(replace(RULES, record_types=types), place=lambda row_id: chance[row_id])
    rows = [Row(row_id, f"a/{row_id}", NOW_MS - DAY_MS, None, dict.fromkeys(types, NOW_MS - HOUR_MS)) for row_id in chance]
    spans = [
        Span(Series(row_id, f"a/{row_id}", record_type), NOW_MS - HOUR_MS, NOW_MS)
        for row_id in (1, 2, 3)
        for record_type in types
    ]
    states.begin(rows, NOW_MS, NOW_MS)
    chosen = states.choose(spans)
    assert [span.series.row_id for span in chosen] == [2, 2, 2, 3, 3, 3, 1, 1, 1]
    for span in chosen[:4]:
        states.asked(span.series)
        states.failed(states.window(span))
    states.begin(rows, NOW_MS, NOW_MS)
    again = states.choose(spans)
    assert [span.series.row_id for span in again] == [3, 3, 1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize(
    ("checkpoint_ms", "answers", "expects"),
    [
        (NOW_MS - HOUR_MS, [], True),
        (NOW_MS - 3 * DAY_MS, [], False),
        (None, [], False),
        (NOW_MS - HOUR_MS, [False], False),
        (NOW_MS - 3 * DAY_MS, [False, True], True),
    ],
)
def test_points_are_expected_of_a_series_by_what_it_last_brought(
    checkpoint_ms: int | None, answers: list[bool], expects: bool
) -> None:
    cycles = Cycles(checkpoint_ms=checkpoint_ms)
    cycles.begin(NOW_MS)
    for points in answers:
        cycles.next(points)
    assert cycles.states.expects_points(cycles.series[0]) is expects


def test_a_series_that_comes_from_its_rest_is_not_behind_before_it_is_answered() -> None:
    cycles = Cycles()
    for _ in range(12):
        cycles.next()
    while True:
        cycles.turn += 1
        cycles.now_ms += POLL_MS
        settled_ms = cycles.now_ms - POLL_MS
        cycles.begin(settled_ms)
        chosen = cycles.states.choose([Span(cycles.series[0], settled_ms - DAY_MS, settled_ms)])
        if chosen:
            break
    assert cycles.states.answered_up_to() == {}
    cycles.states.answered(cycles.states.window(chosen[0]), settled_ms, had_points=False)
    assert cycles.states.answered_up_to()[RecordType.TRAFFIC].worst_ms == settled_ms


def test_a_series_with_nothing_due_after_a_restart_counts_as_answered_up_to_the_settled_end() -> None:
    for checkpoint_ms, counted in [(NOW_MS - 1, []), (NOW_MS, [(NOW_MS, NOW_MS)]), (None, [])]:
        cycles = Cycles(checkpoint_ms=checkpoint_ms)
        cycles.begin(NOW_MS)
        assert cycles.states.checkpoints_of_answered()[RecordType.TRAFFIC] == counted
