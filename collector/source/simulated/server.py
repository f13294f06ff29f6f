"""The simulated Netbeam: a server on loopback for newcomers, the demonstration, and the tests.

It serves the points of a simulated network up to its own clock and no further. As a program of its own:
`python -m collector.source.simulated --interfaces 10679`.
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
from typing import Any, Self
from urllib.parse import quote

from collector.core.model import RecordType
from collector.source.simulated.answer import Connection, encoded_answer, encoded_points, target_of, window_of
from collector.source.simulated.clock import wall_ms
from collector.source.simulated.network import Nothing, Point, SimulatedNetwork

log = logging.getLogger(__name__)

BASE_PATH = "/api/network/esnet/prod"
LEGAL_IN_A_PATH = "%/:@!$&'()*+,;="
"""Characters of a resource that a URL holds as they are (RFC 3986, pchar); others are asked for percent-encoded."""
START_S = 10.0


class Simulation:
    """A server in a thread of its own, from `start` to `stop`; it may be started again, on the same port.

    `counts` has the number of requests: `listing`, `points`, `unknown` (answered 404), and `proxied` for those of the others
    that named the whole URL, as one does to a proxy.
    """

    connection = Connection

    def __init__(
        self, network: SimulatedNetwork, *, clock: Callable[[], int] = wall_ms, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.network = network
        self.clock = clock
        self.host, self.port = host, port
        self.latency_s = 0.0
        """Before each answer."""
        self.settle_s = 0.0
        """Points younger than this are not there yet."""
        self.counts: Counter[str] = Counter()
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

    def start(self) -> Self:
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

    def _reset_connections(self) -> None:
        for connection in tuple(self.open_connections):
            connection.abort()

    def __enter__(self) -> Self:
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
        server = await self._loop.create_server(lambda: self.connection(self), sock=listener)
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
        """Count a request, and have its answer wait."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        return self.latency_s

    def departed(self) -> None:
        """A request is done with."""
        self.at_once -= 1

    def date(self) -> str:
        """The simulation's clock, as a header."""
        second = self.clock() // 1000
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    def answer(self, head: bytes) -> Any:
        """What this request gets: bytes, as long as the connections are no others."""
        path, query = target_of(head)
        series = self._routes.get(path)
        if b"://" in head[:16]:
            self.counts["proxied"] += 1
        if series is None:
            if path != f"{BASE_PATH}/interfaces".encode():
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


def no_points(nothing: Nothing) -> tuple[int, bytes]:
    """Status and body that say in this way that there are no points."""
    if nothing is Nothing.NOT_FOUND:
        return 404, b'{"error":"not found"}'
    return (204, b"") if nothing is Nothing.NO_CONTENT else (200, nothing.encode())


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m collector.source.simulated", description="Serve a simulated Netbeam.")
    parser.add_argument("--stardust", action="store_true", help="serve a Stardust instead, which has its own --help")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--interfaces", type=int, help="at most so many; without --csv, 100 by default")
    parser.add_argument("--csv", help="a file with the columns resource and speed_mbps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--settle-s", type=float, default=0.0, help="points younger than this are not there yet")
    parser.add_argument("--rotate-s", type=float, help="interfaces come and go, each away for this long")
    parser.add_argument("--change-s", type=float, help="some descriptions change after each such time")
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
    simulation.latency_s = wanted.latency_ms / 1000
    simulation.settle_s = wanted.settle_s
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
