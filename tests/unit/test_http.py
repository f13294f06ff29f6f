"""What can be said of requests without a server."""

import gzip
import http.client
import io
import json
import logging
import math
import time
import traceback
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest

from collector.core.counters import Counters
from collector.core.errors import ConfigurationError, UnavailableError
from collector.core.shutdown import Stop
from collector.source.http.body import Limits, TooLargeError, json_value, read_body
from collector.source.http.client import HttpClient
from collector.source.http.headers import parse_date, retry_after, server_time_ms
from collector.source.http.memory import ByteBudget, Reservation
from collector.source.http.route import quoted_path

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
PASSWORD = "s3cr3t-pass"
FOREVER = math.inf


def client(url: str) -> HttpClient:
    limits = {"concurrency": 2, "rate": 0, "timeout_s": 1}
    return HttpClient(url, name="Netbeam", variable="NETBEAM_URL", stop=Stop(), counters=Counters(), **limits)


def value(body: bytes, limit: int = 20_000, values: int | None = None, any_bytes: bool = False) -> Any:
    return json_value(body, Limits(limit, values, any_bytes), Reservation(ByteBudget(), FOREVER))


def unpacked(body: bytes, encoding: str, limit: int = 100) -> bytes:
    return bytes(read_body(io.BytesIO(body).read, encoding, limit, Reservation(ByteBudget(), FOREVER)))


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
        ("1.5", 1.5),
        ("2.", 2.0),
        ("1.5.5", 0.0),
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


def test_servers_time_is_its_date_and_the_age_in_a_cache() -> None:
    date = "Tue, 24 Nov 2026 12:00:00 GMT"
    noon_ms = int(NOON) * 1000
    assert server_time_ms({"Date": date}) == noon_ms
    assert server_time_ms({"Date": date, "Age": "3000"}) == noon_ms + 3_000_000
    assert server_time_ms({"Date": date, "Age": "old"}) == noon_ms
    assert server_time_ms({"Date": "now", "Age": "5"}) is None
    assert server_time_ms({"Age": "5"}) is None
    assert server_time_ms({"Date": "Fri, 31 Dec 9999 23:59:59 GMT", "Age": "99999999"}) == 253_402_300_799_000


@pytest.mark.parametrize("body", [b"", b"  \n", b"null"])
def test_body_that_is_empty_or_null_has_no_value(body: bytes) -> None:
    assert value(body) is None


@pytest.mark.parametrize("body", [b"plain", b'{"points": [', b"\xff\xfe\xfa", b"{} {}", b"[" * 9000 + b"}" * 9000])
def test_body_that_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        value(body)


@pytest.mark.parametrize("rest", [b"x" * 5000, b"x" * 5000 + "é".encode("latin-1")])
def test_page_in_place_of_json_is_named_and_its_beginning_quoted(rest: bytes) -> None:
    with pytest.raises(ValueError, match=r"an HTML or XML page in place of JSON: '<html>\\x1b\[2Jx+…'"):
        value(b" <html>\x1b[2J" + rest)


@pytest.mark.parametrize(
    ("text", "read"),
    [(b"9" * 5000, math.inf), (b"-" + b"9" * 5000, math.inf), (b"7" * 9, 777_777_777), (b'"' + b"9" * 5000 + b'"', "9" * 5000)],
)
def test_an_integer_that_python_does_not_read_spoils_nothing_else(text: bytes, read: object) -> None:
    body = b'{"points": [[1, %b, %b], [2, 3, 4]]}' % (b"9" * 5000, text)
    assert value(body) == {"points": [[1, math.inf, read], [2, 3, 4]]}


