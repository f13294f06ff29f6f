"""Every option, declared once: its name, its default, what it means and which values it takes."""

import ipaddress
import math
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from collector.config import files
from collector.core.model import RecordType
from collector.core.share import MOST, Share

TEN_YEARS_S = 315_360_000
"""The longest span: keeps every time at 13 digits and every wait within what the system's timers hold."""
DAY_S = 86_400
SHORT_TEXT_BYTES = 255
"""What AMQP's `shortstr` holds: names of exchanges and vhosts, routing keys."""
DATABASE_NAME_BYTES = 64
"""MySQL allows 64 characters."""
CERTIFICATE_BYTES = 4 * 2**20
"""The system's bundle of certificates has some 220 kB."""

BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

_WHOLE = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_SHARE = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")
_INDEX = re.compile(r"[^-_+A-Z\s\\/*?\"<>|,#:%][^A-Z\s\\/*?\"<>|,#:%]*")
"""What Elasticsearch takes as a name; no pattern and no list, which would leave out a closed index without a word."""
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(\.{_LABEL})*\.?")


class UnfitError(Exception):
    """A value that its option does not take; the text, if any, says more and never holds the value, which may be a secret."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an option takes: in words that follow "must be", and as a function from text. `parse` raises UnfitError only."""

    expected: str
    parse: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Option:
    """One variable. `default` is as one would write it in the file; empty when there is none."""

    name: str
    default: str
    kind: Kind
    meaning: str
    required: bool = False
    with_stardust: str = ""
    """The default with SOURCE=stardust where that is another one."""


def _whole(least: int, most: int) -> Kind:
    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text.strip()) or not least <= int(text) <= most:
            raise UnfitError
        return int(text)

    return Kind(f"a whole number from {least} to {most}", parse)


def _number(least: float, most: float, *, above: bool = False) -> Kind:
    """A finite number from `least` (or above it) to `most`."""

    def parse(text: str) -> float:
        number = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
        if not (number > least if above else number >= least) or number > most:
            raise UnfitError
        return number

    return Kind(f"a number {'over' if above else 'from'} {least:.15g}{', at most' if above else ' to'} {most:.15g}", parse)


def _rate() -> Kind:
    limits = _number(0.001, 100_000)

    def parse(text: str) -> float:
        stripped = text.strip()
        return 0.0 if _NUMBER.fullmatch(stripped) and float(stripped) == 0 else float(limits.parse(text))

    return Kind(f"0 or {limits.expected}", parse)


def _boolean() -> Kind:
    def parse(text: str) -> bool:
        try:
            return BOOLEANS[text.strip().lower()]
        except KeyError:
            raise UnfitError from None

    return Kind("one of " + ", ".join(("true", "false", "1", "0", "yes", "no", "on", "off")), parse)


def _choice(*choices: str) -> Kind:
    by_folded = {each.casefold(): each for each in choices}

    def parse(text: str) -> str:
        try:
            return by_folded[text.strip().casefold()]
        except KeyError:
            raise UnfitError from None

    return Kind("one of " + ", ".join(choices), parse)


def _short_text(most_bytes: int) -> Kind:
    def parse(text: str) -> str:
        if len(text.encode()) > most_bytes:
            raise UnfitError(f"it has {len(text.encode())}")
        return text

    return Kind(f"text of at most {most_bytes} bytes in UTF-8", parse)


def _parse_url(text: str) -> str:
    stripped = text.strip()
    if any(not "!" <= character <= "~" for character in stripped) or "?" in stripped or "#" in stripped:
        raise UnfitError
    try:
        parts = urlsplit(stripped)
        fit = parts.scheme in ("http", "https") and bool(_parse_host(parts.hostname or "")) and parts.port != 0
    except ValueError:  # brackets without an IPv6 address, a port that is no number
        raise UnfitError from None
    if not fit:
        raise UnfitError
    return stripped.rstrip("/")


def _parse_bare_url(text: str) -> str:
    url = _parse_url(text)
    if "@" in urlsplit(url).netloc:
        raise UnfitError("the user and the password have variables of their own")
    return url


def _parse_index(text: str) -> str:
    index = text.strip()
    if not _INDEX.fullmatch(index) or len(index.encode()) > SHORT_TEXT_BYTES:
        raise UnfitError
    return index


def _parse_user(text: str) -> str:
    if ":" in text:
        raise UnfitError
    return text


