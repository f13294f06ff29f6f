"""Proxies and TLS, as the environment asks for them."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.core.counters import Counters
from collector.core.errors import UnavailableError
from collector.core.shutdown import Stop
from collector.source.http import client
from collector.source.http.body import Limits
from collector.source.http.client import HttpClient
from tests.service.rawserver import DROP, RawServer, Request, json_reply, reply, scripted

LIMITS = Limits(1_000_000)
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PASSWORD = "s3cr3t-pass"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(client, "RETRY_DELAYS_S", (0.01, 0.02))


def make(url: str, timeout_s: float = 5) -> HttpClient:
    limits = {"concurrency": 2, "rate": 0, "timeout_s": timeout_s}
    return HttpClient(url, name="Netbeam", variable="NETBEAM_URL", stop=Stop(), counters=Counters(), **limits)  # type: ignore[arg-type]


def ask(url: str, times: int = 1) -> object:
    client = make(url)
    try:
        return [client.request("/a%2Db", "?begin=1", limits=LIMITS).value for _ in range(times)][-1]
    finally:
        client.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for 127.0.0.1 that it signed itself, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command + names, check=True, capture_output=True)
    return certificate


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with RawServer(scripted(json_reply(["tls"])), context) as server:
        yield server


def tunnel(request: Request) -> bytes | None:
    """What a proxy does with CONNECT."""
    host, port = request.target.split(":")
    with socket.create_connection((host, int(port))) as target:
        request.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=pump, args=(target, request.sock))
        back.start()
        pump(request.sock, target)
        back.join(5)
    return DROP


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while received := source.recv(65_536):
            sink.sendall(received)
        sink.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_http_goes_through_the_proxy_with_its_escapes_as_they_were(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with RawServer(scripted(json_reply(["proxied"]))) as proxy:
        monkeypatch.setenv(variable, proxy.url.replace("//", f"//me:{PASSWORD}@"))
        assert ask("http://netbeam.invalid/api", times=2) == ["proxied"]
        assert proxy.connections == 1
    request = proxy.requests[0]
    assert request.line == "GET http://netbeam.invalid/api/a%2Db?begin=1 HTTP/1.1"
    assert request.headers["host"] == "netbeam.invalid"
    assert request.headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_https_goes_through_a_tunnel_of_the_proxy(
    monkeypatch: pytest.MonkeyPatch, tls_server: RawServer, certificate: Path, variable: str
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with RawServer(tunnel) as proxy:
        monkeypatch.setenv(variable, proxy.url.replace("//", f"//me:{PASSWORD}@"))
        assert ask(f"{tls_server.url}/api", times=2) == ["tls"]
        assert [request.line.split(" ")[:2] for request in proxy.requests] == [["CONNECT", f"127.0.0.1:{tls_server.port}"]]
    assert "proxy-authorization" in proxy.requests[0].headers
    assert "proxy-authorization" not in tls_server.requests[0].headers
    assert tls_server.requests[0].line == "GET /api/a%2Db?begin=1 HTTP/1.1"


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with RawServer(scripted(reply(status=500))) as proxy, RawServer(scripted(json_reply(["direct"]))) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv(variable, "example.org,127.0.0.1")
        assert ask(server.url) == ["direct"]
        assert not proxy.requests


def test_proxy_that_refuses_is_named_as_the_cause_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tls_server: RawServer
) -> None:
    with RawServer(scripted(reply(status=407))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", f"//me:{PASSWORD}@"))
        with pytest.raises(UnavailableError, match=r"^connection through the proxy of HTTPS_PROXY failed: .*407") as caught:
            ask(tls_server.url)
    assert PASSWORD not in str(caught.value)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}")
    with pytest.raises(UnavailableError, match=r"^connection through the proxy of HTTPS_PROXY failed: Connection refused$"):
        ask(tls_server.url)
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}")
    with pytest.raises(UnavailableError, match=r"^connection through the proxy of HTTP_PROXY failed: Connection refused$"):
        ask("http://netbeam.invalid/api")


def test_peer_whose_certificate_nobody_vouches_for_is_refused(tls_server: RawServer) -> None:
    with pytest.raises(UnavailableError, match=r"^connection to 127.0.0.1:\d+ failed: certificate not verified: self.signed"):
        ask(tls_server.url)
    assert not tls_server.requests


def test_bundle_of_the_environment_vouches_for_the_peer(
    monkeypatch: pytest.MonkeyPatch, tls_server: RawServer, certificate: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert ask(tls_server.url, times=3) == ["tls"]
    assert tls_server.connections == 1


def test_idle_tls_connection_that_was_closed_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tls_server: RawServer, certificate: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    tls_server.script = lambda request: json_reply([1]) if request.number == 1 else DROP
    assert ask(tls_server.url, times=3) == [1]


def test_handshake_that_hangs_is_cut_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        client = make(url, timeout_s=0.3)
        with pytest.raises(UnavailableError, match="no whole answer"):
            client.request("/x", limits=LIMITS, tries=1)
        client.close()
