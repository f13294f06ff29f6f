"""The configuration: frozen, complete and checked before anything is contacted; every problem in one report."""

import contextlib
import difflib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from collector.config import env_file as sources
from collector.config import files
from collector.config.options import (
    BY_NAME,
    MYSQL_OPTIONS,
    NETBEAM_OPTIONS,
    OPTIONS,
    RABBIT_OPTIONS,
    STARDUST_OPTIONS,
    STRICT_TEXTS,
    UnfitError,
)
from collector.core.errors import ConfigurationError
from collector.core.model import RecordType
from collector.core.share import Share

PORT_PLAIN = 5672
PORT_TLS = 5671
PREFIXES = ("RMQ_", "NETBEAM_", "STARDUST_", "MYSQL_")
"""What begins like this and is no option was meant to be one."""
NOT_OURS = frozenset({"MYSQL_ROOT_PASSWORD"})
"""Of the database's container; stands in the same file."""
RESEMBLANCE = 0.85
"""How like an option's name a variable without one of the prefixes must be to count as misspelt (difflib's ratio)."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A password: a value, or the file that holds it. `variable` is the setting's name, for messages."""

    value: str | None = None
    file: str | None = None
    variable: str = "password"

    def __post_init__(self) -> None:
        if (self.value is None) == (self.file is None):
            raise ValueError("a secret is a value or a file")

    def __repr__(self) -> str:
        return f"Secret({self.variable})"

    def read(self) -> str:
        """The password; of a file, what it holds at this moment less one trailing line end. Raises ConfigurationError."""
        if self.file is None:
            return self.value or ""
        try:
            content = files.read_file(self.file).decode("utf-8")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ConfigurationError(f"{self.variable} must name a file that holds the password: {reason}") from error
        password = re.sub(r"\r?\n\Z", "", content)
        if not password:
            raise ConfigurationError(f"{self.variable} must name a file that holds the password: it is empty")
        return password


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitSettings:
    """How to reach RabbitMQ; with `tls` the peer is verified, by `ca_file` or by the system's certificates."""

    hosts: tuple[str, ...]
    port: int
    user: str
    password: Secret
    vhost: str = "/"
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    mandatory: bool = True
    declare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlSettings:
    """How to reach MySQL; with `ca_file` over TLS only, the peer verified.

    `trust_server`: a peer that is not verified may get the password itself, over TLS, and not only a scramble of it.
    """

    host: str
    port: int
    database: str
    user: str
    password: Secret
    ca_file: str | None = None
    trust_server: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StardustSettings:
    """How to reach Stardust; `user` and `password` are both there or both None."""

    url: str
    index: str
    timeout_s: float
    concurrency: int
    user: str | None = None
    password: Secret | None = None


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
        cls, mapping: Mapping[str, str], *, without: Collection[str] = (), origins: Mapping[str, str] | None = None
    ) -> Self:
        """From variables by canonical name; an empty one counts as not set.

        `without` names the systems ("rmq", "mysql") that are replaced: their variables are not looked at. `origins` says
        where each variable was set. Raises ConfigurationError with every problem, and with the warnings after them.
        """
        draft = _Draft(mapping, without, origins or {})
        get = draft.get
        values: dict[str, Any] = {
            "source": get("SOURCE"),
            "netbeam_url": get("NETBEAM_URL"),
            "netbeam_concurrency": get("NETBEAM_CONCURRENCY"),
            "netbeam_rate": get("NETBEAM_RATE"),
            "netbeam_timeout_s": get("NETBEAM_TIMEOUT"),
            "stardust": _stardust(draft) if draft.with_stardust else None,
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
            "rmq": None if "rmq" in without else _rabbit(draft),
            "mysql": None if "mysql" in without else _mysql(draft),
            "metrics_port": get("METRICS_PORT"),
            "metrics_host": get("METRICS_HOST"),
            "metrics_hosts": get("METRICS_HOSTS") or (),
            "log_level": get("LOG_LEVEL"),
            "log_format": get("LOG_FORMAT"),
        }
        warnings = [*draft.quoted(), *draft.broken_lines(), *misspelt(mapping)]
        if draft.problems:
            raise ConfigurationError([*draft.problems, *warnings])
        if 0 < values["max_backlog_s"] < values["late_data_s"]:
            warnings.append(f"LATE_DATA is cut to MAX_BACKLOG, {values['max_backlog_s']:.15g} s: nothing older is collected")
            values["late_data_s"] = values["max_backlog_s"]
        return cls(**values, warnings=tuple(warnings))


