"""What one event has to say, by name: `key=value` in a line of text, fields of their own in a line of JSON."""

from collections.abc import Mapping


class Fields(dict[str, object]):
    """The only argument of a log call whose template ends in `%s`: `log.info("cycle ended %s", Fields(points=5))`."""

    def __str__(self) -> str:
        return pairs(self)


def pairs(fields: Mapping[str, object]) -> str:
    """`key=value key='text with spaces'`."""
    return " ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(each.isspace() or each in "'\"=" for each in text) else text
