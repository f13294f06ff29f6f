"""Which names were perhaps meant by one that is not there."""

import difflib
import re
from collections.abc import Iterable

from collector.core.text import unescaped

SUGGESTED = 5
_WILDCARDS = re.compile(r"[*?\[\]]")


def nearest(wanted: str, names: Iterable[str]) -> str:
    """For the end of a message: the names that hold the text, escaped or not, and then those that look like it."""
    names = list(dict.fromkeys(names))
    part = _plain(_WILDCARDS.sub("", wanted))
    holding = [each for each in names if part and part in _plain(each)]
    alike = difflib.get_close_matches(wanted, names, n=SUGGESTED, cutoff=0.5) if len(holding) < SUGGESTED else []
    found = list(dict.fromkeys(holding + alike))[:SUGGESTED]
    return f"; the nearest: {', '.join(found)}" if found else ""


def _plain(name: str) -> str:
    return unescaped(name).lower()
