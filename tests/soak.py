"""Everything at once: a schedule of random faults of all four parties against a collector at work, repeatable by its seed.

    python tests/soak.py [--seconds 600] [--seed 1] [--interfaces 150]

Netbeam's time runs sixty times as fast as ours, so that each cycle has points to collect. In the end everything is healed, the
collector gets to a last complete cycle, and the invariant is checked. Prints the faults that were injected, points,
duplicates and missing; exit code 1 when a point is missing or wrong, or when the collector did what it must not do.
"""

import argparse
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collector.core.model import JsonObject
from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Bus, Clock, Collector, Counts, MysqlTable, Rig, compare, wait_for
from tests.rig.troubles import PARTIES, Trouble, schedule
from tests.servers.databases import MariaDB
from tests.servers.rabbitmq import RabbitServer, Vhost
from tests.simulation.faults import Fault

RATE = 60
MARGIN_S = 7200.0
LOOK_S = 0.05
STOP_S = 8.0
"""A stop must not take longer."""
RECOVERY_S = 120.0
"""From the healing to a complete cycle: waits between attempts, idle probes and a frozen session's end are all shorter."""


class Soak:
    """Runs a schedule against a collector; implements troubles.Driver."""

    def __init__(self, rig: Rig, clock: Clock, table: MysqlTable, bus: Bus) -> None:
        self.rig, self.clock = rig, clock
        self.database, self.rabbit = table.server, bus.rabbit
        self.listing_faults: tuple[Fault, ...] = ()
        self.listing_edit: Callable[[Sequence[JsonObject]], object] | None = None
        self.injected: Counter[str] = Counter()
        self.faults: list[str] = []
        """What the collector did and must not do."""
        self._table, self._bus = table, bus
        self._collector: Collector | None = None
        self._second: Collector | None = None
        self._lock = threading.Lock()
        self._busy = len(PARTIES)
        self._began = time.monotonic()
        self._unlisted: set[Collector] = set()
        """Those that have not seen a listing yet: without one they cannot know Netbeam's time, which here is not ours."""

    @property
    def vhost(self) -> Vhost:
        return self._bus.vhost

    @property
    def user(self) -> str:
        return self._table.account.user

    def run(self, troubles: Sequence[Trouble], seconds: float) -> None:
        """Begin and end every fault at its time, as nearly as servers start; each party has a thread."""
        self.start_collector()
        self._began = time.monotonic()
        for party in PARTIES:
            own = [each for each in troubles if each.party == party]
            threading.Thread(target=self._disturb, args=(own,), name=party, daemon=True).start()
        while time.monotonic() - self._began < seconds or self._busy:
            self._look()
            time.sleep(LOOK_S)

    def _disturb(self, troubles: Sequence[Trouble]) -> None:
        try:
            for trouble in troubles:
                self._wait_until(trouble.at_s)
                self._say(f"{trouble.party}: {trouble.name} begins")
                self.injected[f"{trouble.party}: {trouble.name}"] += 1
                trouble.begin()
                self._wait_until(trouble.at_s + trouble.seconds)
                trouble.end()
                self._say(f"{trouble.party}: {trouble.name} ends")
        except Exception as error:
            traceback.print_exc()
            self.faults.append(f"the soak itself failed: {error}")
        with self._lock:
            self._busy -= 1
        threading.Event().wait()  # what this thread has started ends with it

    def _wait_until(self, at_s: float) -> None:
        time.sleep(max(0.0, self._began + at_s - time.monotonic()))

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {what}", flush=True)

    def _look(self) -> None:
        """Spoil the listing only for those who know Netbeam's time; and see whether the collector lives."""
        with self._lock:
            for each in tuple(self._unlisted):
                if not each.running or any(cycle.get("listed", "failed") != "failed" for cycle in each.cycles()):
                    self._unlisted.discard(each)
            self.rig.behaviour.listing = () if self._unlisted else self.listing_faults
            self.rig.behaviour.edit_listing = None if self._unlisted else self.listing_edit
            if self._collector and not self._collector.running:
                self.faults.append(f"{self._collector} ended by itself with exit code {self._collector.exit_code}")
                print(f"{self.faults[-1]}\n{self._collector.tail()}")
                self._collector = self._start()

    def signal(self, number: int) -> None:
        if self._collector:
            self._collector.signal(number)

    def stop_collector(self, number: int) -> None:
        with self._lock:
            collector, self._collector = self._collector, None
        if collector is None:
            return
        began = time.monotonic()
        collector.signal(number)
        code = collector.wait()
        if number > 0 and code not in (0, -number):
            self.faults.append(f"{collector} ended with exit code {code} after signal {number}\n{collector.tail()}")
        if time.monotonic() - began > STOP_S + 1:
            self.faults.append(f"{collector} took {time.monotonic() - began:.1f} s to end after signal {number}")

    def start_collector(self) -> None:
        with self._lock:
            if self._collector is None:
                self._collector = self._start()

    def _start(self) -> Collector:
        self.rig.behaviour.listing, self.rig.behaviour.edit_listing = (), None
        collector = self.rig.start()
        self._unlisted.add(collector)
        return collector

    def start_second(self) -> None:
        with self._lock:
            self._second = self._start()

    def kill_first(self) -> None:
        with self._lock:
            killed, self._collector, self._second = self._collector, self._second, None
        if killed:
            killed.kill()

    def _all_is_known(self) -> bool:
        self._look()
        cycles = self._collector.cycles() if self._collector else []
        return bool(cycles) and cycles[-1]["outcome"] == "complete" and "windows_doubted" not in cycles[-1]

    def finish(self) -> Counts:
        """Let the collector get through a last complete cycle at a Netbeam time that stands still, and compare."""
        began = time.monotonic()
        try:
            # what came back empty is asked for again while time goes on
            wait_for(self._all_is_known, RECOVERY_S, "a complete cycle")
        except AssertionError as error:
            self.faults.append(f"{error}\n{self._collector.tail() if self._collector else ''}")
        self.clock.set_rate(0)
        end = str(self.clock() // 60_000 * 60_000)
        self._look()

        def done() -> bool:
            self._look()
            retired = [row for row in self.rig.table.rows() if not row.active]
            left = [row for row in retired if min(each or "" for each in row.until.values()) < (row.active_until or "")]
            return not left and self.rig.checkpoints() == {end}

        try:
            wait_for(done, RECOVERY_S, "a last complete cycle")
            assert self._collector
            self._collector.wait_for_cycles(1)
            print(f"recovered within {time.monotonic() - began:.1f} s")
        except AssertionError as error:
            self.faults.append(f"{error}\n{self._collector.tail() if self._collector else ''}")
        self.stop_collector(15)
        rows, heard = self.rig.table.rows(), self.rig.heard()
        counts = compare(self.rig.network, rows, heard, lookback_s=self.rig.lookback_s, now_ms=self.clock())
        for resource, message in heard.latest_interfaces().items():
            right = {**self.rig.network.interface(resource), "timestamp": message.timestamp_ms}
            if message.body != right:
                self.faults.append(f"the newest message of interface {resource} is not as it is listed")
        return counts


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--interfaces", type=int, default=150)
    parser.add_argument("--logs", type=Path, metavar="DIRECTORY", help="keep what the collectors said there")
    wanted = parser.parse_args()
    network = SimulatedNetwork.synthetic(wanted.interfaces)
    clock = Clock(behind_s=(wanted.seconds + RECOVERY_S) * RATE + MARGIN_S, rate=RATE)
    with (
        # what it has confirmed must survive its being killed
        MariaDB(("--innodb-flush-log-at-trx-commit=1",)) as database,
        RabbitServer() as rabbit,
    ):
        table, bus = MysqlTable(database), Bus(rabbit, durable=True)
        settings = {"POLL_INTERVAL": "5", "NETBEAM_TIMEOUT": "4", "INITIAL_LOOKBACK": "3600"}
        with Rig(network, table, bus, clock=clock, directory=wanted.logs, settings=settings) as rig:
            soak = Soak(rig, clock, table, bus)
            troubles = schedule(soak, wanted.seconds, wanted.seed)
            soak.run(troubles, wanted.seconds)
            counts = soak.finish()
            return report(soak, counts)


def report(soak: Soak, counts: Counts) -> int:
    """Print what was done and found; the exit code."""
    print("\nfaults injected")
    for name, count in sorted(soak.injected.items()):
        print(f"  {count:4}  {name}")
    print(f"  {soak.injected.total():4}  in all; collectors started: {len(soak.rig.collectors)}")
    for line in (*counts.lines, *soak.faults):
        print(f"WRONG: {line}")
    print(f"points={counts.points} duplicates={counts.duplicates} missing={counts.missing} wrong={counts.wrong}")
    return 1 if counts.missing or counts.wrong or soak.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
