"""The listing's pages, read side by side: an engine gives the next one only behind the last id of the one before."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from collector.core.errors import AnswerError
from collector.core.model import JsonObject
from collector.source.http.client import Answer
from collector.source.http.listing_rules import MOST_ENTRIES
from collector.source.stardust import queries
from collector.source.stardust.listing import interface_of
from collector.source.stardust.points import nested
from collector.source.stardust.search import FaultError, Search

Entry = JsonObject | str
"""An interface object, or a line that says why there is none."""
FIRST_BORDERS = ("e", "l", "o")
"""Part ESnet's interfaces in four, about."""
MOST_TEXT = 64 * 2**20
"""Characters that all entries together may have: what Netbeam's listing may have bytes. ESnet's have some three million."""


class Pages:
    """Reads all pages, each time in parts that were equal the time before; `patience_s`: a pause that is waited for."""

    def __init__(self, search: Search, concurrency: int, patience_s: float) -> None:
        self._search = search
        self._concurrency = concurrency
        self._patience_s = patience_s
        self._borders: tuple[str, ...] = FIRST_BORDERS
        self._text = 0

    def read(self, now_ms: int) -> tuple[list[Entry], int | None]:
        """All entries, and the server's clock if it told. Raises UnavailableError and AnswerError."""
        self._text = 0
        ranges = zip((None, *self._borders), (*self._borders, None), strict=True)
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="listing") as pool:
            parts = list(pool.map(lambda each: self._range(now_ms, *each), ranges))
        entries = [entry for found, _ in parts for entry in found]
        if len(entries) > MOST_ENTRIES:
            raise AnswerError(f"listing of over {MOST_ENTRIES} entries")
        self._borders = _borders(entries, self._concurrency)
        return entries, min((server_ms for _, server_ms in parts if server_ms is not None), default=None)

    def _range(self, now_ms: int, after_id: str | None, last_id: str | None) -> tuple[list[Entry], int | None]:
        """The entries behind one id, and up to another; and the server's clock if it told."""
        after = None if after_id is None else {"id": after_id}
        found: list[Entry] = []
        while True:
            answer, buckets, next_after = self._page(now_ms, after)
            inside = [each for each in buckets if last_id is None or _id(each) <= last_id]
            for bucket in inside:
                entry = _entry(bucket)
                found.append(entry)
                texts = [entry] if isinstance(entry, str) else [each for each in entry.values() if isinstance(each, str)]
                self._text += sum(map(len, texts))
            if len(found) > MOST_ENTRIES or self._text > MOST_TEXT:
                raise AnswerError(f"listing of over {MOST_ENTRIES} entries, or of over {MOST_TEXT >> 20} million characters")
            if next_after is None or len(buckets) < queries.PAGE or len(inside) < len(buckets):
                return found, answer.server_ms
            if next_after == after:
                raise AnswerError("listing whose pages have no end")
            after = next_after
            del answer, buckets, inside  # its memory is free again before the next page asks for some

    def _page(self, now_ms: int, after: Any) -> tuple[Answer, Sequence[Any], Any]:
        """A page's answer, its buckets, and the key behind which the next one begins."""
        try:
            answer = self._search.ask(queries.listing(now_ms, after), time.monotonic() + self._patience_s)
        except FaultError as error:
            raise error.as_failure() from error
        found = answer.value.get("aggregations")
        page = found.get("interfaces") if isinstance(found, dict) else None
        buckets = page.get("buckets") if isinstance(page, dict) else None
        if not isinstance(page, dict) or not isinstance(buckets, list):
            raise AnswerError("listing without its buckets")
        return answer, buckets, page.get("after_key")


def _id(bucket: Any) -> str:
    """The interface's id; nothing in place of what is none."""
    key = bucket.get("key") if isinstance(bucket, dict) else None
    identity = key.get("id") if isinstance(key, dict) else None
    return identity if isinstance(identity, str) else ""


def _entry(bucket: Any) -> Entry:
    """An interface object from a bucket of the aggregation, or a line that says why there is none."""
    try:
        identity = bucket["key"]["id"]
        source = bucket["newest"]["hits"]["hits"][0]["_source"]
    except (KeyError, IndexError, TypeError):
        return "entry without an id and its newest document"
    return interface_of(identity, nested(source).get("meta"))


def _borders(entries: list[Entry], most_parts: int) -> tuple[str, ...]:
    """Ids that part these in equal parts of a page or more."""
    ids = sorted(f"{each['device']}::{each['name']}" for each in entries if not isinstance(each, str))
    parts = max(1, min(most_parts, len(ids) // queries.PAGE))
    return tuple(ids[len(ids) * part // parts] for part in range(1, parts))
