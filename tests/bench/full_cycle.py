"""A full cycle, every series talking, beside its rivals and over its floor; and what it takes of the database and of memory."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from tests.bench.results import Results
from tests.bench.stage import CYCLE_S, Place, Stage, await_early_minute, fill, run_module, settled_ms
from tests.bench.work import POINTS, requests_of, write_requests

LATENCY_S = 0.05
SERIAL_SHARE = 1 / 96
"""Of a cycle's requests, for one run of a serial rival: what it would take for all is arithmetic."""
FLOOR_SHARE = 1 / 8
PATIENCE_S = 900.0


@dataclass(slots=True)
class Run:
    """One cycle of the collector."""

    seconds: float
    cpu_s: float
    peak_mib: float
    messages: int
    figures: dict[str, str]
    """Of its log line."""
    broker_cpu_s: float

    @property
    def cycle_s(self) -> float:
        """The cycle alone, without the start and the end of the process."""
        return float(self.figures["seconds"])

    @property
    def database_share(self) -> float:
        """Of the cycle."""
        return float(self.figures["database_seconds"]) / self.cycle_s


@dataclass(slots=True)
class Side:
    """The rivals' runs, by kind; each a share of a cycle."""

    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, kind: str, run: dict[str, Any]) -> None:
        """One more."""
        self.runs.setdefault(kind, []).append(run)

    def each(self, kind: str, figure: str, unit: str) -> float:
        """A figure for each window or message, over all runs of that kind."""
        runs = self.runs[kind]
        return float(sum(run[figure] for run in runs) / sum(run[unit] for run in runs))


def run_cycle(stage: Stage, place: Place, emptied: bool = False) -> Run:
    """One `run --once` on a table whose every series is 15 minutes behind, with a queue that grows, or is `emptied`.

    Raises RuntimeError unless all of it got through.
    """
    await_early_minute()
    fill(place.table, stage.resources, settled_ms() - CYCLE_S * 1000)
    broker_cpu_s = stage.broker_cpu_s()
    with place.emptied() if emptied else nullcontext([0]) as taken:
        collector = stage.collector(place, "run", "--once")
        if collector.wait(PATIENCE_S):
            raise RuntimeError(f"the cycle left something over:\n{collector.tail()}")
    broker_cpu_s = stage.broker_cpu_s() - broker_cpu_s
    messages = taken[0] + place.purge()
    if messages < len(stage.resources) * (3 * POINTS + 1):
        raise RuntimeError(f"only {messages} messages arrived")
    return Run(collector.seconds, collector.cpu_s, collector.peak_mib, messages, collector.cycles()[-1], broker_cpu_s)


def measure(stage: Stage, results: Results, rounds: int, rival_python: str | None) -> None:
    """Floor, rivals and collector by turns; ratios are made of sums over all rounds, so that a slow minute is in each."""
    side, runs = Side(), []
    for number in range(rounds):
        place = stage.place()
        _run_floor(stage, place, side, number)
        _run_rivals(stage, place, side, number, rival_python)
        runs.append(run_cycle(stage, stage.place(), emptied=True))
    growing, durable = run_cycle(stage, stage.place()), run_cycle(stage, stage.place(durable=True))
    _report_cycle(results, runs, growing, durable, side, 3 * len(stage.resources))
    _report_shares(results, runs, side, 3 * len(stage.resources))


def _run_floor(stage: Stage, place: Place, side: Side, part: int) -> None:
    # without latency, into a queue that grows: who never sleeps has warm caches, and a slower broker answers for more messages
    # at once, so the floor is as low as it can be
    stage.netbeam.tell(talk=True, latency_s=0)
    requests = requests_of(stage, FLOOR_SHARE, part)
    side.add("get", run_module("tests.bench.rivals", "get", write_requests(stage.directory / "work.json", requests)))
    bare = run_module("tests.bench.publish", "bare", len(requests) * POINTS, settings=place.environment)
    side.add("publish", bare)
    place.purge()


