"""The configuration: frozen, complete and checked before anything is contacted; every problem in one report."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from collector.config import env_file as sources
from collector.config.draft import Draft, misspelt, mysql, rabbit, stardust
from collector.config.options import OPTIONS
from collector.config.systems import MysqlSettings, RabbitSettings, StardustSettings
from collector.core.errors import ConfigurationError
from collector.core.model import RecordType
from collector.core.share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings. Names that end in `_s` are seconds; README's table of variables says what each one means."""

    source: str
    """`netbeam` or `stardust`; the settings of the other one have their defaults."""
    stardust: StardustSettings | None
    netbeam_url: str = field(repr=False)
    netbeam_concurrency: int
    netbeam_rate: float
    netbeam_timeout_s: float
    record_types: tuple[RecordType, ...]
    poll_interval_s: float
    settle_delay_s: float
    initial_lookback_s: float
    max_window_s: float
    max_backlog_s: float
    idle_backoff_s: float
    late_data_s: float
    max_retired_share: float
    interface_snapshot_interval_s: float
    share: Share
    exchange: str
    interface_key: str
    traffic_key: str
    rmq: RabbitSettings | None
    mysql: MysqlSettings | None
    metrics_port: int
    metrics_host: str
    metrics_hosts: tuple[str, ...]
    log_level: str
    log_format: str
    warnings: tuple[str, ...] = ()

    @property
    def netbeam_url_shown(self) -> str:
        """The base URL without the user and password that it may hold: for messages."""
        parts = urlsplit(self.netbeam_url)
        _, found, host = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"***@{host}").geturl() if found else self.netbeam_url

    @classmethod
    def from_mapping(
        cls,
        mapping: Mapping[str, str],
        *,
        without: Collection[str] = (),
        origins: Mapping[str, str] | None = None,
        warnings: Sequence[str] = (),
    ) -> Self:
        """From variables by canonical name; an empty one counts as not set.

        `without` names the systems ("rmq", "mysql") that are replaced: their variables are not looked at. `origins` says
        where each variable was set; `warnings` are known already. Raises ConfigurationError with every problem, and with
        the warnings after them.
        """
        draft = Draft(mapping, without, origins or {})
        get = draft.get
        values: dict[str, Any] = {
            "source": get("SOURCE"),
            "netbeam_url": get("NETBEAM_URL"),
            "netbeam_concurrency": get("NETBEAM_CONCURRENCY"),
            "netbeam_rate": get("NETBEAM_RATE"),
            "netbeam_timeout_s": get("NETBEAM_TIMEOUT"),
            "stardust": stardust(draft) if draft.with_stardust else None,
            "record_types": get("RECORD_TYPES"),
            "poll_interval_s": get("POLL_INTERVAL"),
            "settle_delay_s": get("SETTLE_DELAY"),
            "initial_lookback_s": get("INITIAL_LOOKBACK"),
            "max_window_s": get("MAX_WINDOW"),
            "max_backlog_s": get("MAX_BACKLOG"),
            "idle_backoff_s": get("IDLE_BACKOFF"),
            "late_data_s": get("LATE_DATA"),
            "max_retired_share": get("MAX_RETIRED_SHARE"),
            "interface_snapshot_interval_s": get("INTERFACE_SNAPSHOT_INTERVAL"),
            "share": get("SHARD"),
            "exchange": get("RMQ_EXCHANGE"),
            "interface_key": get("RMQ_INTERFACE_KEY"),
            "traffic_key": get("RMQ_TRAFFIC_KEY"),
            "rmq": None if "rmq" in without else rabbit(draft),
            "mysql": None if "mysql" in without else mysql(draft),
            "metrics_port": get("METRICS_PORT"),
            "metrics_host": get("METRICS_HOST"),
            "metrics_hosts": get("METRICS_HOSTS") or (),
            "log_level": get("LOG_LEVEL"),
            "log_format": get("LOG_FORMAT"),
        }
        said = [*warnings, *draft.quoted(), *draft.broken_lines(), *misspelt(mapping)]
        if draft.problems:
            raise ConfigurationError([*draft.problems, *said])
        if 0 < values["max_backlog_s"] < values["late_data_s"]:
            said.append(f"LATE_DATA is cut to MAX_BACKLOG, {values['max_backlog_s']:.15g} s: nothing older is collected")
            values["late_data_s"] = values["max_backlog_s"]
        return cls(**values, warnings=tuple(said))


def load(env_file: str | None = None, *, without: Collection[str] = (), environ: Mapping[str, str] | None = None) -> Config:
    """The configuration from the environment (`environ` if given) and the file. Raises ConfigurationError."""
    return of(sources.gather(os.environ if environ is None else environ, env_file), without=without)


def of(settings: sources.Settings, *, without: Collection[str] = ()) -> Config:
    """The configuration from what was gathered. Raises ConfigurationError, with a hint where nothing is set at all."""
    try:
        return Config.from_mapping(settings.values, without=without, origins=settings.origins, warnings=settings.warnings)
    except ConfigurationError as error:
        if settings.file is not None or any(option.required and option.name in settings.values for option in OPTIONS):
            raise
        hint = (
            f"no file {sources.DEFAULT_FILE} was found: write one after .env.example, or name one with --env-file FILE;"
            " in a container add --env-file .env to docker run, before the image's name"
        )
        raise ConfigurationError([*error.problems, hint]) from None
