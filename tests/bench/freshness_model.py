"""What a shorter POLL_INTERVAL and SETTLE_DELAY cost, by simulation: no servers, no waiting, the same figures each time.

    python -m tests.bench.freshness_model              the table of docs/scaling.md, in a minute or two
    python -m tests.bench.freshness_model --hours 2    the same in fewer seconds, from fewer points

The cycle is the collector's own, over fakes and a clock that only the simulation moves. A few interfaces stand for ESnet's:
their windows are spread over the time that a cycle takes at ESnet's size, by `tests/capacity.py`. A point is complete
within two minutes after its timestamp, or within five, by chance and each for itself. In order, none is before an older one.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from statistics import median, quantiles

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from collector.core.contracts import Batch, Outcome
from collector.core.model import GRID_MS, RecordType, Window
from collector.source.stardust.groups import Density, Interface, groups
from tests.capacity import STARDUST, Network, Rates, estimate
from tests.fakes import NOW_MS
from tests.world import TRAFFIC, World, behind

LATE_S = 120.0
LATER_S = 300.0
COARSE = 10
"""At half of Stardust's interfaces errors and discards have one point for so many of traffic's: one in 300 s."""
LEAD_S = 900
"""What comes before it is not measured: the first cycles catch up."""
TAIL_S = 3600
"""Nor is what is younger than this at the end: it may yet come."""
COUNTED = 12
"""Cycles whose requests are counted: to make ESnet's queries takes longer than the cycle."""
MARGIN_MS = 3_600_000
"""How long before the first cycle the source has points."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is compared, in seconds."""

    source: str
    poll_s: int
    settle_s: int


SHORT = ((300, 60), (180, 240), (180, 60), (180, 0), (60, 60), (60, 0))
SETTINGS = (
    *(Setting("netbeam", *each) for each in ((900, 900), *SHORT)),
    *(Setting("stardust", *each) for each in ((900, 1800), *SHORT)),
)
"""The defaults first. Cycles begin on the minute and windows end on it: 30 s for SETTLE_DELAY would be the same as 60."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one setting."""

    requests_a_day: float
    """At ESnet's size, where every series talks; with the listing's."""
    each_a_day: float
    """The same for each series."""
    points: int
    duplicates: int
    lost: int
    """Points that are not on the bus though the checkpoint is beyond them: nothing asks for them any more."""
    median_s: float
    """Age of a point when it is confirmed."""
    most_s: float
    """95 % are younger."""

    @property
    def lost_share(self) -> float:
        """Of all points."""
        return self.lost / self.points


