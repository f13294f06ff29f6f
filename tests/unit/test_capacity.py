"""The arithmetic of tests/capacity.py."""

from dataclasses import replace

import pytest

from tests.capacity import MIB_AT_REST, STARDUST, Network, Rates, answer, estimate, first_to_give_out, report, shares_needed

ESNET = Network()
RATES = Rates()


def test_esnet_is_32037_requests_and_about_950000_messages() -> None:
    assert ESNET.requests == 32_037
    assert ESNET.messages == 961_110


def test_waiting_for_netbeam_shrinks_with_concurrency() -> None:
    assert estimate(ESNET, RATES).requests_s == pytest.approx(32_037 * 0.05 / 32)
    assert estimate(replace(ESNET, concurrency=64), RATES).requests_s == pytest.approx(32_037 * 0.05 / 64)


def test_cycle_is_as_long_as_its_slowest_part_with_listing_and_table_on_top() -> None:
    rates = Rates(request_cpu=0, message_cpu=0, broker_rate=10_000, listing=0.001, database=0.001)
    assert estimate(ESNET, rates).cycle_s == pytest.approx(96.111 + 2 * 10.679)


def test_finer_resolution_means_more_messages_and_no_more_requests() -> None:
    fine = replace(ESNET, resolution=1)
    assert fine.requests == ESNET.requests
    assert fine.messages == 30 * ESNET.messages


def test_part_that_uses_most_of_the_interval_gives_out_first() -> None:
    name, times = first_to_give_out(ESNET, Rates(broker_rate=2000))
    assert name == "the broker"
    assert times == pytest.approx(900 / (961_110 / 2000))


def test_what_cannot_keep_up_is_named_worst_first_with_what_helps() -> None:
    made = estimate(replace(ESNET, interfaces=1_067_900), Rates(broker_rate=20_000))
    assert not made.fits
    assert made.limits[:3] == ["the listing's size", "the source's latency", "the broker"]
    assert answer("the source's latency", made, RATES).startswith("6 shares, or 178 requests at once")
    assert "6 cores or nodes" in answer("the broker", made, RATES)


def test_a_share_waits_and_computes_for_its_part_and_reads_the_whole_listing() -> None:
    whole, part = (estimate(replace(ESNET, shares=shares), RATES) for shares in (1, 4))
    assert (whole.requests_s, whole.collector_s) == pytest.approx((4 * part.requests_s, 4 * part.collector_s))
    assert (whole.listing_s, whole.broker_s) == (part.listing_s, part.broker_s)


def test_shares_are_as_many_as_let_each_end_in_time() -> None:
    assert shares_needed(ESNET, RATES) == 1
    tenfold = replace(ESNET, interfaces=106_790, concurrency=8)
    needed = shares_needed(tenfold, RATES)
    assert needed is not None
    assert needed > 1
    assert estimate(replace(tenfold, shares=needed), RATES).enough_shares
    assert not estimate(replace(tenfold, shares=needed - 1), RATES).enough_shares
    assert shares_needed(replace(ESNET, interval=0.1), RATES) is None


def test_stardust_answers_for_many_series_at_once() -> None:
    assert STARDUST.requests == 94 + 11  # as the benchmark counts them: 94, and 12 for a listing whose parts are not equal yet
    assert STARDUST.messages == ESNET.messages
    assert shares_needed(STARDUST, RATES) == 1


def test_listing_over_64_mib_is_a_limit_of_its_own() -> None:
    slow_growth = Rates(request_cpu=0, message_cpu=0, broker_rate=1e9, listing=0, database=0, listing_bytes=500)
    name, times = first_to_give_out(replace(ESNET, concurrency=256), slow_growth)
    assert name == "the listing's size"
    assert times == pytest.approx(64 * 2**20 / (10_679 * 500))


def test_rates_come_from_the_benchmarks_figures() -> None:
    figures = {
        "cycle_cpu_s": 30.0, "floor_get_cpu_s": 20.0, "floor_publish_cpu_s": 10.0, "cycle_messages": 1e6, "cycle_requests": 1e4,
        "cycle_database_s": 1.0, "cycle_peak_mib": MIB_AT_REST + 10, "publisher_per_s": 9000.0, "list_s": 0.3, "read_s": 0.1,
        "reconcile_s": 0.1,
    }  # fmt: skip
    assert Rates.from_benchmark(figures, 1000) == Rates(
        request_cpu=0.002, message_cpu=1e-5, broker_rate=9000.0, listing=0.0005, database=0.001, row_mib=0.01
    )


def test_sections_that_were_not_measured_keep_their_defaults() -> None:
    assert Rates.from_benchmark({}, 10_679) == Rates()


def test_report_has_all_three_sizes() -> None:
    text = report(ESNET, RATES)
    assert "| interfaces | 10,679 | 106,790 | 1,067,900 |" in text
    assert "| **shares that keep up** | 1 | 1 | 6 |" in text
    assert "First to give out: " in text
