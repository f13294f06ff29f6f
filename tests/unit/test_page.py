"""The page for people: what it says in each state, that nothing in it can be abused, and that it can be read."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from collector.core.counters import Count, Counters
from collector.core.model import RecordType
from collector.core.report import AnsweredUpTo, CycleOutcome, CycleReport, Reason, ReasonKind, WindowOutcome
from collector.core.text import MOST_CHARACTERS, counted
from collector.watch.charts import FEWEST_SLOTS, charts
from collector.watch.format import clock, duration, utc
from collector.watch.page import CONTENT_SECURITY_POLICY, RUNNING_REFRESH_S, SHOWN_CYCLES, STYLE, render
from collector.watch.state import Dependency, Identity, Role, Snapshot, System

START_MS = 1_764_000_000_000
NOW_MS = START_MS + 7_200_000
HOSTILE = """</title><script>alert("1")</script><img src=x onerror='alert(2)'>&amp;"""
SETTLED_MS = NOW_MS - 900_000


def cycle(**changes: Any) -> CycleReport:
    """A cycle that went well, but for these changes."""
    made = CycleReport(
        start_ms=START_MS,
        seconds=42.4,
        outcome=CycleOutcome.COMPLETE,
        settle_ms=900_000,
        active=10_679,
        draining=12,
        points=571_765,
        idle=4_669,
        database_s=3.2,
        answered_up_to={
            RecordType.TRAFFIC: AnsweredUpTo(SETTLED_MS - 1_830_000, SETTLED_MS - 60_000, 6010),
            RecordType.DISCARDS: AnsweredUpTo(SETTLED_MS - 93_600_000, SETTLED_MS, 6011),
        },
        newest_ms={RecordType.TRAFFIC: SETTLED_MS - 30_000, RecordType.DISCARDS: SETTLED_MS},
        failing=(("devices/albq-cr5/interfaces/1%2F1%2F1", 3), ("devices/amst-cr5/interfaces/lo0", 2)),
    )
    made.windows |= {WindowOutcome.DONE: 18_000, WindowOutcome.EMPTY: 400, WindowOutcome.FAILED: 3, WindowOutcome.REFUSED: 2}
    return replace(made, **changes)


def reasons(*texts: str, kind: ReasonKind = ReasonKind.FAILURE) -> list[Reason]:
    return [Reason(each, kind) for each in texts]


CYCLE = cycle()
UP = Dependency(system=System.DATABASE, name="MySQL", down=False, up_once=True, since_ms=START_MS, last_error="")
WORKING = Snapshot(
    identity=Identity(host="collector-1", source="Netbeam", database="esnet on esnet_db:3306", exchange="osg.psdata.raw"),
    role=Role.WORKING,
    role_since_ms=START_MS,
    started_ms=START_MS,
    poll_interval_s=900,
    settle_delay_s=900,
    now_ms=NOW_MS,
    now_s=1.0,
    beat_s=0.0,
    awaited_since_s=0.0,
    last_completed_ms=NOW_MS - 240_000,
    reports=(CYCLE,),
    latest=CYCLE,
    figures=CYCLE,
    newest_ms=CYCLE.newest_ms,
    dependencies=(UP,),
)
NOTHING: dict[str, Any] = {"last_completed_ms": None, "reports": (), "latest": None, "figures": None, "newest_ms": {}}
NEW = replace(WORKING, role=Role.STARTING, **NOTHING)
STANDBY = replace(NEW, role=Role.STANDBY)


def after(latest: CycleReport, *earlier: CycleReport, **changes: Any) -> Snapshot:
    """Working, when this cycle has just ended."""
    return replace(WORKING, latest=latest, reports=(*earlier, latest), **changes)


def down(system: System, name: str, error: str = "connection refused") -> Dependency:
    return Dependency(system=system, name=name, down=True, up_once=True, since_ms=START_MS, last_error=error)


class Reader(HTMLParser):
    """Reads a document: its text, its tags, and that each is closed in order."""

    VOID = frozenset({"meta", "link", "br", "rect", "circle", "path", "line"})

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(document)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(snapshot: Snapshot, counters: Counters | None = None) -> Reader:
    return Reader(render(snapshot, counters or Counters()))


def test_working_collector_says_so_with_its_last_and_its_next_cycle() -> None:
    text = read(WORKING).text
    assert "Collecting The last completed cycle ended 4 min ago; the next one is due at 18:15 UTC." in text
    assert "2025-11-24 18:00:00 UTC" in text


def test_time_of_the_next_cycle_has_seconds_where_the_interval_has() -> None:
    assert "the next one is due at 18:00:05 UTC." in read(replace(WORKING, poll_interval_s=5)).text


def test_which_collector_this_is_stands_on_the_page() -> None:
    page = read(replace(WORKING, identity=replace(WORKING.identity, share="2/3")))
    assert "ESnet Collector collector-1 2025-11-24 18:00:00 UTC" in page.text
    assert "Source Netbeam Database esnet on esnet_db:3306 Exchange osg.psdata.raw Share 2/3" in page.text
    assert "Share" not in read(WORKING).text


def test_figures_of_the_last_cycle_are_shown() -> None:
    text = read(WORKING).text
    for expected in (
        "Data up to 17:44 UTC 16 min old",
        "Furthest behind 1 d 2 h median 1 min; 4,669 idle series left out",
        "Last cycle 571,765 points in 42 s, database 3.2 s",
        "Interfaces 10,679 active, 12 draining",
        "traffic 17:44 16 min 1 min 30 min 6,010",
        "discards 17:45 15 min 0 s 1 d 2 h 6,011",
        "devices/albq-cr5/interfaces/1%2F1%2F1 3",
        "2025-11-24 16:00:00 complete 42 s 571,765 5",
    ):
        assert expected in text


def test_lag_and_age_grow_while_nothing_is_collected() -> None:
    later = read(replace(WORKING, now_ms=NOW_MS + 3_600_000)).text
    assert "Data up to 17:44 UTC 1 h 16 min old" in later
    assert "traffic 17:44 1 h 16 min 1 h 1 min 1 h 30 min 6,010" in later


@pytest.mark.parametrize(("poll_interval_s", "refresh_s"), [(900, 30), (12, 12), (5, 5), (1, 5)])
def test_page_renews_itself_as_often_as_there_are_cycles(poll_interval_s: int, refresh_s: int) -> None:
    page = read(replace(WORKING, poll_interval_s=poll_interval_s))
    assert ("content", str(refresh_s)) in page.attributes
    assert f"this page renews itself every {refresh_s} s" in page.text


def test_numbers_stand_before_the_word_in_its_number() -> None:
    assert [counted(each, "row") for each in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]
    assert [counted(each, "entry", "entries") for each in (1, 2)] == ["1 entry", "2 entries"]


def test_cycle_that_runs_shows_how_far_it_is_the_first_one_too() -> None:
    running = CycleReport(start_ms=NOW_MS - 12_000, planned=18_000, done=3_400, points=45_678)
    page = read(replace(WORKING, running=running))
    assert "A cycle has been running for 12 s. The last completed cycle ended 4 min ago." in page.text
    assert "This cycle 45,678 points 3,400 of 18,000 windows done" in page.text
    assert ("content", str(RUNNING_REFRESH_S)) in page.attributes
    first = read(replace(NEW, role=Role.WORKING, running=running))
    assert "A cycle has been running for 12 s. No cycle has been completed yet." in first.text
    assert "Data up to \N{EN DASH} no point on the bus yet" in first.text
    assert "This cycle 45,678 points 3,400 of 18,000 windows done" in first.text
    assert ("max", "18000") in first.attributes
    assert ("value", "3400") in first.attributes


@pytest.mark.parametrize(("snapshot", "headline"), [(NEW, "Starting"), (STANDBY, "Standing by")])
def test_page_without_a_single_cycle_has_a_state_and_no_empty_sections(snapshot: Snapshot, headline: str) -> None:
    page = read(snapshot)
    assert headline in page.text
    assert "MySQL up since 2025-11-24 16:00:00" in page.text
    assert "Last cycles" not in page.text
    assert "Record types" not in page.text
    assert page.tags.count("section") == 2


def test_start_names_what_it_waits_for() -> None:
    waiting = replace(NEW, dependencies=(replace(UP, up_once=False), down(System.BROKER, "RabbitMQ")))
    assert "Waiting for MySQL and RabbitMQ for 2 h; no cycle has begun." in read(waiting).text
    assert "Waiting for the lock for 2 h; no cycle has begun." in read(NEW).text


def test_working_collector_without_a_completed_cycle_says_so() -> None:
    assert "No cycle has been completed yet; the next one is due at" in read(replace(NEW, role=Role.WORKING)).text


def test_time_of_the_next_cycle_is_not_told_while_it_waits_for_the_database() -> None:
    text = read(replace(WORKING, dependencies=(down(System.DATABASE, "MySQL"),))).text
    assert "The last completed cycle ended 4 min ago; the next one waits for MySQL." in text
    assert "due at" not in text


def test_standby_says_who_works_and_does_not_vouch_for_the_source() -> None:
    netbeam = down(System.SOURCE, "Netbeam")
    text = read(replace(STANDBY, dependencies=(netbeam, UP))).text
    assert "Another collector holds the lock and works; this one takes over when that one ends. Standby for 2 h." in text
    assert "Netbeam not asked while standing by" in text
    assert "Another collector (10.0.0.7) holds the lock" in read(replace(STANDBY, holder="10.0.0.7")).text


def test_share_that_nobody_works_on_is_said() -> None:
    assert "2 shares have no collector" in read(replace(WORKING, shares_free=2)).text
    assert "no collector" not in read(replace(WORKING, shares_free=0)).text


@pytest.mark.parametrize(
    ("system", "name"), [(System.SOURCE, "Netbeam"), (System.DATABASE, "MySQL"), (System.BROKER, "RabbitMQ")]
)
def test_outage_is_said_once_with_what_it_means_and_no_interface_is_blamed(system: System, name: str) -> None:
    failed = cycle(outcome=CycleOutcome.FAILED, reasons=reasons(f"{name}: connection refused", kind=ReasonKind.DEPENDENCY))
    page = read(after(failed, CYCLE, dependencies=(down(system, name),)))
    assert "Needs attention" in page.text
    assert f"{name} is down since 2025-11-24 16:00:00 UTC: connection refused" in page.text
    assert page.text.count("connection refused") == 1
    assert "Nothing is lost: the checkpoints stay, and what is missing meanwhile is caught up with once" in page.text
    assert f"Not told while {name} is away" in page.text
    assert "devices/albq-cr5" not in page.text
    assert ("class", "state failing") in page.attributes


def test_no_interface_is_blamed_for_an_outage_that_has_just_ended() -> None:
    failed = cycle(outcome=CycleOutcome.FAILED, reasons=reasons("Netbeam is away", kind=ReasonKind.DEPENDENCY))
    text = read(after(failed)).text
    assert "Not told while a dependency is away" in text
    assert "devices/albq-cr5" not in text


def test_failing_collector_says_every_reason_once() -> None:
    failed = cycle(outcome=CycleOutcome.FAILED, reasons=reasons("no points since 17:44", "no points since 17:44"))
    page = read(after(failed, CYCLE, now_s=2700.0))
    assert "no cycle completed for 45 min; one is due every 15 min" in page.text
    assert page.text.count("no points since 17:44") == 1
    assert "Nothing is lost" not in page.text


def test_standby_that_could_not_take_over_needs_attention() -> None:
    text = read(replace(STANDBY, dependencies=(down(System.DATABASE, "MySQL"),))).text
    assert "Standby needs attention" in text
    assert "This standby cannot take over while MySQL is away." in text


def test_what_a_cycle_left_for_the_next_is_said_without_alarm() -> None:
    left = cycle(outcome=CycleOutcome.CUT, reasons=reasons("300 windows outstanding", kind=ReasonKind.LEFT), checkpoints_moved=9)
    page = read(after(left))
    assert "The last cycle left something for the next one: 300 windows outstanding" in page.text
    assert ("class", "state ok") in page.attributes


def test_dependency_tells_its_last_error_when_it_is_back_and_when_nobody_has_tried_it() -> None:
    back = replace(UP, last_error="connection reset")
    assert "MySQL up since 2025-11-24 16:00:00 before: connection reset" in read(replace(WORKING, dependencies=(back,))).text
    untried = replace(UP, up_once=False)
    assert "MySQL not tried yet" in read(replace(NEW, dependencies=(untried,))).text


def test_totals_since_the_start_come_from_the_counters() -> None:
    counters = Counters()
    counters.add(Count.POINTS_CONFIRMED, 1_234_000, "traffic")
    counters.add(Count.POINTS_CONFIRMED, 567, "errors")
    counters.add(Count.POINTS_INVALID, 12, "errors")
    counters.add(Count.CYCLES_SKIPPED, 3)
    expected = "Since the start at 2025-11-24 16:00:00: 1,234,567 points confirmed, 12 dropped as invalid, 3 cycles skipped."
    assert expected in read(WORKING, counters).text


def test_hostile_names_and_errors_stay_text() -> None:
    failed = cycle(outcome=CycleOutcome.FAILED, reasons=reasons(HOSTILE), failing=((HOSTILE, 1),))
    hostile = down(System.BROKER, HOSTILE, HOSTILE)
    identity = Identity(host=HOSTILE, source=HOSTILE, database=HOSTILE, exchange=HOSTILE, share=HOSTILE)
    page = read(after(failed, identity=identity, dependencies=(hostile,)))
    shown = read(after(failed, identity=identity, dependencies=(replace(hostile, down=False),), holder=HOSTILE))
    for each in (page, shown):
        assert not {"script", "img"} & set(each.tags)
        assert not [name for name, _ in each.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) == 12
    assert shown.text.count(HOSTILE) == 10


def test_text_that_cannot_be_printed_or_has_no_end_is_made_fit() -> None:
    odd = "a\ud800b\x00c\x1b[31m\nd\u202e" + "x" * 10_000
    text = read(after(cycle(failing=((odd, 1),)))).text
    assert r"a\ud800b\x00c\x1b[31m\nd\u202exxx" in text
    assert "x" * MOST_CHARACTERS not in text


def test_chart_has_a_bar_a_cycle_with_failed_and_cut_ones_marked() -> None:
    cut = cycle(outcome=CycleOutcome.CUT, start_ms=START_MS + 900_000)
    failed = cycle(outcome=CycleOutcome.FAILED, points=0, start_ms=START_MS + 1_800_000)
    document = render(replace(WORKING, reports=(CYCLE, cut, failed)), Counters())
    assert [document.count(f'<g class="{outcome}">') for outcome in CycleOutcome] == [4, 4, 4]
    assert "<title>2025-11-24 16:30 UTC, failed: 0</title>" in document
    assert "Points in each of the last 3 cycles: latest 0, most 571,765; 1 of these cycles failed" in document
    assert "3 cycles from 2025-11-24 16:00 to 2025-11-24 16:30 UTC" in Reader(document).text


def test_chart_has_round_ends_of_its_axes_and_the_newest_bar_at_the_right() -> None:
    points, lag, seconds, failed = charts((CYCLE, CYCLE))
    assert points.ticks == ("1,000,000", "500,000", "0")
    assert lag.ticks == ("2 d", "1 d", "0")
    assert seconds.ticks == ("1 min", "30 s", "0")
    assert failed.ticks == ("10", "5", "0")
    assert points.bars[-1].x + points.bars[-1].width == pytest.approx(100)
    assert points.bars[0].width == 100 / FEWEST_SLOTS
    assert points.bars[0].height == pytest.approx(57.1765)


def test_bar_of_a_catch_up_is_cut_off_and_says_its_number_so_that_the_others_are_seen() -> None:
    reports = tuple(cycle(points=38_646 if number == 5 else 1_356) for number in range(20))
    points, _, _, _ = charts(reports)
    assert points.ticks[0] == "2,000"
    assert [(bar.height, bar.number) for bar in points.bars if bar.cut_off] == [(100, "38,646")]
    assert {round(bar.height) for bar in points.bars if not bar.cut_off} == {68}
    assert ">38,646</text>" in render(replace(WORKING, reports=reports), Counters())


def test_numbers_on_neighbouring_bars_that_are_cut_off_do_not_overlap() -> None:
    reports = tuple(cycle(points=each) for each in (90_000, 100_000, 80_000, *[100] * 40))
    points, _, _, _ = charts(reports)
    assert [bar.number for bar in points.bars if bar.cut_off] == ["", "100,000", ""]


def test_lag_of_an_outage_is_never_cut_off() -> None:
    answered = {RecordType.TRAFFIC: AnsweredUpTo(START_MS - 36_000_000, START_MS, 5)}
    _, lag, _, _ = charts((*[cycle(answered_up_to={})] * 20, cycle(answered_up_to=answered)))
    assert not any(bar.cut_off for bar in lag.bars)
    assert lag.summary == "latest 9 h 46 min, most 9 h 46 min"


def test_chart_of_cycles_that_did_nothing_is_flat() -> None:
    nothing = CycleReport(start_ms=START_MS, outcome=CycleOutcome.COMPLETE)
    assert {bar.height for chart in charts((nothing, nothing)) for bar in chart.bars} == {0.0}


def test_table_of_cycles_shows_the_newest_first_and_not_all() -> None:
    reports = tuple(cycle(start_ms=START_MS + number * 900_000, points=number) for number in range(96))
    page = read(replace(WORKING, reports=reports))
    starts = re.findall(r"2025-11-25 (\d\d:\d\d):00 complete", page.text)
    assert starts[0] == "15:45"
    assert len(starts) == SHOWN_CYCLES
    assert len(render(replace(WORKING, reports=reports), Counters())) < 150_000


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_run() -> None:
    page = read(WORKING)
    links = [text for name, text in page.attributes if name in ("src", "href", "action")]
    assert all(text and text.startswith(("/", "data:")) and not text.startswith("//") for text in links)
    assert "script" not in page.tags
    assert "style" not in dict(page.attributes)
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_policy_allows_the_pages_own_style_and_nothing_else() -> None:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    assert f"<style>{STYLE}</style>" in render(WORKING, Counters())
    allowed = ["default-src 'none'", f"style-src 'sha256-{digest}'", "img-src data:"]
    denied = ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    assert CONTENT_SECURITY_POLICY.split("; ") == allowed + denied


def test_page_renews_itself_and_fits_a_phone() -> None:
    attributes = read(WORKING).attributes
    assert ("http-equiv", "refresh") in attributes
    assert ("content", "width=device-width,initial-scale=1") in attributes


def colours(block: str) -> dict[str, tuple[float, float, float]]:
    found = re.findall(r"--(\w+):#([0-9a-f]{3,6})\b", block)
    full = {name: digits if len(digits) == 6 else "".join(each * 2 for each in digits) for name, digits in found}
    return {name: (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)) for name, digits in full.items()}


def luminance(colour: tuple[float, float, float]) -> float:
    linear = [each / 255 / 12.92 if each <= 10 else ((each / 255 + 0.055) / 1.055) ** 2.4 for each in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast_on_its_ground(scheme: int) -> None:
    """At least 4.5 to 1, WCAG 2 level AA."""
    palette = colours(re.findall(r":root\{(.*?)\}", STYLE, re.DOTALL)[scheme])
    grounds = [luminance(palette[each]) for each in ("ground", "card")]
    for name in ("ink", "soft", "ok", "standby", "starting", "bad", "cut"):
        for ground in grounds:
            lighter, darker = max(luminance(palette[name]), ground), min(luminance(palette[name]), ground)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, name


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((-3, "0 s"), (0, "0 s"), (0.0004, "0 s"), (0.04, "40 ms")),
        *((3.24, "3.2 s"), (9.96, "10 s"), (42.4, "42 s"), (59.6, "1 min")),
        *((60, "1 min"), (89.6, "1 min 30 s"), (119.7, "2 min"), (599.8, "10 min"), (3599, "1 h"), (5400, "1 h 30 min")),
        *((86_399, "1 d"), (93_600, "1 d 2 h"), (31_536_000, "365 d")),
    ],
)
def test_spans_are_told_in_their_two_greatest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_times_are_told_in_utc_with_the_date_where_it_is_not_today_s() -> None:
    assert utc(START_MS) == "2025-11-24 16:00:00"
    assert clock(START_MS, NOW_MS) == "16:00"
    assert clock(START_MS, START_MS + 86_400_000) == "2025-11-24 16:00"
