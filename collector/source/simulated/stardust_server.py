"""The simulated Stardust's side of a connection: `_search` for the demonstration, the tests and the benchmark."""

import json
from typing import Any, NamedTuple

from collector.source.simulated.network import SimulatedNetwork, encode
from collector.source.simulated.server import SimulatedServer, encoded_answer, target_of
from collector.source.simulated.stardust import INDEX, BadQueryError, SimulatedIndex

MISSING = b'{"error":{"type":"index_not_found_exception","reason":"no such index"},"status":404}'


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

    def answer(self, head: bytes, body: bytes) -> bytes | None:
        """See SimulatedServer."""
        path, query = target_of(head)
        status, content, headers = self.reply(path.decode(), query.decode(), body)
        return None if content is None else encoded_answer(self.date(), content, status, headers)

    def reply(self, path: str, query: str, content: bytes) -> Reply:
        """The answer to a request."""
        if path != f"/{INDEX}/_search":
            self.counts["other"] += 1
            return Reply(404, MISSING)
        body = json.loads(content)
        self.counts["listing" if "aggs" in body else "points" if body.get("size") != 1 else "other"] += 1
        try:
            return self.found(body)
        except BadQueryError as error:
            reason = {"type": "parsing_exception", "reason": str(error)}
            return Reply(400, encode({"error": reason, "status": 400}).encode())

    def found(self, body: dict[str, Any]) -> Reply:
        """The answer to a search. Raises BadQueryError."""
        return Reply(200, self.index.search(body, self.clock() - int(self.settle_s * 1000)))
