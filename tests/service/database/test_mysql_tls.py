"""With MYSQL_CA_FILE the peer is verified; without it TLS is used where it works."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.core.errors import ConfigurationError, UnavailableError
from collector.store.session import Session
from tests.servers.databases import DatabaseServer, MariaDB, MySQL56
from tests.service.database.steps import settings


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


def certificates(directory: Path) -> Path:
    """An authority and a server's certificate of it for 127.0.0.1; the authority's file."""
    request = ("req", "-x509", "-subj", "/CN=test", "-days", "2", "-nodes", "-newkey", "rsa:2048")
    openssl(directory, *request, "-keyout", "ca.key", "-out", "ca.pem")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
    openssl(directory, *request, "-keyout", "server.key", "-out", "server.pem", *signed, "-addext", "basicConstraints=CA:FALSE")
    return directory / "ca.pem"


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_server(ca_file: Path) -> Iterator[MariaDB]:
    """A MariaDB with a certificate for 127.0.0.1."""
    directory = ca_file.parent
    files = [f"--ssl-ca={ca_file}", f"--ssl-cert={directory / 'server.pem'}", f"--ssl-key={directory / 'server.key'}"]
    with MariaDB(files) as server:
        yield server


def cipher(server: DatabaseServer, **changed: Any) -> object:
    """What a session of the collector is encrypted with."""
    session = Session(settings(server, server.fresh_database(), **changed))
    found = session.execute("SHOW STATUS LIKE 'Ssl_cipher'").rows[0][1]
    session.quit()
    return found


def test_a_peer_that_the_authority_vouches_for_is_accepted(tls_server: MariaDB, ca_file: Path) -> None:
    assert cipher(tls_server, ca_file=str(ca_file))


def test_without_a_ca_file_tls_is_used_where_it_works(tls_server: MariaDB, database_server: DatabaseServer) -> None:
    assert cipher(tls_server)
    assert not cipher(database_server)


def test_without_a_ca_file_the_tls_of_mysql_56_which_is_too_old_is_left_alone(ca_file: Path) -> None:
    directory = ca_file.parent
    openssl(directory, "rsa", "-in", "server.key", "-traditional", "-out", "old.key")
    files = [f"--ssl-ca={ca_file}", f"--ssl-cert={directory / 'server.pem'}", f"--ssl-key={directory / 'old.key'}"]
    with MySQL56(files) as server:
        assert server.sql("SELECT @@have_ssl") == [("YES",)]
        assert not cipher(server)
        with pytest.raises(UnavailableError, match=r"TLS failed.*MYSQL_CA_FILE"):
            cipher(server, ca_file=str(ca_file))


def test_a_peer_of_another_authority_or_another_name_is_refused(tls_server: MariaDB, ca_file: Path, tmp_path: Path) -> None:
    for changed in ({"ca_file": str(certificates(tmp_path))}, {"ca_file": str(ca_file), "host": "localhost"}):
        with pytest.raises(ConfigurationError, match="MYSQL_CA_FILE"):
            cipher(tls_server, **changed)


def test_a_server_without_tls_is_not_talked_to_when_a_ca_file_is_set(mariadb: MariaDB, ca_file: Path) -> None:
    with pytest.raises(UnavailableError, match=r"SSL is required.*MYSQL_CA_FILE"):
        cipher(mariadb, ca_file=str(ca_file))


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_refused_by_name(mariadb: MariaDB, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"MYSQL_CA_FILE {file}"):
        cipher(mariadb, ca_file=str(file))
