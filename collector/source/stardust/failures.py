"""Which answers count as none: an engine that lost a part of its index answers 200 with what is left, and that looks whole."""

from typing import Any, NamedTuple

from collector.core.text import printable
from collector.source.http.body import json_kind

TOO_MUCH = ("circuit_breaking", "rejected_execution", "too_many_clauses", "too_many_buckets", "max_clause", "too_large")
"""Words in a refused answer by which a smaller query may be answered."""
TOO_MUCH_STATUSES = frozenset({413, 429})

SHOWN_CHARACTERS = 200
"""Of an engine's reason, in a line."""


class Fault(NamedTuple):
    """Why an answer is none."""

    text: str
    smaller: bool = False
    """A smaller query may be answered."""
    shorter: bool = False
    """Shorter windows may be answered."""


def fault_in(answer: Any) -> Fault | None:
    """What is wrong with an answer of `_search`, parsed; None when it is whole."""
    if not isinstance(answer, dict):
        return Fault(f"answer is {json_kind(answer)}, not an object")
    if answer.get("timed_out"):
        return Fault("partial answer: the search timed out", smaller=True)
    if answer.get("terminated_early"):
        return Fault("partial answer: the search was terminated early")
    return _fault_in_shards(answer.get("_shards")) or _fault_in_hits(answer.get("hits"))


def _fault_in_shards(shards: Any) -> Fault | None:
    if not isinstance(shards, dict):
        return Fault("answer without _shards")
    total, successful, failed = (shards.get(each) for each in ("total", "successful", "failed"))
    if not (_is_count(total) and _is_count(successful) and _is_count(failed)):
        return Fault("answer with _shards that are no numbers")
    if failed or not total or successful < total:
        smaller = any(word in str(shards.get("failures")) for word in TOO_MUCH)
        return Fault(f"partial answer: of {total} shards {successful} answered and {failed} failed", smaller)
    return None


def _fault_in_hits(hits: Any) -> Fault | None:
    if not isinstance(hits, dict):
        return Fault("answer without hits")
    total = hits.get("total")
    if not isinstance(total, dict) or not _is_count(total.get("value")):
        return Fault("answer without the number of hits")
    if total.get("relation") != "eq":
        return Fault("the number of hits is not exact")
    return None


def total_of(answer: Any) -> int:
    """How many documents an answer without a fault counted."""
    return int(answer["hits"]["total"]["value"])


def hits_of(answer: Any) -> list[Any] | Fault:
    """The documents of an answer without a fault."""
    # with `filter_path` an engine leaves out a list that is empty
    hits = answer["hits"].get("hits", [])
    if not isinstance(hits, list):
        return Fault("answer without hits")
    if len(hits) != total_of(answer):
        return Fault(f"partial answer: {len(hits)} documents of {total_of(answer)}")
    return hits


def refusal(message: str, status: int, text: str) -> Fault:
    """What an answer with another status means; `text` is its body, in which an engine says why."""
    smaller = status in TOO_MUCH_STATUSES or any(word in text for word in TOO_MUCH)
    kind, reason = (_first(text, key) for key in ("type", "reason"))
    # an engine that names the type of its error is where the URL says, so `message` need not ask; "closed" says little without it
    parts = (f"status {status}" if kind else message, kind, reason)
    return Fault(": ".join(each for each in parts if each), smaller)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _first(text: str, key: str) -> str:
    """The first text of that name in a body that need not be whole."""
    _, _, rest = text.partition(f'"{key}":"')
    return printable(rest.partition('"')[0], SHOWN_CHARACTERS)
