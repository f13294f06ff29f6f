"""The simulated Stardust's side of a connection: `_search` for the demonstration, the tests and the benchmark."""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from collector.source.simulated.network import SimulatedNetwork, encode
from collector.source.simulated.server import SimulatedServer, encoded_answer
from collector.source.simulated.stardust import INDEX, BadQueryError, SimulatedIndex

MISSING = b'{"error":{"type":"index_not_found_exception","reason":"no such index"},"status":404}'
_LOGIN = re.compile(rb"\nauthorization: *([^\r\n]+)", re.IGNORECASE)


class Reply(NamedTuple):
    """What is sent back; `body` None: the connection is closed without an answer."""

    status: int
    body: bytes | None
    headers: tuple[tuple[str, str], ...] = ()


class SimulatedStardust(SimulatedServer):
    """Counts `listing`, `points`, `other`."""

    def __init__(self, network: SimulatedNetwork, **options: Any) -> None:
        super().__init__(network, **options)
        self.index = SimulatedIndex(network)
        self.send_date = False  # Stardust's answers mostly have none
        self.distort: Callable[[dict[str, Any], bytes], Reply | bytes | None] | None = None
        """Is shown each query and its answer, and gives another one; None: the answer stays."""
        self.record = False
        self.queries: list[dict[str, Any]] = []
        """All that was asked, with `record`."""
        self.logins: set[str] = set()
        """`Authorization` headers that came."""

    def answer(self, head: bytes, body: bytes) -> bytes | None:
        """See SimulatedServer."""
        if login := _LOGIN.search(head):
            self.logins.add(login[1].decode())
        status, content, headers = self.reply(head.split(b" ", 2)[1].decode(), body)
        return None if content is None else encoded_answer(self.date(), content, status, headers)

    def reply(self, target: str, content: bytes) -> Reply:
        """The answer to a request."""
        if target.partition("?")[0] != f"/{INDEX}/_search":
            self.counts["other"] += 1
            return Reply(404, MISSING)
        body = json.loads(content)
        self.counts["listing" if "aggs" in body else "points" if body.get("size") != 1 else "other"] += 1
        if self.record:
            self.queries.append(body)
        try:
            answer = self.index.search(body, self.clock() - int(self.settle_s * 1000))
        except BadQueryError as error:
            reason = {"type": "parsing_exception", "reason": str(error)}
            return Reply(400, encode({"error": reason, "status": 400}).encode())
        distorted = self.distort(body, answer) if self.distort else None
        if isinstance(distorted, Reply):
            return distorted
        return Reply(200, answer if distorted is None else distorted)
