"""GET requests to one server: tried again where that can help, paced, and paused when the server asks for it."""

import contextlib
import http.client
import json
import logging
import math
import ssl
import threading
import time
import zlib
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import HTTPError, ProxyError
from urllib3.util import Retry

from collector import __version__
from collector.core.backoff import RETRY_DELAYS_S, jittered
from collector.core.counters import Counters
from collector.core.errors import AnswerError, CollectorError, ConfigurationError, UnavailableError
from collector.core.shutdown import Stop
from collector.source.http.body import TooLargeError, json_value, retry_after
from collector.source.http.request import Exchange, PlainWire, Response, TlsWire, Watchdog

log = logging.getLogger(__name__)

TRIES = 1 + len(RETRY_DELAYS_S)
OK = frozenset({200})
PATH_CHARACTERS = "%/:@!$&'()*+,;=-._~"
"""What a URL's path may hold besides letters and digits (RFC 3986); % because escapes stay as they came."""
MOST_PAUSE_S = 900.0
"""A cycle without an end waits for no longer pause than the usual distance of two cycles (POLL_INTERVAL)."""
MAY_PASS = frozenset({408, 429})
"""Besides 5xx, the statuses that are worth another try (SPEC section 1)."""

_NO_RETRIES = Retry(False, redirect=False)


class NotAskedError(UnavailableError):
    """The try was not made: the server wants none before the end of the cycle, or the collector stops."""


class Answer(NamedTuple):
    """A status that was accepted; `value` is the body's JSON, None for an empty one; `date` the header as it came."""

    status: int
    value: Any
    date: str | None


