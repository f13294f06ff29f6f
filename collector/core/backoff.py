"""Delays between tries."""

import random
from collections.abc import Iterator

JITTER = 0.2
"""Each delay is up to this share shorter or longer, so that many waiters do not come back in step."""


def jittered(seconds: float) -> float:
    """About that long: between 0.8 and 1.2 of it."""
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)


def growing(first_s: float, most_s: float) -> Iterator[float]:
    """Delays that double from `first_s` up to `most_s`, without end."""
    delay = first_s
    while True:
        yield min(delay, most_s)
        delay = min(delay * 2, most_s)
