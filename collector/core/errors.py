"""What can go wrong, sorted by what the caller can do about it.

An adapter translates its driver's exceptions into one of these with `from`; no module above it names a driver's exception.
"""

from collections.abc import Iterable


class CollectorError(Exception):
    """Anything foreseeable; its text is one line for an operator and never holds a secret."""


class UnavailableError(CollectorError):
    """A dependency did not answer as it should: the same call may succeed later."""


class LockLostError(UnavailableError):
    """The store's lock is gone, and with it the right to write: take it again and read the table anew."""


class AnswerError(CollectorError):
    """This answer is unusable; asking the same again at once is no use, and others are not affected."""


class ConfigurationError(CollectorError):
    """Something that only the operator can mend; `problems` has one line for each."""

    def __init__(self, problems: Iterable[str] | str) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(self.problems))


class NoTableError(ConfigurationError):
    """The database, or the file, has no table of that name."""


class NoExchangeError(ConfigurationError):
    """The broker has no exchange of that name, and none was to be declared."""
