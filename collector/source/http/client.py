"""Requests to one server: tried again where that can help, paced, and paused when the server asks for it.

Each request goes: pause and rate, a connection of the pool, head (urllib3), body in steps, JSON; a watchdog thread ends it
at its deadline, wherever it is.
"""

import http.client
import logging
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from collector.core.backoff import jittered
from collector.core.counters import Counters, RequestOutcome
from collector.core.errors import AnswerError, CollectorError, UnavailableError
from collector.core.shutdown import Stop
from collector.core.text import printable
from collector.source.http.body import SHOWN_CHARACTERS, Limits, TooLargeError, json_value, read_body
from collector.source.http.broken import BrokenError, broken, cause, timed_out
from collector.source.http.connection import Attempt, Watchdog
from collector.source.http.headers import retry_after, server_time_ms
from collector.source.http.memory import ByteBudget, Reservation
from collector.source.http.route import quoted_path, route_to
from collector.source.http.turns import Turns

log = logging.getLogger(__name__)

RETRY_DELAYS_S = (0.5, 1.5)
"""Before the second and the third try of one request."""
TRIES = 1 + len(RETRY_DELAYS_S)
OK = frozenset({200})
MAY_PASS = frozenset({408, 429, *range(500, 1000)})
"""Statuses that are worth another try."""
SHOWN_BYTES = 400
"""Of a body; 80 characters are shown."""
REFUSAL_BYTES = 65_536
"""The body of an answer whose status was not accepted is read up to here: for its text, and to keep the connection."""
_NO_RETRIES = Retry(False, redirect=False)
_FORESEEN = (HTTPError, http.client.HTTPException, OSError)
"""What urllib3, http.client and the system say that they raise."""


