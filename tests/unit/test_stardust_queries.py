"""Which interfaces Stardust is asked for in one query, what a query says, and which answers are none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.model import RecordType, Series, Window
from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.stardust import BadQueryError, SimulatedIndex
from collector.source.stardust import queries
from collector.source.stardust.failures import fault_in, hits_of, refusal
from collector.source.stardust.fetching import split, windows_of
from collector.source.stardust.groups import CLAUSES, Density, by_interface, clauses, groups, halves, parts
from collector.source.stardust.pages import _borders
from collector.source.stardust.points import points_of, sorted_out

AT = 1_764_000_000_000
MINUTE_MS, DAY_MS = 60_000, 86_400_000
TRAFFIC, ERRORS = RecordType.TRAFFIC, RecordType.ERRORS


def window(number: int, record_type: RecordType = TRAFFIC, begin_ms: int = AT, minutes: int = 15, row: int = 0) -> Window:
    name = f"devices/cr{number % 3}/interfaces/{number}%2F1"
    return Window(Series(row or number, name, record_type), begin_ms, AT + minutes * MINUTE_MS)


def whole_answer(*hits: Any, **changed: Any) -> dict[str, Any]:
    shards = {"total": 5, "successful": 5, "skipped": 0, "failed": 0}
    total = {"value": len(hits), "relation": "eq"}
    return {"timed_out": False, "_shards": shards, "hits": {"total": total, "hits": list(hits)}} | changed


def test_record_types_of_an_interface_are_asked_together_in_turn_order() -> None:
    asked = [window(2, ERRORS), window(1), window(2), window(1, row=9)]
    interfaces, foreign = by_interface([*asked, Window(Series(7, "by-hand", TRAFFIC), AT, AT + 1)])
    assert [(each.id, each.windows) for each in interfaces] == [
        ("cr2::2/1", [asked[0], asked[2]]),
        ("cr1::1/1", [asked[1], asked[3]]),
    ]
    assert [each.series.name for each in foreign] == ["by-hand"]


def test_esnet_takes_at_most_150_queries_with_the_listing() -> None:
    windows = [window(number, each) for number in range(10_679) for each in RecordType]
    made = list(groups(by_interface(windows)[0], Density()))
    listing = -(-10_679 // queries.PAGE)
    assert len(made) + listing <= 150
    assert sum(map(len, made)) == 10_679
    assert max(map(len, made)) * 30 * 1.1 < queries.MOST_HITS


def test_silent_interfaces_share_a_query_however_long_their_windows_are() -> None:
    density = Density()
    windows = [window(number, begin_ms=AT - DAY_MS) for number in range(2000)]
    for each in windows:
        density.learn(each, 0)
    assert len(list(groups(by_interface(windows)[0], density))) == 2
    density.learn(windows[0], 2881)
    density.forget_all_but({windows[0].series.name: None})
    interfaces = by_interface(windows)[0]
    assert density.expected(interfaces[0]) > 2881
    assert density.expected(interfaces[1]) == pytest.approx(34)


def test_esnet_takes_no_more_after_a_restart_when_its_silent_interfaces_have_windows_of_a_day() -> None:
    begins = {number: AT if number % 16 < 9 else AT - DAY_MS for number in range(10_679)}
    windows = [window(number, each, begin_ms=begins[number]) for number in begins for each in RecordType]
    assert len(list(groups(by_interface(windows)[0], Density()))) + -(-10_679 // queries.PAGE) + 4 <= 150


def test_a_group_that_is_too_large_is_asked_again_in_enough_parts() -> None:
    group = by_interface([window(number) for number in range(10)])[0]
    assert [len(each) for each in parts(group, 10_000)] == [3, 3, 3, 1]
    assert [len(each) for each in parts(group, 10**9)] == [1] * 10
    assert [len(each) for each in parts(group[:3], 3)] == [1, 1, 1]
    assert [len(each) for each in halves(group[:3])] == [1, 2]


def test_a_group_is_cut_where_its_admission_ends() -> None:
    group = by_interface([window(number, each) for number in range(2) for each in RecordType])[0]
    for count in range(7):
        first, rest = split(group, count)
        assert windows_of(first) + windows_of(rest) == windows_of(group)
        assert len(windows_of(first)) == count


def test_windows_that_are_alike_share_a_clause_and_others_have_their_own() -> None:
    all_types = [window(1, each) for each in RecordType]
    group = by_interface([*all_types, window(2), window(3, begin_ms=AT - 600_000), window(4, ERRORS)])[0]
    asked = {(each.begin_ms, each.record_types): list(each.ids) for each in clauses(group)}
    assert asked == {
        (AT, tuple(sorted(RecordType))): ["cr1::1/1"],
        (AT, (TRAFFIC,)): ["cr2::2/1"],
        (AT - 600_000, (TRAFFIC,)): ["cr0::3/1"],
        (AT, (ERRORS,)): ["cr1::4/1"],
    }


def test_windows_that_all_differ_do_not_make_a_query_too_complex() -> None:
    windows = [window(number, begin_ms=AT - number * 600_000) for number in range(3 * CLAUSES)]
    density = Density()
    for each in windows:
        density.learn(each, 0)
    made = list(groups(by_interface(windows)[0], density))
    assert [len(clauses(each)) for each in made] == [CLAUSES] * 3


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from(RecordType), st.integers(-40, 28), st.integers(0, 29_999)),
        unique_by=lambda each: each[:2],
        min_size=1,
        max_size=12,
    )
)
def test_every_series_gets_exactly_the_points_of_its_own_window(asked: list[tuple[int, RecordType, int, int]]) -> None:
    network = SimulatedNetwork([(f"devices/cr{number % 3}/interfaces/{number}%2F1", 1000) for number in range(8)])
    index = SimulatedIndex(network)
    windows = [window(number, each, begin_ms=AT + step * 30_000 + off) for number, each, step, off in asked]
    for group in groups(by_interface(windows)[0], Density()):
        answer = json.loads(index.search(json.loads(queries.points(clauses(group))), AT + DAY_MS))
        assert fault_in(answer) is None
        documents = sorted_out(answer["hits"]["hits"], {each.id for each in group})
        for each in windows_of(group):
            expected = network.expected_points(each.series.name, each.series.record_type, each.begin_ms, each.end_ms)
            own = documents.by_id[next(one.id for one in group if each in one.windows)]
            assert points_of(own, each) == [list(point) for point in expected]


def test_what_is_no_query_of_the_collector_is_no_answer() -> None:
    index = SimulatedIndex(SimulatedNetwork.synthetic(1))
    # a real engine finds every document where no condition is given
    bodies: tuple[Any, ...] = ({"query": {"match_all": {}}}, json.loads(queries.points([])))
    for body in bodies:
        with pytest.raises(BadQueryError):
            index.search(body, AT)


@pytest.mark.parametrize(
    "answer",
    [
        None, [], "text", {}, {"hits": {}},
        whole_answer(timed_out=True),
        whole_answer(terminated_early=True),
        whole_answer(_shards={"total": 5, "successful": 4, "failed": 1}),
        whole_answer(_shards={"total": 5, "successful": 5, "failed": 1}),
        whole_answer(_shards={"total": 5, "successful": 4, "failed": 0}),
        whole_answer(_shards={"total": 0, "successful": 0, "failed": 0}),
        whole_answer(_shards={"total": 5}),
        whole_answer(_shards=None),
        whole_answer(hits=None),
        whole_answer(hits={"hits": []}),
        whole_answer(hits={"total": 0, "hits": []}),
        whole_answer(hits={"total": {"value": 10_000, "relation": "gte"}, "hits": []}),
        whole_answer(hits={"total": {"value": True, "relation": "eq"}, "hits": []}),
    ],
)  # fmt: skip
def test_whatever_is_partial_or_no_answer_is_a_failure(answer: object) -> None:
    assert fault_in(answer) is not None


def test_documents_must_be_as_many_as_were_counted() -> None:
    assert fault_in(whole_answer({}, {})) is None
    assert hits_of(whole_answer({}, {})) == [{}, {}]
    assert not isinstance(hits_of(whole_answer(hits={"total": {"value": 1, "relation": "eq"}, "hits": []})), list)
    assert not isinstance(hits_of(whole_answer(hits={"total": {"value": 0, "relation": "eq"}, "hits": None})), list)
    # an engine leaves out an empty list
    assert hits_of(whole_answer(hits={"total": {"value": 0, "relation": "eq"}})) == []


@pytest.mark.parametrize(
    ("status", "text", "smaller"),
    [
        (429, "", True),
        (413, "", True),
        (400, '{"error":{"type":"circuit_breaking_exception","reason":"Data too large"}}', True),
        (400, '{"error":{"caused_by":{"type":"opensearch_rejected_execution_exception"}}}', True),
        (503, '{"error":{"reason":"all shards failed","caused_by":{"type":"circuit_breaking_exception"}}}', True),
        (503, '{"error":{"reason":"all shards failed"}}', False),
        (404, '{"error":{"type":"index_not_found_exception","reason":"no such index"}}', False),
        (401, "", False),
        (403, "<html>", False),
        (400, '{"error":{"type":"parsing_exception"}}', False),
    ],
)
def test_a_refused_answer_says_whether_half_may_do(status: int, text: str, smaller: bool) -> None:
    fault = refusal(f"status {status}", status, text)
    assert fault.smaller is smaller
    assert fault.text.startswith(f"status {status}")


def test_a_refused_answer_s_reason_is_one_short_line() -> None:
    fault = refusal("status 404", 404, '{"error":{"reason":"no such\x1b[31m index' + "x" * 1000 + '"}}')
    assert fault.text.startswith("status 404: no such\\x1b[31m index")
    assert len(fault.text) < 300


def test_a_refused_answer_names_the_engine_s_error_and_doubts_no_url_then() -> None:
    body = '{"error":{"root_cause":[{"type":"index_closed_exception","reason":"closed","index":"a"}]},"status":400}'
    assert refusal("status 400", 400, body).text == "status 400: index_closed_exception: closed"
    body = '{"error":{"type":"index_not_found_exception","reason":"no such index [a]"},"status":404}'
    doubt = "status 404; is STARDUST_URL right?"
    assert refusal(doubt, 404, body).text == "status 404: index_not_found_exception: no such index [a]"
    assert refusal(doubt, 404, "<html>").text == doubt


def test_every_query_is_one_that_elasticsearch_and_opensearch_share() -> None:
    for body in (queries.points([queries.Clause(AT, AT + 1, (TRAFFIC,), ["a::b"])]), queries.listing(AT), queries.newest(AT)):
        query = json.loads(body)
        assert query["track_total_hits"] is True
        assert not {"scroll", "pit", "script", "search_after", "from"} & query.keys()
        assert "meta.service_type" in body.decode()
    for option in ("allow_partial_search_results", "ignore_unavailable", "allow_no_indices"):
        assert f"{option}=false" in queries.PARAMETERS


def test_the_listing_is_parted_by_what_was_listed_before() -> None:
    entries: list[Any] = [{"device": f"device-{number:05}", "name": "x"} for number in range(5000)]
    assert _borders(entries, 4) == ("device-01250::x", "device-02500::x", "device-03750::x")
    assert _borders(entries[:1999], 4) == _borders(["no entry"] * 5000, 4) == ()
