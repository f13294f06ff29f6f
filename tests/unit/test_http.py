"""What can be said of requests without a server."""

import gzip
import json
import math
import zlib
from datetime import UTC, datetime

import pytest

from collector.core.counters import Counters
from collector.core.errors import ConfigurationError
from collector.core.shutdown import Stop
from collector.source.http import client as module
from collector.source.http.body import TooLargeError, json_value, parse_date, retry_after
from collector.source.http.client import HttpClient

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
PASSWORD = "s3cr3t-pass"


def client(url: str) -> HttpClient:
    return HttpClient(url, concurrency=2, rate=0, timeout_s=1, stop=Stop(), counters=Counters())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("Tue, 24 Nov 2026 12:01:30 GMT", 90.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("\u0661\u0662", 0.0),
        ("Tue, 99 Nov 2026 12:01:30 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nonsense_is_no_pause(text: str, seconds: float) -> None:
    assert retry_after(text, NOON) == seconds


def test_retry_after_of_any_length_is_a_number() -> None:
    assert retry_after("9" * 5000, NOON) < float("inf")


@pytest.mark.parametrize("text", [None, "", "yesterday", "Tue, 24 Foo 2026 12:00:00 GMT", "Tue, 24 Nov 999999 12:00:00 GMT", "1"])
def test_date_that_is_nonsense_is_no_date(text: str | None) -> None:
    assert parse_date(text) is None


def test_date_without_a_zone_is_utc() -> None:
    date = parse_date("Tue, 24 Nov 2026 12:00:00 -0000")
    assert date is not None
    assert date.timestamp() == NOON


@pytest.mark.parametrize("body", [b"", b"  \n", b"null"])
def test_body_that_is_empty_or_null_has_no_value(body: bytes) -> None:
    assert json_value(body, {}, 100) is None


@pytest.mark.parametrize(
    "body",
    [b"<html></html>", b'{"points": [', b"\xff\xfe\xfa", b"{} {}", b"[" * 9000, b"[" * 9000 + b"}" * 9000 + b"x"],
)
def test_body_that_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_value(body, {}, 10_000)


@pytest.mark.parametrize(
    ("value", "read"),
    [(b"9" * 5000, math.inf), (b"-" + b"9" * 5000, math.inf), (b"7" * 9, 777_777_777), (b'"' + b"9" * 5000 + b'"', "9" * 5000)],
)
def test_an_integer_that_python_does_not_read_spoils_nothing_else(value: bytes, read: object) -> None:
    body = b'{"points": [[1, %b, %b], [2, 3, 4]]}' % (b"9" * 5000, value)
    assert json_value(body, {}, 20_000) == {"points": [[1, math.inf, read], [2, 3, 4]]}


@pytest.mark.parametrize("open_close", [(b"[", b"]"), (b'{"a":', b"}"), (b' [ 1, "]", {"\\"[": ', b"} ] ")])
def test_what_is_nested_too_deep_for_python_spoils_nothing_else(open_close: tuple[bytes, bytes]) -> None:
    opened, closed = (each * 5000 for each in open_close)
    value = json_value(b'[["]", %b1%b, {"[": "}"}, 9], [2]]' % (opened, closed), {}, 200_000)
    assert value[0][0] == "]"
    assert value[0][2:] == [{"[": "}"}, 9]
    assert value[1:] == [[2]]
    json.dumps(value)


def test_compressed_body_is_read() -> None:
    assert json_value(gzip.compress(b'{"points": []}'), {"content-encoding": "gzip"}, 100) == {"points": []}
    assert json_value(zlib.compress(b"[1]"), {"content-encoding": "DEFLATE"}, 100) == [1]


def test_compressed_body_is_unreadable_when_cut_off() -> None:
    with pytest.raises(ValueError, match="cut off"):
        json_value(gzip.compress(b'{"points": []}')[:-9], {"content-encoding": "gzip"}, 100)


def test_compressed_body_over_the_limit_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * 2_000_000)
    with pytest.raises(TooLargeError):
        json_value(bomb, {"content-encoding": "gzip"}, 100_000)


def test_content_encoding_that_is_unknown_is_unreadable() -> None:
    with pytest.raises(ValueError, match="encoding"):
        json_value(b"x", {"content-encoding": "br"}, 100)


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        (f"http://user:{PASSWORD}@[::1/api", {}),
        (f"http://user:{PASSWORD}@/api", {}),
        (f"http://user:{PASSWORD}@host:99999999/api", {}),
        ("http://host/api", {"HTTP_PROXY": f"http://user:{PASSWORD}@"}),
        ("http://host/api", {"ALL_PROXY": f"socks5://user:{PASSWORD}@127.0.0.1:1"}),
        ("https://host/api", {"REQUESTS_CA_BUNDLE": "/no/such/bundle.pem"}),
    ],
)
def test_address_or_environment_that_cannot_work_is_a_configuration_error_without_the_password(
    monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        client(url)
    assert PASSWORD not in str(caught.value)


def test_path_keeps_escapes_and_encodes_only_what_a_url_cannot_hold() -> None:
    assert module._path("/devices/a%2Fb%2f%2D%2e/x") == "/devices/a%2Fb%2f%2D%2e/x"
    assert module._path('/{"<>\\^`|}[]') == "/%7B%22%3C%3E%5C%5E%60%7C%7D%5B%5D"
    assert module._path("/a.b-c_d~e!$&'()*+,;=:@") == "/a.b-c_d~e!$&'()*+,;=:@"
