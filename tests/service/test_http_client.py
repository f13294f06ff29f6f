"""Requests to a server that does everything wrong."""

import gzip
import itertools
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from collector.core.counters import Count, Counters
from collector.core.errors import AnswerError, UnavailableError
from collector.core.shutdown import Stop
from collector.source.http import client as module
from collector.source.http.body import Limits
from collector.source.http.client import HttpClient, RefusedError
from collector.source.http.route import basic_login
from collector.source.http.turns import NotAskedError
from tests.service.rawserver import DROP, Answer, RawServer, Request, Script, gzip_reply, json_reply, reply, scripted

LIMIT = 1_000_000
LIMITS = Limits(LIMIT)
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Client(HttpClient):
    """With its Stop and its Counters at hand."""

    def __init__(self, url: str, *, concurrency: int = 4, rate: float = 0, timeout_s: float = 5) -> None:
        self.stop, self.counters = Stop(), Counters()
        limits = {"concurrency": concurrency, "rate": rate, "timeout_s": timeout_s}
        super().__init__(url, name="Netbeam", variable="NETBEAM_URL", stop=self.stop, counters=self.counters, **limits)  # type: ignore[arg-type]

    def outcomes(self) -> dict[str, int]:
        return {label: number for (count, label), number in self.counters.counts().items() if count is Count.REQUESTS}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_DELAYS_S", (0.01, 0.02))


@pytest.fixture
def make() -> Iterator[Callable[..., Client]]:
    clients = []

    def build(url: str, **options: float) -> Client:
        clients.append(Client(url, **options))  # type: ignore[arg-type]
        return clients[-1]

    yield build
    for client in clients:
        client.close()


def reset(request: Request) -> bytes | None:
    request.reset()
    return DROP


def cut(request: Request) -> bytes | None:
    request.sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"points": [')
    return DROP


def cut_chunked(request: Request) -> bytes | None:
    request.sock.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"poi\r\n40\r\nnts"')
    return DROP


def cut_head(request: Request) -> bytes | None:
    request.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    return DROP


def drip(head: bytes, drop: bytes) -> Script:
    """A byte every now and then, each well within any timeout of a single read."""

    def script(request: Request) -> bytes | None:
        request.sock.sendall(head)
        for _ in range(500):
            request.sock.sendall(drop)
            time.sleep(0.02)
        return DROP

    return script


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/devices/albq-cr5/interfaces/1%2F1%2F1", "/devices/albq-cr5/interfaces/1%2F1%2F1"),
        ("/a%2Db%2dc%2f%2e%7Ex", "/a%2Db%2dc%2f%2e%7Ex"),
        ("/%2E%2E%2f%2e%2e", "/%2E%2E%2f%2e%2e"),
        ("/a!$&'()*+,;=:@~._-b", "/a!$&'()*+,;=:@~._-b"),
        ('/{"<>\\^`|}', "/%7B%22%3C%3E%5C%5E%60%7C%7D"),
        ("/a//b", "/a//b"),
    ],
)
def test_escapes_arrive_as_they_were_and_what_no_url_can_hold_is_encoded(
    make: Callable[..., Client], path: str, target: str
) -> None:
    with RawServer(scripted(json_reply({}))) as server:
        make(f"{server.url}/api%2Dx/").request(path, "?begin=1&end=2", limits=LIMITS)
    assert server.requests[0].line == f"GET /api%2Dx{target}?begin=1&end=2 HTTP/1.1"


def test_request_names_the_collector_and_sends_the_urls_login_but_never_netrcs(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    netrc = os.path.join(tmp_path, "netrc")
    with open(netrc, "w") as file:
        file.write("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", netrc)
    with RawServer(scripted(json_reply({}))) as server:
        make(server.url).request("/x", limits=LIMITS)
        make(server.url.replace("//", "//me:p%40ss@")).request("/x", limits=LIMITS)
    bare, login = (request.headers for request in server.requests)
    assert bare["host"] == f"127.0.0.1:{server.port}"
    assert bare["user-agent"].startswith("esnet-collector/")
    assert "authorization" not in bare
    assert login["authorization"] == "Basic bWU6cEBzcw=="
    assert login["host"] == bare["host"]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 410])
def test_status_that_will_not_change_fails_at_once_and_no_redirect_is_followed(make: Callable[..., Client], status: int) -> None:
    with RawServer(scripted(reply(status=status, headers={"Location": "/elsewhere"}))) as server:
        client = make(server.url)
        with pytest.raises(AnswerError, match=f"status {status}"):
            client.request("/x", limits=LIMITS)
        assert len(server.requests) == 1
        assert client.outcomes() == {"refused": 1}


