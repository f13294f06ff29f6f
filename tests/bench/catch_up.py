"""Catching up after a day away, the full list: how fast for some minutes, and by arithmetic how long in all."""

import time

from tests.bench.results import Results
from tests.bench.stage import Stage, fill, settled_ms

DAY_MS = 86_400_000
RESOLUTION_S = 30
POLL_S = 60
"""Instead of 900 s, so that several cycles begin, each with its listing, while it is measured: the harder case."""
NEAR = 0.8
"""Of the publisher's rate by itself: fetching goes on beside it, on the same two cores."""


def measure(stage: Stage, results: Results, seconds: float) -> None:
    """Let it catch up for so long, and count what arrives."""
    stage.netbeam.tell(talk=True, latency_s=0.05)
    place = stage.place()
    fill(place.table, stage.resources, settled_ms() - DAY_MS)
    listings = stage.netbeam.tell()["listing"]
    with place.emptied() as taken:
        collector = stage.collector(place, "run", POLL_INTERVAL=POLL_S)
        began = time.monotonic()
        while time.monotonic() - began < seconds and collector.running:
            time.sleep(1)
        took = time.monotonic() - began
        collector.terminate()
    listings = stage.netbeam.tell()["listing"] - listings
    rate = taken[0] / took
    fresh = 3 * len(stage.resources) / RESOLUTION_S
    left_s = fresh * DAY_MS / 1000 / (rate - fresh) if rate > fresh else float("inf")
    wanted = results.figures.get("publisher_per_s")
    beside = f", {rate / wanted:.0%} of the publisher by itself" if wanted else ""
    shown = f"{rate:,.0f}/s over {took:.0f} s{beside}; {listings} listings, {took / POLL_S:.0f} due"
    ok = bool(wanted) and rate >= NEAR * (wanted or 0.0) and listings >= took // POLL_S
    bar = f">= {NEAR:.0%} of the publisher's rate, a listing every interval"
    results.add("catching up after a day, full list", bar, shown, ok if wanted else None)
    results.add("until every series' newest window is on the bus", "", f"{left_s / 3600:.1f} h by arithmetic")
    results.note(catch_up_per_s=rate, catch_up_s=left_s)
