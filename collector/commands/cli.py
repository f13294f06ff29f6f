"""The command line: the configuration that each command needs, and exit codes.

The commands' modules, and with them the drivers, are imported when the command is known: --help and the demonstration work
without what they do not use, and a package that is missing can be named.
"""

import argparse
import errno
import gc
import io
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from collector.commands import arguments, ending
from collector.commands.ending import DONE, FAILED, USAGE
from collector.core.errors import ConfigurationError
from collector.watch import logs

if TYPE_CHECKING:
    from collector.config.configuration import Config

log = logging.getLogger(__name__)

NEW_OBJECTS = 10_000
"""Python looks for cycles of garbage after so many new objects. With its default, 700, that took a quarter of the CPU of a cycle
whose answers are parsed into millions of them; none of these is in a cycle."""
OF_A_STREAM = frozenset({errno.EPIPE, errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Why a stream cannot be written. The adapters have other names for the errors of files and connections of their own."""
INTERRUPTED = 130
"""128 + SIGINT: Ctrl-C on a command that has nothing to finish."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    gc.set_threshold(NEW_OBJECTS)
    logs.setup(form=logs.wanted_form(os.environ))
    _prepare_stdout()
    command, unwritten = "", None
    try:
        given = arguments.parse(argv)
        command = given.command
        code = COMMANDS[command](given)
    except SystemExit as end:  # argparse: --help, --version, a usage error
        code = end.code if isinstance(end.code, int) else USAGE
    except KeyboardInterrupt:
        code = DONE if command in ("run", "demo") else INTERRUPTED
    except Exception as error:  # the main thread's top
        unwritten = error if _is_of_a_stream(error) else None
        code = FAILED if unwritten else ending.failure(error)
    return _flush_stdout(code, unwritten)


def _is_of_a_stream(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in OF_A_STREAM and error.filename is None


def _prepare_stdout() -> None:
    """UTF-8 whatever the locale. A stdout that was closed from the start behaves like one that is closed later."""
    if sys.stdout is None:
        reader, writer = os.pipe()
        os.close(reader)
        sys.stdout = os.fdopen(writer, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _flush_stdout(code: int, unwritten: Exception | None) -> int:
    """Write out what is left; the exit code, FAILED when that or an earlier write went wrong, which is said once."""
    try:
        sys.stdout.flush()
    except OSError as error:
        unwritten = unwritten or error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter would complain at its end
    if unwritten is None:
        return code
    if isinstance(unwritten, BrokenPipeError):
        log.error("stdout was closed before all was written")
    else:
        log.error("stdout cannot be written: %s", getattr(unwritten, "strerror", None) or unwritten)
    return FAILED


def _load(given: argparse.Namespace, *replaced: str) -> "Config":
    """The configuration without what the command or its options replace; logging is set up as it says."""
    from collector.config import env_file
    from collector.config.configuration import Config

    settings = env_file.gather(os.environ, given.env_file)
    logs.setup(form=logs.wanted_form(settings.values))
    without = {*replaced, *(["rmq"] if given.to_stdout else []), *(["mysql"] if given.sqlite is not None else [])}
    loaded = Config.of(settings, without=without)
    if given.sqlite is not None and not loaded.share.whole:
        raise ConfigurationError("SHARD must be 1/1 with --sqlite: a file has one collector")
    logs.setup(loaded.log_level, loaded.log_format)
    return loaded


def _load_and_warn(given: argparse.Namespace, *replaced: str) -> "Config":
    loaded = _load(given, *replaced)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    return loaded


def _run(given: argparse.Namespace) -> int:
    from collector.commands import run

    return run.run(
        _load(given), once=given.once, sqlite=given.sqlite, to_stdout=given.to_stdout, env_file=given.env_file
    )


def _check(given: argparse.Namespace) -> int:
    from collector.commands import check

    try:
        loaded = _load(given)
    except ConfigurationError as error:
        check.say_problems(error.problems)
        return USAGE
    return check.check(loaded, sqlite=given.sqlite)


def _status(given: argparse.Namespace) -> int:
    from collector.commands import status

    return status.status(
        _load_and_warn(given, "rmq"), sqlite=given.sqlite, as_json=given.as_json, max_lag_s=given.max_lag_s, name=given.name
    )


def _backfill(given: argparse.Namespace) -> int:
    from collector.commands import backfill

    request = {each.name: getattr(given, each.name) for each in fields(backfill.Request)}
    return backfill.backfill(_load_and_warn(given), backfill.Request(**request))


def _demo(given: argparse.Namespace) -> int:
    from collector.commands import demo

    return demo.demo(interfaces=given.interfaces, cycles=given.cycles, as_json=given.as_json, source=given.source)


COMMANDS = {"run": _run, "check": _check, "status": _status, "backfill": _backfill, "demo": _demo}
