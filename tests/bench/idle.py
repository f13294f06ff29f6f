"""Requests a cycle once idle series are known, with the real list's silent interfaces; and what becomes of those that wake.

Cycles come at once, one after the other, on a clock that is moved ahead; an interval is a minute and IDLE_BACKOFF four of
them, in the same proportion as 900 s and 3600 s, so that a window holds two points and not thirty.
"""

import json
import time

from collector.core.model import RecordType
from collector.source.simulated.network import SimulatedNetwork
from tests.bench.netbeam import network
from tests.bench.results import Results
from tests.bench.stage import MINUTE_MS, Place, Stage, fill
from tests.bench.stepped import stepped
from tests.rig.bus import QUEUE

LEARNING = 8
"""Cycles until every silent series is known as idle: two change nothing, then every second one, then every fourth."""
COUNTED = 8
AFTER = 4
"""Cycles after those, until every woken series has had its turn."""
WAKING = 40
"""Silent interfaces that begin to talk in the middle of the counted cycles."""
SILENT_MS = 25 * 3_600_000
"""How long the silent ones have had no point: more than LATE_DATA, or else each is asked in every cycle."""
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
    of_silent = f"WHERE name IN ({', '.join(['%s'] * len(silent))})"
    untils = "traffic_until = %s, errors_until = %s, discards_until = %s"
    place.table.sql(f"UPDATE esnet_interfaces SET {untils} {of_silent}", [*[str(start_ms - SILENT_MS)] * 3, *silent])
    wakes_ms = start_ms + (LEARNING + COUNTED // 2) * MINUTE_MS + 30_000
    real.wakes_ms = dict.fromkeys(silent[:: max(1, len(silent) // WAKING)], wakes_ms)
    stage.netbeam.tell(talk=False, latency_s=0, wakes=real.wakes_ms)
    requests: list[int] = []
    heard: _Heard = set()
    with stepped(place, {"NETBEAM_URL": stage.netbeam.url, **SPEEDS}) as step:
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
