"""Looks host names up: once for all threads, and kept, so that a name server that is slow or away holds up nobody."""

import socket
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

KEPT_S = 60.0
"""What a name stands for is looked up again after so long, and as soon as none of its addresses takes a connection."""
PATIENCE_S = 2.0
"""A lookup that takes longer, like one that fails, leaves in use what was known before, for another `KEPT_S`."""

Address = tuple[socket.AddressFamily, socket.SocketKind, int, Any]
"""Family, kind, protocol and address, as a socket takes them."""
Found = Future[list[Address]]


@dataclass(slots=True)
class _Host:
    addresses: list[Address]
    """As they were last looked up; none: not yet."""
    good_until: float = 0.0
    lookup: Found | None = None
    """Under way."""


class HostNames:
    """The addresses of hosts and ports, for any number of threads."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, int], _Host] = {}
        self._lock = threading.Lock()

    def addresses(self, host: str, port: int, deadline: float) -> list[Address]:
        """At least one, the one that answered last before the others.

        Raises OSError, and TimeoutError at the monotonic `deadline`, for a host that was never looked up with success.
        """
        with self._lock:
            known = self._hosts.setdefault((host, port), _Host([]))
            if time.monotonic() < known.good_until:
                return known.addresses
            lookup = known.lookup
            if lookup is None:
                lookup = Found()
                # a thread, since nothing else ends the wait for a name server
                threading.Thread(target=self._look_up, args=(host, port, lookup), name="lookup", daemon=True).start()
                known.lookup = lookup  # no sooner: a thread that cannot be started would be waited for, for ever
            before = known.addresses
        left_s = deadline - time.monotonic()
        try:
            return lookup.result(max(0.0, min(left_s, PATIENCE_S) if before else left_s))
        except OSError:
            if not before:
                raise
            with self._lock:  # else each new connection would wait for the name server anew
                known.good_until = max(known.good_until, time.monotonic() + KEPT_S)
            return before

    def answered(self, host: str, port: int, address: Address) -> None:
        """This one is the first from now on."""
        with self._lock:
            known = self._hosts[host, port]
            known.addresses = sorted(known.addresses, key=lambda each: each != address)

    def failed(self, host: str, port: int) -> None:
        """None of them took a connection: look again the next time."""
        with self._lock:
            self._hosts[host, port].good_until = 0.0

    def _look_up(self, host: str, port: int, lookup: Found) -> None:
        error: OSError = OSError("host has no address")
        found: list[Address] = []
        try:
            answer = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
            found = [(family, kind, protocol, address) for family, kind, protocol, _, address in answer]
        except OSError as unknown:
            error = unknown
        except ValueError:  # a label that is too long, say
            error = OSError("host name cannot be looked up")
        with self._lock:
            known = self._hosts[host, port]
            known.lookup = None
            if found:
                first = known.addresses[:1]
                known.addresses = found = sorted(found, key=lambda each: each not in first)
                known.good_until = time.monotonic() + KEPT_S
        if found:
            lookup.set_result(found)
        else:
            lookup.set_exception(error)
