"""What holds for the listing of every source: how many entries it may have, and how far its date may be from our clock."""

import time

from collector.core.errors import AnswerError
from collector.core.model import is_time, iso

MOST_ENTRIES = 200_000
"""Twenty times ESnet's."""
MOST_CLOCKS_APART_MS = 86_400_000 + 60_000
"""A day, and the minute that clocks may differ by: a listing that is dated further from our clock gives no row its times."""


def check_our_clock(now_ms: int) -> None:
    """Raises AnswerError for a time that no row may have."""
    if not is_time(now_ms):
        raise AnswerError(f"our clock is wrong, is NTP running? It says {now_ms} ms since 1970")


def compare_clocks(server_ms: int | None, now_ms: int, began: float) -> tuple[int, float]:
    """The listing's time, and how many seconds our clock is ahead of the server's; 0 when that one was not told.

    `now_ms` was the time when the listing began, at the monotonic time `began`. Raises AnswerError when the clocks are days
    apart.
    """
    check_our_clock(now_ms)
    if server_ms is None:
        return now_ms, 0.0
    if abs(server_ms - now_ms) > MOST_CLOCKS_APART_MS or not is_time(server_ms):
        raise AnswerError(f"listing is dated {iso(server_ms)}, more than a day from our clock, {iso(now_ms)}; is NTP running?")
    return min(now_ms, server_ms), now_ms / 1000 + (time.monotonic() - began) - server_ms / 1000


def latest_ms(now_ms: int, last_seen: tuple[int, float] | None) -> int:
    """`now_ms`, or the server's clock as last seen (see HttpClient) and counted on since, when that is earlier."""
    if last_seen is None:
        return now_ms
    server_ms, at = last_seen
    return min(now_ms, server_ms + int((time.monotonic() - at) * 1000))
