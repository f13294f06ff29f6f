"""Whatever Netbeam answers: the collector lives, what is good goes out, nothing else does, and each rejection is counted and
said once. Hypothesis makes the answers, a server serves them to the real client and cycle, over a fake store and publisher."""

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import collector.source.http.client
from collector.commands import wiring
from collector.commands.systems import Systems
from collector.config.configuration import Config
from collector.core.counters import Count, Counters
from collector.core.limited_log import MOST_LINES
from collector.core.model import RecordType
from collector.core.shutdown import Stop
from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.server import target_of
from tests.fakes import NOW_MS, FakePublisher, FakeStore, interface
from tests.rig import Heard
from tests.service.faults import NewRig, finish, flying, start, wait_for_all
from tests.simulation import FaultySimulation
from tests.simulation.content import BAD_RESOURCES, with_odd_entries, with_odd_values
from tests.simulation.delivery import Answer
from tests.simulation.faults import Fault, Kind

EXAMPLES = 120
GOOD, BAD = "devices/good/interfaces/1", "devices/bad/interfaces/1"
BEGIN_MS = NOW_MS - 1_800_000
USUAL = b'{"points":[[%d,1,2.5]]}' % (NOW_MS - 30_000)
PATIENT = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Server(FaultySimulation):
    """Answers with whatever a test puts into `listing_body` and `bodies`, by the resource that is asked for."""

    def __init__(self) -> None:
        super().__init__(SimulatedNetwork([]))
        self.listing_body = b"[]"
        self.bodies: dict[str, bytes] = {}

    def answer(self, head: bytes, body: bytes) -> Answer | bytes:
        path, _ = target_of(head)
        if path.endswith(b"/interfaces"):
            return Answer(body=self.listing_body)
        resource = path.partition(b"/prod/")[2].rpartition(b"/")[0].decode()
        return Answer(body=self.bodies.get(resource, USUAL))

    def date(self) -> str:
        return ""


@dataclass
class Place:
    """A real client and cycles over fakes."""

    server: Server
    config: Config
    caplog: pytest.LogCaptureFixture

    def __post_init__(self) -> None:
        self.stop = Stop()
        self.source = wiring.source(self.config, self.stop, Counters())

    def run(self, listing: bytes, **bodies: bytes) -> "Seen":
        """One cycle, the first one of its memory and of its table."""
        self.server.listing_body = listing
        self.server.bodies = {BAD: bodies.get("bad", USUAL)}
        self.caplog.clear()
        store, publisher, counters = FakeStore(), FakePublisher(), Counters()
        self.source._counters = counters  # type: ignore[attr-defined]
        systems = Systems(self.source, store, publisher, self.stop, counters)
        wiring.cycle(self.config, systems).run(NOW_MS, time.monotonic() + 30)
        assert self.stop.failure is None
        heard = Heard()
        for batch in publisher.batches:
            for message in batch.messages:
                body = json.loads(message.body, parse_constant=_no_constant)
                message.body.decode()
                heard.take(batch.routing_key, message.message_id, body)
        assert not heard.faults
        return Seen(store, heard, counters, [record.getMessage() for record in self.caplog.records])


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} on the bus")


@dataclass
class Seen:
    """What a cycle left behind."""

    store: FakeStore
    heard: Heard
    counters: Counters
    lines: list[str]

    def points(self, resource: str) -> dict[int, Any]:
        return self.heard.points.get((resource, "traffic"), {})

    def checkpoint(self, resource: str) -> int | None:
        (row,) = self.store.of(resource)
        return row.checkpoints.get(RecordType.TRAFFIC)

    def said(self, what: str) -> list[str]:
        return [line for line in self.lines if what in line]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    with server:
        yield server


