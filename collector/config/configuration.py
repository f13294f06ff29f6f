"""The configuration: frozen, complete and checked before anything is contacted; every problem in one report."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Self
from urllib.parse import urlsplit

from collector.config.draft import Draft, misspelt, read_mysql, read_rabbit, read_stardust
from collector.config.env_file import DEFAULT_FILE, Settings
from collector.config.options import OPTIONS
from collector.config.systems import MysqlSettings, RabbitSettings, StardustSettings, asked_at
from collector.core.errors import ConfigurationError
from collector.core.model import RecordType
from collector.core.share import Share

NOTHING_SET = (
    f"no file {DEFAULT_FILE} was found: write one after .env.example, or name one with --env-file FILE;"
    " in a container add --env-file .env to docker run, before the image's name"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, each with its variable. Names that end in `_s` are seconds; docs/configuration.md explains each one."""

    source: Annotated[str, "SOURCE"]
    """`netbeam` or `stardust`; the settings of the other one have their defaults."""
    stardust: Annotated[StardustSettings | None, read_stardust]
    netbeam_url: Annotated[str, "NETBEAM_URL"] = field(repr=False)
    netbeam_concurrency: Annotated[int, "NETBEAM_CONCURRENCY"]
    netbeam_rate: Annotated[float, "NETBEAM_RATE"]
    netbeam_timeout_s: Annotated[float, "NETBEAM_TIMEOUT"]
    record_types: Annotated[tuple[RecordType, ...], "RECORD_TYPES"]
    poll_interval_s: Annotated[float, "POLL_INTERVAL"]
    settle_delay_s: Annotated[float, "SETTLE_DELAY"]
    initial_lookback_s: Annotated[float, "INITIAL_LOOKBACK"]
    max_window_s: Annotated[float, "MAX_WINDOW"]
    max_backlog_s: Annotated[float, "MAX_BACKLOG"]
    idle_backoff_s: Annotated[float, "IDLE_BACKOFF"]
    late_data_s: Annotated[float, "LATE_DATA"]
    max_retired_share: Annotated[float, "MAX_RETIRED_SHARE"]
    interface_snapshot_interval_s: Annotated[float, "INTERFACE_SNAPSHOT_INTERVAL"]
    share: Annotated[Share, "SHARD"]
    exchange: Annotated[str, "RMQ_EXCHANGE"]
    interface_key: Annotated[str, "RMQ_INTERFACE_KEY"]
    traffic_key: Annotated[str, "RMQ_TRAFFIC_KEY"]
    rmq: Annotated[RabbitSettings | None, read_rabbit]
    mysql: Annotated[MysqlSettings | None, read_mysql]
    metrics_port: Annotated[int, "METRICS_PORT"]
    metrics_host: Annotated[str, "METRICS_HOST"]
    metrics_hosts: Annotated[tuple[str, ...] | None, "METRICS_HOSTS"]
    log_level: Annotated[str, "LOG_LEVEL"]
    log_format: Annotated[str, "LOG_FORMAT"]
    warnings: tuple[str, ...] = ()

    @property
    def netbeam_url_shown(self) -> str:
        """The base URL without the user and password that it may hold: for messages."""
        parts = urlsplit(self.netbeam_url)
        _, found, host = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"***@{host}").geturl() if found else self.netbeam_url

    @property
    def page(self) -> str | None:
        """The address of the page as a browser on this machine takes it; None without one."""
        host = asked_at(self.metrics_host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.metrics_port}/" if self.metrics_port else None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str], *, without: Collection[str] = ()) -> Self:
        """From variables by canonical name; an empty one counts as not set. See `of`."""
        return cls.of(Settings(mapping), without=without)

    @classmethod
    def of(cls, settings: Settings, *, without: Collection[str] = ()) -> Self:
        """From what was gathered.

        `without` names the systems ("rmq", "mysql") that are replaced: their variables are not looked at. Raises
        ConfigurationError with every problem, with the warnings after them, and with a hint where nothing is set at all.
        """
        draft = Draft(settings, without)
        values = draft.read(cls)
        said = [*draft.warnings, *misspelt(settings.values)]
        if draft.problems:
            unset = settings.file is None and not any(each.required and each.name in settings.values for each in OPTIONS)
            raise ConfigurationError([*draft.problems, *said, *([NOTHING_SET] if unset else [])])
        if 0 < values["max_backlog_s"] < values["late_data_s"]:
            said.append(f"LATE_DATA is cut to MAX_BACKLOG, {values['max_backlog_s']:.15g} s: nothing older is collected")
            values["late_data_s"] = values["max_backlog_s"]
        return cls(**values, warnings=tuple(said))
