"""Real servers, each started once a run and only when a test asks for it; a fresh database for every test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Bus, MysqlTable, Rig
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.databases import DatabaseServer, MariaDB, MySQL56
from tests.servers.rabbitmq import RabbitServer, Tls


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A MariaDB, shared by all tests of the run: whoever freezes or stops it brings it back."""
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="session")
def mysql56() -> Iterator[MySQL56]:
    """A MySQL 5.6.24, shared like the MariaDB."""
    with MySQL56() as server:
        yield server


@pytest.fixture(params=["mariadb", "mysql56"])
def database_server(request: pytest.FixtureRequest) -> DatabaseServer:
    """Each of the two in turn."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of an authority that signed for servers on 127.0.0.1 and for clients."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def rabbit(certificates: Certificates) -> Iterator[RabbitServer]:
    """A RabbitMQ, shared by all tests of the run: whoever freezes or stops it brings it back."""
    with RabbitServer(Tls(certificates.authority, certificates.server, certificates.server_key)) as server:
        yield server


@pytest.fixture
def new_rig(mariadb: MariaDB, rabbit: RabbitServer, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Makes rigs, with a database of the MariaDB and a bus of the RabbitMQ unless told otherwise; `count` interfaces."""
    with ExitStack() as stack:

        def make(count: int = 16, **options: Any) -> Rig:
            network = options.pop("network", None) or SimulatedNetwork.synthetic(count)
            table = options.pop("table", None) or MysqlTable(mariadb)
            bus = options.pop("bus") if "bus" in options else Bus(rabbit)
            return stack.enter_context(Rig(network, table, bus, directory=tmp_path, **options))

        yield make
