"""How old a point is when it is on the bus, with short settings at ESnet's size; and what each cycle takes then.

Cycles come at once, one after the other, at times that are an interval apart and all in the past. The age is a message's
timestamp against the time at which the broker had it: the cycle's start and what the cycle had taken by then.
"""

import json
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean, median, quantiles
from typing import Any

from collector.core.model import GRID_MS, RecordType
from tests.bench.full_cycle import LATENCY_S
from tests.bench.results import Results
from tests.bench.stage import MINUTE_MS, Place, Stage, fill
from tests.bench.stardust import QUERY_S
from tests.bench.stardust_server import StardustProcess, talking_network
from tests.bench.stepped import Pass, stepped
from tests.bench.work import TRAFFIC_KEY
from tests.rig.bus import QUEUE

SETTINGS = ((180, 60), (300, 60))
"""POLL_INTERVAL and SETTLE_DELAY, in seconds."""
FRESH_INTERVAL_S = 180
"""The interval that the bar is for."""
BAR_S = 240.0
CYCLES = 4
"""The first one also announces every interface, and is left out of all figures but what is missing."""
LOOK_S = 0.1


@dataclass(slots=True)
class Measured:
    """Of one source and one setting."""

    passes: list[Pass] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    missing: int = 0
    others: int = 0
    """Points that came twice, or that no window has."""


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    resources: Sequence[str]
    settings: Mapping[str, str]
    requests: Callable[[], int]
    """So far."""


def measure(stage: Stage, results: Results) -> None:
    """Netbeam and Stardust, each with all settings."""
    stage.netbeam.tell(talk=True, latency_s=LATENCY_S)
    netbeam = _Source("Netbeam", stage.resources, {"NETBEAM_URL": stage.netbeam.url}, lambda: _count(stage.netbeam.tell()))
    for poll_s, settle_s in SETTINGS:
        _report(results, netbeam.name, poll_s, settle_s, _run(stage, netbeam, poll_s, settle_s, _last_ms()))
    names = tuple(talking_network(len(stage.resources)).resources)
    with StardustProcess(len(names)) as process:
        settings = {"SOURCE": "stardust", "STARDUST_URL": process.url}
        stardust = _Source("Stardust", names, settings, lambda: _count(process.tell()))
        for poll_s, settle_s in SETTINGS:
            last_ms = _last_ms()
            process.tell(latency_s=QUERY_S, keep=[last_ms - (CYCLES * poll_s + settle_s) * 1000, last_ms])
            _report(results, stardust.name, poll_s, settle_s, _run(stage, stardust, poll_s, settle_s, last_ms))


def _last_ms() -> int:
    """When the last cycle begins, by its own account: no later than now."""
    return time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS


def _count(figures: Mapping[str, int]) -> int:
    return figures["listing"] + figures["points"]


def _run(stage: Stage, source: _Source, poll_s: int, settle_s: int, last_ms: int) -> Measured:
    measured, place, poll_ms = Measured(), stage.place(), poll_s * 1000
    fill(place.table, source.resources, last_ms - settle_s * 1000 - CYCLES * poll_ms)
    settings = {**source.settings, "POLL_INTERVAL": str(poll_s), "SETTLE_DELAY": str(settle_s)}
    series = {(name, each.value) for name in source.resources for each in RecordType}
    with stepped(place, settings) as step:
        for number in range(CYCLES):
            now_ms = last_ms - (CYCLES - 1 - number) * poll_ms
            stage.netbeam.tell(ahead_ms=now_ms + 1000 - time.time_ns() // 1_000_000)
            before = source.requests()
            with _lengths(place) as lengths:
                done = step(now_ms)
            requests, end_ms = source.requests() - before, now_ms - settle_s * 1000
            ages_s = _take(place, lengths, now_ms, series, range(end_ms - poll_ms, end_ms, GRID_MS), measured)
            if number:
                measured.passes.append(done)
                measured.requests.append(requests)
                measured.ages_s += ages_s
    stage.netbeam.tell(ahead_ms=0)
    return measured


@contextmanager
def _lengths(place: Place) -> Iterator[list[tuple[int, float]]]:
    """Look at the queue all the time: how many messages were in it, and so many seconds after the begin; complete after it."""
    end, seen = threading.Event(), list[tuple[int, float]]()
    ready = threading.Event()

    def look() -> None:
        with place.bus.rabbit.channel(place.bus.vhost) as channel:
            ready.set()
            began = time.monotonic()
            last = False
            while not last:
                last = end.wait(LOOK_S)
                count = int(channel.queue_declare(QUEUE, passive=True).method.message_count)
                seen.append((count, time.monotonic() - began))

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            ready.wait(10)
            yield seen
        finally:
            end.set()
        looking.result()


def _take(
    place: Place, lengths: list[tuple[int, float]], now_ms: int, series: set[tuple[str, str]], times: range, measured: Measured
) -> list[float]:
    """Empty the queue; the age of each point of a cycle that began at `now_ms`. What is missing or too much is added up."""
    counts = [count for count, _ in lengths]
    heard: set[tuple[str, str, int]] = set()
    ages_s: list[float] = []
    taken = 0

    def take(_channel: object, method: Any, _properties: object, content: bytes) -> None:
        nonlocal taken
        came_s = lengths[min(bisect_right(counts, taken), len(lengths) - 1)][1]
        taken += 1
        if method.routing_key != TRAFFIC_KEY:
            return
        body = json.loads(content)
        name, record_type, at = body["name"], body["recordType"], body["timestamp"]
        if at not in times or (name, record_type) not in series or (name, record_type, at) in heard:
            measured.others += 1
            return
        heard.add((name, record_type, at))
        ages_s.append((now_ms - at) / 1000 + came_s)

    with place.bus.rabbit.channel(place.bus.vhost) as channel:
        channel.basic_consume(QUEUE, take, auto_ack=True)
        while taken < counts[-1]:
            channel.connection.process_data_events(time_limit=1)
    measured.missing += len(series) * len(times) - len(heard)
    return ages_s


def _report(results: Results, source: str, poll_s: int, settle_s: int, measured: Measured) -> None:
    median_s, most_s = median(measured.ages_s), quantiles(measured.ages_s, n=20)[-1]
    cycle_s, cpu_s = mean(each.seconds for each in measured.passes), mean(each.cpu_s for each in measured.passes)
    requests = mean(measured.requests)
    what = f"{source}, POLL_INTERVAL={poll_s} SETTLE_DELAY={settle_s}"
    bar = ("< 4 min", median_s < BAR_S) if poll_s == FRESH_INTERVAL_S else ("", None)
    shown = f"{median_s / 60:.2f} min, 95 % under {most_s / 60:.2f} min"
    results.add(f"median age of a point on the bus: {what}", bar[0], shown, bar[1])
    wrong = measured.missing or measured.others
    results.add(f"missing, and twice or unasked: {what}", "0", f"{measured.missing}, {measured.others}", not wrong)
    results.add(f"a cycle: {what}", "", f"{requests:,.0f} requests, {cycle_s:.1f} s, CPU {cpu_s:.1f} s")
    name = f"fresh_{source.lower()}_{poll_s}"
    results.note(**{
        f"{name}_median_s": median_s, f"{name}_95_s": most_s, f"{name}_requests": requests, f"{name}_cycle_s": cycle_s,
        f"{name}_cpu_s": cpu_s,
    })  # fmt: skip
