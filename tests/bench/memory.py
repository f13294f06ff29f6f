"""How much memory the collector takes: with ten days to catch up, and over thirty cycles."""

import re
import time
from pathlib import Path
from statistics import mean

from collector.core.model import GRID_MS
from tests.bench.results import Results
from tests.bench.stage import CYCLE_S, MINUTE_MS, Stage, fill, rewind, settled_ms

BACKLOG_MS = 10 * 86_400_000
BACKLOG_INTERFACES = 100
"""One record type of each: 100 series."""
SMALL_LIST = 100
FIRST, LAST = 3, 30
SMOOTHED = 3
"""Each end is the mean of so many cycles: within a cycle the allocator takes and gives back half a per cent."""
PATIENCE_S = 1200.0


def measure(stage: Stage, results: Results) -> None:
    """Both."""
    stage.netbeam.tell(talk=True, latency_s=0.05, first=BACKLOG_INTERFACES)
    _backlog(stage, results)
    stage.netbeam.tell(talk=True, latency_s=0, first=SMALL_LIST)
    _flatness(stage, results)
    stage.netbeam.tell(first=len(stage.resources))


def _backlog(stage: Stage, results: Results) -> None:
    place = stage.place()
    fill(place.table, stage.resources[:BACKLOG_INTERFACES], settled_ms() - BACKLOG_MS)
    with place.emptied() as taken:
        collector = stage.collector(place, "run", "--once", RECORD_TYPES="traffic")
        if collector.wait(PATIENCE_S):
            raise RuntimeError(f"the backlog was not all collected:\n{collector.tail()}")
    messages = taken[0]
    if messages < BACKLOG_INTERFACES * (BACKLOG_MS // GRID_MS + 1):
        raise RuntimeError(f"only {messages} messages arrived")
    rate = messages / collector.seconds
    shown = f"{collector.peak_mib:.0f} MB ({messages} messages in {collector.seconds:.0f} s, {rate:,.0f}/s)"
    results.add("peak memory, ten-day backlog on 100 series", "<= 120 MB", shown, collector.peak_mib <= 120)
    results.note(backlog_peak_mib=collector.peak_mib, backlog_per_s=rate)


def _flatness(stage: Stage, results: Results) -> None:
    """Checkpoints are set back after each cycle, so that each carries messages though windows end on full minutes."""
    place = stage.place()
    fill(place.table, stage.resources[:SMALL_LIST], _back_ms())
    collector = stage.collector(place, "run", POLL_INTERVAL=1, SETTLE_DELAY=0)
    resident: list[float] = []
    points: list[int] = []
    while len(resident) < LAST:
        collector.wait_for(lambda: len(collector.cycles()) > len(resident), what="the end of a cycle")
        points.append(int(collector.cycles()[-1]["points"]))
        resident.append(_resident_mib(collector.pid))
        rewind(place.table, _back_ms())
    collector.terminate()
    began, ended = mean(resident[FIRST - 1 : FIRST - 1 + SMOOTHED]), mean(resident[LAST - SMOOTHED : LAST])
    growth = ended / began - 1
    busy = sum(count > 0 for count in points[FIRST - 1 :])
    between = f"{began:.1f} to {ended:.1f} MB"
    shown = f"{growth:+.1%} ({between}, {busy} of {LAST - FIRST + 1} cycles with points)"
    results.add(f"memory from cycle {FIRST} to cycle {LAST}, {SMALL_LIST} interfaces", "within 2 %", shown, abs(growth) <= 0.02)
    results.note(flat_growth=growth, small_resident_mib=resident[-1])


def _back_ms() -> int:
    return (time.time_ns() // 1_000_000 - CYCLE_S * 1000) // MINUTE_MS * MINUTE_MS


def _resident_mib(pid: int) -> float:
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else 0.0
