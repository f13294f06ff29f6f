"""Clients of the page that mean harm: none makes the collector grow, keeps others out or stays for ever."""

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.core.counters import Counters
from collector.core.shutdown import Stop
from collector.watch import server as web
from collector.watch.server import MOST_CONNECTIONS, WebServer
from collector.watch.state import CollectorState

TOP = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from collector.core.counters import Counters
from collector.core.shutdown import Stop
from collector.watch.server import WebServer
from collector.watch.state import CollectorState
server = WebServer("127.0.0.1", 0, CollectorState({}, 900), Counters(), Stop())
print(server.port, flush=True)
sys.stdin.read()
"""
MOST_GROWTH_KB = 20_000
"""Found: under 2,000; a server that reads whole heads grows by 40,000 and more."""


@pytest.fixture
def alone() -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port and its process id."""
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=TOP, text=True) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline()), child.pid
        child.communicate("")


def memory_kb(pid: int, what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"))
    assert found
    return int(found[1])


def status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().status


def send_all(port: int, text: bytes) -> None:
    """Send as much of it as the server takes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client, contextlib.suppress(OSError):
        client.sendall(text)
        client.recv(1000)


HUGE_HEADERS = b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 65_000) for number in range(98))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HUGE_HEADERS, id="98 headers of 65 kB"),
        pytest.param(b"GET /" + b"a" * 6_000_000, id="a path of 6 MB"),
        pytest.param(b"a" * 6_000_000, id="no line at all"),
        pytest.param(b"\n" * 6_000_000, id="empty lines"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 6000000\r\n\r\n" + b"a" * 6_000_000, id="a body of 6 MB"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 1_500_000, id="1.5 million headers"),
    ],
)
def test_many_clients_that_send_a_lot_do_not_make_it_grow(alone: tuple[int, int], text: bytes) -> None:
    port, pid = alone
    assert status(port) == 200
    before_kb = memory_kb(pid, "VmRSS")
    clients = [threading.Thread(target=send_all, args=(port, text)) for _ in range(2 * MOST_CONNECTIONS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join(30)
    assert status(port) == 200
    assert memory_kb(pid, "VmHWM") - before_kb < MOST_GROWTH_KB, memory_kb(pid, "VmHWM") - before_kb


def test_connections_beyond_the_greatest_number_do_not_become_threads(alone: tuple[int, int]) -> None:
    port, pid = alone
    assert status(port) == 200
    with contextlib.ExitStack() as clients:
        for _ in range(6 * MOST_CONNECTIONS):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            clients.enter_context(client)
            assert len(list(Path(f"/proc/{pid}/task").iterdir())) <= 2 * MOST_CONNECTIONS + 4
        assert status(port) == 200


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: ", b""])
def test_head_that_drips_is_cut_off_after_its_time(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """A time-out of each receive alone would let a client stay that sends a byte now and then."""
    monkeypatch.setattr(web, "CLIENT_TIMEOUT_S", 1.0)
    server = WebServer("127.0.0.1", 0, CollectorState({}, 900), Counters(), Stop())
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client, contextlib.suppress(OSError):
        client.sendall(head)
        while time.monotonic() - began < 10:
            client.sendall(b"a")
            time.sleep(0.1)
    assert time.monotonic() - began < 3
    server.close()


def test_answer_that_is_not_taken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "CLIENT_TIMEOUT_S", 0.5)
    monkeypatch.setattr(web.Site, "answer", lambda *_: web.Reply(200, "text/plain", b"a" * 50_000_000))
    server = WebServer("127.0.0.1", 0, CollectorState({}, 900), Counters(), Stop())
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 200 ")
        until = time.monotonic() + 5
        while any("process_request_thread" in each.name for each in threading.enumerate()) and time.monotonic() < until:
            time.sleep(0.05)
        assert time.monotonic() < until
    server.close()
