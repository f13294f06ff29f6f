"""A TCP proxy that holds up every byte for a while, in both directions: `python -m tests.bench.proxy HOST PORT DELAY_S`.

Prints its own port on loopback, and serves until its standard input ends.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK = 1 << 16
WAITING = 1024
"""Chunks on their way in one direction, at the most."""


@contextmanager
def delayed(host: str, port: int, delay_s: float) -> Iterator[int]:
    """A proxy in a process of its own; its port."""
    command = [sys.executable, "-m", "tests.bench.proxy", host, str(port), str(delay_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        yield int(child.stdout.readline())
        child.stdin.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass on what comes, each piece `delay_s` after it came; the time between pieces stays what it was."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING)

    async def deliver() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not piece:
                writer.close()
                return
            writer.write(piece)
            await writer.drain()

    delivery = loop.create_task(deliver())
    piece = b"begun"
    while piece:
        try:
            piece = await reader.read(CHUNK)
        except ConnectionError:
            piece = b""
        await pieces.put((loop.time() + delay_s, piece))
    await asyncio.gather(delivery, return_exceptions=True)


async def _serve(host: str, port: int, delay_s: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(_carry(reader, far_writer, delay_s), _carry(far_reader, writer, delay_s))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
