"""Netbeams that are broken or hostile: the collector lives, stays small, and loses nothing of what others answer.

Each test has one server that answers for a good interface as it should, and with something else for the listing or for the
others. Memory is the collector's peak, above that of one which meets no such server.
"""

import gzip
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.inside import HURRIED
from tests.rig import Collector, SqliteTable
from tests.service.rawserver import RawServer, Request, reply

MOST_MIB = 250
"""What a neighbour may make the collector grow by."""
GOOD = "devices/good/interfaces/1"
BAD = [f"devices/bad{number}/interfaces/{number}" for number in range(16)]
STEP_MS = 30_000
FEW = [{"resource": name} for name in [GOOD, *BAD]]
Answer = Callable[[Request], bytes | None]


def packed(unit: bytes, size: int, before: bytes = b"[", after: bytes = b"1]") -> bytes:
    """So many bytes of one text again and again, compressed to very few."""
    body = gzip.compress(before + unit * (size // len(unit)) + after, 9)
    return reply(body, headers={"Content-Encoding": "gzip"})


def good_points(request: Request) -> bytes:
    """A point on each step of the grid in the window that is asked for."""
    begin_ms, end_ms = (int(part.partition("=")[2]) for part in request.target.partition("?")[2].split("&"))
    first = -(-begin_ms // STEP_MS) * STEP_MS
    return reply(json.dumps({"points": [[at, 1, 2] for at in range(first, end_ms, STEP_MS)]}))


class Rogue:
    """A server and a collector beside it, with its table and its messages in files."""

    def __init__(self, directory: Path) -> None:
        self.listing: bytes | Answer = reply(json.dumps(FEW))
        self.bad: bytes | Answer = reply(status=404)
        self.directory = directory
        self.table = SqliteTable(directory / "table.sqlite")
        self.server = RawServer(self._answer)

    def _answer(self, request: Request) -> bytes | None:
        if request.target.endswith("/interfaces"):
            return self.listing(request) if callable(self.listing) else self.listing
        if GOOD in request.target:
            return good_points(request)
        return self.bad(request) if callable(self.bad) else self.bad

    def start(self, *words: str, **settings: object) -> Collector:
        """With all threads at work and no patience."""
        (self.directory / "none.env").write_text("")
        environment = {
            "NETBEAM_URL": self.server.url, "POLL_INTERVAL": 1, "SETTLE_DELAY": 0, "METRICS_PORT": 0, "NETBEAM_TIMEOUT": 4,
            "RECORD_TYPES": "traffic", **HURRIED, **settings,
        }  # fmt: skip
        words = (*(words or ("run",)), *self.table.words, "--stdout", "--env-file", str(self.directory / "none.env"))
        return Collector(words, {name: str(value) for name, value in environment.items()}, self.directory)

    def points(self, collector: Collector) -> int:
        """Messages of the good interface that came out so far."""
        return collector.stdout.count('"recordType')


@pytest.fixture
def rogue(tmp_path: Path) -> Iterator[Rogue]:
    made = Rogue(tmp_path)
    yield made
    made.server.stop()


@pytest.fixture(scope="module")
def usual_mib(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The peak of a collector that meets nothing odd."""
    rogue = Rogue(tmp_path_factory.mktemp("usual"))
    collector = rogue.start("run", "--once")
    assert collector.wait() == 0
    rogue.server.stop()
    return collector.peak_mib


def assert_small_and_alive(collector: Collector, usual_mib: float) -> None:
    assert collector.terminate(8) == 0
    collector.check_output(())
    assert max(map(len, collector.log.splitlines())) < 1500
    grown = collector.peak_mib - usual_mib
    print(f"grown by {grown:.0f} MiB", flush=True)
    assert grown < MOST_MIB


def in_tiny_chunks(request: Request) -> bytes | None:
    """A listing of up to 40 MB, two bytes a chunk."""
    request.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n")
    for _ in range(2000):
        request.sock.sendall(b"2\r\n,1\r\n" * 10_000)
    return b"1\r\n]\r\n0\r\n\r\n"


def with_endless_head(request: Request) -> bytes | None:
    request.sock.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(98):
        request.sock.sendall(b"X-%d: %s\r\n" % (number, b"x" * 65_000))
    return b"Content-Length: 2\r\n\r\n{}"


BIG = 63 * 2**20
ENTRY = ",".join(f'"key{number}":"value {number}"' for number in range(20))
LISTINGS: dict[str, bytes | Answer] = {
    "objects": packed(b"{},", BIG),
    "nested": packed(b"[" * 900 + b"]" * 900 + b",", BIG),
    "texts": packed(b'"aa",', BIG),
    "one wide text": packed("\U0001f600".encode(), BIG, b'["', b'"]'),
    "entries": packed(b'{"resource":"devices/x",%b},' % ENTRY.encode(), BIG),
    "spaces": packed(b" ", 2**30),
    "tiny chunks": in_tiny_chunks,
    "head": with_endless_head,
}


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_listing_that_would_fill_the_memory_fails_and_the_table_goes_on(rogue: Rogue, usual_mib: float, kind: str) -> None:
    collector = rogue.start()
    collector.wait_for_cycles(1)
    rogue.listing = LISTINGS[kind]
    collector.wait_for_log("listing failed")
    before = rogue.points(collector)
    rogue.listing = reply(json.dumps([*FEW, {"resource": "devices/new"}]))
    collector.wait_for(lambda: any(row.name == "devices/new" for row in rogue.table.rows()), what="the new interface")
    assert rogue.points(collector) >= before > 0
    assert_small_and_alive(collector, usual_mib)


def many(request: Request) -> bytes:
    """Of two days, as many points as the grid has 36 times, within the window."""
    begin_ms = int(request.target.partition("begin=")[2].partition("&")[0])
    return reply(b'{"points":[%b]}' % b",".join(b"[%d,1,2]" % at for at in range(begin_ms + 1, begin_ms + 172_700_000, 830)))


def close_together(request: Request) -> bytes:
    """Hundreds of thousands of points in one window, a ms apart."""
    begin_ms = int(request.target.partition("begin=")[2].partition("&")[0])
    return reply(b'{"points":[%b]}' % b",".join(b"[%d,1,2]" % at for at in range(begin_ms, begin_ms + 380_000)))


POINTS: dict[str, bytes | Answer] = {
    "objects": packed(b"{},", 7 * 2**20, b'{"points":[', b"1]}"),
    "points": close_together,
    "points of days": many,
    "texts": packed(b'"aa",', 7 * 2**20, b'{"points":[],"more":[', b"1]}"),
    "head": with_endless_head,
    "spaces": packed(b" ", 2**28),
}


@pytest.mark.parametrize("kind", POINTS)
def test_answers_that_would_fill_the_memory_fail_and_lose_nothing_of_others(rogue: Rogue, usual_mib: float, kind: str) -> None:
    rogue.bad = POINTS[kind]
    collector = rogue.start(NETBEAM_CONCURRENCY=16, **({"INITIAL_LOOKBACK": 172_800} if "days" in kind else {}))
    collector.wait_for_cycles(3)
    (until,) = [row.until["traffic"] for row in rogue.table.rows() if row.name == GOOD]
    assert until is not None
    assert rogue.points(collector) > 20
    assert all(row.until["traffic"] is None for row in rogue.table.rows() if row.name != GOOD)
    assert_small_and_alive(collector, usual_mib)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Of a listener that answers no SYN any more: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


def test_a_netbeam_that_drops_syns_is_an_outage_until_it_answers(rogue: Rogue, silent_port: int, usual_mib: float) -> None:
    collector = rogue.start(NETBEAM_URL=f"http://127.0.0.1:{silent_port}", NETBEAM_TIMEOUT=0.3)
    collector.wait_for_log("Netbeam is not available error='listing: no whole answer within 0.3 s'")
    collector.wait_for_cycles(2)
    assert_small_and_alive(collector, usual_mib)


def test_a_stop_while_it_connects_ends_in_good_order(rogue: Rogue, silent_port: int) -> None:
    def unanswered() -> int:
        return Path("/proc/net/tcp").read_text().count(f":{silent_port:04X} 02 ")

    others = unanswered()
    collector = rogue.start(NETBEAM_URL=f"http://127.0.0.1:{silent_port}", NETBEAM_TIMEOUT=60)
    collector.wait_for(lambda: unanswered() > others, what="a SYN without an answer")
    began = time.monotonic()
    collector.signal(signal.SIGTERM)
    assert collector.wait(9) == 0
    assert time.monotonic() - began < 8.5
    collector.check_output(())


@pytest.mark.parametrize("dated", [
    "Tue, 02 Jan 2001 03:04:05 GMT",
    "Wed, 02 Jan 2002 03:04:05 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
])  # fmt: skip
def test_a_listing_dated_far_from_our_clock_writes_no_row(rogue: Rogue, dated: str) -> None:
    rogue.listing = reply(json.dumps(FEW), headers={"Date": dated})
    collector = rogue.start("run", "--once")
    assert collector.wait() == 1
    assert not rogue.table.rows()
    assert collector.log_lines("listing is dated .* more than a day from our clock")


def test_a_listing_from_a_cache_is_as_new_as_its_age_says(rogue: Rogue) -> None:
    date = formatdate(time.time() - 3000, usegmt=True)
    rogue.listing = reply(json.dumps(FEW), headers={"Date": date, "Age": "3000"})
    collector = rogue.start("run", "--once")
    assert collector.wait() == 0
    assert not collector.log_lines("clock")
    (row,) = [row for row in rogue.table.rows() if row.name == GOOD]
    assert abs(int(row.active_from) - time.time() * 1000) < 60_000


def test_an_early_hint_is_never_taken_for_the_next_ones_answer(rogue: Rogue) -> None:
    """What follows it on the connection belongs to nobody."""

    def bad(request: Request) -> bytes:
        return b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + good_points(request)

    rogue.bad = bad
    collector = rogue.start(NETBEAM_CONCURRENCY=1)
    collector.wait_for_cycles(2)
    assert rogue.points(collector) > 10
    names = {json.loads(line)["body"].get("name") for line in collector.stdout.splitlines() if "recordType" in line}
    assert names == {GOOD}
    assert collector.terminate(8) == 0