class HttpClient:
    """Asks one server, from any number of threads, with as many connections as may be asked at once.

    Raises ConfigurationError where the URL, the proxy or the CA bundle of the environment cannot be used.
    """

    def __init__(self, base_url: str, *, concurrency: int, rate: float, timeout_s: float, stop: Stop, counters: Counters) -> None:
        self._timeout_s = timeout_s
        self._stop = stop
        self._counters = counters
        self._pace = _Pace(rate, stop)
        self._paused_until = 0.0
        self.last_date: tuple[str, float] | None = None
        """The Date of the newest answer that had one, whatever its status, and the monotonic time at which it came."""
        self._watchdog = Watchdog(stop)
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=concurrency, pool_block=True)
        self._connect_to(base_url)

    def _connect_to(self, base_url: str) -> None:
        try:
            request = requests.Request("GET", base_url).prepare()
            parts = urlsplit(str(request.url))
            bare_url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
            bare = requests.Request("GET", bare_url).prepare()
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise ConfigurationError("NETBEAM_URL is no http or https URL with a host") from error  # its text has the password
        # asked for the environment's proxies and CA bundle only: a session that sends reads ~/.netrc
        settings = requests.Session().merge_environment_settings(bare_url, {}, None, None, None)
        proxy = _usable_proxy(select_proxy(bare_url, settings["proxies"]))
        try:
            pool = self._adapter.get_connection_with_tls_context(bare, settings["verify"], settings["proxies"])
            self._adapter.cert_verify(pool, bare_url, settings["verify"], None)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise ConfigurationError(f"REQUESTS_CA_BUNDLE cannot be used: {settings['verify']}") from error
        self._pool = cast(HTTPConnectionPool, pool)
        self._pool.ConnectionCls = TlsWire if parts.scheme == "https" else PlainWire  # type: ignore[assignment]
        forwarded = bool(proxy) and parts.scheme == "http"
        self._pool_url = bare_url if forwarded else "/"
        self._prefix = (bare_url[:-1] if forwarded else "") + _path(urlsplit(base_url).path.rstrip("/"))
        self._headers = {
            "Host": urlsplit(bare_url).netloc,
            "User-Agent": f"esnet-collector/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }
        if "Authorization" in request.headers:
            self._headers["Authorization"] = str(request.headers["Authorization"])

    def get(
        self,
        path: str,
        query: str = "",
        *,
        limit_bytes: int,
        accept: frozenset[int] = OK,
        tries: int = TRIES,
        until: float = math.inf,
    ) -> Answer:
        """The answer to `base + path + query`; the escapes in `path` go out as they are.

        A pause that the server asks for is waited for when it ends before the monotonic time `until`. Raises
        UnavailableError when no try succeeded (NotAskedError: the last one was not made, nor would any other be before
        `until`), AnswerError when another try would be no use.
        """
        target = self._prefix + _path(path) + query
        for delay_s in RETRY_DELAYS_S[: tries - 1]:
            self._await_turn(until)
            try:
                return self._try(target, limit_bytes, accept)
            except UnavailableError as error:
                log.debug("request failed target=%s error=%r", target, str(error))
            self._stop.wait(jittered(delay_s))
        self._await_turn(until)
        return self._try(target, limit_bytes, accept)

    def resume(self) -> None:
        """Forget a pause that the server asked for: a new cycle begins."""
        self._paused_until = 0.0

    def close(self) -> None:
        """Close all idle connections."""
        self._pool.close()
        self._adapter.close()

    def _await_turn(self, until: float) -> None:
        """Wait for the end of a pause, and for the rate. Raises NotAskedError."""
        while True:
            pause_s = self._paused_until - time.monotonic()
            if pause_s > 0:
                if self._paused_until > until or (until == math.inf and pause_s > MOST_PAUSE_S):
                    raise NotAskedError("not asked: Netbeam wants no request before the end of the cycle")
                self._stop.wait(pause_s)
            else:
                self._pace.take()
            if self._stop.is_set():
                raise NotAskedError("not asked: the collector stops")
            if pause_s <= 0 and self._paused_until <= time.monotonic():  # a pause may begin while one waits for the rate
                return

    def _try(self, target: str, limit_bytes: int, accept: frozenset[int]) -> Answer:
        """One try, counted with its outcome."""
        began = time.monotonic()
        outcome = "connection"
        try:
            response = self._exchange(target, limit_bytes, began)
            outcome = "unreadable"
            if date := response.fields.get("date"):
                self.last_date = date, time.monotonic()
            if response.status in accept:
                value = None if response.status == 404 else json_value(response.body, response.fields, limit_bytes)
                outcome = "no_content" if value is None else "ok"
                return Answer(response.status, value, response.fields.get("date"))
            outcome = "status" if _may_pass(response.status) else "refused"
            raise self._status_error(response)
        except TimeoutError as error:
            outcome = "timeout"
            raise UnavailableError(f"no whole answer within {self._timeout_s:g} s") from error
        except TooLargeError as error:
            outcome = "unreadable"
            raise AnswerError(f"body of over {limit_bytes} bytes") from error
        except http.client.HTTPException as error:
            outcome = "unreadable"
            raise UnavailableError(f"unreadable answer: {_cause(error)}") from error
        except (HTTPError, OSError) as error:
            raise UnavailableError(f"connection failed: {_cause(error)}") from error
        except (ValueError, RecursionError, zlib.error) as error:
            raise UnavailableError(f"unreadable body: {_cause(error)}") from error
        finally:
            self._counters.add_request(outcome, time.monotonic() - began)

    def _exchange(self, target: str, limit_bytes: int, began: float) -> Response:
        """Send and receive, once more on a new connection when an idle one turns out to have been closed."""
        exchange = Exchange(target, limit_bytes, began + self._timeout_s)
        try:
            return self._send(exchange)
        except (http.client.HTTPException, OSError):
            if exchange.cut or exchange.answered or not exchange.reused or self._stop.is_set():
                raise
        self._pace.take()
        return self._send(Exchange(target, limit_bytes, exchange.deadline, fresh=True))

    def _send(self, exchange: Exchange) -> Response:
        """Raises TimeoutError, TooLargeError, http.client.HTTPException, HTTPError and OSError, each the innermost."""
        self._watchdog.watch(exchange)
        try:
            response = self._pool.urlopen(
                "GET", self._pool_url, headers=self._headers, retries=_NO_RETRIES, redirect=False, assert_same_host=False
            )
        except (HTTPError, OSError) as error:
            if exchange.cut:
                raise TimeoutError from error
            if isinstance(error, ProxyError):
                raise OSError(f"proxy: {_cause(error)}") from None
            raise _innermost(error) from None
        finally:
            self._watchdog.release(exchange)
        if exchange.cut:
            raise TimeoutError
        return cast(Response, response)  # what PlainWire and TlsWire give to the pool

    def _status_error(self, response: Response) -> CollectorError:
        self._pause(retry_after(response.fields.get("retry-after", ""), time.time()))
        if _may_pass(response.status):
            return UnavailableError(f"status {response.status}")
        redirect = " (a redirect, not followed)" if 300 <= response.status < 400 else ""
        return AnswerError(f"status {response.status}{redirect}")

    def _pause(self, seconds: float) -> None:
        """Ask nothing for that long; two pauses at once are as long as the longer one."""
        paused_until = time.monotonic() + seconds
        if seconds > 0 and paused_until > self._paused_until + 1:
            log.warning("Netbeam asked for a pause seconds=%.0f", seconds)
        self._paused_until = max(self._paused_until, paused_until)


class _Pace:
    """Starts requests at an even distance, never closer than the rate allows; a rate of 0 is no limit."""

    def __init__(self, rate: float, stop: Stop) -> None:
        self._distance_s = 1 / rate if rate > 0 else 0.0
        self._stop = stop
        self._last = -math.inf
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for the next start; returns at once after a stop."""
        if not self._distance_s:
            return
        with self._lock:  # held while waiting: who is late must not come close to the next one
            while (wait_s := self._last + self._distance_s - time.monotonic()) > 0 and not self._stop.wait(wait_s):
                pass
            self._last = time.monotonic()


def _usable_proxy(proxy: str | None) -> str | None:
    """Raises ConfigurationError; the proxy's URL may hold a password and is not shown."""
    if not proxy:
        return None
    with contextlib.suppress(ValueError):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return proxy
    raise ConfigurationError("the proxy that the environment names is no http or https URL with a host")


def _path(path: str) -> str:
    return quote(path, safe=PATH_CHARACTERS)


def _may_pass(status: int) -> bool:
    return status >= 500 or status in MAY_PASS


def _innermost(error: BaseException) -> Exception:
    """What urllib3's exception wraps: the system's, the TLS library's or http.client's own."""
    while True:
        inner = error.__cause__ or next((each for each in error.args if isinstance(each, BaseException)), None)
        if inner is None:
            return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
        error = inner


def _cause(error: BaseException) -> str:
    """The innermost reason, in one line."""
    inner = _innermost(error)
    if isinstance(inner, json.JSONDecodeError):
        return f"not JSON at character {inner.pos}"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"certificate not verified: {inner.verify_message}"
    if isinstance(inner, http.client.IncompleteRead):
        return f"cut off after {len(inner.partial)} bytes"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return " ".join(str(inner).split()) or type(inner).__name__
