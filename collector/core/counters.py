"""Counts of what happened since the start, added up by every part and read by the metrics page."""

import bisect
import enum
import threading
from collections import Counter


class Count(enum.StrEnum):
    """What is counted; the value is the metric's name without its prefix. Some are split by one label, noted here."""

    REQUESTS = "requests"
    """Label outcome: a RequestOutcome."""
    POINTS_PUBLISHED = "points_published"
    """Label record_type, as all counts of points."""
    POINTS_CONFIRMED = "points_confirmed"
    POINTS_RETURNED = "points_returned"
    POINTS_REFUSED = "points_refused"
    POINTS_INVALID = "points_invalid"
    POINTS_OUTSIDE = "points_outside_window"
    POINTS_WITHOUT_VALUE = "points_without_value"
    POINTS_DOUBLE = "points_double"
    INTERFACES_PUBLISHED = "interface_messages_published"
    INTERFACES_CONFIRMED = "interface_messages_confirmed"
    INTERFACES_RETURNED = "interface_messages_returned"
    INTERFACES_REFUSED = "interface_messages_refused"
    MESSAGES_UNACCEPTABLE = "messages_unacceptable"
    INTERFACE_VALUES_INVALID = "interface_values_invalid"
    LISTING_ENTRIES_SKIPPED = "listing_entries_skipped"
    DOCUMENTS_DROPPED = "documents_dropped"
    WINDOWS = "windows"
    """Label outcome: the values of WindowOutcome."""
    CYCLES = "cycles"
    """Label outcome: complete, cut, failed."""
    CYCLES_SKIPPED = "cycles_skipped"
    RECONNECTS = "reconnects"
    """Label dependency: mysql, rabbitmq."""


class RequestOutcome(enum.StrEnum):
    """What became of one try of one request to a source."""

    OK = "ok"
    NO_CONTENT = "no_content"
    """An answer that says "nothing there"."""
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    STATUS = "status"
    """A status that may pass."""
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    """A status that will not change."""


BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the request latency histogram, in seconds."""


class Counters:
    """Counts by name and label, and the histogram of request latencies; safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[Count, str]] = Counter()
        self._latencies = [0] * (len(BUCKETS_S) + 1)
        self._latency_sum_s = 0.0

    def add(self, count: Count, number: int = 1, label: str = "") -> None:
        """Count something `number` times."""
        with self._lock:
            self._counts[count, label] += number

    def add_request(self, outcome: RequestOutcome, seconds: float) -> None:
        """Count one request with its outcome and its latency."""
        with self._lock:
            self._counts[Count.REQUESTS, outcome] += 1
            self._latencies[bisect.bisect_left(BUCKETS_S, seconds)] += 1
            self._latency_sum_s += seconds

    def get(self, count: Count, label: str | None = None) -> int:
        """How often it was counted so far, with this label or with any."""
        with self._lock:
            return sum(number for key, number in self._counts.items() if key[0] is count and label in (None, key[1]))

    def counts(self) -> dict[tuple[Count, str], int]:
        """A copy of all counts."""
        with self._lock:
            return dict(self._counts)

    def latencies(self) -> tuple[list[int], float]:
        """Requests per bucket (the last has no bound; not cumulative), and the sum of all latencies in seconds."""
        with self._lock:
            return list(self._latencies), self._latency_sum_s
