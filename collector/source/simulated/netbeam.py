"""The simulated Netbeam, for newcomers, the demonstration, and the tests."""

from typing import Any
from urllib.parse import quote

from collector.core.model import RecordType
from collector.source.simulated.network import Nothing, Point, SimulatedNetwork, encode
from collector.source.simulated.server import SimulatedServer, encoded_answer, target_of

LEGAL_IN_A_PATH = "%/:@!$&'()*+,;="
"""Characters of a resource that a URL holds as they are (RFC 3986, pchar); others are asked for percent-encoded."""
MOST_MS = 366 * 86_400_000
"""A longer window is a mistake."""


def encoded_points(points: object) -> bytes:
    """Netbeam's object around the points."""
    return f'{{"points":{encode(points)}}}'.encode()


def window_of(query: bytes) -> tuple[int, int] | None:
    """`begin` and `end` in ms; None when they are no window."""
    try:
        fields = dict(part.split(b"=", 1) for part in query.split(b"&"))
        begin_ms, end_ms = int(fields[b"begin"]), int(fields[b"end"])
    except (ValueError, KeyError):
        return None
    return (begin_ms, end_ms) if 0 <= end_ms - begin_ms <= MOST_MS else None


def no_points(nothing: Nothing) -> tuple[int, bytes]:
    """Status and body that say in this way that there are no points."""
    if nothing is Nothing.NOT_FOUND:
        return 404, b'{"error":"not found"}'
    return (204, b"") if nothing is Nothing.NO_CONTENT else (200, nothing.encode())


class SimulatedNetbeam(SimulatedServer):
    """Counts `listing`, `points`, `unknown` (answered 404), and `proxied` for those of them that named the whole URL, as one
    does to a proxy."""

    base_path = "/api/network/esnet/prod"

    def __init__(self, network: SimulatedNetwork, **options: Any) -> None:
        super().__init__(network, **options)
        self._routes = {
            f"{self.base_path}/{quote(resource, safe=LEGAL_IN_A_PATH)}/{record_type}".encode(): (resource, record_type)
            for resource in network.resources
            for record_type in RecordType
        }

    def answer(self, head: bytes, body: bytes) -> Any:
        """See SimulatedServer."""
        path, query = target_of(head)
        series = self._routes.get(path)
        if b"://" in head[:16]:
            self.counts["proxied"] += 1
        if series is None:
            if path != f"{self.base_path}/interfaces".encode():
                self.counts["unknown"] += 1
                return encoded_answer(self.date(), b'{"error":"not found"}', 404)
            self.counts["listing"] += 1
            return self.listing_answer()
        self.counts["points"] += 1
        window = window_of(query)
        if window is None:
            return encoded_answer(self.date(), b'{"error":"begin and end are times in ms"}', 400)
        return self.points_answer(*series, *window)

    def listing_answer(self) -> Any:
        """The listing."""
        return encoded_answer(self.date(), self.network.encoded_listing(self.clock()))

    def points_answer(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> Any:
        """The points of a window, or one of the ways to say that there are none."""
        if points := self.points(resource, record_type, begin_ms, end_ms):
            return encoded_answer(self.date(), encoded_points(points))
        status, body = no_points(self.network.nothing(resource, record_type))
        return encoded_answer(self.date(), body, status)

    def points(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> list[Point]:
        """The points of `[begin_ms, end_ms)` that are there by now."""
        newest_ms = self.clock() - int(self.settle_s * 1000)
        return self.network.expected_points(resource, record_type, begin_ms, min(end_ms, newest_ms + 1))
