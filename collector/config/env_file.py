"""Settings as text, from the environment and from a file such as `.env`, and where each one came from."""

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from collector.config import files
from collector.core.errors import ConfigurationError

ENVIRONMENT = "environment"
DEFAULT_FILE = Path(__file__).resolve().parents[2] / ".env"
"""Beside esnet_collector.py; read only if it exists."""

_LINK_NAME = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)\Z|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?\Z")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")
_SECTION = re.compile(r"\[[^\]\r\n]*\]\s*([#;].*)?")
_BLANKS = re.compile(r"[^\S\n]{1000}")
"""The parser's time grows with the square of so many in a row."""
_SINGLE_QUOTED = re.compile(r"[^=]*=\s*'((?:\\.|[^'\\])*)'", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Settings:
    """Texts by canonical name, no empty ones; `origins` says for each where it was set, in words for an operator."""

    values: Mapping[str, str]
    origins: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    """The file that was read, if any."""
    problems: Sequence[str] = ()
    """A line of the file that cannot be read is one each; the other lines count."""
    warnings: Sequence[str] = ()


def canonical(name: str) -> str:
    """`rmq-user`, `rmq_user` and `RMQ_USER` are one setting."""
    return name.strip().upper().replace("-", "_")


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes set this for a Service, named mysql say, and not the operator for us."""
    return bool(_LINK_NAME.search(name) or (name.endswith("_PORT") and _LINK_VALUE.match(value)))


def gather(environ: Mapping[str, str], file: str | None = None) -> Settings:
    """The environment's settings, then those of `file`, or of DEFAULT_FILE if that is there; no links of Kubernetes'.

    Raises ConfigurationError for a file that cannot be read at all.
    """
    path = Path(file) if file is not None else DEFAULT_FILE if os.path.lexists(DEFAULT_FILE) else None
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    warnings: list[str] = []
    spelled: dict[str, str] = {}
    for line, name, value in read_file(path, problems) if path else ():
        key, spelling = canonical(name), f"{name} (line {line})"
        if key in spelled:
            warnings.append(f"{path}: {spelled[key]} and {spelling} are the same setting: line {line} counts")
        spelled[key], values[key], origins[key] = spelling, value, f"{path} line {line}"
    # the exact name comes last: it wins over the same in another spelling
    for name, value in sorted(environ.items(), key=lambda item: (item[0] == canonical(item[0]), item[0])):
        if value and not _is_service_link(canonical(name), value):
            values[canonical(name)], origins[canonical(name)] = value, ENVIRONMENT
    return Settings(values, origins, path, problems, warnings)


def read_file(path: Path, problems: list[str]) -> Iterator[tuple[int, str, str]]:
    """The file's settings in its order, less those without a value: line, name as it stands there, value. Nothing is expanded.

    What is wrong with the other lines goes to `problems`. Raises ConfigurationError for a file that cannot be read at all.
    """
    try:
        text = files.read_file(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path} line {line} is not UTF-8 text") from error
    if blanks := _BLANKS.search(text):
        line = text.count("\n", 0, blanks.start()) + 1
        raise ConfigurationError(f"{path} line {line} cannot be read: a thousand spaces in a row")
    for line, binding in _bindings(text):
        if binding.error or binding.value is None or "\n" in binding.value:
            problems.append(f"{path} line {line} cannot be read: {_fault(binding)}")
        elif binding.key and binding.value:
            yield line, binding.key, _value(binding)


def _bindings(text: str) -> Iterator[tuple[int, Binding]]:
    """What is neither blank nor a comment nor a `[section]`, with its line (the parser counts from the blank ones before it)."""
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original.string
        stripped = original.strip()
        if stripped and not stripped.startswith("#") and not _SECTION.fullmatch(stripped):
            yield binding.original.line + original[: len(original) - len(original.lstrip())].count("\n"), binding


def _fault(binding: Binding) -> str:
    line = binding.original.string
    if "=" in line and ("'" in line or '"' in line):
        return "a quote is not closed at the end of its line, or something other than a comment follows it"
    return "it should be NAME=value"


def _value(binding: Binding) -> str:
    r"""The value; between single quotes exactly what stands there, but for `\'` (the parser halves backslashes as well)."""
    quoted = _SINGLE_QUOTED.match(binding.original.string)
    return quoted[1].replace(r"\'", "'") if quoted else binding.value or ""
