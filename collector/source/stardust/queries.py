"""What is asked of Stardust: bodies of `_search`, in what Elasticsearch 7.10 to 9 and OpenSearch 2 have in common.

No scroll, no point in time, no scripts. A filter counts what it lets through; nothing here depends on a score.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from collector.core.model import RecordType

PARAMETERS = (
    "?allow_partial_search_results=false&ignore_unavailable=false&allow_no_indices=false"
    "&filter_path=error,status,timed_out,terminated_early,_shards,hits.total,hits.hits._source,aggregations"
)
"""Half an answer is an error, and so is an index that is not there; what nobody reads of an answer is not sent."""
MOST_HITS = 10_000
"""An index gives no more at once (`index.max_result_window`)."""
PAGE = 1000
"""Interfaces in one page of the listing; each brings its newest document with it."""
LISTED_MS = 3_600_000
"""An interface without a document for so long is not listed any more."""
FIELDS = {
    RecordType.TRAFFIC: ("in_bits", "out_bits"),
    RecordType.ERRORS: ("in_errors", "out_errors"),
    RecordType.DISCARDS: ("in_discards", "out_discards"),
}
"""In and out of each record type, below `values`."""
META = (
    "id", "ifindex", "descr", "alias", "speed", "vrtr_ifencapvalue", "port_name", "port_mode", "descr_parts", "oscars_id",
    "intercloud", "remote.device", "remote.port", "ipv4",
)  # fmt: skip
"""What the listing reads below `meta`."""

_NO_SERVICES = {
    "bool": {
        "filter": [{"exists": {"field": "meta.service_type"}}],
        "must_not": [{"terms": {"meta.service_type": ["ies", "l3vpn"]}}],
    }
}
"""Documents of services other than these two, which are no interfaces; to be put behind `must_not`."""
_NEWEST_FIRST = [{each: {"order": "desc", "unmapped_type": "date"}} for each in ("start", "@timestamp")]


class Clause(NamedTuple):
    """Documents of these interfaces whose `start` lies in `[begin_ms, end_ms)` and that say anything of these record types."""

    begin_ms: int
    end_ms: int
    record_types: Collection[RecordType]
    ids: Sequence[str]


def points(clauses: Iterable[Clause]) -> bytes:
    """All documents that match any of these, by `start`, in one answer."""
    return _encoded(
        size=MOST_HITS,
        query={"bool": {"filter": [{"bool": {"should": [_clause(each) for each in clauses]}}], "must_not": [_NO_SERVICES]}},
        sort=[{"start": {"order": "asc", "unmapped_type": "date"}}],
        # `values` whole: documents that differ in any of them are no repeats
        _source=["start", "meta.id", "values"],
    )


def _clause(clause: Clause) -> dict[str, Any]:
    sides = [(side, "delta") for each in clause.record_types for side in FIELDS[each]]
    if RecordType.TRAFFIC in clause.record_types:
        sides += [(side, "rate") for side in FIELDS[RecordType.TRAFFIC]]
    known = [{"exists": {"field": f"values.{side}.{figure}"}} for side, figure in sides]
    start = {"gte": clause.begin_ms, "lt": clause.end_ms, "format": "epoch_millis"}
    return {"bool": {"filter": [{"terms": {"meta.id": clause.ids}}, {"range": {"start": start}}, {"bool": {"should": known}}]}}


def listing(now_ms: int, after: object = None) -> bytes:
    """One page of the interfaces with a document in the last hour, each with its newest one; `after`: the page before's key."""
    composite: dict[str, Any] = {"size": PAGE, "sources": [{"id": {"terms": {"field": "meta.id"}}}]}
    if after is not None:
        composite["after"] = after
    newest = {"top_hits": {"size": 1, "sort": _NEWEST_FIRST, "_source": [f"meta.{each}" for each in META]}}
    return _encoded(
        size=0,
        query={
            "bool": {
                "filter": [{"range": {"@timestamp": {"gte": now_ms - LISTED_MS, "format": "epoch_millis"}}}],
                "must_not": [_NO_SERVICES],
            }
        },
        aggs={"interfaces": {"composite": composite, "aggs": {"newest": newest}}},
    )


def newest(now_ms: int) -> bytes:
    """The newest document, by `start`, that is not of the future."""
    return _encoded(
        size=1,
        query={"bool": {"filter": [{"range": {"start": {"lte": now_ms, "format": "epoch_millis"}}}], "must_not": [_NO_SERVICES]}},
        sort=_NEWEST_FIRST,
        _source=["start"],
    )


def _encoded(**body: Any) -> bytes:
    return json.dumps({"track_total_hits": True, **body}, separators=(",", ":")).encode()
