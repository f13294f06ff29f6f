"""What the headers of an answer mean that are about time."""

import email.utils
import functools
import re
from collections.abc import Mapping
from datetime import UTC, datetime

_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)
_MOST_DIGITS, _MOST_AGE_DIGITS = 12, 8
_LAST_S = 253_402_300_799
"""The last second of the year 9999, after which there is no date."""


def retry_after(text: str, now: float) -> float:
    """Seconds that a Retry-After header asks for, given as seconds or as a date; 0 for a past date and for nonsense."""
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return float(text[:_MOST_DIGITS])
    date = parse_date(text)
    return max(0.0, date.timestamp() - now) if date else 0.0


def parse_date(text: str | None) -> datetime | None:
    """The time in a header such as Date, None for nonsense."""
    try:
        date = email.utils.parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def server_time_ms(headers: Mapping[str, str]) -> int | None:
    """The server's clock as the answer left it, in ms: Date, and the Age of an answer that a cache has kept."""
    date, age = headers.get("Date"), headers.get("Age")
    return _server_time_ms(date, age) if date else None


@functools.lru_cache(maxsize=16)
def _server_time_ms(date: str, age: str | None) -> int | None:
    """Many answers have the same."""
    moment = parse_date(date)
    if moment is None:
        return None
    age_s = int(age) if age and age.isascii() and age.isdigit() and len(age) <= _MOST_AGE_DIGITS else 0
    return min(round(moment.timestamp()) + age_s, _LAST_S) * 1000
