"""The line by which the length of batches is foretold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unistep.serving.latency import Latency


def seen(*observations: tuple[int, float]) -> Latency:
    latency = Latency()
    for items, seconds in observations:
        latency.observe(items, seconds)
    return latency


def test_a_line_is_found():
    latency = seen(*((n, 0.01 + 0.002 * n) for n in (1, 2, 4, 8, 1, 4)))
    assert latency.predict(32) == pytest.approx(0.01 + 0.002 * 32)
    assert latency.largest(0.0301, 32) == 10
    assert latency.largest(0.0005, 32) == 1
    assert latency.largest(10.0, 32) == 32


def test_nothing_is_foretold_before_anything_was_seen():
    latency = Latency()
    assert not latency.known
    assert latency.predict(8) == 0
    assert latency.largest(0.0, 8) == 8


def test_batches_of_one_size_are_taken_as_in_proportion():
    latency = seen((4, 0.4), (4, 0.4))
    assert latency.known
    assert latency.predict(4) == pytest.approx(0.4)
    assert latency.predict(8) == pytest.approx(0.8)


def test_the_newest_count_most():
    latency = seen(*[(1, 1.0)] * 50, *[(1, 0.1)] * 100)
    assert latency.predict(1) == pytest.approx(0.1, rel=0.1)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 100)), min_size=1, max_size=30))
def test_no_batch_is_foretold_to_end_before_it_begins_or_sooner_for_more_items(observations):
    latency = seen(*observations)
    times = [latency.predict(n) for n in range(1, 65)]
    assert times[0] >= 0
    assert times == sorted(times)
    assert 1 <= latency.largest(0.1, 32) <= 32
