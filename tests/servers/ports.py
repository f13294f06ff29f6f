"""Ports for servers that are stopped and started again: nobody may be given theirs in between."""

import random
import socket

LOWEST, HIGHEST = 10_000, 32_000
"""Below Linux' range of ephemeral ports, from 32,768, which every connection on this machine draws from."""
_given: set[int] = set()
_draw = random.SystemRandom()


def free_port() -> int:
    """A loopback port that nobody listens on, and that was not given before."""
    while True:
        port = _draw.randint(LOWEST, HIGHEST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