def _parse_host(text: str) -> str:
    host = text.strip()
    if not _HOST.fullmatch(host):
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise UnfitError from None
    return host


def _parse_hosts(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_parse_host(each) for each in text.split(",")))


def _parse_record_types(text: str) -> tuple[RecordType, ...]:
    try:
        record_types = tuple(RecordType(each.strip().lower()) for each in text.split(","))
    except ValueError:
        raise UnfitError from None
    if len(set(record_types)) < len(record_types):
        raise UnfitError("one stands there twice")
    return record_types


def _parse_share(text: str) -> Share:
    found = _SHARE.fullmatch(text.strip())
    if not found:
        raise UnfitError
    try:
        return Share(int(found[1]), int(found[2]))
    except ValueError:
        raise UnfitError from None


def _parse_file(text: str) -> str:
    try:
        files.read_file(text, CERTIFICATE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UnfitError(getattr(error, "strerror", None) or "no such name can exist") from error
    return text


def _parse_certificates(text: str) -> str:
    _parse_file(text)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(text)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
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
DATABASE = _short_text(DATABASE_NAME_BYTES)
SHORT_TEXT = _short_text(SHORT_TEXT_BYTES)
BOOLEAN = _boolean()
SPAN = _number(0, TEN_YEARS_S)
PORT = _whole(1, 65_535)

SOURCE_OPTION = Option("SOURCE", "netbeam", _choice("netbeam", "stardust"), "where all comes from: netbeam or stardust")
NETBEAM_OPTIONS = (
    Option("NETBEAM_URL", "https://esnet-netbeam.appspot.com/api/network/esnet/prod", URL, "Netbeam's base URL, http or https"),
    Option("NETBEAM_CONCURRENCY", "16", _whole(1, 256), "requests to Netbeam at once, at the most (1 to 256)"),
    Option("NETBEAM_RATE", "0", _rate(), "requests to Netbeam a second, at the most; 0: no limit"),
    Option("NETBEAM_TIMEOUT", "30", _number(0, DAY_S, above=True), "seconds for one whole answer of Netbeam (over 0)"),
)
STARDUST_OPTIONS = (
    Option("STARDUST_URL", "https://el.gc1.prod.stardust.es.net:9200", BARE_URL, "Stardust's base URL, http or https"),
    Option("STARDUST_INDEX", "sd_public_interfaces", INDEX, "the index, or its alias, that holds the interfaces' measurements"),
    Option("STARDUST_USER", "", BASIC_USER, "Stardust's user, where it wants one; together with its password"),
    Option("STARDUST_PASSWORD", "", TEXT, "Stardust's password; or STARDUST_PASSWORD_FILE"),
    Option("STARDUST_PASSWORD_FILE", "", TEXT, "a file that holds Stardust's password, read again for each query"),
    Option("STARDUST_TIMEOUT", "60", _number(0, DAY_S, above=True), "seconds for one whole answer of Stardust (over 0)"),
    Option("STARDUST_CONCURRENCY", "4", _whole(1, 32), "queries to Stardust at once, at the most (1 to 32)"),
)
CYCLE_OPTIONS = (
    Option("RECORD_TYPES", ",".join(RecordType), RECORD_TYPES, "which record types to collect"),
    Option("POLL_INTERVAL", "900", _number(1, TEN_YEARS_S), "seconds from one cycle to the next (from 1)"),
    Option(
        "SETTLE_DELAY", "900", SPAN,
        "seconds that the source gets to complete its data (from 0); if not set 1800 with Stardust", with_stardust="1800",
    ),
    Option(
        "INITIAL_LOOKBACK", "1800", SPAN,
        "seconds that a new interface is collected back from its first listing (from 0); if not set 3600 with Stardust",
        with_stardust="3600",
    ),
    Option("MAX_WINDOW", "172800", _number(60, TEN_YEARS_S), "seconds that one request asks for, at the most (from 60)"),
    Option("MAX_BACKLOG", "2592000", SPAN, "seconds that are caught up with after a long stop, at the most; 0: no limit"),
    Option("IDLE_BACKOFF", "3600", SPAN, "seconds between requests for a series without points, at the most; 0: all are asked"),
    Option("LATE_DATA", "86400", SPAN, "seconds that points may come later than others; no silence is believed before (from 0)"),
    Option("MAX_RETIRED_SHARE", "0.2", _number(0, 1), "share of the interfaces that one listing alone may retire (0 to 1)"),
    Option("INTERFACE_SNAPSHOT_INTERVAL", "86400", SPAN, "seconds from one sending of all interfaces to the next (from 0)"),
    Option("SHARD", "1/1", SHARE, "k/n: this collector works on the k-th of n shares of the interfaces (n up to 1000)"),
)  # fmt: skip
MESSAGE_OPTIONS = (
    Option("RMQ_EXCHANGE", "osg.psdata.raw", SHORT_TEXT, "the exchange that messages go to"),
    Option("RMQ_INTERFACE_KEY", "esnet_interfaces", SHORT_TEXT, "routing key of the interfaces"),
    Option("RMQ_TRAFFIC_KEY", "esnet_traffic", SHORT_TEXT, "routing key of the points, of all record types"),
)
RABBIT_OPTIONS = (
    Option("RMQ_HOST", "", HOSTS, "RabbitMQ's host; several of one cluster, by commas, are tried in random order", required=True),
    Option("RMQ_PORT", "", PORT, "RabbitMQ's port; if not set 5672, and 5671 with TLS"),
    Option("RMQ_USER", "", TEXT, "RabbitMQ's user", required=True),
    Option("RMQ_PASS", "", TEXT, "RabbitMQ's password; or RMQ_PASS_FILE", required=True),
    Option("RMQ_PASS_FILE", "", TEXT, "a file that holds RabbitMQ's password, read again at each connect"),
    Option("RMQ_VHOST", "/", SHORT_TEXT, "RabbitMQ's vhost"),
    Option("RMQ_TLS", "false", BOOLEAN, "true: TLS, with the broker's certificate verified"),
    Option("RMQ_CA_FILE", "", CERTIFICATES, "certificates to verify the broker with; if not set, the system's"),
    Option("RMQ_CERT_FILE", "", READABLE_FILE, "our own certificate, together with RMQ_KEY_FILE"),
    Option("RMQ_KEY_FILE", "", READABLE_FILE, "the key of our own certificate"),
    Option("RMQ_MANDATORY", "true", BOOLEAN, "false: the broker drops messages that no queue takes, and that is fine"),
    Option("RMQ_DECLARE", "false", BOOLEAN, "true: declare a durable topic exchange if there is none"),
)
MYSQL_OPTIONS = (
    Option("MYSQL_HOST", "esnet_db", HOST, "MySQL's host: the primary, not a balancer"),
    Option("MYSQL_PORT", "3306", PORT, "MySQL's port"),
    Option("MYSQL_DATABASE", "esnet", DATABASE, "the database that holds the table"),
    Option("MYSQL_USER", "esnet_user", TEXT, "MySQL's user"),
    Option("MYSQL_PASSWORD", "", TEXT, "MySQL's password; or MYSQL_PASSWORD_FILE", required=True),
    Option("MYSQL_PASSWORD_FILE", "", TEXT, "a file that holds MySQL's password, read again at each connect"),
    Option("MYSQL_CA_FILE", "", CERTIFICATES, "certificates to verify MySQL with; if set, TLS is demanded"),
    Option("MYSQL_TRUST_SERVER", "false", BOOLEAN, "true: a server that is not verified may get the password itself, over TLS"),
)
STRICT_TEXTS = frozenset({TEXT, SHORT_TEXT, DATABASE})
"""Kinds whose every character counts."""
WATCHING_OPTIONS = (
    Option("METRICS_PORT", "8000", _whole(0, 65_535), "port of /metrics, /healthz, /livez and the page; 0: none"),
    Option("METRICS_HOST", "127.0.0.1", HOST, "address that the port is opened on (0.0.0.0 in the image)"),
    Option("METRICS_HOSTS", "", HOSTS, "names of the page's host, by commas, besides addresses, localhost and the machine's own"),
    Option("LOG_LEVEL", "INFO", _choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "the least level that is logged"),
    Option("LOG_FORMAT", "text", _choice("text", "json"), "text, or json: one object a line"),
)
OPTIONS = (
    SOURCE_OPTION,
    *NETBEAM_OPTIONS,
    *STARDUST_OPTIONS,
    *CYCLE_OPTIONS,
    *MESSAGE_OPTIONS,
    *RABBIT_OPTIONS,
    *MYSQL_OPTIONS,
    *WATCHING_OPTIONS,
)
BY_NAME = {each.name: each for each in OPTIONS}
