"""`check`: looks at the configuration, the source, the database and RabbitMQ, and changes nothing."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from collector.bus.hosts import HostFinding, look_at_hosts
from collector.commands import wiring
from collector.config.configuration import Config
from collector.config.systems import RabbitSettings
from collector.core import outage
from collector.core.contracts import Fetched, Source
from collector.core.counters import Counters
from collector.core.errors import AnswerError, CollectorError, ConfigurationError, NoExchangeError, NoTableError, UnavailableError
from collector.core.model import Listing, Series, Window
from collector.core.shutdown import GRACE_S, Stop
from collector.core.text import counted, printable
from collector.cycle.cycle import CLOCK_TOLERANCE_S
from collector.cycle.plan import settled_ms
from collector.store.sql import COLUMNS, NAME
from collector.watch.format import duration

LIMIT_S = 15.0
"""For one system: long enough for a listing of 5 MB, short enough to wait for."""
MOST_ENTRIES = 20
"""Of a listing's faulty entries, and of rows that cannot be trusted, in the report; `run` logs them all."""
WINDOW_MS = 900_000
"""One window of one interface is fetched, so long."""
USAGE = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one system; `code` is 0 when it is fine, else the exit code. `details` are worth a line each."""

    code: int
    text: str
    details: tuple[str, ...] = ()


def check(config: Config, *, sqlite: str | None = None) -> int:
    """Look at each system that the configuration has and print what was found; 0 when none is wrong."""
    logging.getLogger(outage.__name__).disabled = True  # the findings say it
    _say("configuration", Finding(0, f"every setting can be used, share {config.share}", config.warnings))
    looks: list[tuple[str, Callable[[Stop], list[Finding]]]] = [
        (config.source.capitalize(), lambda stop: [_look_at_source(config, stop)]),
        ("MySQL" if sqlite is None else "SQLite", lambda stop: [_look_at_table(config, sqlite, stop)]),
    ]
    if rmq := config.rmq:
        looks.append(("RabbitMQ", lambda stop: _look_at_rabbitmq(config, rmq)))
    codes = []
    with ThreadPoolExecutor(len(looks)) as pool:
        findings = pool.map(_look, [look for _, look in looks])
        for (system, _), found in zip(looks, findings, strict=True):
            for finding in found:
                _say(system, finding)
                codes.append(finding.code)
    return max(codes)


def say_problems(problems: Iterable[str]) -> None:
    """Print what is wrong with a configuration; nothing is contacted with it."""
    for problem in problems:
        _say("configuration", Finding(USAGE, problem))


def _say(system: str, finding: Finding) -> None:
    print(f"{system}: {'WRONG' if finding.code else 'ok'}: {printable(finding.text, None)}", flush=True)
    for detail in finding.details:
        print(f"  warning: {printable(detail)}", flush=True)


def _look(look: Callable[[Stop], list[Finding]]) -> list[Finding]:
    """Look with a stop that comes by itself, so early that what is in flight then is given up at LIMIT_S."""
    stop = Stop()
    timer = threading.Timer(LIMIT_S - GRACE_S, stop.set)
    timer.daemon = True
    timer.start()
    try:
        return look(stop)
    except CollectorError as error:
        return [_wrong(error, stop)]
    finally:
        timer.cancel()


def _wrong(error: CollectorError, stop: Stop, where: str = "") -> Finding:
    """What is wrong with a system; once the time is up the error only says that we gave up."""
    return Finding(1, where + (f"no answer within {LIMIT_S:.0f} s" if stop.is_set() else str(error)))


def _look_at_source(config: Config, stop: Stop) -> Finding:
    where = f"{wiring.identity(config).source}: "
    try:
        with closing(wiring.source(config, stop, Counters(), once=True)) as source:
            return _look_at_answers(config, source, where)
    except ConfigurationError as error:  # a proxy or a CA bundle that cannot be used: `run` ends with this code as well
        return Finding(USAGE, str(error))
    except CollectorError as error:
        return _wrong(error, stop, where)


def _look_at_answers(config: Config, source: Source, where: str) -> Finding:
    began = time.monotonic()
    listing = source.list(_now_ms())
    took = duration(time.monotonic() - began)
    details = _first(listing.skipped, "entries")
    if abs(listing.clock_ahead_s) > CLOCK_TOLERANCE_S:
        details.append(f"our clock differs from {source.name}'s by {listing.clock_ahead_s:.0f} s")
    interfaces, skipped = counted(len(listing.interfaces), "interface"), counted(len(listing.skipped), "entry", "entries")
    text = f"{where}{interfaces} in {took}, {skipped} skipped; "
    newest_ms = wiring.newest_document_ms(source, _now_ms())
    if newest_ms is not None:
        text += f"the newest document's interval began {duration((_now_ms() - newest_ms) / 1000)} ago; "
    return Finding(0, text + _fetch_one(config, source, listing), tuple(details))


def _first(faults: Sequence[str], noun: str) -> list[str]:
    more = len(faults) - MOST_ENTRIES
    return [*faults[:MOST_ENTRIES], *([f"and {more} {noun} more"] if more > 0 else [])]


class _OneWindow:
    """contracts.Intake for a single window."""

    def __init__(self) -> None:
        self.fetched: list[Fetched] = []

    def admit(self, windows: Sequence[Window]) -> int:
        """All of it."""
        return len(windows)

    def release(self, windows: Sequence[Window]) -> None:
        """It is not asked for, then."""

    def deliver(self, fetched: Fetched) -> None:
        """Keep it."""
        self.fetched.append(fetched)


def _fetch_one(config: Config, source: Source, listing: Listing) -> str:
    """One window of one interface, in words; of one that has a speed, since others mostly have no points. Raises AnswerError."""
    name = next((name for name, each in listing.interfaces.items() if each.get("speed")), next(iter(listing.interfaces)))
    record_type = config.record_types[0]
    end_ms = settled_ms(listing.time_ms, wiring.rules(config).settle_ms)
    window = Window(Series(0, name, record_type), end_ms - WINDOW_MS, end_ms)
    intake, began = _OneWindow(), time.monotonic()
    source.fetch([window], intake, began + LIMIT_S)
    if not intake.fetched:
        raise UnavailableError(f"{name} {record_type}: {source.outage.last_error or 'no answer'}")
    (fetched,) = intake.fetched
    if fetched.failure is not None:
        raise AnswerError(f"{name} {record_type}: {fetched.failure}")
    points = counted(len(fetched.points), f"{record_type} point")
    inside = f"{points} in {WINDOW_MS // 60_000} minutes of {printable(name)}"
    return f"{inside}, in {duration(time.monotonic() - began)}"


def _look_at_table(config: Config, sqlite: str | None, stop: Stop) -> Finding:
    store = wiring.store(config, sqlite, stop)
    where = f"{wiring.identity(config, sqlite).database}: "
    table, lacking = None, ""
    try:
        try:
            store.open(create=False)
            table = store.read(_now_ms())
        except NoTableError as error:
            lacking = str(error)
        missing = wiring.missing_rights(store)
    except CollectorError as error:
        return _wrong(error, stop, where if stop.is_set() else "")  # else it says where by itself
    finally:
        store.close()
    if missing:
        return Finding(1, f"{where}the user lacks the rights {missing}")
    rights = "" if sqlite is not None else "; the user's rights suffice"
    if table is None:
        return Finding(0, f"{where}{lacking}; run creates it{rights}")
    details = _first([f"row {row.id} {row.name!r} cannot be trusted: {row.reason}" for row in table.untrusted], "rows")
    text = f"table {NAME} has its {len(COLUMNS)} columns and {counted(len(table.rows) + len(table.untrusted), 'row')}"
    return Finding(0, f"{where}{text}, {sum(row.active for row in table.rows):,} of them active{rights}", tuple(details))


def _look_at_rabbitmq(config: Config, settings: RabbitSettings) -> list[Finding]:
    keys = (config.interface_key, config.traffic_key)
    return [_of_host(each, config, settings) for each in look_at_hosts(settings, config.exchange, keys)]


def _of_host(found: HostFinding, config: Config, settings: RabbitSettings) -> Finding:
    where = f"{settings.user}@{found.host}:{found.port}: "
    exchange = f"exchange {config.exchange!r} in vhost {settings.vhost!r}"
    if isinstance(found.error, NoExchangeError) and settings.declare:
        return Finding(0, f"{where}no {exchange}; run declares it (RMQ_DECLARE); whether the user may shows only then")
    if found.error is not None:
        return Finding(1, f"{where}{found.error}")
    may = found.unsure or "the user may publish to it"
    return Finding(0, f"{where}{exchange} is there, {may}; whether a queue is bound to it shows only when publishing")


def _now_ms() -> int:
    return int(time.time() * 1000)
