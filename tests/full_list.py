"""ESnet's whole list, once through: the simulation as a process of its own, real MariaDB and RabbitMQ, `run --once` twice.

    python tests/full_list.py [--latency-ms 50] [--interfaces N] [--profile FILE]

Every message is counted and compared with what the simulation says must arrive, and every row's checkpoints are where they
belong; prints messages, seconds, CPU and peak memory of the collector. Exit code 1 when anything differs.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))

from collector.source.simulated.network import SimulatedNetwork  # noqa: E402
from tests.rig import Bus, Collector, Counts, Heard, MysqlTable, TableRow, compare, wait_for  # noqa: E402
from tests.rig.tables import RECORD_TYPES  # noqa: E402
from tests.servers.databases import MariaDB  # noqa: E402
from tests.servers.rabbitmq import RabbitServer  # noqa: E402

LIST = TOP.parent / "shared" / "data" / "esnet-interfaces.csv"
"""The real list, where it is at hand; else as many invented interfaces."""
COUNT = 10_679
SETTLE_S = 900
CYCLE_S = 900.0
"""The collector must be done before its next cycle would be due."""


@contextmanager
def simulated(words: Sequence[str]) -> Iterator[tuple[str, dict[str, object]]]:
    """The simulation in a process of its own; its base URL, and a mapping that has its figures at the end."""
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "collector.source.simulated", *words]
    figures: dict[str, object] = {}
    with subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip(), figures
        finally:
            child.send_signal(signal.SIGTERM)
            figures.update(json.loads(child.stdout.readline() or "{}"))


def faults_of_the_table(rows: Sequence[TableRow], network: SimulatedNetwork, listing_ms: int) -> list[str]:
    """What is not as it must be after a complete cycle whose listing was of that time."""
    end = str((listing_ms - SETTLE_S * 1000) // 60_000 * 60_000)
    faults = []
    names = [row.name for row in rows]
    if sorted(names) != sorted(network.resources):
        faults.append(f"the table has {len(names)} rows, {len(set(names))} names; the list has {len(network.resources)}")
    for row in rows:
        wrong = {each: row.until[each] for each in RECORD_TYPES if row.until[each] != end}
        if wrong or row.status != "1" or row.active_until is not None:
            faults.append(f"row {row.id} {row.name}: status {row.status}, checkpoints {wrong} instead of {end}")
    return faults


def run_once(
    number: int, url: str, table: MysqlTable, bus: Bus, directory: Path, network: SimulatedNetwork, profile: str | None
) -> bool:
    """One `run --once` and its judgement; True when everything is right."""
    settings = {"NETBEAM_URL": url, "METRICS_PORT": "0", **table.environment, **bus.environment}
    env_file = directory / "settings.env"
    env_file.write_text("")
    before_points, before_interfaces = bus.heard.point_count, len(bus.heard.interfaces)
    collector = Collector(("run", "--once", "--env-file", str(env_file)), settings, directory)
    profiler = _profiler(profile, collector) if profile else None
    try:
        wait_for(lambda: not collector.running, CYCLE_S, "the end of the cycle")
    finally:
        collector.kill()
    if profiler:
        profiler.wait()
    rows = table.rows()
    print(f"\nrun {number}: exit code {collector.exit_code}\n  {collector.tail(5)}")
    began = time.monotonic()
    heard = bus.drain()
    counts = compare(network, rows, heard)
    points, interfaces = heard.point_count - before_points, len(heard.interfaces) - before_interfaces
    messages = points + interfaces
    print(
        f"  messages {messages} = {interfaces} interfaces + {points} points; {collector.seconds:.1f} s, "
        f"{messages / collector.seconds:.0f} a second, CPU {collector.cpu_s:.1f} s, peak memory {collector.peak_mib:.0f} MiB"
    )
    print(f"  {counts} (judged in {time.monotonic() - began:.1f} s)")
    return _judge(collector, counts, heard, rows, network, interfaces)


def _judge(
    collector: Collector, counts: Counts, heard: Heard, rows: Sequence[TableRow], network: SimulatedNetwork, interfaces: int
) -> bool:
    faults = list(counts.lines)
    if collector.exit_code != 0:
        faults.append(f"exit code {collector.exit_code}")
    if counts.duplicates or counts.missing or counts.wrong or counts.beyond or heard.out_of_order:
        faults.append(f"not exact: {counts}, out of order {heard.out_of_order.total()}")
    if interfaces != len(network.resources) or heard.interface_duplicates:
        faults.append(f"{interfaces} interface messages, {heard.interface_duplicates} twice; {len(network.resources)} interfaces")
    # an empty window leaves no message: the listing's time is the only word about when the cycle was
    listing_ms = heard.interfaces[-1].timestamp_ms if heard.interfaces else 0
    faults += faults_of_the_table(rows, network, listing_ms)
    for fault in faults[:20]:
        print(f"  WRONG: {fault}")
    return not faults


def _profiler(path: str, collector: Collector) -> "subprocess.Popen[bytes]":
    time.sleep(0.5)
    command = ["py-spy", "record", "--pid", str(collector.pid), "--output", path, "--format", "raw", "--threads", "--rate", "50"]
    return subprocess.Popen([str(Path(sys.executable).parent / command[0]), *command[1:]])


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of the simulated Netbeam, for every answer")
    parser.add_argument("--interfaces", type=int, default=COUNT)
    parser.add_argument("--wait", type=float, default=61.0, help="seconds between the two runs, for new points (default: 61)")
    parser.add_argument("--profile", metavar="FILE", help="write what py-spy sees of the first run")
    wanted = parser.parse_args()
    if LIST.exists():
        words, network = ["--csv", str(LIST)], SimulatedNetwork.from_csv(LIST, limit=wanted.interfaces)
    else:
        words, network = [], SimulatedNetwork.synthetic(wanted.interfaces)
    words += ["--interfaces", str(wanted.interfaces), "--latency-ms", str(wanted.latency_ms)]
    with (
        MariaDB() as database,
        RabbitServer() as rabbit,
        tempfile.TemporaryDirectory() as scratch,
        simulated(words) as (url, figures),
    ):
        table, bus = MysqlTable(database), Bus(rabbit, durable=True)
        right = run_once(1, url, table, bus, Path(scratch), network, wanted.profile)
        time.sleep(wanted.wait)
        right = run_once(2, url, table, bus, Path(scratch), network, None) and right
    print(f"\nsimulation: {figures}\n{'right' if right else 'WRONG'}")
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
