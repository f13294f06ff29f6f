"""What one event has to say, by name: `key=value` in a line of text, fields of their own in a line of JSON."""


class Fields(dict[str, object]):
    """The only argument of a log call whose template ends in `%s`: `log.info("cycle ended %s", Fields(points=5))`."""

    def __str__(self) -> str:
        return " ".join(f"{name}={_value(value)}" for name, value in self.items())


def _value(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(each.isspace() or each in "'\"=" for each in text) else text
