"""The mathematics holds for paths from outside the package too."""

from __future__ import annotations

import pytest

from analytic import ANY_PATH
from unistep.core.path import Path


@pytest.fixture(params=ANY_PATH)
def path(request: pytest.FixtureRequest) -> Path:
    """Each path of the package, and one from elsewhere, in turn."""
    return ANY_PATH[request.param]
