"""What broke an attempt, in one line for an operator; the exceptions of urllib3, http.client, ssl and the system end here."""

import http.client
import ssl

from urllib3.exceptions import ProxyError

from collector.core.counters import RequestOutcome
from collector.core.errors import UnavailableError
from collector.core.text import printable
from collector.source.http.route import Route


class BrokenError(UnavailableError):
    """What came was no answer."""

    def __init__(self, message: str, outcome: RequestOutcome) -> None:
        super().__init__(message)
        self.outcome = outcome


def broken(error: Exception, route: Route, answered: bool) -> BrokenError:
    """The same for any exception; until the server has answered anything, the settings that lead there are named."""
    inner = innermost(error)
    hint = "" if answered else f" ({', '.join(filter(None, (route.variable, route.proxy_variable)))})"
    # what http.client says of a connection that was closed without an answer is an OSError as well
    if not isinstance(inner, OSError):
        return BrokenError(f"unreadable answer: {cause(inner)}{hint}", RequestOutcome.UNREADABLE)
    if isinstance(error, ProxyError):
        said = f"connection through the proxy of {route.proxy_variable} failed: {cause(inner)}"
        return BrokenError(said, RequestOutcome.CONNECTION)
    return BrokenError(f"connection to {route.at} failed: {cause(inner)}{hint}", RequestOutcome.CONNECTION)


def timed_out(error: Exception) -> bool:
    """Whether it was a wait that took too long."""
    return isinstance(innermost(error), TimeoutError)


def innermost(error: BaseException) -> Exception:
    """What urllib3's exception wraps: the system's, the TLS library's or http.client's own."""
    while True:
        inner = error.__cause__ or next((each for each in error.args if isinstance(each, BaseException)), None)
        if inner is None:
            return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
        error = inner


def cause(error: BaseException) -> str:
    """The innermost reason, in one line."""
    inner = innermost(error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"certificate not verified: {inner.verify_message}"
    if isinstance(inner, http.client.IncompleteRead):
        return "cut off"
    if isinstance(inner, OSError) and inner.strerror:
        return printable(inner.strerror)
    return printable(inner) or type(inner).__name__
