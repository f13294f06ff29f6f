"""How a command ends by an error: what is logged of it, and the exit code."""

import logging

from collector.core.errors import CollectorError, ConfigurationError

log = logging.getLogger(__name__)

DONE, FAILED, USAGE = 0, 1, 2


def failure(error: Exception) -> int:
    """Log why; the exit code."""
    if isinstance(error, ConfigurationError):
        for problem in error.problems:
            log.error("%s", problem)
        return USAGE
    if isinstance(error, CollectorError):
        log.error("%s", error)
        return FAILED
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package not in ("", "collector"):
        log.error("the package %s is not installed: pip install -r requirements.txt", package)
        return USAGE
    log.error("ended by an unexpected error", exc_info=error)
    return FAILED


def reason(error: BaseException) -> str:
    """For the log's last line, after `failure` has said all of it."""
    if isinstance(error, ConfigurationError):
        return "what the line before says has to be mended first"
    if isinstance(error, CollectorError):
        return str(error)
    return f"unexpected error {type(error).__name__}"
