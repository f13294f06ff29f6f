"""Kills the collector at random moments of a cycle and proves each time that nothing is lost.

    python tests/kills.py [--kills 50] [--seed 1] [--interfaces 120]

Each round gives Netbeam new points, starts a collector, kills it with SIGKILL at a random moment between its listing and the
end of its cycle, checks the invariant, and lets a clean run finish the work. Prints a table; exit code 1 when a point is
missing, wrong, or repeated more often than the kills explain.
"""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Bus, Clock, Counts, InvariantError, MysqlTable, Rig, wait_for
from tests.rig.tables import RECORD_TYPES
from tests.servers.databases import MariaDB
from tests.servers.rabbitmq import RabbitServer

DAY_S = 86_400.0
STEP_S = 900.0
"""Netbeam's time from one round to the next."""
LATENCIES_S = (0.01, 0.04, 0.15)
"""Of every answer: a cycle of a second, and one that is long enough to write checkpoints in between."""
CONCURRENCY = 8
ABSENT = 5
"""Interfaces that the listing lacks in every other round, so that rows are inserted and retired too."""
MARGIN_S = 0.3
"""What a cycle takes besides its requests."""
CLEAN_S = 60.0


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--interfaces", type=int, default=120)
    wanted = parser.parse_args()
    network = SimulatedNetwork.synthetic(wanted.interfaces)
    clock = Clock(behind_s=DAY_S / 2, rate=0)
    with (
        MariaDB() as database,
        RabbitServer() as rabbit,
        Rig(
            network,
            MysqlTable(database),
            Bus(rabbit, durable=True),
            clock=clock,
            INITIAL_LOOKBACK=STEP_S,
            NETBEAM_CONCURRENCY=CONCURRENCY,
        ) as rig,
    ):
        return kill(rig, clock, wanted.kills, random.Random(wanted.seed))


def kill(rig: Rig, clock: Clock, kills: int, chance: random.Random) -> int:
    """So many rounds; the exit code."""
    rig.once(timeout_s=CLEAN_S)
    rig.check_exactly()
    print("kill  after s  points before  confirmed, unwritten  points after  duplicates  missing  recovered in s")
    duplicates, after = 0, Counts()
    for number in range(1, kills + 1):
        clock.advance(STEP_S)
        rig.network.absent = frozenset(chance.sample(rig.network.resources, ABSENT)) if number % 2 else frozenset()
        rig.behaviour.latency_s = chance.choice(LATENCIES_S)
        requests = len(rig.network.resources) * len(RECORD_TYPES)
        after_s = chance.uniform(0, MARGIN_S + requests * rig.behaviour.latency_s / CONCURRENCY)
        try:
            before, after, seconds = _round(rig, after_s)
        except InvariantError as error:
            print(f"{number:4}  {after_s:7.2f}  {error}")
            return 1
        print(
            f"{number:4}  {after_s:7.2f}  {before.points:13}  {before.beyond:20}  {after.points:12}  "
            f"{after.duplicates - duplicates:10}  {after.missing:7}  {seconds:14.1f}",
            flush=True,
        )
        if after.duplicates - duplicates > before.beyond or after.beyond:
            print(f"after the kill {before.beyond} points were confirmed and not written; now {after}")
            return 1
        duplicates = after.duplicates
    print(f"kills={kills} {after}")
    return 0


def _round(rig: Rig, after_s: float) -> tuple[Counts, Counts, float]:
    """One kill: what the invariant says after it and after a clean run, and how long that one took."""
    listings = rig.simulation.counts["listing"]
    collector = rig.start("run", "--once")
    collector.wait_for(lambda: rig.simulation.counts["listing"] > listings)
    time.sleep(after_s)  # the one moment that nothing announces
    collector.kill()
    assert rig.bus
    rabbit = rig.bus.rabbit
    # its connection and its channel end when the broker has read and routed all that was on the way
    wait_for(lambda: rabbit.eval("{rabbit_networking:connections(), rabbit_channel:list()}") == "{[], []}", what="the end")
    before = rig.check()
    rig.behaviour.latency_s = 0
    clean = rig.once(timeout_s=CLEAN_S)
    return before, rig.check(), clean.seconds


if __name__ == "__main__":
    raise SystemExit(main())
