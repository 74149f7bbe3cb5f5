"""Tuning without a ready teacher: two runs in one folder, which resume and change their length as one."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file
from tiny import checkpoint, run_config, steady
from worker import stop_after

from unistep.hub import load
from unistep.training import resolve as resolve_module
from unistep.training.loop import Loop
from unistep.training.run import train
from unistep.training.run_config import RunConfig


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch) -> None:
    monkeypatch.setattr(resolve_module, "time_steps", steady(100))


def staged(config: RunConfig, out: Path, **options) -> bool:
    return train(config, out, device="cpu", console=Console(file=io.StringIO()), **options)


def steps_of(run: Path) -> tuple[int, int]:
    """Those that were taken, and those that were planned."""
    return checkpoint(run)[0], json.loads((run / "config.json").read_text())["max_steps"]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return replace(run_config("ect", tmp_path), teacher=None, max_steps=10)


def test_the_teacher_has_its_share_and_the_student_the_rest(config: RunConfig, tmp_path: Path) -> None:
    assert staged(config, tmp_path / "run")
    assert steps_of(tmp_path / "run" / "teacher") == (6, 6)
    assert steps_of(tmp_path / "run") == (4, 4)
    assert staged(config, tmp_path / "run", resume=True)  # nothing is left to do
    assert steps_of(tmp_path / "run") == (4, 4)


def test_another_length_leaves_the_teacher_of_a_student_that_has_begun(config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert staged(config, out)
    taught = load_file(out / "teacher" / "model" / "model.safetensors")
    assert staged(replace(config, max_steps=13), out, resume=True)
    assert steps_of(out / "teacher") == (6, 6)
    assert steps_of(out) == (7, 7)
    now = load_file(out / "teacher" / "model" / "model.safetensors")
    assert all((now[name] == value).all() for name, value in taught.items())
    with pytest.raises(ValueError, match="the teacher's stage took 6 steps; give more with --max-steps, got 6"):
        staged(replace(config, max_steps=6), out, resume=True)


def test_one_step_is_refused_before_a_teacher_is_trained(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--max-steps must be at least 2, got 1"):
        staged(replace(config, max_steps=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_refused_before_a_teacher_is_trained(config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(
        replace(config, teacher=str(tmp_path / "teacher"), max_steps=1), out, device="cpu", console=Console(quiet=True)
    )
    with pytest.raises(ValueError, match="already holds a run"):
        staged(config, out)
    assert not (out / "teacher").exists()


def test_a_teacher_that_is_under_way_takes_its_share_of_another_length(
    config: RunConfig, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_step", Loop._one_step)  # put back at the end
        stop_after(2)
        assert not staged(config, out)
    assert not (out / "config.json").exists()
    assert (out / "asked.json").exists()
    assert staged(replace(config, max_steps=20), out, resume=True)
    assert steps_of(out / "teacher") == (12, 12)
    assert steps_of(out) == (8, 8)


@pytest.mark.parametrize("name", ["cd", "sct", "ctm", "meanflow-distilled"])  # one of each kind and path
def test_every_method_that_starts_from_a_teacher_may_train_its_own(name: str, tmp_path: Path) -> None:
    """A teacher has one time, whatever its student has."""
    config = replace(run_config(name, tmp_path), teacher=None, max_steps=4, checkpoint_every="100")
    assert staged(config, tmp_path / "run")
    assert steps_of(tmp_path / "run" / "teacher") == (2, 2)
    assert steps_of(tmp_path / "run") == (2, 2)
    teacher = load(tmp_path / "run" / "teacher" / "model")
    assert not teacher.config.network.second_time
    assert load(tmp_path / "run").config.kind == config.model.kind


def told(config: RunConfig, out: Path) -> str:
    """What is printed as a run is to go on."""
    text = io.StringIO()
    assert train(config, out, resume=True, device="cpu", console=Console(file=text, width=40))
    return text.getvalue()


def test_resuming_where_there_is_no_run_begins_one_and_says_so(config: RunConfig, tmp_path: Path, monkeypatch) -> None:
    """As a job that is started again and again needs it; a mistyped folder is seen."""
    config = replace(config, max_steps=2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "nime").mkdir(parents=True)  # nearer, without a run
    line = "there is no run in runs/mine to go on with; a new one begins\n"
    assert told(config, Path("runs/mine")).startswith(line)
    assert "to go on with" not in told(config, Path("runs/mine"))
    line = "there is no run in runs/mien to go on with (did you mean 'runs/mine'?); a new one begins\n"
    assert told(config, Path("runs/mien")).startswith(line)
    monkeypatch.chdir(tmp_path / "runs")
    assert "(did you mean 'mine'?)" in told(replace(config, teacher=str(tmp_path / "teacher")), Path("mne"))


def test_a_run_whose_teacher_is_under_way_is_one_to_go_on_with(config: RunConfig, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_step", Loop._one_step)  # put back at the end
        stop_after(2)
        assert not staged(config, tmp_path / "run")
    assert "to go on with" not in told(config, tmp_path / "run")


def test_one_process_speaks_for_all(config: RunConfig, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("unistep.training.run._stages", lambda *args: False)
    text = io.StringIO()
    assert not train(config, tmp_path / "run", resume=True, console=Console(file=text))
    assert text.getvalue() == ""
