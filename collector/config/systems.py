"""How to reach each of the systems: values, with passwords that nothing prints. Each field names its variable."""

import re
from dataclasses import dataclass
from typing import Annotated

from collector.config import files
from collector.core.errors import ConfigurationError

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- compared with, not listened on
"""An address that stands for all of the machine's, and one of these that can be asked."""


def asked_at(host: str) -> str:
    """Where to ask a server on this machine that listens on that host."""
    return LOOPBACK.get(host, host)


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

    hosts: Annotated[tuple[str, ...], "RMQ_HOST"]
    port: Annotated[int, "RMQ_PORT"]
    user: Annotated[str, "RMQ_USER"]
    password: Annotated[Secret, "RMQ_PASS"]
    vhost: Annotated[str, "RMQ_VHOST"] = "/"
    tls: Annotated[bool, "RMQ_TLS"] = False
    ca_file: Annotated[str | None, "RMQ_CA_FILE"] = None
    cert_file: Annotated[str | None, "RMQ_CERT_FILE"] = None
    key_file: Annotated[str | None, "RMQ_KEY_FILE"] = None
    mandatory: Annotated[bool, "RMQ_MANDATORY"] = True
    declare: Annotated[bool, "RMQ_DECLARE"] = False

    @property
    def address(self) -> str:
        """The hosts and the port, for messages."""
        return f"{','.join(self.hosts)}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlSettings:
    """How to reach MySQL; with `ca_file` over TLS only, the peer verified.

    `trust_server`: a peer that is not verified may get the password itself, over TLS, and not only a scramble of it.
    """

    host: Annotated[str, "MYSQL_HOST"]
    port: Annotated[int, "MYSQL_PORT"]
    database: Annotated[str, "MYSQL_DATABASE"]
    user: Annotated[str, "MYSQL_USER"]
    password: Annotated[Secret, "MYSQL_PASSWORD"]
    ca_file: Annotated[str | None, "MYSQL_CA_FILE"] = None
    trust_server: Annotated[bool, "MYSQL_TRUST_SERVER"] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StardustSettings:
    """How to reach Stardust; `user` and `password` are both there or both None."""

    url: Annotated[str, "STARDUST_URL"]
    index: Annotated[str, "STARDUST_INDEX"]
    timeout_s: Annotated[float, "STARDUST_TIMEOUT"]
    concurrency: Annotated[int, "STARDUST_CONCURRENCY"]
    user: Annotated[str | None, "STARDUST_USER"] = None
    password: Annotated[Secret | None, "STARDUST_PASSWORD"] = None
