"""The page for people in a real browser: it looks as meant, loads nothing from elsewhere and runs nothing."""

from collections.abc import Iterator

import pytest

from collector.core.counters import Counters
from collector.core.model import RecordType
from collector.core.outage import Outage
from collector.core.report import CycleOutcome, CycleReport, Reached, Reason, ReasonKind, WindowOutcome
from collector.core.shutdown import Stop
from collector.watch.server import WebServer
from collector.watch.state import CollectorState, Role
from tests.browser.chromium import Chromium

START_MS = 1_764_000_000_000
SETTLED_MS = START_MS - 900_000
HOSTILE = """</title></style><script>alert(1)</script><img src="http://127.0.0.1:9/x" onerror="alert(2)">"""
LONG = "devices/" + "a" * 60 + "/interfaces/" + "b" * 48
STATES = ("starting", "working", "standby", "failing")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture
def outages() -> tuple[Outage, ...]:
    return tuple(Outage(name) for name in ("Netbeam", "MySQL", "RabbitMQ"))


@pytest.fixture
def board(outages: tuple[Outage, ...]) -> CollectorState:
    return CollectorState(outages, 900)


@pytest.fixture
def url(board: CollectorState) -> Iterator[str]:
    server = WebServer("127.0.0.1", 0, board, Counters(), Stop())
    server.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.close()


def cycle(number: int, outcome: CycleOutcome, *reasons: str) -> CycleReport:
    return CycleReport(
        start_ms=START_MS + number * 900_000,
        seconds=100 + number,
        outcome=outcome,
        reasons=[Reason(each, ReasonKind.FAILURE) for each in reasons],
        active=10_679,
        points=1_000_000 + number,
        windows={WindowOutcome.DONE: 18_000, WindowOutcome.FAILED: number % 7},
        checkpoints_moved=18_000,
        settled_ms=SETTLED_MS,
        reached={each: Reached(SETTLED_MS - 93_600_000, SETTLED_MS - 60_000, 10_679) for each in RecordType},
        failing=((LONG, 3), (HOSTILE, 2)),
    )


def bring_about(state: str, board: CollectorState, outages: tuple[Outage, ...]) -> None:
    """Let the board show that state, with as much as can be to show."""
    if state == "standby":
        board.enter(Role.STANDBY)
    if state in ("working", "failing"):
        board.enter(Role.WORKING)
        for number in range(96):
            board.add(cycle(number, CycleOutcome.CUT if number == 50 else CycleOutcome.COMPLETE, "5 windows failed"))
        for each in outages:
            each.ended()
    if state == "failing":
        board.add(cycle(96, CycleOutcome.FAILED, HOSTILE, LONG))
        outages[2].failed(f"{HOSTILE} {LONG}")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("width", [320, 390, 1100])
def test_nothing_is_wider_than_the_window(
    chromium: Chromium, url: str, board: CollectorState, outages: tuple[Outage, ...], state: str, width: int
) -> None:
    bring_about(state, board, outages)
    chromium.open(url, width=width)
    assert chromium.value("innerWidth") == width
    assert chromium.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    inner = "[...document.querySelectorAll('body *')].filter(each => each.getBoundingClientRect().right > innerWidth)"
    assert chromium.value(f"{inner}.map(each => each.outerHTML)") == []


@pytest.mark.parametrize(
    ("scheme", "ground", "ink"),
    [("light", "244, 246, 248", "27, 36, 48"), ("dark", "17, 21, 26", "228, 232, 238")],
)
def test_colours_follow_what_the_user_likes(chromium: Chromium, url: str, scheme: str, ground: str, ink: str) -> None:
    chromium.open(url, scheme=scheme)
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == f"rgb({ground})"
    assert chromium.value("getComputedStyle(document.body).color") == f"rgb({ink})"


def test_only_the_page_itself_is_loaded_and_nothing_is_complained_about(
    chromium: Chromium, url: str, board: CollectorState, outages: tuple[Outage, ...]
) -> None:
    bring_about("failing", board, outages)
    chromium.open(url)
    asked = {each["request"]["url"] for each in chromium.seen("Network.requestWillBeSent")}
    assert {each for each in asked if not each.startswith("data:image/svg+xml,")} == {url}
    assert chromium.seen("Log.entryAdded") == []
    assert chromium.seen("Runtime.exceptionThrown") == []


def test_hostile_text_is_shown_and_not_run(
    chromium: Chromium, url: str, board: CollectorState, outages: tuple[Outage, ...]
) -> None:
    bring_about("failing", board, outages)
    chromium.open(url)
    assert chromium.seen("Page.javascriptDialogOpening") == []
    assert chromium.value("document.scripts.length + document.images.length") == 0
    assert HOSTILE in chromium.value("document.querySelector('section.state').innerText")


def test_bars_fill_the_plot_and_are_told_apart(
    chromium: Chromium, url: str, board: CollectorState, outages: tuple[Outage, ...]
) -> None:
    bring_about("failing", board, outages)
    chromium.open(url)
    assert chromium.value("document.querySelectorAll('figure').length") == 3
    assert chromium.value("document.querySelectorAll('figure:first-child .bar').length") == 96
    fill = "getComputedStyle(document.querySelector('figure g.{} .bar')).fill"
    assert len({chromium.value(fill.format(outcome)) for outcome in CycleOutcome}) == 3
    rightmost = "document.querySelector('figure g:last-child .slot').getBoundingClientRect().right"
    assert chromium.value(f"{rightmost} - document.querySelector('figure svg').getBoundingClientRect().right") == pytest.approx(0)


@pytest.mark.parametrize("state", STATES)
def test_who_cannot_see_the_page_gets_it_read_out(
    chromium: Chromium, url: str, board: CollectorState, outages: tuple[Outage, ...], state: str
) -> None:
    bring_about(state, board, outages)
    chromium.open(url)
    nodes = chromium.send("Accessibility.getFullAXTree")["nodes"]
    named = [(each["role"]["value"], each.get("name", {}).get("value", "")) for each in nodes if not each["ignored"]]
    assert ("heading", "ESnet Collector") in named
    assert all(name for role, name in named if role in ("image", "img", "heading", "link", "columnheader", "rowheader"))
    assert chromium.value("document.documentElement.lang") == "en"


@pytest.mark.parametrize(
    ("state", "headline"),
    [("starting", "Starting"), ("working", "Collecting"), ("standby", "Standing by"), ("failing", "Needs attention")],
)
def test_state_is_the_first_thing_on_a_phone(
    chromium: Chromium, url: str, board: CollectorState, outages: tuple[Outage, ...], state: str, headline: str
) -> None:
    bring_about(state, board, outages)
    chromium.open(url, width=390, height=800)
    assert chromium.value("document.querySelector('h2').innerText") == headline
    assert chromium.value("document.querySelector('h2').getBoundingClientRect().bottom") < 150
    assert chromium.value("document.title") == f"{headline} · ESnet Collector"
