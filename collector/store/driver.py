"""The connector's connection, with three things that it has no option for.

- Who gets the password. A server that is not verified gets scrambles of it only, whatever it asks for and however.
- How much is read, and how long. The connector waits for each byte anew, and reads whatever is sent.
- Which address is connected to. The connector takes the first one of a name, and no other.

All that is used of the connector's inside is used here. A test fails when a new version of it has lost a piece.
"""

import socket
import time
from typing import Any

from mysql.connector.authentication import MySQLAuthenticator
from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag
from mysql.connector.errors import InterfaceError, ReadTimeoutError
from mysql.connector.network import MySQLTCPSocket, NetworkBrokerPlain
from mysql.connector.plugins.caching_sha2_password import MySQLCachingSHA2PasswordAuthPlugin
from mysql.connector.plugins.mysql_clear_password import MySQLClearPasswordAuthPlugin
from mysql.connector.plugins.mysql_native_password import MySQLNativePasswordAuthPlugin
from mysql.connector.plugins.sha256_password import MySQLSHA256PasswordAuthPlugin

from collector.core.errors import ConfigurationError, UnavailableError
from collector.core.text import printable

FIRST_PLUGIN = "mysql_native_password"
"""What a login begins with, whatever the server proposes: a server that wants another plugin for this user then asks for
it, and so every plugin but this one is chosen by `_switch_auth_strategy`."""
MOST_BYTES = 2 << 20
"""Of one answer, or of a thousand rows of one: ours have 200 kB."""
MOST_ERROR_BYTES = 2048
"""Of an error, as much as can be of use; the rest, up to 16 MB, is skipped."""


class SessionLostError(UnavailableError):
    """The connection is gone, or of no use any more."""


class Authenticator(MySQLAuthenticator):
    """Logs in without telling the password to a server that may not know it."""

    def __init__(self, verified: bool, trusted: bool) -> None:
        super().__init__()
        self._may_be_told = verified or trusted

    def _switch_auth_strategy(
        self,
        new_strategy_name: str,
        strategy_class: str | None = None,
        username: str | None = None,
        password_factor: int = 1,
    ) -> None:
        """The plugin that the server asks for; the connector would import whatever module it names."""
        if new_strategy_name not in PLUGINS:
            raise ConfigurationError(
                f"the server asks for the authentication plugin {printable(new_strategy_name, 64)!r}, which is not supported: "
                "MYSQL_USER needs mysql_native_password or caching_sha2_password"
            )
        plugins = PLUGINS if self._may_be_told and self.ssl_enabled else SCRAMBLING
        if new_strategy_name not in plugins:
            raise password_asked_for(new_strategy_name, self.ssl_enabled)
        plugin = plugins[new_strategy_name]
        self._auth_strategy = plugin(self._username, self._passwords.get(password_factor, ""), ssl_enabled=self.ssl_enabled)


class ScrambleOnly(MySQLCachingSHA2PasswordAuthPlugin):
    """caching_sha2_password as far as a scramble goes: the server must know the password's hash already."""

    def auth_response(self, auth_data: bytes, **kwargs: Any) -> bytes | None:
        """The scramble for a nonce; the connector's own would answer 4, full authentication, with the password."""
        if len(auth_data) == 1 and auth_data[0] == self.perform_full_authentication:
            raise password_asked_for(f"full authentication of {self.name}", self.ssl_enabled)
        response: bytes | None = super().auth_response(auth_data, **kwargs)
        return response


SCRAMBLING: dict[str, type[Any]] = {
    FIRST_PLUGIN: MySQLNativePasswordAuthPlugin,
    "caching_sha2_password": ScrambleOnly,
}
"""These never send the password itself."""
PLUGINS = SCRAMBLING | {
    "caching_sha2_password": MySQLCachingSHA2PasswordAuthPlugin,
    "sha256_password": MySQLSHA256PasswordAuthPlugin,
    "mysql_clear_password": MySQLClearPasswordAuthPlugin,
}


def password_asked_for(by: str, over_tls: bool) -> ConfigurationError:
    """Why the login ends here."""
    tls = "" if over_tls else ", and the connection has no TLS"
    return ConfigurationError(
        f"the server asks for the password itself ({by}), but it is not verified{tls}: set MYSQL_CA_FILE to the certificate "
        "that vouches for it, or MYSQL_TRUST_SERVER=true to tell it over TLS all the same"
    )


