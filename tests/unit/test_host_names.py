"""How host names are looked up: once for all, and never for longer than whoever waits can wait."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from collector.source.http import host_names
from collector.source.http.host_names import Address, HostNames


class NameServer:
    """Stands in for the resolver: answers with `addresses`, fails without any, hangs until `release` while `hangs`."""

    def __init__(self) -> None:
        self.addresses = ["192.0.2.1", "192.0.2.2"]
        self.asked = 0
        self.hangs = False
        self.release = threading.Event()

    def look_up(self, host: str, port: int, *_: object) -> list[tuple[object, ...]]:
        self.asked += 1
        if self.hangs:
            self.release.wait(10)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self.addresses]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.look_up)
    monkeypatch.setattr(host_names, "PATIENCE_S", 0.02)
    yield server
    server.release.set()


@pytest.fixture
def ask() -> Callable[..., list[str]]:
    hosts = HostNames()

    def ask(action: Callable[[HostNames], None] = lambda hosts: None, seconds: float = 5.0) -> list[str]:
        action(hosts)
        return [each[3][0] for each in hosts.addresses("source.test", 80, time.monotonic() + seconds)]

    return ask


def failed(hosts: HostNames) -> None:
    hosts.failed("source.test", 80)


def test_name_is_looked_up_once_for_all_threads(server: NameServer, ask: Callable[..., list[str]]) -> None:
    server.hangs = True
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
        server.release.set()
        assert {tuple(each.result()) for each in answers} == {("192.0.2.1", "192.0.2.2")}
    assert server.asked == 1


def test_name_is_looked_up_again_after_a_while_and_where_no_address_takes_a_connection(
    server: NameServer, ask: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask()
    server.addresses = ["192.0.2.3"]
    assert ask() == ["192.0.2.1", "192.0.2.2"]
    assert ask(failed) == ["192.0.2.3"]
    at = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: at + host_names.KEPT_S)
    server.addresses = ["192.0.2.4"]
    assert ask() == ["192.0.2.4"]


def test_known_addresses_stay_in_use_while_the_name_server_fails(server: NameServer, ask: Callable[..., list[str]]) -> None:
    known, server.addresses = ask(), []
    assert ask(failed) == ask() == known
    assert server.asked == 2


def test_known_addresses_stay_in_use_while_the_name_server_hangs(
    server: NameServer, ask: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, server.hangs = ask(), True
    began = time.monotonic()
    assert ask(failed) == known
    assert time.monotonic() - began < 5
    monkeypatch.setattr(host_names, "PATIENCE_S", 9.0)
    assert ask() == known, "the second one waits no more"
    assert time.monotonic() - began < 5
    assert server.asked == 2


def test_lookup_whose_thread_cannot_be_started_is_made_the_next_time(
    server: NameServer, ask: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        with pytest.raises(RuntimeError):
            ask()
    assert ask(seconds=1) == server.addresses


def test_unknown_host_is_an_error_and_a_name_server_that_hangs_one_at_the_deadline(
    server: NameServer, ask: Callable[..., list[str]]
) -> None:
    server.addresses = []
    with pytest.raises(socket.gaierror):
        ask()
    server.hangs = True
    with pytest.raises(TimeoutError):
        ask(seconds=0.05)


def test_address_that_answered_is_the_first_from_now_on(server: NameServer, ask: Callable[..., list[str]]) -> None:
    ask()
    second: Address = (socket.AF_INET, socket.SOCK_STREAM, 6, ("192.0.2.2", 80))
    assert ask(lambda hosts: hosts.answered("source.test", 80, second)) == ["192.0.2.2", "192.0.2.1"]
    assert ask(failed) == ["192.0.2.2", "192.0.2.1"]


def test_name_that_nobody_can_look_up_is_an_error(ask: Callable[..., list[str]]) -> None:
    with pytest.raises(OSError, match="cannot be looked up"):
        HostNames().addresses("a" * 64 + ".test", 80, time.monotonic() + 5)
