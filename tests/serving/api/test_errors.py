"""What clients see where something went wrong."""

from __future__ import annotations

import pytest

from unistep.files import DiskError
from unistep.serving.api.errors import as_api_error


@pytest.mark.parametrize("error", [DiskError("cannot write x: it is full"), OSError(28, "full"), MemoryError()])
def test_what_the_server_lacks_is_no_mistake_of_the_client(error):
    answer = as_api_error(error)
    assert (answer.status, answer.code) == (503, "no_resources")
    assert "Retry-After" in answer.headers
    assert as_api_error(ValueError("n must be at least 1")).status == 400
