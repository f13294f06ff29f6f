"""The simulated Stardust: `_search` over HTTP on loopback, for the demonstration, the tests and the benchmark.

As a program of its own: `python -m collector.source.simulated --stardust --interfaces 10679`.
"""

import argparse
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple

from collector.source.simulated.clock import wall_ms
from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.stardust import INDEX, BadQueryError, SimulatedIndex

MISSING = b'{"error":{"type":"index_not_found_exception","reason":"no such index"},"status":404}'


class Reply(NamedTuple):
    """What is sent back; `body` None: the connection is closed without an answer."""

    status: int
    body: bytes | None
    headers: tuple[tuple[str, str], ...] = ()


class SimulatedStardust:
    """A server with a thread for each connection, from `start` to `stop`; it may be started again, on the same port."""

    def __init__(
        self, network: SimulatedNetwork, *, clock: Callable[[], int] = wall_ms, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.index = SimulatedIndex(network)
        self.clock = clock
        self.host, self.port = host, port
        self.latency_s = 0.0
        self.settle_s = 0.0
        """Documents younger than this are not there yet."""
        self.distort: Callable[[dict[str, Any], bytes], Reply | bytes | None] | None = None
        """Is shown each query and its answer, and gives another one; None: the answer stays."""
        self.send_date = False
        """Whether answers tell the simulation's clock; Stardust's mostly do not."""
        self.record = False
        self.queries: list[dict[str, Any]] = []
        """All that was asked, with `record`."""
        self.counts: Counter[str] = Counter()
        """Requests: `listing`, `points`, `other`."""
        self.logins: set[str] = set()
        """`Authorization` headers that came."""
        self.open_connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """For STARDUST_URL."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> "SimulatedStardust":
        """Serve from now on. Raises OSError when the port is taken."""
        self._server = _Server((self.host, self.port), self._handler())
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="stardust", daemon=True).start()
        return self

    def stop(self) -> None:
        """End all connections, and refuse new ones."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
        for each in tuple(self.open_connections):
            each.close() if each.fileno() < 0 else each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "SimulatedStardust":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def reply(self, path: str, content: bytes) -> Reply:
        """The answer to a request."""
        if path.partition("?")[0] != f"/{INDEX}/_search":
            self.counts["other"] += 1
            return Reply(404, MISSING)
        body = json.loads(content)
        self.counts["listing" if "aggs" in body else "points" if body.get("size") != 1 else "other"] += 1
        if self.record:
            self.queries.append(body)
        try:
            answer = self.index.search(body, self.clock() - int(self.settle_s * 1000))
        except BadQueryError as error:
            return Reply(400, json.dumps({"error": {"type": "parsing_exception", "reason": str(error)}, "status": 400}).encode())
        distorted = self.distort(body, answer) if self.distort else None
        if isinstance(distorted, Reply):
            return distorted
        date = (("Date", formatdate(self.clock() // 1000, usegmt=True)),) if self.send_date else ()
        return Reply(200, answer if distorted is None else distorted, date)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stardust = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                stardust.open_connections.add(self.connection)

            def finish(self) -> None:
                stardust.open_connections.discard(self.connection)
                super().finish()

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                if login := self.headers.get("Authorization"):
                    stardust.logins.add(login)
                due = time.monotonic() + stardust.latency_s
                reply = stardust.reply(self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
                time.sleep(max(0.0, due - time.monotonic()))
                if reply.body is None:
                    self.close_connection = True
                    return
                head = [f"HTTP/1.1 {reply.status} Status", "Content-Type: application/json", f"Content-Length: {len(reply.body)}"]
                head += [f"{name}: {value}" for name, value in reply.headers]
                self.wfile.write("\r\n".join(head).encode() + b"\r\n\r\n" + reply.body)

            do_DELETE = do_POST

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no event."""


def main(words: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; prints the base URL when it is ready."""
    parser = argparse.ArgumentParser(prog="python -m collector.source.simulated --stardust", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--interfaces", type=int, default=100)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--settle-s", type=float, default=0.0, help="documents younger than this are not there yet")
    wanted = parser.parse_args(words)
    stardust = SimulatedStardust(SimulatedNetwork.synthetic(wanted.interfaces), host=wanted.host, port=wanted.port)
    stardust.latency_s, stardust.settle_s = wanted.latency_ms / 1000, wanted.settle_s
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    with stardust:
        print(stardust.url, flush=True)
        end.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
