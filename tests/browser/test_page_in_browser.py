"""The page for people in a real browser: it looks as meant, loads nothing from elsewhere and runs nothing."""

from collections.abc import Iterator

import pytest

from collector.core.counters import Counters
from collector.core.report import CycleOutcome
from collector.core.shutdown import Stop
from collector.watch.server import WebServer
from tests.browser.chromium import Chromium
from tests.browser.states import HOSTILE, STATES, Scene


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def url(scene: Scene) -> Iterator[str]:
    server = WebServer("127.0.0.1", 0, scene.state, Counters(), Stop())
    yield f"http://127.0.0.1:{server.port}/"
    server.close()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("width", [320, 390, 1100, 1920])
def test_nothing_is_wider_than_the_window(chromium: Chromium, url: str, scene: Scene, state: str, width: int) -> None:
    STATES[state](scene)
    chromium.open(url, width=width)
    assert chromium.value("innerWidth") == width
    assert chromium.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    inner = "[...document.querySelectorAll('body *')].filter(each => each.getBoundingClientRect().right > innerWidth)"
    assert chromium.value(f"{inner}.map(each => each.outerHTML)") == []


def test_wide_screen_is_used_and_its_type_is_larger(chromium: Chromium, url: str, scene: Scene) -> None:
    STATES["fine"](scene)
    chromium.open(url, width=1920, height=1080)
    assert chromium.value("document.querySelector('main').getBoundingClientRect().width") > 1700
    assert chromium.value("parseFloat(getComputedStyle(document.body).fontSize)") >= 19
    charts = "[...document.querySelectorAll('figure')].map(each => each.getBoundingClientRect().top)"
    assert len(set(chromium.value(charts))) == 1
    assert chromium.value("document.querySelectorAll('.half')[1].getBoundingClientRect().bottom") <= 1080


@pytest.mark.parametrize(
    ("scheme", "ground", "ink"),
    [("light", "244, 246, 248", "27, 36, 48"), ("dark", "17, 21, 26", "228, 232, 238")],
)
def test_colours_follow_what_the_user_likes(chromium: Chromium, url: str, scheme: str, ground: str, ink: str) -> None:
    chromium.open(url, scheme=scheme)
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == f"rgb({ground})"
    assert chromium.value("getComputedStyle(document.body).color") == f"rgb({ink})"


def test_only_the_page_itself_is_loaded_and_nothing_is_complained_about(chromium: Chromium, url: str, scene: Scene) -> None:
    STATES["failing"](scene)
    chromium.open(url)
    asked = {each["request"]["url"] for each in chromium.seen("Network.requestWillBeSent")}
    assert {each for each in asked if not each.startswith("data:image/svg+xml,")} == {url}
    assert chromium.seen("Log.entryAdded") == []
    assert chromium.seen("Runtime.exceptionThrown") == []


def test_hostile_text_is_shown_and_not_run(chromium: Chromium, url: str, scene: Scene) -> None:
    STATES["failing"](scene)
    chromium.open(url)
    assert chromium.seen("Page.javascriptDialogOpening") == []
    assert chromium.value("document.scripts.length + document.images.length") == 0
    assert HOSTILE in chromium.value("document.querySelector('section.state').innerText")


def test_bars_fill_the_plot_and_are_told_apart(chromium: Chromium, url: str, scene: Scene) -> None:
    STATES["failing"](scene)
    chromium.open(url)
    assert chromium.value("document.querySelectorAll('figure').length") == 4
    assert chromium.value("document.querySelectorAll('figure:first-child .bar').length") == 61
    fill = "getComputedStyle(document.querySelector('figure g.{} .bar')).fill"
    assert len({chromium.value(fill.format(outcome)) for outcome in CycleOutcome}) == 3
    rightmost = "document.querySelector('figure g:last-of-type .slot').getBoundingClientRect().right"
    end = "document.querySelector('figure svg').getBoundingClientRect().right"
    assert chromium.value(f"{rightmost} - {end}") == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("state", STATES)
def test_who_cannot_see_the_page_gets_it_read_out(chromium: Chromium, url: str, scene: Scene, state: str) -> None:
    STATES[state](scene)
    chromium.open(url)
    nodes = chromium.send("Accessibility.getFullAXTree")["nodes"]
    named = [(each["role"]["value"], each.get("name", {}).get("value", "")) for each in nodes if not each["ignored"]]
    assert ("heading", "ESnet Collector") in named
    assert all(name for role, name in named if role in ("image", "img", "heading", "link", "columnheader", "rowheader"))
    assert chromium.value("document.documentElement.lang") == "en"


@pytest.mark.parametrize(
    ("state", "headline"),
    [("starting", "Starting"), ("working", "Collecting"), ("standby", "Standing by"), ("silent", "Needs attention")],
)
def test_state_is_the_first_thing_on_a_phone(chromium: Chromium, url: str, scene: Scene, state: str, headline: str) -> None:
    STATES[state](scene)
    chromium.open(url, width=390, height=800)
    assert chromium.value("document.querySelector('h2').innerText") == headline
    assert chromium.value("document.querySelector('h2').getBoundingClientRect().bottom") < 150
    assert chromium.value("document.title") == f"{headline} · ESnet Collector on collector-1.example.org"
