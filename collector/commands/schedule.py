"""When cycles start: the first at once, the others on the clock's multiples of the interval; a function of the clock."""

from dataclasses import dataclass

JUST_NOW_SHARE = 0.05
"""A multiple that is nearer than this share of an interval is the one that has just been waited for: timers wake early."""
JUST_NOW_S = 1.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Multiples of `interval_s` on the wall clock, waited for by the monotonic one, so that a step only shifts one cycle."""

    interval_s: float

    def until_next(self, wall_s: float) -> float:
        """Seconds from a cycle's start at this wall time to the next multiple."""
        seconds = self.interval_s - wall_s % self.interval_s
        return seconds + self.interval_s if seconds < min(JUST_NOW_S, self.interval_s * JUST_NOW_SHARE) else seconds

    def passed(self, late_s: float) -> int:
        """How many multiples a cycle has run over that ended so long after the one that was due; 0 when it ended before."""
        return 0 if late_s < 0 else 1 + int(late_s // self.interval_s)
