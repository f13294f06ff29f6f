"""The page for people: what it says in each state, that nothing in it can be abused, and that it can be read."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from collector.core.counters import Count
from collector.core.model import RecordType
from collector.core.report import CycleOutcome, CycleReport, Reached, Reason, ReasonKind, WindowOutcome
from collector.watch.charts import FEWEST_SLOTS
from collector.watch.format import MOST_CHARACTERS, duration, escape, utc
from collector.watch.health import Health, judge
from collector.watch.page import CONTENT_SECURITY_POLICY, MOST_REASONS, SHOWN_CYCLES, render
from collector.watch.state import Dependency, Role, Snapshot
from collector.watch.style import STYLE

START_MS = 1_764_000_000_000
SETTLED_MS = START_MS - 900_000
NOW_MS = START_MS + 7_200_000
HOSTILE = """</title><script>alert("1")</script><img src=x onerror='alert(2)'>&amp;"""
CYCLE = CycleReport(
    start_ms=START_MS,
    seconds=42.4,
    outcome=CycleOutcome.COMPLETE,
    active=10_679,
    draining=12,
    points=571_765,
    idle=4_669,
    windows={WindowOutcome.DONE: 18_000, WindowOutcome.EMPTY: 400, WindowOutcome.FAILED: 3, WindowOutcome.REFUSED: 2},
    database_s=3.2,
    settled_ms=SETTLED_MS,
    reached={
        RecordType.TRAFFIC: Reached(SETTLED_MS - 1_830_000, SETTLED_MS - 60_000, 6010),
        RecordType.DISCARDS: Reached(SETTLED_MS - 93_600_000, SETTLED_MS, 6011),
    },
    failing=(("devices/albq-cr5/interfaces/1%2F1%2F1", 3), ("devices/amst-cr5/interfaces/lo0", 2)),
)

def leaving(text: str) -> list[Reason]:
    """What a cycle leaves for the next one."""
    return [Reason(text, ReasonKind.LEFT)]


UP = Dependency(name="MySQL", down=False, up_once=True, since_ms=START_MS, last_error="")
WORKING = Snapshot(
    role=Role.WORKING,
    role_since_ms=START_MS,
    started_ms=START_MS,
    poll_interval_s=900,
    beat=0.0,
    awaited_since=0.0,
    last_completed_ms=NOW_MS - 240_000,
    reports=(CYCLE,),
    latest=CYCLE,
    dependencies=(UP,),
)
NEW = replace(WORKING, role=Role.STARTING, last_completed_ms=None, reports=(), latest=None)
STANDBY = replace(NEW, role=Role.STANDBY)


class Reader(HTMLParser):
    """Reads a document: its text, its tags, and that each is closed in order."""

    VOID = frozenset({"meta", "link", "br", "rect", "circle", "path"})

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


def read(snapshot: Snapshot, at: float = 1.0, counts: dict[tuple[Count, str], int] | None = None) -> Reader:
    return Reader(render(snapshot, judge(snapshot, at), counts or {}, NOW_MS))


def test_working_collector_says_so_with_its_last_and_its_next_cycle() -> None:
    text = read(WORKING).text
    assert "Collecting The last completed cycle ended 4 min ago; the next one is due at 18:15 UTC." in text
    assert "2025-11-24 18:00:00 UTC" in text


def test_time_of_the_next_cycle_has_seconds_where_the_interval_has() -> None:
    assert "the next one is due at 18:00:05 UTC." in read(replace(WORKING, poll_interval_s=5)).text


def test_figures_of_the_last_cycle_are_shown() -> None:
    text = read(WORKING).text
    for expected in (
        "Points 571,765 in the last cycle",
        "Duration 42 s database 3.2 s",
        "Interfaces 10,679 active, 12 draining",
        "Furthest behind 1 d 2 h 4,669 idle series left out",
        "traffic 1 min 30 min 6,010",
        "discards 0 s 1 d 2 h 6,011",
        "devices/albq-cr5/interfaces/1%2F1%2F1 3",
        "2025-11-24 16:00:00 complete 42 s 571,765 5",
    ):
        assert expected in text


@pytest.mark.parametrize(("snapshot", "headline"), [(NEW, "Starting"), (STANDBY, "Standing by")])
def test_page_without_a_single_cycle_has_a_state_and_no_empty_sections(snapshot: Snapshot, headline: str) -> None:
    page = read(snapshot)
    assert headline in page.text
    assert "MySQL up since 2025-11-24 16:00:00" in page.text
    assert "Last cycles" not in page.text
    assert "Lag" not in page.text
    assert page.tags.count("section") == 2


def test_working_collector_without_a_completed_cycle_says_so() -> None:
    assert "No cycle has been completed yet; the next one" in read(replace(NEW, role=Role.WORKING)).text


def test_standby_says_that_it_is_one_and_does_not_vouch_for_netbeam() -> None:
    netbeam = Dependency(name="Netbeam", down=True, up_once=True, since_ms=START_MS, last_error="503")
    text = read(replace(STANDBY, dependencies=(netbeam, UP))).text
    assert "Another collector is at work; this one takes over when that one ends. Standing by for 2 h." in text
    assert "Netbeam not asked while standing by" in text


def test_failing_collector_says_why() -> None:
    down = Dependency(name="RabbitMQ", down=True, up_once=True, since_ms=START_MS, last_error="connection refused")
    failed = replace(CYCLE, outcome=CycleOutcome.FAILED, reasons=leaving("the listing failed"))
    page = read(replace(WORKING, latest=failed, reports=(CYCLE, failed), dependencies=(UP, down)), at=2700.0)
    assert "Needs attention" in page.text
    assert "RabbitMQ is down since 2025-11-24 16:00:00 UTC: connection refused" in page.text
    assert "no cycle completed for 45 min; one is due every 15 min" in page.text
    assert page.text.count("the listing failed") == 1
    assert "RabbitMQ down since 2025-11-24 16:00:00 connection refused" in page.text
    assert ("class", "state failing") in page.attributes


def test_standby_that_could_not_take_over_needs_attention() -> None:
    down = replace(UP, down=True, last_error="gone")
    assert "Standby needs attention" in read(replace(STANDBY, dependencies=(down,))).text


def test_what_a_cycle_left_for_the_next_is_said_without_alarm() -> None:
    left = replace(CYCLE, outcome=CycleOutcome.CUT, reasons=leaving("cut short, 300 windows outstanding"), checkpoints_moved=9)
    page = read(replace(WORKING, latest=left, reports=(left,)))
    assert "The last cycle left something for the next one: cut short, 300 windows outstanding" in page.text
    assert ("class", "state ok") in page.attributes


def test_dependency_tells_its_last_error_when_it_is_back_and_when_nobody_has_tried_it() -> None:
    back = replace(UP, last_error="connection reset")
    assert "MySQL up since 2025-11-24 16:00:00 before: connection reset" in read(replace(WORKING, dependencies=(back,))).text
    untried = replace(UP, up_once=False)
    assert "MySQL not tried yet" in read(replace(NEW, dependencies=(untried,))).text


def test_totals_since_the_start_come_from_the_tally() -> None:
    counts = {(Count.POINTS_CONFIRMED, ""): 1_234_567, (Count.POINTS_INVALID, ""): 12, (Count.CYCLES_SKIPPED, ""): 3}
    expected = "Since the start at 2025-11-24 16:00:00: 1,234,567 points confirmed, 12 dropped as invalid, 3 cycles skipped."
    assert expected in read(WORKING, counts=counts).text


def test_hostile_names_and_errors_stay_text() -> None:
    failed = replace(CYCLE, outcome=CycleOutcome.FAILED, reasons=leaving(HOSTILE), failing=((HOSTILE, 1),))
    down = Dependency(name=HOSTILE, down=True, up_once=True, since_ms=START_MS, last_error=HOSTILE)
    page = read(replace(WORKING, latest=failed, reports=(failed,), dependencies=(down,)))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) == 6


def test_text_that_cannot_be_printed_or_has_no_end_is_made_fit() -> None:
    assert escape("a\ud800b\x00c\x1b[31m\nd") == "a\ufffdb\ufffdc\ufffd[31m d"
    assert len(escape("x" * 10_000)) == MOST_CHARACTERS + 1
    render(replace(WORKING, latest=replace(CYCLE, reasons=leaving("\udcff"))), Health(True, Role.WORKING), {}, NOW_MS).encode()


def test_many_reasons_are_cut_with_their_number() -> None:
    reasons = tuple(f"reason {number}" for number in range(MOST_REASONS + 30))
    text = Reader(render(WORKING, Health(False, Role.WORKING, reasons), {}, NOW_MS)).text
    assert "and 30 more" in text
    assert f"reason {MOST_REASONS}" not in text


def test_plot_has_a_bar_a_cycle_with_failed_and_cut_ones_marked() -> None:
    cut = replace(CYCLE, outcome=CycleOutcome.CUT, start_ms=START_MS + 900_000)
    failed = replace(CYCLE, outcome=CycleOutcome.FAILED, points=0, start_ms=START_MS + 1_800_000)
    document = render(replace(WORKING, reports=(CYCLE, cut, failed)), Health(True, Role.WORKING), {}, NOW_MS)
    assert [document.count(f'<g class="{outcome}">') for outcome in CycleOutcome] == [3, 3, 3]
    assert "<title>2025-11-24 16:30 UTC, failed: 0</title>" in document
    assert "Points in each of the last 3 cycles: latest 0, most 571,765; 1 of these cycles failed" in document
    assert f'viewBox="0 0 {FEWEST_SLOTS} 100"' in document
    assert "3 cycles from 2025-11-24 16:00 to 2025-11-24 16:30 UTC" in Reader(document).text


def test_plot_of_cycles_that_did_nothing_is_flat() -> None:
    nothing = replace(CYCLE, points=0, seconds=0.0, windows={})
    document = render(replace(WORKING, reports=(nothing, nothing)), Health(True, Role.WORKING), {}, NOW_MS)
    assert set(re.findall(r'class="bar"[^>]* height="([^"]*)"', document)) == {"0.0"}


def test_table_of_cycles_shows_the_newest_first_and_not_all() -> None:
    reports = tuple(replace(CYCLE, start_ms=START_MS + number * 900_000, points=number) for number in range(96))
    page = read(replace(WORKING, reports=reports))
    starts = re.findall(r"2025-11-25 (\d\d:\d\d):00 complete", page.text)
    assert starts[0] == "15:45"
    assert len(starts) == SHOWN_CYCLES
    assert len(render(replace(WORKING, reports=reports), Health(True, Role.WORKING), {}, NOW_MS)) < 100_000


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
    assert f"<style>{STYLE}</style>" in render(WORKING, Health(True, Role.WORKING), {}, NOW_MS)
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


def test_times_are_told_in_utc() -> None:
    assert utc(START_MS) == "2025-11-24 16:00:00"