def test_post_sends_its_json_and_tells_what_a_refusal_said(make: Callable[..., Client]) -> None:
    with RawServer(scripted(json_reply([1]), reply('{"error": "too many clauses"}', status=400))) as server:
        client = make(f"{server.url}/base")
        headers = basic_login("me", "pä:ss")
        assert client.request("/_search", limits=LIMITS, body=b'{"size":1}', headers=headers).value == [1]
        with pytest.raises(RefusedError, match="status 400") as caught:
            client.request("/_search", limits=LIMITS, body=b"{}")
    assert (caught.value.status, caught.value.text) == (400, '{"error": "too many clauses"}')
    first = server.requests[0]
    assert first.line == "POST /base/_search HTTP/1.1"
    assert first.body == b'{"size":1}'
    assert first.headers["content-type"] == "application/json"
    assert first.headers["content-length"] == "10"
    assert first.headers["authorization"] == "Basic bWU6cMOkOnNz"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(status=302, headers={"Location": "https://login.example/\x1b[2J"}), r"a redirect to https://login.example/\\x1b"),
        (reply(status=404), r"status 404; is NETBEAM_URL right\?"),
        (reply("<!DOCTYPE html><p>Over quota"), "an HTML or XML page in place of JSON: '<!DOCTYPE html><p>Over quota'"),
        (reply("SSH-2.0"), "not JSON at character 0: 'SSH-2.0'"),
    ],
)
def test_what_is_wrong_is_said_so_that_it_can_be_mended(make: Callable[..., Client], answer: bytes, said: str) -> None:
    with RawServer(scripted(answer)) as server, pytest.raises((AnswerError, UnavailableError), match=said):
        make(server.url).request("/x", limits=LIMITS, tries=1)


def test_name_that_is_unknown_is_said_once_with_its_variable(make: Callable[..., Client]) -> None:
    with pytest.raises(UnavailableError) as caught:
        make("http://nosuch.invalid/x").request("/x", limits=LIMITS, tries=1)
    assert str(caught.value).startswith("connection to nosuch.invalid failed: ")
    assert str(caught.value).count("NETBEAM_URL") == 1


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (reply(status=408), "status"),
        (reply(status=429), "status"),
        (reply(status=500), "status"),
        (reply("<html>", status=503), "status"),
        (reply(status=599), "status"),
        (reply("<html>an error page</html>"), "unreadable"),
        (reply(b'{"points": ["\xff"]}'), "unreadable"),
        (reply("[" * 200_000), "unreadable"),
        (reply(b"no gzip", headers={"Content-Encoding": "gzip"}), "unreadable"),
        (reply("{}", headers={"Content-Encoding": "br"}), "unreadable"),
        (cut, "unreadable"),
        (cut_chunked, "unreadable"),
        (cut_head, "unreadable"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + b" " * 2 * LIMIT, "unreadable"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "unreadable"),
        (reply(headers={f"X-{number}": "" for number in range(200)}), "unreadable"),
        (DROP, "connection"),
        (reset, "connection"),
    ],
)
@pytest.mark.usefixtures("quick_retries")
def test_trouble_that_may_pass_is_tried_three_times_in_all(
    make: Callable[..., Client], trouble: Answer, outcome: str
) -> None:
    with RawServer(scripted(trouble, trouble, json_reply([1]))) as server:
        client = make(server.url)
        assert client.request("/x", limits=LIMITS).value == [1]
        assert client.outcomes() == {outcome: 2, "ok": 1}
    with RawServer(scripted(trouble)) as server:
        client = make(server.url)
        with pytest.raises(UnavailableError) as caught:
            client.request("/x", limits=LIMITS)
        assert client.outcomes() == {outcome: 3}
    assert len(str(caught.value).splitlines()) == 1


def test_second_and_third_try_come_after_half_a_second_and_one_and_a_half(make: Callable[..., Client]) -> None:
    with RawServer(scripted(reply(status=500), reply(status=500), json_reply([1]))) as server:
        make(server.url).request("/x", limits=LIMITS)
    first, second, third = (request.at for request in server.requests)
    assert 0.4 <= second - first < 1.1
    assert 1.2 <= third - second < 2.5


