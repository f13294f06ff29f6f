"""Times and spans as people read them on the page."""

import datetime


def utc(ms: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time in UTC as people read it."""
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).strftime(form)


def clock(ms: int, now_ms: int) -> str:
    """The time of day, with the date where it is not today's."""
    return utc(ms, "%H:%M" if utc(ms, "%Y-%m-%d") == utc(now_ms, "%Y-%m-%d") else "%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """A span of time in its two greatest units."""
    if 0.0005 <= seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if not hours:
        return f"{minutes} min"
    if not days:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"
