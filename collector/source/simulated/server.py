"""The simulated Netbeam: a server on loopback for the demonstration, the tests and the benchmark.

It serves the points of a simulated network up to its own clock and no further, and it can be told to do everything wrong
that a source has been seen to do. As a program of its own: `python -m collector.simulation --interfaces 10679`.
"""

import argparse
import asyncio
import json
import logging
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from email.utils import formatdate
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

from collector.core.model import RecordType
from collector.source.simulated.answer import Answer, Connection, target_of, window_of
from collector.source.simulated.content import bodies, encode
from collector.source.simulated.faults import NOT_FOUND, Behaviour, Fault, Kind, no_points, strike
from collector.source.simulated.network import Point, SimulatedNetwork

log = logging.getLogger(__name__)

BASE_PATH = "/api/network/esnet/prod"
LEGAL_IN_A_PATH = "%/:@!$&'()*+,;="
"""Characters of a resource that a URL holds as they are (RFC 3986, pchar); others are asked for percent-encoded."""
START_S = 10.0
_BAD_REQUEST = Answer(400, b'{"error":"begin and end are times in ms"}')


def wall_ms() -> int:
    """The time of the machine."""
    return time.time_ns() // 1_000_000


class Request(NamedTuple):
    """A request that has come, `at` the monotonic time; the window is there for requests for points."""

    at: float
    head: str
    path: str
    resource: str = ""
    record_type: RecordType | None = None
    begin_ms: int = 0
    end_ms: int = 0