@pytest.mark.usefixtures("quick_retries")
def test_refused_connection_is_said_in_one_line_without_the_password(make: Callable[..., Client]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = make(f"http://me:s3cr3t@127.0.0.1:{port}/x")
    with pytest.raises(UnavailableError, match=r"^connection to 127.0.0.1:\d+ failed: Connection refused \(NETBEAM_URL\)$"):
        client.request("/x", limits=LIMITS)
    assert client.outcomes() == {"connection": 3}


@pytest.mark.usefixtures("quick_retries")
def test_another_protocol_s_greeting_names_the_setting_that_leads_there(make: Callable[..., Client]) -> None:
    with RawServer(lambda request: b"J\x00\x00\x00\x0a5.6.51\x00") as server:
        client = make(server.url)
        with pytest.raises(UnavailableError, match=r"^unreadable answer: J\\x00.* \(NETBEAM_URL\)$"):
            client.request("/x", limits=LIMITS)


@pytest.mark.parametrize(
    "script",
    [
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-Slow: x\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"["),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b"["),
    ],
    ids=["status line", "header", "headers", "body", "chunks", "endless body"],
)
def test_answer_that_drips_is_cut_at_the_deadline(make: Callable[..., Client], script: Script) -> None:
    with RawServer(script) as server:
        client = make(server.url, timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"no whole answer within 0\.3 s"):
            client.request("/x", limits=LIMITS, tries=1)
        assert 0.25 < time.monotonic() - began < 2
        assert client.outcomes() == {"timeout": 1}


def test_connect_that_gets_no_answer_is_cut_at_the_deadline(make: Callable[..., Client]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:  # the queue of a listener that accepts nothing; what does not fit gets no answer
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            began = time.monotonic()
            with pytest.raises(UnavailableError, match="no whole answer"):
                make(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.3).request("/x", limits=LIMITS, tries=1)
            assert time.monotonic() - began < 2
        finally:
            for filler in fillers:
                filler.close()


def endless(request: Request) -> bytes | None:
    request.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        request.sock.sendall(b" " * 65_536)


def endless_chunks(request: Request) -> bytes | None:
    request.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        request.sock.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        reply(b" " * (LIMIT + 1)),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        endless,
        endless_chunks,
        gzip_reply(b" " * 20_000_000),
    ],
    ids=["body", "announced", "endless", "endless chunks", "bomb"],
)
def test_body_over_the_limit_fails_at_once(
    make: Callable[..., Client], answer: Answer
) -> None:
    with RawServer(scripted(answer)) as server:
        client = make(server.url)
        with pytest.raises(AnswerError, match="over 1000000 bytes"):
            client.request("/x", limits=LIMITS)
        assert client.outcomes() == {"unreadable": 1}


@pytest.mark.parametrize(
    "answer",
    [
        reply("[1]" + " " * (LIMIT - 3)),
        gzip_reply(b"[1]"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n2;x=y\r\n1]\r\n0\r\nX-Trailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + reply("[1]"),
        reply("[1]", headers={"Transfer-Encoding": "identity"}),
        reply(gzip.compress(b"[") + gzip.compress(b"1]"), headers={"Content-Encoding": "gzip"}),
        b"HTTP/1.1 200\r\ncontent-LENGTH:3\r\n\r\n[1]",
        b"HTTP/1.1 200 OK\nContent-Length: 3\n\n[1]",
    ],
)
def test_body_within_the_limit_is_read_and_the_connection_kept(make: Callable[..., Client], answer: bytes) -> None:
    with RawServer(scripted(answer)) as server:
        client = make(server.url)
        assert [client.request("/x", limits=LIMITS).value for _ in range(3)] == [[1]] * 3
        assert server.connections == 1


@pytest.mark.parametrize("status", [404, 500])
def test_body_of_an_error_keeps_the_connection_when_short_and_is_not_waited_for_when_long(
    make: Callable[..., Client], status: int
) -> None:
    with RawServer(scripted(reply("x" * 5000, status=status))) as server:
        client = make(server.url)
        for _ in range(2):
            with pytest.raises((AnswerError, UnavailableError), match=f"status {status}"):
                client.request("/x", limits=LIMITS, tries=1)
        assert server.connections == 1
    with (
        RawServer(scripted(reply("x" * 5_000_000, status=status))) as server,
        pytest.raises((AnswerError, UnavailableError), match=f"status {status}"),
    ):
        make(server.url).request("/x", limits=LIMITS, tries=1)