@pytest.fixture
def place(server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Place]:
    monkeypatch.setattr(collector.source.http.client, "RETRY_DELAYS_S", (0.001, 0.001))
    caplog.set_level(logging.WARNING)
    variables = {
        "NETBEAM_URL": server.url, "RECORD_TYPES": "traffic", "SETTLE_DELAY": "0", "NETBEAM_CONCURRENCY": "2",
        "RMQ_HOST": "nowhere", "RMQ_USER": "nobody", "RMQ_PASS": "none", "MYSQL_PASSWORD": "none",
    }  # fmt: skip
    made = Place(server, Config.from_mapping(variables), caplog)
    yield made
    made.source.close()


BOTH = json.dumps([interface(GOOD), interface(BAD)]).encode()

# Points, as text, since the worst of them no encoder makes; each with what becomes of it.

times = st.integers(BEGIN_MS, NOW_MS - 1)
numbers = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(-(2.0**62), 2.0**62), st.sampled_from([0, -0.0, 5e-324, 2.0**62])
)
HUGE = "9" * 5000
wrong_values = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9223372036854775808", "-9223372036854775809", "9.3e18", "1e30", HUGE,
     "-" + HUGE, "1." + HUGE + "e999", '"12"', '""', "true", "false", "[]", "[1]", "{}", '{"a":1}', '"\\ud800"', '"\\u0000"',
     '"é"', "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300]
)  # fmt: skip
wrong_times = st.sampled_from(
    ["null", f'"{BEGIN_MS}"', f"{BEGIN_MS}.0", f"{BEGIN_MS}.5", "true", "0", "-1", f"-{BEGIN_MS}", f"{BEGIN_MS // 1000}",
     f"{BEGIN_MS}000", HUGE, "NaN", "1e12", "[]", "{}"]
)  # fmt: skip
wrong_points = st.one_of(
    st.builds("[{},{},{}]".format, times, wrong_values, st.just("1")),
    st.builds("[{},{},{}]".format, times, st.just("null"), wrong_values),
    st.builds("[{},{},{}]".format, wrong_times, st.just("1"), st.just("1")),
    st.builds("[{}]".format, times),
    st.builds("[{},1]".format, times),
    wrong_values.filter(lambda text: True),
    st.sampled_from(["null", "[]", "{}", "7", '{"timestamp":1}']),
)
outside = st.builds(
    "[{},1,1]".format, st.one_of(st.integers(10**12, BEGIN_MS - 1), st.integers(NOW_MS, NOW_MS + 1), st.just(10**13 - 1))
)
right_points = st.tuples(times, numbers, numbers).filter(lambda point: point[1:] != (None, None))
points = st.lists(
    st.one_of(
        st.tuples(st.just("right"), right_points),
        st.tuples(st.just("wrong"), wrong_points),
        st.tuples(st.just("outside"), outside),
    ),
    max_size=12,
)


@PATIENT
@given(points, st.sampled_from(["", ',"site":"\\ud800"', ',"more":[NaN,{"a":null}]', f',"count":{HUGE}']))
def test_the_good_points_of_an_answer_go_out_and_only_they(place: Place, made: list[tuple[str, Any]], rest: str) -> None:
    texts = [json.dumps(list(point)) if kind == "right" else point for kind, point in made]
    seen = place.run(BOTH, bad=f'{{"points":[{",".join(texts)}]{rest}}}'.encode())
    expected: dict[int, Any] = {}
    for kind, point in made:
        if kind == "right":
            expected.setdefault(point[0], point[1:])
    assert seen.points(BAD) == expected
    assert list(seen.points(BAD)) == sorted(expected)
    kinds = Counter(kind for kind, _ in made)
    counted = [seen.counters.get(each) for each in (Count.POINTS_INVALID, Count.POINTS_OUTSIDE, Count.POINTS_DOUBLE)]
    assert counted == [kinds["wrong"], kinds["outside"], kinds["right"] - len(expected)]
    assert bool(kinds["wrong"]) <= len(seen.said("points dropped"))
    assert all(len(line) < 500 for line in seen.lines)
    assert (len(seen.points(GOOD)), seen.checkpoint(GOOD)) == (1, NOW_MS)
    assert max(expected, default=0) < (seen.checkpoint(BAD) or 1) <= NOW_MS


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("\ud800"), st.just(2**70)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)
encoded = st.builds(lambda value: json.dumps(value).encode(), anything)
garbage = st.one_of(
    st.binary(max_size=60),
    encoded,
    st.builds(lambda body, at: body[: at % (len(body) + 1)], encoded, st.integers(0, 1000)),
    st.builds(lambda value: json.dumps({"points": value}).encode(), anything),
    st.builds(lambda value: json.dumps({"points": value}).encode("utf-16"), anything),
    st.sampled_from([b"[" * 100_000, b'{"points":' + b"[" * 100_000, b"\xef\xbb\xbf{}", b"{}{}", b'"' * 1001, b"\\" * 999]),
)


