"""A MySQL server that follows a script: it says what no honest server says, and keeps all that the client sends."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Self

OK = b"\x00\x00\x00\x02\x00\x00\x00"
END_OF_ROWS = b"\xfe\x00\x00\x02\x00"
NONCE = b"12345678abcdefghijkl"
SSL, PLUGIN_AUTH = 0x800, 0x80000
CAPABILITIES = 0x0002_A20D | PLUGIN_AUTH  # long passwords, transactions, protocol 4.1, no TLS
WAIT_S = 20.0


def error(text: bytes, number: int = 1105) -> bytes:
    """An error packet."""
    return b"\xff" + struct.pack("<H", number) + b"#HY000" + text


def greeting(plugin: bytes = b"mysql_native_password", tls: bool = False, version: bytes = b"8.0.40") -> bytes:
    """The first packet."""
    capabilities = CAPABILITIES | (SSL if tls else 0)
    low, high = capabilities & 0xFFFF, capabilities >> 16
    return (
        b"\x0a" + version + b"\x00" + struct.pack("<I", 7) + NONCE[:8] + b"\x00"
        + struct.pack("<HBHHB", low, 45, 2, high, 21) + bytes(10) + NONCE[8:] + b"\x00" + plugin + b"\x00"
    )  # fmt: skip


def switch(plugin: bytes, data: bytes = NONCE + b"\x00") -> bytes:
    """Asks for another authentication plugin."""
    return b"\xfe" + plugin + b"\x00" + data


def more(data: bytes) -> bytes:
    """More data for the plugin that is at work."""
    return b"\x01" + data


TEXT, NUMBER = 253, 3


def result(columns: Iterable[bytes], rows: Iterable[Iterable[bytes]], kind: int = TEXT) -> list[bytes]:
    """The packets of an answer with columns of one kind; no value is longer than 250 bytes."""
    names = list(columns)
    described = [b"\x03def\x00\x00\x00" + _text(name) + b"\x00\x0c" + _kind(kind) for name in names]
    found = [b"".join(_text(value) for value in row) for row in rows]
    return [bytes([len(names)]), *described, END_OF_ROWS, *found, END_OF_ROWS]


def _kind(kind: int) -> bytes:
    return struct.pack("<HIBHB", 45, 512, kind, 0, 0) + bytes(2)


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


class Peer:
    """One client, as the script sees it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(WAIT_S)
        self._socket = connection
        self.sequence = 0
        self.heard = bytearray()
        """All that the client has said, out of its TLS where there was one."""

    def say(self, *payloads: bytes) -> None:
        """Send packets."""
        framed = bytearray()
        for payload in payloads:
            framed += struct.pack("<I", len(payload))[:3] + bytes([self.sequence % 256]) + payload
            self.sequence += 1
        self._socket.sendall(framed)

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def hear(self) -> bytes:
        """One packet of the client; raises ConnectionError at its end."""
        header = self._read(4)
        payload = self._read(int.from_bytes(header[:3], "little"))
        self.sequence = header[3] + 1
        return payload

    def hear_the_rest(self) -> None:
        """All that still comes, until the client goes."""
        with suppress(OSError):
            while piece := self._socket.recv(1 << 16):
                self.heard += piece

    def start_tls(self, certificate: str, key: str) -> None:
        """After the client's short packet that asks for it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._socket = context.wrap_socket(self._socket, server_side=True)

    def log_in(self) -> None:
        """As an honest server without TLS does."""
        self.say(greeting())
        self.hear()
        self.say(OK)

    def answer(self, answers: Callable[[bytes], list[bytes] | None]) -> None:
        """Answer each statement; None: it is fine."""
        while True:
            command = self.hear()
            if command[:1] == b"\x01":
                return
            self.say(*(answers(command[1:]) or [OK]))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("the client has gone")
            data += piece
        self.heard += data
        return data

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class RogueMysql:
    """Runs the script for each client that comes, in a thread."""

    def __init__(self, script: Callable[[Peer], None], address: str = "127.0.0.1", port: int = 0) -> None:
        self._script = script
        self._listener = socket.create_server((address, port))
        self.port: int = self._listener.getsockname()[1]
        self.peers: list[Peer] = []
        threading.Thread(target=self._accept, name="rogue-mysql", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self.peers:
            peer.close()

    @property
    def heard(self) -> bytes:
        """All that clients have said."""
        return b"".join(bytes(peer.heard) for peer in self.peers)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                peer = Peer(connection)
                self.peers.append(peer)
                threading.Thread(target=self._serve, args=(peer,), name="rogue-mysql", daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        with suppress(OSError):
            self._script(peer)
        with suppress(OSError):
            peer.hear_the_rest()
        peer.close()
