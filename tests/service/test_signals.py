"""Signals: taken at whatever moment they come. Each case is a program of its own, which a signal may end."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGINNING = """
import signal
from collector.commands import signals
from collector.core.shutdown import Stop

stop = Stop()
signals.install(stop)
"""


def ended(program: str, before: str = "") -> int:
    return subprocess.run([sys.executable, "-c", before + BEGINNING + program], cwd=ROOT, timeout=20, check=False).returncode


def test_signal_is_taken_while_the_main_thread_holds_the_lock_of_the_event_that_it_sets() -> None:
    held = "with stop._event._cond:\n    signal.raise_signal(signal.SIGTERM)\n"
    assert ended(held + "raise SystemExit(0 if stop.wait(10) else 1)") == 0


def test_second_signal_ends_the_program_at_once_with_its_number() -> None:
    later = "signals.time.monotonic = lambda: 1e12\n"
    second = f"signal.raise_signal(signal.SIGTERM)\n{later}signal.raise_signal(signal.SIGINT)\nraise SystemExit(1)"
    assert ended(second) == 128 + 2


def test_second_signal_is_the_last_line_of_the_log() -> None:
    program = (
        "import logging\nlogging.basicConfig(format='%(message)s')\nsignal.raise_signal(signal.SIGTERM)\n"
        "signals.time.monotonic = lambda: 1e12\nsignal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + program], cwd=ROOT, timeout=20, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "collector ended exit_code=130 reason='a second signal, SIGINT'\n")


def test_signals_within_a_second_count_as_one() -> None:
    both = "signal.raise_signal(signal.SIGTERM)\nsignal.raise_signal(signal.SIGHUP)\n"
    assert ended(f"{both}stop.wait(10)\nraise SystemExit(0 if signals.taken() == 'SIGTERM' else 1)") == 0


def test_hangup_that_was_ignored_at_the_start_stays_ignored() -> None:
    program = "signal.raise_signal(signal.SIGHUP)\nraise SystemExit(1 if stop.wait(0.1) else 0)"
    assert ended(program, before="import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n") == 0
    assert ended(program) == 1


def test_a_stop_ends_the_program_although_nobody_reads_the_log_and_the_main_thread_hangs() -> None:
    program = (
        "signals.LAST_RESORT_S = signals.LAST_WORDS_S = 0.05\n"
        "import logging, os, time\n"
        "logging.basicConfig()\n"
        "reader, writer = os.pipe()\n"
        "os.dup2(writer, 2)\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "while True:\n"
        "    logging.warning('x' * 1000)\n"
    )
    assert ended(program) == 0