class StatusError(CollectorError):
    """The answer had a status that was not accepted; `text` is what came of its body, up to 64 kB, as it came."""

    def __init__(self, message: str, status: int, text: str) -> None:
        super().__init__(message)
        self.status = status
        self.text = text


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
        self._timeout_s = timeout_s
        self._stop = stop
        self._counters = counters
        self._turns = Turns(name, rate, stop)
        self.last_seen: tuple[int, float] | None = None
        """The server's clock by the newest answer that told it, whatever its status, and the monotonic time of that answer."""
        self._watchdog = Watchdog(stop)
        self._budget = ByteBudget()
        self._route = route_to(base_url, variable, concurrency)

    def request(
        self,
        path: str,
        query: str = "",
        *,
        limits: Limits,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = OK,
        tries: int = TRIES,
        until: float = math.inf,
    ) -> Answer:
        """The answer to a GET of `base + path + query`, or to a POST of this JSON `body`; escapes go out as they are.

        Accepted are the statuses in `accept`; of the others those in MAY_PASS are tried again. A pause that the server
        asks for is waited for when it ends before the monotonic time `until`. Raises UnavailableError when no try succeeded
        (FailingError: by its status; NotAskedError: the last one was not made, nor would any other be before `until`),
        AnswerError when another try would be no use (RefusedError: by its status).
        """
        sent = self._route.headers | dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        call = _Call(self._route.prefix + quoted_path(path) + query, limits, accept, body, sent)
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
        self._route.pool.close()

    def _try(self, call: "_Call") -> Answer:
        """One try, counted with its outcome."""
        began = time.monotonic()
        reservation = Reservation(self._budget, began + self._timeout_s)
        outcome = RequestOutcome.UNREADABLE
        try:
            response, content, server_ms = self._send_or_resend(call, Attempt(call.target, began + self._timeout_s), reservation)
            if response.status in call.accept:
                value = None if response.status == 404 else json_value(content, call.limits, reservation)
                outcome = RequestOutcome.NO_CONTENT if value is None else RequestOutcome.OK
                return Answer(response.status, value, server_ms, reservation, bytes(content[:SHOWN_BYTES]))
            outcome = RequestOutcome.STATUS if response.status in MAY_PASS else RequestOutcome.REFUSED
            raise self._status_error(response, content, outcome)
        except TimeoutError as error:
            outcome = RequestOutcome.TIMEOUT
            raise UnavailableError(f"no whole answer within {self._timeout_s:g} s") from error
        except TooLargeError as error:
            raise AnswerError(str(error)) from error
        except (ValueError, RecursionError) as error:
            raise UnavailableError(f"unreadable body: {cause(error)}") from error
        except BrokenError as error:
            outcome = error.outcome
            raise
        finally:
            self._counters.add_request(outcome, time.monotonic() - began)

    def _send_or_resend(self, call: "_Call", attempt: Attempt, reservation: Reservation) -> "_Received":
        """Send and receive, once more on a new connection when an idle one turns out to have been closed."""
        try:
            return self._send(call, attempt, reservation)
        except BrokenError:
            if attempt.cut or attempt.new_connection or attempt.answered or self._stop.is_set():
                raise
        self._turns.take()
        return self._send(call, Attempt(call.target, attempt.deadline, fresh=True), reservation)

    def _send(self, call: "_Call", attempt: Attempt, reservation: Reservation) -> "_Received":
        """Raises TimeoutError, TooLargeError, BrokenError, and ValueError for a body that does not decompress."""
        response: BaseHTTPResponse | None = None
        self._watchdog.watch(attempt)
        try:
            response = self._route.pool.urlopen(
                "GET" if call.body is None else "POST", self._route.pool_url, body=call.body, headers=call.headers,
                retries=_NO_RETRIES, redirect=False, assert_same_host=False, preload_content=False,
            )  # fmt: skip
            attempt.answered = True
            server_ms = server_time_ms(response.headers)
            if server_ms is not None:
                self.last_seen = server_ms, time.monotonic()
            content = _content(call, response, reservation)
        except (TooLargeError, ValueError):
            raise
        except Exception as error:  # of whatever type: a server can make the driver raise more than it says
            if not isinstance(error, _FORESEEN):
                log.debug("request met an unforeseen error target=%s", call.target, exc_info=True)  # or the bug is ours
            if attempt.cut or timed_out(error):
                raise TimeoutError from error
            raise broken(error, self._route, attempt.answered) from error
        finally:
            if response is not None and not response.closed:
                response.close()
                response.release_conn()
            self._watchdog.release(attempt)
        if attempt.cut:
            raise TimeoutError
        return response, content, server_ms

    def _status_error(self, response: BaseHTTPResponse, content: bytearray, outcome: RequestOutcome) -> StatusError:
        status, wait = response.status, response.headers.get("Retry-After", "")
        text = content.decode("utf-8", "replace")
        if outcome is RequestOutcome.STATUS:
            self._turns.pause(retry_after(wait, time.time()))
            return FailingError(f"status {status}", status, text)
        hint = ""
        if 300 <= status < 400:
            location = printable(response.headers.get("Location", "nowhere"), 200)
            hint = f", a redirect to {location}, not followed; is {self._route.variable} right?"
        elif status == 404:
            hint = f"; is {self._route.variable} right?"
        return RefusedError(f"status {status}{hint}", status, text)


def in_full(error: CollectorError) -> str:
    """The message with the beginning of the answer, where there was one; it may differ from one request to the next."""
    shown = quoted(error.text) if isinstance(error, StatusError) else ""
    return f"{error}: {shown}" if shown else str(error)


def quoted(body: str | bytes) -> str:
    """The beginning of a body in quotes; nothing for an empty one."""
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    shown = printable(text.strip(), SHOWN_CHARACTERS)
    return f"'{shown}'" if shown else ""


_Received = tuple[BaseHTTPResponse, bytearray, int | None]
"""An answer's head, its body, and the server's clock by it."""


class _Call(NamedTuple):
    """A request, the same in each of its tries."""

    target: str
    limits: Limits
    accept: frozenset[int]
    body: bytes | None
    headers: dict[str, str]


def _content(call: _Call, response: BaseHTTPResponse, reservation: Reservation) -> bytearray:
    """The whole body; nothing of one whose status was not accepted where it cannot be read, since the status says all."""
    if response.status < 200:  # what comes next on this connection would be taken for another request's answer
        raise http.client.HTTPException(f"status {response.status} is no end of an answer")
    accepted = response.status in call.accept
    most_bytes = call.limits.bytes if accepted else REFUSAL_BYTES

    def read(size: int) -> bytes:
        return b"" if response.closed else response.read(size, decode_content=False)

    try:
        if (response.length_remaining or 0) > most_bytes:
            raise TooLargeError(f"body of over {most_bytes} bytes")
        return read_body(read, response.headers.get("Content-Encoding", ""), most_bytes, reservation)
    except (TooLargeError, ValueError, HTTPError, OSError):
        if accepted:
            raise
        return bytearray()
