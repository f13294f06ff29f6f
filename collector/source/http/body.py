"""What the head and the body of an HTTP answer mean."""

import email.utils
import json
import math
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Of zlib, for the content encodings that are understood."""
DEEPEST = 200
"""Levels that are read of a body that nests deeper than Python's parser goes (about 1,000)."""
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]+|[\]}]+', re.DOTALL)
"""Strings, and runs of brackets: what has to be told apart to know how deep one is."""


class TooLargeError(Exception):
    """The body is over the limit, as it arrives or decompressed."""


def json_value(body: bytes, headers: Mapping[str, str], limit_bytes: int) -> Any:
    """The body's JSON, None for an empty body.

    Raises TooLargeError; and ValueError, RecursionError and zlib.error for what is no JSON. An integer of thousands of
    digits becomes infinity, and what is nested hundreds of levels deep becomes null.
    """
    encoding = headers.get("content-encoding", "").lower()
    if body and encoding not in ("", "identity"):
        body = _decompressed(body, encoding, limit_bytes)
    return _parsed(body) if body.strip() else None


def _parsed(body: bytes) -> Any:
    """The JSON; one value that Python will not read does not spoil the others, it becomes one that nobody publishes."""
    try:
        return json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except (ValueError, RecursionError):  # an integer of over 4,300 digits; or too deep
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        return json.loads(_pruned(text), parse_int=_integer)


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return math.inf


def _pruned(text: str) -> str:
    """JSON with null in place of whatever is nested deeper than DEEPEST; what is not closed there stays unreadable."""
    kept, depth, done = [], 0, 0
    for token in _TOKEN.finditer(text):
        before, length = depth, token.end() - token.start()
        if text[token.start()] in "[{":
            depth += length
            if before <= DEEPEST < depth:
                kept += [text[done : token.start() + DEEPEST - before], "null"]
                done = len(text)
        elif text[token.start()] in "]}":
            depth -= length
            if before > DEEPEST >= depth:
                done = token.start() + before - DEEPEST
    return "".join((*kept, text[done:]))


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
