"""What a server does beside answering: models that come and go, and a stop at any time."""

from __future__ import annotations

import threading

import pytest

from running_server import GRACE, until
from unistep.serving.service import Service
from unistep.serving.settings import Settings


@pytest.fixture
def short(models):
    """A service with memory for one model, whose backends wait at a gate."""
    service = Service(Settings(models=models, threads=1, memory=1))
    gate, tried = threading.Event(), []

    def accelerate(served, copy):
        del copy
        tried.append(served.name)
        assert gate.wait(GRACE)

    service._accelerate = accelerate
    service.engine.start()
    yield service, gate, tried
    gate.set()
    service.engine.close()
    service.close()


def test_models_that_come_and_go_do_not_pile_up_for_backends(short):
    service, gate, tried = short
    service._get("notes")
    until(lambda: tried == ["notes"])
    for _ in range(3):
        service._get("fashion")
        service._get("notes")
    assert service._trying._work_queue.qsize() == 2
    gate.set()
    service._trying.submit(lambda: None).result(GRACE)
    assert tried == ["notes", "notes"]  # fashion was dropped before its turn


def test_nothing_is_loaded_to_say_where_a_stream_came_from(short):
    service, _, _ = short
    served = service._get("phrases")
    service._get("fashion")
    assert "phrases" not in service.pool.loaded
    origin = service.origin("phrases", 5)
    assert (origin.model, origin.model_hash, origin.seeds) == ("phrases", served.model_hash, (5,))
    assert "phrases" not in service.pool.loaded


def test_a_stop_before_a_server_is_ready_is_no_failure(models):
    service = Service(Settings(models=models[:1], threads=1, backend="eager"))
    service.close()
    service._prepare()
    assert service.failure is None
    assert not service.ready.is_set()
