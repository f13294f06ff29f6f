"""What the simulated Netbeam does wrong when it is told to: one fault for each way in which a source has been seen to fail.

No fault loses a point for good. So what a correct collector publishes, sooner or later, are always the network's expected points.
"""

import functools
import gzip
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from collector.core.model import RecordType
from collector.source.simulated.netbeam import no_points
from collector.source.simulated.network import Nothing, Point, encode
from tests.simulation import content
from tests.simulation.content import Entries
from tests.simulation.delivery import Answer, Delivery

BOMB_BYTES = 96 << 20
"""More than the 64 MiB that a listing may have."""


class Kind(StrEnum):
    """What goes wrong. The first part is about the answer as a whole, the second about the points in it."""

    STATUS = "status"
    RESET = "reset"
    HANG_UP = "hang-up"
    HANG = "hang"
    SLOW = "slow"
    """Right, but only after `seconds`."""
    CUT = "cut"
    CUT_CHUNKED = "cut-chunked"
    CHUNKED = "chunked"
    CLOSE = "close"
    DRIP_HEAD = "drip-head"
    DRIP_BODY = "drip-body"
    """A byte every `seconds`."""
    REDIRECT = "redirect"
    HTML = "html"
    INVALID_JSON = "invalid-json"
    CUT_JSON = "cut-json"
    DEEP_JSON = "deep-json"
    NOT_UTF8 = "not-utf8"
    GZIP = "gzip"
    GZIP_BOMB = "gzip-bomb"
    NOT_GZIP = "not-gzip"
    """Said to be gzip and is not."""
    OVERSIZE = "oversize"

    NO_POINTS = "no-points"
    POINTS_NO_ARRAY = "points-no-array"
    BARE_ARRAY = "bare-array"
    EMPTY = "empty"
    """No points, although there are some."""
    SHORT_POINTS = "short-points"
    BAD_VALUES = "bad-values"
    BAD_TIMES = "bad-times"
    HUGE_NUMBERS = "huge-numbers"
    LONG_NUMBERS = "long-numbers"
    """Integers of more digits than Python converts (4,300)."""
    OUTSIDE = "outside"
    DOUBLED = "doubled"
    SHUFFLED = "shuffled"


