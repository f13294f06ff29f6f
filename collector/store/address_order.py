"""In which order the addresses of one host name are tried."""

from collections.abc import Iterable
from typing import TypeVar

_Address = TypeVar("_Address")


class AddressOrder:
    """Remembers which address worked last, to try it first, and which ones failed since, to try them last."""

    def __init__(self) -> None:
        self._ranks: dict[object, int] = {}

    def sorted(self, found: Iterable[_Address]) -> list[_Address]:
        """These addresses, each once; in their own order but for what is remembered."""
        return sorted(dict.fromkeys(found), key=lambda address: self._ranks.get(address, 0))

    def worked(self, address: object) -> None:
        """This one is the first from now on."""
        self._ranks = {address: -1}

    def failed(self, address: object) -> None:
        """This one is the last from now on."""
        self._ranks[address] = 1
