"""When cycles start."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.commands.schedule import passed, until_next


@pytest.mark.parametrize(
    ("interval_s", "wall_s", "seconds"),
    [
        (900, 1_764_000_000.0, 900.0),  # started on a multiple: the next one
        (900, 1_764_000_001.0, 899.0),
        (900, 1_764_000_899.0, 1.0),
        (900, 1_764_000_899.5, 900.5),  # a timer that woke half a second early is no cycle of its own
        (5, 1_764_000_004.0, 1.0),
        (5, 1_764_000_004.8, 5.2),
        (1, 1_764_000_000.25, 0.75),
    ],
)
def test_cycles_start_on_the_clock_s_multiples(interval_s: float, wall_s: float, seconds: float) -> None:
    assert until_next(interval_s, wall_s) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("late_s", "count"),
    [(-900, 0), (-0.001, 0), (0, 1), (1, 1), (899.9, 1), (900, 2), (2700, 4)],
)
def test_multiples_that_pass_during_a_cycle_are_counted(late_s: float, count: int) -> None:
    assert passed(900, late_s) == count


@given(interval_s=st.integers(1, 100_000), wall_s=st.floats(1e9, 4e9))
def test_the_next_cycle_is_ahead_and_on_a_multiple(interval_s: int, wall_s: float) -> None:
    seconds = until_next(interval_s, wall_s)
    assert 0 < seconds < 2 * interval_s
    off = (wall_s + seconds) % interval_s
    assert min(off, interval_s - off) < 0.001
