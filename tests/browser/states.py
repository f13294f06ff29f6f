"""Every state that the page can show, brought about in a collector's state, with as much as can be to show."""

import random
from collections.abc import Callable

from collector.core.model import RecordType
from collector.core.outage import Outage
from collector.core.report import AnsweredUpTo, CycleOutcome, CycleReport, ReasonKind, WindowOutcome
from collector.watch.state import CollectorState, Identity, Role, System

HOSTILE = """</title></style><script>alert(1)</script><img src="http://127.0.0.1:9/x" onerror="alert(2)">"""
LONG = "devices/" + "a" * 60 + "/interfaces/" + "b" * 48
IDENTITY = Identity(
    host="collector-1.example.org",
    source="Netbeam, https://esnet-netbeam.appspot.com/api/network/esnet/prod",
    database="esnet on esnet_db:3306",
    exchange="osg.psdata.raw on rabbit.example.org:5672",
    share="2/3",
)
INTERVAL_S, SETTLE_S = 900, 900
NOW_MS = 1_795_824_600_000
"""2026-11-28 00:10 UTC: soon after midnight many times are shown with the date of the day before, which is wider."""


class Scene:
    """A collector's state with its outages, to be played with."""

    def __init__(self) -> None:
        self.outages = {
            System.SOURCE: Outage("Netbeam", now=self.now),
            System.DATABASE: Outage("MySQL", now=self.now),
            System.BROKER: Outage("RabbitMQ", now=self.now),
        }
        self.state = CollectorState(self.outages, INTERVAL_S, SETTLE_S, IDENTITY, now=self.now)

    @staticmethod
    def now() -> float:
        return NOW_MS / 1000

    def connected(self) -> None:
        for each in self.outages.values():
            each.ended()

    def cycles(self, number: int, points: Callable[[int], int] = lambda _: 570_000, late_ms: int = 60_000) -> None:
        """So many cycles, the last one a while ago; `points` by how many cycles ago."""
        self.connected()
        self.state.enter(Role.WORKING)
        for ago in reversed(range(number)):
            start_ms = NOW_MS - 300_000 - ago * INTERVAL_S * 1000
            self.end(report(start_ms, points(ago), late_ms), CycleOutcome.CUT if ago == 30 else CycleOutcome.COMPLETE)

    def end(self, ended: CycleReport, outcome: CycleOutcome) -> None:
        ended.outcome = outcome
        self.state.begin(ended)
        self.state.add(ended)


def report(start_ms: int, points: int, late_ms: int = 60_000) -> CycleReport:
    rng = random.Random(start_ms)
    made = CycleReport(start_ms=start_ms, settle_ms=SETTLE_S * 1000, active=10_679, draining=12, idle=4_669)
    made.seconds = 40 + rng.random() * 8 + points / 60_000
    made.points = points + rng.randrange(points // 50 + 1)
    made.planned = made.done = 18_600
    made.windows |= {WindowOutcome.DONE: 18_000, WindowOutcome.EMPTY: 590, WindowOutcome.FAILED: rng.randrange(7)}
    made.checkpoints_moved, made.database_s = 18_000, 3.2
    settled_ms = start_ms - SETTLE_S * 1000
    made.answered_up_to = {each: AnsweredUpTo(settled_ms - late_ms, settled_ms, 6_010) for each in RecordType}
    made.newest_ms = {each: settled_ms - 15_000 for each in RecordType}
    made.failing = (("devices/albq-cr5/interfaces/1%2F1%2F1", 3), (LONG, 2), (HOSTILE, 1))
    return made


def starting(scene: Scene) -> None:
    scene.outages[System.DATABASE].ended()


def starting_in_vain(scene: Scene) -> None:
    scene.outages[System.BROKER].ended()
    scene.outages[System.DATABASE].failed("2003: Can't connect to MySQL server on 'esnet_db:3306' (111 Connection refused)")


def first_cycle(scene: Scene) -> None:
    scene.connected()
    scene.state.enter(Role.WORKING)
    running = report(NOW_MS - 42_000, 231_000)
    running.seconds, running.answered_up_to = 0.0, {}
    running.done = 7_431
    scene.state.begin(running)


def fine(scene: Scene) -> None:
    scene.cycles(96)


def working(scene: Scene) -> None:
    """Well, and with something left for the next cycle."""
    scene.cycles(96)
    left = report(NOW_MS - 200_000, 560_000)
    left.add(ReasonKind.LEFT, "5 windows failed")
    scene.end(left, CycleOutcome.COMPLETE)


def catching_up(scene: Scene) -> None:
    scene.cycles(40, lambda ago: 22_000_000 if ago == 25 else 0 if 25 < ago < 29 else 570_000)
    running = report(NOW_MS - 12_000, 1_000)
    running.done = 621
    scene.state.begin(running)


def source_away(scene: Scene) -> None:
    scene.cycles(60)
    failed = report(NOW_MS - 100_000, 1_200)
    failed.windows[WindowOutcome.FAILED] = 24
    failed.add(ReasonKind.DEPENDENCY, "Netbeam is not available: 503 Service Unavailable")
    failed.add(ReasonKind.NO_TRY, "17,000 windows got no try")
    scene.end(failed, CycleOutcome.FAILED)
    scene.outages[System.SOURCE].failed("503 Service Unavailable")


def database_away(scene: Scene) -> None:
    scene.cycles(60)
    failed = CycleReport(start_ms=NOW_MS - 100_000, seconds=2.0)
    failed.add(ReasonKind.DEPENDENCY, "MySQL: 2013: Lost connection to MySQL server during query")
    scene.end(failed, CycleOutcome.FAILED)
    scene.outages[System.DATABASE].failed("2003: Can't connect to MySQL server on 'esnet_db:3306' (111 Connection refused)")


def broker_away(scene: Scene) -> None:
    scene.cycles(60)
    scene.outages[System.BROKER].failed(f"{HOSTILE} {LONG}")
    running = report(NOW_MS - 30_000, 0)
    running.done = 0
    scene.state.begin(running)


def silent(scene: Scene) -> None:
    """The alarm of silence."""
    scene.cycles(60)
    failed = report(NOW_MS - 100_000, 0, late_ms=0)
    failed.add(ReasonKind.FAILURE, "the source has had no points since 2026-11-28 17:44 UTC for 6,010 of 6,010 series of traffic")
    scene.end(failed, CycleOutcome.FAILED)


def failing(scene: Scene) -> None:
    """Whatever can be wrong, at once, in words that mean harm."""
    broker_away(scene)
    failed = report(NOW_MS - 10_000, 100)
    failed.add(ReasonKind.FAILURE, HOSTILE)
    failed.add(ReasonKind.FAILURE, LONG)
    scene.end(failed, CycleOutcome.FAILED)
    scene.state.count_free_shares(1)


def standby(scene: Scene) -> None:
    scene.connected()
    scene.state.enter(Role.STANDBY, "10.0.0.17")


STATES: dict[str, Callable[[Scene], None]] = {
    each.__name__: each
    for each in (
        *(starting, starting_in_vain, first_cycle, fine, working, catching_up),
        *(source_away, database_away, broker_away, silent, failing, standby),
    )
}
