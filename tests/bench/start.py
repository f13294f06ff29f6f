"""How soon the first message is on the bus, and what a listing with nothing new costs."""

import json
import os
import sys
import time
from statistics import median

from collector.commands import wiring
from collector.config.configuration import Config
from collector.core.counters import Counters
from collector.core.model import Held
from collector.core.shutdown import Stop
from collector.cycle.reconcile import reconcile
from tests.bench.results import Results
from tests.bench.stage import CYCLE_S, SETTINGS, Place, Stage, fill, run_module, settled_ms
from tests.rig.bus import QUEUE

TIMES = 7
PATIENCE_S = 60.0


def measure(stage: Stage, results: Results) -> None:
    """From an empty table and from one that knows all interfaces; then listing, table and reconciliation by themselves."""
    stage.netbeam.tell(talk=True, latency_s=0.05)
    first = [_first_message_s(stage, stage.place(), known=False) for _ in range(3)]
    again = [_first_message_s(stage, stage.place(), known=True) for _ in range(3)]
    shown = f"{median(first):.2f} s on an empty table, {median(again):.2f} s on a full one"
    results.add("first message after the start", "<= 2 s", shown, max(median(first), median(again)) <= 2)
    place = stage.place()
    fill(place.table, stage.resources, settled_ms())
    settings = {"NETBEAM_URL": stage.netbeam.url, **place.environment, **SETTINGS}
    took = run_module("tests.bench.start", settings=settings)
    whole = took["list_s"] + took["read_s"] + took["reconcile_s"]
    shown = f"{whole:.2f} s (list {took['list_s']:.2f}, read {took['read_s']:.2f}, reconcile {took['reconcile_s']:.3f})"
    results.add("listing and reconciliation of the list, nothing changed", "<= 1 s", shown, whole <= 1)
    results.note(first_message_s=median(first), first_message_again_s=median(again), **took)


def _first_message_s(stage: Stage, place: Place, *, known: bool) -> float:
    """From the start of the program until a consumer has the first message."""
    if known:
        fill(place.table, stage.resources, settled_ms() - CYCLE_S * 1000)
    with place.bus.rabbit.channel(place.bus.vhost) as channel:
        came: list[float] = []
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(QUEUE, lambda *_: came.append(time.monotonic()))
        began = time.monotonic()
        collector = stage.collector(place, "run")
        while not came and time.monotonic() - began < PATIENCE_S:
            channel.connection.process_data_events(time_limit=1)
    collector.terminate()
    if not came:
        raise RuntimeError(f"no message came:\n{collector.tail()}")
    return came[0] - began


def main() -> int:
    """List, read and reconcile, several times, as a cycle does; prints the medians."""
    config = Config.from_mapping(os.environ)
    stop, counters = Stop(), Counters()
    source, store = wiring.source(config, stop, counters), wiring.store(config, None, stop, counters)
    store.open()
    rules = wiring.rules(config)
    took: dict[str, list[float]] = {"list_s": [], "read_s": [], "reconcile_s": []}
    for _ in range(TIMES):
        began = time.monotonic()
        now_ms = time.time_ns() // 1_000_000
        listing = source.list(now_ms)
        listed = time.monotonic()
        table = store.read(now_ms, config.record_types)
        read = time.monotonic()
        changes = reconcile(listing, table, {}, Held(), rules)
        if changes.new or changes.retired:
            raise RuntimeError("something had changed")
        for name, seconds in zip(took, (listed - began, read - listed, time.monotonic() - read), strict=True):
            took[name].append(seconds)
        del listing, table
    store.close()
    print(json.dumps({name: median(seconds) for name, seconds in took.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
