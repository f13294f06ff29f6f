"""Requests a cycle once idle series are known, with the real list's silent interfaces; and what becomes of those that wake.

Cycles come at once, one after the other, on a clock that is moved ahead; an interval is a minute and IDLE_BACKOFF four of
them, in the same proportion as 900 s and 3600 s, so that a window holds two points and not thirty.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from collector.commands import wiring
from collector.config.configuration import Config
from collector.core.counters import Counters
from collector.core.model import RecordType
from collector.core.shutdown import Stop
from collector.source.simulated.network import SimulatedNetwork
from tests.bench.netbeam import TOP, network
from tests.bench.results import Results
from tests.bench.stage import MINUTE_MS, SETTINGS, Place, Stage, fill
from tests.rig.bus import QUEUE

LEARNING = 8
"""Cycles until every silent series is known as idle: two change nothing, then every second one, then every fourth."""
COUNTED = 8
AFTER = 4
"""Cycles after those, until every woken series has had its turn."""
WAKING = 40
"""Silent interfaces that begin to talk in the middle of the counted cycles."""
SHARE = 0.68
SPEEDS = {"POLL_INTERVAL": "60", "SETTLE_DELAY": "0", "IDLE_BACKOFF": "240"}
_Heard = set[tuple[str, str, int]]


def measure(stage: Stage, results: Results) -> None:
    """Count the requests, then compare what came of the woken interfaces with what there was."""
    place = stage.place()
    start_ms = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
    fill(place.table, stage.resources, start_ms - MINUTE_MS)
    real = network(len(stage.resources))
    silent = [name for name in real.resources if real.silent(name)]
    wakes_ms = start_ms + (LEARNING + COUNTED // 2) * MINUTE_MS + 30_000
    real.wakes_ms = dict.fromkeys(silent[:: max(1, len(silent) // WAKING)], wakes_ms)
    stage.netbeam.tell(talk=False, latency_s=0, wakes=real.wakes_ms)
    requests: list[int] = []
    heard: _Heard = set()
    with _stepped(place, stage.netbeam.url) as step:
        for number in range(LEARNING + COUNTED + AFTER):
            now_ms = start_ms + number * MINUTE_MS
            before = stage.netbeam.tell(ahead_ms=now_ms + 1000 - time.time_ns() // 1_000_000)["points"]
            step(now_ms)
            requests.append(stage.netbeam.tell()["points"] - before)
            heard |= _heard(place, set(real.wakes_ms)) if now_ms >= wakes_ms else set()
            place.purge()
    stage.netbeam.tell(ahead_ms=0, wakes={})
    counted = requests[LEARNING : LEARNING + COUNTED]
    mean, whole = sum(counted) / COUNTED, 3 * len(stage.resources)
    shown = f"{mean:,.0f}, {mean / whole:.1%} ({min(counted):,} to {max(counted):,}; {len(silent)} silent interfaces)"
    results.add("requests a cycle once idle series are known", f"<= {SHARE:.0%} of {whole:,}", shown, mean <= SHARE * whole)
    missing, expected = _missing(place, heard, real)
    shown = f"{missing} of {expected} missed ({len(real.wakes_ms)} interfaces woken)"
    results.add("points missed when a silent one wakes", "0", shown, not missing and expected > 0)
    results.note(idle_requests=mean, idle_share=mean / whole, woken_missed=missing)


def _heard(place: Place, names: set[str]) -> _Heard:
    heard: _Heard = set()
    for each in place.bus.rabbit.drain(place.bus.vhost, QUEUE):
        message = json.loads(each.body)
        if message.get("recordType") and message["name"] in names:
            heard.add((message["name"], message["recordType"], message["timestamp"]))
    return heard


def _missing(place: Place, heard: _Heard, real: SimulatedNetwork) -> tuple[int, int]:
    """How many of the woken interfaces' points that checkpoints cover are missing on the bus; and how many there are."""
    missing = expected = 0
    for row in place.table.rows():
        for each in RecordType:
            if row.name not in real.wakes_ms:
                continue
            until_ms = int(row.until[each.value] or 0)
            points = real.expected_points(row.name, each, real.wakes_ms[row.name], until_ms)
            expected += len(points)
            missing += sum((row.name, each.value, point[0]) not in heard for point in points)
    return missing, expected


@contextmanager
def _stepped(place: Place, url: str) -> Iterator[Callable[[int], None]]:
    """A collector in a process of its own whose cycles begin when they are told to; yields the function that has one run."""
    settings = {**os.environ, "NETBEAM_URL": url, **place.environment, **SETTINGS, **SPEEDS}
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.bench.idle"]
    with subprocess.Popen(command, cwd=TOP, env=settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        to_child, from_child = child.stdin, child.stdout

        def step(now_ms: int) -> None:
            to_child.write(f"{now_ms}\n")
            to_child.flush()
            if from_child.readline().strip() != "complete":
                raise RuntimeError("a cycle of the idle measure was not complete")

        yield step
        to_child.close()


def main() -> int:
    """Run a cycle at each time that comes over the standard input, and say how it ended."""
    config = Config.from_mapping({name: os.environ[name] for name in os.environ if name.isupper()})
    stop, counters = Stop(), Counters()
    source, store = wiring.source(config, stop, counters), wiring.store(config, None, stop, counters)
    publisher = wiring.publisher(config, False, stop, counters)
    publisher.start()
    store.open()
    store.take_lock(10)
    while not publisher.ready:
        time.sleep(0.01)
    cycle = wiring.cycle(config, source, store, publisher, stop, counters, once=False, patience_s=None, beat=lambda: None)
    for line in sys.stdin:
        print(cycle.run(int(line), math.inf).outcome, flush=True)
    publisher.close(5)
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
