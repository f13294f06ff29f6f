"""`backfill` over fakes: which windows it asks for, what it makes of every outcome, and that nothing is lost between a run that
was stopped and the one that goes on. No wait takes any time."""

import io
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.commands import arguments, progress_bar, systems
from collector.commands.backfill import Backfill, Request
from collector.commands.resume import PROGRAM
from collector.config.configuration import Config
from collector.core.contracts import Batch, Outcome
from collector.core.counters import Counters
from collector.core.errors import AnswerError, ConfigurationError, NoTableError, UnavailableError
from collector.core.model import RecordType, Row, UntrustedRow, Window
from collector.core.shutdown import Stop
from collector.cycle import flow_control
from tests.fakes import HOUR_MS, MINUTE_MS, NOW_MS, FakePublisher, FakeSource, FakeStore, no_points, resource, three_points

TRAFFIC, ERRORS, DISCARDS = RecordType
SETTLED_MS = NOW_MS - 900_000
BEGIN_MS = NOW_MS - 24 * HOUR_MS
SLICE_MS = HOUR_MS
Answer = Sequence[object] | str


class QuickStop(Stop):
    """Notes how long somebody wanted to wait, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return self.is_set()


class Systems:
    """The three fakes and one backfill after the other over them."""

    def __init__(self, *rows: Row, **settings: str) -> None:
        self.config = Config.from_mapping(settings, without={"rmq", "mysql"})
        self.source = FakeSource([resource(0)])
        self.store = FakeStore(*rows)
        self.publisher = FakePublisher()
        self.stop = QuickStop()

    def run(self, begin_ms: int = BEGIN_MS, end_ms: int = BEGIN_MS + 2 * SLICE_MS, **options: object) -> int:
        return self.serve(Request(begin_ms=begin_ms, end_ms=end_ms, **options))  # type: ignore[arg-type]

    def serve(self, request: Request) -> int:
        self.source.asked.clear()
        made = systems.Systems(self.source, self.store, self.publisher, self.stop, Counters())
        return Backfill(self.config, request, made, wall=lambda: NOW_MS / 1000).serve()

    def go_on(self, command: str) -> int:
        """What the printed command does, over the same systems."""
        self.stop = QuickStop()
        published, self.publisher = self.publisher, FakePublisher()
        self.publisher.batches = published.batches
        return self.serve(as_request(command))

    @property
    def ids(self) -> set[str]:
        """Everything that the broker has confirmed."""
        return {message.message_id for batch in self.publisher.batches for message in batch.messages}


def as_request(command: str) -> Request:
    words = shlex.split(command)
    assert words[:3] == [sys.executable, str(PROGRAM), "backfill"]
    found = arguments.parse(words[2:])
    names = ("begin_ms", "end_ms", "interface", "record_type", "rate", "sqlite", "to_stdout", "env_file")
    return Request(**{name: getattr(found, name) for name in names})


def command_in(text: str) -> str:
    """The command that was printed, on a line of its own."""
    commands = [line for line in text.splitlines() if " backfill " in line]
    assert len(commands) == 1
    return commands[0]


def active(row_id: int, name: str | None = None) -> Row:
    return Row(row_id, name or resource(row_id), NOW_MS - HOUR_MS)


def asked(systems: Systems) -> list[tuple[str, RecordType, int, int]]:
    return [(each.series.name, each.series.record_type, each.begin_ms, each.end_ms) for each in systems.source.asked]


def test_every_name_of_the_table_is_asked_once_slice_by_slice() -> None:
    retired = Row(1, resource(1), BEGIN_MS - HOUR_MS, BEGIN_MS, {TRAFFIC: BEGIN_MS})
    systems = Systems(retired, active(2), active(3, resource(1)), RECORD_TYPES="traffic,errors")
    assert systems.run(end_ms=BEGIN_MS + SLICE_MS + MINUTE_MS) == 0
    slices = [(BEGIN_MS, BEGIN_MS + SLICE_MS), (BEGIN_MS + SLICE_MS, BEGIN_MS + SLICE_MS + MINUTE_MS)]
    names = (resource(1), resource(2))
    assert asked(systems) == [(name, kind, *each) for each in slices for name in names for kind in (TRAFFIC, ERRORS)]


def test_table_is_read_and_neither_created_nor_locked_nor_written() -> None:
    systems = Systems(active(1))
    assert systems.run() == 0
    assert systems.store.journal == ["open", "read"]
    assert systems.source.journal.count("list") == 0


def test_name_of_a_row_that_cannot_be_trusted_is_published_if_it_is_a_name() -> None:
    systems = Systems(active(2))
    systems.store.untrusted = (UntrustedRow(1, resource(1), "status is '7'"), UntrustedRow(3, "a b", "white space"))
    systems.run()
    assert [name for name, *_ in asked(systems)][::3][:2] == [resource(1), resource(2)]


@pytest.mark.parametrize("missing", [True, False], ids=["no table", "empty table"])
def test_listing_counts_where_there_is_no_table(missing: bool, caplog: pytest.LogCaptureFixture) -> None:
    systems = Systems()
    systems.source = FakeSource([resource(1)])
    if missing:
        systems.store.errors["open"] = NoTableError("no table esnet_interfaces")
    assert systems.run() == 0
    assert {name for name, *_ in asked(systems)} == {resource(1)}
    assert "going by the listing" in caplog.text


def test_points_are_published_and_no_interface_messages(capsys: pytest.CaptureFixture[str]) -> None:
    systems = Systems(active(1))
    assert systems.run() == 0
    assert {batch.routing_key for batch in systems.publisher.batches} == {"esnet_traffic"}
    assert systems.publisher.published("esnet_traffic") == 2 * 3 * 3
    assert "Published 18 points of 1 interface in" in capsys.readouterr().out


def test_interface_is_chosen_by_a_glob_that_knows_case() -> None:
    names = ("devices/a-cr5/interfaces/Ae1", "devices/a-cr5/interfaces/ae1", "devices/b-cr5/interfaces/ae1")
    systems = Systems(*(active(number, name) for number, name in enumerate(names, 1)))
    systems.run(interface="devices/a-*/interfaces/a*")
    assert {name for name, *_ in asked(systems)} == {names[1]}


def test_glob_that_matches_nothing_is_an_error_and_publishes_nothing() -> None:
    systems = Systems(active(1))
    with pytest.raises(ConfigurationError, match=r"--interface devices/x\* matches none of 1 interfaces"):
        systems.run(interface="devices/x*")
    assert systems.source.asked == []


def test_glob_that_matches_nothing_suggests_what_was_perhaps_meant() -> None:
    with pytest.raises(ConfigurationError, match=rf"; the nearest: {resource(1)}"):
        Systems(active(1)).run(interface="1/1*")


def test_the_range_is_said_as_it_was_understood(capsys: pytest.CaptureFixture[str]) -> None:
    Systems(active(1)).run()
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "From 2025-11-23T16:00:00Z up to, not including, 2025-11-23T18:00:00Z, in UTC: 2 h."


def test_only_the_share_s_interfaces_are_published() -> None:
    names = {}
    for share in ("1/2", "2/2"):
        systems = Systems(*(active(number) for number in range(1, 9)), SHARD=share)
        assert systems.run() == 0
        names[share] = {name for name, *_ in asked(systems)}
    assert names["1/2"].isdisjoint(names["2/2"])
    assert names["1/2"] | names["2/2"] == {resource(number) for number in range(1, 9)}


def test_one_record_type_may_be_one_that_is_not_collected() -> None:
    systems = Systems(active(1), RECORD_TYPES="traffic")
    systems.run(record_type=ERRORS)
    assert {kind for _, kind, *_ in asked(systems)} == {ERRORS}


def test_range_is_cut_to_what_is_settled(caplog: pytest.LogCaptureFixture) -> None:
    systems = Systems(active(1))
    assert systems.run(begin_ms=SETTLED_MS - HOUR_MS, end_ms=NOW_MS) == 0
    assert {(begin, end) for *_, begin, end in asked(systems)} == {(SETTLED_MS - HOUR_MS, SETTLED_MS)}
    assert "the range is cut at 2025-11-24T15:45:00Z" in caplog.text


@pytest.mark.parametrize(("beyond_ms", "said"), [(60_000, 0), (60_001, 1)])
def test_a_cut_of_a_minute_is_not_worth_a_word(caplog: pytest.LogCaptureFixture, beyond_ms: int, said: int) -> None:
    assert Systems(active(1)).run(begin_ms=SETTLED_MS - HOUR_MS, end_ms=SETTLED_MS + beyond_ms) == 0
    assert caplog.text.count("the range is cut at") == said


def test_range_is_cut_by_netbeams_clock_when_that_is_behind() -> None:
    systems = Systems(active(1))
    systems.source.ahead_ms = 10 * MINUTE_MS
    systems.run(begin_ms=SETTLED_MS - HOUR_MS, end_ms=NOW_MS)
    assert {end for *_, end in asked(systems)} == {SETTLED_MS - 10 * MINUTE_MS}


@pytest.mark.parametrize(
    ("begin_ms", "end_ms"),
    [(SETTLED_MS, NOW_MS), (NOW_MS + 1, NOW_MS + HOUR_MS)],
    ids=["not settled", "future"],
)
def test_range_that_holds_nothing_is_refused_before_anything_is_contacted(
    begin_ms: int, end_ms: int, capsys: pytest.CaptureFixture[str]
) -> None:
    systems = Systems(active(1))
    with pytest.raises(ConfigurationError, match="--begin must be earlier"):
        systems.run(begin_ms, end_ms)
    assert systems.store.journal == []
    assert "esnet_collector.py" not in capsys.readouterr().out


def failing(systems: Systems, name: str, *, longer_than_ms: int = 0, times: float = float("inf")) -> Counter[int]:
    """Let Netbeam fail for this interface; counts the failures by the window's length."""
    failures: Counter[int] = Counter()

    def points(window: Window) -> Answer:
        length_ms = window.end_ms - window.begin_ms
        if window.series.name == name and length_ms > longer_than_ms and sum(failures.values()) < times:
            failures[length_ms] += 1
            return "status 500"
        return three_points(window)

    systems.source.points = points
    return failures


