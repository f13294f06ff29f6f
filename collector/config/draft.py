"""Reads options from a mapping, and collects everything that is wrong or odd about them."""

import contextlib
import difflib
from collections.abc import Collection, Mapping
from typing import Any

from collector.config import env_file as sources
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
from collector.config.systems import MysqlSettings, RabbitSettings, Secret, StardustSettings
from collector.core.errors import ConfigurationError

PORT_PLAIN = 5672
PORT_TLS = 5671
PREFIXES = ("RMQ_", "NETBEAM_", "STARDUST_", "MYSQL_")
"""What begins like this and is no option was meant to be one."""
NOT_OURS = frozenset({"MYSQL_ROOT_PASSWORD", "MYSQL_ROOT_HOST"})
"""Of the database's container; they stand in the same file."""
MEANT = {
    "RMQ_PASSWORD": "RMQ_PASS",
    "RMQ_PASSWORD_FILE": "RMQ_PASS_FILE",
    "RMQ_USERNAME": "RMQ_USER",
    "RMQ_URL": "RMQ_HOST",
    "RMQ_VIRTUAL_HOST": "RMQ_VHOST",
    "MYSQL_PASS": "MYSQL_PASSWORD",
    "MYSQL_USERNAME": "MYSQL_USER",
    "MYSQL_DB": "MYSQL_DATABASE",
    "MYSQL_URL": "MYSQL_HOST",
    "NETBEAM_HOST": "NETBEAM_URL",
    "STARDUST_HOST": "STARDUST_URL",
    "STARDUST_PASS": "STARDUST_PASSWORD",
    "STARDUST_USERNAME": "STARDUST_USER",
}
"""Other words for an option, which need not look like its name."""
RESEMBLANCE = 0.85
"""How like an option's name a variable without one of the prefixes must be to count as misspelt (difflib's ratio)."""


def misspelt(names: Collection[str]) -> list[str]:
    """A warning for each name that is no option and looks as if it was meant to be one."""
    warnings = []
    for name in sorted(set(names) - set(BY_NAME) - NOT_OURS):
        prefix = next((each for each in PREFIXES if name.startswith(each)), "")
        candidates = [each for each in BY_NAME if each.startswith(prefix)]
        if name in MEANT:
            warnings.append(f"{name} is not an option and has no effect: did you mean {MEANT[name]}?")
            continue
        nearest = difflib.get_close_matches(name, candidates, n=1, cutoff=0.0 if prefix else RESEMBLANCE)
        if nearest:
            warnings.append(f"{name} is not an option and has no effect: did you mean {nearest[0]}?")
    return warnings


class Draft:
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


def rabbit(draft: Draft) -> RabbitSettings:
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


def stardust(draft: Draft) -> StardustSettings:
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


def mysql(draft: Draft) -> MysqlSettings:
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
