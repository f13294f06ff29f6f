"""The HTTP server over a real socket: what it answers, and that no client can hurt it."""

import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from collector.core.counters import Counters
from collector.core.errors import ConfigurationError
from collector.core.outage import Outage
from collector.core.report import CycleOutcome, CycleReport, ReasonKind
from collector.core.shutdown import Stop
from collector.watch.page import CONTENT_SECURITY_POLICY
from collector.watch.server import MOST_CONNECTIONS, MOST_HEAD_BYTES, WebServer
from collector.watch.state import CollectorState, Role, Snapshot, System

PATHS = ("/", "/metrics", "/healthz", "/livez")


class Clock:
    """The state's monotonic clock, which a test can set back to let time pass."""

    def __init__(self) -> None:
        self.ago_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() - self.ago_s


class BrokenState(CollectorState):
    """A state that cannot be read while `broken`."""

    broken = False

    def snapshot(self) -> Snapshot:
        if self.broken:
            raise ZeroDivisionError("no snapshot today")
        return super().snapshot()


@pytest.fixture
def mysql() -> Outage:
    return Outage("MySQL")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(mysql: Outage, clock: Clock) -> BrokenState:
    return BrokenState({System.DATABASE: mysql}, 900, monotonic=clock)


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def server(state: CollectorState, stop: Stop) -> Iterator[WebServer]:
    server = WebServer("127.0.0.1", 0, state, Counters(), stop, ["watch.example.org"])
    yield server
    server.close()
    assert stop.failure is None


def ask(server: WebServer, path: str, method: str = "GET", body: bytes | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        return response, response.read()


def health(server: WebServer, path: str = "/healthz") -> tuple[int, dict[str, object]]:
    response, body = ask(server, path)
    assert response.headers["Content-Type"] == "application/json"
    answer: dict[str, object] = json.loads(body)
    return response.status, answer


def connect(server: WebServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def test_health_is_200_while_all_is_well(server: WebServer) -> None:
    assert health(server) == (200, {"status": "ok", "role": "starting", "reasons": []})


def test_health_is_503_with_the_reasons_when_a_cycle_failed_or_a_dependency_is_down(
    server: WebServer, state: CollectorState, mysql: Outage
) -> None:
    state.enter(Role.WORKING)
    failed = CycleReport(start_ms=1_764_000_000_000, seconds=1, outcome=CycleOutcome.FAILED)
    failed.add(ReasonKind.FAILURE, "no listing")
    state.add(failed)
    mysql.failed("connection refused")
    status, answer = health(server)
    assert (status, answer["status"], answer["role"]) == (503, "failing", "working")
    reasons = answer["reasons"]
    assert isinstance(reasons, list)
    assert reasons[0].startswith("MySQL is down since 20")
    assert reasons[1:] == ["the last cycle failed: no listing"]


def test_standby_is_200_and_says_so(server: WebServer, state: CollectorState) -> None:
    state.enter(Role.STANDBY)
    assert health(server) == (200, {"status": "standby", "role": "standby", "reasons": []})


def test_livez_is_503_once_the_main_loop_has_not_turned_for_long(server: WebServer, state: CollectorState, clock: Clock) -> None:
    assert health(server, "/livez")[0] == 200
    clock.ago_s = 1801
    state.beat()
    clock.ago_s = 0
    status, answer = health(server, "/livez")
    assert (status, answer["status"]) == (503, "stuck")


def test_metrics_are_text_that_prometheus_reads(server: WebServer) -> None:
    response, body = ask(server, "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert b'\nesnet_collector_points_confirmed_total{record_type="traffic"} 0.0\n' in body


def test_page_is_html(server: WebServer) -> None:
    response, body = ask(server, "/?from=a-bookmark")
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/../etc/passwd", "/favicon.ico", "/%6detrics"])
def test_other_paths_are_404(server: WebServer, path: str) -> None:
    response, body = ask(server, path)
    assert (response.status, body) == (404, b"404 Not Found\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
def test_other_methods_are_405_and_change_nothing(server: WebServer, method: str) -> None:
    response, _ = ask(server, "/metrics", method, b"x" * 10_000)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_head_has_the_headers_of_get_and_no_body(server: WebServer, path: str) -> None:
    response, body = ask(server, path, "HEAD")
    assert (response.status, body) == (404 if path == "/nothing" else 200, b"")
    assert int(response.headers["Content-Length"]) > 0


@pytest.mark.parametrize(("method", "path"), [*(("GET", path) for path in PATHS), ("GET", "/nothing"), ("POST", "/")])
def test_every_answer_may_load_and_frame_nothing_and_is_not_kept(server: WebServer, method: str, path: str) -> None:
    headers = ask(server, path, method)[0].headers
    assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"
    assert "Python" not in headers["Server"]


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"<script>alert(1)</script>", 400),
        (b"GET / HTTP/<script>", 400),
        (b"GET / HTTP/9.9", 505),
        (b"GET /" + b"a" * MOST_HEAD_BYTES, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 65_533, 431),
        (b"GET / HTTP/1.1" + b"\r\nX: " * 200, 431),
    ],
)
def test_garbage_is_refused_without_being_repeated(server: WebServer, request_line: bytes, status: int) -> None:
    with connect(server) as client:
        client.sendall(request_line + b"\r\n\r\n")
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 %d " % status)
    assert b"script>" not in answer
    assert health(server)[0] == 200


def test_head_of_the_greatest_size_is_read(server: WebServer) -> None:
    begin, end = b"GET /livez HTTP/1.1\r\nX: ", b"\r\n\r\n"
    with connect(server) as client:
        client.sendall(begin + b"a" * (MOST_HEAD_BYTES - len(begin + end)) + end)
        assert client.makefile("rb").read().startswith(b"HTTP/1.0 200 ")


def answered(server: WebServer, *lines: str) -> bytes:
    """What a request with these header lines is answered with."""
    with connect(server) as client:
        client.sendall("\r\n".join(["GET /livez HTTP/1.1", *lines, "", ""]).encode())
        return client.makefile("rb").read()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "10.1.2.3", "localhost", "LocalHost:80", "localhost."),
        *(socket.gethostname(), f"{socket.gethostname()}:8000", "watch.example.org", "Watch.Example.org:443"),
    ],
)
def test_host_that_is_an_address_or_a_known_name_is_answered(server: WebServer, host: str) -> None:
    assert answered(server, f"Host: {host}").startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize(
    "lines",
    [
        *(["Host: evil.example"], ["Host: evil.example:8000"], ["Host: localhost.evil.example"], ["Host: 127.0.0.1.nip.io"]),
        *(["Host: "], ["Host: ::1"], ["Host: [evil.example]"], ["Host: localhost", "Host: evil.example"]),
    ],
)
def test_other_hosts_are_400_so_that_no_web_site_reads_this_through_a_browser(server: WebServer, lines: list[str]) -> None:
    answer = answered(server, *lines)
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert answer.endswith(b": the page is not known by this name: METRICS_HOSTS names those by which it is asked for\n")
    assert b"evil" not in answer


