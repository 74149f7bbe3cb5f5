"""What tests of objectives share."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def _without_type_checks() -> Iterator[None]:
    """For small networks, which take no longer than their checks, and for words that a check would refuse first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
