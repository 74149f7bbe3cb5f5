"""A cache of the tests' own, and runs without TensorBoard's files, which cost most of a tiny run's time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests and their subprocesses can say `from tiny import ...`


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # what processes that a test starts find modules by


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch) -> None:
    """No test cuts the power: what is written need not reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(autouse=True)
def _no_events(monkeypatch, request) -> None:
    from unistep.training import log

    if "events" not in request.keywords:
        monkeypatch.setattr(log, "_event_writer", lambda folder, start: None)