def test_series_that_fails_is_named_and_does_not_hold_up_later_slices(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    systems = Systems(active(1), active(2), RECORD_TYPES="traffic")
    failing(systems, resource(1))
    assert systems.run(end_ms=BEGIN_MS + 3 * SLICE_MS) == 1
    done = {begin for name, _, begin, _ in asked(systems) if name == resource(2)}
    assert done == {BEGIN_MS, BEGIN_MS + SLICE_MS, BEGIN_MS + 2 * SLICE_MS}
    assert f"count=3 reason='status 500' example='{resource(1)} traffic'" in caplog.text
    assert as_request(command_in(capsys.readouterr().out)).begin_ms == BEGIN_MS


def test_command_goes_on_from_the_first_slice_with_anything_unpublished(capsys: pytest.CaptureFixture[str]) -> None:
    systems = Systems(active(1), active(2), RECORD_TYPES="traffic")
    fail_from_ms = BEGIN_MS + SLICE_MS

    def points(window: Window) -> Answer:
        bad = window.series.name == resource(1) and window.begin_ms >= fail_from_ms
        return "status 500" if bad else three_points(window)

    systems.source.points = points
    assert systems.run(end_ms=BEGIN_MS + 3 * SLICE_MS) == 1
    printed = capsys.readouterr().out
    assert as_request(command_in(printed)).begin_ms == fail_from_ms
    assert "; 6 points will come again, with the same message_id:" in printed


def test_series_without_points_are_counted_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    systems = Systems(active(1), active(2), RECORD_TYPES="traffic,errors")
    systems.source.points = lambda window: three_points(window) if window.series.name == resource(1) else ()
    assert systems.run() == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("; 2 of 4 series had none.")


def test_series_without_points_are_not_counted_where_some_of_the_range_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    systems = Systems(active(1), active(2), RECORD_TYPES="traffic")
    failing(systems, resource(1))
    assert systems.run() == 1
    printed = capsys.readouterr().out
    assert "Published 6 points of 2 interfaces in " in printed
    assert "had none" not in printed


def test_series_that_fails_asks_for_half_as_much_down_to_a_quarter_of_an_hour_and_is_then_given_up() -> None:
    systems = Systems(active(1), active(2), RECORD_TYPES="traffic")
    failures = failing(systems, resource(1))
    systems.run(end_ms=BEGIN_MS + SLICE_MS)
    assert [minutes * MINUTE_MS for minutes in (60, 30, 15)] == list(failures)
    assert set(failures.values()) == {1}


def test_series_that_was_given_up_gets_one_try_in_the_next_slice() -> None:
    systems = Systems(active(1), active(2), RECORD_TYPES="traffic", MAX_WINDOW="900")
    failures = failing(systems, resource(1))
    systems.run(end_ms=BEGIN_MS + 3 * 900_000)
    assert failures == {900_000: 3 + 1 + 1}


def test_windows_that_are_too_long_for_netbeam_are_published_in_pieces() -> None:
    systems = Systems(active(1), active(2), RECORD_TYPES="traffic")
    failing(systems, resource(1), longer_than_ms=HOUR_MS)
    assert systems.run(end_ms=BEGIN_MS + SLICE_MS + 7 * MINUTE_MS) == 0
    at = sorted((begin, end) for name, _, begin, end in asked(systems) if name == resource(1) and end - begin <= HOUR_MS)
    assert all(one[1] == other[0] for one, other in pairwise(at))
    assert (at[0][0], at[-1][1]) == (BEGIN_MS, BEGIN_MS + SLICE_MS + 7 * MINUTE_MS)


def test_netbeam_that_is_away_is_waited_for_however_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    systems = Systems(active(1))
    systems.source.error = UnavailableError("connection refused")
    tries = 0

    def points(window: Window) -> Answer:
        nonlocal tries
        tries += 1
        if tries > 300:
            systems.source.error = None
            return three_points(window)
        return "connection refused"

    systems.source.points = points
    assert systems.run() == 0
    assert max(systems.stop.waits) == 30
    assert "esnet_collector.py" not in capsys.readouterr().out


def test_failures_while_netbeam_is_away_do_not_count() -> None:
    systems = Systems(active(1), active(2), RECORD_TYPES="traffic", MAX_WINDOW="900")
    systems.source.error = UnavailableError("connection refused")
    tries = 0

    def points(window: Window) -> Answer:
        nonlocal tries
        tries += 1
        if tries <= 11:  # the last one is in a round in which the other series gets through
            return "connection refused"
        return three_points(window)

    systems.source.points = points
    assert systems.run(end_ms=BEGIN_MS + 900_000) == 0
    assert len(systems.source.asked) == 13


def test_series_at_fault_are_given_up_when_netbeam_answers_all_others() -> None:
    systems = Systems(active(1), RECORD_TYPES="traffic")
    systems.source = FakeSource([resource(1)], points=lambda _: "status 403")
    assert systems.run() == 1
    assert systems.source.journal.count("list") > 0


def test_what_the_broker_refused_is_published_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_control, "REFUSED_DELAYS_S", (0.0, 0.0))
    refused: list[Batch] = []

    def answer(batch: Batch) -> Outcome:
        if len(refused) < 5:
            refused.append(batch)
            return Outcome.REFUSED
        return Outcome.CONFIRMED

    systems, smooth = Systems(active(1)), Systems(active(1))
    systems.publisher.answer = answer
    assert (systems.run(), smooth.run()) == (0, 0)
    assert len(systems.publisher.batches) == len(smooth.publisher.batches) + 5
    assert systems.ids == smooth.ids


