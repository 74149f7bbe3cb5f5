"""Everything that runs on a GPU keeps its tensors there: tried on a simulated one, and on a real one where there is."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from accelerator.everything import COMMANDS, CUDA, ON_CUDA, SIMULATED
from training.tiny import METHODS

pytestmark = pytest.mark.timeout(900)  # the first of these tests waits for all parts


@functools.cache
def outcomes(device: str, folder: Path) -> dict[str, str]:
    """What went wrong with each part on a device."""
    (folder / device).mkdir()
    ran = subprocess.run(
        [sys.executable, Path(__file__).with_name("everything.py"), device, folder / device],
        env={**os.environ, "UNISTEP_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 3:
        pytest.skip("the simulated accelerator does not compile with this PyTorch")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all parts work."""
    return tmp_path_factory.mktemp("accelerator")


@pytest.mark.skipif(
    shutil.which("ninja") is None or shutil.which("c++") is None,
    reason="the simulated accelerator is compiled, by ninja and a C++ compiler",
)
@pytest.mark.parametrize("part", [*METHODS, *COMMANDS, "hear notes"])
def test_no_devices_are_mixed(part: str, folder: Path) -> None:
    assert outcomes(SIMULATED, folder)[part] == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "part", [*METHODS, *(f"{name}, resumed" for name in METHODS), *COMMANDS, *ON_CUDA, "hear notes"]
)
def test_on_a_gpu(part: str, folder: Path) -> None:
    assert outcomes(CUDA, folder)[part] == ""