@PATIENT
@given(garbage)
def test_any_body_for_points_leaves_the_others_alone(place: Place, body: bytes) -> None:
    seen = place.run(BOTH, bad=body)
    assert (len(seen.points(GOOD)), seen.checkpoint(GOOD)) == (1, NOW_MS)
    assert seen.checkpoint(BAD) in (None, NOW_MS)
    assert not seen.points(BAD), "no such body has a point of that window"


@PATIENT
@given(garbage)
def test_any_body_for_a_listing_changes_nothing_or_adds_what_is_right(place: Place, body: bytes) -> None:
    seen = place.run(body)
    assert not seen.store.rows
    assert len(seen.said("listing failed")) == 1


# Entries of a listing. What makes a resource right is said by construction, not by asking the collector.

letters = "abzAZ019-._~!$&'()*+,;=:@|\\^`\"<>{}[]"
segments = st.text(letters, min_size=1, max_size=12).filter(lambda text: text not in (".", ".."))
escaped = st.builds("{}%{:02X}{}".format, segments, st.integers(0, 255), segments)
right_resources = st.builds("devices/{}/interfaces/{}".format, segments, st.one_of(segments, escaped)).filter(
    lambda text: len(text) <= 128
)
WRONG_ENDS = ("?", "#", " ", "\x7f", "é", "%", "%2", "%zz", "/", "/..", "/%2e.", "\u202e")
wrong_resources = st.one_of(
    st.sampled_from([each for each in BAD_RESOURCES]),
    st.builds("{}{}".format, right_resources, st.sampled_from(WRONG_ENDS)),
    st.builds("/{}".format, right_resources),
    st.builds("https://{}".format, right_resources),
    st.builds(lambda text: text + "x" * (129 - len(text)), right_resources),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.lists(right_resources, max_size=1),
)
KEYS = list(interface(GOOD))
changes = st.dictionaries(
    st.one_of(st.sampled_from([key for key in KEYS if key != "resource"]), st.text(max_size=5), st.just("timestamp")),
    st.one_of(anything, st.just("x" * 32_767), st.just("9223372036854775808"), st.just("-9223372036854775808"), st.just("٣")),
    max_size=4,
)
entries = st.lists(
    st.one_of(
        st.tuples(st.just("right"), right_resources, changes),
        st.tuples(st.just("wrong"), wrong_resources, changes),
        st.tuples(st.just("no object"), st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)), st.none()),
    ),
    max_size=6,
)


def listed(made: list[tuple[str, Any, Any]]) -> bytes:
    objects = [resource if kind == "no object" else {**interface(GOOD), **changed, "resource": resource}
               for kind, resource, changed in made]  # fmt: skip
    return json.dumps([*objects, interface(GOOD)]).encode()


@PATIENT
@given(entries)
def test_the_good_entries_of_a_listing_are_collected_and_only_they(place: Place, made: list[tuple[str, Any, Any]]) -> None:
    seen = place.run(listed(made))
    right = [resource for kind, resource, _ in made if kind == "right"] + [GOOD]
    assert {row.name for row in seen.store.rows.values()} == set(right)
    assert sorted(each.resource for each in seen.heard.interfaces) == sorted(set(right))
    wrong = sum(kind != "right" for kind, *_ in made)
    assert seen.counters.get(Count.LISTING_ENTRIES_SKIPPED) == wrong + len(right) - len(set(right))
    assert len(seen.said("listing entry skipped")) == wrong
    faulty = seen.said("interface value sent as null")
    assert len(faulty) == len(set(faulty)) <= seen.counters.get(Count.INTERFACE_VALUES_INVALID)
    assert bool(faulty) == bool(seen.counters.get(Count.INTERFACE_VALUES_INVALID))
    assert all(seen.checkpoint(name) == NOW_MS for name in set(right))


