"""When empty answers are Netbeam's failure."""

import pytest

from collector.core.model import RecordType, Series, Window
from collector.cycle.silence import Silence
from tests.fakes import NOW_MS

WINDOW = Window(Series(1, "a", RecordType.TRAFFIC), NOW_MS - 1, NOW_MS)


def judged(*answers: tuple[int, bool | None, int], others_talk: bool = False) -> Silence:
    """So many series each, that talked before (or not, or perhaps: None), come back with so many points."""
    silence = Silence(others_talk)
    for count, talked, points in answers:
        for _ in range(count):
            silence.add(WINDOW, talked, points)
    return silence


@pytest.mark.parametrize(
    ("fell_silent", "talk_on", "of_all"),
    [
        (0, 100, False), (10, 0, False), (11, 0, True), (11, 10, True), (11, 11, False), (12, 11, True),
        (50, 50, False), (51, 50, True), (300, 301, False), (301, 300, True),
    ],
)  # fmt: skip
def test_more_than_half_and_more_than_ten_of_those_that_talked(fell_silent: int, talk_on: int, of_all: bool) -> None:
    silence = judged((fell_silent, True, 0), (talk_on, True, 30), (700, False, 0))
    assert silence.of_all is of_all
    assert silence.silent == fell_silent


@pytest.mark.parametrize(
    ("silent", "talking", "new", "of_all"),
    [(10, 0, 0, False), (11, 0, 0, True), (11, 0, 50, True), (11, 1, 0, False), (0, 0, 50, False), (500, 1, 50, False)],
)
def test_where_nothing_is_known_every_one_of_more_than_ten_that_may_have_had_points(
    silent: int, talking: int, new: int, of_all: bool
) -> None:
    silence = judged((silent, None, 0), (talking, None, 9), (new, False, 0), (new, False, 3))
    assert silence.of_all is of_all


def test_new_ones_alone_in_a_round_are_nothing_special_where_others_talk() -> None:
    assert not judged((50, None, 0), others_talk=True).of_all
    assert judged((50, None, 0), (1, True, 0), others_talk=True).of_all


@pytest.mark.parametrize(
    ("fell_silent", "talk_on", "unknown_silent", "unknown_talk", "of_all"),
    [
        (3, 0, 500, 0, True),  # after a first cycle that was cut short few are known
        (3, 1, 500, 0, False),
        (3, 0, 500, 1, False),
        (3, 0, 10, 0, False),
        (11, 0, 5, 5, True),
    ],
)
def test_few_that_are_known_do_not_vouch_for_all_the_others(
    fell_silent: int, talk_on: int, unknown_silent: int, unknown_talk: int, of_all: bool
) -> None:
    silence = judged(
        (fell_silent, True, 0),
        (talk_on, True, 1),
        (unknown_silent, None, 0),
        (unknown_talk, None, 1),
    )
    assert silence.of_all is of_all
    assert silence.silent == fell_silent + unknown_silent


def test_series_that_were_silent_before_do_not_count() -> None:
    assert not judged((700, False, 0)).of_all


@pytest.mark.parametrize(("others", "of_all"), [(49, True), (50, True), (51, False), (500, False)])
def test_where_nothing_is_known_and_most_have_nothing_due_silence_says_nothing(others: int, of_all: bool) -> None:
    silence = judged((50, None, 0))
    silence.active = 50 + others
    assert silence.of_all is of_all


@pytest.mark.parametrize(
    ("doubted", "silent", "talking", "of_all"),
    [(10, 5, 9, False), (10, 7, 7, False), (10, 8, 6, True), (10, 14, 0, True), (10, 1, 0, True)],
)
def test_those_that_are_doubted_already_make_no_failure_where_most_others_talk_on(
    doubted: int, silent: int, talking: int, of_all: bool
) -> None:
    silence = judged((silent, True, 0), (talking, True, 3))
    for _ in range(doubted):
        silence.add(WINDOW, True, 0, doubted=True)
    assert silence.of_all is of_all


def test_empty_answers_are_credible_where_somebody_is_heard_or_few_are_silent() -> None:
    assert judged((10, True, 0)).credible
    assert judged((4, True, 0), (6, None, 0), (500, False, 0)).credible
    assert not judged((5, True, 0), (6, None, 0)).credible
    assert judged((5, True, 0), (6, None, 0), (1, False, 3)).credible


def test_series_asked_again_up_to_the_same_time_do_not_count_but_wait_for_the_judgement() -> None:
    silence = Silence()
    for _ in range(11):
        silence.add(WINDOW, True, 0, doubted=True, again=True)
        silence.add(WINDOW, None, 0, doubted=True, again=True)
        assert silence.credible is (silence.again_silent <= 10)
    assert not silence.of_all
    assert silence.empty == [WINDOW] * 22
