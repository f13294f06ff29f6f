"""A simulated Stardust that does wrong what it is told to, and remembers what it was asked."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from collector.core.model import GRID_MS, JsonObject
from collector.source.simulated.network import SimulatedNetwork, encode
from collector.source.simulated.stardust import Clause, SimulatedIndex, hit_of, meta_of
from collector.source.simulated.stardust_server import Reply, SimulatedStardust

_LOGIN = re.compile(rb"\nauthorization: *([^\r\n]+)", re.IGNORECASE)


class FaultyIndex(SimulatedIndex):
    """The public attributes may be replaced at any time and from any thread."""

    def __init__(self, network: SimulatedNetwork) -> None:
        super().__init__(network)
        self.withheld: Callable[[str, int], bool] | None = None
        """Says of an id and a start whether that document is late: not there yet."""
        self.more: tuple[JsonObject, ...] = ()
        """Documents besides the network's own: twins, and ones that are not of the usual form."""

    def documents(self, identity: str, begin_ms: int, end_ms: int) -> Iterator[tuple[int, JsonObject]]:
        """See SimulatedIndex."""
        for start, document in super().documents(identity, begin_ms, end_ms):
            if not (self.withheld and self.withheld(identity, start)):
                yield start, document

    def hits(self, clause: Clause, now_ms: int) -> dict[tuple[int, object], bytes]:
        """See SimulatedIndex."""
        found = super().hits(clause, now_ms)
        for number, document in enumerate(self.more):
            start = document["start"] if isinstance(document.get("start"), int) else clause.begin_ms
            if clause.begin_ms <= start < clause.end_ms and _ids(document) & clause.ids and clause.wants(document):
                found[start, number] = hit_of(document)
        return found


class FaultyStardust(SimulatedStardust):
    """`distort` is shown each query and its answer, and gives another one; None: the answer stays."""

    def __init__(self, network: SimulatedNetwork, **options: Any) -> None:
        super().__init__(network, **options)
        self.index: FaultyIndex = FaultyIndex(network)
        self.distort: Callable[[dict[str, Any], bytes], Reply | bytes | None] | None = None
        self.queries: list[dict[str, Any]] = []
        """All that was asked."""
        self.logins: set[str] = set()
        """`Authorization` headers that came."""

    def arrived(self, head: bytes) -> None:
        """See SimulatedServer."""
        super().arrived(head)
        if login := _LOGIN.search(head):
            self.logins.add(login[1].decode())

    def found(self, body: dict[str, Any]) -> Reply:
        """See SimulatedStardust."""
        self.queries.append(body)
        good = super().found(body)
        distorted = self.distort(body, good.body or b"") if self.distort else None
        if distorted is None:
            return good
        return distorted if isinstance(distorted, Reply) else Reply(200, distorted)


def whole_documents(index: SimulatedIndex, begin_ms: int, end_ms: int) -> Iterator[bytes]:
    """Every document of this time as it is in an engine, those without a value too; as JSON."""
    for identity, resource in index.resources.items():
        values = {start: document["values"] for start, document in index.documents(identity, begin_ms, end_ms)}
        meta = encode(meta_of(index.network.interface(resource)))
        for start in range(-(-begin_ms // GRID_MS) * GRID_MS, end_ms, GRID_MS):
            figures = encode(values.get(start, {}))
            yield f'{{"start":{start},"@timestamp":{start + GRID_MS},"meta":{meta},"values":{figures}}}'.encode()


def _ids(document: JsonObject) -> set[str]:
    meta = document.get("meta")
    identity = meta.get("id") if isinstance(meta, dict) else document.get("meta.id", document.get("id"))
    return {each for each in (identity if isinstance(identity, list) else [identity]) if isinstance(each, str)}
