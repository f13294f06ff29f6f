"""A raw AMQP server that does with each connection exactly what a script says: steps of a good broker, and whatever else.

It is no broker: it routes nothing, and confirms what a script lets it confirm. Nothing here needs pytest.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pika.frame
import pika.spec as spec

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
CAPABILITIES = {"publisher_confirms": True, "basic.nack": True, "connection.blocked": True}


class Frame(NamedTuple):
    """A frame as a client sent it."""

    kind: int
    channel: int
    payload: bytes


class Published(NamedTuple):
    """A message that a client published, and its delivery tag."""

    tag: int
    body: bytes


class Peer:
    """One client's connection, as a script sees it. A method named after a step does that step as a good broker does."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._stream = sock.makefile("rb")

    def send(self, content: bytes) -> None:
        """Send raw bytes."""
        self.sock.sendall(content)

    def flood(self, content: bytes) -> None:
        """Send this for ever, until the client closes the connection."""
        while True:
            self.send(content)

    def method(self, method: Any, channel: int = 1) -> None:
        """Send a method frame."""
        self.send(pika.frame.Method(channel, method).marshal())

    def frame(self, kind: int, payload: bytes, channel: int = 1) -> None:
        """Send a frame of this kind."""
        self.send(struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce")

    def read(self) -> Frame:
        """The client's next frame. Raises EOFError when there is none."""
        head = self._stream.read(7)
        if len(head) < 7:
            raise EOFError
        kind, channel, size = struct.unpack(">BHI", head)
        return Frame(kind, channel, self._stream.read(size + 1)[:-1])

    def await_method(self, wanted: type) -> Any:
        """Read up to a method of this class. A client that closes is answered; raises EOFError when it is the connection."""
        while True:
            frame = self.read()
            if frame.kind != METHOD:
                continue
            method = spec.methods[struct.unpack(">I", frame.payload[:4])[0]]()
            method.decode(frame.payload, 4)
            if isinstance(method, wanted):
                return method
            if isinstance(method, spec.Channel.Close):
                self.method(spec.Channel.CloseOk(), frame.channel)
            elif isinstance(method, spec.Connection.Close):
                self.method(spec.Connection.CloseOk(), 0)
                raise EOFError

    def hear_header(self) -> None:
        """What every client begins with."""
        if len(self._stream.read(8)) < 8:
            raise EOFError

    def start(self, properties: dict[str, Any] | None = None, mechanisms: str = "PLAIN") -> None:
        """Greet, and hear the login."""
        self.hear_header()
        greeting = {"capabilities": CAPABILITIES} if properties is None else properties
        self.method(spec.Connection.Start(server_properties=greeting, mechanisms=mechanisms), 0)
        self.await_method(spec.Connection.StartOk)

    def tune(self, channel_max: int = 2047, frame_max: int = 131_072, heartbeat: int = 60) -> None:
        """Agree on sizes, and hear which vhost is wanted."""
        self.method(spec.Connection.Tune(channel_max, frame_max, heartbeat), 0)
        self.await_method(spec.Connection.Open)

    def open_connection(self, properties: dict[str, Any] | None = None) -> None:
        """All of the login."""
        self.start(properties)
        self.tune()
        self.method(spec.Connection.OpenOk(), 0)

    def open_channel(self) -> None:
        """A channel with confirms, on which the exchange is found."""
        self.await_method(spec.Channel.Open)
        self.method(spec.Channel.OpenOk())
        self.await_method(spec.Confirm.Select)
        self.method(spec.Confirm.SelectOk())
        self.await_method(spec.Exchange.Declare)
        self.method(spec.Exchange.DeclareOk())

    def be_ready(self) -> None:
        """All that comes before publishing."""
        self.open_connection()
        self.open_channel()

    def published(self) -> Iterator[Published]:
        """What the client publishes on one channel, message by message."""
        tag = 0
        while True:
            self.await_method(spec.Basic.Publish)
            size = struct.unpack(">Q", self.read().payload[4:12])[0]
            body = b""
            while len(body) < size:
                body += self.read().payload
            tag += 1
            yield Published(tag, body)

    def confirm_all(self) -> None:
        """Confirm what is published, for ever."""
        for message in self.published():
            self.method(spec.Basic.Ack(message.tag))

    def close_channel(self, code: int, text: str = "refused") -> None:
        """Close the channel, and hear that the client has understood."""
        self.method(spec.Channel.Close(code, text, 60, 40))
        self.await_method(spec.Channel.CloseOk)


Script = Callable[[Peer], None]


class RogueBroker:
    """Listens on loopback; each connection has a thread that runs the script, and is closed when that ends."""

    host = "127.0.0.1"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> "RogueBroker":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        self.hang_up()
        for thread in self._threads:
            thread.join(5)

    def hang_up(self) -> None:
        """Close all connections from this side."""
        for sock in list(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        peer = Peer(sock)
        try:
            self.script(peer)
        except (OSError, EOFError, struct.error):
            pass  # the client has gone
        finally:
            peer._stream.close()
            sock.close()
            self._open.discard(sock)
