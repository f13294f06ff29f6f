"""Debian's Chromium without a window, spoken to in the DevTools protocol over a pair of pipes."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from types import TracebackType
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
PATIENCE_S = 60.0
END_S = 10.0


class Chromium:
    """One browser with one page; starts when entered. Fails when there is no Chromium: this tier never skips silently."""

    def __enter__(self) -> "Chromium":
        program = shutil.which("chromium")
        if program is None:
            raise FileNotFoundError("no chromium on the path: apt-get install chromium")
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        profile = self._profile.name
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4
        self._browser = subprocess.Popen(
            # not sh: Debian's knows descriptors of one digit only
            ["bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', program, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        # a browser that hangs must not hang the tests: its end closes the pipe that they read
        self._watchdog = threading.Timer(PATIENCE_S, self._kill)
        self._watchdog.start()
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        try:
            self._attach()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _attach(self) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.send(f"{domain}.enable")

    def _end(self) -> None:
        self._watchdog.cancel()
        self._out.close()
        try:
            self._browser.wait(END_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._browser.wait()
        self._in.close()
        self._profile.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give an order and wait for its result; events that come in between are kept."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters, "sessionId": self._session}
        self._out.write(json.dumps({key: value for key, value in order.items() if value is not None}).encode() + b"\0")
        self._out.flush()
        while (message := self._receive()).get("id") != self._number:
            pass
        if "error" in message:
            raise AssertionError(f"{method}: {message['error']}")
        result: dict[str, Any] = message["result"]
        return result

    def open(self, url: str, *, width: int = 1100, height: int = 900, scheme: str = "light") -> None:
        """Show a page in a window of that size, to a user who likes it light or dark, once all of it has loaded."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not any(each["method"] == "Page.loadEventFired" for each in self.events):
            self._receive()

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def seen(self, method: str) -> list[dict[str, Any]]:
        """The events of this name since the page was opened."""
        return [each["params"] for each in self.events if each["method"] == method]

    def _receive(self) -> dict[str, Any]:
        text = bytearray()
        while (character := self._in.read(1)) != b"\0":
            if not character:
                raise AssertionError("Chromium has ended, or was ended because it hung")
            text += character
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def _kill(self) -> None:
        os.killpg(self._browser.pid, signal.SIGKILL)