def test_an_entry_with_a_value_that_python_refuses_spoils_no_other(place: Place) -> None:
    for value in (HUGE.encode(), b'"Z\xfcrich"', b"[" * 300 + b"NaN" + b"]" * 300):
        body = listed([("right", BAD, {"speed": "MARK", "ipv4": "MARK"})]).replace(b'"MARK"', value)
        seen = place.run(body)
        assert {row.name for row in seen.store.rows.values()} == {GOOD, BAD}
        sent = seen.heard.latest_interfaces()[BAD].body
        assert sent["speed"] is None
        assert seen.counters.get(Count.INTERFACE_VALUES_INVALID) == 2
        assert math.isfinite(len(json.dumps(sent)))


ODD_NAMES = (
    "devices/it's/interfaces/\"quoted\"", "devices/a%25b/interfaces/%25s%2F%25%25", "devices/x/interfaces/..a...",
    "devices/x/interfaces/.a.", "devices/x/interfaces/{a}|\\^`<b>", "devices/x/interfaces/');DROP%20TABLE%20esnet_interfaces;--",
    "devices/x/interfaces/&begin=1;=,", "devices/x/interfaces/Ae1", "devices/x/interfaces/ae1", "devices/x/interfaces/lc%2D1%2f2",
    "no-slash", f"devices/x/interfaces/{'n' * 107}", "devices/x/interfaces/-%00-", "devices/x/interfaces/_%25_",
    "devices/x/interfaces/%C3%A9", "devices/a:b@c/interfaces/(d)*+!",
)  # fmt: skip


def test_a_collector_of_its_own_lives_with_all_of_it(new_rig: NewRig) -> None:
    synthetic = SimulatedNetwork.synthetic(32).speeds
    network = SimulatedNetwork([*synthetic.items(), *((name, 1000) for name in ODD_NAMES)])
    rig = flying(new_rig, network=network)
    rig.behaviour.edit_listing = lambda entries: with_odd_entries(with_odd_values(entries))  # type: ignore[arg-type]
    adding = (Kind.SHORT_POINTS, Kind.BAD_VALUES, Kind.BAD_TIMES, Kind.HUGE_NUMBERS, Kind.LONG_NUMBERS,
              Kind.OUTSIDE, Kind.DOUBLED, Kind.SHUFFLED)  # fmt: skip
    kinds = (*(Fault(kind=kind, share=0.1, seed=number) for number, kind in enumerate(adding)),
             Fault(kind=Kind.DEEP_JSON, share=0.05), Fault(kind=Kind.NOT_UTF8, share=0.05))  # fmt: skip
    rig.behaviour.points = kinds
    collector = start(rig)
    collector.wait_for_cycles(4)
    assert {row.name for row in rig.table.rows()} == {*synthetic, *ODD_NAMES}
    assert len({each.resource for each in rig.heard().interfaces}) == len(network.resources)
    more = collector.log_lines(f"listing entry skipped, more of them this cycle count={len(BAD_RESOURCES) + 5 - MOST_LINES}$")
    assert len(collector.cycles()) <= len(more) <= len(collector.cycles()) + 1
    said = collector.log_lines("interface value sent as null")
    assert len(said) == len(set(line.partition("name=")[2] for line in said)) >= MOST_LINES
    rig.behaviour.points = ()
    recovered_s = wait_for_all(rig, collector)
    counts = finish(rig, collector, "bad input", sum(each.hits for each in kinds), recovered_s)
    assert counts.duplicates == 0
