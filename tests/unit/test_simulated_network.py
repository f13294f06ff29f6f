"""The simulated network: what it has at which time."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.model import GRID_MS, RecordType, resource_fault
from collector.source.simulated.network import Nothing, SimulatedNetwork

NOW_MS = 1_764_000_000_000
KEYS = [
    "namespace", "resource", "name", "device", "ifIndex", "description", "speed", "vlan", "port", "nokiaType", "visibility",
    "connection", "link", "tags", "sector", "site", "lhcone", "oscars", "intercloud", "intracloud",
    "remoteDevice", "remotePort", "ipv4",
]  # fmt: skip
LOUD, QUIET = "devices/albq-cr5/interfaces/1%2F1%2F1", "devices/albq-cr5/interfaces/lo0.0"


@pytest.fixture
def network() -> SimulatedNetwork:
    return SimulatedNetwork([(LOUD, 10_000), (QUIET, None)])


@given(begin=st.integers(NOW_MS, NOW_MS + 10**9), length=st.integers(0, 10_000_000), cut=st.floats(0, 1))
def test_windows_that_meet_share_no_point_and_lose_none(begin: int, length: int, cut: float) -> None:
    network, end, middle = SimulatedNetwork([(LOUD, 100)]), begin + length, begin + int(length * cut)
    whole = network.expected_points(LOUD, RecordType.TRAFFIC, begin, end)
    parts = [network.expected_points(LOUD, RecordType.TRAFFIC, *part) for part in ((begin, middle), (middle, end))]
    assert parts[0] + parts[1] == whole
    assert [point[0] for point in whole] == [tick * GRID_MS for tick in range(-(-begin // GRID_MS), -(-end // GRID_MS))]


def test_a_point_is_the_same_in_whatever_window_it_is_asked_for(network: SimulatedNetwork) -> None:
    points = network.expected_points(LOUD, RecordType.TRAFFIC, NOW_MS, NOW_MS + 200 * GRID_MS)
    assert all(network.expected_points(LOUD, RecordType.TRAFFIC, point[0], point[0] + 1) == [point] for point in points)


def test_values_are_integers_with_a_null_and_a_fraction_now_and_then(network: SimulatedNetwork) -> None:
    points = network.expected_points(LOUD, RecordType.TRAFFIC, NOW_MS, NOW_MS + 610 * GRID_MS)
    kinds = [type(value) for point in points for value in point[1:]]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {int: 1200, float: 10, type(None): 10}
    assert all(value is None or 0 <= value < 10_000_000_000 for point in points for value in point[1:])
    assert len({point[1:] for point in points}) > 600


def test_record_types_interfaces_and_seeds_have_values_of_their_own() -> None:
    series = [
        SimulatedNetwork([(LOUD, 100), (QUIET, 100)], seed=seed).expected_points(name, record_type, NOW_MS, NOW_MS + 10**7)
        for seed in (0, 1)
        for name in (LOUD, QUIET)
        for record_type in RecordType
    ]
    assert len({str(points) for points in series}) == 12


def test_an_interface_without_speed_has_no_points_until_it_wakes(network: SimulatedNetwork) -> None:
    window = (QUIET, RecordType.ERRORS, NOW_MS, NOW_MS + 4 * GRID_MS)
    assert network.silent(QUIET)
    assert network.expected_points(*window) == []
    network.wakes_ms = {QUIET: NOW_MS + GRID_MS}
    assert not network.silent(QUIET)
    assert len(network.expected_points(*window)) == 3
    network.sleeps_ms = {QUIET: NOW_MS + 2 * GRID_MS}
    assert [point[0] for point in network.expected_points(*window)] == [NOW_MS + GRID_MS]


def test_every_way_of_having_no_points_occurs() -> None:
    network = SimulatedNetwork.synthetic(100)
    assert {network.nothing(name, record_type) for name in network.resources for record_type in RecordType} == set(Nothing)


def test_an_interface_has_netbeams_keys_some_of_them_null_or_empty() -> None:
    network = SimulatedNetwork.synthetic(100)
    listing = network.listing(NOW_MS)
    assert all(list(entry) == KEYS for entry in listing)
    assert all(isinstance(entry["ifIndex"], str) and isinstance(entry["tags"], list) for entry in listing)
    assert all(type(entry[key]) is bool for entry in listing for key in ("lhcone", "oscars", "intercloud", "intracloud"))
    values = [value for entry in listing for value in entry.values()]
    assert None in values
    assert "" in values
    assert [] in values
    assert any(value == "1/1/1" for value in values)


def test_a_synthetic_network_has_the_shape_of_esnet() -> None:
    network = SimulatedNetwork.synthetic(2000)
    assert len(network.resources) == 2000
    assert not any(resource_fault(name) for name in network.resources)
    assert 0.42 < sum(map(network.silent, network.resources)) / 2000 < 0.46
    assert len({name.split("/")[1] for name in network.resources}) == 29
    assert any("%2D" in name for name in network.resources)
    assert len({name.lower() for name in network.resources}) < 2000


@pytest.mark.parametrize(("count", "devices"), [(1, 1), (3, 3), (12, 5)])
def test_a_small_network_is_spread_over_devices(count: int, devices: int) -> None:
    network = SimulatedNetwork.synthetic(count)
    assert len(network.resources) == count
    assert len({name.split("/")[1] for name in network.resources}) == devices


def test_a_csv_file_gives_names_and_speeds(tmp_path: Path) -> None:
    path = tmp_path / "interfaces.csv"
    path.write_text(f"resource,speed_mbps\n{LOUD},100\n{QUIET},\ndevices/a/interfaces/b,1\n")
    assert SimulatedNetwork.from_csv(path, limit=2).speeds == {LOUD: 100, QUIET: None}


def test_the_encoded_listing_is_the_listing_through_all_changes() -> None:
    network = SimulatedNetwork.synthetic(60)

    def same(now_ms: int) -> bytes:
        encoded = network.encoded_listing(now_ms)
        assert json.loads(encoded) == network.listing(now_ms)
        return encoded

    first = same(NOW_MS)
    assert network.encoded_listing(NOW_MS + 10**9) is first
    network.absent = frozenset(network.resources[:2])
    assert same(NOW_MS) != first
    network.absent = frozenset()
    network.rotation_ms = 60_000
    assert len({same(NOW_MS + turn * 60_000) for turn in range(20)}) > 10


def test_interfaces_come_and_go_one_in_twenty_at_a_time() -> None:
    network = SimulatedNetwork.synthetic(200)
    network.rotation_ms = 60_000
    away = [{name for name in network.resources if not network.present(name, NOW_MS + turn * 60_000)} for turn in range(20)]
    assert set.union(*away) == set(network.resources)
    assert sum(map(len, away)) == 200
