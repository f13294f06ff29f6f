"""The simulated network as Stardust's documents, and the answers of `_search` to what the collector asks.

Queries are understood as far as the collector's own go; a real engine proves those in the tests.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from collector.core.model import GRID_MS, JsonObject, RecordType
from collector.source.simulated.network import SimulatedNetwork, Value, encode

INDEX = "sd_public_interfaces"
SHARDS = {"total": 5, "successful": 5, "skipped": 0, "failed": 0}
STEP_S = GRID_MS // 1000
PORT_MODES = {"access": 1, "network": 2, "hybrid": 3}
RECORD_TYPES = {"bits": RecordType.TRAFFIC, "errors": RecordType.ERRORS, "discards": RecordType.DISCARDS}


class BadQueryError(Exception):
    """Nothing that the collector asks."""


class SimulatedIndex:
    """The documents that there are at a time, and what a search finds among them.

    The public attributes may be replaced at any time and from any thread.
    """

    def __init__(self, network: SimulatedNetwork) -> None:
        self.network = network
        self.resources = {id_of(resource): resource for resource in network.resources}
        self.withheld: Callable[[str, int], bool] | None = None
        """Says of an id and a start whether that document is late: not there yet."""
        self.more: tuple[JsonObject, ...] = ()
        """Documents besides the network's own: twins, and ones that are not of the usual form."""
        self.silent = False
        """No document has been written for hours."""
        self.kept: dict[tuple[str, int], bytes] = {}
        """Documents that were made beforehand, by id and start; once there are any, there are no others."""

    def keep(self, begin_ms: int, end_ms: int) -> None:
        """Make the documents of this time beforehand, so that answers cost little."""
        for identity in self.resources:
            documents = self._documents(identity, begin_ms, end_ms)
            self.kept |= {(identity, start): _hit(encode(document).encode()) for start, document in documents}

    def whole_documents(self, begin_ms: int, end_ms: int) -> Iterator[bytes]:
        """Every document of this time as it is in the index, those without a value too; as JSON."""
        for identity, resource in self.resources.items():
            values = {start: document["values"] for start, document in self._documents(identity, begin_ms, end_ms)}
            meta = encode(meta_of(self.network.interface(resource, end_ms)))
            for start in range(-(-begin_ms // GRID_MS) * GRID_MS, end_ms, GRID_MS):
                figures = encode(values.get(start, {}))
                yield f'{{"start":{start},"@timestamp":{start + GRID_MS},"meta":{meta},"values":{figures}}}'.encode()

    def search(self, body: Mapping[str, Any], now_ms: int) -> bytes:
        """The answer to a query at this time. Raises BadQueryError."""
        if "aggs" in body:
            return self._listing(body["aggs"]["interfaces"]["composite"], now_ms)
        if body.get("size") == 1:
            start = now_ms // GRID_MS * GRID_MS
            return _answer(1, [_hit(encode({"start": start}).encode())])
        return self._points(body, now_ms)

    def _points(self, body: Mapping[str, Any], now_ms: int) -> bytes:
        found: dict[tuple[int, str], bytes] = {}
        others: list[tuple[int, bytes]] = []
        for begin_ms, end_ms, ids, fields in _clauses(body):
            if not self.silent:
                until_ms = min(end_ms, now_ms + 1)
                for identity in ids & self.resources.keys():
                    found |= {(start, identity): hit for start, hit in self._hits(identity, begin_ms, until_ms, fields)}
            for document in self.more:
                start = document["start"] if isinstance(document.get("start"), int) else begin_ms
                if begin_ms <= start < end_ms and _ids(document) & ids and _is_wanted(document, fields):
                    others.append((start, _hit(encode(document).encode())))
        hits = sorted([*((start, hit) for (start, _), hit in found.items()), *others])
        return _answer(len(hits), [hit for _, hit in hits[: body["size"]]])

    def _hits(self, identity: str, begin_ms: int, end_ms: int, fields: set[str]) -> Iterator[tuple[int, bytes]]:
        if self.kept:
            starts = range(-(-begin_ms // GRID_MS) * GRID_MS, end_ms, GRID_MS)
            yield from ((start, self.kept[identity, start]) for start in starts if (identity, start) in self.kept)
            return
        for start, document in self._documents(identity, begin_ms, end_ms):
            if _is_wanted(document, fields) and not (self.withheld and self.withheld(identity, start)):
                yield start, _hit(encode(document).encode())

    def _documents(self, identity: str, begin_ms: int, end_ms: int) -> Iterator[tuple[int, JsonObject]]:
        """The documents with any value, as far as the points need them."""
        values: dict[int, JsonObject] = {}
        for unit, record_type in RECORD_TYPES.items():
            for start, inward, outward in self.network.expected_points(self.resources[identity], record_type, begin_ms, end_ms):
                sides = values.setdefault(start, {})
                if inward is not None:
                    sides[f"in_{unit}"] = _figures(inward, unit)
                if outward is not None:
                    sides[f"out_{unit}"] = _figures(outward, unit)
        for start in sorted(values):
            yield start, {"start": start, "meta": {"id": identity}, "values": values[start]}

    def _listing(self, composite: Mapping[str, Any], now_ms: int) -> bytes:
        after = composite.get("after", {}).get("id", "")
        present = sorted(each for each, resource in self.resources.items() if self.network.present(resource, now_ms))
        page = [] if self.silent else [each for each in present if each > after][: composite["size"]]
        metas = {identity: meta_of(self.network.interface(self.resources[identity], now_ms)) for identity in page}
        buckets = [
            {"key": {"id": identity}, "doc_count": 120, "newest": {"hits": {"hits": [{"_source": {"meta": meta}}]}}}
            for identity, meta in metas.items()
        ]
        found = {"buckets": buckets, **({"after_key": {"id": page[-1]}} if page else {})}
        return _answer(0 if self.silent else 120 * len(present), [], f',"aggregations":{encode({"interfaces": found})}')


def id_of(resource: str) -> str:
    """`device::name` of a resource."""
    device, _, name = resource.removeprefix("devices/").rpartition("/interfaces/")
    return f"{device}::{unquote(name)}"


def meta_of(interface: JsonObject) -> JsonObject:
    """What a document says of its interface."""
    return {
        "id": f"{interface['device']}::{interface['name']}",
        "device": interface["device"],
        "name": interface["name"],
        "ifindex": int(interface["ifIndex"]),
        "descr": interface["description"],
        "alias": interface["description"],
        "speed": interface["speed"] or 0,
        "vrtr_ifencapvalue": interface["vlan"],
        "port_name": interface["port"],
        "port_mode": PORT_MODES.get(interface["nokiaType"]),
        "descr_parts": ["SHOW" if interface["visibility"] == "public" else "hide", *(["intracloud"] * interface["intracloud"])],
        "oscars_id": "circuit-1" if interface["oscars"] else None,
        "intercloud": interface["intercloud"],
        "remote": {"device": interface["remoteDevice"], "port": interface["remotePort"]},
        "ipv4": [interface["ipv4"]] if interface["ipv4"] else [],
    }


def _figures(value: Value, unit: str) -> JsonObject:
    assert value is not None  # noqa: S101  # a slip in the code
    return {"delta": value * STEP_S, "rate": value} if unit == "bits" else {"delta": value, "rate": value / STEP_S}


def _hit(source: bytes) -> bytes:
    return b'{"_source":%s}' % source


def _answer(total: int, hits: list[bytes], more: str = "") -> bytes:
    count = f'{{"total":{{"value":{total},"relation":"eq"}},"hits":['
    head = f'{{"took":1,"timed_out":false,"_shards":{encode(SHARDS)},"hits":{count}'
    return b"%s%s]}%s}" % (head.encode(), b",".join(hits), more.encode())


def _clauses(body: Mapping[str, Any]) -> Iterator[tuple[int, int, set[str], set[str]]]:
    """Begin, end, ids and fields of each condition of the collector's query for points."""
    try:
        clauses = body["query"]["bool"]["filter"][0]["bool"]["should"]
        if not clauses:
            raise ValueError("without a condition a real engine finds every document")
        for clause in clauses:
            terms, start, known = clause["bool"]["filter"]
            span = start["range"]["start"]
            fields = {each["exists"]["field"] for each in known["bool"]["should"]}
            yield span["gte"], span["lt"], set(terms["terms"]["meta.id"]), fields
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadQueryError(str(error)) from error


def _ids(document: JsonObject) -> set[str]:
    meta = document.get("meta")
    identity = meta.get("id") if isinstance(meta, dict) else document.get("meta.id", document.get("id"))
    return {each for each in (identity if isinstance(identity, list) else [identity]) if isinstance(each, str)}


def _is_wanted(document: JsonObject, fields: set[str]) -> bool:
    """Whether it has one of these, and is of no service that is left out."""
    meta = document.get("meta")
    service = meta.get("service_type") if isinstance(meta, dict) else None
    values = document.get("values")
    if service not in (None, "ies", "l3vpn") or not isinstance(values, dict):
        return False
    return any(f"values.{side}.{figure}" in fields for side, figures in values.items() for figure in figures or ())
