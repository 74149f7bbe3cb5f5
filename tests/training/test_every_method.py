"""Every method under the trainer: two processes have the gradient of one, and a stopped run goes on to the last bit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_parallel import PLAIN, largest_difference, launch
from tiny import (
    METHODS,
    OBJECTIVES,
    assert_same,
    checkpoint,
    make_data,
    make_teacher,
    metrics,
    run,
    run_config,
)
from worker import do

from tolerance import rounding

pytestmark = pytest.mark.timeout(900)  # the first of these tests waits for both processes

NEW = [name for name in METHODS if name not in (*OBJECTIVES, "ctm-balanced")]
GRADIENTS = [name for name in NEW if name not in ("pcm", "ctm", "imf-told")]  # which the variants compute, too
TO_THE_END = ("ctm-gan", "ctm-balanced", "imf")
"""Those that two processes also save and sample: with a second network, and with two times."""
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
    if METHODS[name].continues:  # each part of an accumulated batch is compared by itself
        settings |= {"init": str(teacher), "accumulation": 1}
    only = name not in TO_THE_END
    work = {
        "objective": name,
        "out": str(out),
        "gradient": f"{out}.safetensors",
        "gradient_only": only,
    }
    return {**work, "changes": settings}


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, dict[str, Any]]:
    """All the work of two processes, done once."""
    jobs = [job(name, folder / f"{name}-{kind}", **how) for name in GRADIENTS for kind, how in KINDS.items()]
    jobs.append(job("ctm-balanced", folder / "balanced-two"))
    jobs.append({**job("ctm-balanced", folder / "balanced-fsdp", parallel="fsdp"), "refused": True})
    return launch(jobs, folder)


@pytest.mark.parametrize("name", GRADIENTS)
def test_two_processes_have_the_gradient_of_one(name: str, folder: Path, reports) -> None:
    alone = folder / f"{name}-alone"
    assert do(job(name, alone), folder)[0]
    theirs = load_file(f"{alone}.safetensors")
    largest = max(float(value.abs().max()) for value in theirs.values())
    assert largest > 1e-4
    for kind in KINDS:
        ours = load_file(folder / f"{name}-{kind}.safetensors")
        assert largest_difference(ours, theirs) < rounding(terms=8 * 8 * 8, scale=largest), kind


@pytest.mark.parametrize("name", NEW)
def test_a_stopped_run_goes_on_to_the_last_bit(name: str, folder: Path) -> None:
    """With dropout, in the middle of the curriculum, warm-up, averaged target and learned weight."""
    whole, stopped = folder / f"{name}-whole", folder / f"{name}-stopped"
    config = run_config(name, folder, max_steps=4, checkpoint_every="2")
    assert run(config, whole)[0]
    shutil.copytree(whole, stopped)
    shutil.rmtree(stopped / "checkpoints" / "00000004")
    done, text = run(config, stopped, resume=True)
    assert done
    assert "going on after step 2" in text
    assert_same(stopped, whole)
    assert all(line["skipped"] == 0 for line in metrics(whole))


def test_the_balance_of_two_processes_is_that_of_one(folder: Path, reports) -> None:
    """The ratio of the gradients is that of the whole batch."""
    assert do(job("ctm-balanced", folder / "balanced-one"), folder)[0]
    ours, theirs = (load_file(folder / f"balanced-{which}.safetensors") for which in ("two", "one"))
    size = max(float(value.abs().max()) for value in theirs.values())
    assert largest_difference(ours, theirs) < rounding(terms=8 * 8 * 8, scale=size)
    weights = [metrics(folder / f"balanced-{which}")[-1]["adversarial/weight"] for which in ("two", "one")]
    assert weights[0] == pytest.approx(weights[1], rel=1e-5)
    assert weights[1] != pytest.approx(0.5)


def test_balance_is_refused_where_the_network_is_sharded(reports) -> None:
    assert "use balance 'fixed' with fsdp" in reports["balanced-fsdp"]["text"]


def test_a_discriminator_learns_at_a_rate_of_its_own_and_is_not_shipped(folder: Path) -> None:
    for optimizer in ("muon", "adam", "radam"):
        out = folder / f"rates-{optimizer}"
        changes = {"max_steps": 2, "optimizer": optimizer}
        assert do({"objective": "ctm-gan", "out": out, "changes": changes}, folder)[0]
        state = checkpoint(out)[1]
        names = [name for name in state["weights"] if name.startswith("adversary.")]
        assert len(names) > 10
        assert not [name for name in load_file(out / "model" / "model.safetensors") if "adversary" in name]
        student = [name for name in state["weights"] if name.startswith("student.")]
        moments = {name.partition(".")[0] for name in state["optimizer"]}
        assert len(moments) == len(names) + len(student)
