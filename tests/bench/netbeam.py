"""The simulated Netbeam of the benchmark, in a process of its own that is told over its standard input how to behave.

One line of JSON in, with any of the keys below; one line of JSON out, with the requests so far and the CPU it has used.

    latency_s   seconds before each answer
    talk        true: interfaces without a speed have points as well, so that every series talks
    first       the listing has only so many interfaces
    ahead_ms    how far its clock is ahead of ours
    wakes       {resource: ms}: silent interfaces that have points from then on
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collector.source.simulated import netbeam
from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.server import wall_ms

TOP = Path(__file__).resolve().parents[2]
LIST = TOP.parent / "shared" / "data" / "esnet-interfaces.csv"
"""ESnet's real list, where it is at hand; else as many invented interfaces of the same shapes."""
COUNT = 10_679
TALKING_MBPS = 1000


def network(limit: int = COUNT) -> SimulatedNetwork:
    """The real list or an invented one, the first `limit` interfaces of it."""
    return SimulatedNetwork.from_csv(LIST, limit=limit) if LIST.exists() else SimulatedNetwork.synthetic(limit)


class SimulatedNetbeam:
    """The process; one user at a time."""

    def __init__(self, interfaces: int) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.bench.netbeam", str(interfaces)]
        self._child = subprocess.Popen(command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()
        assert self._child.stdout is not None
        self.url = self._child.stdout.readline().strip()

    def tell(self, **behaviour: object) -> dict[str, Any]:
        """Have it behave so from now on; returns its figures: listing, points, cpu_s."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with self._lock:
            self._child.stdin.write(json.dumps(behaviour) + "\n")
            self._child.stdin.flush()
            figures: dict[str, Any] = json.loads(self._child.stdout.readline())
        return figures

    def close(self) -> None:
        """End it."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        self._child.wait(10)


class _Stage:
    """The simulation within its process."""

    def __init__(self, interfaces: int) -> None:
        self._network = network(interfaces)
        self._speeds = dict(self._network.speeds)
        self._ahead_ms = 0
        self.simulation = netbeam.SimulatedNetbeam(self._network, clock=lambda: wall_ms() + self._ahead_ms)

    def obey(self, behaviour: Mapping[str, Any]) -> None:
        if "latency_s" in behaviour:
            self.simulation.latency_s = behaviour["latency_s"]
        if "talk" in behaviour:
            silent = TALKING_MBPS if behaviour["talk"] else None
            self._network.speeds = {name: speed or silent for name, speed in self._speeds.items()}
        if "first" in behaviour:
            self._network.absent = frozenset(list(self._speeds)[behaviour["first"] :])
        self._ahead_ms = behaviour.get("ahead_ms", self._ahead_ms)
        self._network.wakes_ms = behaviour.get("wakes", self._network.wakes_ms)
        self._network.encoded_listing(wall_ms())  # now, so that no request waits for it


def main() -> int:
    """Serve until the standard input ends."""
    stage = _Stage(int(sys.argv[1]))
    stage.obey({})
    with stage.simulation as simulation:
        print(simulation.url, flush=True)
        for line in sys.stdin:
            stage.obey(json.loads(line))
            counts = simulation.counts
            figures = {"listing": counts["listing"], "points": counts["points"], "cpu_s": round(time.process_time(), 3)}
            print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
