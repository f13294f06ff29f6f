"""Reads and decompresses a body within its limits, and its JSON only where that takes no more memory than it may."""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from collector.core.text import printable
from collector.source.http.memory import Reservation

STEP_BYTES = 65_536
"""Read, and decompressed, at once."""
MOST_BYTES = 230 * 2**20
"""What the JSON of one body may take once parsed: a listing of seven times ESnet's does."""
FAST_BYTES = 8 * 2**20
"""A larger body is left to the standard library, which takes no second copy of it."""
SMALL_BYTES = 1_500
"""A body up to here, such as the points of fifteen minutes, takes less than what is free for each (memory.FREE_BYTES), whatever
it holds: one that is nothing but brackets takes 172 times its size."""
LEAST_INTEGER = b"-922337203685477"
"""How -2**63 and the integers just below begin: orjson makes the float -2**63 of those below, which would be valid."""
SHOWN_CHARACTERS = 80
"""Of a body that is no JSON, in the error."""
_ENCODINGS = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB = 47
"""For zlib: the header shows which of the two it is."""
_VALUE_BYTES, _KEY_BYTES, _LIST_BYTES, _OBJECT_BYTES = 64, 52, 88, 100
"""What Python takes for each, about, measured with 3.11: a number or a short text, a key's place, an empty container."""


class TooLargeError(Exception):
    """The body is over a limit: as it arrives, decompressed, or by the values that it holds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a body may be."""

    bytes: int
    """As it arrives, and once decompressed."""
    values: int | None = None
    """JSON values, arrays and objects included; None: bounded by their memory alone."""
    any_bytes: bool = False
    """Whether a byte that is not UTF-8 spoils its own text alone, which gets a lone surrogate, and not the whole body."""


def read_body(read: Callable[[int], bytes], encoding: str, most_bytes: int, reservation: Reservation) -> bytearray:
    """The whole body, decompressed. `read` gives up to so many bytes as they arrive, and none at the end.

    Raises TooLargeError, and ValueError for a body that does not decompress.
    """
    encoding = encoding.strip().lower()
    if encoding in _ENCODINGS:
        pieces = _decompressed(_pieces(read, most_bytes))
    elif encoding in ("", "identity"):
        pieces = _pieces(read, most_bytes)
    else:
        raise ValueError("content encoding that was not asked for")
    body = bytearray()
    try:
        for piece in pieces:
            if len(body) + len(piece) > most_bytes:
                raise TooLargeError(f"body of over {most_bytes} bytes")
            reservation.hold(len(body) + len(piece))
            body += piece
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return body


def _pieces(read: Callable[[int], bytes], most_bytes: int) -> Iterator[bytes]:
    arrived = 0
    while piece := read(STEP_BYTES):
        arrived += len(piece)
        if arrived > most_bytes:
            raise TooLargeError(f"body of over {most_bytes} bytes")
        yield piece


def _decompressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """In steps, so that what a few bytes unfold into is counted before it is there; several gzip members are one body."""
    decoder, begun = zlib.decompressobj(_GZIP_OR_ZLIB), False
    for piece in pieces:
        rest = piece
        while rest:
            if decoder.eof:
                if not rest.strip(b"\0"):  # padding
                    break
                decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
            begun = True
            yield decoder.decompress(rest, STEP_BYTES)
            rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    while begun and not decoder.eof and (step := decoder.decompress(decoder.unconsumed_tail, STEP_BYTES)):
        yield step
    if begun and not decoder.eof:
        raise ValueError("compressed body cut off")


def json_value(body: bytes | bytearray, limits: Limits, reservation: Reservation) -> Any:
    """The body's JSON, None for an empty body.

    Raises TooLargeError before it parses what would take too much memory, ValueError and RecursionError for what is no
    JSON. An integer of over 64 bits may become a float, one of thousands of digits becomes infinity: no point can hold either.
    """
    if not body or body.isspace():
        return None
    if len(body) > SMALL_BYTES:
        reservation.hold(_memory(body, limits.values))
    if len(body) <= FAST_BYTES and not limits.any_bytes and LEAST_INTEGER not in body:
        # in a third of the time; what it refuses (NaN, half a surrogate, other encodings) is the standard library's to judge
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(body)
    encoding = json.detect_encoding(body)
    lenient = limits.any_bytes or body[:SHOWN_CHARACTERS].lstrip()[:1] == b"<"  # a page in Latin-1 is a page all the same
    text = body.decode(encoding, "surrogateescape" if lenient and encoding.startswith("utf-8") else "strict")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at, shown = error.pos, printable(text.lstrip(), SHOWN_CHARACTERS)
    except ValueError:  # an integer of over 4,300 digits
        return json.loads(text, parse_int=_integer)
    if shown[:1] == "<":
        raise ValueError(f"an HTML or XML page in place of JSON: '{shown}'")
    raise ValueError(f"not JSON at character {at}: '{shown}'")


def json_kind(value: object) -> str:
    """What JSON calls it."""
    if value is None:
        return "null"
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "a boolean"}
    return kinds.get(type(value), "a number")


def _memory(body: bytes | bytearray, most_values: int | None) -> int:
    """Bytes that text and JSON take, about, by the punctuation alone; that within texts is counted as well."""
    lists, objects = body.count(b"["), body.count(b"{")
    values = body.count(b",") + lists + objects
    if most_values is not None and values > most_values:
        raise TooLargeError(f"body of about {values} values, at most {most_values} can be right")
    kept = max(0, values - sum(map(body.count, (b"null", b"true", b"false"))))
    size = 2 * len(body) * _character_bytes(body) + kept * _VALUE_BYTES + body.count(b":") * _KEY_BYTES
    size += lists * _LIST_BYTES + objects * _OBJECT_BYTES
    if size > MOST_BYTES:
        raise TooLargeError(f"body whose about {values} values would take {size >> 20} MiB")
    return size


def _character_bytes(body: bytes | bytearray) -> int:
    """Of the text: Python gives all characters the room of the widest one."""
    if body.isascii():
        return 1
    if not json.detect_encoding(body).startswith("utf-8") or re.search(rb"[\xf0-\xff]", body):
        return 4
    return 2


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return math.inf
