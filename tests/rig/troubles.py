"""Faults of a soak: four lists, one for each party, and a schedule that a seed decides.

Faults of one list never overlap, those of different lists do. A fault is what begins it and what ends it; both are quick, or
as quick as a server starts.
"""

import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from collector.core.model import JsonObject
from tests.rig.clock import Clock
from tests.rig.rig import Rig
from tests.servers.databases import DatabaseServer
from tests.servers.rabbitmq import RabbitServer, Vhost
from tests.simulation.content import doubled_entries, first, half, instead, with_odd_entries
from tests.simulation.faults import Fault, Kind

LONGEST_FREEZE_S = 25.0
"""Longer than the lock's session lives (20 s)."""
PAUSE_S = (1.0, 8.0)
"""Between two faults of one list."""
START_S = 6.0
"""What RabbitMQ takes to start; its pauses are longer by that."""
STATUSES = (400, 403, 408, 429, 500, 502, 503, 504)
ANSWERS = tuple(kind for kind in Kind if kind not in (Kind.EMPTY, Kind.GZIP_BOMB, Kind.OVERSIZE))
"""EMPTY on some series is what Netbeam says of those without points: nobody could tell. The last two are for few requests."""
HUGE = (Kind.GZIP_BOMB, Kind.OVERSIZE)
FLAPPING = (1, 10)
"""So many interfaces are missing in the listing without the brake."""


