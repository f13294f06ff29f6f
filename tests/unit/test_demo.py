"""The demonstration's clock: each of its cycles meets a minute with points that the one before had not."""

from itertools import pairwise

import pytest

from collector.commands.demo import POLL_S, DemoClock
from collector.commands.schedule import until_next


@pytest.mark.parametrize("started_at", [0.0, 1.7, 4.9])
@pytest.mark.parametrize("late_s", [-0.2, 0.0, 1.5])
@pytest.mark.parametrize("first_late_s", [0.0, 1.5])
def test_every_cycle_meets_a_minute_more(started_at: float, late_s: float, first_late_s: float) -> None:
    at = started_at
    clock = DemoClock(monotonic=lambda: at, wall=lambda: 1_800_000_017.0 + started_at)
    at += first_late_s
    minutes = []
    for _ in range(20):
        minutes.append(clock.now() // 60)
        at += until_next(POLL_S, clock.schedule()) + late_s
        late_s = -late_s if late_s < 0 else 0.0
    assert [after - before for before, after in pairwise(minutes)] == [1] * 19
