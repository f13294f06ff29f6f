"""When cycles start: the first at once, the others on the clock's multiples of the interval.

The multiples are the wall clock's, and waited for by the monotonic one, so that a step of the clock only shifts one cycle.
"""

JUST_NOW_SHARE = 0.05
"""A multiple that is nearer than this share of an interval is the one that has just been waited for: timers wake early."""
JUST_NOW_S = 1.0


def until_next(interval_s: float, wall_s: float) -> float:
    """Seconds from a cycle's start at this wall time to the next multiple."""
    seconds = interval_s - wall_s % interval_s
    return seconds + interval_s if seconds < min(JUST_NOW_S, interval_s * JUST_NOW_SHARE) else seconds


def passed(interval_s: float, late_s: float) -> int:
    """How many multiples a cycle has run over that ended so long after the one that was due; 0 when it ended before."""
    return 0 if late_s < 0 else 1 + int(late_s // interval_s)
