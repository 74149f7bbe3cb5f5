"""Runs that are killed, interrupted and resumed end as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from tiny import assert_same, checkpoint, metrics, run, run_config
from worker import attempt, do

import forks
from unistep.hub import load
from unistep.training import checkpoint as checkpoint_module
from unistep.training import loop
from unistep.training.log import read_metrics
from unistep.training.run_config import RunConfig

STEPS = 10


def start(objective: str, folder: Path, out: str = "killed", **job: Any) -> ForkServerProcess:
    """Begin or resume a run in a process of its own."""
    resume = (folder / out / "config.json").exists()
    changes = {"max_steps": STEPS, "checkpoint_every": "1", **job.pop("changes", {})}
    work = {
        "objective": objective,
        "out": str(folder / out),
        "resume": resume,
        "changes": changes,
        **job,
    }
    process = forks.process(attempt, work, folder, folder / f"{out}.txt")
    process.start()
    return process


def config(objective: str, folder: Path, **changes: Any) -> RunConfig:
    """A run of so many steps."""
    return run_config(objective, folder, max_steps=STEPS, **changes)


def newest(out: Path) -> int:
    """Step of the newest checkpoint, 0 without one."""
    return max((int(path.name) for path in (out / "checkpoints").glob("[0-9]*")), default=0)


def wait_for_step(process: ForkServerProcess, out: Path, step: int) -> None:
    """Return when a run has a checkpoint of ``step``, or has ended."""
    while process.is_alive() and newest(out) < step:
        time.sleep(0.002)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of uninterrupted runs by objective, each trained once."""
    base = tmp_path_factory.mktemp("finished")

    def folder(objective: str) -> Path:
        out = base / objective / "whole"
        if not out.exists():
            (base / objective).mkdir()
            done, _ = run(config(objective, base / objective), out)
            assert done
        return out

    return folder


@pytest.fixture
def whole(request: pytest.FixtureRequest, tmp_path: Path, finished: Callable[[str], Path]) -> Path:
    """A folder for the test, with an uninterrupted run of its objective in ``whole``."""
    objective = request.node.funcargs.get("objective", "denoising")
    shutil.copytree(finished(objective), tmp_path / "whole")
    return tmp_path


@pytest.mark.timeout(900)
@pytest.mark.parametrize("objective", ["denoising", "ct"])  # without and with an averaged target
def test_killed_at_random_points(objective: str, whole: Path) -> None:
    """With a checkpoint after every step, about half of the kills fall into the writing of one."""
    chance = random.Random(f"kills of {objective}")
    out, kills = whole / "killed", 0
    pace = 0.2
    for _ in range(3):
        begin, first = time.monotonic(), newest(out)
        process = start(objective, whole)
        wait_for_step(process, out, first + 1)
        after_first = time.monotonic()
        wait_for_step(process, out, first + chance.randint(1, 3))
        pace = max(0.02, min(pace, time.monotonic() - after_first))
        time.sleep(chance.uniform(0, pace))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        assert time.monotonic() - begin < 600
    assert kills >= 2
    process = start(objective, whole)
    process.join()
    assert process.exitcode == 0
    assert_same(out, whole / "whole")
    assert [row["step"] for row in metrics(out)] == list(range(1, STEPS + 1))
    hidden = [path for place in (out, out / "checkpoints") for path in place.glob(".*.tmp*")]
    assert not hidden


