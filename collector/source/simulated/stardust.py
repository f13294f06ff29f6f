"""The simulated network as Stardust's documents, and the answers of `_search` to what the collector asks.

Queries are understood as far as the collector's own go; a real engine proves those in the tests.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
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


class Clause(NamedTuple):
    """One condition of the collector's query for points."""

    begin_ms: int
    end_ms: int
    ids: set[str]
    fields: set[str]

    def wants(self, document: JsonObject) -> bool:
        """Whether the document has one of the fields, and is of no service that is left out."""
        meta, values = document.get("meta"), document.get("values")
        service = meta.get("service_type") if isinstance(meta, dict) else None
        if service not in (None, "ies", "l3vpn") or not isinstance(values, dict):
            return False
        return any(f"values.{side}.{figure}" in self.fields for side, figures in values.items() for figure in figures or ())


class SimulatedIndex:
    """The documents that there are at a time, and what a search finds among them."""

    def __init__(self, network: SimulatedNetwork) -> None:
        self.network = network
        self.resources = {id_of(resource): resource for resource in network.resources}

    def search(self, body: Mapping[str, Any], now_ms: int) -> bytes:
        """The answer to a query at this time. Raises BadQueryError."""
        if "aggs" in body:
            return self._listing(body["aggs"]["interfaces"]["composite"], now_ms)
        if body.get("size") == 1:
            return answer_of([hit_of({"start": now_ms // GRID_MS * GRID_MS})])
        found: dict[tuple[int, object], bytes] = {}
        for clause in _clauses(body):
            found |= self.hits(clause, now_ms)
        hits = sorted((start, hit) for (start, _), hit in found.items())
        return answer_of([hit for _, hit in hits[: body["size"]]], len(hits))

    def hits(self, clause: Clause, now_ms: int) -> dict[tuple[int, object], bytes]:
        """What there is of a condition by now, by start and a key that no other document of that start has."""
        until_ms = min(clause.end_ms, now_ms + 1)
        return {
            (start, identity): hit_of(document)
            for identity in clause.ids & self.resources.keys()
            for start, document in self.documents(identity, clause.begin_ms, until_ms)
            if clause.wants(document)
        }

    def documents(self, identity: str, begin_ms: int, end_ms: int) -> Iterator[tuple[int, JsonObject]]:
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
        page = [each for each in present if each > after][: composite["size"]]
        metas = {identity: meta_of(self.network.interface(self.resources[identity])) for identity in page}
        buckets = [
            {"key": {"id": identity}, "doc_count": 120, "newest": {"hits": {"hits": [{"_source": {"meta": meta}}]}}}
            for identity, meta in metas.items()
        ]
        found = {"buckets": buckets, **({"after_key": {"id": page[-1]}} if page else {})}
        return answer_of([], 120 * len(present), f',"aggregations":{encode({"interfaces": found})}')


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


def hit_of(document: JsonObject) -> bytes:
    """A document among those that were found."""
    return b'{"_source":%s}' % encode(document).encode()


def answer_of(hits: list[bytes], total: int = 1, more: str = "") -> bytes:
    """A whole answer with these of `total` documents."""
    count = f'{{"total":{{"value":{total},"relation":"eq"}},"hits":['
    head = f'{{"took":1,"timed_out":false,"_shards":{encode(SHARDS)},"hits":{count}'
    return b"%s%s]}%s}" % (head.encode(), b",".join(hits), more.encode())


def _clauses(body: Mapping[str, Any]) -> Iterator[Clause]:
    """The conditions of the collector's query for points."""
    try:
        clauses = body["query"]["bool"]["filter"][0]["bool"]["should"]
        if not clauses:
            raise ValueError("without a condition a real engine finds every document")
        for clause in clauses:
            terms, start, known = clause["bool"]["filter"]
            span = start["range"]["start"]
            fields = {each["exists"]["field"] for each in known["bool"]["should"]}
            yield Clause(span["gte"], span["lt"], set(terms["terms"]["meta.id"]), fields)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadQueryError(str(error)) from error