def test_connection_that_the_server_closes_after_its_answer_is_not_used_again(make: Callable[..., Client]) -> None:
    answers = [reply("[1]", headers={"Connection": "close"}), b"HTTP/1.0 200 OK\r\n\r\n[1]", b"HTTP/1.1 200 OK\r\n\r\n[1]"]

    def script(request: Request) -> bytes | None:
        request.sock.sendall(answers[request.connection % 3])
        return DROP

    with RawServer(script) as server:
        client = make(server.url)
        assert [client.request("/x", limits=LIMITS).value for _ in range(6)] == [[1]] * 6
        assert server.connections == 6
        assert client.outcomes() == {"ok": 6}


@pytest.mark.parametrize("leave", [DROP, reset])
def test_idle_connection_that_breaks_when_used_again_is_no_failure(
    make: Callable[..., Client], leave: Answer
) -> None:
    def script(request: Request) -> bytes | None:
        if request.number == 1:
            return json_reply([request.connection])
        return leave(request) if callable(leave) else leave

    with RawServer(script) as server:
        client = make(server.url)
        assert [client.request("/x", limits=LIMITS).value for _ in range(4)] == [[1], [2], [3], [4]]
        assert client.outcomes() == {"ok": 4}


def test_idle_connections_that_the_server_closed_are_no_failure(make: Callable[..., Client]) -> None:
    with RawServer(scripted(json_reply([1]))) as server:
        client = make(server.url)
        for _ in range(3):
            client.request("/x", limits=LIMITS)
            server.close_connections()
        assert client.outcomes() == {"ok": 3}


@pytest.mark.usefixtures("quick_retries")
def test_new_connection_that_breaks_is_a_failed_try(make: Callable[..., Client]) -> None:
    with RawServer(scripted(json_reply([1]), DROP)) as server:
        client = make(server.url)
        client.request("/x", limits=LIMITS)
        with pytest.raises(UnavailableError, match="connection to"):
            client.request("/x", limits=LIMITS, tries=2)
        assert client.outcomes() == {"ok": 1, "connection": 2}
        assert len(server.requests) == 1 + 3  # the kept connection, then a new one for each of the two tries


def test_threads_keep_a_connection_each_and_never_have_more_under_way(make: Callable[..., Client]) -> None:
    def script(_: Request) -> bytes:
        time.sleep(0.002)
        return json_reply([1])

    with RawServer(script) as server:
        client = make(server.url, concurrency=12)
        run(24, lambda _: [client.request("/x", limits=LIMITS) for _ in range(20)])
        assert len(server.requests) == 480
        assert server.connections <= 12
        assert server.most_at_once <= 12


def run(threads: int, work: Callable[[int], object]) -> None:
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(30)


LATE_S = 0.1


def test_rate_is_a_hard_limit_for_all_threads_and_all_tries(make: Callable[..., Client], quick_retries: None) -> None:
    with RawServer(scripted(reply(status=500), reply(status=500), json_reply([1]))) as server:
        client = make(server.url, concurrency=8, rate=50)
        run(8, lambda _: [client.request("/x", limits=LIMITS) for _ in range(5)])
    times = [request.at for request in server.requests]
    assert len(times) == 42
    assert times[-1] - times[0] >= 41 / 50 - 0.02
    # ten at a distance of 20 ms each; a busy machine may hand over the first of them late
    assert min(later - at for at, later in zip(times, times[10:], strict=False)) >= 0.2 - LATE_S


@pytest.mark.parametrize("date", [False, True])
def test_retry_after_pauses_every_request(make: Callable[..., Client], quick_retries: None, date: bool) -> None:
    text = formatdate(time.time() + 2, usegmt=True) if date else "1"
    with RawServer(scripted(reply(status=429, headers={"Retry-After": text}), json_reply([1]))) as server:
        client = make(server.url)
        first = threading.Thread(target=client.request, args=("/first",), kwargs={"limits": LIMITS})
        first.start()
        while not client.outcomes():
            time.sleep(0.005)
        client.request("/second", limits=LIMITS)
        first.join(5)
    asked = server.requests
    assert len(asked) == 3
    assert min(asked[1].at, asked[2].at) - asked[0].at >= 0.9
    assert asked[2].at - asked[0].at < 4


@pytest.mark.parametrize("until_s", [60, float("inf")])
def test_retry_after_beyond_the_cycle_ends_it_at_once_and_is_forgotten_in_the_next(
    make: Callable[..., Client], quick_retries: None, until_s: float
) -> None:
    with RawServer(scripted(reply(status=503, headers={"Retry-After": "7200"}), json_reply([1]))) as server:
        client = make(server.url)
        for _ in range(2):
            with pytest.raises(NotAskedError, match="end of the cycle"):
                client.request("/x", limits=LIMITS, until=time.monotonic() + until_s)
        assert len(server.requests) == 1
        client.resume()
        assert client.request("/x", limits=LIMITS, until=time.monotonic() + 5).value == [1]


