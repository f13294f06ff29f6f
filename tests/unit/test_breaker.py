"""How the breaker goes on after successes and failures."""

import pytest

from collector.source.netbeam.breaker import FAILURES, OTHERS, Breaker, Mode


def tripped(device: str = "a", answered: bool = False) -> Breaker:
    breaker = Breaker()
    breaker.begin()
    if answered:
        breaker.succeeded()
    for _ in range(FAILURES):
        breaker.failed(device)
    return breaker


def test_twenty_failures_in_a_row_are_needed_to_go_on_carefully() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed("a")
    assert breaker.mode.value == "full"
    breaker.failed("b")
    assert breaker.mode.value == "careful"
    assert breaker.suspects == {"a", "b"}


def test_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(5):
        for _ in range(FAILURES - 1):
            breaker.failed("a")
        breaker.succeeded()
    assert breaker.mode is Mode.FULL
    assert not breaker.suspects


def test_run_of_failures_goes_on_from_one_batch_to_the_next() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.begin()
        breaker.failed("a")
    assert breaker.mode is Mode.CAREFUL


def test_five_others_that_fail_too_mean_away() -> None:
    breaker = tripped()
    for number in range(OTHERS):
        assert breaker.mode is Mode.CAREFUL
        breaker.failed(f"other{number}", alone=True)
    assert breaker.mode is Mode.AWAY


def test_failures_that_were_under_way_when_it_tripped_are_not_among_the_five() -> None:
    breaker = tripped()
    for number in range(15):
        breaker.failed(f"late{number}")
    assert breaker.mode is Mode.CAREFUL
    assert "late3" in breaker.suspects


@pytest.mark.parametrize("failures", [0, OTHERS - 1, OTHERS])
def test_success_ends_doubt_and_absence(failures: int) -> None:
    breaker = tripped()
    for number in range(failures):
        breaker.failed(f"other{number}", alone=True)
    breaker.succeeded()
    assert breaker.mode is Mode.FULL
    breaker.failed("a")
    assert breaker.mode is Mode.FULL


def test_absence_outlives_the_batch() -> None:
    breaker = tripped()
    breaker.no_other_left()
    breaker.begin()
    assert breaker.mode is Mode.AWAY


def test_no_other_device_means_away_where_nothing_was_answered() -> None:
    breaker = tripped()
    breaker.no_other_left()
    assert breaker.mode is Mode.AWAY


def test_devices_that_alone_are_left_are_at_fault_where_others_were_answered() -> None:
    breaker = tripped(answered=True)
    breaker.no_other_left()
    assert breaker.mode is Mode.FULL
    for _ in range(5 * FAILURES):
        breaker.failed("a")
    assert breaker.mode is Mode.FULL


def test_fault_of_a_device_is_forgotten_with_the_batch() -> None:
    breaker = tripped(answered=True)
    breaker.no_other_left()
    breaker.begin()
    for _ in range(FAILURES):
        breaker.failed("a")
    assert breaker.mode is Mode.CAREFUL


def test_many_devices_that_are_left_and_fail_mean_away_all_the_same() -> None:
    breaker = tripped(answered=True)
    for number in range(OTHERS):
        breaker.failed(f"late{number}")
    breaker.no_other_left()
    assert breaker.mode is Mode.AWAY


def test_no_other_left_says_nothing_while_all_is_well_or_already_lost() -> None:
    breaker = Breaker()
    breaker.no_other_left()
    assert breaker.mode is Mode.FULL
    breaker = tripped()
    breaker.no_other_left()
    breaker.no_other_left()
    assert breaker.mode is Mode.AWAY
