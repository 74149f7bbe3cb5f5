"""Everything that runs on a GPU keeps its tensors there: tried on a simulated accelerator, which needs no GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from accelerator.simulated import COMMANDS
from training.tiny import METHODS

pytestmark = [
    pytest.mark.timeout(900),  # the first of these tests waits for all parts
    pytest.mark.skipif(
        shutil.which("ninja") is None or shutil.which("c++") is None,
        reason="the simulated accelerator is compiled, by ninja and a C++ compiler",
    ),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What went wrong with each part."""
    folder = tmp_path_factory.mktemp("accelerator")
    ran = subprocess.run(
        [sys.executable, Path(__file__).with_name("simulated.py"), folder],
        env={**os.environ, "UNISTEP_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 3:
        pytest.skip("the simulated accelerator does not compile with this PyTorch")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("part", [*METHODS, *COMMANDS, "hear notes"])
def test_no_devices_are_mixed(part: str, outcomes: dict[str, str]) -> None:
    assert outcomes[part] == ""
