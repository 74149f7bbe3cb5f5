"""Every method under the trainer: two processes have the gradient of one, and a stopped run goes on to the last bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_parallel import PLAIN, largest_difference, launch
from tiny import METHODS, OBJECTIVES, assert_same, make_data, make_teacher, metrics, run, run_config
from worker import do

pytestmark = pytest.mark.timeout(900)  # the first of these tests waits for both processes

NEW = [name for name in METHODS if name not in OBJECTIVES]
KINDS: dict[str, dict[str, Any]] = {"ddp": {}, "fsdp": {"parallel": "fsdp", "accumulation": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runs of this file lie."""
    folder = tmp_path_factory.mktemp("methods")
    make_data(folder / "data.npz")
    make_teacher(folder / "teacher")
    make_teacher(folder / "first", kind="consistency")
    os.environ["UNISTEP_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    return folder


def job(name: str, out: Path, **changes: Any) -> dict[str, Any]:
    """One step from the weights of a teacher: a fresh network's last layer is zero, and so are most gradients."""
    teacher = out.parent / ("first" if name == "tcm" else "teacher")
    settings = {**PLAIN, "max_steps": 1, "teacher": str(teacher), **changes}
    return {"objective": name, "out": str(out), "gradient": f"{out}.safetensors", "changes": settings}


@pytest.fixture(scope="module")
def together(folder: Path) -> Path:
    """All the work of two processes, done once."""
    launch([job(name, folder / f"{name}-{kind}", **how) for name in NEW for kind, how in KINDS.items()], folder)
    return folder


@pytest.mark.parametrize("name", NEW)
def test_two_processes_have_the_gradient_of_one(name: str, together: Path) -> None:
    alone = together / f"{name}-alone"
    assert do(job(name, alone), together)[0]
    theirs = load_file(f"{alone}.safetensors")
    largest = max(float(value.abs().max()) for value in theirs.values())
    assert largest > 1e-4
    for kind in KINDS:
        ours = load_file(together / f"{name}-{kind}.safetensors")
        assert largest_difference(ours, theirs) < 1e-6 * max(1.0, largest), kind


@pytest.mark.parametrize("name", NEW)
def test_a_stopped_run_goes_on_to_the_last_bit(name: str, folder: Path) -> None:
    """With dropout, in the middle of the curriculum, warm-up, averaged target and learned weight."""
    whole, stopped = folder / f"{name}-whole", folder / f"{name}-stopped"
    changes = {"max_steps": 6, "checkpoint_every": "100"}
    for out, stop in ((whole, None), (stopped, 3)):
        told = {"objective": name, "out": out, "changes": changes}
        assert do(told if stop is None else {**told, "stop_at": stop}, folder)[0] == (stop is None)
    done, text = run(run_config(name, folder, **changes), stopped, resume=True)
    assert done
    assert "going on after step 3" in text
    assert_same(stopped, whole)
    assert all(line["skipped"] == 0 for line in metrics(whole))
