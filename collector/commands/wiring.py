"""Builds the adapters that a configuration asks for: the one place that knows which class stands behind a contract."""

import logging
from collections.abc import Callable

from collector.bus.publisher import AmqpPublisher
from collector.bus.stdout import StdoutPublisher
from collector.commands.resume import backfill_command
from collector.commands.systems import Systems
from collector.config.configuration import Config
from collector.core.contracts import Publisher, Source, Store
from collector.core.counters import Counters
from collector.core.limited_log import LimitedLog
from collector.core.report import CycleReport
from collector.core.shutdown import Stop
from collector.core.text import printable
from collector.cycle.cycle import Cycle
from collector.cycle.flow_control import FlowControl
from collector.cycle.pipeline import Pipeline
from collector.cycle.rules import Rules
from collector.source.netbeam.api import Netbeam
from collector.source.stardust.api import Stardust
from collector.store.mysql import MysqlStore
from collector.store.sqlite import SqliteStore
from collector.watch.state import Identity


def identity(config: Config, sqlite: str | None = None) -> Identity:
    """Which collector this is and where it has everything, in words for an operator; nothing in it is secret."""
    mysql, rmq, stardust = config.mysql, config.rmq, config.stardust
    database = sqlite if sqlite is not None or mysql is None else f"{mysql.user}@{mysql.host}:{mysql.port}/{mysql.database}"
    broker = "stdout" if rmq is None else f"{rmq.address}/{rmq.vhost.removeprefix('/')}"
    return Identity(
        source=printable(config.netbeam_url_shown if stardust is None else f"{stardust.url}/{stardust.index}"),
        database=printable(database),
        exchange=printable(f"{config.exchange} at {broker}"),
        share=str(config.share),
    )


def newest_document_ms(source: Source, now_ms: int) -> int | None:
    """Where the interval of the newest document begins; None for a source without documents.

    Raises UnavailableError and AnswerError.
    """
    return source.newest_ms(now_ms) if isinstance(source, Stardust) else None


def missing_rights(store: Store) -> str | None:
    """The rights that the user lacks in an open store, where there are users, and how to grant them."""
    if isinstance(store, MysqlStore) and (missing := store.missing_rights()):
        return f"{', '.join(missing)}; this grants them: {store.granting(missing)}"
    return None


def systems(
    config: Config,
    *,
    sqlite: str | None,
    stop: Stop,
    once: bool = False,
    rate: float | None = None,
    compact: bool = False,
) -> Systems:
    """Those that are configured, or what replaces them; the source at `rate` where that is lower than the configured one.

    `compact` is for the standard output. Raises ConfigurationError for a proxy that cannot be used.
    """
    counters = Counters()
    publisher: Publisher = (
        StdoutPublisher(config.exchange, stop, compact=compact)
        if config.rmq is None
        else AmqpPublisher(config.rmq, config.exchange, stop, counters)
    )
    return Systems(
        source(config, stop, counters, once=once, rate=rate), store(config, sqlite, stop, counters), publisher, stop, counters
    )


def source(config: Config, stop: Stop, counters: Counters, *, once: bool = False, rate: float | None = None) -> Source:
    """The one that is configured, asked at most `rate` times a second; Netbeam also at most at its own configured rate."""
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


def pipeline(
    config: Config, systems: Systems, *, may_work: Callable[[], bool] = lambda: True, patience_s: float | None = None
) -> Pipeline:
    """The way from the source to the publisher, and the flow control in front of that."""
    publisher, stop = systems.publisher, systems.stop
    return Pipeline(
        source=systems.source,
        publisher=publisher,
        flow=FlowControl(publisher, stop, exchange=config.exchange, may_work=may_work, patience_s=patience_s),
        interface_key=config.interface_key,
        traffic_key=config.traffic_key,
        stop=stop,
        counters=systems.counters,
        limited=LimitedLog(logging.getLogger(Pipeline.__module__)),
    )


def cycle(
    config: Config,
    systems: Systems,
    *,
    once: bool = False,
    patience_s: float | None = None,
    beat: Callable[[], None] = lambda: None,
    begun: Callable[[CycleReport], None] = lambda report: None,
    backfill: Callable[[int, int], str] = backfill_command,
) -> Cycle:
    """The cycle over these systems."""
    return Cycle(
        pipeline(config, systems, may_work=systems.store.holds_lock, patience_s=patience_s),
        systems.store, rules(config, once=once), begun=begun, beat=beat, backfill=backfill,
    )  # fmt: skip


def rules(config: Config, *, once: bool = False) -> Rules:
    """The settings that a cycle depends on."""
    return Rules(
        record_types=config.record_types,
        poll_ms=_ms(config.poll_interval_s),
        settle_ms=_ms(config.settle_delay_s),
        lookback_ms=_ms(config.initial_lookback_s),
        max_window_ms=_ms(config.max_window_s),
        max_backlog_ms=_ms(config.max_backlog_s),
        idle_backoff_ms=_ms(config.idle_backoff_s),
        late_ms=_ms(config.late_data_s),
        snapshot_s=config.interface_snapshot_interval_s,
        max_retired_share=config.max_retired_share,
        share=config.share,
        once=once,
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
