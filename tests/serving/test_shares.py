"""Places that clients share."""

from __future__ import annotations

from itertools import count

import pytest

from unistep.serving.shares import Shares


def filled(shares: Shares, client: str, most: float) -> int:
    """Take places for a client until there is no room for another; how many it holds then."""
    for _ in count():
        if not shares.has_room(client, 1, most):
            return shares.held(client)
        shares.take(client)
    raise AssertionError


def test_whoever_is_alone_may_have_all_places():
    shares = Shares()
    assert filled(shares, "a", 10) == 10
    shares.give("a", 10)
    assert filled(shares, "b", 10) == 10


@pytest.mark.parametrize("clients", [2, 3])
def test_each_client_has_its_part_whoever_came_first(clients):
    shares = Shares()
    assert filled(shares, "greedy", 30) == 30
    others = [f"honest {number}" for number in range(clients - 1)]
    for one in others:
        assert filled(shares, one, 30) >= 30 // clients
        assert not shares.has_room("greedy", 1, 30)
    assert shares.total <= 60
    shares.give("greedy", 30)
    for one in others:
        shares.give(one, shares.held(one) - 1)
    assert filled(shares, "greedy", 30) == 30 // clients


def test_strangers_without_end_have_twice_the_places_and_no_more():
    shares = Shares()
    for number in range(1000):
        if shares.has_room(str(number), 1, 10):
            shares.take(str(number))
    assert shares.total == 20


def test_what_is_larger_than_all_places_comes_in_by_itself():
    shares = Shares()
    assert shares.has_room("a", 5, 2)
    shares.take("a", 5)
    assert not shares.has_room("a", 1, 2)
    assert not shares.has_room("b", 1, 2)
    shares.give("a", 5)
    assert shares.clients == shares.total == 0
