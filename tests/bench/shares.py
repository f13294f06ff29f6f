"""What shares bring where the source's latency is the limit: one, two and four collectors with few requests at once each."""

from dataclasses import dataclass

from tests.bench.full_cycle import LATENCY_S, PATIENCE_S
from tests.bench.results import Results
from tests.bench.stage import CYCLE_S, Stage, await_early_minute, fill, settled_ms
from tests.bench.work import POINTS

NUMBERS = (1, 2, 4)
CONCURRENCY = 8
"""Of each collector: 160 requests a second at 50 ms."""
PART = 0.25
"""Of the list: one collector takes some 50 s for it. What the whole list takes is arithmetic."""
BAR = 1.8
"""Two collectors against one."""
START_S = 20.0
"""All of them must have planned before the minute ends, or some windows are a minute longer."""


@dataclass(frozen=True, slots=True)
class Run:
    """One cycle of each share, all at the same time."""

    seconds: float
    """Of the slowest cycle, without the start and the end of its process."""
    cpu_s: float
    """Of all collectors."""
    busiest_cpu_s: float
    peak_mib: float
    messages: int
    broker_cpu_s: float
    netbeam_cpu_s: float

    @property
    def rate(self) -> float:
        """Messages a second that the broker took and confirmed."""
        return self.messages / self.seconds


def measure(stage: Stage, results: Results) -> None:
    """Each number of shares once, on a table whose every series is 15 minutes behind."""
    count = max(1, round(len(stage.resources) * PART))
    stage.netbeam.tell(talk=True, latency_s=LATENCY_S, first=count)
    try:
        runs = {number: _run(stage, number, count) for number in NUMBERS}
    finally:
        stage.netbeam.tell(first=len(stage.resources))
    whole = len(stage.resources) / count
    for number, run in runs.items():
        speed_up = runs[1].seconds / run.seconds
        limit_s = 3 * count / number / CONCURRENCY * LATENCY_S
        shown = (
            f"{run.seconds:.1f} s for {count} interfaces, {run.seconds * whole:.0f} s for all by arithmetic "
            f"(latency alone {limit_s * whole:.0f} s), {speed_up:.2f} times as fast as one"
        )
        demanded, ok = (f">= {BAR} times", speed_up >= BAR) if number == 2 else ("", None)
        what = f"{number} of {number} shares, {CONCURRENCY} requests at once each, {LATENCY_S * 1000:.0f} ms"
        results.add(what, demanded, shown, ok)
        cpu = f"collectors {run.cpu_s:.1f} s (the busiest {run.busiest_cpu_s:.1f} s), broker {run.broker_cpu_s:.1f} s"
        cpu += f", simulated Netbeam {run.netbeam_cpu_s:.1f} s; {run.peak_mib:.0f} MB each at the most"
        results.add(f"CPU of {number} of {number} shares", "", cpu)
        results.add(f"messages that the broker took from {number} of {number} shares", "", f"{run.rate:,.0f}/s")
        figures = {
            "cycle_s": run.seconds * whole, "speed_up": speed_up, "messages_per_s": run.rate, "part_cpu_s": run.cpu_s,
            "part_broker_cpu_s": run.broker_cpu_s,
        }  # fmt: skip
        results.note(**{f"shares_{number}_{name}": value for name, value in figures.items()})


def _run(stage: Stage, number: int, count: int) -> Run:
    place = stage.place()
    await_early_minute(START_S)
    fill(place.table, stage.resources[:count], settled_ms() - CYCLE_S * 1000)
    broker_cpu_s, netbeam_cpu_s = stage.broker_cpu_s(), stage.netbeam.tell()["cpu_s"]
    with place.emptied() as taken:
        settings = {"NETBEAM_CONCURRENCY": CONCURRENCY}
        collectors = [stage.collector(place, "run", "--once", SHARD=f"{each + 1}/{number}", **settings) for each in range(number)]
        for each in collectors:
            if each.wait(PATIENCE_S):
                raise RuntimeError(f"a share left something over:\n{each.tail()}")
    messages = taken[0]
    if messages < count * (3 * POINTS + 1):
        raise RuntimeError(f"only {messages} messages arrived")
    return Run(
        max(float(each.cycles()[-1]["seconds"]) for each in collectors),
        sum(each.cpu_s for each in collectors),
        max(each.cpu_s for each in collectors),
        max(each.peak_mib for each in collectors),
        messages,
        stage.broker_cpu_s() - broker_cpu_s,
        stage.netbeam.tell()["cpu_s"] - netbeam_cpu_s,
    )
