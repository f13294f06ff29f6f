"""The profile `local`: one command shows the whole system. The first file of all, since there can be only one esnet_db."""

import re
from collections.abc import Iterator

import pytest

from tests.container.engine import Project, Yard, health, logs, state, wait_for
from tests.container.project import copy_project


@pytest.fixture(scope="module")
def local(yard: Yard, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Up with `.env.local` as it is, but for names and ports that others on this machine may use."""
    directory = copy_project(tmp_path_factory.mktemp("local") / "project")
    file = directory / ".env.local"
    text = file.read_text()
    own = {"COLLECTOR_PORT": "0", "DB_PORT": "0", "DB_VOLUME": f"{yard.prefix}-local", "COLLECTOR_IMAGE": image}
    for name, value in own.items():
        text = re.sub(f"^{name}=.*\n", "", text, flags=re.MULTILINE) + f"{name}={value}\n"
    file.write_text(text)
    project = Project(directory, f"{yard.prefix}-local", "--env-file", ".env.local", "--profile", "local")
    try:
        project.compose("up", "--detach")
        yield project
    finally:
        project.down()


def test_profile_local_shows_the_messages_of_a_simulated_network(local: Project) -> None:
    consumer = local.container("consumer")
    for key in ("esnet_interfaces", "esnet_traffic"):
        words = f"messages {key}, the latest: {{"
        wait_for(words, lambda words=words: words in logs(consumer), about=local.container("collector"))  # type: ignore[misc]


def test_profile_local_turns_healthy_and_stops_when_told(local: Project) -> None:
    collector = local.container("collector")
    wait_for("healthy", lambda: health(collector) == "healthy", about=collector)
    ours = ("collector", "consumer", "netbeam", "stardust")
    local.compose("stop", *ours)
    assert {service: state(local.container(service))["ExitCode"] for service in ours} == dict.fromkeys(ours, 0)
