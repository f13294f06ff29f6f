"""What the fault tests share: a rig whose time flies, the end of a fault, the collector's own account of its health, figures."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.inside import HURRIED
from tests.rig import Clock, Collector, Counts, Rig

NewRig = Callable[..., Rig]
FLYING = 60
"""Seconds of Netbeam's time in one second: two new points a series in each cycle."""
DAY_S = 86_400.0
MINUTE_MS = 60_000
PREFIX = "esnet_collector_"


def flying(new_rig: NewRig, count: int = 16, **options: Any) -> Rig:
    """A rig whose Netbeam has new points in every cycle, and in which every series is asked every time.

    Without LATE_DATA a checkpoint shows what was answered, points or not, so that the tests see when all is collected.
    """
    clock = options.pop("clock", None) or Clock(behind_s=DAY_S / 2, rate=FLYING)
    return new_rig(count, clock=clock, **{"IDLE_BACKOFF": 0, "INITIAL_LOOKBACK": 600, "LATE_DATA": 0, **options})


def start(rig: Rig, **settings: str) -> Collector:
    """A hurried collector that has collected everything up to now."""
    merged: dict[str, Any] = {**HURRIED, **settings}
    collector = rig.start("run", **merged)
    wait_for_all(rig, collector)
    return collector


def wait_for_all(rig: Rig, collector: Collector, timeout_s: float = 30.0) -> float:
    """Wait until every series that is active is collected up to what is now the present; the seconds that it took."""
    began, present = time.monotonic(), rig.clock() // MINUTE_MS * MINUTE_MS

    def collected() -> bool:
        checkpoints = rig.checkpoints()
        return bool(checkpoints) and None not in checkpoints and min(int(each or 0) for each in checkpoints) >= present

    collector.wait_for(collected, timeout_s, f"every checkpoint at {present}")
    return time.monotonic() - began


def finish(rig: Rig, collector: Collector, fault: str, times: int, recovered_s: float) -> Counts:
    """End the collector in good order, check the invariant, and print the figures (`pytest -rP` shows them)."""
    assert collector.terminate(8) == 0
    counts = rig.check()
    assert counts.points > 0
    assert counts.beyond == 0, f"confirmed and not written: {counts}"
    print(
        f"| {fault} | {times} | {counts.points} | {counts.duplicates} | {counts.missing} | {recovered_s:.1f} |",
        flush=True,
    )
    return counts


def health(port: int) -> tuple[int, str]:
    """What /healthz says: the status, and its reasons in one line."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return answer.status, "; ".join(json.load(answer)["reasons"])
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "; ".join(json.load(error)["reasons"])


def metric(port: int, name: str) -> float:
    """A sample of /metrics, by its name and labels as they are shown there, or the sum of all labels; 0 where there is none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return sum(
        float(value)
        for sample, _, value in samples
        if sample.removeprefix(PREFIX) == name or sample.startswith(f"{PREFIX}{name}{{")
    )
