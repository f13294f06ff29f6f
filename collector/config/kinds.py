"""Which values an option takes: each kind in words, and as a function from text."""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from collector.config import files
from collector.config.systems import Secret
from collector.core.model import RecordType
from collector.core.share import MOST, Share

TEN_YEARS_S = 315_360_000
"""The longest span: keeps every time at 13 digits and every wait within what the system's timers hold."""
SHORT_TEXT_BYTES = 255
"""What AMQP's `shortstr` holds: names of exchanges and vhosts, routing keys. Elasticsearch's names are as long."""
DATABASE_NAME_BYTES = 64
"""MySQL allows 64 characters."""
CERTIFICATE_BYTES = 4 * 2**20
"""The system's bundle of certificates has some 220 kB."""

_WHOLE = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_SHARE = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")
_INDEX = re.compile(r"[^-_+A-Z\s\\/*?\"<>|,#:%][^A-Z\s\\/*?\"<>|,#:%]*")
"""What Elasticsearch takes as a name; no pattern and no list, which would leave out a closed index without a word."""
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(\.{_LABEL})*\.?")


class UnfitError(ValueError):
    """A value that its option does not take; the text says more and never holds the value, which may be a secret."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an option takes: in words that follow "must be", and as a function from text.

    `parse` raises ValueError only; an operator may see the text of an UnfitError, and of no other.
    """

    expected: str
    parse: Callable[[str], Any]


def whole(least: int, most: int) -> Kind:
    """A whole number within these limits."""

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text.strip()) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return Kind(f"a whole number from {least} to {most}", parse)


def number(least: float, most: float, *, above: bool = False) -> Kind:
    """A finite number from `least` (or above it) to `most`."""

    def parse(text: str) -> float:
        value = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
        if not least <= value <= most or (above and value == least):
            raise ValueError
        return value

    return Kind(f"a number {'over' if above else 'from'} {least:.15g}{', at most' if above else ' to'} {most:.15g}", parse)


def one_of(choices: Mapping[str, Any]) -> Kind:
    """One of these words, in any case; each stands for its value."""
    by_folded = {word.casefold(): value for word, value in choices.items()}

    def parse(text: str) -> Any:
        if text.strip().casefold() not in by_folded:
            raise ValueError
        return by_folded[text.strip().casefold()]

    return Kind("one of " + ", ".join(choices), parse)


def word(*choices: str) -> Kind:
    """One of these words, in any case."""
    return one_of({each: each for each in choices})


def short_text(most_bytes: int) -> Kind:
    """Text of so many bytes."""

    def parse(text: str) -> str:
        if len(text.encode()) > most_bytes:
            raise UnfitError(f"it has {len(text.encode())}")
        return text

    return Kind(f"text of at most {most_bytes} bytes in UTF-8", parse)


def _parse_rate(text: str) -> float:
    value: float = SPAN.parse(text)
    return value if value == 0 else LIMITED_RATE.parse(text)


def _parse_url(text: str) -> str:
    stripped = text.strip()
    if any(not "!" <= character <= "~" for character in stripped) or "?" in stripped or "#" in stripped:
        raise ValueError
    parts = urlsplit(stripped)
    if parts.scheme not in ("http", "https") or parts.port == 0:
        raise ValueError
    _parse_host(parts.hostname or "")
    return stripped.rstrip("/")


def _parse_bare_url(text: str) -> str:
    url = _parse_url(text)
    if "@" in urlsplit(url).netloc:
        raise UnfitError("the user and the password have variables of their own")
    return url


def _parse_index(text: str) -> str:
    index = text.strip()
    if not _INDEX.fullmatch(index) or len(index.encode()) > SHORT_TEXT_BYTES:
        raise ValueError
    return index


def _parse_user(text: str) -> str:
    if ":" in text:
        raise ValueError
    return text


def _parse_host(text: str) -> str:
    host = text.strip()
    if not _HOST.fullmatch(host):
        ipaddress.IPv6Address(host)
    return host


def _parse_hosts(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_parse_host(each) for each in text.split(",")))


def _parse_record_types(text: str) -> tuple[RecordType, ...]:
    record_types = tuple(RecordType(each.strip().lower()) for each in text.split(","))
    if len(set(record_types)) < len(record_types):
        raise UnfitError("one stands there twice")
    return record_types


def _parse_share(text: str) -> Share:
    found = _SHARE.fullmatch(text.strip())
    if not found:
        raise ValueError
    return Share(int(found[1]), int(found[2]))


def _parse_file(text: str) -> str:
    try:
        files.read_file(text, CERTIFICATE_BYTES)
    except OSError as error:
        raise UnfitError(error.strerror) from error
    return text


def _parse_certificates(text: str) -> str:
    import ssl  # only here: --help and the health check are quicker without

    _parse_file(text)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(text)
    except OSError:  # ssl.SSLError is one
        raise UnfitError("it holds no certificate in PEM") from None
    return text


URL = Kind("an http or https URL in printable ASCII with a host, without a query or fragment", _parse_url)
BARE_URL = Kind(f"{URL.expected}, and without a user", _parse_bare_url)
INDEX = Kind("the name of one index, data stream or alias: lower case, no pattern and no list", _parse_index)
BASIC_USER = Kind("text without a colon", _parse_user)
HOST = Kind("a host name or an IP address, without scheme and port", _parse_host)
HOSTS = Kind("a host name or an IP address, or several separated by commas, without scheme and port", _parse_hosts)
RECORD_TYPES = Kind("a list of " + ", ".join(RecordType) + ", separated by commas, each at most once", _parse_record_types)
SHARE = Kind(f"k/n with 1 <= k <= n <= {MOST}, such as 2/3", _parse_share)
READABLE_FILE = Kind("the name of a regular file that can be read", _parse_file)
CERTIFICATES = Kind("the name of a regular file of certificates in PEM", _parse_certificates)
TEXT = Kind("text", str)
PASSWORD = Kind("text", lambda text: Secret(value=text))
DATABASE = short_text(DATABASE_NAME_BYTES)
SHORT_TEXT = short_text(SHORT_TEXT_BYTES)
STRICT_TEXTS = frozenset({TEXT, PASSWORD, SHORT_TEXT, DATABASE})
"""Kinds whose every character counts."""
BOOLEAN = one_of(
    {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "on": True, "off": False}
)
SPAN = number(0, TEN_YEARS_S)
LIMITED_RATE = number(0.001, 100_000)
RATE = Kind(f"0 or {LIMITED_RATE.expected}", _parse_rate)
PORT = whole(1, 65_535)
