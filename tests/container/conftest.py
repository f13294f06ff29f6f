"""One image and one broker for the whole run, and a compose project that owns the database; all of it gone at the end."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.container.engine import DATABASE, NETWORK, Project, Yard, clear_leftovers, docker, health, names, wait_for
from tests.container.project import copy_project, lines, strew_secrets
from tests.container.systems import INTERFACES, ODD_PASSWORD, Bus, Netbeam, OddPasswords, Stack, add_broker_user, broker_answers


@pytest.fixture(scope="session")
def yard() -> Iterator[Yard]:
    """Where containers are started; the engine is there, and the network."""
    docker("version")
    clear_leftovers()
    made = NETWORK not in names("network", "ls", "--format", "{{.Name}}")
    if made:
        docker("network", "create", NETWORK)
    yard = Yard()
    yield yard
    yard.close()
    if made:
        docker("network", "rm", NETWORK, check=False)


@pytest.fixture(scope="session")
def image(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image, built where secrets lie about."""
    context = copy_project(tmp_path_factory.mktemp("build") / "project")
    strew_secrets(context)
    tag = f"{yard.prefix}-image"
    docker("build", "--network", "host", "--tag", tag, str(context), seconds=600)
    yield tag
    yard.close()  # its containers first
    docker("rmi", "--force", tag, check=False)


@pytest.fixture(scope="session")
def broker(yard: Yard) -> str:
    """A RabbitMQ that lets guest in; the container's name is its host name."""
    ports = ("--publish", "127.0.0.1::5672", "--publish", "127.0.0.1::15672")
    container = yard.start("--network", NETWORK, *ports, "rabbitmq:3-management", name="broker")
    wait_for("a broker that answers", lambda: broker_answers(container), about=container)
    return container


@pytest.fixture
def bus(broker: str) -> Bus:
    """An exchange of this test's own."""
    return Bus(broker)


@pytest.fixture(scope="session")
def start_netbeam(yard: Yard, image: str) -> Callable[..., Netbeam]:
    """Starts a simulated Netbeam with more options; all of them have the same interfaces with the same points."""

    def start(*options: str) -> Netbeam:
        words = ("--network", NETWORK, "--publish", "127.0.0.1::8080", "--no-healthcheck", "--entrypoint", "python", image)
        module = "collector.source.simulated"
        serve = ("-m", module, "--host", "0.0.0.0", "--port", "8080", "--interfaces", str(INTERFACES))
        return Netbeam(yard.start(*words, *serve, *options))

    return start


@pytest.fixture(scope="session")
def netbeam(start_netbeam: Callable[..., Netbeam]) -> Netbeam:
    """A simulated Netbeam that answers at once."""
    return start_netbeam()


@pytest.fixture(scope="session")
def stack(yard: Yard, image: str, broker: str, netbeam: Netbeam, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`docker-compose up`, for the first time and with an empty volume."""
    bus = Bus(broker)
    settings = {
        "NETBEAM_URL": netbeam.url,
        "POLL_INTERVAL": "5",
        "SETTLE_DELAY": "0",
        "RMQ_HOST": broker,
        "RMQ_USER": "guest",
        "RMQ_PASS": "guest",
        "RMQ_EXCHANGE": bus.exchange,
        "MYSQL_DATABASE": "esnet",
        "MYSQL_USER": "esnet_user",
        "MYSQL_PASSWORD": secrets.token_hex(8),
        "MYSQL_ROOT_PASSWORD": secrets.token_hex(8),
        "COLLECTOR_IMAGE": image,
        "DB_VOLUME": f"{yard.prefix}-dbdata",
        "DB_PORT": "0",
    }
    project = Project(copy_project(tmp_path_factory.mktemp("stack") / "project"), f"{yard.prefix}-stack")
    (project.directory / ".env").write_text(lines(settings))
    try:
        project.compose("up", "--detach")
        yield Stack(project, settings, bus)
    finally:
        project.down()


@pytest.fixture
def settings(stack: Stack, bus: Bus) -> dict[str, str]:
    """For a collector beside the database that runs already, with a schema and an exchange of its own."""
    wait_for("a healthy database", lambda: health(DATABASE) == "healthy", about=DATABASE)
    kept = ("NETBEAM_URL", "SETTLE_DELAY", "RMQ_HOST", "RMQ_USER", "RMQ_PASS", "MYSQL_USER", "MYSQL_PASSWORD")
    return {name: stack.settings[name] for name in kept} | {
        "RMQ_EXCHANGE": bus.exchange,
        "MYSQL_DATABASE": stack.database.create(),
    }


@pytest.fixture(scope="session")
def odd_user(broker: str) -> str:
    """A user of the broker with an odd password."""
    wait_for("the broker's API", lambda: add_broker_user(broker, "odd", ODD_PASSWORD), about=broker)
    return "odd"


@pytest.fixture
def odd(settings: dict[str, str], stack: Stack, odd_user: str, tmp_path: Path) -> OddPasswords:
    """As docs/containers.md says: files that everybody may read, in a directory that the owner alone may enter."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    for name in ("rmq_pass", "mysql_password"):
        (folder / name).write_text(ODD_PASSWORD + "\n")
        (folder / name).chmod(0o644)
    own = {"RMQ_USER": odd_user, "MYSQL_USER": odd_user, "MYSQL_DATABASE": stack.database.create(odd_user, ODD_PASSWORD)}
    kept = {name: value for name, value in settings.items() if name not in ("RMQ_PASS", "MYSQL_PASSWORD")}
    return OddPasswords(kept | own, folder)
