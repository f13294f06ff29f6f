"""The compose file: first boot, health, a database that is restarted, a standby, a stop in mid-cycle. In this order."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.container.engine import DATABASE, PATIENCE_S, Project, Yard, docker, health, inspect, logs, published, state, wait_for
from tests.container.project import TOP, copy_project, lines
from tests.container.systems import INTERFACES, Bus, Netbeam, OddPasswords, Stack

SECRETS_OVERRIDE = """\
services:
  db:
    environment:
      MYSQL_PASSWORD_FILE: /run/secrets/mysql_password
    secrets: [mysql_password]
  collector:
    environment:
      RMQ_PASS_FILE: /run/secrets/rmq_pass
      MYSQL_PASSWORD_FILE: /run/secrets/mysql_password
    secrets: [rmq_pass, mysql_password]
secrets:
  rmq_pass:
    file: ./secrets/rmq_pass
  mysql_password:
    file: ./secrets/mysql_password
"""
"""docker-compose.override.yml, as docs/containers.md shows it."""
COMPLETE = "cycle ended outcome=complete"
TAKE_OVER_S = 30.0
STOP_S = 10.0


def wait_for_cycle(container: str, number: int = 1, seconds: float = PATIENCE_S) -> float:
    """Wait until the container has logged so many complete cycles."""
    return wait_for("a complete cycle", lambda: logs(container).count(COMPLETE) >= number, about=container, seconds=seconds)


def assert_nothing_lost(stack: Stack, bus: Bus, netbeam: Netbeam, schema: str = "esnet") -> None:
    """No checkpoint is ahead of the bus."""
    reached = stack.database.reached(schema, netbeam)
    assert reached
    assert reached <= bus.points()


def test_collector_waits_for_the_database_s_first_boot(stack: Stack) -> None:
    collector = stack.container("collector")
    wait_for_cycle(collector)
    assert "MySQL is not available" in logs(collector)
    assert inspect(collector)["RestartCount"] == 0


def test_nothing_that_the_compose_file_takes_from_env_looks_like_a_misspelt_option(stack: Stack) -> None:
    assert {"COLLECTOR_IMAGE", "DB_VOLUME", "DB_PORT"} <= stack.settings.keys()
    assert "is not an option" not in logs(stack.container("collector"))


def test_interfaces_are_in_the_table_and_messages_on_the_broker(stack: Stack, netbeam: Netbeam) -> None:
    resources = {each["resource"] for each in netbeam.listing()}
    assert len(resources) == INTERFACES
    assert {row[0] for row in stack.database.rows("esnet")} == resources == stack.bus.interfaces()
    assert_nothing_lost(stack, stack.bus, netbeam)


def test_both_turn_healthy(stack: Stack) -> None:
    for container in (DATABASE, stack.container("collector")):
        wait_for("healthy", lambda container=container: health(container) == "healthy", about=container)  # type: ignore[misc]


def test_collector_is_confined_and_knows_no_root_password(stack: Stack) -> None:
    collector = inspect(stack.container("collector"))
    assert collector["HostConfig"]["ReadonlyRootfs"]
    assert collector["Config"]["User"] == "10001"
    assert stack.settings["MYSQL_PASSWORD"] in str(collector["Config"]["Env"])
    assert stack.settings["MYSQL_ROOT_PASSWORD"] not in str(collector)
    assert collector["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert {published(stack.container("collector"), 8000)[0], published(DATABASE, 3306)[0]} == {"127.0.0.1"}


def test_database_is_as_operators_know_it(stack: Stack) -> None:
    database = inspect(DATABASE)
    mounts = {mount["Destination"]: mount["Name"] for mount in database["Mounts"]}
    assert mounts == {"/var/lib/mysql": stack.settings["DB_VOLUME"]}
    assert "mysql:5.7" in database["Config"]["Image"]


def test_restart_of_the_database_heals(stack: Stack, netbeam: Netbeam) -> None:
    collector = stack.container("collector")
    started, before = state(collector)["StartedAt"], logs(collector).count("MySQL is available again")
    docker("restart", DATABASE)
    wait_for("healed", lambda: logs(collector).count("MySQL is available again") > before, about=collector)
    wait_for_cycle(collector, logs(collector).count(COMPLETE) + 1)
    assert state(collector)["StartedAt"] == started
    assert_nothing_lost(stack, stack.bus, netbeam)


def test_second_collector_stands_by_and_takes_over(stack: Stack, netbeam: Netbeam) -> None:
    first = stack.container("collector")
    stack.compose("up", "--detach", "--no-recreate", "--scale", "collector=2")
    (second,) = set(stack.containers("collector")) - {first}
    wait_for("standing by", lambda: "standing by" in logs(second), about=second)
    wait_for("healthy", lambda: health(second) == "healthy", about=second)
    assert COMPLETE not in logs(second)
    docker("kill", "--signal", "KILL", first)
    wait_for("the one at work", lambda: "took over" in logs(second), about=second, seconds=TAKE_OVER_S)
    wait_for_cycle(second)
    assert_nothing_lost(stack, stack.bus, netbeam)
    stack.compose("up", "--detach", "--no-recreate", "--scale", "collector=1")


@pytest.fixture
def beside(yard: Yard, image: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a collector of another project beside the database that runs already; the container."""
    project = Project(copy_project(tmp_path / "project"), f"{yard.prefix}-beside")
    own = {"COLLECTOR_IMAGE": image, "DB_VOLUME": f"{yard.prefix}-beside"}  # by default it would be, and take with it, dbdata

    def up(settings: dict[str, str], override: str = "") -> str:
        (project.directory / ".env").write_text(lines(settings | own))
        if override:
            (project.directory / "docker-compose.override.yml").write_text(override)
        project.compose("up", "--detach", "--no-deps", "collector")
        return project.container("collector")

    yield up
    project.down()


