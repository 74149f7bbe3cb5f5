"""Stand-ins for the models of a server, and a server of them; all of it is skipped where the extra is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from unistep.cli.extras import EXTRAS

if TYPE_CHECKING:
    from running_server import Running

NEEDED = (*EXTRAS["serve"], "httpx2", "av", "soundfile")
MISSING = [package for package in NEEDED if importlib.util.find_spec(package) is None]
collect_ignore = [] if not MISSING else [str(path) for path in Path(__file__).parent.glob("test_*.py")]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Folders of models of pictures, sounds, endless sounds and a world."""
    from running_server import save_models

    return save_models(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def server(models) -> Iterator[Running]:
    """A server without keys, for all tests that leave it as it is."""
    from running_server import limits, running
    from unistep.serving.settings import Settings

    with running(Settings(models=models, threads=1, backend="eager", limits=limits(body_seconds=5.0))) as found:
        yield found
