"""The container engine as an operator uses it: `docker` and `docker-compose`. Nothing in this tier knows the package."""

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NETWORK = "esnet-network"
DATABASE = "esnet_db"
"""What the compose file names for good: there is one of each on a machine."""
PREFIX = "esnet-test-"
"""Of everything else that is made here."""
COMPOSE = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
PATIENCE_S = 120.0
"""Most of it for name look-ups: after a restart Podman's name server may be silent for half a minute."""
PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Ended:
    """What a container, or a command, left behind."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def call(*words: str, text: str = "", check: bool = True, directory: Path | None = None, seconds: float = 300) -> Ended:
    """Run a command with `text` as its input."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False, cwd=directory, timeout=seconds)
    if check:
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return Ended(done.returncode, done.stdout, done.stderr)


def docker(*words: str, text: str = "", check: bool = True, seconds: float = 300) -> Ended:
    """Run `docker` with these words."""
    return call("docker", *words, text=text, check=check, seconds=seconds)


def names(what: str, *words: str) -> list[str]:
    """The lines that a listing command of docker's prints: `names("ps", "--all", "--quiet")`."""
    return docker(what, *words).out.split()


def inspect(container: str) -> dict[str, Any]:
    """All that the engine knows of a container."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", "--type", "container", container).out)
    return found[0]


def state(container: str) -> dict[str, Any]:
    """Of a container: `Running`, `ExitCode`, `StartedAt`, `Health` and more."""
    known: dict[str, Any] = inspect(container)["State"]
    return known


def health(container: str) -> str:
    """starting, healthy or unhealthy."""
    known: str = state(container)["Health"]["Status"]
    return known


def logs(container: str) -> str:
    """What the container has printed so far, on both streams."""
    return docker("logs", container).text


def published(container: str, port: int) -> tuple[str, int]:
    """The address and the port of this machine on which a container's port is published."""
    binding = inspect(container)["NetworkSettings"]["Ports"][f"{port}/tcp"][0]
    return binding["HostIp"], int(binding["HostPort"])


def wait_for(what: str, condition: Callable[[], object], *, about: str = "", seconds: float = PATIENCE_S) -> float:
    """Wait until the condition holds; the seconds that took. Shows the logs of the container `about` when it never did."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"after {seconds:.0f} s not {what}\n" + (logs(about)[-4000:] if about else "")
        time.sleep(PAUSE_S)
    return time.monotonic() - began


class Yard:
    """Containers started one by one, each under a name of its own, and removed at the end."""

    def __init__(self) -> None:
        self.prefix = PREFIX + secrets.token_hex(3)
        self._containers: list[str] = []

    def start(self, *words: str, name: str = "") -> str:
        """`docker run --detach` with these words; the container's name."""
        name = f"{self.prefix}-{name or secrets.token_hex(3)}"
        self._containers.append(name)
        docker("run", "--detach", "--name", name, *words)
        return name

    @contextmanager
    def running(self, *words: str) -> Iterator[str]:
        """A container that is removed at the end of the block."""
        container = self.start(*words)
        try:
            yield container
        finally:
            docker("rm", "--force", "--volumes", container)

    def run(self, *words: str) -> Ended:
        """Run a container to its end. Not with `--rm`: through Podman's Docker API that always gives exit code 0."""
        with self.running(*words) as container:
            code = int(docker("wait", container, seconds=PATIENCE_S).out)
            printed = docker("logs", container)
        return Ended(code, printed.out, printed.err)

    def close(self) -> None:
        """Remove what is left."""
        for each in self._containers:
            docker("rm", "--force", "--volumes", each, check=False)


class Project:
    """A directory with the compose file and a `.env`, under a project name of its own."""

    def __init__(self, directory: Path, name: str, *options: str) -> None:
        self.directory = directory
        self.name = name
        self._options = options

    def compose(self, *words: str, check: bool = True) -> Ended:
        """Run docker-compose in the directory."""
        return call(*COMPOSE, "--project-name", self.name, *self._options, *words, directory=self.directory, check=check)

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, the stopped ones too."""
        label = f"label=com.docker.compose.project={self.name}"
        return names("ps", "--all", "--quiet", "--filter", label, "--filter", f"label=com.docker.compose.service={service}")

    def container(self, service: str) -> str:
        """The id of a service's only container."""
        (only,) = self.containers(service)
        return only

    def down(self) -> None:
        """Stop and remove the project's containers and its volume."""
        self.compose("down", "--volumes", "--timeout", "2", check=False)


def clear_leftovers() -> None:
    """Remove what a run that was killed has left, and nothing that is not of these tests; one run at a time on an engine."""
    if DATABASE in names("ps", "--all", "--format", "{{.Names}}"):
        labels = inspect(DATABASE)["Config"]["Labels"] or {}
        owner = labels.get("com.docker.compose.project", "")
        assert owner.startswith(PREFIX), f"there is a container {DATABASE} already, and it is not of these tests"
        docker("rm", "--force", "--volumes", DATABASE)
    for what, remove in (
        (("ps", "--all", "--format", "{{.Names}}"), ("rm", "--force", "--volumes")),
        (("volume", "ls", "--format", "{{.Name}}"), ("volume", "rm")),
        (("images", "--format", "{{.Repository}}"), ("rmi", "--force")),
    ):
        for each in names(*what):
            if each.startswith(PREFIX):
                docker(*remove, each)