def test_request_without_a_host_is_no_browser_s_and_is_answered(server: WebServer) -> None:
    assert answered(server).startswith(b"HTTP/1.0 200 ")


def test_requests_leave_no_line_in_the_log(
    server: WebServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for path in (*PATHS, "/nothing"):
        ask(server, path)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_error_in_an_answer_is_500_and_one_line_and_the_next_answer_is_right(
    server: WebServer, state: BrokenState, caplog: pytest.LogCaptureFixture
) -> None:
    state.broken = True
    response, body = ask(server, "/healthz")
    state.broken = False
    assert (response.status, body) == (500, b"500 Internal Server Error\n")
    assert [record.getMessage() for record in caplog.records] == ["request could not be answered path='/healthz'"]
    assert health(server)[0] == 200


def test_clients_that_hang_keep_nobody_out(server: WebServer) -> None:
    with contextlib.ExitStack() as clients:
        hanging = [clients.enter_context(connect(server)) for _ in range(MOST_CONNECTIONS + 8)]
        for client in hanging[::2]:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert health(server)[0] == 200
        # the oldest was cut off, and not by its timeout of 10 s
        hanging[0].settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert hanging[0].recv(100) == b""
        web_threads = [each for each in threading.enumerate() if "process_request_thread" in each.name]
        assert len(web_threads) <= MOST_CONNECTIONS + 10


def test_clients_that_go_away_in_the_middle_leave_no_trace(
    server: WebServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    for sent in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 999\r\n\r\n"):
        client = connect(server)
        client.sendall(sent)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        client.close()
    assert health(server)[0] == 200
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_body_that_never_comes_does_not_delay_the_answer(server: WebServer) -> None:
    with connect(server) as client:
        client.settimeout(5)
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 405 ")


def test_many_at_once_are_all_answered(server: WebServer) -> None:
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(ask(server, "/metrics")[0].status)) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert statuses == [200] * 20


def test_port_that_is_taken_is_a_configuration_error(server: WebServer, state: CollectorState, stop: Stop) -> None:
    with pytest.raises(ConfigurationError, match=rf"^METRICS_PORT {server.port} is taken on 127\.0\.0\.1"):
        WebServer("127.0.0.1", server.port, state, Counters(), stop)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "a" * 70 + ".invalid"])
def test_host_that_is_not_ours_is_a_configuration_error(state: CollectorState, stop: Stop, host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^METRICS_HOST .* is not an address of this machine"):
        WebServer(host, 0, state, Counters(), stop)


def test_closed_server_gives_its_port_back_at_once(state: CollectorState, stop: Stop) -> None:
    first = WebServer("127.0.0.1", 0, state, Counters(), stop)
    port = first.port
    health(first)
    first.close()
    first.close()
    second = WebServer("127.0.0.1", port, state, Counters(), stop)
    assert health(second)[0] == 200
    second.close()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_ipv6_address_is_listened_on(state: CollectorState, stop: Stop) -> None:
    server = WebServer("::1", 0, state, Counters(), stop)
    with socket.create_connection(("::1", server.port), timeout=10) as client:
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 200 ")
    server.close()