def test_retry_after_that_begins_while_others_wait_for_the_rate_holds_for_them_too(
    make: Callable[..., Client], quick_retries: None
) -> None:
    with RawServer(scripted(reply(status=429, headers={"Retry-After": "1"}), json_reply([1]))) as server:
        client = make(server.url, concurrency=8, rate=20)
        run(8, lambda _: client.request("/x", limits=LIMITS))
    times = [request.at for request in server.requests]
    assert len(times) == 9
    assert times[1] - times[0] >= 0.9
    assert min(later - at for at, later in itertools.pairwise(times)) >= 0.04


@pytest.mark.parametrize("text", ["soon", "-1", "", "Tue, 99 Nov"])
@pytest.mark.usefixtures("quick_retries")
def test_retry_after_that_is_nonsense_is_ignored(make: Callable[..., Client], text: str) -> None:
    with RawServer(scripted(reply(status=503, headers={"Retry-After": text}), json_reply([1]))) as server:
        assert make(server.url).request("/x", limits=LIMITS).value == [1]


def test_stop_ends_the_wait_for_another_try_and_asks_nothing_more(make: Callable[..., Client]) -> None:
    with RawServer(scripted(reply(status=500))) as server:
        client = make(server.url)
        threading.Timer(0.1, client.stop.set).start()
        began = time.monotonic()
        with pytest.raises(NotAskedError, match="stops"):
            client.request("/x", limits=LIMITS)
        assert time.monotonic() - began < 0.4
        assert len(server.requests) == 1


def test_what_is_in_flight_at_a_stop_is_given_up_after_the_grace(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.core.shutdown.GRACE_S", 0.3)
    with RawServer(drip(b"HTTP/1.1 200 OK\r\n\r\n", b" ")) as server:
        client = make(server.url)
        threading.Timer(0.1, client.stop.set).start()
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            client.request("/x", limits=LIMITS)
        assert 0.35 < time.monotonic() - began < 2


def test_first_of_several_addresses_does_not_use_up_the_time_of_the_others(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_addresses(host: object, port: int, *_: object) -> list[tuple[object, ...]]:
        addresses = [(address, port) for address in ("127.0.0.2", "127.0.0.1")]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    with RawServer(scripted(json_reply([1]))) as server:
        assert make(server.url).request("/x", limits=LIMITS).value == [1]


def test_address_that_answered_is_tried_first_the_next_time(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    class Counted(socket.socket):
        def connect(self, address: Any) -> None:
            tried.append(address[0])
            super().connect(address)

    def two_addresses(host: object, port: int, *_: object) -> list[tuple[object, ...]]:
        addresses = [(address, port) for address in ("127.0.0.2", "127.0.0.1")]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    with RawServer(scripted(reply("[1]", headers={"Connection": "close"}))) as server:
        monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
        monkeypatch.setattr(socket, "socket", Counted)
        client = make(server.url)
        for _ in range(3):
            client.request("/x", limits=LIMITS)
    assert tried == ["127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize(
    "trouble", [cut, endless, reset, reply("[", headers={"Connection": "close"}), gzip_reply(b" " * 2_000_000)]
)
def test_trouble_leaves_the_one_connection_of_the_pool_free(make: Callable[..., Client], trouble: Answer) -> None:
    with RawServer(scripted(trouble, trouble, json_reply([1]))) as server:
        client = make(server.url, concurrency=1)
        for _ in range(2):
            with pytest.raises((AnswerError, UnavailableError)):
                client.request("/x", limits=LIMITS, tries=1)
        assert client.request("/x", limits=LIMITS, tries=1).value == [1]


def test_nothing_stays_open_after_close() -> None:
    def descriptors() -> Counter[str]:
        links = Counter[str]()
        for number in os.listdir("/proc/self/fd"):
            try:
                links[os.readlink(f"/proc/self/fd/{number}").split(":")[0]] += 1
            except OSError:
                continue
        return links

    before = descriptors()["socket"]
    with RawServer(scripted(json_reply([1]), cut, reset, DROP, json_reply([1]))) as server:
        client = Client(server.url)
        for _ in itertools.repeat(None, 4):
            try:
                client.request("/x", limits=LIMITS, tries=1)
            except UnavailableError:
                continue
        client.close()
    assert descriptors()["socket"] == before
