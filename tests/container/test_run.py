"""`docker run` beside a database that runs already, in the ways that docs/containers.md shows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.container.engine import NETWORK, Ended, Yard
from tests.container.project import lines
from tests.container.systems import INTERFACES, ODD_PASSWORD, Bus, Netbeam, OddPasswords, Stack


@pytest.fixture
def run_once(yard: Yard, image: str, tmp_path: Path) -> Callable[..., Ended]:
    """One cycle with `--env-file`, and with more options for `docker run`."""

    def run(settings: dict[str, str], *options: str) -> Ended:
        (tmp_path / ".env").write_text(lines(settings))
        return yard.run("--network", NETWORK, "--env-file", str(tmp_path / ".env"), *options, image, "--once")

    return run


def assert_collected(ended: Ended, stack: Stack, bus: Bus, netbeam: Netbeam, schema: str) -> None:
    """All interfaces are in the table and on the bus, and so is every point before the checkpoints."""
    assert ended.code == 0, ended.text
    resources = {each["resource"] for each in netbeam.listing()}
    rows = stack.database.rows(schema)
    assert {row[0] for row in rows} == resources == bus.interfaces()
    assert len(resources) == INTERFACES
    assert {row[0] for row in rows if "NULL" not in row} == {name for name, _, _ in bus.points()}  # the others are silent
    reached = stack.database.reached(schema, netbeam)
    assert reached
    assert reached <= bus.points()


def test_env_file_and_a_read_only_root_file_system(
    run_once: Callable[..., Ended], settings: dict[str, str], stack: Stack, bus: Bus, netbeam: Netbeam
) -> None:
    ended = run_once(settings, "--read-only", "--cap-drop", "ALL")
    assert_collected(ended, stack, bus, netbeam, settings["MYSQL_DATABASE"])


def test_older_env_file_is_mounted(
    yard: Yard, image: str, settings: dict[str, str], stack: Stack, bus: Bus, netbeam: Netbeam, tmp_path: Path
) -> None:
    older = "[rabbitmq]\n" + "".join(
        f"{name.lower().replace('_', '-')} = {value}\n" if name.startswith("RMQ_") else f"{name}={value}\n"
        for name, value in settings.items()
    )
    (tmp_path / ".env").write_text(older)
    (tmp_path / ".env").chmod(0o644)
    ended = yard.run("--network", NETWORK, "--volume", f"{tmp_path}/.env:/app/.env:ro", image, "--once")
    assert_collected(ended, stack, bus, netbeam, settings["MYSQL_DATABASE"])


def test_passwords_with_special_characters_come_from_files(
    run_once: Callable[..., Ended], odd: OddPasswords, stack: Stack, bus: Bus, netbeam: Netbeam
) -> None:
    options = [
        word
        for variable, name in (("RMQ_PASS_FILE", "rmq_pass"), ("MYSQL_PASSWORD_FILE", "mysql_password"))
        for word in ("--volume", f"{odd.folder}/{name}:/run/secrets/{name}:ro", "--env", f"{variable}=/run/secrets/{name}")
    ]
    ended = run_once(odd.settings, *options)
    assert_collected(ended, stack, bus, netbeam, odd.settings["MYSQL_DATABASE"])
    assert ODD_PASSWORD not in ended.text
