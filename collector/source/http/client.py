"""Requests to one server: tried again where that can help, paced, and paused when the server asks for it.

Each request goes: pause and rate, a connection of the pool, head (urllib3), body in steps, JSON; a watchdog thread ends it
at its deadline, wherever it is.
"""

import base64
import http.client
import logging
import math
import time
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry, parse_url

from collector import __version__
from collector.core.backoff import RETRY_DELAYS_S, jittered
from collector.core.counters import Counters, RequestOutcome
from collector.core.errors import AnswerError, CollectorError, ConfigurationError, UnavailableError
from collector.core.shutdown import Stop
from collector.core.text import printable
from collector.source.http import environment
from collector.source.http.body import SHOWN_CHARACTERS, Limits, TooLargeError, json_value, read_body
from collector.source.http.broken import BrokenError, broken, cause, innermost
from collector.source.http.connection import Attempt, Watchdog
from collector.source.http.headers import retry_after, server_time_ms
from collector.source.http.memory import ByteBudget, Reservation
from collector.source.http.turns import NotAskedError as NotAskedError  # for the sources
from collector.source.http.turns import Turns

log = logging.getLogger(__name__)

TRIES = 1 + len(RETRY_DELAYS_S)
OK = frozenset({200})
MAY_PASS = frozenset({408, 429, *range(500, 1000)})
"""Statuses that are worth another try, unless the caller names others."""
SHOWN_BYTES = 400
"""Of a body; 80 characters are shown."""
REFUSAL_BYTES = 65_536
"""The body of an answer whose status was not accepted is read up to here: for its text, and to keep the connection."""
PATH_CHARACTERS = "%/:@!$&'()*+,;=-._~"
"""What a URL's path may hold besides letters and digits (RFC 3986); % because escapes stay as they came."""
_NO_RETRIES = Retry(False, redirect=False)


class StatusError(CollectorError):
    """The answer had a status that was not accepted; `text` is what came of its body, up to 64 kB, as it came."""

    def __init__(self, message: str, status: int, text: str) -> None:
        super().__init__(message)
        self.status = status
        self.text = text

    @property
    def in_full(self) -> str:
        """The message with the beginning of the body; it may differ from one request to the next."""
        shown = quoted(self.text)
        return f"{self}: {shown}" if shown else str(self)


class RefusedError(StatusError, AnswerError):
    """The status says that asking again is no use."""


class FailingError(StatusError, UnavailableError):
    """The status may pass."""


class Answer(NamedTuple):
    """A status that was accepted; `value` is the body's JSON, None for an empty one.

    The memory that was admitted for the value is given back with the answer: keep it while the value is in use.
    """

    status: int
    value: Any
    server_ms: int | None = None
    """The server's clock, if it told: Date plus Age."""
    reservation: Reservation | None = None
    beginning: bytes = b""
    """Of the body, for a person who is to see what came in place of an answer."""