class PacketReader(NetworkBrokerPlain):
    """Reads packets, within a time and a size."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline
        self._left = MOST_BYTES
        self._heard = False

    def allow(self, seconds: float) -> None:
        """So long, and MOST_BYTES, for what is read from now on."""
        self._deadline, self._left = time.monotonic() + seconds, MOST_BYTES

    def recv(self, sock: socket.socket, address: str) -> bytearray:
        """One packet; an error's text is cut, and made UTF-8 where it is not, or the connector would lose its number."""
        try:
            header = self._recv_chunk(sock, 4)
            size, self._pktnr = int.from_bytes(header[:3], "little"), header[3]
            if not self._heard and self._pktnr > 1:
                raise UnavailableError("what answers there is no MySQL server (see MYSQL_HOST and MYSQL_PORT)")
            self._heard = True
            begin = self._recv_chunk(sock, min(size, MOST_ERROR_BYTES))
            rest = size - len(begin)
            if begin[:1] == b"\xff":
                self._skip(sock, rest)
                return header + begin[:3] + begin[3:].decode(errors="replace").encode()
            if rest > self._left or self._left < 0:
                raise SessionLostError(f"its answer has more than {MOST_BYTES} bytes")
            return header + begin + self._recv_chunk(sock, rest)
        except TimeoutError as error:
            if not self._heard:
                silent = "it took the connection and said nothing: a server that hangs, or not MySQL's port"
                raise UnavailableError(f"{silent} (see MYSQL_HOST and MYSQL_PORT)") from error
            raise ReadTimeoutError(errno=3024) from error

    def _recv_chunk(self, sock: socket.socket, size: int = 0) -> bytearray:
        self._left -= size
        chunk = bytearray(size)
        view = memoryview(chunk)
        while size:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            sock.settimeout(left_s)
            read = sock.recv_into(view, size)
            if not read:
                raise InterfaceError(errno=2013)
            view, size = view[read:], size - read
        return chunk

    def _skip(self, sock: socket.socket, size: int) -> None:
        while size:
            self._left = MOST_BYTES
            size -= len(self._recv_chunk(sock, min(size, 1 << 16)))


class _Socket(MySQLTCPSocket):
    """Connects to one address. `server_host` stays the name, which the server's certificate is for."""

    def __init__(self, host: str, port: int, address: tuple[Any, ...], reader: PacketReader, timeout_s: float) -> None:
        super().__init__(host, port)
        self._target, self._connect_s = address, timeout_s
        self._netbroker = reader

    def open_connection(self) -> None:
        """Raises OSError."""
        family, kind, protocol, target = self._target
        self.sock = socket.socket(family, kind, protocol)
        self.sock.settimeout(self._connect_s)
        self.sock.connect(target)


class Connection(MySQLConnection):
    """A connection to one address, as `addresses` gives it, made within `timeout_s` in all."""

    def __init__(self, address: tuple[Any, ...], timeout_s: float, verified: bool, trusted: bool) -> None:
        super().__init__()
        self._authenticator = Authenticator(verified, trusted)
        self._address, self._timeout_s = address, timeout_s
        self._tls_wanted = verified or trusted
        self._reader = PacketReader(time.monotonic() + timeout_s)

    def allow(self, seconds: float) -> None:
        """So long, and MOST_BYTES, for what is read from now on."""
        self._reader.allow(seconds)

    def _get_connection(self) -> MySQLTCPSocket:
        made = _Socket(self.server_host, self.server_port, self._address, self._reader, self._timeout_s)
        made.set_connection_timeout(self._connection_timeout)
        return made

    def _do_handshake(self) -> None:
        super()._do_handshake()
        if not self._tls_wanted and _speaks_only_old_tls(str(self._handshake["server_version_original"])):
            self._client_flags &= ~ClientFlag.SSL


def _speaks_only_old_tls(version: str) -> bool:
    """MySQL before 5.6.46 and 5.7.28 came with yaSSL, which no TLS of today understands."""
    if "mariadb" in version.lower():
        return False
    numbers = tuple(int(each) if each.isdigit() else 0 for each in version.split("-")[0].split("."))
    return numbers < (5, 6, 46) or (5, 7) <= numbers < (5, 7, 28)


def addresses(host: str, port: int) -> list[tuple[Any, ...]]:
    """What a name stands for: family, kind, protocol and address of each. Raises OSError."""
    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, socket.SOL_TCP)
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]
