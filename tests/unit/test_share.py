"""Shares of the interfaces: disjoint, and together whole."""

import zlib

import pytest

from collector.core.share import Share
from tests.fakes import resource

NAMES = [resource(number) for number in range(1, 101)]


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_shares_are_disjoint_and_together_whole(count: int) -> None:
    shares = [Share(number, count) for number in range(1, count + 1)]
    assert [sum(share.holds(name) for share in shares) for name in NAMES] == [1] * len(NAMES)


def test_a_name_s_share_is_its_crc_32_modulo_their_number() -> None:
    assert all(Share(zlib.crc32(name.encode()) % 3 + 1, 3).holds(name) for name in NAMES)


def test_others_are_all_but_this_one() -> None:
    assert [str(share) for share in Share(2, 3).others()] == ["1/3", "3/3"]
    assert Share().others() == []
