"""Requests that no honest client sends: a few of the ten thousand of `benchmarks/hostile.py`."""

from __future__ import annotations

import os

import pytest
from hostile import assault
from hostile_requests import ATTACKS

from running_server import limits, running
from unistep.serving.settings import Settings


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # starlette's, of forms that break off in a file
def test_nothing_that_strangers_send_is_a_defect_or_keeps_others_waiting(models, caplog):
    settings = Settings(models=models, threads=1, backend="eager", limits=limits(body_seconds=1.0))
    with running(settings) as server:
        report = assault(server.port, requests=150, seed=1, workers=4, pid=os.getpid())
        assert not report.failures, "\n".join(report.failures)
        assert report.honest == 4
        assert set(report.answers) == {kind.__name__ for kind, _ in ATTACKS}
        assert server.service.engine.alive
        assert server.service.engine.depth == 0
        statuses = {status for answers in report.answers.values() for status in answers}
        assert {"200", "400", "404", "405"} <= statuses
    assert not [record for record in caplog.records if record.exc_info or "failed" in record.getMessage()]