@pytest.mark.parametrize("text", ["[NaN, 1]", '["\\ud800", 1]', "[1e999, 1]", "[-0, 1]", '["\u00fc", 18446744073709551615]'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_the_fast_parser_refuses_is_read_all_the_same(text: str, encoding: str) -> None:
    assert repr(value(text.encode(encoding))) == repr(json.loads(text))


def test_an_integer_of_a_listing_arrives_unchanged_however_long_it_is() -> None:
    assert value(b"[123456789012345678901234567890]", any_bytes=True) == [123456789012345678901234567890]


@pytest.mark.parametrize("number", [-(2**63), -(2**63) - 1, -(2**63) - 1024, 2**63 - 1, 2**63, 2**64 - 1])
def test_integers_near_the_ends_of_64_bits_are_exact(number: int) -> None:
    assert value(b"[%d]" % number) == [number]
    assert type(value(b"[%d]" % number)[0]) is int


def test_a_byte_that_is_not_utf_8_spoils_its_own_text_alone_where_asked() -> None:
    body = b'[{"a": "Z\xfcrich", "b": "Z\xc3\xbcrich"}]'
    assert value(body, any_bytes=True) == [{"a": "Z\udcfcrich", "b": "Zürich"}]
    with pytest.raises(ValueError, match="utf-8"):
        value(body)


def test_compressed_body_is_read() -> None:
    assert unpacked(gzip.compress(b"[1]"), "gzip") == b"[1]"
    assert unpacked(zlib.compress(b"[1]"), "DEFLATE") == b"[1]"
    assert unpacked(gzip.compress(b"[1") + gzip.compress(b"]") + b"\0" * 9, "gzip") == b"[1]"
    assert unpacked(b"", "gzip") == b""


@pytest.mark.parametrize("cut", [1, 9, 20])
def test_compressed_body_is_unreadable_when_cut_off(cut: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        unpacked(gzip.compress(b'{"points": []}')[:-cut], "gzip")


def test_compressed_body_over_the_limit_is_not_unpacked() -> None:
    with pytest.raises(TooLargeError):
        unpacked(gzip.compress(b" " * 2_000_000), "gzip", 100_000)


def test_content_encoding_that_is_unknown_is_unreadable() -> None:
    with pytest.raises(ValueError, match="encoding"):
        unpacked(b"x", "br")


@pytest.mark.parametrize("body", [b"[" + b"{}," * 999 + b"1]", b"[" * 500 + b"]" * 500 + b"," * 600, b"[" + b"1," * 1001])
def test_body_with_more_values_than_can_be_right_is_not_parsed(body: bytes) -> None:
    with pytest.raises(TooLargeError, match="values"):
        value(body, values=1000)


@pytest.mark.parametrize("unit", [b"{},", b"[],", b'"aa",', b"0,", '"\U0001f600",'.encode(), b'{"a":1},'])
def test_body_whose_values_would_fill_the_memory_is_not_parsed(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.source.http.body.MOST_BYTES", 2_300_000)  # a hundredth, and so is the body
    with pytest.raises(TooLargeError, match="values would take"):
        value(b"[" + unit * (640_000 // len(unit)) + b"1]", limit=700_000)


def test_bodies_wait_for_room_but_for_one() -> None:
    budget = ByteBudget(1_000_000)
    first, second, third = (Reservation(budget, time.monotonic() + 0.01) for _ in range(3))
    first.hold(900_000)
    second.hold(600_000)  # beyond the budget, as only one at a time may be
    with pytest.raises(TimeoutError):
        third.hold(300_000)
    second.hold(5_000_000)
    del second
    first.hold(1_000_000)
    third.hold(300_000)  # the one beyond it now
    with pytest.raises(TimeoutError):
        first.hold(1_100_000)
    del third
    first.hold(1_100_000)


@pytest.mark.parametrize(
    ("url", "environment", "variable"),
    [
        (f"http://user:{PASSWORD}@[::1/api", {}, "NETBEAM_URL"),
        (f"http://user:{PASSWORD}@/api", {}, "NETBEAM_URL"),
        (f"http://user:{PASSWORD}@host:99999999/api", {}, "NETBEAM_URL"),
        ("http://host/api", {"HTTP_PROXY": f"http://user:{PASSWORD}@"}, "HTTP_PROXY"),
        ("http://host/api", {"ALL_PROXY": f"socks5://user:{PASSWORD}@127.0.0.1:1"}, "ALL_PROXY is a socks5 proxy"),
        ("https://host/api", {"https_proxy": f"http://bob:{PASSWORD}\\ss@proxy:3128"}, "https_proxy"),
        ("https://host/api", {"HTTPS_PROXY": f"http://bob:{PASSWORD}@proxy:nine"}, "HTTPS_PROXY"),
        ("https://host/api", {"HTTPS_PROXY": "http://"}, "HTTPS_PROXY"),
        ("http://host/api", {"HTTP_PROXY": f"http://bob:{PASSWORD}@x:99999"}, "HTTP_PROXY is no URL; its port must be"),
        ("http://host/api", {"HTTP_PROXY": f"http://bob:{PASSWORD}@[::1"}, "HTTP_PROXY is no URL; the brackets"),
        ("http://host/api", {"HTTP_PROXY": f"http://bob:{PASSWORD}@[::1]:x"}, "HTTP_PROXY is no URL; its port must be"),
        ("https://host/api", {"REQUESTS_CA_BUNDLE": "/no/such/bundle.pem"}, "REQUESTS_CA_BUNDLE"),
        ("https://host/api", {"CURL_CA_BUNDLE": "/no/such/bundle.pem"}, "CURL_CA_BUNDLE"),
        ("https://host/api", {"REQUESTS_CA_BUNDLE": "/dev/zero"}, "REQUESTS_CA_BUNDLE"),
    ],
)
def test_address_or_environment_that_cannot_work_is_a_configuration_error_without_the_password(
    monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], variable: str
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ConfigurationError) as caught:
        client(url)
    assert str(caught.value).startswith(variable)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_proxy_without_a_scheme_is_one_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.invalid:3128")
    assert str(client("https://host/api")._route.pool.proxy) == "http://proxy.invalid:3128"


def test_path_keeps_escapes_and_encodes_only_what_a_url_cannot_hold() -> None:
    assert quoted_path("/devices/a%2Fb%2f%2D%2e/x") == "/devices/a%2Fb%2f%2D%2e/x"
    assert quoted_path('/{"<>\\^`|}[]') == "/%7B%22%3C%3E%5C%5E%60%7C%7D%5B%5D"
    assert quoted_path("/a.b-c_d~e!$&'()*+,;=:@") == "/a.b-c_d~e!$&'()*+,;=:@"


@pytest.mark.parametrize(
    ("error", "said", "traced"),
    [
        (AttributeError("no readline"), "unreadable answer: no readline", {AttributeError}),
        (http.client.BadStatusLine("x"), "unreadable answer: x", set()),
        (ConnectionRefusedError(111, "refused"), "connection to .* failed: refused", set()),
    ],
)
def test_an_error_that_no_driver_announces_leaves_its_traceback_at_debug(
    error: Exception, said: str, traced: set[type], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("urllib3.connectionpool.HTTPConnectionPool.urlopen", fail)
    with caplog.at_level(logging.DEBUG), pytest.raises(UnavailableError, match=said):
        client("http://source.test/api").request("/x", limits=Limits(100), tries=1)
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == traced
