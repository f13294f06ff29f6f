"""A MySQL server that is broken or hostile gets no password, no memory and no end of the daemon."""

import hashlib
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.config.systems import MysqlSettings, Secret
from collector.core.errors import CollectorError, ConfigurationError, UnavailableError
from collector.core.shutdown import Stop
from collector.store import driver
from collector.store.mysql import MysqlStore
from tests.servers.certificates import Certificates
from tests.servers.databases import MariaDB, MySQL56
from tests.servers.rogue_mysql import NONCE, NUMBER, OK, Peer, RogueMysql, error, greeting, more, result, switch

PASSWORD = "the secret of the table"
NOW = 1_790_000_000_000
MEGABYTE = 1 << 20
COLUMNS = (b"id", b"name", b"status", b"active_from", b"active_until", b"errors_until", b"discards_until", b"traffic_until")

INNER = (
    (driver.Connection, ("_get_connection", "_do_handshake")),
    (driver.Authenticator, ("_switch_auth_strategy",)),
    (driver.PacketReader, ("_recv_chunk",)),
)
"""Methods that are not public, and are replaced."""

Script = Callable[[Peer], None]


def settings(port: int, **changed: Any) -> MysqlSettings:
    values: dict[str, Any] = {"host": "127.0.0.1", "port": port, "database": "esnet", "user": "esnet_user"}
    return MysqlSettings(**(values | {"password": Secret(PASSWORD)} | changed))


def use(port: int, **changed: Any) -> CollectorError | None:
    """What a store says that does all that a cycle does."""
    with closing(MysqlStore(settings(port, **changed), Stop())) as store:
        try:
            store.open()
            store.take_lock(0)
            store.read(NOW, ())
        except CollectorError as error:
            return error
    return None


def met(script: Script, **changed: Any) -> tuple[CollectorError | None, bytes]:
    """What a store says of this server, and all that the server has heard."""
    with RogueMysql(script) as rogue:
        said = use(rogue.port, **changed)
        return said, rogue.heard


def logging_in(*answers: bytes, plugin: bytes = b"mysql_native_password", certificates: Certificates | None = None) -> Script:
    """Greets, and answers the login with these packets, one for each of the client's; then all is fine."""

    def script(peer: Peer) -> None:
        peer.say(greeting(plugin, tls=certificates is not None))
        peer.hear()
        if certificates is not None:
            peer.start_tls(certificates.server, certificates.server_key)
            peer.hear()
        for number, answer in enumerate(answers):
            if number:
                peer.hear()
            peer.say(answer)
        if answers[-1:] != (OK,):
            return
        peer.answer(lambda statement: None)

    return script


ASKING = {
    "full authentication": (switch(b"caching_sha2_password"), more(b"\x04")),
    "full authentication in place of a nonce": (switch(b"caching_sha2_password", b"\x04\x00"),),
    "sha256_password": (switch(b"sha256_password"),),
    "mysql_clear_password": (switch(b"mysql_clear_password", b""),),
}
"""How a server asks for the password itself."""


