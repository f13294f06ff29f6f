"""Bodies are admitted by the memory that they take: a server that sends much to many threads at once must not fill it."""

import threading
import time

SHARED_BYTES = 12 * 2**20
"""What all bodies together may take. Beyond it one body at a time goes on, up to its own limits."""
FREE_BYTES = 2**18
"""What each body may take without asking, so that the usual windows of some kB never wait for each other."""


class ByteBudget:
    """Shared by the threads that read bodies.

    A body reserves more as it grows. What does not fit waits, but for one body, the overdrawn one, which always goes on:
    so no two bodies wait for each other for ever.
    """

    def __init__(self, most_bytes: int = SHARED_BYTES) -> None:
        self._most = most_bytes
        self._used = 0
        self._overdrawn: int | None = None
        """The id of the reservation, which a reference would keep alive."""
        self._changed = threading.Condition()

    def grow(self, reservation: "Reservation", size: int, deadline: float) -> None:
        """Raises TimeoutError when there is no room before the monotonic `deadline`."""
        with self._changed:
            more = size - reservation.size

            def may_grow() -> bool:
                return self._used + more <= self._most or self._overdrawn in (None, id(reservation))

            if not self._changed.wait_for(may_grow, deadline - time.monotonic()):
                raise TimeoutError("no room for the answer beside others")
            if self._used + more > self._most:
                self._overdrawn = id(reservation)
            self._used += more
            reservation.size = size

    def give_back(self, reservation: "Reservation") -> None:
        """What it had is free again."""
        with self._changed:
            self._used -= reservation.size
            reservation.size = 0
            if self._overdrawn == id(reservation):
                self._overdrawn = None
            self._changed.notify_all()


class Reservation:
    """What one answer takes of the budget, for as long as somebody has the reservation."""

    __slots__ = ("_budget", "_deadline", "size")

    def __init__(self, budget: ByteBudget, deadline: float) -> None:
        self._budget = budget
        self._deadline = deadline
        self.size = 0

    def hold(self, size: int) -> None:
        """Hold at least so many bytes from now on. Raises TimeoutError."""
        if size > FREE_BYTES and size > self.size:
            self._budget.grow(self, size, self._deadline)

    def __del__(self) -> None:
        if self.size:
            self._budget.give_back(self)
