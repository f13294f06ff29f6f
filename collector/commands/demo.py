"""`demo`: the collector at work on embedded parts. A simulated source on loopback, the table in a file that is thrown away,
messages on the screen and the page in a browser; no server, no environment, no `.env`."""

import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from collector.commands import signals, wiring
from collector.commands.run import Daemon
from collector.config.configuration import Config
from collector.core.counters import Count
from collector.core.shutdown import Stop
from collector.core.text import counted
from collector.source.simulated.netbeam import SimulatedNetbeam
from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.server import SimulatedServer
from collector.source.simulated.stardust_server import SimulatedStardust
from collector.watch.format import duration
from collector.watch.state import Identity

POLL_S = 5
"""Short, so that there is something to see."""
MINUTE_S = 60
SPEED = MINUTE_S // POLL_S
"""The network lives so many times quicker than the clock: each cycle has the points of one more minute."""
AGO_S = 86_400
"""It starts a day ago, and so stays in the past for two hours."""
LOOKBACK_S = 300
"""What a new interface starts with: some 10 points of each record type."""
HEAD_START_S = 0.5
"""The first cycle begins so long after a multiple of POLL_S: the second one follows almost POLL_S later."""
LOOPBACK = "127.0.0.1"
SERVERS: dict[str, type[SimulatedServer]] = {"netbeam": SimulatedNetbeam, "stardust": SimulatedStardust}


class DemoClock:
    """Two clocks that begin now: by `now` the network lives and is collected, by `schedule` cycles start.

    The network's begins in the middle of a minute, so that each cycle, early or late by a second or two, meets a new one.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._began = monotonic()
        self._first = (wall() - AGO_S) // MINUTE_S * MINUTE_S + MINUTE_S / 2

    def now(self) -> float:
        """The network's time."""
        return self._first + SPEED * (self._monotonic() - self._began)

    def schedule(self) -> float:
        """Goes as fast as the clock on the wall, and begins just after a multiple of POLL_S."""
        return 1e9 + HEAD_START_S + self._monotonic() - self._began


def demo(*, interfaces: int, cycles: int | None = None, as_json: bool = False, source: str = "netbeam") -> int:
    """Collect from a simulated network of so many interfaces, for so many cycles or until a signal; the exit code."""
    os.environ["NO_PROXY"] = "*"  # what is asked is on this machine
    stop, clock = Stop(), DemoClock()
    signals.install(stop)
    if not as_json:
        logging.getLogger().setLevel(logging.WARNING)  # the page shows the cycles
    network = SimulatedNetwork.synthetic(interfaces)
    began = time.monotonic()
    with (
        socket.socket() as reserved,
        SERVERS[source](network, clock=lambda: int(clock.now() * 1000)) as simulation,
        tempfile.TemporaryDirectory(prefix="esnet-collector-") as folder,
    ):
        # bound and not listening: nobody else is given the port, and the page can have it
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((LOOPBACK, 0))
        port = reserved.getsockname()[1]
        config = _config(source, simulation.url, port)
        _say_what_comes(len(network.resources), cycles, port)
        table = str(Path(folder, "esnet_interfaces.sqlite"))
        systems = wiring.systems(config, sqlite=table, stop=stop, compact=not as_json)
        shown = Identity(source=f"a simulated {systems.source.name}", database="an SQLite file", exchange="the screen")
        daemon = Daemon(config, systems, shown, cycles=cycles, wall=clock.schedule, now=clock.now)
        code = daemon.serve()
    points, announced = (systems.counters.get(each) for each in (Count.POINTS_CONFIRMED, Count.INTERFACES_CONFIRMED))
    took = f"{counted(daemon.done, 'cycle')} and {duration(time.monotonic() - began)}"
    _say(f"{counted(points, 'point')} and {counted(announced, 'interface message')} in {took}. The real thing: check, then run.")
    return code


def _config(source: str, url: str, port: int) -> Config:
    return Config.from_mapping(
        {
            "SOURCE": source,
            f"{source.upper()}_URL": url,
            "POLL_INTERVAL": str(POLL_S),
            "SETTLE_DELAY": "0",
            "INITIAL_LOOKBACK": str(LOOKBACK_S),
            "METRICS_HOST": LOOPBACK,
            "METRICS_PORT": str(port),
        },
        without={"rmq", "mysql"},
    )


def _say_what_comes(interfaces: int, cycles: int | None, port: int) -> None:
    ends = "Ctrl-C ends it." if cycles is None else f"It ends after {counted(cycles, 'cycle')}, or at Ctrl-C."
    _say(
        f"{counted(interfaces, 'simulated interface')}, a cycle every {POLL_S} s: each line is a message of the bus,"
        f" from a network that lives {SPEED} times quicker than the clock.",
        f"The page: http://{LOOPBACK}:{port}/   {ends}",
    )


def _say(*lines: str) -> None:
    """For the person: on stderr, since stdout is for the messages."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)
