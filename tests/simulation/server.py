"""A simulated Netbeam that does wrong what it is told to, and remembers what it was asked."""

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from collector.core.model import RecordType
from collector.source.simulated.netbeam import SimulatedNetbeam, window_of
from collector.source.simulated.network import Point, SimulatedNetwork, encode
from collector.source.simulated.server import target_of, wall_ms
from tests.simulation.delivery import Answer, OddConnection
from tests.simulation.faults import Behaviour, nothing_of, strike


class Request(NamedTuple):
    """A request that has come, `at` the monotonic time; the window is there for requests for points."""

    at: float
    head: str
    path: str
    resource: str = ""
    record_type: RecordType | None = None
    begin_ms: int = 0
    end_ms: int = 0


class FaultySimulation(SimulatedNetbeam):
    """`behaviour` may be changed at any time, from any thread. With `record`, `requests` has all requests."""

    connection = OddConnection

    def __init__(
        self,
        network: SimulatedNetwork,
        *,
        behaviour: Behaviour | None = None,
        clock: Callable[[], int] = wall_ms,
        port: int = 0,
        record: bool = False,
    ) -> None:
        super().__init__(network, clock=clock, port=port)
        self.behaviour = behaviour or Behaviour()
        self.record = record
        self.requests: list[Request] = []
        self.per_second: Counter[int] = Counter()
        """Requests by second of the monotonic clock."""

    def reset_connections(self) -> None:
        """Reset all connections that are open, idle ones too; new ones are welcome."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._reset_connections)

    def asked(self, resource: str, record_type: RecordType) -> list[tuple[int, int]]:
        """The windows that were asked for, in order, as far as requests were recorded."""
        wanted = (resource, record_type)
        return [(each.begin_ms, each.end_ms) for each in tuple(self.requests) if (each.resource, each.record_type) == wanted]

    def arrived(self, head: bytes) -> None:
        """Count and record a request, and have its answer wait as long as the behaviour says."""
        super().arrived(head)
        at = time.monotonic()
        self.per_second[int(at)] += 1
        if self.record:
            self.requests.append(self._recorded(at, head))
        self.latency_s = self.behaviour.latency_s

    def date(self) -> str:
        """The simulation's clock, as a header, unless it is told to send none."""
        return super().date() if self.behaviour.send_date else ""

    def listing_answer(self) -> Answer:
        """The listing, edited, or something else."""
        now_ms, edit = self.clock(), self.behaviour.edit_listing
        body = self.network.encoded_listing(now_ms) if edit is None else encode(edit(self.network.listing(now_ms))).encode()
        fault = strike(self.behaviour.listing, "", "", 0)
        good = Answer(body=body)
        return good if fault is None else fault.apply(good, [], now_ms, now_ms)

    def points_answer(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> Answer | bytes:
        """The points of a window, or something else."""
        fault = strike(self.behaviour.points, resource, record_type, end_ms - begin_ms) if self.behaviour.points else None
        if fault is None:
            plain: bytes = super().points_answer(resource, record_type, begin_ms, end_ms)
            return plain
        points = self.points(resource, record_type, begin_ms, end_ms)
        good = Answer.of_points(points) if points else nothing_of(self.network.nothing(resource, record_type))
        return fault.apply(good, points, begin_ms, end_ms)

    def points(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> list[Point]:
        """With the ends of the window that the behaviour includes."""
        behaviour = self.behaviour
        if behaviour.silence:
            return []
        self.settle_s = behaviour.settle_s
        points = super().points(
            resource, record_type, begin_ms + (not behaviour.begin_inclusive), end_ms + behaviour.end_inclusive
        )
        return points[::-1] if behaviour.descending else points

    def _recorded(self, at: float, head: bytes) -> Request:
        path, query = target_of(head)
        request = Request(at, head.decode("latin-1"), path.decode("latin-1"))
        series, window = self._routes.get(path), window_of(query)
        return Request(*request[:3], *series, *window) if series and window else request
