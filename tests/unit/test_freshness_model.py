"""What a short SETTLE_DELAY loses, and what it does not: the simulation behind docs/scaling.md, in small."""

import pytest

from tests.bench.freshness_model import LATER_S, Found, Setting, simulate


def small(source: str, poll_s: int, settle_s: int, *, in_order: bool, late_s: float = 120.0) -> Found:
    return simulate(Setting(source, poll_s, settle_s), in_order=in_order, late_s=late_s, hours=0.5, interfaces=2, counted=1)


@pytest.mark.parametrize(("source", "poll_s", "settle_s"), [("netbeam", 180, 0), ("stardust", 300, 60)])
def test_points_that_come_late_but_in_order_are_all_on_the_bus_once(source: str, poll_s: int, settle_s: int) -> None:
    found = small(source, poll_s, settle_s, in_order=True, late_s=LATER_S)
    assert (found.lost, found.duplicates) == (0, 0)
    assert found.points > 100


def test_points_out_of_order_are_lost_only_where_they_are_late_by_more_than_the_delay() -> None:
    assert small("netbeam", 180, 60, in_order=False).lost == 0
    found = small("netbeam", 180, 0, in_order=False)
    assert found.lost > 0
    assert found.duplicates == 0


def test_median_age_is_under_four_minutes_with_a_cycle_every_three() -> None:
    assert small("netbeam", 180, 60, in_order=True).median_s < 240
