"""A small HTTP server that does with each connection exactly what a test says, and remembers what it was asked."""

import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

DROP = None
"""What a script returns to close the connection, after it has sent whatever it wanted."""


@dataclass(frozen=True)
class Request:
    """A request as it came, and the connection that it came on."""

    line: str
    headers: dict[str, str]
    connection: int
    number: int
    """Counted from 1 on its connection."""
    at: float
    """Monotonic."""
    sock: socket.socket = field(repr=False)
    body: bytes = b""

    @property
    def target(self) -> str:
        """What stands between the method and the version."""
        return self.line.split(" ")[1]

    def reset(self) -> None:
        """Close the connection with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script = Callable[[Request], bytes | None]
Answer = bytes | Script | None


def scripted(*answers: Answer) -> Script:
    """Each answer once, in order, and the last one for ever."""
    left = list(answers)

    def script(request: Request) -> bytes | None:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer(request) if callable(answer) else answer

    return script


def reply(body: bytes | str = b"", status: int = 200, headers: dict[str, str] | None = None) -> bytes:
    """An answer with its length."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"Content-Length": str(len(content)), **(headers or {})}
    head = f"HTTP/1.1 {status} Status\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    return head.encode("latin-1") + content


def json_reply(value: Any, **headers: str) -> bytes:
    """A 200 with this JSON; an underscore in a header's name is a hyphen."""
    return reply(json.dumps(value), headers={name.replace("_", "-"): text for name, text in headers.items()})


def gzip_reply(body: bytes) -> bytes:
    """A 200 with this body compressed."""
    return reply(gzip.compress(body, mtime=0), headers={"Content-Encoding": "gzip"})


class RawServer:
    """Listens on loopback; each connection has a thread that hands its requests to the script, one after the other."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.connections = 0
        self.most_at_once = 0
        self._at_once = 0
        self._context = context
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """The server's address, without a path."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def targets(self) -> list[str]:
        """What was asked for, in order."""
        return [request.target for request in self.requests]

    def __enter__(self) -> "RawServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the listener and every connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close_connections()
        for thread in self._threads:
            thread.join(5)

    def close_connections(self) -> None:
        """Close every connection, idle or not."""
        with self._lock:
            for each in self._open:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    each.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            connection = self.connections
        try:
            if self._context:
                sock = self._context.wrap_socket(sock, server_side=True)
            with self._lock:
                self._open.add(sock)
            number = 0
            with sock, sock.makefile("rb") as stream:
                while request := self._read(sock, stream, connection, number := number + 1):
                    if not self._answer(request):
                        return
        except OSError:
            sock.close()
        finally:
            with self._lock:
                self._open.discard(sock)

    def _read(self, sock: socket.socket, stream: Any, connection: int, number: int) -> Request | None:
        line = stream.readline().decode("latin-1").rstrip("\r\n")
        headers = {}
        while field_line := stream.readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = field_line.partition(": ")
            headers[name.lower()] = value
        body = stream.read(int(headers.get("content-length", 0)))
        return Request(line, headers, connection, number, time.monotonic(), sock, body) if line else None

    def _answer(self, request: Request) -> bool:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self.script(request)
        finally:
            with self._lock:  # before the answer goes out: afterwards the client may ask again at once
                self._at_once -= 1
        if answer is DROP:
            return False
        request.sock.sendall(answer)
        return True