class TestPassword:
    @pytest.mark.parametrize("tls", [False, True])
    @pytest.mark.parametrize("asking", ASKING)
    def test_a_server_that_is_not_verified_does_not_get_it(self, asking: str, tls: bool, certificates: Certificates) -> None:
        said, heard = met(logging_in(*ASKING[asking], certificates=certificates if tls else None))
        assert isinstance(said, ConfigurationError)
        assert "MYSQL_CA_FILE" in str(said)
        assert "MYSQL_TRUST_SERVER" in str(said)
        assert heard
        assert PASSWORD.encode() not in heard

    @pytest.mark.parametrize("asking", ASKING)
    def test_trust_alone_does_not_send_it_without_tls(self, asking: str) -> None:
        said, heard = met(logging_in(*ASKING[asking]), trust_server=True)
        assert isinstance(said, ConfigurationError)
        assert "no TLS" in str(said)
        assert PASSWORD.encode() not in heard

    @pytest.mark.parametrize("asking", ASKING)
    @pytest.mark.parametrize("why", ["trusted", "verified"])
    def test_a_server_that_is_trusted_or_verified_gets_it_over_tls(
        self, asking: str, why: str, certificates: Certificates
    ) -> None:
        changed: dict[str, Any] = {"trust_server": True} if why == "trusted" else {"ca_file": str(certificates.authority)}
        _, heard = met(logging_in(*ASKING[asking], certificates=certificates), **changed)
        assert PASSWORD.encode() + b"\x00" in heard

    def test_a_server_of_another_authority_gets_nothing(self, certificates: Certificates, tmp_path: Path) -> None:
        said, heard = met(logging_in(OK, certificates=certificates), ca_file="/etc/ssl/certs/ca-certificates.crt")
        assert isinstance(said, ConfigurationError)
        assert b"esnet_user" not in heard

    def test_a_server_that_hides_its_tls_gets_nothing_where_tls_was_asked_for(self, certificates: Certificates) -> None:
        said, heard = met(logging_in(OK), ca_file=str(certificates.authority))
        assert isinstance(said, UnavailableError)
        assert "MYSQL_CA_FILE" in str(said)
        assert heard == b""

    @pytest.mark.parametrize("changed", [{}, {"trust_server": True}])
    def test_a_server_whose_tls_breaks_gets_nothing_more(self, changed: dict[str, Any]) -> None:
        def script(peer: Peer) -> None:
            peer.say(greeting(tls=True))
            peer.hear()
            peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with RogueMysql(script) as rogue:
            said = use(rogue.port, **changed)
            assert isinstance(said, UnavailableError)
            assert "TLS failed" in str(said)
            assert len(rogue.peers) == 1
            assert b"esnet_user" not in rogue.heard

    @pytest.mark.parametrize("plugin", [b"mysql_native_password", b"caching_sha2_password", b"mysql_clear_password", b"..x"])
    def test_a_login_begins_with_a_scramble_whatever_the_server_proposes(self, plugin: bytes) -> None:
        said, heard = met(logging_in(OK, plugin=plugin))
        assert "lacks the columns" in str(said)  # by then it has said OK to everything
        hashed = sha1(PASSWORD.encode())
        assert bytes(a ^ b for a, b in zip(hashed, sha1(NONCE + sha1(hashed)), strict=True)) in heard
        assert PASSWORD.encode() not in heard

    def test_the_fast_way_of_caching_sha2_password_works(self) -> None:
        said, heard = met(logging_in(switch(b"caching_sha2_password"), more(b"\x03"), plugin=b"caching_sha2_password"))
        assert isinstance(said, UnavailableError)
        assert PASSWORD.encode() not in heard
        with RogueMysql(fast) as rogue:
            use(rogue.port)
            assert b"SET SESSION" in rogue.heard

    def test_no_file_of_ours_is_sent_to_a_server_that_asks_for_one(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("nobody's business")

        def script(peer: Peer) -> None:
            peer.log_in()
            peer.hear()
            peer.say(b"\xfb" + str(file).encode())

        said, heard = met(script)
        assert isinstance(said, UnavailableError)
        assert b"nobody's business" not in heard

    def test_a_user_of_sha256_password_is_a_refused_login(self, mysql56: MySQL56) -> None:
        account = mysql56.fresh_database()
        mysql56.sql(f"CREATE USER 'sha_{account.user}'@'%' IDENTIFIED WITH sha256_password")
        said = use(mysql56.port, user=f"sha_{account.user}")
        assert isinstance(said, ConfigurationError)
        assert "MYSQL_TRUST_SERVER" in str(said)

    def test_a_user_of_a_plugin_that_is_not_supported_is_a_refused_login_and_no_line_of_the_drivers(
        self, mariadb: MariaDB, caplog: pytest.LogCaptureFixture
    ) -> None:
        account = mariadb.fresh_database()
        mariadb.sql("INSTALL SONAME 'auth_ed25519'")
        try:
            mariadb.sql(f"CREATE USER 'ed_{account.user}'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('x')")
            said = use(mariadb.port, user=f"ed_{account.user}")
        finally:
            mariadb.sql(f"DROP USER 'ed_{account.user}'@'%'")
            mariadb.sql("UNINSTALL SONAME 'auth_ed25519'")
        assert isinstance(said, ConfigurationError)
        assert "'client_ed25519'" in str(said)
        assert "caching_sha2_password" in str(said)
        assert not [record for record in caplog.records if record.name.startswith("mysql")]

    def test_the_driver_still_has_the_methods_that_are_replaced(self) -> None:
        for kind, names in INNER:
            assert all(callable(getattr(kind.__base__, name, None)) for name in names), kind
        assert logging.getLogger("mysql.connector").level > logging.CRITICAL


def sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def fast(peer: Peer) -> None:
    """caching_sha2_password of a user whom the server has seen before."""
    peer.say(greeting(b"caching_sha2_password"))
    peer.hear()
    peer.say(switch(b"caching_sha2_password"))
    peer.hear()
    peer.say(more(b"\x03"), OK)
    peer.answer(lambda statement: None)


ODD_LOGINS: dict[str, tuple[bytes, ...]] = {
    "more data for a plugin that takes none": (more(b"\x04"),),
    "more data after a scramble that takes none": (switch(b"mysql_native_password"), more(b"x")),
    "a plugin that is a relative module": (switch(b"....x"),),
    "a plugin that is a module of another package": (switch(b"os"),),
    "a plugin with a name of 100 kB": (switch(b"x" * 100_000),),
    "a plugin with a name that is no UTF-8": (switch(b"\xff\xfe"),),
    "a plugin with escapes in its name": (switch(b"\x1b[2J\xc2\x9b"),),
    "a plugin without a name": (switch(b""),),
    "a switch without a nonce": (switch(b"caching_sha2_password", b""),),
    "old passwords": (b"\xfe",),
    "a second factor": (b"\x02mysql_clear_password\x00\x00",),
    "an empty packet": (b"",),
    "an error without anything": (b"\xff",),
    "an error that is no UTF-8": (error(b"caf\xe9", 1045),),
    "OK and nothing more": (b"\x00",),
}


class TestOddServers:
    @pytest.mark.parametrize("odd", ODD_LOGINS)
    def test_an_odd_answer_to_a_login_is_an_outage_or_a_refusal(self, odd: str, caplog: pytest.LogCaptureFixture) -> None:
        said, heard = met(logging_in(*ODD_LOGINS[odd]))
        assert isinstance(said, UnavailableError | ConfigurationError)
        assert len(str(said)) < 1000
        assert str(said).isprintable()
        assert PASSWORD.encode() not in heard
        assert not [record for record in caplog.records if record.name.startswith("mysql")]

    @pytest.mark.parametrize(
        "greets", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail.example ESMTP\r\n", b""]
    )
    def test_a_port_that_speaks_another_protocol_is_said_with_host_and_port(self, greets: bytes) -> None:
        def script(peer: Peer) -> None:
            peer.raw(greets)
            if not greets:
                peer.hear_the_rest()

        with RogueMysql(script) as rogue:
            said = use(rogue.port)
            assert isinstance(said, UnavailableError)
            assert f"127.0.0.1:{rogue.port}" in str(said)
            assert str(said).count("MYSQL_PORT") == 1

    def test_answers_of_chance_end_nothing(self) -> None:
        """Sixty logins and sessions, each with a packet that was damaged somewhere."""
        chance = random.Random(20261128)

        def script(peer: Peer) -> None:
            fate = chance.randrange(12)
            peer.say(damaged(greeting(), chance) if fate == 0 else greeting())
            peer.hear()
            logins = [OK, switch(b"caching_sha2_password"), more(b"x"), error(b"no")]
            peer.say(damaged(chance.choice(logins), chance) if fate == 1 else OK)
            statements = 0

            def answers(statement: bytes) -> list[bytes]:
                nonlocal statements
                statements += 1
                honest = honestly(statement)
                if statements < 2 * fate:
                    return honest
                honest[chance.randrange(len(honest))] = damaged(chance.choice(honest), chance)
                return honest[: chance.randrange(1, len(honest) + 1)]

            peer.answer(answers)

        said: list[str] = []
        threads = threading.active_count()
        with RogueMysql(script) as rogue:
            for _ in range(60):
                with closing(MysqlStore(settings(rogue.port), Stop())) as store:
                    store._timeout_s = lambda: 1  # type: ignore[method-assign]
                    try:
                        store.open()
                        store.take_lock(0)
                        store.read(NOW, ())
                        store.free_shares()
                        store.missing_rights()
                    except CollectorError as refusal:
                        said.append(str(refusal))
            heard = rogue.heard
        assert PASSWORD.encode() not in heard
        assert max(map(len, said)) < 2500
        deadline = time.monotonic() + 15
        while threading.active_count() > threads + 2:
            assert time.monotonic() < deadline, threading.enumerate()
            time.sleep(0.05)


def damaged(packet: bytes, chance: random.Random) -> bytes:
    """With some bytes changed, cut or added."""
    data = bytearray(packet)
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(3)
        if kind == 0:
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del data[place : place + chance.randrange(1, 20)]
        else:
            data[place:place] = chance.randbytes(chance.randrange(1, 20))
    return bytes(data)


def honestly(statement: bytes) -> list[bytes]:
    """What a server with a table of three rows would answer."""
    if b"@@session.sql_mode" in statement:  # the driver's, before it quotes
        return result((b"@@session.sql_mode",), [(b"STRICT_TRANS_TABLES",)])
    if statement.startswith(b"SHOW COLUMNS"):
        return result((b"Field", b"Type"), [(name, b"varchar(128)") for name in COLUMNS])
    if b"GET_LOCK" in statement or b"CONNECTION_ID" in statement or b"IS_USED_LOCK" in statement:
        return result((b"1",), [(b"1",)], NUMBER)
    if b"MAX(" in statement:
        return result((b"a", b"b", b"c"), [(b"1789000000000",) * 3])
    if statement.startswith(b"SELECT id") and b"1 = 0" not in statement:
        return result(COLUMNS, [(b"%d" % number, b"devices/a", b"1", *[b"1789000000000"] * 5) for number in range(3)])
    return [OK]


class TestMemory:
    """Whatever a server sends, memory grows by less than 250 MB, and it ends."""

    def test_an_error_of_16_megabytes_is_cut(self) -> None:
        def script(peer: Peer) -> None:
            peer.log_in()
            peer.hear()
            peer.say(error("\U0001f600 spaces \x1b[2J ".encode() * (15 * MEGABYTE // 20), 1105))

        with grows_little():
            said, _ = met(script)
        assert "spaces" in str(said)
        assert len(str(said)) < 700
        assert str(said).isprintable()

    def test_a_first_packet_of_16_megabytes_is_refused(self) -> None:
        def script(peer: Peer) -> None:
            peer.say(greeting() + bytes(15 * MEGABYTE))

        with grows_little():
            said, _ = met(script)
        assert isinstance(said, UnavailableError)

    @pytest.mark.parametrize(
        ("what", "end"),
        [
            ("columns", f"more than {driver.MOST_BYTES} bytes"),
            ("rows", "more than 400000 rows"),
            ("long rows", f"more than {driver.MOST_BYTES} bytes"),
            ("rows of one value", "cannot be used"),
        ],
    )
    def test_an_answer_without_an_end_is_an_outage(self, what: str, end: str) -> None:
        described = result(COLUMNS, [])[:-1]
        row = {
            "rows": b"".join(bytes([len(value)]) + value for value in (b"7", b"devices/a", b"1", *[b"1789000000000"] * 5)),
            "long rows": b"\xfd" + (3 * MEGABYTE).to_bytes(3, "little") + bytes(3 * MEGABYTE),
            "rows of one value": b"\x00",
        }

        def script(peer: Peer) -> None:
            peer.log_in()

            def answers(statement: bytes) -> list[bytes]:
                if not statement.startswith(b"SELECT id") or b"1 = 0" in statement:
                    return honestly(statement)
                if what == "columns":
                    peer.say(b"\xfd\xff\xff\xff")
                    while True:
                        peer.say(*[described[1]] * 1000)
                peer.say(*described)
                while True:
                    peer.say(*[row[what]] * (1 if what == "long rows" else 1000))

            peer.answer(answers)

        with grows_little():
            began = time.monotonic()
            said, _ = met(script)
        assert isinstance(said, UnavailableError)
        assert end in str(said)
        assert time.monotonic() - began < 60

    def test_an_answer_that_drips_is_an_outage_in_time(self) -> None:
        def script(peer: Peer) -> None:
            peer.log_in()
            peer.hear()
            for byte in b"\xff\xff\x0f\x01" + bytes(1000):
                peer.raw(bytes([byte]))
                time.sleep(0.2)

        began = time.monotonic()
        said, _ = met(script)
        assert "no answer in time" in str(said)
        assert time.monotonic() - began < 9


class TestAddresses:
    """A name with several addresses, and a server behind some of them."""

    @pytest.fixture
    def names(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The addresses of the host `primary`."""
        found: list[str] = []
        look_up = socket.getaddrinfo

        def getaddrinfo(host: str, port: int, *rest: Any) -> list[Any]:
            return [each for name in (found if host == "primary" else [host]) for each in look_up(name, port, *rest)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return found

    @pytest.mark.parametrize("first", ["refuses", "hangs up", "says nothing"])
    def test_the_address_that_works_is_used_and_is_the_first_one_next_time(self, names: list[str], first: str) -> None:
        names += ["127.0.0.2", "127.0.0.3"]

        def script(peer: Peer) -> None:
            peer.log_in()
            peer.answer(honestly)

        def hang(peer: Peer) -> None:
            if first == "says nothing":
                peer.hear_the_rest()

        with RogueMysql(script, "127.0.0.3") as good:
            dead = None if first == "refuses" else RogueMysql(hang, "127.0.0.2", good.port)
            with closing(MysqlStore(settings(good.port, host="primary"), Stop())) as store:
                store.open()
                assert len(good.peers) == 1
                tried = len(dead.peers) if dead else 0
                store._drop()
                store.open()
                assert len(good.peers) == 2
                assert (len(dead.peers) if dead else 0) == tried
            if dead:
                dead.__exit__()

    def test_where_all_addresses_fail_each_is_said_with_its_reason(self, names: list[str]) -> None:
        names += ["127.0.0.2", "127.0.0.3"]
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.3", 0))
            port = nobody.getsockname()[1]
            said = use(port, host="primary")
        assert isinstance(said, UnavailableError)
        assert "127.0.0.2: Connection refused" in str(said)
        assert "127.0.0.3: Connection refused" in str(said)
        assert f"primary:{port}, user 'esnet_user', database 'esnet'" in str(said)

    def test_an_address_at_which_nothing_can_be_written_is_the_last_one_next_time(self, names: list[str]) -> None:
        names += ["127.0.0.2", "127.0.0.3"]

        def read_only(statement: bytes) -> list[bytes]:
            return [error(b"--read-only", 1290)] if statement.startswith((b"INSERT", b"UPDATE")) else honestly(statement)

        def old(peer: Peer) -> None:
            peer.log_in()
            peer.answer(read_only)

        def new(peer: Peer) -> None:
            peer.log_in()
            peer.answer(honestly)

        with RogueMysql(old, "127.0.0.2") as first, RogueMysql(new, "127.0.0.3", first.port) as second:
            with closing(MysqlStore(settings(first.port, host="primary"), Stop())) as store:
                store.open()
                with pytest.raises(UnavailableError, match="read-only"):
                    store.take_lock(0)
                store.open()
                assert store.take_lock(0)
            assert (len(first.peers), len(second.peers)) == (1, 1)


@contextmanager
def grows_little() -> Iterator[None]:
    """The most memory of this process meanwhile, the server's own share of it included, is not much more than before."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _most_memory()
    yield
    assert _most_memory() - before < 250 * MEGABYTE


def _most_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024
