"""How to reach each of the systems: values, with passwords that nothing prints."""

import re
from dataclasses import dataclass

from collector.config import files
from collector.core.errors import ConfigurationError


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