class Driver(Protocol):
    """Who runs the collector of a soak; faults act through it."""

    rig: Rig
    clock: Clock
    database: DatabaseServer
    rabbit: RabbitServer
    listing_faults: tuple[Fault, ...]
    listing_edit: Callable[[Sequence[JsonObject]], object] | None

    @property
    def vhost(self) -> Vhost:
        """The bus's."""

    @property
    def user(self) -> str:
        """The collector's user in the database."""

    def signal(self, number: int) -> None:
        """Send the collector a signal."""

    def stop_collector(self, number: int) -> None:
        """Send the collector a signal that ends it."""

    def start_collector(self) -> None:
        """Start one where there is none."""

    def start_second(self) -> None:
        """Start another one beside it, to stand by."""

    def kill_first(self) -> None:
        """Kill the older one of two; the other is the collector from now on."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Trouble:
    """One fault at its time, in seconds from the start of the soak."""

    party: str
    name: str
    at_s: float
    seconds: float
    begin: Callable[[], None] = field(repr=False)
    end: Callable[[], None] = field(repr=False, default=_nothing)


Act = Callable[[], None]
Drawn = tuple[str, float, Act, Act]
"""A fault with its random parts decided: its name, how long it lasts, what begins it and what ends it."""
Draw = Callable[[Driver, random.Random], Drawn]


def schedule(driver: Driver, seconds: float, seed: int) -> list[Trouble]:
    """All faults of a soak that begin and end within so many seconds, in the order of their beginnings."""
    troubles: list[Trouble] = []
    for party, draws in PARTIES.items():
        chance = random.Random(f"{seed} {party}")
        at_s = chance.uniform(*PAUSE_S)
        start_s = START_S if party == "RabbitMQ" else 0.0
        while True:
            name, lasts_s, begin, end = chance.choice(draws)(driver, chance)
            if at_s + lasts_s + start_s > seconds:
                break
            troubles.append(Trouble(party, name, at_s, lasts_s, begin, end))
            at_s += lasts_s + start_s + chance.uniform(*PAUSE_S)
    return sorted(troubles, key=lambda each: each.at_s)


def _collector_killed(driver: Driver, chance: random.Random) -> Drawn:
    return "killed", chance.uniform(0, 5), lambda: driver.stop_collector(signal.SIGKILL), driver.start_collector


def _collector_stopped(driver: Driver, chance: random.Random) -> Drawn:
    return "stopped", chance.uniform(0, 5), lambda: driver.stop_collector(signal.SIGTERM), driver.start_collector


def _collector_frozen(driver: Driver, chance: random.Random) -> Drawn:
    seconds = chance.choice((chance.uniform(0.2, 6), chance.uniform(6, LONGEST_FREEZE_S)))
    return "frozen", seconds, lambda: driver.signal(signal.SIGSTOP), lambda: driver.signal(signal.SIGCONT)


def _collector_relieved(driver: Driver, chance: random.Random) -> Drawn:
    return "killed beside a standby", chance.uniform(3, 8), driver.start_second, driver.kill_first


def _bus_closed(driver: Driver, chance: random.Random) -> Drawn:
    return "connections closed", 0.0, lambda: _ignore(driver.rabbit.close_connections(driver.vhost)), _nothing


def _bus_restarted(driver: Driver, chance: random.Random) -> Drawn:
    return "stopped and started", chance.uniform(0, 8), driver.rabbit.stop, driver.rabbit.start


def _bus_killed(driver: Driver, chance: random.Random) -> Drawn:
    return "killed and started", chance.uniform(0, 8), driver.rabbit.kill, driver.rabbit.start


def _bus_frozen(driver: Driver, chance: random.Random) -> Drawn:
    seconds = chance.choice((chance.uniform(0.5, 6), chance.uniform(6, LONGEST_FREEZE_S)))
    return "frozen", seconds, driver.rabbit.freeze, driver.rabbit.thaw


def _bus_alarmed(driver: Driver, chance: random.Random) -> Drawn:
    return "memory alarm", chance.uniform(1, 12), lambda: driver.rabbit.alarm(True), lambda: driver.rabbit.alarm(False)


def _database_cut(driver: Driver, chance: random.Random) -> Drawn:
    return "connections killed", 0.0, lambda: _ignore(driver.database.kill_connections(driver.user)), _nothing


def _database_restarted(driver: Driver, chance: random.Random) -> Drawn:
    return "restarted", 0.0, driver.database.restart, _nothing


def _database_killed(driver: Driver, chance: random.Random) -> Drawn:
    return "killed and started", chance.uniform(0, 8), driver.database.kill, driver.database.restart


def _database_frozen(driver: Driver, chance: random.Random) -> Drawn:
    seconds = chance.choice((chance.uniform(0.5, 6), chance.uniform(6, LONGEST_FREEZE_S)))
    return "frozen", seconds, driver.database.freeze, driver.database.thaw


def _database_read_only(driver: Driver, chance: random.Random) -> Drawn:
    def turn(on: int) -> Act:
        return lambda: _ignore(driver.database.sql(f"SET GLOBAL read_only = {on}"))

    return "read-only", chance.uniform(1, 10), turn(1), turn(0)


def _points_wrong(driver: Driver, chance: random.Random) -> Drawn:
    fault = _fault(chance, share=chance.choice((0.1, 0.3, 1.0)))
    behaviour = driver.rig.behaviour

    def end() -> None:
        behaviour.points = ()

    def begin() -> None:
        behaviour.points = (fault,)

    return f"points {fault.kind} {fault.share:.0%}", chance.uniform(2, 12), begin, end


def _points_huge(driver: Driver, chance: random.Random) -> Drawn:
    fault = Fault(kind=chance.choice(HUGE), limit=2)
    behaviour = driver.rig.behaviour

    def begin() -> None:
        behaviour.points = (fault,)

    def end() -> None:
        behaviour.points = ()

    return f"points {fault.kind} twice", 6.0, begin, end


def _device_down(driver: Driver, chance: random.Random) -> Drawn:
    device = chance.choice(driver.rig.network.resources).split("/")[1]
    fault = Fault(kind=Kind.STATUS, status=503, device=device)
    behaviour = driver.rig.behaviour

    def begin() -> None:
        behaviour.points = (fault,)

    def end() -> None:
        behaviour.points = ()

    return "one device fails", chance.uniform(3, 12), begin, end


def _listing_wrong(driver: Driver, chance: random.Random) -> Drawn:
    fault = _fault(chance, share=1.0, kinds=ANSWERS[: ANSWERS.index(Kind.NO_POINTS)])

    def begin() -> None:
        driver.listing_faults = (fault,)

    def end() -> None:
        driver.listing_faults = ()

    return f"listing {fault.kind}", chance.uniform(3, 12), begin, end


def _listing_odd(driver: Driver, chance: random.Random) -> Drawn:
    edits: dict[str, Callable[[Sequence[JsonObject]], object]] = {
        "empty": instead([]),
        "no array": instead({"interfaces": []}),
        "cut short": first(chance.randint(1, len(driver.rig.network.resources))),
        "doubled": doubled_entries,
        "half": half,
        "with odd entries": with_odd_entries,
    }
    name, edit = chance.choice(list(edits.items()))

    def begin() -> None:
        driver.listing_edit = edit

    def end() -> None:
        driver.listing_edit = None

    return f"listing {name}", chance.uniform(3, 12), begin, end


def _silence(driver: Driver, chance: random.Random) -> Drawn:
    behaviour = driver.rig.behaviour

    def begin() -> None:
        behaviour.silence = True

    def end() -> None:
        behaviour.silence = False

    return "silence of all", chance.uniform(3, 15), begin, end


def _late(driver: Driver, chance: random.Random) -> Drawn:
    """The source withholds the points of some series, of a device or of all, and completes them later."""
    network = driver.rig.network
    device = chance.choice(network.resources).split("/")[1]
    kinds = {
        "some interfaces": chance.sample(network.resources, 1 + len(network.resources) // 4),
        "a device": [each for each in network.resources if each.split("/")[1] == device],
        "all interfaces": list(network.resources),
    }
    kind = chance.choice(list(kinds))

    def begin() -> None:
        network.sleeps_ms = dict.fromkeys(kinds[kind], driver.clock())

    def end() -> None:
        network.sleeps_ms = {}

    return f"points of {kind} are late", chance.uniform(3, 20), begin, end


def _flapping(driver: Driver, chance: random.Random) -> Drawn:
    network = driver.rig.network
    some = frozenset(chance.sample(network.resources, chance.randint(*FLAPPING)))

    def begin() -> None:
        network.absent = some

    def end() -> None:
        network.absent = frozenset()

    return "interfaces flap", chance.uniform(3, 12), begin, end


def _waking(driver: Driver, chance: random.Random) -> Drawn:
    network = driver.rig.network
    resource = chance.choice([each for each in network.resources if network.silent(each)])

    def begin() -> None:
        network.wakes_ms = {resource: driver.clock(), **network.wakes_ms}

    return "silent interface wakes", 0.0, begin, _nothing


def _netbeam_reset(driver: Driver, chance: random.Random) -> Drawn:
    return "connections reset", 0.0, driver.rig.simulation.reset_connections, _nothing


def _netbeam_down(driver: Driver, chance: random.Random) -> Drawn:
    simulation = driver.rig.simulation
    return "down", chance.uniform(1, 12), simulation.stop, lambda: _ignore(simulation.start())


def _fault(chance: random.Random, share: float, kinds: Sequence[Kind] = ANSWERS) -> Fault:
    kind = chance.choice(kinds)
    status = chance.choice(STATUSES)
    retry_after = "1" if status in (429, 503) and chance.random() < 0.5 else None
    return Fault(kind=kind, share=share, status=status, retry_after=retry_after, seconds=0.3, seed=chance.randrange(1000))


def _ignore(result: object) -> None:
    """For what gives something that nobody wants."""


PARTIES: dict[str, tuple[Draw, ...]] = {
    "collector": (_collector_killed, _collector_stopped, _collector_frozen, _collector_relieved),
    "RabbitMQ": (_bus_closed, _bus_closed, _bus_restarted, _bus_killed, _bus_frozen, _bus_alarmed),
    "database": (_database_cut, _database_cut, _database_restarted, _database_killed, _database_frozen, _database_read_only),
    "Netbeam": (
        _points_wrong, _points_wrong, _points_wrong, _points_huge, _device_down, _listing_wrong, _listing_odd, _silence,
        _late, _late,
        _flapping, _flapping, _waking, _netbeam_reset, _netbeam_down,
    ),
}  # fmt: skip
