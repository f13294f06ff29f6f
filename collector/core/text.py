"""Text from outside, made fit for a person's eyes or a terminal."""

import re

MOST_CHARACTERS = 500
"""Foreign text is cut at so many characters; a server's error may have megabytes."""

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1: a terminal acts on them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi controls: they show a line in another order than it has
    "\u2028\u2029"  # line separators: one record would look like two
    "\ud800-\udfff]"  # lone surrogates: no encoder takes them
)
ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
"""Of a character in a URL."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object, most: int | None = MOST_CHARACTERS) -> str:
    """One line without control characters, at most so many characters long (None: as long as it is).

    Escapes C0, DEL, C1, bidi controls, line separators and lone surrogates as `\\n`, `\\x1b` or `\\u202e`.
    """
    shown = str(text) if most is None else cut(str(text), most)
    return _UNPRINTABLE.sub(_escaped, shown)


def unescaped(text: str) -> str:
    """With each `%XX` as the one character of that number."""
    return ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


def counted(number: int, one: str, more: str | None = None) -> str:
    """`1 window`, `2,000 windows`; `more` where the plural has no mere s."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {more or one + 's'}"


def cut(text: str, most: int = MOST_CHARACTERS) -> str:
    """At most so many characters of it, the last one an ellipsis where more are left out."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
