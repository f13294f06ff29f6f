"""What may stand on the command line. A usage error ends with exit code 2, as argparse does it."""

import argparse
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from collector import __version__
from collector.config.kinds import RATE, Kind, number, one_of, whole
from collector.core.model import RecordType, is_time, iso_ms
from collector.watch import logs

log = logging.getLogger(__name__)

COUNT = whole(1, 100_000)
SECONDS = Kind("a number of seconds from 0", number(0, math.inf).parse)
RECORD_TYPE = one_of({each: each for each in RecordType})

UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_AGO = re.compile(r"-([0-9]{1,9})([smhdw])")
_LIKE_AGO = re.compile(r"-[0-9.]")

SOURCES = ("netbeam", "stardust")
DEMO_INTERFACES = 12
"""As many as make a screenful."""


class Parser(argparse.ArgumentParser):
    """argparse's own would ignore that help or a version could not be written, and knows no log."""

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        """As argparse's, but one line of JSON where the log is JSON."""
        if logs.wanted_form(os.environ) == "json":
            log.error("%s: %s", self.prog, message)
            self.exit(2)
        super().error(message)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, among them the `command`; "run" when none was named. Raises SystemExit."""
    parser = Parser(
        prog="esnet_collector.py",
        description="Polls ESnet's interfaces at Netbeam or Stardust, and feeds a RabbitMQ bus. Without a command: run.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"esnet-collector {__version__}")
    _add_run(parser)
    parser.set_defaults(command="run", once=False, env_file=None, sqlite=None, to_stdout=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text, add_own in COMMANDS:
        subparser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        subparser.set_defaults(command=name)
        add_own(subparser)
    arguments = parser.parse_args(_joined(sys.argv[1:] if argv is None else argv))
    if arguments.once and arguments.command != "run":
        parser.error("--once belongs to run")
    if arguments.command == "demo" and (arguments.sqlite is not None or arguments.to_stdout):
        commands.choices["demo"].error("demo takes no --sqlite or --stdout")
    if arguments.command == "backfill" and arguments.begin_ms >= arguments.end_ms:
        commands.choices["backfill"].error("--begin must be earlier than --end")
    return arguments


def _joined(argv: Sequence[str]) -> list[str]:
    """`--begin -2h` as `--begin=-2h`: argparse would take the time for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] in ("--begin", "--end") and _LIKE_AGO.match(word):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Options that count before and after the command: without a default, so that absence leaves the earlier value."""
    absent = argparse.SUPPRESS
    parser.add_argument("--env-file", metavar="FILE", type=_name, default=absent, help="settings; else .env beside the program")
    parser.add_argument("--sqlite", metavar="FILE", type=_name, default=absent, help="keep the table in this file, not in MySQL")
    parser.add_argument("--stdout", dest="to_stdout", action="store_true", default=absent, help="print messages, do not publish")


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--once", action="store_true", default=argparse.SUPPRESS, help="end after one cycle")


def _add_status(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")
    parser.add_argument("--max-lag", dest="max_lag_s", metavar="S", type=_of(SECONDS), help="seconds behind that are too many")
    parser.add_argument("name", nargs="?", metavar="NAME", help="explain this interface")


def _add_backfill(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--begin", dest="begin_ms", metavar="T", type=_time_ms, required=True, help=f"the first time: {TIME}")
    parser.add_argument("--end", dest="end_ms", metavar="T", type=_time_ms, required=True, help="the time after the last one")
    parser.add_argument("--interface", metavar="GLOB", help="only names that match, as in a shell")
    parser.add_argument("--record-type", metavar="TYPE", type=_of(RECORD_TYPE), help=f"only this one: {', '.join(RecordType)}")
    parser.add_argument("--rate", metavar="N", type=_of(RATE), help="requests a second at the most; NETBEAM_RATE counts too")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env-file", metavar="FILE", default=argparse.SUPPRESS, help="has no effect: demo takes no settings")
    shown = "how many (default: %(default)s)"
    parser.add_argument("--interfaces", metavar="N", type=_of(COUNT), default=DEMO_INTERFACES, help=shown)
    parser.add_argument("--cycles", metavar="N", type=_of(COUNT), help="end after so many cycles (default: at Ctrl-C)")
    parser.add_argument("--source", choices=SOURCES, default=SOURCES[0], help="which one is simulated (default: %(default)s)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="whole messages, as run --stdout prints them")


COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("run", "collect, for ever or one cycle", _add_run),
    ("check", "look at the configuration, the source, MySQL and RabbitMQ, and change nothing", _add_common),
    ("status", "how far each record type has been collected, by the table", _add_status),
    ("backfill", "publish a past range of time; the table stays as it is", _add_backfill),
    ("demo", "a simulated source, messages on the screen; no server and no configuration", _add_demo),
)
TIME = "ISO 8601, UTC unless it says otherwise, 13 digits of milliseconds, now, or so long ago: -90m, -2h, -3d"


def _name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a file")
    return text


def _of(kind: Kind) -> Callable[[str], Any]:
    """Takes what an option of this kind takes in the configuration."""

    def parse(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {kind.expected}") from None

    return parse


def _time_ms(text: str) -> int:
    ago = _AGO.fullmatch(text)
    if text == "now" or ago:
        time_ms = int(time.time() * 1000) - (int(ago[1]) * UNITS_MS[ago[2]] if ago else 0)
    elif text.isascii() and text.isdigit():  # not for ISO's basic format: 20261125 is more likely a mistake
        time_ms = int(text) if len(text) == 13 else 0
    elif _LIKE_AGO.match(text):
        raise argparse.ArgumentTypeError("must be a whole number and one unit, s, m, h, d or w, for so long ago: -90m, -2h")
    else:
        time_ms = iso_ms(text) or 0
    if not is_time(time_ms):
        raise argparse.ArgumentTypeError("must be a time such as 2026-11-25T01:00:00Z, 2026-11-25, 1795568400000, -2h or now")
    return time_ms
