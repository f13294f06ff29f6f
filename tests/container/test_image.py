"""The image by itself: what is in it, who runs it, and what it says with no system around it."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from typing import IO

from tests.container.engine import NETWORK, Yard, docker, health, wait_for
from tests.container.project import MARKER

PROBE = ("python", "-m", "collector.commands.healthcheck")


def standalone(image: str, *more: str) -> tuple[str, ...]:
    """A collector that runs for ever though there is no system around it."""
    alone = ("--network", "none", "--env", "NETBEAM_URL=http://127.0.0.1:9/nobody", *more, image)
    return (*alone, "run", "--stdout", "--sqlite", "/tmp/esnet_interfaces.sqlite")  # noqa: S108  # in the container


def files_of(image: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of every layer, and of what else stands in the saved image."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
        assert saved.stdout is not None
        for outer, content in files_in(saved.stdout):
            try:
                yield from files_in(io.BytesIO(content))
            except tarfile.ReadError:  # not a layer: the configuration, say
                yield outer, content
    assert saved.returncode == 0


def files_in(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Name and content of all that is in the archive; links and directories are empty."""
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            yield member.name, file.read() if file else b""


def test_without_configuration_it_says_what_to_add_and_ends_with_2(yard: Yard, image: str) -> None:
    ended = yard.run("--network", NETWORK, image)
    assert ended.code == 2
    for variable in ("RMQ_HOST", "RMQ_USER", "RMQ_PASS", "MYSQL_PASSWORD"):
        assert f"{variable} must be set" in ended.err
    assert "add --env-file .env to docker run, before the image's name" in ended.err
    assert "Traceback" not in ended.err


def test_words_after_the_image_are_the_command_line(yard: Yard, image: str) -> None:
    version, usage = yard.run(image, "--version"), yard.run(image, "--no-such-option")
    assert (version.code, version.out.split()[0]) == (0, "esnet-collector")
    assert (usage.code, usage.out) == (2, "")


def test_demonstration_needs_neither_configuration_nor_network(yard: Yard, image: str) -> None:
    ended = yard.run("--network", "none", image, "demo", "--json", "--cycles", "1")
    assert ended.code == 0, ended.err
    keys = {json.loads(line)["routing_key"] for line in ended.out.splitlines()}
    assert keys == {"esnet_interfaces", "esnet_traffic"}


def test_value_that_env_file_leaves_in_quotes_draws_a_warning(yard: Yard, image: str) -> None:
    words = standalone(image, "--env", "RMQ_EXCHANGE='osg.psdata.raw'")
    assert "RMQ_EXCHANGE is wrapped in quotes" in yard.run(*words, "--once").err


def test_container_without_a_server_to_ask_is_healthy(yard: Yard, image: str) -> None:
    with yard.running(*standalone(image, "--env", "METRICS_PORT=0")) as run, yard.running(image, "demo") as demo:
        for container in (run, demo):
            wait_for("healthy", lambda container=container: health(container) == "healthy", about=container)  # type: ignore[misc]
            assert "nothing to ask" in docker("exec", container, *PROBE).out


def test_health_check_says_what_is_wrong(yard: Yard, image: str) -> None:
    with yard.running(*standalone(image)) as container:

        def says_so() -> bool:
            probe = docker("exec", container, *PROBE, check=False)
            return probe.code == 1 and "Netbeam is down" in probe.out

        wait_for("a failing health check", says_so, about=container)


def test_ordinary_user_runs_it_and_owns_nothing(yard: Yard, image: str) -> None:
    script = "import os; print(os.getuid(), *(os.access(each, os.W_OK) for each in ('/app', '/app/collector', '/app/sql')))"
    assert yard.run("--entrypoint", "python", image, "-c", script).out == "10001 False False False\n"


def test_any_other_user_can_run_it_too(yard: Yard, image: str) -> None:
    assert yard.run("--user", "12345:12345", image, "--version").code == 0


def test_working_directory_is_app(image: str) -> None:
    found = json.loads(docker("inspect", "--type", "image", image).out)
    assert found[0]["Config"]["WorkingDir"] == "/app"


def test_no_secret_and_no_env_file_is_in_any_layer(image: str) -> None:
    names = set()
    for name, content in files_of(image):
        names.add(name)
        assert MARKER.encode() not in content, name
        assert not name.rpartition("/")[2].startswith(".env"), name
    assert {"app/esnet_collector.py", "app/collector/commands/cli.py", "app/sql/esnet_interfaces.sql"} <= names
