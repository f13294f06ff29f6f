"""Debian's RabbitMQ as a node of its own: in a temporary directory, on free loopback ports, with an epmd of its own.

The node is asked through `erl_call` (3 ms) rather than `rabbitmqctl` (2 s).
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.servers.ports import free_port

START_S = 60.0
STOP_S = 30.0

_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the server's certificate, its key, and the authority of clients' certificates; a client may have none."""

    ca_file: str
    cert_file: str
    key_file: str


class RabbitNode:
    """One broker; what it knows survives `stop`, `kill` and `start`, and is gone with `close`."""

    def __init__(self, tls: Tls | None = None) -> None:
        self.host = "127.0.0.1"
        self.port, self.tls_port, self._dist_port, self._epmd_port = (free_port() for _ in range(4))
        self.directory = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self.node = f"test{self.port}@localhost"
        self._cookie = secrets.token_hex(16)
        self._tls = tls
        self._broker: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._environment = self._prepare()

    def _prepare(self) -> dict[str, str]:
        """Write the node's files; returns its environment."""
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        (self.directory / "enabled_plugins").write_text("[].\n")
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}", "disk_free_limit.absolute = 1MB", "log.file.level = warning"]
        if self._tls:
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self._tls.ca_file}",
                f"ssl_options.certfile = {self._tls.cert_file}",
                f"ssl_options.keyfile = {self._tls.key_file}",
                "ssl_options.verify = verify_peer",
                "ssl_options.fail_if_no_peer_cert = false",
            ]
        (self.directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        return {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "detached": "yes",  # the start script then becomes the broker, so that our child is the broker itself
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the broker and wait until it takes connections. Raises RuntimeError with the end of its log."""
        if self._epmd is None:
            # erl would start one as a daemon that outlives it
            self._epmd = self._spawn(["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)], "epmd")
            self._wait(lambda: self._answers(self._epmd_port), 10.0, "epmd")
        self._broker = self._spawn([_SERVER], "broker")
        self._wait(self._up, START_S, "broker")

    def _spawn(self, command: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        # it ends with us, even when we are killed
        command = ["setpriv", "--pdeathsig", "KILL", *command]
        with open(self.directory / f"{name}.out", "ab") as output:
            return subprocess.Popen(
                command, env=self._environment, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def _wait(self, condition: Any, timeout_s: float, name: str) -> None:
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until or (name == "broker" and self._broker and self._broker.poll() is not None):
                raise RuntimeError(f"{name} did not start: {(self.directory / f'{name}.out').read_text()[-2000:]}")
            time.sleep(0.05)

    @staticmethod
    def _answers(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def _up(self) -> bool:
        if not self._answers(self.port):
            return False
        try:
            return self.eval("rabbit:is_running()") == "true"
        except RuntimeError:
            return False

    @property
    def pid(self) -> int:
        """The broker's process id."""
        assert self._broker is not None
        return self._broker.pid

    def stop(self) -> None:
        """Shut the broker down in good order: it closes its connections and keeps durable queues."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._broker is None:
            return
        self._broker.send_signal(number)
        try:
            self._broker.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._broker.kill()
            self._broker.wait()
        self._broker = None

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it hang: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """End `freeze`; safe to call again."""
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen for as long as the block runs."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def close(self) -> None:
        """Stop what was started and remove its files."""
        if self._broker is not None:
            self.thaw()
            self.kill()
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait()
            self._epmd = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def eval(self, expression: str) -> str:
        """Evaluate Erlang in the broker; returns the value's text. Raises RuntimeError when it fails."""
        # a name of its own: the broker refuses a second node of one name until it has noticed that the first is gone
        name = f"c{secrets.token_hex(4)}"
        command = ["erl_call", "-c", self._cookie, "-h", name, "-n", self.node, "-timeout", "20", "-e"]
        done = subprocess.run(command, env=self._environment, input=f"{expression}.\n".encode(), capture_output=True, check=False)
        answer = done.stdout.decode()
        match = re.fullmatch(r"\{ok, (.*)\}\s*", answer, re.DOTALL)
        if done.returncode or not match:
            raise RuntimeError(f"{expression}: {answer or done.stderr.decode()}")
        return match[1]
