"""A share of the interfaces: several collectors divide the names among them without talking to each other."""

import zlib
from dataclasses import dataclass
from typing import Self

MOST = 1000
"""How many shares there may be."""


@dataclass(frozen=True, slots=True)
class Share:
    """The `number`th of `of` shares, counted from 1; the only one of 1 is the whole."""

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST:
            raise ValueError(f"no share: {self.number}/{self.of}")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def whole(self) -> bool:
        """Whether nobody else has a share."""
        return self.of == 1

    def holds(self, name: str) -> bool:
        """Whether the interface of this name belongs to the share, by the CRC-32 of its UTF-8."""
        return self.whole or zlib.crc32(name.encode()) % self.of == self.number - 1

    def others(self) -> list[Self]:
        """Every share of the same division but this one."""
        return [type(self)(number, self.of) for number in range(1, self.of + 1) if number != self.number]


WHOLE = Share()
"""All interfaces."""