def test_passwords_with_special_characters_come_from_files(
    beside: Callable[..., str], odd: OddPasswords, stack: Stack, bus: Bus, netbeam: Netbeam
) -> None:
    wait_for_cycle(beside(odd.settings, SECRETS_OVERRIDE.replace("./secrets", str(odd.folder))))
    assert_nothing_lost(stack, bus, netbeam, odd.settings["MYSQL_DATABASE"])


def test_stop_in_mid_cycle_beside_a_running_database_loses_nothing(
    beside: Callable[..., str],
    start_netbeam: Callable[..., Netbeam],
    netbeam: Netbeam,
    stack: Stack,
    settings: dict[str, str],
    bus: Bus,
) -> None:
    schema = settings["MYSQL_DATABASE"]
    slow = {"NETBEAM_URL": start_netbeam("--latency-ms", "400").url, "NETBEAM_CONCURRENCY": "4"}
    collector = beside(settings | slow)
    wait_for("points on the bus", bus.points, about=collector)
    began = time.monotonic()
    docker("stop", collector)
    assert time.monotonic() - began < STOP_S
    assert state(collector)["ExitCode"] == 0
    assert COMPLETE not in logs(collector)
    checkpoints = [until for row in stack.database.rows(schema) for until in row[2:]]
    assert {until == "NULL" for until in checkpoints} == {True, False}  # some series were done, others were not
    assert_nothing_lost(stack, bus, netbeam, schema)
    docker("start", collector)
    wait_for_cycle(collector)
    assert_nothing_lost(stack, bus, netbeam, schema)
    talking = {name for name, _, _ in bus.points()}
    assert {row[0] for row in stack.database.rows(schema) if "NULL" not in row} == talking


def test_two_shares_as_the_docs_show_them_divide_the_interfaces(
    yard: Yard, image: str, tmp_path: Path, stack: Stack, netbeam: Netbeam, settings: dict[str, str], bus: Bus
) -> None:
    chapter = (TOP / "docs" / "containers.md").read_text().partition("## Two shares")[2]
    override = chapter.partition("```yaml\n")[2].partition("```")[0]
    project = Project(copy_project(tmp_path / "project"), f"{yard.prefix}-shares")
    own = {"COLLECTOR_IMAGE": image, "DB_VOLUME": f"{yard.prefix}-shares", "POLL_INTERVAL": "5"}
    (project.directory / ".env").write_text(lines(settings | own))
    (project.directory / "docker-compose.override.yml").write_text(override)
    services = ("collector", "collector2")
    try:
        project.compose("up", "--detach", "--no-deps", *services)
        shares = [project.container(service) for service in services]
        for share in shares:
            wait_for_cycle(share, 2)
            assert "standing by" not in logs(share)
        listed = [int(re.findall(r" listed=(\d+)", logs(share))[0]) for share in shares]
        assert sum(listed) == INTERFACES
        assert min(listed) > 0
        assert {row[0] for row in stack.database.rows(settings["MYSQL_DATABASE"])} == bus.interfaces()
        assert len(bus.interfaces()) == INTERFACES
        docker("stop", *shares)
        assert_nothing_lost(stack, bus, netbeam, settings["MYSQL_DATABASE"])
        points = [(body["name"], body["recordType"], body["timestamp"]) for key, body in bus.bodies if key == "esnet_traffic"]
        assert len(points) == len(set(points)), "two shares published the same"
    finally:
        project.down()
