"""What a server does beside answering: models that come and go, and a stop at any time."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loops import finish
from running_server import GRACE, running, until
from unistep.serving.asked import Asked
from unistep.serving.caller import Caller
from unistep.serving.jobs import BusyError
from unistep.serving.loading import BrokenModelError
from unistep.serving.service import Service
from unistep.serving.settings import Limits, Settings


@pytest.fixture
def service_of(models) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def make(**settings: Any) -> Service:
        made.append(Service(Settings(**{"models": models, "threads": 1, "backend": "eager", **settings})))
        made[-1].engine.start()
        return made[-1]

    yield make
    for one in made:
        one.engine.close()
        one.close()


class Gate:
    """Loads of one model wait here until the gate is open."""

    def __init__(self, service: Service, name: str, error: Exception | None = None) -> None:
        self.open, self.loads = threading.Event(), 0
        self._load, self._name, self._error = service.pool.load, name, error
        service.pool.load = self

    def __call__(self, name: str) -> Any:
        if name == self._name:
            self.loads += 1
            assert self.open.wait(GRACE)
            if self._error is not None:
                raise self._error
        return self._load(name)


def get(service: Service, name: str) -> Any:
    return service.loader.ask(name).result(GRACE)


def test_a_model_that_is_loaded_keeps_nobody_else_waiting(service_of):
    service = service_of()
    gate = Gate(service, "notes")
    get(service, "fashion")

    async def both() -> None:
        waits = [asyncio.create_task(service.sample(Asked(model="notes", seed=seed))) for seed in (1, 2)]
        while not gate.loads:
            await asyncio.sleep(0.001)
        for seed in range(3):
            (item,) = await service.sample(Asked(model="fashion", seed=seed))
            assert item.seed == seed
        assert not any(task.done() for task in waits)
        gate.open.set()
        found = await asyncio.gather(*waits)
        assert [items[0].seed for items in found] == [1, 2]

    finish(both())
    assert gate.loads == 1


def test_a_load_goes_on_though_clients_leave_or_cannot_wait(service_of):
    service = service_of()
    gate = Gate(service, "notes")

    async def three() -> None:
        leaving, staying = (asyncio.create_task(service.sample(Asked(model="notes", seed=seed))) for seed in (1, 2))
        while service.loader._waiting < 2:
            await asyncio.sleep(0.001)
        with pytest.raises(BusyError, match="notes is being loaded") as busy:
            await service.sample(Asked(model="notes"), deadline=time.monotonic() + 0.01)
        assert busy.value.seconds >= 1
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gate.open.set()
        (item,) = await staying
        assert item.seed == 2

    finish(three())
    assert gate.loads == 1


@pytest.mark.parametrize("error", [ValueError("weights of another model"), MemoryError()])
def test_a_model_that_cannot_be_loaded_is_the_error_of_those_who_asked_for_it(service_of, error, caplog, monkeypatch):
    service = service_of()
    service.loader.begin([], lambda failure: None)
    until(service.loader._began.is_set)
    gate = Gate(service, "notes", error)

    async def several() -> None:
        waits = [asyncio.create_task(service.sample(Asked(model="notes"))) for _ in range(2)]
        while service.loader._waiting < 2:
            await asyncio.sleep(0.001)
        other = asyncio.create_task(service.sample(Asked(model="fashion", seed=3)))  # is loaded after it
        gate.open.set()
        for task in waits:
            with pytest.raises(BrokenModelError, match="notes cannot be loaded"):
                await task
        assert (await other)[0].seed == 3
        with pytest.raises(BrokenModelError):
            await service.sample(Asked(model="notes"))

    finish(several())
    assert gate.loads == 1  # it is not tried at each request
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    monkeypatch.setattr("unistep.serving.loading.AGAIN", 0.0)
    gate._error = None
    service.loader._broken.clear()
    assert get(service, "notes").name == "notes"


def test_requests_for_models_leave_room_for_others(service_of):
    service = service_of(limits=Limits(queue=8))
    gate = Gate(service, "notes")
    get(service, "fashion")
    inside = []

    class Aside:
        def __enter__(self) -> None:
            inside.append("leaves")

        def __exit__(self, *_: object) -> None:
            inside.append("comes back")

    async def many() -> None:
        waits = [asyncio.create_task(service.sample(Asked(model="notes", caller=Caller(aside=Aside)))) for _ in "ab"]
        while service.loader._waiting < 2:
            await asyncio.sleep(0.001)
        assert inside == ["leaves", "leaves"]
        with pytest.raises(BusyError, match="2 requests wait for models"):
            await service.sample(Asked(model="notes"))
        await service.sample(Asked(model="fashion"))
        gate.open.set()
        await asyncio.gather(*waits)

    finish(many())
    assert inside[2:] == ["comes back", "comes back"]


def test_a_model_that_makes_room_for_another_still_answers_who_asked_before(service_of):
    service = service_of(memory=1)
    gate = Gate(service, "notes")
    get(service, "fashion")

    async def both() -> None:
        waits = asyncio.create_task(service.sample(Asked(model="notes")))
        while not gate.loads:
            await asyncio.sleep(0.001)
        assert set(service.pool.loaded) == {"fashion"}  # until the other is there
        release = hold(service)
        fashion = asyncio.create_task(service.sample(Asked(model="fashion", seed=4)))
        while not service.engine.depth:
            await asyncio.sleep(0.001)
        gate.open.set()
        while "notes" not in service.pool.loaded:
            await asyncio.sleep(0.001)
        assert set(service.pool.loaded) == {"notes"}
        release()
        assert (await fashion)[0].seed == 4
        assert len(await waits) == 1

    finish(both())


def hold(service: Service) -> Callable[[], None]:
    """Keep the engine's thread busy until the result is called."""
    import torch

    from unistep.serving.jobs import OWN, CallJob

    entered, gate = threading.Event(), threading.Event()

    def wait(stop: Callable[[], bool]) -> torch.Tensor:
        del stop
        entered.set()
        assert gate.wait(GRACE)
        return torch.zeros(1)

    served = service.pool.loaded["fashion"]
    job = CallJob(served=served, deadline=float("inf"), client=OWN, what="hold", steps=1, items=1, call=wait)
    service.engine.submit(job)
    assert entered.wait(GRACE)
    return gate.set