def load(env_file: str | None = None, *, without: Collection[str] = (), environ: Mapping[str, str] | None = None) -> Config:
    """The configuration from the environment (`environ` if given) and the file. Raises ConfigurationError."""
    return of(sources.gather(os.environ if environ is None else environ, env_file), without=without)


def of(settings: sources.Settings, *, without: Collection[str] = ()) -> Config:
    """The configuration from what was gathered. Raises ConfigurationError, with a hint where nothing is set at all."""
    try:
        return Config.from_mapping(settings.values, without=without, origins=settings.origins)
    except ConfigurationError as error:
        if settings.file is not None or any(option.required and option.name in settings.values for option in OPTIONS):
            raise
        hint = (
            f"no file {sources.DEFAULT_FILE} was found: write one after .env.example, or name one with --env-file FILE;"
            " in a container add --env-file .env to docker run, before the image's name"
        )
        raise ConfigurationError([*error.problems, hint]) from None


def misspelt(names: Collection[str]) -> list[str]:
    """A warning for each name that is no option and looks as if it was meant to be one."""
    warnings = []
    for name in sorted(set(names) - set(BY_NAME) - NOT_OURS):
        prefix = next((each for each in PREFIXES if name.startswith(each)), "")
        candidates = [each for each in BY_NAME if each.startswith(prefix)]
        nearest = difflib.get_close_matches(name, candidates, n=1, cutoff=0.0 if prefix else RESEMBLANCE)
        if nearest:
            warnings.append(f"{name} is not an option and has no effect: did you mean {nearest[0]}?")
    return warnings


