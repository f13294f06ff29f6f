"""What the head and the body of an HTTP answer mean."""

import email.utils
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Of zlib, for the content encodings that are understood."""


class TooLargeError(Exception):
    """The body is over the limit, as it arrives or decompressed."""


def json_value(body: bytes, headers: Mapping[str, str], limit_bytes: int) -> Any:
    """The body's JSON, None for an empty body.

    Raises TooLargeError; and ValueError, RecursionError and zlib.error for what is no JSON, or hostile.
    """
    encoding = headers.get("content-encoding", "").lower()
    if body and encoding not in ("", "identity"):
        body = _decompressed(body, encoding, limit_bytes)
    return json.loads(body) if body.strip() else None


def _decompressed(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    if encoding not in _WINDOW_BITS:
        raise ValueError("content encoding that was not asked for")
    decoder = zlib.decompressobj(_WINDOW_BITS[encoding])
    text = decoder.decompress(body, limit_bytes + 1)
    if len(text) > limit_bytes:
        raise TooLargeError
    if not decoder.eof:
        raise ValueError("compressed body cut off")
    return text


def retry_after(text: str, now: float) -> float:
    """Seconds that a Retry-After header asks for, given as seconds or as a date; 0 for a past date and for nonsense."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    date = parse_date(text)
    return max(0.0, date.timestamp() - now) if date else 0.0


def parse_date(text: str | None) -> datetime | None:
    """The time in a header such as Date, None for nonsense."""
    try:
        date = email.utils.parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
