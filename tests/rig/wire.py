"""The way from one collector to a server on loopback: every byte goes through it, until it is cut without a word."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

CHUNK = 1 << 16

Watch = Callable[[bytes], bool]
"""Sees each piece of what the client sends before it is passed on; True: pass it on, and let the answer to it be lost."""


def pass_on(_: bytes) -> bool:
    """Everything as it comes."""
    return False


class Wire:
    """A TCP proxy to `port`. While it is cut, connections stay open and nothing arrives, in either direction.

    `target` may be changed at any time: new connections go there, as when a name leads to another server.
    """

    def __init__(self, port: int) -> None:
        self.watch: Watch = pass_on
        """May be replaced at any time; runs in the proxy's own threads."""
        self.target = port
        self._cut = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def cut(self) -> None:
        """Drop everything from now on, and never answer who connects."""
        self._cut.set()

    def mend(self) -> None:
        """Let new connections through again; what was open while it was cut stays dead."""
        self._cut.clear()

    def close(self) -> None:
        """End it, and with it every connection."""
        for each in (self._listener, *self._sockets):
            _close(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if self._cut.is_set():
                    continue  # the kernel has accepted it; nobody will ever say anything
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    _close(client)
                    continue
                self._sockets.append(server)
                lost = threading.Event()
                for ends in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._carry, args=(*ends, lost), name="wire", daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, outward: bool, lost: threading.Event) -> None:
        dead = False
        with suppress(OSError):
            while piece := source.recv(CHUNK):
                dead = dead or self._cut.is_set()
                if dead:
                    continue
                if outward and self.watch(piece):
                    lost.set()
                elif not outward and lost.is_set():
                    break
                target.sendall(piece)
        if not (dead or self._cut.is_set()):
            _close(source)
            _close(target)


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
