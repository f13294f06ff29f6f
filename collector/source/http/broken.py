"""What broke an attempt, in one line for an operator; the exceptions of urllib3, http.client, ssl and the system end here."""

import http.client
import ssl

from urllib3.exceptions import ProxyError

from collector.core.counters import RequestOutcome
from collector.core.text import printable


class BrokenError(Exception):
    """What came was no answer; `answered`: but something of one."""

    def __init__(self, message: str, outcome: RequestOutcome, answered: bool) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.answered = answered


def broken(error: Exception, *, at: str, variable: str, answered: bool) -> BrokenError:
    """The same for any exception; `at` is the server's host and port, `variable` the setting that has them."""
    inner = innermost(error)
    # what http.client says of a connection that was closed without an answer is an OSError as well
    if not isinstance(inner, OSError):
        return BrokenError(f"unreadable answer: {cause(inner)}", RequestOutcome.UNREADABLE, answered)
    by_proxy = "proxy: " if isinstance(error, ProxyError) else ""
    hint = "" if answered or by_proxy else f" ({variable})"
    return BrokenError(f"connection to {at} failed: {by_proxy}{cause(inner)}{hint}", RequestOutcome.CONNECTION, answered)


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
