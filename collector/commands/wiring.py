"""Builds the adapters that a configuration asks for: the one place that knows which class stands behind a contract."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from collector.bus.publisher import AmqpPublisher
from collector.bus.stdout import StdoutPublisher
from collector.commands.resume import backfill_command
from collector.config.configuration import Config
from collector.core.contracts import Publisher, Source, Store
from collector.core.counters import Counters
from collector.core.shutdown import Stop
from collector.core.text import printable
from collector.cycle.cycle import Cycle, Parts
from collector.cycle.flow_control import Gate
from collector.cycle.interface_messages import Announcements
from collector.cycle.pipeline import Transfer
from collector.cycle.plan import PlanRules
from collector.cycle.reconcile import ReconcileRules
from collector.cycle.series_state import Memory
from collector.source.netbeam.api import Netbeam
from collector.source.stardust.api import Stardust
from collector.store.mysql import MysqlStore
from collector.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is, in words for an operator; nothing in it is secret."""

    source: str
    database: str
    exchange: str
    page: str | None
    """The page's address; None without one."""


def places(config: Config, sqlite: str | None, to_stdout: bool) -> Places:
    """Where this configuration has everything."""
    mysql, rmq = config.mysql, config.rmq
    database = sqlite if sqlite is not None or mysql is None else f"{mysql.user}@{mysql.host}:{mysql.port}/{mysql.database}"
    broker = "stdout" if to_stdout or rmq is None else f"{','.join(rmq.hosts)}:{rmq.port}{rmq.vhost}"
    host = f"[{config.metrics_host}]" if ":" in config.metrics_host else config.metrics_host
    page = f"http://{host}:{config.metrics_port}/" if config.metrics_port else None
    exchange = printable(f"{config.exchange} at {broker}")
    return Places(printable(config.netbeam_url_shown), printable(database), exchange, page)


def source(config: Config, stop: Stop, counters: Counters, *, once: bool = False, rate: float | None = None) -> Source:
    """The one that is configured; Netbeam at the configured rate or the given one when that is lower."""
    if config.stardust is not None:
        return Stardust(config.stardust, stop=stop, counters=counters, rate=rate or 0.0, once=once)
    limits = [each for each in (config.netbeam_rate, rate or 0.0) if each]
    return Netbeam(
        config.netbeam_url,
        concurrency=config.netbeam_concurrency,
        rate=min(limits, default=0.0),
        timeout_s=config.netbeam_timeout_s,
        stop=stop,
        counters=counters,
        once=once,
    )


def store(config: Config, sqlite: str | None, stop: Stop, counters: Counters | None = None) -> Store:
    """The table in MySQL, or in the SQLite file that replaces it."""
    if sqlite is not None:
        return SqliteStore(sqlite, stop)
    assert config.mysql is not None, "a configuration without MySQL needs a file"  # noqa: S101  # a slip in the code, not the operator's
    return MysqlStore(config.mysql, stop, counters, config.share)


def publisher(config: Config, to_stdout: bool, stop: Stop, counters: Counters) -> Publisher:
    """RabbitMQ, or the standard output that replaces it."""
    if to_stdout:
        return StdoutPublisher(config.exchange, stop)
    assert config.rmq is not None, "a configuration without RabbitMQ prints"  # noqa: S101  # as above
    return AmqpPublisher(config.rmq, config.exchange, stop, counters)


def gate(
    config: Config,
    publisher: Publisher,
    stop: Stop,
    *,
    may_work: Callable[[], bool] = lambda: True,
    patience_s: float | None = None,
) -> Gate:
    """The gate in front of a publisher."""
    return Gate(publisher, stop, exchange=config.exchange, may_work=may_work, patience_s=patience_s)


def transfer(config: Config, source: Source, publisher: Publisher, gate: Gate, stop: Stop, counters: Counters) -> Transfer:
    """The way from one to the other."""
    return Transfer(
        source,
        publisher,
        gate,
        interface_key=config.interface_key,
        traffic_key=config.traffic_key,
        stop=stop,
        counters=counters,
    )


def cycle(
    config: Config,
    source: Source,
    store: Store,
    publisher: Publisher,
    stop: Stop,
    counters: Counters,
    *,
    once: bool,
    patience_s: float | None,
    beat: Callable[[], None],
    backfill: Callable[[int, int], str] = backfill_command,
) -> Cycle:
    """The cycle over these systems."""
    door = gate(config, publisher, stop, may_work=store.holds_lock, patience_s=patience_s)
    poll_ms, max_window_ms = _ms(config.poll_interval_s), _ms(config.max_window_s)
    return Cycle(
        Parts(
            source=source,
            store=store,
            publisher=publisher,
            gate=door,
            transfer=transfer(config, source, publisher, door, stop, counters),
            announcements=Announcements(config.interface_snapshot_interval_s, counters, time.monotonic),
            memory=Memory(poll_ms, _ms(config.idle_backoff_s), max_window_ms),
            counters=counters,
            stop=stop,
        ),
        ReconcileRules(config.record_types, _ms(config.initial_lookback_s), poll_ms, config.max_retired_share),
        plan_rules(config),
        once=once,
        backfill=backfill,
        beat=beat,
    )


def plan_rules(config: Config) -> PlanRules:
    """The settings that window planning depends on."""
    return PlanRules(
        record_types=config.record_types,
        settle_ms=_ms(config.settle_delay_s),
        lookback_ms=_ms(config.initial_lookback_s),
        max_window_ms=_ms(config.max_window_s),
        max_backlog_ms=_ms(config.max_backlog_s),
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
