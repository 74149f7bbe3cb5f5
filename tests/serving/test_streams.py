"""Live streams: what a chunk is made of, when it is due, and what becomes of one that nobody took."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import unistep
from tolerance import rounding
from unistep.serving.pool import Served
from unistep.serving.streams import LiveStream, step_together

ATOL = rounding(10_000, 4.0)
"""Sums of a few layers of some hundred terms each, of values of a few units."""


@pytest.fixture(scope="module")
def world(models) -> Served:
    return Served(name="racing", generator=unistep.load(models[3]), model_hash="")


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """A clock that stands still until a test moves it."""
    now = SimpleNamespace(time=100.0)
    now.monotonic = lambda: now.time
    monkeypatch.setattr("unistep.serving.streams.time", now)
    return now


def begun(world: Served, seed: int = 0, seconds: float = 0.04, ahead: int = 0, **more: Any) -> LiveStream:
    session = world.generator.session()
    return LiveStream(
        served=world, session=session, plan_key="plan", state=session.start([seed]), seconds=seconds, ahead=ahead,
        wake=lambda: None, **more,
    )  # fmt: skip


def alone(world: Served, seed: int, actions: list[Any]) -> list[torch.Tensor]:
    """The chunks of a stream under known actions, from the model itself."""
    session = world.generator.session()
    state, found = session.start([seed]), []
    for action in actions:
        state, signal = session.step(state, {} if action is None else {"action": action})
        found.append(signal[0])
    return found


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=ATOL, rtol=0)


def test_streams_of_one_batch_are_what_each_is_alone(world):
    actions = {1: "left", 2: None, 3: torch.tensor([0.5, 1.0]), 4: "gas"}
    streams = {seed: begun(world, seed) for seed in actions}
    for seed, action in actions.items():
        if action is not None:
            streams[seed].interact({"action": action})
    chunks: dict[int, list[torch.Tensor]] = {seed: [] for seed in actions}
    for wanted in ([1, 2, 3, 4], [4, 2], [2, 1, 3, 4], [3, 1]):  # they join and leave the batch as they like
        step_together([streams[seed] for seed in wanted])
        for seed in wanted:
            chunk = streams[seed].take()
            assert chunk is not None
            chunks[seed].append(chunk.signal)
    for seed, action in actions.items():
        assert len(chunks[seed]) == 3
        for found, expected in zip(chunks[seed], alone(world, seed, [action] * 3), strict=True):
            assert same(found, expected), seed


def test_the_newest_input_counts_and_numbers_what_reflects_it(world):
    stream = begun(world, 5)
    step_together([stream])
    first = stream.take()
    stream.interact({"action": "left"})
    stream.interact({"action": "right"})
    step_together([stream])
    second = stream.take()
    assert (first.interaction, second.interaction) == (0, 2)
    assert (first.number, second.number) == (0, 1)
    assert same(second.signal, alone(world, 5, [None, "right"])[1])


def test_an_input_takes_back_the_chunk_that_nobody_took(world):
    stream = begun(world, 5)
    step_together([stream])
    stream.take()
    step_together([stream])
    assert not stream.ready
    stream.interact({"action": "right"})
    assert stream.dropped == 1
    assert stream.ready
    assert stream.take() is None
    step_together([stream])
    chunk = stream.take()
    assert (chunk.number, chunk.interaction) == (1, 1)
    expected = alone(world, 5, [None, "right", "right"])
    assert same(chunk.signal, expected[1])
    step_together([stream])
    assert same(stream.take().signal, expected[2])
    assert stream.dropped == 1


def test_many_inputs_make_a_chunk_that_nobody_took_anew_only_so_often(world, clock):
    stream = begun(world, seconds=1.0)
    step_together([stream])
    stream.take()
    clock.time = 101.0
    step_together([stream])
    for _ in range(1000):
        stream.interact({"action": "left"})
        assert stream.due == 101.25
    clock.time = 101.25
    step_together([stream])
    assert stream.dropped == 1
    assert stream.take().interaction == 1000


def test_nothing_waits_behind_a_chunk_that_waits(world, clock):
    stream = begun(world)
    assert stream.ready
    step_together([stream])
    clock.time += 1000.0  # a client that is slow
    assert not stream.ready
    assert stream.take().number == 0
    assert stream.take() is None
    assert stream.ready


def test_null_leaves_a_field_to_the_seed_again(world):
    stream = begun(world, 9, condition={"action": "left"})
    step_together([stream])
    stream.take()
    stream.interact({"action": None})
    step_together([stream])
    assert same(stream.take().signal, alone(world, 9, ["left", None])[1])


def test_a_script_holds_for_its_chunks_whoever_takes_them_when(world):
    stream = begun(world, 3, script=[{"action": "left"}, {"action": "gas"}])
    chunks = []
    for _ in range(4):
        step_together([stream])
        chunks.append(stream.take().signal)
    expected = alone(world, 3, ["left", "gas", "gas", "gas"])
    assert all(same(a, b) for a, b in zip(chunks, expected, strict=True))


def test_a_game_has_a_chunk_each_period_and_makes_up_for_nothing(world, clock):
    stream = begun(world, seconds=0.25)
    assert stream.due <= clock.time
    step_together([stream])
    assert not stream.take().late
    assert stream.due == 100.25
    clock.time = 100.25
    step_together([stream])
    assert not stream.take().late
    assert stream.due == 100.5
    clock.time = 103.0  # the network was busy: what is missed is missed
    step_together([stream])
    stream.take()
    assert stream.due == 103.25


def test_what_has_no_time_to_be_kept_is_never_late(world, clock):
    stream = begun(world, seconds=0.0)
    for _ in range(3):
        clock.time += 5.0
        state, _, number = stream.snapshot()
        assert not stream.offer(state, torch.zeros(1), clock.time - 1.0, (state, {}, number)).late
        stream.take()


def test_a_chunk_that_takes_longer_than_it_lasts_is_late(world, clock, monkeypatch):
    stream = begun(world, seconds=0.25)
    step_together([stream])
    stream.take()
    clock.time = 100.25
    state, condition, number = stream.snapshot()
    del condition
    clock.time += 0.25 + 0.0625
    assert stream.offer(state, torch.zeros(1), 100.25, (state, {}, number)).late


def test_a_sound_is_made_ahead_and_later_for_good_once_it_was_late(world, clock):
    stream = begun(world, seconds=0.5, ahead=2)
    for number in range(3):
        assert stream.due <= clock.time  # the first, and two that are made before they are played
        step_together([stream])
        assert stream.take().number == number
    assert stream.due == 100.5
    clock.time = 101.5
    step_together([stream])
    assert not stream.take().late  # played from 101.5 on
    clock.time = 103.0
    step_together([stream])
    assert stream.take().late  # it was to be played from 102 on
    assert stream.due == 102.5  # a second later than before


def test_a_stream_that_failed_or_was_left_is_never_ready(world):
    failed, left = begun(world), begun(world)
    failed.fail(ValueError("a mistake"))
    left.closed = True
    assert not failed.ready
    assert not left.ready
