"""Reads options from a mapping, and collects everything that is wrong or odd about them."""

import difflib
from collections.abc import Collection
from typing import Any, get_type_hints

from collector.config.env_file import ENVIRONMENT, Settings
from collector.config.kinds import PASSWORD, STRICT_TEXTS, UnfitError
from collector.config.options import BY_NAME, OPTIONS, SYSTEM_OPTIONS
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
        meant = [MEANT[name]] if name in MEANT else []
        meant += difflib.get_close_matches(name, candidates, n=1, cutoff=0.0 if prefix else RESEMBLANCE)
        if meant:
            warnings.append(f"{name} is not an option and has no effect: did you mean {meant[0]}?")
    return warnings


class Draft:
    """Reads settings from a mapping and collects what is wrong with them, and what is odd.

    `without` names the systems whose options are not looked at. One of the two sources is always among them: an operator
    who switches keeps the settings of both.
    """

    def __init__(self, settings: Settings, without: Collection[str] = ()) -> None:
        mapping, origins = settings.values, settings.origins
        self.problems: list[str] = [*settings.problems]
        self.warnings: list[str] = [*settings.warnings]
        self._origins = origins
        self._with_stardust = mapping.get("SOURCE", "").strip().lower() == "stardust"
        self.without = {*without, "netbeam" if self._with_stardust else "stardust"}
        left_out = {option.name for system in self.without for option in SYSTEM_OPTIONS[system]}
        self._texts = {name: text for name, text in mapping.items() if text and name not in left_out}
        for option in OPTIONS:
            text = self._texts.get(option.name, "")
            if origins.get(option.name) == ENVIRONMENT and len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
                self.warnings.append(
                    f"{option.name} is wrapped in quotes, which count as part of it:"
                    " the environment and docker's --env-file keep quotes"
                )
            if option.kind in STRICT_TEXTS:
                self._look_at_line_end(option.name, text)

    def read(self, settings: type) -> dict[str, Any]:
        """The values of a class whose fields are annotated with a variable's name, or with a function that reads a draft.

        Unfit for use when there are problems.
        """
        values: dict[str, Any] = {}
        for field, hint in get_type_hints(settings, include_extras=True).items():
            for origin in getattr(hint, "__metadata__", ()):
                values[field] = self.get(origin) if isinstance(origin, str) else origin(self)
        return values

    def has(self, *names: str) -> bool:
        """Whether one of these variables is set."""
        return any(name in self._texts for name in names)

    def get(self, name: str) -> Any:
        """The option's value; None without one, and after a problem."""
        option = BY_NAME[name]
        if option.kind is PASSWORD and self.has(f"{name}_FILE"):
            return self._password_of_file(name, f"{name}_FILE")
        text = self._texts.get(name) or (self._with_stardust and option.with_stardust) or option.default
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
            self.problems.append(f"{self.shown(name)} must be {option.kind.expected}: {error}")
        except ValueError:
            self.problems.append(f"{self.shown(name)} must be {option.kind.expected}")
        return None

    def _password_of_file(self, name: str, file_name: str) -> Secret | None:
        if self.has(name):
            self.problems.append(f"{self.shown(name)} and {self.shown(file_name)} must not both be set")
            return None
        secret = Secret(file=self._texts[file_name], variable=file_name)
        try:
            self._look_at_line_end(file_name, secret.read())
        except ConfigurationError as error:
            self.problems.extend(error.problems)
        return secret

    def _look_at_line_end(self, name: str, text: str) -> None:
        """A secret that was made with `echo`, say, ends with one too many."""
        if text.endswith(("\n", "\r")):
            self.warnings.append(f"{name} ends with a line end, which counts as part of it")

    def shown(self, name: str) -> str:
        """The variable with where it was set, and never its value."""
        origin = self._origins.get(name)
        return f"{name} ({origin})" if origin else name


def read_rabbit(draft: Draft) -> RabbitSettings | None:
    """RabbitMQ's settings; None without it."""
    if "rmq" in draft.without:
        return None
    values = draft.read(RabbitSettings)
    if values["tls"] is False:
        needless = [name for name in ("RMQ_CA_FILE", "RMQ_CERT_FILE", "RMQ_KEY_FILE") if draft.has(name)]
        draft.problems.extend(f"{draft.shown(name)} must not be set while RMQ_TLS is false" for name in needless)
    elif draft.has("RMQ_CERT_FILE") != draft.has("RMQ_KEY_FILE"):
        draft.problems.append("RMQ_CERT_FILE and RMQ_KEY_FILE must be set together")
    values["port"] = values["port"] or (PORT_TLS if values["tls"] else PORT_PLAIN)
    return RabbitSettings(**values)


def read_stardust(draft: Draft) -> StardustSettings | None:
    """Stardust's settings; None without it."""
    if "stardust" in draft.without:
        return None
    if draft.has("STARDUST_USER") != draft.has("STARDUST_PASSWORD", "STARDUST_PASSWORD_FILE"):
        draft.problems.append("STARDUST_USER and STARDUST_PASSWORD (or STARDUST_PASSWORD_FILE) must be set together")
    return StardustSettings(**draft.read(StardustSettings))


def read_mysql(draft: Draft) -> MysqlSettings | None:
    """MySQL's settings; None without it."""
    return None if "mysql" in draft.without else MysqlSettings(**draft.read(MysqlSettings))
