"""Texts, times and spans as people read them on the page."""

import datetime
import html

MOST_CHARACTERS = 500
"""Of one text from outside, an error or a name."""


def escape(text: object) -> str:
    """Text for HTML, in content and in attributes: what cannot be printed is replaced, what is too long is cut."""
    whole = str(text)
    cut = whole if len(whole) <= MOST_CHARACTERS else whole[:MOST_CHARACTERS] + "…"
    return html.escape("".join(map(_printable, cut)))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"


def utc(ms: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time in UTC as people read it."""
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).strftime(form)


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
