"""The listing's pages, read side by side: an engine gives the next one only behind the last id of the one before."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from collector.core.errors import AnswerError
from collector.source.http.client import Answer
from collector.source.stardust import queries
from collector.source.stardust.search import FaultError, Search

FIRST_BORDERS = ("e", "l", "o")
"""Part ESnet's interfaces in four, about."""
MOST_ENTRIES = 200_000
"""Of a listing: twenty times ESnet's."""


class Pages:
    """Reads all pages, each time in parts that were equal the time before; `patience_s`: a pause that is waited for."""

    def __init__(self, search: Search, concurrency: int, patience_s: float) -> None:
        self._search = search
        self._concurrency = concurrency
        self._patience_s = patience_s
        self._borders: tuple[str, ...] = FIRST_BORDERS

    def read(self, now_ms: int) -> tuple[list[Any], int | None]:
        """A bucket for each interface, and the server's clock if it told. Raises UnavailableError and AnswerError."""
        ranges = zip((None, *self._borders), (*self._borders, None), strict=True)
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="listing") as pool:
            parts = list(pool.map(lambda each: self._range(now_ms, *each), ranges))
        buckets = [bucket for found, _ in parts for bucket in found]
        if len(buckets) > MOST_ENTRIES:
            raise AnswerError(f"listing of over {MOST_ENTRIES} entries")
        self._borders = _borders(buckets, self._concurrency)
        return buckets, min((server_ms for _, server_ms in parts if server_ms is not None), default=None)

    def _range(self, now_ms: int, after_id: str | None, last_id: str | None) -> tuple[Sequence[Any], int | None]:
        """The buckets behind one id, and up to another; and the server's clock if it told."""
        after = None if after_id is None else {"id": after_id}
        found: list[Any] = []
        while True:
            answer, buckets, next_after = self._page(now_ms, after)
            inside = [each for each in buckets if last_id is None or _id(each) <= last_id]
            found += inside
            if len(found) > MOST_ENTRIES:
                raise AnswerError(f"listing of over {MOST_ENTRIES} entries")
            if next_after is None or len(buckets) < queries.PAGE or len(inside) < len(buckets):
                return found, answer.server_ms
            if next_after == after:
                raise AnswerError("listing whose pages have no end")
            after = next_after

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


def _borders(buckets: list[Any], most_parts: int) -> tuple[str, ...]:
    """Ids that part these in equal parts of a page or more."""
    ids = sorted(map(_id, buckets))
    parts = max(1, min(most_parts, len(ids) // queries.PAGE))
    return tuple(ids[len(ids) * part // parts] for part in range(1, parts))
