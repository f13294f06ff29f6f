"""How the breaker goes on after successes and failures."""

import pytest

from collector.source.netbeam.breaker import ALONE_FAILURES, DEVICE_FAILURES, FAILURES, Breaker


def is_careful(breaker: Breaker) -> bool:
    return breaker.in_doubt and not breaker.away


def tripped(answered: bool = False) -> Breaker:
    breaker = Breaker()
    breaker.begin()
    if answered:
        breaker.succeeded("good")
    for number in range(FAILURES):
        breaker.failed(f"d{number // DEVICE_FAILURES}", alone=False)
    return breaker


def test_twenty_failures_in_a_row_are_needed_to_go_on_carefully() -> None:
    breaker = Breaker()
    for number in range(FAILURES):
        assert not breaker.in_doubt
        breaker.failed(f"d{number}", alone=False)
    assert is_careful(breaker)


def test_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(5):
        for _ in range(FAILURES - 1):
            breaker.failed("a", alone=False)
        breaker.succeeded("b")
    assert not breaker.in_doubt


def test_run_of_failures_goes_on_from_one_batch_to_the_next() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.begin()
        breaker.failed("a", alone=False)
    assert is_careful(breaker)


def test_five_that_are_asked_alone_and_fail_too_mean_away_until_one_succeeds() -> None:
    breaker = tripped()
    for number in range(ALONE_FAILURES):
        assert is_careful(breaker)
        breaker.failed(f"other{number}", alone=True)
    assert breaker.away
    breaker.begin()
    assert breaker.away
    breaker.succeeded("a")
    assert not breaker.in_doubt


def test_failures_that_were_under_way_when_it_tripped_are_not_among_the_five() -> None:
    breaker = tripped()
    for number in range(15):
        breaker.failed(f"late{number}", alone=False)
    assert is_careful(breaker)


@pytest.mark.parametrize(("answered", "in_doubt"), [(True, False), (False, True)])
def test_a_device_proves_nothing_about_a_source_that_has_answered_for_others(answered: bool, in_doubt: bool) -> None:
    breaker = Breaker()
    if answered:
        breaker.succeeded("good")
    for _ in range(5 * FAILURES):
        breaker.failed("bad", alone=False)
    assert breaker.in_doubt is in_doubt


def test_full_speed_comes_back_when_only_devices_that_fail_are_left() -> None:
    breaker = tripped(answered=True)
    assert is_careful(breaker)
    breaker.failed("d0", alone=False)
    assert is_careful(breaker)
    breaker.failed("d0", alone=True)
    assert not breaker.in_doubt


def test_devices_that_fail_come_last_in_doubt_after_their_first_failure() -> None:
    breaker = Breaker()
    for _ in range(DEVICE_FAILURES - 1):
        breaker.failed("a", alone=False)
    assert not breaker.comes_last("a")
    breaker.failed("a", alone=False)
    breaker.failed("b", alone=False)
    assert (breaker.comes_last("a"), breaker.comes_last("b")) == (True, False)
    while not breaker.in_doubt:
        breaker.failed("a", alone=False)
    assert (breaker.comes_last("b"), breaker.comes_last("c")) == (True, False)
    breaker.succeeded("a")
    assert not breaker.comes_last("a")