def _run_rivals(stage: Stage, place: Place, side: Side, part: int, rival_python: str | None) -> None:
    stage.netbeam.tell(talk=True, latency_s=LATENCY_S)
    path = write_requests(stage.directory / "work.json", requests_of(stage, SERIAL_SHARE, part))
    with place.emptied():
        for kind in ("forget", "confirm"):
            side.add(kind, run_module("tests.bench.rivals", kind, path, settings=place.environment))
        if rival_python:
            path = write_requests(stage.directory / "work.json", requests_of(stage, FLOOR_SHARE, part))
            side.add("aio", run_module("tests.bench.rival_async", path, 32, python=rival_python, settings=place.environment))


def _report_cycle(results: Results, runs: list[Run], growing: Run, durable: Run, side: Side, windows: int) -> None:
    wall_s, messages = mean(run.seconds for run in runs), runs[0].messages
    serial_s = side.each("forget", "seconds", "windows") * windows
    rate = f"{messages} messages, {messages / wall_s:,.0f}/s"
    results.add("full cycle at 50 ms, all talking, transient queue, emptied", "<= 60 s", f"{wall_s:.1f} s ({rate})", wall_s <= 60)
    results.add("into a transient queue that nobody empties", "", f"{growing.seconds:.1f} s")
    results.add("into a durable queue that nobody empties", "", f"{durable.seconds:.1f} s")
    share = f"measured on {len(side.runs['forget']) * SERIAL_SHARE:.1%} of the requests, the rest by arithmetic"
    speed = 1 / side.each("forget", "seconds", "windows")
    results.add("serial, fire and forget", "", f"{serial_s:.0f} s, {speed:.1f} requests/s ({share})")
    results.add("collector over serial", ">= 25 times", f"{serial_s / wall_s:.1f} times", serial_s / wall_s >= 25)
    confirm_s = side.each("confirm", "seconds", "windows") * windows
    results.add("serial, each message confirmed", "", f"{confirm_s:.0f} s, {confirm_s / wall_s:.1f} times as long ({share})")
    if "aio" in side.runs:
        aio_s, cpu_s = (side.each("aio", figure, "windows") * windows for figure in ("seconds", "cpu_s"))
        peak = max(run["peak_mib"] for run in side.runs["aio"])
        shown = f"{aio_s:.0f} s, CPU {cpu_s:.0f} s, {peak:.0f} MB (on {FLOOR_SHARE:.1%} of the requests a round)"
        results.add("aiohttp with aio-pika, 32 at once, confirms", "", shown)
        results.note(aio_s=aio_s, aio_cpu_s=cpu_s)
    results.note(
        cycle_s=wall_s, cycle_messages=messages, cycle_requests=windows, cycle_points=messages - windows // 3,
        growing_cycle_s=growing.seconds, durable_cycle_s=durable.seconds, serial_s=serial_s, confirm_s=confirm_s,
        cycle_broker_cpu_s=mean(run.broker_cpu_s for run in runs),
    )  # fmt: skip


def _report_shares(results: Results, runs: list[Run], side: Side, windows: int) -> None:
    cpu_s, messages = mean(run.cpu_s for run in runs), runs[0].messages
    get_s = side.each("get", "cpu_s", "windows") * windows
    publish_s = side.each("publish", "cpu_s", "messages") * messages
    over = cpu_s / (get_s + publish_s)
    shown = f"{over:.2f} ({cpu_s:.1f} s over {get_s:.1f} s GET + {publish_s:.1f} s publish)"
    results.add("the collector's CPU over the floor", "<= 0.7", shown, over <= 0.7)
    peak_mib = max(run.peak_mib for run in runs)
    results.add("peak memory, full cycle", "<= 120 MB", f"{peak_mib:.0f} MB", peak_mib <= 120)
    share = mean(run.database_share for run in runs)
    database_s = mean(float(run.figures["database_seconds"]) for run in runs)
    results.add("share of the cycle spent in the database", "<= 2 %", f"{share:.1%} ({database_s:.2f} s)", share <= 0.02)
    results.note(
        cycle_cpu_s=cpu_s, floor_get_cpu_s=get_s, floor_publish_cpu_s=publish_s, cycle_peak_mib=peak_mib,
        cycle_database_s=database_s, cycle_database_share=share,
    )  # fmt: skip
