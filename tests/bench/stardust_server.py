"""The simulated Stardust of the benchmark, in a process of its own that is told over its standard input how to behave.

One line of JSON in, with any of the keys below; one line of JSON out, with the queries so far and the CPU it has used.

    latency_s   seconds before each answer
    keep        [begin_ms, end_ms]: make the documents of this time beforehand

Besides the collector's queries it knows the scroll of `opensearch-py`, for the rival.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from collector.core.model import GRID_MS
from collector.source.simulated.network import SimulatedNetwork, encode
from collector.source.simulated.stardust import INDEX, SHARDS, Clause, SimulatedIndex, hit_of
from collector.source.simulated.stardust_server import Reply, SimulatedStardust
from tests.bench.netbeam import TALKING_MBPS, network

TOP = Path(__file__).resolve().parents[2]


def talking_network(limit: int) -> SimulatedNetwork:
    """The benchmark's list, every interface with points, under names that Stardust has too."""
    speeds = network(limit).speeds
    return SimulatedNetwork([(name.replace("%2D", "-"), speed or TALKING_MBPS) for name, speed in speeds.items()])


class StardustProcess:
    """The process; one user at a time."""

    def __init__(self, interfaces: int) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.bench.stardust_server", str(interfaces)]
        self._child = subprocess.Popen(command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        self.url = self._child.stdout.readline().strip()

    def tell(self, **behaviour: object) -> dict[str, Any]:
        """Have it behave so from now on; returns its figures: listing, points, cpu_s."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(behaviour) + "\n")
        self._child.stdin.flush()
        figures: dict[str, Any] = json.loads(self._child.stdout.readline())
        return figures

    def __enter__(self) -> "StardustProcess":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(10)


class _Kept(SimulatedIndex):
    """Has only the documents that were made beforehand, so that answers cost little."""

    def __init__(self, network: SimulatedNetwork) -> None:
        super().__init__(network)
        self.kept: dict[tuple[str, int], bytes] = {}
        """By id and start."""

    def keep(self, begin_ms: int, end_ms: int) -> None:
        """Make the documents of this time, in place of what there was."""
        self.kept = {
            (identity, start): hit_of(document)
            for identity in self.resources
            for start, document in self.documents(identity, begin_ms, end_ms)
        }

    def hits(self, clause: Clause, now_ms: int) -> dict[tuple[int, object], bytes]:
        """See SimulatedIndex."""
        starts = range(-(-clause.begin_ms // GRID_MS) * GRID_MS, min(clause.end_ms, now_ms + 1), GRID_MS)
        keys = ((start, identity) for identity in clause.ids for start in starts)
        return {(start, identity): self.kept[identity, start] for start, identity in keys if (identity, start) in self.kept}


class _Scrolled(SimulatedStardust):
    """Gives all that it keeps, page by page, to a search with `scroll`."""

    def __init__(self, network: SimulatedNetwork) -> None:
        super().__init__(network)
        self.index: _Kept = _Kept(network)
        self._size = 0
        self._pages: list[bytes] = []

    def reply(self, path: str, query: str, content: bytes) -> Reply:
        """See SimulatedStardust."""
        wanted = parse_qs(query)
        if path == f"/{INDEX}/_search" and "scroll" in wanted:
            size = int(wanted["size"][0])
            by_start = sorted(self.index.kept.items(), key=lambda each: each[0][1])
            hits = [b'{"_index":"x","_id":"x",' + hit[1:] for _, hit in by_start]
            self._size = len(hits)
            self._pages = [b",".join(hits[start : start + size]) for start in range(0, len(hits), size)]
            return self._page(0)
        if path == "/_search/scroll":
            asked = json.loads(content or b"{}").get("scroll_id", "")
            return self._page(int(asked)) if isinstance(asked, str) and asked.isdigit() else Reply(200, b"{}")
        return super().reply(path, query, content)

    def _page(self, number: int) -> Reply:
        hits = self._pages[number] if number < len(self._pages) else b""
        head = f'{{"_scroll_id":"{number + 1}","took":1,"timed_out":false,"_shards":{encode(SHARDS)},'
        total = f'"hits":{{"total":{{"value":{self._size},"relation":"eq"}},"hits":['
        return Reply(200, f"{head}{total}".encode() + hits + b"]}}")


def main() -> int:
    """Serve until the standard input ends."""
    with _Scrolled(talking_network(int(sys.argv[1]))) as stardust:
        print(stardust.url, flush=True)
        for line in sys.stdin:
            behaviour = json.loads(line)
            stardust.latency_s = behaviour.get("latency_s", stardust.latency_s)
            if "keep" in behaviour:
                stardust.index.keep(*behaviour["keep"])
            counts = {each: stardust.counts[each] for each in ("listing", "points")}
            print(json.dumps({**counts, "cpu_s": round(time.process_time(), 3)}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