def test_key_that_no_queue_takes_ends_it_and_is_named(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    systems = Systems(active(1), active(2))
    systems.publisher.answer = lambda _: Outcome.RETURNED
    assert systems.run(end_ms=BEGIN_MS + 3 * SLICE_MS) == 1
    assert {begin for *_, begin, _ in asked(systems)} == {BEGIN_MS}
    assert "no queue takes messages exchange='osg.psdata.raw' routing_key='esnet_traffic'" in caplog.text
    assert as_request(command_in(capsys.readouterr().out)).begin_ms == BEGIN_MS


@given(batches=st.integers(0, 13), slices=st.integers(1, 4))
def test_stopped_run_and_the_one_that_goes_on_miss_nothing(batches: int, slices: int) -> None:
    rows = (active(1), active(2))
    end_ms = BEGIN_MS + slices * SLICE_MS - 11 * MINUTE_MS
    whole, systems = Systems(*rows, RECORD_TYPES="traffic,errors"), Systems(*rows, RECORD_TYPES="traffic,errors")
    assert whole.run(end_ms=end_ms) == 0

    def answer(_batch: Batch) -> Outcome:
        if len(systems.publisher.batches) > batches:
            systems.stop.set()
        return Outcome.CONFIRMED

    systems.publisher.answer = answer
    printed, sys.stdout = sys.stdout, io.StringIO()
    try:
        code = systems.run(end_ms=end_ms)
        text = sys.stdout.getvalue()
        assert code == ("esnet_collector.py" in text)
        if code:
            assert systems.go_on(command_in(text)) == 0
    finally:
        sys.stdout = printed
    assert systems.ids == whole.ids


def test_stop_while_waiting_at_the_start_prints_the_same_command(capsys: pytest.CaptureFixture[str]) -> None:
    systems = Systems(active(1))
    systems.stop.set()
    request = Request(begin_ms=BEGIN_MS + 1, end_ms=BEGIN_MS + HOUR_MS, interface="devices/*", rate=0.5)
    assert systems.serve(request) == 1
    assert as_request(command_in(capsys.readouterr().out)) == request


def test_failure_of_a_thread_is_a_failure_of_the_command() -> None:
    systems = Systems(active(1))
    systems.stop.failure = RuntimeError("broken")
    assert systems.run() == 1


def test_database_and_broker_that_are_away_are_waited_for() -> None:
    class LatePublisher(FakePublisher):
        looked = 0

        @property
        def ready(self) -> bool:
            self.looked += 1
            return self.looked > 3

        @ready.setter
        def ready(self, value: bool) -> None:
            pass

    systems = Systems(active(1))
    systems.publisher = LatePublisher()
    systems.store.errors["open"] = UnavailableError("connection refused")

    class HealingStop(QuickStop):
        def wait(self, seconds: float) -> bool:
            if len(self.waits) == 5:
                systems.store.errors.clear()
            return super().wait(seconds)

    systems.stop = HealingStop()
    assert systems.run() == 0
    assert systems.stop.waits[:6] == [1, 2, 4, 8, 15, 15]


@pytest.mark.parametrize("where", ["broker", "database"])
def test_refusal_at_the_start_is_the_operators_and_prints_no_command(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    systems = Systems(active(1))
    if where == "broker":
        systems.publisher.refusal = ConfigurationError("login refused")
        systems.publisher.ready = False
    else:
        systems.store.errors["open"] = ConfigurationError("login refused")
    with pytest.raises(ConfigurationError, match="login refused"):
        systems.run()
    assert " backfill " not in capsys.readouterr().out


def test_useless_listing_ends_it_and_prints_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    systems = Systems()
    systems.source.error = AnswerError("listing is empty")
    with pytest.raises(AnswerError):
        systems.run()
    assert as_request(command_in(capsys.readouterr().out)).begin_ms == BEGIN_MS


def test_range_without_any_points_is_said(caplog: pytest.LogCaptureFixture) -> None:
    systems = Systems(active(1))
    systems.source.points = no_points
    assert systems.run() == 0
    assert "Netbeam has no points at all in this range" in caplog.text


def test_with_stdout_nothing_but_messages_goes_there(capsys: pytest.CaptureFixture[str]) -> None:
    systems = Systems(active(1))
    systems.stop.set()
    systems.run(to_stdout=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert command_in(printed.err).endswith("--stdout")


@given(
    begin_ms=st.integers(10**12, 10**13 - 2),
    glob=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    record_type=st.none() | st.sampled_from(RecordType),
    rate=st.none() | st.sampled_from([0.0, 0.001, 2.0, 33.3, 100_000.0]),
    file=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    to_stdout=st.booleans(),
)
def test_printed_command_means_the_same_to_the_command_line(
    begin_ms: int, glob: str | None, record_type: RecordType | None, rate: float | None, file: str | None, to_stdout: bool
) -> None:
    request = Request(
        begin_ms=begin_ms, end_ms=10**13 - 1, interface=glob, record_type=record_type, rate=rate,
        sqlite=file, env_file=file, to_stdout=to_stdout,
    )  # fmt: skip
    assert as_request(request.command(begin_ms)) == request


def test_progress_is_a_line_every_ten_seconds_without_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    at = 0.0
    lines = progress_bar.Lines(4000, monotonic=lambda: at)
    for at in range(0, 21):  # noqa: B007  # the clock
        lines.add(100, 50)
        lines.tick()
    assert caplog.messages == [
        "backfill goes on percent=27.5 points=550 points_per_second=55 seconds_left=26",
        "backfill goes on percent=52.5 points=1050 points_per_second=50 seconds_left=18",
    ]


def test_progress_without_any_yet_says_nothing_of_the_time_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    at = 0.0
    lines = progress_bar.Lines(4000, monotonic=lambda: at)
    at = 10.0
    lines.tick()
    assert caplog.messages == ["backfill goes on percent=0.0 points=0 points_per_second=0"]


def test_words_for_the_operator_are_lines_of_a_log_in_json(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    systems = Systems(active(1), RECORD_TYPES="traffic", LOG_FORMAT="json")
    assert systems.run(to_stdout=True) == 0
    assert capsys.readouterr() == ("", "")
    assert any(message.startswith("Published 6 points of 1 interface in ") for message in caplog.messages)
    assert "backfill begun interfaces=1 series=1 begin=2025-11-23T16:00:00Z end=2025-11-23T18:00:00Z" in caplog.messages


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar.shown(4000) as shown:
        shown.add(1000, 12_345)
        shown.tick()
    assert " 25% |" in terminal.getvalue()
    assert "12,345 points" in terminal.getvalue()
