"""One query and its whole answer, or why there is none."""

import math

from collector.config.systems import StardustSettings
from collector.core.counters import Counters
from collector.core.errors import AnswerError, CollectorError, ConfigurationError, UnavailableError
from collector.core.shutdown import Stop
from collector.source.http.body import Limits
from collector.source.http.client import TRIES, Answer, FailingError, HttpClient, StatusError
from collector.source.http.route import basic_login
from collector.source.stardust import queries
from collector.source.stardust.failures import Fault, fault_in, refusal

ANSWER = Limits(64 * 2**20)
NAME = "Stardust"


class FaultError(Exception):
    """There is no answer to take anything from."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault

    def as_failure(self) -> CollectorError:
        """For a caller that asks nothing in halves: whether asking again may help is all that is left to say."""
        return (UnavailableError if isinstance(self.__cause__, FailingError) else AnswerError)(self.fault.text)


class Search:
    """Asks one index, from any number of threads."""

    def __init__(self, settings: StardustSettings, *, rate: float, stop: Stop, counters: Counters) -> None:
        self._settings = settings
        self._path = f"/{settings.index}/_search"
        self.client = HttpClient(
            settings.url,
            name=NAME,
            variable="STARDUST_URL",
            concurrency=settings.concurrency,
            rate=rate,
            timeout_s=settings.timeout_s,
            stop=stop,
            counters=counters,
        )

    def ask(self, body: bytes, until: float = math.inf, tries: int = TRIES) -> Answer:
        """The answer to this query, nothing missing. Raises FaultError, UnavailableError and AnswerError."""
        try:
            answer = self.client.request(
                self._path, queries.PARAMETERS, limits=ANSWER, body=body, headers=self._login(), tries=tries, until=until
            )
        except StatusError as error:
            raise FaultError(refusal(str(error), error.status, error.text)) from error
        if fault := fault_in(answer.value):
            raise FaultError(fault)
        return answer

    def _login(self) -> dict[str, str]:
        """The header of the login, where one is configured."""
        if self._settings.user is None or self._settings.password is None:
            return {}
        try:
            return basic_login(self._settings.user, self._settings.password.read())
        except ConfigurationError as error:  # its file is gone, or is being replaced
            raise UnavailableError(str(error)) from error