class Simulation:
    """A server in a thread of its own, from `start` to `stop`; it may be started again, on the same port.

    `counts` has the number of requests: `listing`, `points`, `unknown` (answered 404), and `proxied` for those of the others
    that named the whole URL, as one does to a proxy. With `record`, `requests` has them all.
    """

    def __init__(
        self,
        network: SimulatedNetwork,
        *,
        behaviour: Behaviour | None = None,
        clock: Callable[[], int] = wall_ms,
        host: str = "127.0.0.1",
        port: int = 0,
        record: bool = False,
    ) -> None:
        self.network = network
        self.behaviour = behaviour or Behaviour()
        self.clock = clock
        self.host, self.port = host, port
        self.record = record
        self.requests: list[Request] = []
        self.counts: Counter[str] = Counter()
        self.per_second: Counter[int] = Counter()
        """Requests by second of the monotonic clock."""
        self.connections = 0
        self.open_connections: set[Connection] = set()
        self.at_once = self.most_at_once = 0
        self.failure: BaseException | None = None
        self._routes = {
            f"{BASE_PATH}/{quote(resource, safe=LEGAL_IN_A_PATH)}/{record_type}".encode(): (resource, record_type)
            for resource in network.resources
            for record_type in RecordType
        }
        self._date = (0, "")
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()

    @property
    def url(self) -> str:
        """The base URL, for NETBEAM_URL."""
        return f"http://{self.host}:{self.port}{BASE_PATH}"

    def start(self) -> "Simulation":
        """Serve from now on. Raises OSError when the port is taken."""
        listener = socket.create_server((self.host, self.port), backlog=512)
        self.port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, ready), name="simulation", daemon=True)
        self._thread.start()
        if not ready.wait(START_S) or self.failure:
            raise RuntimeError("the simulation did not start") from self.failure
        return self

    def stop(self) -> None:
        """End all connections with a reset, and refuse new ones. Raises what went wrong within the simulation, if anything."""
        if self._thread and self._loop:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(START_S)
            self._thread = None
        if self.failure:
            raise RuntimeError("the simulation failed") from self.failure

    def reset_connections(self) -> None:
        """Reset all connections that are open, idle ones too; new ones are welcome."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._reset_connections)

    def _reset_connections(self) -> None:
        for connection in tuple(self.open_connections):
            connection.abort()

    def asked(self, resource: str, record_type: RecordType) -> list[tuple[int, int]]:
        """The windows that were asked for, in order, as far as requests were recorded."""
        wanted = (resource, record_type)
        return [(each.begin_ms, each.end_ms) for each in tuple(self.requests) if (each.resource, each.record_type) == wanted]

    def __enter__(self) -> "Simulation":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(listener, ready))
        except Exception as error:
            log.exception("the simulation ended by an unexpected error")
            self.failure = error
        finally:
            ready.set()

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(self._failed)
        server = await self._loop.create_server(lambda: Connection(self), sock=listener)
        ready.set()
        await self._end.wait()
        server.close()
        self._reset_connections()
        while self.open_connections:
            await asyncio.sleep(0)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.error("the simulation met an unexpected error: %s", context.get("message"), exc_info=context.get("exception"))
        self.failure = context.get("exception") or RuntimeError(str(context.get("message")))

    def opened(self, connection: Connection) -> None:
        """Count a new connection."""
        self.connections += 1
        self.open_connections.add(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self.open_connections.discard(connection)

    def arrived(self, head: bytes) -> float:
        """Count a request, and have its answer wait as long as the behaviour says."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        at = time.monotonic()
        self.per_second[int(at)] += 1
        if self.record:
            self.requests.append(self._recorded(at, head))
        return self.behaviour.latency_s

    def departed(self) -> None:
        """A request is done with."""
        self.at_once -= 1

    def date(self) -> str:
        """The simulation's clock, as a header."""
        if not self.behaviour.send_date:
            return ""
        second = self.clock() // 1000
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    def answer(self, head: bytes) -> Answer | bytes:
        """What this request gets."""
        path, query = target_of(head)
        series = self._routes.get(path)
        if b"://" in head[:16]:
            self.counts["proxied"] += 1
        if series is None:
            if path != f"{BASE_PATH}/interfaces".encode():
                self.counts["unknown"] += 1
                return NOT_FOUND
            self.counts["listing"] += 1
            return self._listing()
        self.counts["points"] += 1
        window = window_of(query)
        if window is None:
            return _BAD_REQUEST
        return self._answer_points(*series, *window)

    def _listing(self) -> Answer:
        now_ms, edit = self.clock(), self.behaviour.edit_listing
        body = self.network.encoded_listing(now_ms) if edit is None else encode(edit(self.network.listing(now_ms))).encode()
        good = Answer(body=body)
        fault = strike(self.behaviour.listing, "", "", 0)
        return good if fault is None else fault.apply(good, [], now_ms, now_ms)

    def _answer_points(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> Answer | bytes:
        points = self._points(resource, record_type, begin_ms, end_ms)
        fault = strike(self.behaviour.points, resource, record_type, end_ms - begin_ms) if self.behaviour.points else None
        if fault is None and points:
            return self._ready(bodies(points))
        good = Answer(body=bodies(points)) if points else no_points(self.network.nothing(resource, record_type))
        return good if fault is None else fault.apply(good, points, begin_ms, end_ms)

    def _points(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> list[Point]:
        behaviour = self.behaviour
        if behaviour.silence:
            return []
        begin_ms += not behaviour.begin_inclusive
        end_ms += behaviour.end_inclusive
        newest_ms = self.clock() - int(behaviour.settle_s * 1000)
        points = self.network.expected_points(resource, record_type, begin_ms, min(end_ms, newest_ms + 1))
        return points[::-1] if behaviour.descending else points

    def _ready(self, body: bytes) -> bytes:
        date = self.date()
        line = f"Date: {date}\r\n".encode() if date else b""
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s" % (line, len(body), body)

    def _recorded(self, at: float, head: bytes) -> Request:
        path, query = target_of(head)
        request = Request(at, head.decode("latin-1"), path.decode("latin-1"))
        series, window = self._routes.get(path), window_of(query)
        return Request(*request[:3], *series, *window) if series and window else request


def _fault(text: str) -> Fault:
    """A fault as the command line names it: its kind, and after a colon the share of the requests."""
    kind, _, share = text.partition(":")
    return Fault(kind=Kind(kind), share=float(share or 1))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m collector.source.simulated", description="Serve a simulated Netbeam.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--interfaces", type=int, help="at most so many; without --csv, 100 by default")
    parser.add_argument("--csv", help="a file with the columns resource and speed_mbps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--settle-s", type=float, default=0.0, help="points younger than this are not there yet")
    parser.add_argument("--rotate-s", type=float, help="interfaces come and go, each away for this long")
    parser.add_argument("--change-s", type=float, help="some descriptions change after each such time")
    parser.add_argument("--fault", type=_fault, action="append", default=[], metavar="KIND[:SHARE]", help=", ".join(Kind))
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; prints the base URL when it is ready, and what was asked for at the end."""
    wanted = _arguments(words)
    if wanted.csv:
        network = SimulatedNetwork.from_csv(wanted.csv, limit=wanted.interfaces, seed=wanted.seed)
    else:
        network = SimulatedNetwork.synthetic(wanted.interfaces or 100, seed=wanted.seed)
    network.rotation_ms = int(wanted.rotate_s * 1000) if wanted.rotate_s else None
    network.change_ms = int(wanted.change_s * 1000) if wanted.change_s else None
    simulation = Simulation(network, host=wanted.host, port=wanted.port)
    simulation.behaviour.latency_s = wanted.latency_ms / 1000
    simulation.behaviour.settle_s = wanted.settle_s
    simulation.behaviour.points = tuple(wanted.fault)
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    network.encoded_listing(wall_ms())  # encoded for the first time, so that no request waits for it
    simulation.start()
    print(simulation.url, flush=True)
    end.wait()
    simulation.stop()
    figures = {"requests": simulation.counts, "connections": simulation.connections, "most_at_once": simulation.most_at_once}
    print(json.dumps({**figures, "cpu_s": round(time.process_time(), 3)}), flush=True)
    return 0
