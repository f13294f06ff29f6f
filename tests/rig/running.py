"""A collector as a process of its own: started with nothing but what it is given, watched, signalled, and always ended."""

import atexit
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "esnet_collector.py"
PATIENCE_S = 30.0
"""What a condition that must come true gets, on a machine that is busy with other tests."""
LOOK_S = 0.03
INHERITED = ("PATH", "LANG", "TZ", "SYSTEMROOT")
"""The only variables that a collector gets from whoever runs the tests."""
_numbers = itertools.count(1)


def wait_for(
    condition: Callable[[], object],
    timeout_s: float = PATIENCE_S,
    what: str = "",
    *,
    unless: Callable[[], str | None] = lambda: None,
) -> None:
    """Wait until the condition is true. Raises AssertionError after the time, or once `unless` says why it never will be."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        hopeless = unless()
        if hopeless and not condition():
            raise AssertionError(f"{what or 'the condition'} did not come true: {hopeless}")
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'the condition'} did not come true within {timeout_s:g} s")
        time.sleep(LOOK_S)


class Collector:
    """One run of the program. Its output goes to files in `directory`, which is also where it runs.

    Start it from a thread that lives on: it is killed when that thread ends, so that a run of tests that is killed leaves
    no collector behind.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        self.words = tuple(words)
        directory.mkdir(parents=True, exist_ok=True)
        number = next(_numbers)
        self._stdout, self._stderr = directory / f"collector-{number}.out", directory / f"collector-{number}.err"
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, str(PROGRAM), *words]
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._child = subprocess.Popen(
                command,
                cwd=directory,
                env={**inherited, **environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        self._looking = threading.Lock()
        self.started_at = time.monotonic()
        self.ended_at: float | None = None
        self.cpu_s = 0.0
        """Known once it has ended."""
        self.peak_mib = 0.0
        """As seen when it was looked at last: `wait` does so several times a second."""
        self.tracebacks_expected = False
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        """Its number, for signals."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        with self._looking:
            if self._child.returncode is None:
                self._look_at_memory()
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
                if pid:
                    self.cpu_s = usage.ru_utime + usage.ru_stime
                    self.ended_at = time.monotonic()
                    self._child.returncode = os.waitstatus_to_exitcode(status)
                    atexit.unregister(self.kill)
            return self._child.returncode

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.exit_code is None

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        return (self.ended_at or time.monotonic()) - self.started_at

    def _look_at_memory(self) -> None:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return
        if match := re.search(r"VmHWM:\s+(\d+) kB", status):
            self.peak_mib = int(match[1]) / 1024

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; the exit code. Raises AssertionError with the end of its log when it goes on."""
        try:
            wait_for(lambda: self.exit_code is not None, timeout_s, f"the end of {self}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None
        assert self.exit_code is not None
        return self.exit_code

    def wait_for(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S, what: str = "") -> None:
        """Wait for a condition. Raises AssertionError with the end of the log after the time, or when the collector has ended."""

        def hopeless() -> str | None:
            return None if self.running else f"{self} ended with exit code {self.exit_code}"

        try:
            wait_for(condition, timeout_s, what, unless=hopeless)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def wait_for_log(self, pattern: str, timeout_s: float = PATIENCE_S, times: int = 1) -> None:
        """Wait until that many lines of its log match."""
        self.wait_for(lambda: len(self.log_lines(pattern)) >= times, timeout_s, f"{times} x {pattern!r} in the log")

    def wait_for_cycles(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until so many more cycles have ended than by now."""
        so_far = len(self.cycles())
        self.wait_for(lambda: len(self.cycles()) >= so_far + count, timeout_s, f"the end of {count} more cycles")

    def cycles(self) -> list[dict[str, str]]:
        """The figures of each cycle that has ended, from its line in the log."""
        return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in self.log_lines("cycle ended ")]

    def signal(self, number: int) -> None:
        """Send a signal; nothing when it has ended."""
        if self.running:
            os.kill(self.pid, number)

    def terminate(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM, and wait for the end; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, and wait for the end; nothing when it has ended."""
        self.signal(signal.SIGKILL)
        wait_for(lambda: not self.running, what="the end after SIGKILL")

    def freeze(self) -> None:
        """Stop its clock, as a paused virtual machine would be."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    @property
    def log(self) -> str:
        """All of stderr so far."""
        return self._stderr.read_text(errors="replace")

    @property
    def stdout(self) -> str:
        """All of stdout so far."""
        return self._stdout.read_text(errors="replace")

    def log_lines(self, pattern: str = "") -> list[str]:
        """The lines of its log that match."""
        return [line for line in self.log.splitlines() if re.search(pattern, line)]

    def tail(self, lines: int = 25) -> str:
        """The end of its log, for messages."""
        return "\n".join(self.log.splitlines()[-lines:])

    def check_output(self, secrets: Sequence[str]) -> None:
        """Raises AssertionError when the output holds a traceback (unless `tracebacks_expected`) or one of these secrets."""
        output = self.log + self.stdout
        if not self.tracebacks_expected:
            assert "Traceback (most recent call last)" not in output, f"{self} printed a traceback:\n{self.log[-6000:]}"
        for secret in secrets:
            said = [line for line in output.splitlines() if secret in line]
            assert not said, f"{self} printed a secret: {said[:3]}"

    def __str__(self) -> str:
        return f"`esnet_collector.py {' '.join(self.words)}` (pid {self.pid})"
