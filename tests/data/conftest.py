"""A cache of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Where this test's prepared data goes."""
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