class LateSource:
    """Answers with the points that are complete by now, and lets each answer take its part of a cycle."""

    def __init__(self, world: World, setting: Setting, end_ms: int, late_s: float, in_order: bool, cycle_s: float) -> None:
        self._world, self._setting = world, setting
        self._begin_ms = NOW_MS - MARGIN_MS
        steps = (end_ms - self._begin_ms) // GRID_MS
        chance = random.Random(f"{setting} {in_order}")
        self._complete: dict[str, list[float]] = {}
        """When each of an interface's points is complete. A document of Stardust's has those of all its record types."""
        for name in world.source.interfaces:
            times = [self._begin_ms + step * GRID_MS + chance.random() * late_s * 1000 for step in range(steps)]
            self._complete[name] = list(accumulate(times, max)) if in_order else times
        self._step_s = cycle_s / (len(self._complete) * len(RecordType))
        self._coarse = frozenset(list(self._complete)[::2]) if setting.source == "stardust" else frozenset()
        self.density = Density()
        self.asked: dict[str, list[Window]] = {}
        """In the cycle."""

    def exists(self, name: str, record_type: RecordType) -> range:
        """The times of all points of a series."""
        coarse = name in self._coarse and record_type is not RecordType.TRAFFIC
        step_ms = GRID_MS * COARSE if coarse else GRID_MS
        return range(self._begin_ms, self._begin_ms + len(self._complete[name]) * GRID_MS, step_ms)

    def points(self, window: Window) -> list[object]:
        """For FakeSource."""
        self._world.clock.advance(self._step_s)
        now_ms, name = self._world.clock.now_ms, window.series.name
        self.asked.setdefault(name, []).append(window)
        times = self.exists(name, window.series.record_type)
        first = -(-(window.begin_ms - times.start) // times.step)
        last = -(-(window.end_ms - times.start) // times.step)
        wanted = times[max(0, first) : last]
        complete = self._complete[name]
        found: list[object] = [[at, 1, 2] for at in wanted if complete[(at - self._begin_ms) // GRID_MS] <= now_ms]
        self.density.learn(window, len(found))
        return found


def simulate(
    setting: Setting,
    *,
    in_order: bool,
    late_s: float = LATE_S,
    hours: float = 6,
    interfaces: int = 12,
    counted: int = COUNTED,
) -> Found:
    """Run the cycles of so many hours, beside those at the begin and the end that are not measured."""
    network = replace(STARDUST if setting.source == "stardust" else Network(), interval=setting.poll_s)
    begun = dict.fromkeys(RecordType, NOW_MS - MARGIN_MS // 2)
    rows = [replace(row, checkpoints=begun) for row in behind(interfaces)]
    world = World(rows, record_types=tuple(RecordType), poll_s=setting.poll_s, settle_ms=setting.settle_s * 1000)
    end_ms = NOW_MS + round(hours * 3_600_000) + (LEAD_S + TAIL_S) * 1000
    cycle_s = estimate(network, Rates()).cycle_s
    source = LateSource(world, setting, end_ms, late_s, in_order, cycle_s)
    world.source.points = source.points
    ages: dict[tuple[str, str, int], float] = {}
    duplicates = 0

    def confirm(batch: Batch) -> Outcome:
        nonlocal duplicates
        for message in batch.messages if batch.routing_key == TRAFFIC else ():
            body = json.loads(message.body)
            point = body["name"], body["recordType"], body["timestamp"]
            duplicates += point in ages
            ages.setdefault(point, (world.clock.now_ms - body["timestamp"]) / 1000)
        return Outcome.CONFIRMED

    world.publisher.answer = confirm
    requests, cycles = 0, 0
    while world.clock.now_ms < end_ms - setting.poll_s * 1000:
        source.asked.clear()
        world.source.asked.clear()
        world.publisher.batches.clear()
        world.next()
        if world.clock.now_ms >= NOW_MS + LEAD_S * 1000 and cycles < counted:
            cycles += 1
            requests += _requests(source, network, len(world.source.asked), interfaces)
    points = list(_expected(world, source, end_ms))
    measured = sorted(ages[point] for point in points if point in ages)
    untils = {(row.name, each): row.checkpoints[each] for row in world.store.rows.values() for each in RecordType}
    lost = sum(point not in ages and point[2] < untils[point[0], RecordType(point[1])] for point in points)
    requests_a_day = (requests / cycles + max(1, network.pages)) * 86_400 / setting.poll_s
    return Found(
        requests_a_day, requests_a_day / (network.interfaces * network.record_types), len(points), duplicates, lost,
        median_s=median(measured), most_s=quantiles(measured, n=20)[-1],
    )  # fmt: skip


def _expected(world: World, source: LateSource, end_ms: int) -> Iterator[tuple[str, str, int]]:
    begin_ms, end_ms = NOW_MS + LEAD_S * 1000, end_ms - TAIL_S * 1000
    for name in world.source.interfaces:
        for each in RecordType:
            yield from ((name, each.value, at) for at in source.exists(name, each) if begin_ms <= at < end_ms)


def _requests(source: LateSource, network: Network, windows: int, interfaces: int) -> int:
    """Of a cycle at ESnet's size, in which every interface asks for what one of the simulated ones asked for."""
    if network.source == "netbeam":
        return round(windows * network.interfaces / interfaces)
    asked = list(source.asked.items())
    if not asked:
        return 0
    alike = (asked[number % len(asked)] for number in range(round(network.interfaces * len(asked) / interfaces)))
    return sum(1 for _ in groups((Interface(name, windows) for name, windows in alike), source.density))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=6, help="of each setting (default: 6)")
    hours = parser.parse_args().hours
    heads = (
        "source", "`POLL_INTERVAL`", "`SETTLE_DELAY`", "requests a day", "of each series", "median age", "95 % are younger",
        "lost, up to 2 minutes late", "lost, up to 5 minutes late",
    )  # fmt: skip
    print(_line(heads), _line(["---"] * len(heads)), sep="\n", flush=True)
    all_ordered, all_found = list[Found](), list[Found]()
    for setting in SETTINGS:
        ordered = [simulate(setting, in_order=True, late_s=late_s, hours=hours) for late_s in (LATE_S, LATER_S)]
        mixed = [simulate(setting, in_order=False, late_s=late_s, hours=hours) for late_s in (LATE_S, LATER_S)]
        all_ordered += ordered
        all_found += [*ordered, *mixed]
        found = ordered[0]
        print(_line((
            setting.source.capitalize(), setting.poll_s, setting.settle_s, f"{found.requests_a_day:,.0f}",
            f"{found.each_a_day:.1f}" if found.each_a_day < 10 else f"{found.each_a_day:.0f}",
            f"{found.median_s / 60:.1f} min", f"{found.most_s / 60:.1f} min",
            *(f"{each.lost_share:.1%}" if each.lost else "0" for each in mixed),
        )), flush=True)  # fmt: skip
    print(f"\nOf {min(each.points for each in all_found):,} points or more each. ", end="")
    print(f"In order: {sum(each.lost for each in all_ordered)} of {sum(each.points for each in all_ordered):,} lost. ", end="")
    print(f"Twice: {sum(each.duplicates for each in all_found)} of {sum(each.points for each in all_found):,}.")
    return 0


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    raise SystemExit(main())