def test_a_model_is_warmed_up_between_the_batches_of_others(service_of, monkeypatch):
    service = service_of()
    get(service, "fashion")
    waiting, inside, go_on = [], threading.Event(), threading.Event()

    def warming(served):
        def call(number):
            inside.set()
            assert go_on.wait(GRACE)
            waiting.append(service.engine.depth)
            assert served.name == "notes"

        return (lambda number=number: call(number) for number in range(3))

    monkeypatch.setattr("unistep.serving.loading.warming", warming)

    async def both() -> None:
        loading = service.loader.ask("notes")
        await asyncio.to_thread(inside.wait, GRACE)
        fashion = asyncio.create_task(service.sample(Asked(model="fashion")))
        while not service.engine.depth:
            await asyncio.sleep(0.001)
        go_on.set()
        await fashion
        await asyncio.wrap_future(loading)

    finish(both())
    assert waiting[0] == 1
    assert waiting[-1] == 0
    assert len(waiting) == 3


def test_a_model_whose_warm_up_fails_is_not_kept(service_of, monkeypatch):
    service = service_of()

    def warming(served):
        raise RuntimeError("no memory")

    monkeypatch.setattr("unistep.serving.loading.warming", warming)
    with pytest.raises(BrokenModelError):
        get(service, "notes")
    assert not service.pool.loaded


def test_a_model_that_cannot_be_loaded_is_503_for_clients(models):
    with running(Settings(models=models[:2], threads=1, backend="eager")) as server:
        server.service.pool.drop("notes")
        gate = Gate(server.service, "notes", ValueError("weights of another model"))
        gate.open.set()
        answer = server.client.post("/v1/audio/generate", json={"model": "notes"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "model_unavailable"
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert "another" not in answer.text
        assert server.client.post("/v1/images/generations", json={"model": "fashion"}).status_code == 200


@pytest.fixture
def short(service_of):
    """A service with memory for one model, whose backends wait at a gate."""
    service = service_of(backend="auto", memory=1)
    gate, tried = threading.Event(), []

    def accelerate(served, copy):
        del copy
        tried.append(served.name)
        assert gate.wait(GRACE)

    service.loader._accelerate = accelerate
    yield service, gate, tried
    gate.set()


def test_models_that_come_and_go_do_not_pile_up_for_backends(short):
    service, gate, tried = short
    get(service, "notes")
    until(lambda: tried == ["notes"])
    for _ in range(3):
        get(service, "fashion")
        get(service, "notes")
    assert service.loader._trying._work_queue.qsize() == 2
    gate.set()
    service.loader._trying.submit(lambda: None).result(GRACE)
    assert tried == ["notes", "notes"]  # fashion was dropped before its turn


def test_nothing_is_loaded_to_say_where_a_stream_came_from(short):
    service, _, _ = short
    served = get(service, "phrases")
    get(service, "fashion")
    assert "phrases" not in service.pool.loaded
    origin = service.origin("phrases", 5)
    assert (origin.model, origin.model_hash, origin.seeds) == ("phrases", served.model_hash, (5,))
    assert "phrases" not in service.pool.loaded


def test_a_stop_before_a_server_is_ready_is_no_failure(models):
    service = Service(Settings(models=models[:1], threads=1, backend="eager"))
    gate = Gate(service, "fashion")
    service.start()
    until(lambda: gate.loads)
    service.close()
    gate.open.set()
    service.loader._loading.shutdown(wait=True)
    assert service.failure is None
    assert not service.ready.is_set()


def test_a_server_does_not_begin_whose_model_is_broken(models):
    service = Service(Settings(models=models[:2], threads=1, backend="eager"))
    error = ValueError("weights of another model")
    Gate(service, "fashion", error).open.set()
    failed = threading.Event()
    service.failed = failed.set
    service.start()
    assert failed.wait(GRACE)
    assert service.failure is error
    service.loader._loading.shutdown(wait=True)
    assert not service.ready.is_set()
    service.close()


def test_a_model_is_out_of_the_collectors_sight_and_freed_where_it_is_dropped(models):
    with running(Settings(models=models[:1], threads=1, backend="eager")) as server:
        server.client.post("/v1/images/generations", json={"model": "fashion", "seed": 1})
        network = server.service.pool.get("fashion").generator.map
        assert gc.get_freeze_count() > 0
        assert all(one is not network for one in gc.get_objects())
        kept, network = weakref.ref(network), None
        gc.disable()
        try:
            server.service.pool.drop("fashion")
            until(lambda: kept() is None)
        finally:
            gc.enable()


def test_a_mistake_in_a_condition_is_found_before_anything_is_made(service_of):
    service = service_of()
    with pytest.raises(ValueError, match="pitch must be"):
        finish(service.check(Asked(model="notes", condition={"pitch": "H9"})))
    finish(service.check(Asked(model="notes", condition={"pitch": "C4"})))