@dataclass(eq=False, slots=True, kw_only=True)
class Fault:
    """One kind of fault and the requests that it strikes: all of those that every given condition lets through.

    Belongs to one simulation, and counts for it.
    """

    kind: Kind
    share: float = 1.0
    """Of the requests that it could strike, at random."""
    resources: Collection[str] | None = None
    device: str | None = None
    record_types: Collection[RecordType] | None = None
    longer_than_s: float = 0.0
    """Only windows longer than this."""
    tries: int | None = None
    """Only the first so many requests of each series."""
    limit: int | None = None
    """At most so many times in all."""
    status: int = 503
    retry_after: str | None = None
    """The header's value: seconds, or a date (`email.utils.formatdate`)."""
    seconds: float = 0.1
    seed: int = 0
    hits: int = 0
    """How often it has struck."""
    _random: random.Random = field(init=False, repr=False)
    _asked: Counter[tuple[str, str]] = field(init=False, repr=False, default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def strikes(self, resource: str, record_type: str, length_ms: int) -> bool:
        """Whether it strikes this request; to be asked once for each. The listing has no resource and no type."""
        if self.resources is not None and resource not in self.resources:
            return False
        if self.device is not None and f"/{self.device}/" not in f"/{resource}/":
            return False
        if self.record_types is not None and record_type not in self.record_types:
            return False
        if length_ms <= self.longer_than_s * 1000 and self.longer_than_s:
            return False
        if self.limit is not None and self.hits >= self.limit:
            return False
        if self.share < 1 and self._random.random() >= self.share:
            return False
        if self.tries is not None:
            self._asked[resource, record_type] += 1
            if self._asked[resource, record_type] > self.tries:
                return False
        self.hits += 1
        return True

    def apply(self, good: Answer, points: Sequence[Point], begin_ms: int, end_ms: int) -> Answer:
        """What is sent instead of the good answer, which holds these points."""
        if self.kind in _POINTS:
            return Answer(body=_POINTS[self.kind](list(points), begin_ms, end_ms))
        if self.kind in _DELIVERIES:
            return replace(good, delivery=_DELIVERIES[self.kind], pace_s=self.seconds)
        if self.kind is Kind.STATUS:
            retry = () if self.retry_after is None else (f"Retry-After: {self.retry_after}",)
            return Answer(self.status, b"<html><body>Error</body></html>", ("Content-Type: text/html", *retry))
        return _WHOLE[self.kind](good)


class Behaviour:
    """How the simulation behaves; every attribute may be replaced at any time, from any thread."""

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.points: tuple[Fault, ...] = ()
        """Faults of requests for points; the first that strikes counts."""
        self.listing: tuple[Fault, ...] = ()
        """Faults of requests for the listing."""
        self.edit_listing: Callable[[Entries], object] | None = None
        """What is listed instead of the right entries."""
        self.settle_s = 0.0
        """Points younger than this are not there yet."""
        self.silence = False
        """Every series answers that it has no points; when it ends they are all there."""
        self.begin_inclusive = True
        self.end_inclusive = False
        self.descending = False
        self.send_date = True


def strike(faults: Sequence[Fault], resource: str, record_type: str, length_ms: int) -> Fault | None:
    """The first fault that strikes this request, for a window of that length; None when none does."""
    return next((fault for fault in faults if fault.strikes(resource, record_type, length_ms)), None)


def nothing_of(nothing: Nothing) -> Answer:
    """The answer that says in this way that there are no points."""
    status, body = no_points(nothing)
    return Answer(status, body)


def _html(good: Answer) -> Answer:
    return Answer(body=b"<!DOCTYPE html><html><body>Over quota</body></html>", headers=("Content-Type: text/html",))


def _redirect(good: Answer) -> Answer:
    return Answer(302, b"", ("Location: /login",))


def _half(good: Answer) -> Answer:
    return replace(good, body=good.body[: len(good.body) // 2] or b"[")


@functools.cache
def _bomb() -> Answer:
    return _packed(b" " * BOMB_BYTES)


def _packed(body: bytes) -> Answer:
    return Answer(body=gzip.compress(body, 1), headers=("Content-Type: application/json", "Content-Encoding: gzip"))


def _said_packed(good: Answer) -> Answer:
    return replace(good, headers=("Content-Type: application/json", "Content-Encoding: gzip"))


_WHOLE: dict[Kind, Callable[[Answer], Answer]] = {
    Kind.REDIRECT: _redirect,
    Kind.HTML: _html,
    Kind.INVALID_JSON: lambda good: Answer(body=b'{"points":[[,]]}'),
    Kind.CUT_JSON: _half,
    Kind.DEEP_JSON: lambda good: Answer(body=b"[" * 5_000 + b"]" * 5_000),
    Kind.NOT_UTF8: lambda good: Answer(body=b'{"points":[],"site":"Z\xfcrich"}'),
    Kind.GZIP: lambda good: replace(_packed(good.body), status=good.status) if good.body else good,
    Kind.GZIP_BOMB: lambda good: _bomb(),
    Kind.NOT_GZIP: _said_packed,
    Kind.OVERSIZE: lambda good: Answer(body=b" " * BOMB_BYTES),
}
_DELIVERIES = {
    Kind.SLOW: Delivery.WHOLE,
    Kind.RESET: Delivery.RESET,
    Kind.HANG_UP: Delivery.HANG_UP,
    Kind.HANG: Delivery.HANG,
    Kind.CUT: Delivery.CUT,
    Kind.CUT_CHUNKED: Delivery.CUT_CHUNKED,
    Kind.CHUNKED: Delivery.CHUNKED,
    Kind.CLOSE: Delivery.CLOSE,
    Kind.DRIP_HEAD: Delivery.DRIP_HEAD,
    Kind.DRIP_BODY: Delivery.DRIP_BODY,
}
_POINTS: dict[Kind, Callable[[list[Point], int, int], bytes]] = {
    Kind.NO_POINTS: lambda points, begin_ms, end_ms: b"{}",
    Kind.POINTS_NO_ARRAY: lambda points, begin_ms, end_ms: b'{"points":{"0":[1,2,3]}}',
    Kind.BARE_ARRAY: lambda points, begin_ms, end_ms: encode(points).encode(),
    Kind.EMPTY: lambda points, begin_ms, end_ms: b'{"points":[]}',
    Kind.SHORT_POINTS: content.short_points,
    Kind.BAD_VALUES: content.bad_values,
    Kind.BAD_TIMES: content.bad_times,
    Kind.HUGE_NUMBERS: content.huge_numbers,
    Kind.LONG_NUMBERS: content.long_numbers,
    Kind.OUTSIDE: content.outside,
    Kind.DOUBLED: content.doubled_points,
    Kind.SHUFFLED: content.shuffled,
}