MOMENTS = {
    "in the middle of the tensors": ("unistep.training.checkpoint", "write_weights", 2, 5),
    "as the folder is synced": ("unistep.files", "sync", 3, 5),
    "before it gets its name": ("unistep.files", "remove_folder", 1, 5),
    "as an old one is deleted": ("unistep.training.checkpoint", "remove_folder", 1, 5),
    "before the model is written": ("unistep.training.run_files", "save", 1, 5),
    "between the old model and the new": ("pathlib:Path", "rename", 4, 5),
    "when all is done but the model": ("unistep.training.run_files", "save", 1, STEPS),
}
"""Instants within the writing of a checkpoint, as the count of a function's calls after a step."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_writing(moment: str, whole: Path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    out = whole / "killed"
    process = start("denoising", whole, die=MOMENTS[moment])
    process.join()
    assert process.exitcode == -signal.SIGKILL
    step = MOMENTS[moment][-1]
    # No half-written checkpoint or model is ever seen under its name.
    assert newest(out) in (step - 1, step)
    for folder in (out / "checkpoints").glob("[0-9]*"):
        checkpoint_module.read_checkpoint(folder)
    if (out / "model").exists():
        assert load(out).config.provenance["steps"] in (str(step - 1), str(step))
    assert run(config("denoising", whole), out, resume=True)[0]
    assert_same(out, whole / "whole")
    assert [row["step"] for row in metrics(out)] == list(range(1, STEPS + 1))
    assert load(out).config.provenance["steps"] == str(STEPS)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_polite_kill_save_and_leave(number: signal.Signals, whole: Path) -> None:
    out = whole / "killed"
    process = start("denoising", whole)
    wait_for_step(process, out, 1)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 3  # train() returned False
    step = newest(out)
    assert 1 <= step < STEPS
    text = (whole / "killed.txt").read_text()
    assert (
        f"stopped after step {step} of {STEPS}, saved; go on with:\n  unistep.train(None, {str(out)!r}, resume=True)"
        in text
    )
    assert load(out).config.provenance["steps"] == str(step)
    assert (out / "samples" / f"{step:08d}.png").exists()
    done, text = run(config("denoising", whole), out, resume=True)
    assert done
    assert f"going on after step {step}" in text
    assert_same(out, whole / "whole")


def stopped(objective: str, folder: Path, out: str, step: int) -> Path:
    """A run that was asked to stop after ``step``, with a line of the log for every step."""
    changes = {"max_steps": STEPS, "checkpoint_every": "1"}
    done, _ = do({"objective": objective, "out": folder / out, "stop_at": step, "changes": changes}, folder)
    assert not done
    return folder / out


def test_a_torn_last_line_of_the_log_is_dropped(whole: Path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    out = stopped("denoising", whole, "torn", 6)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "loss": 0.5}\n{"step": 8, "lo')
    assert [row["step"] for row in read_metrics(out)] == [1, 2, 3, 4, 5, 6, 7]
    done, _ = run(config("denoising", whole), out, resume=True)
    assert done
    assert [row["step"] for row in metrics(out)] == list(range(1, STEPS + 1))
    assert_same(out, whole / "whole")


def test_a_finished_run_stays_as_it_is_and_mends_its_model(whole: Path) -> None:
    out = whole / "again"
    assert run(config("denoising", whole), out)[0]
    before = checkpoint(out)
    shutil.rmtree(out / "model")
    done, text = run(config("denoising", whole), out, resume=True)
    assert done
    assert f"going on after step {STEPS}" in text
    assert before[0] == checkpoint(out)[0]
    assert load(out).config.provenance["steps"] == str(STEPS)


def test_options_without_effect_on_the_numbers_may_change(whole: Path) -> None:
    out = stopped("denoising", whole, "changed", 4)
    other = config("denoising", whole, checkpoint_every="3", sample_every="5", keep=1, threads=1)
    done, _ = run(other, out, resume=True)
    assert done
    assert [path.name for path in (out / "checkpoints").glob("[0-9]*")] == [f"{STEPS:08d}"]
    assert (out / "samples" / "00000005.png").exists()
    assert_same(out, whole / "whole")


def test_a_damaged_checkpoint_is_passed_over_with_a_word(whole: Path) -> None:
    """Whatever is wrong with the newest: it falls back to the one before, and ends the same."""
    out = stopped("denoising", whole, "damaged", 6)
    newest_folder = out / "checkpoints" / "00000006"
    damages = {
        "weights.safetensors": lambda path: os.truncate(path, path.stat().st_size // 2),
        "optimizer.safetensors": lambda path: path.write_bytes(b""),
        "power-0.1.safetensors": lambda path: path.write_bytes(b"\x80\x04" + b"junk" * 20),
        "state.json": lambda path: path.write_text('{"step": 6, "sec'),
    }
    for name, damage in damages.items():
        copy = whole / f"damaged-{name}"
        shutil.copytree(out, copy)
        damage(copy / "checkpoints" / newest_folder.name / name)
        done, text = run(config("denoising", whole), copy, resume=True)
        assert done
        assert "checkpoint 00000006 cannot be read, going back to the one before it" in text
        assert name in text
        assert "going on after step 5" in text
        assert_same(copy, whole / "whole")


def test_a_checkpoint_that_lacks_a_file_is_passed_over(whole: Path) -> None:
    out = stopped("denoising", whole, "lacking", 6)
    (out / "checkpoints" / "00000006" / "optimizer.safetensors").unlink()
    _, text = run(config("denoising", whole), out, resume=True)
    assert "has no optimizer.safetensors" in text
    assert_same(out, whole / "whole")


def test_if_every_checkpoint_is_damaged_it_says_so(whole: Path) -> None:
    out = stopped("denoising", whole, "broken", 3)
    for folder in (out / "checkpoints").glob("[0-9]*"):
        os.truncate(folder / "weights.safetensors", 100)
    with pytest.raises(
        ValueError, match=r"no checkpoint in .*broken can be read \(.*weights.safetensors is not a read"
    ):
        run(config("denoising", whole), out, resume=True)


def test_the_averages_and_the_optimizer_come_back_exactly(whole: Path) -> None:
    """What is saved is all there is: reading and writing it again gives the same files."""
    step, tensors, scalars = checkpoint(whole / "whole")
    assert step == STEPS
    assert set(tensors) == {"weights", "optimizer", "power-0.1", "ema-40"}
    assert not scalars  # Muon's and Adam's counters are tensors
    assert all(value.isfinite().all() for file in tensors.values() for value in file.values())
    averages = [tensors[name]["0"] for name in ("power-0.1", "ema-40")]
    assert not (averages[0] == averages[1]).all()
    assert json.loads((whole / "whole" / "config.json").read_text())["max_steps"] == STEPS
