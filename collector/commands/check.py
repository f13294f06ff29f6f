"""`check`: looks at the configuration, Netbeam, the database and RabbitMQ, and changes nothing (SPEC section 6)."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from collector.commands import wiring
from collector.config.configuration import Config, RabbitSettings
from collector.core.contracts import Publisher
from collector.core.counters import Counters
from collector.core.errors import CollectorError, NoExchangeError, NoTableError
from collector.core.shutdown import GRACE_S, Stop
from collector.cycle.cycle import CLOCK_TOLERANCE_S
from collector.store.sql import COLUMNS, NAME

LIMIT_S = 15.0
"""For one system: long enough for a listing of 5 MB, short enough to wait for."""
GLANCE_S = 0.05
"""Between two looks at a publisher that connects."""
MOST_ENTRIES = 20
"""Of a listing's faulty entries, in the report; `run` logs them all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one system; `details` are worth a line each."""

    fine: bool
    text: str
    details: tuple[str, ...] = ()


def check(config: Config, *, sqlite: str | None = None) -> int:
    """Look at each system that the configuration has and print what was found; 1 when one of them is wrong, else 0."""
    logging.getLogger("collector.core.outage").setLevel(logging.ERROR)  # the findings say it
    _say("configuration", Finding(True, "every setting can be used", config.warnings))
    looks: dict[str, Callable[[Stop], Finding]] = {
        "Netbeam": lambda stop: _look_at_netbeam(config, stop),
        "MySQL" if sqlite is None else "SQLite": lambda stop: _look_at_table(config, sqlite, stop),
    }
    if config.rmq is not None:
        rmq = config.rmq
        looks["RabbitMQ"] = lambda stop: _look_at_rabbitmq(config, rmq, stop)
    fine = True
    with ThreadPoolExecutor(len(looks)) as pool:
        for system, finding in zip(looks, pool.map(_look, looks.values()), strict=True):
            _say(system, finding)
            fine = fine and finding.fine
    return 0 if fine else 1


def say_problems(problems: Iterable[str]) -> None:
    """Print what is wrong with a configuration; nothing is contacted with it."""
    for problem in problems:
        _say("configuration", Finding(False, problem))


def _say(system: str, finding: Finding) -> None:
    print(f"{system}: {'ok' if finding.fine else 'WRONG'}: {finding.text}", flush=True)
    for detail in finding.details:
        print(f"  warning: {detail}", flush=True)


def _look(look: Callable[[Stop], Finding]) -> Finding:
    """Look with a stop that comes by itself, so early that what is in flight then is given up at LIMIT_S."""
    stop = Stop()
    timer = threading.Timer(LIMIT_S - GRACE_S, stop.set)
    timer.daemon = True
    timer.start()
    try:
        return look(stop)
    except CollectorError as error:
        return _wrong(error, stop)
    finally:
        timer.cancel()


def _wrong(error: CollectorError | str, stop: Stop, where: str = "") -> Finding:
    """What is wrong with a system; once the time is up the error only says that we gave up."""
    return Finding(False, where + (f"no answer within {LIMIT_S:.0f} s" if stop.is_set() else str(error)))


def _look_at_netbeam(config: Config, stop: Stop) -> Finding:
    source = wiring.source(config, stop, Counters(), once=True)
    began = time.monotonic()
    try:
        listing = source.list(_now_ms())
    except CollectorError as error:
        return _wrong(error, stop, f"{config.netbeam_url_shown}: ")
    finally:
        source.close()
    seconds = time.monotonic() - began
    details = list(listing.skipped[:MOST_ENTRIES])
    if len(listing.skipped) > MOST_ENTRIES:
        details.append(f"and {len(listing.skipped) - MOST_ENTRIES} entries more")
    if abs(listing.clock_ahead_s) > CLOCK_TOLERANCE_S:
        details.append(f"our clock differs from Netbeam's by {listing.clock_ahead_s:.0f} s")
    text = f"{len(listing.interfaces)} interfaces in {seconds:.1f} s, {len(listing.skipped)} entries skipped"
    return Finding(True, f"{text}, from {config.netbeam_url_shown}", tuple(details))


def _look_at_table(config: Config, sqlite: str | None, stop: Stop) -> Finding:
    store = wiring.store(config, sqlite, stop)
    try:
        store.open(create=False)
        table = store.read(_now_ms())
    except NoTableError as error:
        return Finding(True, f"{error}; run creates it")
    finally:
        store.close()
    details = tuple(f"row {row.id} {row.name!r} cannot be trusted: {row.reason}" for row in table.untrusted)
    text = f"table {NAME} has its {len(COLUMNS)} columns and {len(table.rows) + len(table.untrusted)} rows"
    return Finding(True, f"{text}, {sum(row.active for row in table.rows)} of them active", details)


def _look_at_rabbitmq(config: Config, settings: RabbitSettings, stop: Stop) -> Finding:
    # without RMQ_DECLARE: looking at the exchange must not make it
    passive = replace(config, rmq=replace(settings, declare=False))
    publisher = wiring.publisher(passive, False, stop, Counters())
    publisher.start()
    try:
        error = _wait_for(publisher, stop)
    finally:
        publisher.close(GLANCE_S)
    exchange = f"exchange {config.exchange!r} in vhost {settings.vhost!r}"
    if isinstance(error, NoExchangeError) and settings.declare:
        return Finding(True, f"no {exchange}; run declares it (RMQ_DECLARE)")
    if error is not None:
        return _wrong(error, stop)
    return Finding(True, f"{exchange} is there; whether a queue is bound to it shows only when publishing")


def _wait_for(publisher: Publisher, stop: Stop) -> CollectorError | str | None:
    """Why the publisher cannot be used, by its first try; None when it can."""
    while not publisher.ready:
        if publisher.refusal is not None:
            return publisher.refusal
        if publisher.outage.down:
            return publisher.outage.last_error
        if stop.wait(GLANCE_S):
            return "no answer in time"
    return None


def _now_ms() -> int:
    return int(time.time() * 1000)
