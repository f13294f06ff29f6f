"""What the collector remembers of its series: idle ones, failures, turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.model import RecordType, Series, Window
from collector.cycle.plan import Span
from collector.cycle.series_state import Memory
from tests.fakes import HOUR_MS, MINUTE_MS, NOW_MS

POLL_MS = 900_000
MOST_MS = 6 * HOUR_MS


def memory(idle_ms: int = HOUR_MS, poll_ms: int = POLL_MS, most_ms: int = MOST_MS) -> Memory:
    return Memory(poll_ms, idle_ms, most_ms)


def series(number: int = 1) -> Series:
    return Series(number, f"a/{number}", RecordType.TRAFFIC)


def span(number: int = 1, length_ms: int = POLL_MS) -> Span:
    return Span(series(number), NOW_MS - length_ms, NOW_MS, NOW_MS - length_ms)


def window(length_ms: int = POLL_MS, number: int = 1) -> Window:
    return Window(series(number), NOW_MS - length_ms, NOW_MS)


def cycles_asked(known: Memory, number: int, cycles: int, poll_ms: int = POLL_MS) -> list[int]:
    """In which cycles a series that never has points is asked, when each window that is asked moves its checkpoint."""
    asked, checkpoint_ms = [], NOW_MS
    for cycle in range(1, cycles + 1):
        now_ms = NOW_MS + cycle * poll_ms
        chosen, idle = known.choose([Span(series(number), checkpoint_ms, now_ms, checkpoint_ms)], now_ms)
        assert len(chosen) + len(idle) == 1
        if chosen:
            assert (chosen[0].begin_ms, chosen[0].end_ms) == (checkpoint_ms, now_ms)
            asked.append(cycle)
            assert known.answered_empty(Window(series(number), checkpoint_ms, now_ms), now_ms)
            checkpoint_ms = now_ms
    return asked


def gaps(asked: list[int]) -> list[int]:
    return [later - earlier for earlier, later in zip([0, *asked], asked, strict=False)]


@pytest.mark.parametrize("number", range(20))
def test_first_two_empty_windows_change_nothing_then_the_gaps_grow_up_to_the_idle_backoff(number: int) -> None:
    steps = gaps(cycles_asked(memory(), number, 40))
    assert steps[:3] == [1, 1, 1]  # two empty ones, and a third that is asked as ever
    assert steps[3] <= 2
    assert steps[4] <= 4
    assert set(steps[6:]) == {4}


def test_gaps_double_up_to_the_idle_backoff() -> None:
    for number in range(8):
        steps = gaps(cycles_asked(memory(32 * POLL_MS), number, 300))
        assert steps[-3:] == [32, 32, 32]
        assert all(step <= 2 ** max(0, tried - 2) for tried, step in enumerate(steps))


@pytest.mark.parametrize(("idle_ms", "poll_ms"), [(0, POLL_MS), (HOUR_MS, HOUR_MS), (HOUR_MS, 2 * HOUR_MS), (MINUTE_MS, POLL_MS)])
def test_backoff_of_no_more_than_an_interval_asks_every_time(idle_ms: int, poll_ms: int) -> None:
    assert cycles_asked(memory(idle_ms, poll_ms), 1, 9, poll_ms) == list(range(1, 10))


def test_idle_series_do_not_all_come_in_one_cycle() -> None:
    asked = [set(cycles_asked(memory(), number, 16)) for number in range(200)]
    crowds = [sum(cycle in each for each in asked) for cycle in range(9, 17)]
    assert min(crowds) > 25
    assert max(crowds) < 75


def test_points_make_a_series_regular_again() -> None:
    known = memory()
    cycles_asked(known, 1, 20)
    assert known.is_idle(series())
    known.talked(window())
    assert not known.is_idle(series())
    assert all(known.choose([span()], NOW_MS + cycle * POLL_MS)[1] == [] for cycle in range(8))


def test_idle_series_that_is_far_behind_is_asked_at_once() -> None:
    known = memory()
    cycles_asked(known, 1, 40)
    for number in range(5):
        assert known.choose([span(length_ms=HOUR_MS)], NOW_MS + number * POLL_MS)[1] == []


@given(answers=st.lists(st.booleans(), min_size=1, max_size=25), number=st.integers(1, 50))
def test_whatever_comes_back_no_millisecond_is_left_out(answers: list[bool], number: int) -> None:
    known, checkpoint_ms, cycle, covered = memory(), NOW_MS, 0, []
    for points in answers:
        while True:
            cycle += 1
            now_ms = NOW_MS + cycle * POLL_MS
            chosen, _ = known.choose([Span(series(number), checkpoint_ms, now_ms, checkpoint_ms)], now_ms)
            assert now_ms - checkpoint_ms <= HOUR_MS + 2 * POLL_MS
            if chosen:
                break
        asked = known.window(chosen[0])
        if points:
            known.talked(asked)
        elif not known.answered_empty(asked, now_ms):
            continue
        covered.append((asked.begin_ms, asked.end_ms))
        checkpoint_ms = asked.end_ms
    assert [begin for begin, _ in covered] == [NOW_MS, *(end for _, end in covered)][:-1]


@pytest.mark.parametrize(
    ("length_ms", "tries"),
    [
        (MOST_MS, [MOST_MS, MOST_MS // 2, MOST_MS // 4, MOST_MS // 8, MOST_MS // 16, POLL_MS, POLL_MS]),
        (40 * MINUTE_MS, [40 * MINUTE_MS, 20 * MINUTE_MS, 15 * MINUTE_MS, 15 * MINUTE_MS]),
        (10 * MINUTE_MS, [10 * MINUTE_MS, 10 * MINUTE_MS]),
    ],
)
def test_each_failure_halves_the_next_try_down_to_15_minutes(length_ms: int, tries: list[int]) -> None:
    known = memory()
    for expected in tries:
        asked = known.window(span(length_ms=length_ms))
        assert asked.end_ms - asked.begin_ms == expected
        known.failed(asked)
    known.talked(asked)
    assert known.window(span(length_ms=length_ms)).end_ms - NOW_MS + length_ms == length_ms


def test_setting_below_15_minutes_is_never_exceeded() -> None:
    known = memory(most_ms=MINUTE_MS)
    known.failed(window(MINUTE_MS))
    assert known.window(span()) == Window(series(), NOW_MS - POLL_MS, NOW_MS - POLL_MS + MINUTE_MS, NOW_MS - POLL_MS)


def test_those_that_got_no_turn_before_come_first_and_else_the_table_s_order_holds() -> None:
    known = memory()
    due = [span(number) for number in range(1, 6)]
    for number in (1, 2, 4):
        known.asked(window(number=number), 1)
    assert [each.series.row_id for each in known.choose(due, NOW_MS)[0]] == [3, 5, 1, 2, 4]
    for number in (3, 1):
        known.asked(window(number=number), 2)
    assert [each.series.row_id for each in known.choose(due, NOW_MS)[0]] == [5, 2, 4, 1, 3]


def test_forgets_rows_that_are_gone() -> None:
    known = memory()
    for number in (1, 2):
        known.talked(window(number=number))
    known.begin({2, 3}, continues=True)
    assert [known.talks(window(number=number)) for number in (1, 2, 3)] == [None, True, None]
    assert known.anybody_talks
    known.begin({3}, continues=True)
    assert not known.anybody_talks


def answers(known: Memory, asked: Window, *minutes: int, **options: bool) -> list[bool]:
    """Whether empty answers in cycles that collect up to these minutes are believed."""
    return [known.answered_empty(asked, NOW_MS + minute * MINUTE_MS, **options) for minute in minutes]


def test_remembers_whether_the_last_answered_window_had_points() -> None:
    known = memory()
    known.talked(window())
    known.failed(window())
    known.asked(window(), 7)
    assert known.talks(window()) is True
    assert answers(known, window(), 0) == [False]
    assert known.talks(window()) is True
    assert answers(known, window(), 1, 2) == [True, True]
    assert known.talks(window()) is False
    known.talked(window())
    assert known.talks(window()) is True


@pytest.mark.parametrize(("checkpoint", "continues"), [(True, False), (False, True), (True, True)])
def test_where_nothing_is_known_what_was_collected_before_may_have_had_points(checkpoint: bool, continues: bool) -> None:
    known = memory()
    known.begin({1}, continues=continues)
    asked = Window(series(), NOW_MS - POLL_MS, NOW_MS, NOW_MS - POLL_MS if checkpoint else None)
    assert known.talks(asked) is None
    assert answers(known, asked, 0, 1) == [not checkpoint, True]  # the first window of a series is nobody's last
    assert known.talks(asked) is False


def test_first_windows_of_a_new_table_and_of_the_only_cycle_are_believed_at_once() -> None:
    known = memory()
    known.begin({1}, continues=False)
    assert known.talks(window()) is False
    assert answers(known, window(), 0) == [True]
    collected = Window(series(2), NOW_MS - POLL_MS, NOW_MS, NOW_MS - POLL_MS)
    assert answers(known, collected, 0, at_once=True) == [True]
    assert known.talks(collected) is False


def test_empty_answer_is_believed_when_a_later_round_with_others_points_bears_it_out() -> None:
    known = memory()
    known.talked(window())
    assert answers(known, window(), 0) == [False]
    assert answers(known, window(), 0, 1, 2, credible=False) == [False, False, False]
    assert known.doubted_ms(series()) == NOW_MS
    assert answers(known, window(), 2) == [True]
    assert known.doubted_ms(series()) is None
    assert not known.is_idle(series())


def test_points_in_between_end_a_doubt() -> None:
    known = memory()
    known.talked(window())
    answers(known, window(), 0)
    known.talked(window())
    assert answers(known, window(), 1) == [False]


def test_doubts_that_are_forgotten_take_two_more_empty_answers() -> None:
    known = memory()
    known.talked(window())
    answers(known, window(), 0)
    known.forget_doubts()
    assert known.doubted_ms(series()) is None
    assert answers(known, window(), 1, 2) == [False, True]
    assert not known.is_idle(series())