class HttpClient:
    """Asks one server, from any number of threads, with as many connections as may be asked at once.

    `name` is the server's, for people, and `variable` the setting that has its URL. Raises ConfigurationError where the
    URL, or the environment's proxy or CA bundle, cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str,
        variable: str,
        concurrency: int,
        rate: float,
        timeout_s: float,
        stop: Stop,
        counters: Counters,
    ) -> None:
        self._variable = variable
        self._timeout_s = timeout_s
        self._stop = stop
        self._counters = counters
        self._turns = Turns(name, rate, stop)
        self.last_seen: tuple[int, float] | None = None
        """The server's clock by the newest answer that told it, whatever its status, and the monotonic time of that answer."""
        self._watchdog = Watchdog(stop)
        self._budget = ByteBudget()
        self._prepare(base_url, concurrency)

    def _prepare(self, base_url: str, concurrency: int) -> None:
        wrong = ConfigurationError(f"{self._variable} is no http or https URL with a host")
        try:
            parts = parse_url(base_url)
            login = urlsplit(base_url).netloc.rpartition("@")[0]
        except (HTTPError, ValueError):
            raise wrong from None  # the error's text has the password
        if parts.scheme not in ("http", "https") or not parts.host or not parts.netloc:
            raise wrong
        self._at = parts.netloc
        server_url = f"{parts.scheme}://{parts.netloc}/"
        self._pool, whole_urls, self._proxy_variable = environment.pool(server_url, parts.scheme, concurrency)
        self._pool_url = server_url if whole_urls else "/"
        self._prefix = (server_url[:-1] if whole_urls else "") + _path(urlsplit(base_url).path.rstrip("/"))
        self._headers = {
            "Host": parts.netloc,
            "User-Agent": f"esnet-collector/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }
        if login:
            self._headers |= basic_login(*map(unquote, (login + ":").split(":", 2)[:2]))

    def request(
        self,
        path: str,
        query: str = "",
        *,
        limits: Limits,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = OK,
        may_pass: frozenset[int] = MAY_PASS,
        tries: int = TRIES,
        until: float = math.inf,
    ) -> Answer:
        """The answer to a GET of `base + path + query`, or to a POST of this JSON `body`; escapes go out as they are.

        Accepted are the statuses in `accept`; of the others those in `may_pass` are tried again. A pause that the server
        asks for is waited for when it ends before the monotonic time `until`. Raises UnavailableError when no try succeeded
        (FailingError: by its status; NotAskedError: the last one was not made, nor would any other be before `until`),
        AnswerError when another try would be no use (RefusedError: by its status).
        """
        call = _Call(self._prefix + _path(path) + query, limits, accept, may_pass, body, self._headers | dict(headers or {}))
        if body is not None:
            call.headers["Content-Type"] = "application/json"
        for delay_s in RETRY_DELAYS_S[: tries - 1]:
            self._turns.wait(until)
            try:
                return self._try(call)
            except UnavailableError as error:
                log.debug("request failed target=%s error=%r", call.target, str(error))
            self._stop.wait(jittered(delay_s))
        self._turns.wait(until)
        return self._try(call)

    def resume(self) -> None:
        """Forget a pause that the server asked for: a new cycle begins."""
        self._turns.resume()

    def close(self) -> None:
        """Close all idle connections."""
        self._pool.close()

    def _try(self, call: "_Call") -> Answer:
        """One try, counted with its outcome."""
        began = time.monotonic()
        reservation = Reservation(self._budget, began + self._timeout_s)
        outcome = RequestOutcome.UNREADABLE
        try:
            response, content = self._exchange(call, began, reservation)
            if response.status in call.accept:
                value = None if response.status == 404 else json_value(content, call.limits, reservation)
                outcome = RequestOutcome.NO_CONTENT if value is None else RequestOutcome.OK
                server_ms = server_time_ms(response.headers)
                return Answer(response.status, value, server_ms, reservation, bytes(content[:SHOWN_BYTES]))
            outcome = RequestOutcome.STATUS if response.status in call.may_pass else RequestOutcome.REFUSED
            raise self._status_error(response, content, outcome)
        except TimeoutError as error:
            outcome = RequestOutcome.TIMEOUT
            raise UnavailableError(f"no whole answer within {self._timeout_s:g} s") from error
        except TooLargeError as error:
            raise AnswerError(str(error)) from error
        except (ValueError, RecursionError, zlib.error) as error:
            raise UnavailableError(f"unreadable body: {cause(error)}") from error
        except BrokenError as error:
            outcome = error.outcome
            raise UnavailableError(str(error)) from error.__cause__
        finally:
            self._counters.add_request(outcome, time.monotonic() - began)

    def _exchange(self, call: "_Call", began: float, reservation: Reservation) -> tuple[BaseHTTPResponse, bytearray]:
        """Send and receive, once more on a new connection when an idle one turns out to have been closed."""
        attempt = Attempt(call.target, began + self._timeout_s)
        try:
            return self._send(call, attempt, reservation)
        except BrokenError as error:
            if attempt.cut or attempt.new_connection or error.answered or self._stop.is_set():
                raise
        self._turns.take()
        return self._send(call, Attempt(call.target, attempt.deadline, fresh=True), reservation)

    def _send(self, call: "_Call", attempt: Attempt, reservation: Reservation) -> tuple[BaseHTTPResponse, bytearray]:
        """Raises TimeoutError, TooLargeError, BrokenError, and ValueError and zlib.error for a body that does not decompress."""
        response: BaseHTTPResponse | None = None
        self._watchdog.watch(attempt)
        try:
            response = self._pool.urlopen(
                "GET" if call.body is None else "POST", self._pool_url, body=call.body, headers=call.headers,
                retries=_NO_RETRIES, redirect=False, assert_same_host=False, preload_content=False,
            )  # fmt: skip
            server_ms = server_time_ms(response.headers)
            if server_ms is not None:
                self.last_seen = server_ms, time.monotonic()
            content = self._content(call, response, reservation)
        except (TooLargeError, ValueError, zlib.error):
            raise
        except Exception as error:  # of whatever type: it is the driver's, and at the same time what a server made it do
            if attempt.cut or isinstance(innermost(error), TimeoutError):
                raise TimeoutError from error
            raise broken(
                error, at=self._at, variable=self._variable, proxy_variable=self._proxy_variable, answered=response is not None
            ) from error
        finally:
            if response is not None and not response.closed:
                response.close()
                response.release_conn()
            self._watchdog.release(attempt)
        if attempt.cut:
            raise TimeoutError
        return response, content

    def _content(self, call: "_Call", response: BaseHTTPResponse, reservation: Reservation) -> bytearray:
        if response.status < 200:  # what comes next on this connection would be taken for another request's answer
            raise http.client.HTTPException(f"status {response.status} is no end of an answer")
        encoding = response.headers.get("Content-Encoding", "")
        announced = response.length_remaining or 0
        most_bytes = call.limits.bytes if response.status in call.accept else REFUSAL_BYTES

        def read(size: int) -> bytes:
            return response.read(size, decode_content=False)

        if response.status in call.accept:
            if announced > most_bytes:
                raise TooLargeError(f"body of over {most_bytes} bytes")
            return read_body(read, encoding, most_bytes, reservation)
        try:
            return read_body(read, encoding, most_bytes, reservation)
        except (TooLargeError, ValueError, zlib.error, HTTPError, OSError):
            return bytearray()  # the status says all that is worth knowing

    def _status_error(self, response: BaseHTTPResponse, content: bytearray, outcome: RequestOutcome) -> StatusError:
        status, wait = response.status, response.headers.get("Retry-After", "")
        text = content.decode("utf-8", "replace")
        if outcome is RequestOutcome.STATUS:
            self._turns.pause(retry_after(wait, time.time()))
            return FailingError(f"status {status}", status, text)
        hint = ""
        if 300 <= status < 400:
            location = printable(response.headers.get("Location", "nowhere"), 200)
            hint = f", a redirect to {location}, not followed; is {self._variable} right?"
        elif status == 404:
            hint = f"; is {self._variable} right?"
        return RefusedError(f"status {status}{hint}", status, text)


def quoted(body: str | bytes) -> str:
    """The beginning of a body in quotes; nothing for an empty one."""
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    shown = printable(text.strip(), SHOWN_CHARACTERS)
    return f"'{shown}'" if shown else ""


class _Call(NamedTuple):
    """A request, the same in each of its tries."""

    target: str
    limits: Limits
    accept: frozenset[int]
    may_pass: frozenset[int]
    body: bytes | None
    headers: dict[str, str]


def basic_login(user: str, password: str) -> dict[str, str]:
    """The header of a Basic login."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _path(path: str) -> str:
    return quote(path, safe=PATH_CHARACTERS)
