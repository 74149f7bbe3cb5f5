"""The engine: what goes together, what goes first, and what never goes at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import unistep
from running_server import GRACE, until
from tolerance import rounding
from unistep.generation.requests import CancelledError, Plan, plan_of
from unistep.serving.engine import Engine
from unistep.serving.jobs import BusyError, CallJob, LateError, SampleJob, ShareError, kind_of
from unistep.serving.metrics import Metrics
from unistep.serving.pool import Served
from unistep.serving.settings import Limits
from unistep.serving.streams import LiveStream

ATOL = rounding(10_000, 4.0)
"""Sums of a few layers of some hundred terms each, of values of a few units."""


@pytest.fixture(scope="module")
def pictures(models) -> Served:
    return Served(name="fashion", generator=unistep.load(models[0]), model_hash="")


@pytest.fixture(scope="module")
def sounds(models) -> Served:
    return Served(name="phrases", generator=unistep.load(models[2]), model_hash="")


@dataclass
class Stage:
    """An engine whose thread waits at a gate, so that a test decides what it finds in its queue."""

    engine: Engine
    metrics: Metrics
    served: Served
    order: list[Any] = field(default_factory=list)

    def job(self, seed: int = 0, steps: int = 1, seconds: float = GRACE, label: int = 3) -> SampleJob:
        generator = self.served.generator
        plan, given = plan_of(generator, steps, None, None, None, {"label": label})
        parsed = {name: generator.config.fields[name].parse(name, value, 1) for name, value in given.items()}
        condition = generator.completed(parsed, [seed])
        deadline = time.monotonic() + seconds
        return SampleJob(served=self.served, deadline=deadline, seed=seed, plan=plan, condition=condition)

    def call(self, what: Callable[[Callable[[], bool]], torch.Tensor], seconds: float = GRACE) -> CallJob:
        deadline = time.monotonic() + seconds
        return CallJob(served=self.served, deadline=deadline, what="test", steps=1, items=1, call=what)

    def noted(self, name: Any) -> CallJob:
        return self.call(lambda stop: self.order.append(name) or torch.zeros(1))

    def hold(self) -> Callable[[], None]:
        """Keep the thread busy until the result is called."""
        entered, gate = threading.Event(), threading.Event()

        def wait(stop: Callable[[], bool]) -> torch.Tensor:
            entered.set()
            assert gate.wait(GRACE)
            return torch.zeros(1)

        self.engine.submit(self.call(wait))
        assert entered.wait(GRACE)
        return gate.set

    def stream(self, sounds: Served, seed: int = 0, seconds: float = 0.0, **condition: Any) -> LiveStream:
        """A stream whose client takes every chunk at once."""
        session = sounds.generator.session()
        made: LiveStream = LiveStream(
            served=sounds, session=session, plan_key="plan", state=session.start([seed]), seconds=seconds, ahead=0,
            wake=lambda: self.order.append((seed, made.take())), condition=condition,
        )  # fmt: skip
        return made


Make = Callable[..., Stage]


@pytest.fixture
def stage(pictures) -> Iterator[Make]:
    stages: list[Stage] = []

    def make(**limits: Any) -> Stage:
        pictures.latencies.clear()
        metrics = Metrics()
        found = Stage(Engine(Limits(**limits), metrics, threads=1), metrics, pictures)
        stages.append(found)
        found.engine.start()
        return found

    yield make
    for one in stages:
        one.engine.close()


def test_what_agrees_goes_together(stage):
    here = stage()
    release = here.hold()
    jobs = [here.job(seed, steps) for seed, steps in enumerate([1, 2, 1, 1, 2])]
    here.engine.submit_all(jobs)
    assert here.engine.depth == 5
    release()
    assert [job.future.result(GRACE).batch for job in jobs] == [3, 2, 3, 3, 2]
    assert here.engine.depth == 0


def test_a_batch_has_a_largest_size(stage):
    here = stage(batch=2)
    release = here.hold()
    jobs = [here.job(seed) for seed in range(5)]
    here.engine.submit_all(jobs)
    release()
    assert [job.future.result(GRACE).batch for job in jobs] == [2, 2, 2, 2, 1]


def test_a_sample_is_the_same_alone_and_in_any_batch(stage):
    here = stage()
    alone = {seed: here.job(seed, steps=2, label=seed % 10) for seed in (5, 6, 7)}
    for job in alone.values():
        here.engine.submit(job)
        job.future.result(GRACE)
    release = here.hold()
    together = {seed: here.job(seed, steps=2, label=seed % 10) for seed in (7, 1, 5, 2, 6)}
    here.engine.submit_all(list(together.values()))
    release()
    for seed, job in alone.items():
        torch.testing.assert_close(
            together[seed].future.result(GRACE).signals, job.future.result().signals, atol=ATOL, rtol=0
        )
    direct = here.served.generator.sample(1, seed=6, steps=2, label=6)
    torch.testing.assert_close(alone[6].future.result().signals, direct, atol=ATOL, rtol=0)


def test_a_full_queue_takes_nothing_more_and_no_half_of_a_request(stage):
    here = stage(queue=3)
    release = here.hold()
    first = [here.job(seed) for seed in range(2)]
    here.engine.submit_all(first)
    with pytest.raises(BusyError, match="2 items wait already") as busy:
        here.engine.submit_all([here.job(seed) for seed in (2, 3)])
    assert busy.value.seconds >= 1
    assert here.engine.depth == 2
    here.engine.submit(here.job(4))
    release()
    assert [job.future.result(GRACE).batch for job in first] == [3, 3]
    assert here.metrics.registry.get_sample_value("unistep_refused_total", {"reason": "queue"}) == 1


def test_one_client_cannot_keep_another_waiting(stage):
    here = stage(queue=8)
    release = here.hold()
    greedy = [here.noted(("greedy", number)) for number in range(8)]
    for job in greedy:
        job.client = "greedy"
        here.engine.submit(job)
    more = here.noted("more")
    more.client = "greedy"
    with pytest.raises(BusyError, match="8 items wait already") as full:
        here.engine.submit(more)
    assert not isinstance(full.value, ShareError)
    honest = here.noted("honest")
    honest.client = "honest"
    here.engine.submit(honest)  # though the other one has all places
    with pytest.raises(ShareError, match="8 of your requests are here already"):
        here.engine.submit(more)
    release()
    greedy[-1].future.result(GRACE)
    assert here.order.index("honest") <= 1
    assert here.metrics.registry.get_sample_value("unistep_refused_total", {"reason": "share"}) == 1


def test_whoever_comes_later_is_not_refused_for_what_others_have_waiting(stage):
    here = stage(queue=100)
    release = here.hold()
    first = here.job(0)
    here.served.latency(first.kind).observe(1, 10.0)  # each of them takes ten seconds
    for number in range(8):
        job = here.job(number, steps=1, seconds=1000.0)
        job.client = "greedy"
        here.engine.submit(job)
    late = here.job(9, seconds=50.0)
    late.client = "greedy"
    with pytest.raises(BusyError, match="too busy"):
        here.engine.submit(late)
    honest = here.job(9, seconds=50.0)
    honest.client = "honest"
    here.engine.submit(honest)
    release()
    assert honest.future.result(GRACE)


def test_one_request_may_be_larger_than_the_queue(stage):
    here = stage(queue=1)
    jobs = [here.job(seed) for seed in range(3)]
    here.engine.submit_all(jobs)
    assert all(job.future.result(GRACE) for job in jobs)


def test_what_is_late_is_never_begun(stage):
    here = stage()
    release = here.hold()
    late, well = here.noted("late"), here.noted("well")
    late.deadline = time.monotonic()
    here.engine.submit_all([well])
    here.engine._queue.add([late])  # it was in time when it came
    release()
    with pytest.raises(LateError, match="not done within"):
        late.future.result(GRACE)
    well.future.result(GRACE)
    assert here.order == ["well"]
    assert here.metrics.registry.get_sample_value("unistep_deadline_misses_total") == 1


def test_what_cannot_be_in_time_is_refused_at_once(stage):
    here = stage()
    release = here.hold()
    here.engine.submit(here.job(0))
    job = here.job(1, seconds=5.0)
    here.served.latency(job.kind).observe(1, 100.0)
    with pytest.raises(BusyError, match="too busy to answer in time"):
        here.engine.submit(job)
    assert here.engine.waiting_seconds() >= 100
    release()


def test_one_slow_batch_does_not_refuse_all_that_follow(stage):
    here = stage()
    job = here.job(1, seconds=50.0)
    here.served.latency(job.kind).observe(1, 1000.0)
    here.engine.submit(job)
    assert job.future.result(GRACE).batch == 1
    assert here.served.latency(job.kind).predict(1) < 1000


def test_work_stops_once_its_deadline_is_over(stage):
    here = stage()

    def endless(stop: Callable[[], bool]) -> torch.Tensor:
        while not stop():
            time.sleep(0.001)
        raise CancelledError("stopped")

    job = here.call(endless, seconds=0.05)
    here.engine.submit(job)
    with pytest.raises(LateError):
        job.future.result(GRACE)
    following = here.noted("following")
    here.engine.submit(following)
    following.future.result(GRACE)


def test_what_its_client_no_longer_wants_is_skipped_or_stopped(stage):
    here = stage()
    release = here.hold()
    jobs = [here.noted(name) for name in "abc"]
    here.engine.submit_all(jobs)
    assert jobs[1].future.cancel()
    release()
    jobs[2].future.result(GRACE)
    assert here.order == ["a", "c"]
    begun = threading.Event()

    def endless(stop: Callable[[], bool]) -> torch.Tensor:
        begun.set()
        while not stop():
            time.sleep(0.001)
        raise CancelledError("stopped")

    job = here.call(endless)
    here.engine.submit(job)
    assert begun.wait(GRACE)
    job.future.cancel()
    following = here.noted("following")
    here.engine.submit(following)
    following.future.result(GRACE)
    assert here.metrics.registry.get_sample_value("unistep_cancelled_total") == 2


@pytest.mark.parametrize("error", [ValueError("a mistake"), RuntimeError("a defect"), MemoryError()])
def test_what_fails_hurts_nobody_else(stage, error, caplog):
    here = stage()

    def broken(stop: Callable[[], bool]) -> torch.Tensor:
        raise error

    release = here.hold()
    failing, others = here.call(broken), [here.job(seed) for seed in (0, 1)]
    here.engine.submit_all([others[0], failing, others[1]])
    release()
    with pytest.raises(type(error)) as found:
        failing.future.result(GRACE)
    assert found.value is error
    assert [job.future.result(GRACE).batch for job in others] == [2, 2]
    assert bool(caplog.records) is not isinstance(error, ValueError)  # a person's mistake is no line of the log


def test_streams_go_before_requests(stage, sounds):
    here = stage()
    release = here.hold()
    jobs = [here.noted(name) for name in "ab"]
    stream = here.stream(sounds)
    here.engine.submit_all(jobs)
    here.engine.open(stream)
    release()
    jobs[1].future.result(GRACE)
    here.engine.end(stream)
    assert here.order[0][0] == 0  # the stream's seed
    assert here.order[0][1].number == 0


def test_what_is_made_as_fast_as_it_can_be_makes_no_batch_smaller(stage, sounds):
    here = stage()
    jobs = [here.job(seed) for seed in range(4)]
    here.served.latency(jobs[0].kind).observe(1, 0.01)
    release = here.hold()
    for job in jobs:
        job.submitted -= 10.0
    streams = [here.stream(sounds, seed) for seed in (100, 200)]
    streams[1].plan_key = "another"  # so that one of the two is due at any time
    here.engine.submit_all(jobs)
    for one in streams:
        here.engine.open(one)
    release()
    assert [job.future.result(GRACE).batch for job in jobs] == [4] * 4


def test_a_batch_is_no_longer_than_until_the_next_chunk_also_of_one_that_was_not_taken_yet(stage, sounds):
    here = stage(batch_seconds=1000.0)
    stream = here.stream(sounds, seconds=25.0)
    stream.wake = lambda: None  # its client is about to take the first chunk
    here.engine.open(stream)
    until(lambda: not stream.ready)
    release = here.hold()
    jobs = [here.job(seed) for seed in range(4)]
    here.served.latency(jobs[0].kind).observe(1, 10.0)
    here.engine.submit_all(jobs)
    release()
    assert jobs[0].future.result(GRACE).batch == 2


def test_what_does_not_fit_before_a_chunk_waits_for_it(pictures, sounds, monkeypatch):
    monkeypatch.setattr("unistep.serving.engine.PATIENCE", GRACE)
    metrics = Metrics()
    here = Stage(Engine(Limits(), metrics, threads=1), metrics, pictures)  # whose thread does not run
    pictures.latencies.clear()
    stream = here.stream(sounds, seconds=0.5)
    stream._start, stream._number = time.monotonic(), 1
    here.engine.open(stream)
    job = here.job()
    here.served.latency(job.kind).observe(1, 10.0)
    here.engine.submit(job)
    assert here.engine._next() == ([stream], [])
    here.engine.end(stream)
    assert here.engine._next() == ([], [job])


def test_a_client_that_takes_nothing_makes_no_batch_smaller(stage, sounds):
    here = stage()
    stream = here.stream(sounds, seconds=0.001)
    stream.wake = lambda: None
    here.engine.open(stream)
    until(lambda: not stream.ready and stream.due < time.monotonic())
    release = here.hold()
    jobs = [here.job(seed) for seed in range(4)]
    here.served.latency(jobs[0].kind).observe(1, 0.01)
    here.engine.submit_all(jobs)
    release()
    assert [job.future.result(GRACE).batch for job in jobs] == [4] * 4


def test_a_stream_whose_next_chunk_is_ages_away_stops_nothing(stage, sounds):
    here = stage()
    stream = here.stream(sounds, seconds=1e300)
    here.engine.open(stream)
    until(lambda: here.order)
    here.engine.nudge()
    job = here.noted("following")
    here.engine.submit(job)
    job.future.result(GRACE)
    assert here.engine.alive


def test_there_is_always_room_for_the_servers_own_work(stage):
    here = stage(queue=1)
    release = here.hold()
    first, second, own = here.noted("first"), here.noted("second"), here.noted("own")
    here.engine.submit(first)
    with pytest.raises(BusyError):
        here.engine.submit(second)
    here.engine.submit_all([own], own=True)
    release()
    own.future.result(GRACE)
    assert here.order == ["first", "own"]


def test_neither_streams_nor_requests_starve(stage, sounds):
    here = stage(batch=1)
    release = here.hold()
    jobs = [here.noted(name) for name in range(6)]
    for job in jobs:
        job.submitted -= 10.0  # they have waited for long
    streams = [here.stream(sounds, seed) for seed in (100, 200)]  # due at any time
    here.engine.submit_all(jobs)
    for stream in streams:
        here.engine.open(stream)
    release()
    jobs[-1].future.result(GRACE)
    made = len([one for one in here.order if not isinstance(one, int)])
    assert made >= len(jobs) - 1  # a chunk between any two of them
    until(lambda: {100, 200} <= {one[0] for one in here.order if not isinstance(one, int)})


def test_due_streams_go_together_and_their_states_never_mix(stage, sounds):
    here = stage()
    given = {5: {"pitch": "C4"}, 6: {"pitch": "E4", "instrument": "harp"}, 7: {}}
    release = here.hold()
    streams = [here.stream(sounds, seed, **condition) for seed, condition in given.items()]
    for stream in streams:
        here.engine.open(stream)
    assert sounds.streams == here.engine.streams == 3
    release()
    until(lambda: min(len(chunks_of(here, seed)) for seed in given) >= 4)
    for stream in streams:
        here.engine.end(stream)
    assert sounds.streams == 0
    session = sounds.generator.session()
    for seed, condition in given.items():
        state, chunks = session.start([seed]), chunks_of(here, seed)
        for number in range(4):
            state, alone = session.step(state, condition)
            torch.testing.assert_close(chunks[number].signal, alone[0], atol=ATOL, rtol=0)
    assert here.metrics.registry.get_sample_value("unistep_batch_size_bucket", {"model": "phrases", "le": "1.0"}) == 0


def chunks_of(here: Stage, seed: int) -> list[Any]:
    return [one[1] for one in list(here.order) if one[0] == seed]


def test_a_mistake_of_one_stream_does_not_end_the_others(stage, sounds):
    here = stage()
    release = here.hold()
    well, broken = here.stream(sounds, 1), here.stream(sounds, 2, pitch="no such note")
    here.engine.open(well)
    here.engine.open(broken)
    release()
    until(lambda: broken.error is not None and len(chunks_of(here, 1)) > 2)
    assert isinstance(broken.error, ValueError)
    assert "no such note" in str(broken.error)
    assert here.engine.streams == 1
    assert well.error is None
    here.engine.end(well)


def test_a_stream_ends_whose_event_loop_has_ended(stage, sounds):
    import asyncio

    from unistep.serving.service import _in_loop

    here = stage()
    loop = asyncio.new_event_loop()
    loop.close()
    session = sounds.generator.session()
    stream = LiveStream(
        served=sounds, session=session, plan_key="plan", state=session.start([0]), seconds=0.0, ahead=0,
        wake=lambda: _in_loop(loop, lambda: None),
    )  # fmt: skip
    here.engine.open(stream)
    until(lambda: stream.take() is not None)
    here.engine.end(stream)
    job = here.noted("after")
    here.engine.submit(job)
    job.future.result(GRACE)


def test_what_was_asked_for_is_still_answered_when_the_engine_stops(stage, sounds):
    here = stage()
    release = here.hold()
    jobs = [here.job(seed) for seed in range(3)]
    here.engine.submit_all(jobs)
    stream = here.stream(sounds)
    here.engine.open(stream)
    closing = threading.Thread(target=here.engine.close, args=(GRACE,))
    closing.start()
    until(lambda: here.engine._draining)
    with pytest.raises(BusyError, match="stopping"):
        here.engine.submit(here.job(9))
    with pytest.raises(BusyError, match="stopping"):
        here.engine.open(here.stream(sounds, 9))
    release()
    closing.join(GRACE)
    assert [job.future.result(GRACE).batch for job in jobs] == [3, 3, 3]
    assert isinstance(stream.error, BusyError)
    assert sounds.streams == 0
    assert not here.engine.alive


def test_what_cannot_be_answered_any_more_is_refused(stage):
    here = stage()
    release = here.hold()
    job = here.job(1)
    here.engine.submit(job)
    closing = threading.Thread(target=here.engine.close)
    closing.start()
    with pytest.raises(BusyError, match="stopping"):
        job.future.result(GRACE)
    release()
    closing.join(GRACE)
    assert not here.engine.alive


def test_what_is_done_for_a_client_that_left_meanwhile_is_counted_as_that(stage):
    here = stage()
    begun, gate = threading.Event(), threading.Event()

    def work(stop: Callable[[], bool]) -> torch.Tensor:
        begun.set()
        assert gate.wait(GRACE)
        return torch.zeros(1)

    job = here.call(work, seconds=0.01)
    here.engine.submit(job)
    assert begun.wait(GRACE)
    job.future.cancel()
    time.sleep(0.02)
    gate.set()
    following = here.noted("following")
    here.engine.submit(following)
    following.future.result(GRACE)
    assert here.metrics.registry.get_sample_value("unistep_cancelled_total") == 1
    assert here.metrics.registry.get_sample_value("unistep_deadline_misses_total") == 0


def test_any_weight_of_guidance_takes_equally_long():
    """Else nothing would be known of how long each new one takes, and what is known would grow without end."""
    grid = torch.ones(2)
    plain, guided, more = (kind_of(Plan(grid=grid, solver=None, guidance=weight)) for weight in (1.0, 2.0, 2.5))
    assert guided == more
    assert guided != plain
    assert guided != kind_of(Plan(grid=torch.ones(3), solver=None, guidance=2.0))
