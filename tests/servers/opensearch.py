"""A real OpenSearch 2.19 for tests and benchmarks: its parts come by Maven, once, into .cache; it runs on Java 17.

Nothing here needs pytest. Run at most one at a time on a small machine: it takes a gigabyte.
"""

import itertools
import json
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

TOP = Path(__file__).resolve().parents[2]
POM = TOP / "tests" / "opensearch" / "pom.xml"
CACHE = TOP / ".cache" / "opensearch"
RUNNER = "org.codelibs.opensearch.runner.OpenSearchRunner"
PLUGINS = "org.opensearch.transport.Netty4Plugin"
PORTS = range(9202, 9299)
"""The runner looks no further."""
DOWNLOAD_S, START_S = 600, 120
BULK = 5_000
INDEX = "sd_public_interfaces"
_SIDES = [f"{side}_{unit}" for side in ("in", "out") for unit in ("bits", "errors", "discards")]
_KEYWORDS = {"strings": {"match_mapping_type": "string", "mapping": {"type": "keyword"}}}
_FIGURES = {"properties": {"delta": {"type": "long"}, "rate": {"type": "float"}}}
MAPPING = {
    "settings": {"number_of_shards": 5, "number_of_replicas": 0, "refresh_interval": -1},
    "mappings": {
        "dynamic_templates": [_KEYWORDS],
        "properties": {
            "start": {"type": "date"},
            "@timestamp": {"type": "date"},
            "meta": {"properties": {"ipv4": {"type": "ip"}, "speed": {"type": "long"}, "vrtr_ifencapvalue": {"type": "long"}}},
            "values": {"properties": dict.fromkeys(_SIDES, _FIGURES)},
        },
    },
}
"""As Stardust's is: strings are keywords, counters long, rates float."""


class NotHereError(Exception):
    """This machine cannot run it; the text says why."""


def fetch() -> Path:
    """The folder with OpenSearch's jars; downloaded when they are not there. Raises NotHereError."""
    jars = CACHE / "lib"
    if jars.exists():
        return jars
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise NotHereError(f"no {program} on this machine")
    with tempfile.TemporaryDirectory(dir=_made(CACHE)) as scratch:
        command = [
            "mvn", "-B", "-q", "-f", str(POM), f"-Dmaven.repo.local={CACHE / 'maven'}", "dependency:copy-dependencies",
            f"-DoutputDirectory={scratch}/lib",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DOWNLOAD_S)
        except subprocess.TimeoutExpired as error:
            raise NotHereError(f"Maven did not get it within {DOWNLOAD_S} s") from error
        if done.returncode:
            raise NotHereError(f"Maven could not get it: {done.stdout.strip()[:300]}")
        (Path(scratch) / "lib").rename(jars)
    return jars


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


class OpenSearch:
    """One node; its data survive `kill` and `start`, and are gone with `close`. Raises NotHereError where it cannot run."""

    def __init__(self) -> None:
        self._jars = fetch()
        self._scratch = tempfile.TemporaryDirectory(prefix="esnet-opensearch-")
        self.port = random.SystemRandom().choice([each for each in PORTS if _is_free(each)])
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For STARDUST_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._child is not None
        return self._child.pid

    def start(self) -> "OpenSearch":
        """Start it, and wait until its shards are there."""
        command = [
            "setpriv", "--pdeathsig", "KILL", "java", "-Xmx1g", "-XX:+UseSerialGC", "-cp", f"{self._jars}/*", RUNNER, "-basePath",
            self._scratch.name, "-numOfNode", "1", "-baseHttpPort", str(self.port - 1), "-moduleTypes", PLUGINS,
        ]  # fmt: skip
        log = Path(self._scratch.name) / "output.log"
        with log.open("ab") as output:
            self._child = subprocess.Popen(command, cwd=self._scratch.name, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_S
        while self._health() not in ("green", "yellow"):
            if time.monotonic() > deadline or self._child.poll() is not None:
                raise RuntimeError(f"OpenSearch did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        return self

    def kill(self) -> None:
        """kill -9."""
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            self._child.wait()
            self._child = None

    def close(self) -> None:
        """End it, and remove its data."""
        self.kill()
        self._scratch.cleanup()

    def __enter__(self) -> "OpenSearch":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _health(self) -> str:
        try:
            status: str = self.ask("GET", "/_cluster/health")["status"]
        except (OSError, ValueError, KeyError):
            return ""
        return status

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """A request and its answer. Raises urllib.error.HTTPError."""
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        kind = "application/x-ndjson" if path.endswith("/_bulk") else "application/json"
        request = urllib.request.Request(self.url + path, content, {"Content-Type": kind}, method=method)  # noqa: S310  # loopback
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
            return json.load(answer)

    def make(self, index: str = INDEX, **changed: object) -> None:
        """Make an empty index with Stardust's mapping; one of that name is gone."""
        self.remove(index)
        self.ask("PUT", f"/{index}", MAPPING | changed)

    def remove(self, index: str = INDEX) -> None:
        """Delete an index, if it is there."""
        try:
            self.ask("DELETE", f"/{index}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def fill(self, documents: Iterable[object], index: str = INDEX) -> int:
        """Write these documents, objects or JSON already, so that they are found at once; their number."""
        count = 0
        remaining = iter(documents)
        while some := list(itertools.islice(remaining, BULK)):
            encoded = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in some]
            lines = b"".join(b'{"index":{}}\n%s\n' % each for each in encoded)
            answer = self.ask("POST", f"/{index}/_bulk", lines)
            if answer["errors"]:
                raise ValueError([each for each in answer["items"] if "error" in each["index"]][:2])
            count += len(some)
        self.ask("POST", f"/{index}/_refresh")
        return count


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