class _Draft:
    """Reads options from a mapping and collects what is wrong with them."""

    def __init__(self, mapping: Mapping[str, str], without: Collection[str], origins: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self.secrets: list[Secret] = []
        self._mapping = mapping
        self._origins = origins
        self.with_stardust = mapping.get("SOURCE", "").strip().lower() == "stardust"
        """What belongs to the other source is not looked at: who switches keeps the settings of both."""
        self._left_out = (
            *(RABBIT_OPTIONS if "rmq" in without else ()),
            *(MYSQL_OPTIONS if "mysql" in without else ()),
            *(NETBEAM_OPTIONS if self.with_stardust else STARDUST_OPTIONS),
        )

    def text(self, name: str) -> str | None:
        """The variable as it was set; None when it was not."""
        return self._mapping.get(name) or None

    def get(self, name: str) -> Any:
        """The option's value; after a problem, None."""
        option = BY_NAME[name]
        default = (self.with_stardust and option.with_stardust) or option.default
        text = default if option in self._left_out else self.text(name) or default
        if not text:
            if option.required:
                self.problems.append(f"{name} must be set: {option.meaning}")
            return None
        try:
            text.encode()
            return option.kind.parse(text)
        except UnicodeEncodeError:
            self.problems.append(f"{self.shown(name)} must be UTF-8 text")
        except UnfitError as error:
            self.problems.append(f"{self.shown(name)} must be {option.kind.expected}" + (f": {error}" if str(error) else ""))
        return None

    def secret(self, name: str) -> Secret | None:
        """The password from the variable, or from the file that the variable with `_FILE` names."""
        file_name = f"{name}_FILE"
        if self.text(name) and self.text(file_name):
            self.problems.append(f"{self.shown(name)} and {self.shown(file_name)} must not both be set")
            return None
        if not self.text(file_name):
            if not self.text(name):
                self.problems.append(f"{name} must be set, or {file_name} to the name of a file that holds it")
                return None
            value = self.get(name)
            return None if value is None else Secret(value=value, variable=name)
        secret = Secret(file=self.text(file_name), variable=file_name)
        try:
            secret.read()
            self.secrets.append(secret)
        except ConfigurationError as error:
            self.problems.extend(error.problems)
        return secret

    def shown(self, name: str) -> str:
        """The variable with where it was set, and never its value."""
        origin = self._origins.get(name)
        return f"{name} ({origin})" if origin else name

    def quoted(self) -> list[str]:
        """A warning for each value from the environment that is wrapped in quotes: `docker --env-file` keeps them."""
        return [
            f"{option.name} is wrapped in quotes, which count as part of it: the environment and docker's --env-file keep quotes"
            for option in OPTIONS
            if option not in self._left_out
            and self._origins.get(option.name) == sources.ENVIRONMENT
            and _wrapped(self._mapping.get(option.name, ""))
        ]


    def broken_lines(self) -> list[str]:
        """A warning for each text that ends with a line end: a secret that was made with `echo`, say."""
        texts = {option.name: self._mapping.get(option.name, "") for option in OPTIONS if option.kind in STRICT_TEXTS}
        for secret in self.secrets:
            with contextlib.suppress(ConfigurationError):
                texts[secret.variable] = secret.read()
        left_out = {option.name for option in self._left_out}
        return [
            f"{name} ends with a line end, which counts as part of it"
            for name, text in texts.items()
            if name not in left_out and text.endswith(("\n", "\r"))
        ]


def _wrapped(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def _rabbit(draft: _Draft) -> RabbitSettings:
    """RabbitMQ's settings; unfit for use when the draft has problems."""
    tls = draft.get("RMQ_TLS")
    files = {name: draft.get(name) for name in ("RMQ_CA_FILE", "RMQ_CERT_FILE", "RMQ_KEY_FILE")}
    if tls is False:
        draft.problems.extend(f"{draft.shown(name)} must not be set while RMQ_TLS is false" for name in files if draft.text(name))
    elif bool(draft.text("RMQ_CERT_FILE")) != bool(draft.text("RMQ_KEY_FILE")):
        draft.problems.append("RMQ_CERT_FILE and RMQ_KEY_FILE must be set together")
    values = {
        "hosts": draft.get("RMQ_HOST"),
        "port": draft.get("RMQ_PORT") or (PORT_TLS if tls else PORT_PLAIN),
        "user": draft.get("RMQ_USER"),
        "password": draft.secret("RMQ_PASS"),
        "vhost": draft.get("RMQ_VHOST"),
        "tls": tls,
        "ca_file": files["RMQ_CA_FILE"],
        "cert_file": files["RMQ_CERT_FILE"],
        "key_file": files["RMQ_KEY_FILE"],
        "mandatory": draft.get("RMQ_MANDATORY"),
        "declare": draft.get("RMQ_DECLARE"),
    }
    return RabbitSettings(**values)


def _stardust(draft: _Draft) -> StardustSettings:
    """Stardust's settings; unfit for use when the draft has problems."""
    user = draft.get("STARDUST_USER")
    has_password = bool(draft.text("STARDUST_PASSWORD") or draft.text("STARDUST_PASSWORD_FILE"))
    if bool(draft.text("STARDUST_USER")) != has_password:
        draft.problems.append("STARDUST_USER and STARDUST_PASSWORD (or STARDUST_PASSWORD_FILE) must be set together")
    values = {
        "url": draft.get("STARDUST_URL"),
        "index": draft.get("STARDUST_INDEX"),
        "timeout_s": draft.get("STARDUST_TIMEOUT"),
        "concurrency": draft.get("STARDUST_CONCURRENCY"),
        "user": user,
        "password": draft.secret("STARDUST_PASSWORD") if has_password else None,
    }
    return StardustSettings(**values)


def _mysql(draft: _Draft) -> MysqlSettings:
    """MySQL's settings; unfit for use when the draft has problems."""
    values = {
        "host": draft.get("MYSQL_HOST"),
        "port": draft.get("MYSQL_PORT"),
        "database": draft.get("MYSQL_DATABASE"),
        "user": draft.get("MYSQL_USER"),
        "password": draft.secret("MYSQL_PASSWORD"),
        "ca_file": draft.get("MYSQL_CA_FILE"),
        "trust_server": draft.get("MYSQL_TRUST_SERVER"),
    }
    return MysqlSettings(**values)
