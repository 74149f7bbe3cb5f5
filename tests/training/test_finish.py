"""Post-training as the last stage of a run: its share of the budget, going on after a stop, and whose model is kept."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file
from tiny import DEEP, assert_same, checkpoint, run_config, steady
from worker import stop_after

from unistep.objectives.fd import FDConfig
from unistep.serialization import read_json
from unistep.training import finish as finish_module
from unistep.training import resolve as resolve_module
from unistep.training.finish import finish_config, share_of
from unistep.training.loop import Loop
from unistep.training.lora import LoRAConfig
from unistep.training.run import train
from unistep.training.run_config import RunConfig
from unistep.training.selection import SelectionConfig


@pytest.fixture(autouse=True)
def _small(monkeypatch) -> None:
    monkeypatch.setattr(resolve_module, "time_steps", steady(100))
    monkeypatch.setattr(finish_module, "FEWEST", 10)
    monkeypatch.setattr(finish_module, "BATCH_SIZE", 8)
    monkeypatch.setattr(finish_module, "OBJECTIVE", FDConfig(representations=("pixels",), population=96))
    monkeypatch.setattr(finish_module, "SELECTION", SelectionConfig(every=2, samples=8, patience=0))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the data is, and the run that several tests go on from."""
    return tmp_path_factory.mktemp("finish")


@pytest.fixture
def config(place: Path) -> RunConfig:
    """Three steps of a teacher, four of its student, three of post-training that make it better."""
    return replace(
        run_config("ect", place, network=DEEP), teacher=None, max_steps=10, teacher_share=0.3, finish_share=0.3
    )


def staged(config: RunConfig, out: Path, **options) -> tuple[bool, str]:
    text = io.StringIO()
    done = train(config, out, device="cpu", console=Console(file=text, width=200), **options)
    return done, text.getvalue()


@pytest.fixture
def whole(config: RunConfig, place: Path) -> Path:
    """That run to its end, made for the first test that needs it, which only looks at it."""
    out = place / "whole"
    if not out.exists():
        assert staged(config, out)[0]
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to go on from."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_the_model_of_a_run_is_the_finished_one(config: RunConfig, tmp_path: Path) -> None:
    done, text = staged(config, tmp_path / "run")
    assert done
    out = tmp_path / "run"
    assert [checkpoint(folder)[0] for folder in (out / "teacher", out, out / "finish")] == [3, 4, 3]
    model, student, finished = (load_file(f / "model.safetensors") for f in _models(out))
    assert all(model[name].equal(finished[name]) for name in model)
    assert any(not model[name].equal(student[name]) for name in model)
    last = read_json(RunConfig, out / "finish" / "config.json")
    assert type(last.objective).__name__ == "FDConfig"
    assert last.finish_share == 0
    assert "model before post-training" in text
    assert text.count("made: a model") == 1


@pytest.mark.parametrize(("processes", "batch_size"), [(1, 8), (3, 9), (4, 8), (16, 16)])
def test_processes_that_do_not_divide_the_batch_share_a_larger_one(
    processes: int, batch_size: int, config: RunConfig, tmp_path: Path
) -> None:
    """A batch that cannot be shared would be refused when teacher and student have been trained."""
    assert finish_config(config, tmp_path, 0.3, processes).batch_size == batch_size


def _models(out: Path) -> tuple[Path, Path, Path]:
    return out / "model", out / "finish" / "start", out / "finish" / "model"


@pytest.mark.parametrize("at", [2, 5, 8])
def test_a_stop_in_any_stage_is_gone_on_from(
    at: int, config: RunConfig, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_step", Loop._one_step)
        stop_after(at if at <= 3 else at - 3 if at <= 7 else at - 7)
        done = False
        for _ in range(3):  # the steps of each stage are counted from one
            done, _ = staged(config, out, resume=True)
            if not done:
                break
        assert not done
    out.rename(tmp_path / "moved")
    done, text = staged(config, tmp_path / "moved", resume=True)
    assert done, text
    for stage in ("", "finish"):
        assert_same(tmp_path / "moved" / stage, whole / stage)
    one, other = (load_file(run / "model" / "model.safetensors") for run in (tmp_path / "moved", whole))
    assert all(one[name].equal(other[name]) for name in one)


def test_a_finished_run_that_is_taken_up_again_stays_as_it_is(config: RunConfig, out: Path) -> None:
    before = load_file(out / "model" / "model.safetensors")
    done, text = staged(config, out, resume=True)
    assert done
    assert "one-step student" not in text
    after = load_file(out / "model" / "model.safetensors")
    assert all(after[name].equal(before[name]) for name in before)


def test_a_student_that_went_on_is_post_trained_anew(config: RunConfig, out: Path) -> None:
    start = (out / "finish" / "start" / "model.safetensors").read_bytes()
    assert staged(replace(config, max_steps=20), out, resume=True)[0]
    assert checkpoint(out)[0] == 11  # 0.7 of 20, without the teacher's three
    assert checkpoint(out / "finish")[0] == 6
    assert (out / "finish" / "start" / "model.safetensors").read_bytes() != start


def test_a_student_without_a_teacher_of_its_own_has_it_too(tmp_path: Path) -> None:
    config = replace(run_config("ect", tmp_path), max_steps=10, finish_share=0.3)
    out = tmp_path / "run"
    assert staged(config, out)[0]
    assert [checkpoint(folder)[0] for folder in (out, out / "finish")] == [7, 3]
    assert not (out / "teacher").exists()


@pytest.mark.parametrize(
    ("changes", "items", "share"),
    [
        ({}, 40, 0.3),
        ({}, 9, 0.0),
        ({"max_steps": None, "budget": "10m"}, 40, 0.3),
        ({"max_steps": None, "budget": "3m"}, 40, 0.0),  # 54 seconds
        ({"max_steps": None, "budget": "20k"}, 40, 0.3),
        ({"lora": LoRAConfig(rank=2)}, 40, 0.0),
        ({"rehearsal": 0.5}, 40, 0.0),
    ],
)
def test_runs_that_post_training_does_not_suit_go_without(changes, items: int, share: float, config: RunConfig) -> None:
    assert share_of(replace(config, **changes), items) == share


@pytest.mark.parametrize(
    ("budget", "speed", "share"),
    [("40m", None, 0.0), ("40m", 0.4, 0.0), ("40m", 0.6, 0.2), ("10m", 0.6, 0.0), ("1.3k", 0.1, 0.2), ("1.1k", 9, 0.0)],
)
def test_a_share_that_is_left_open_is_taken_where_it_has_enough_steps(
    budget: str, speed: float | None, share: float, config: RunConfig
) -> None:
    """Thirty steps of eight items, at the teacher's speed; of a budget in items, whatever the speed."""
    timed = replace(config, max_steps=None, budget=budget, finish_share=0.0, auto=("finish_share",))
    assert share_of(timed, 1000, speed) == share
    assert share_of(replace(timed, teacher_share=0.85), 1000, speed) == 0  # which leaves less than that
    assert share_of(replace(timed, finish_share=0.2, auto=()), 1000, speed) == 0.2  # a share that was given is taken


@pytest.mark.parametrize("least", [2, 1000])
def test_a_run_decides_after_its_teacher_and_says_so(
    least: int, config: RunConfig, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(finish_module, "LEAST_STEPS", least)
    open_share = replace(config, max_steps=None, budget="0.08k", batch_size=8, finish_share=0.0, auto=("finish_share",))
    out = tmp_path / "run"
    done, text = staged(open_share, out)
    assert done
    assert (out / "finish").exists() == (least == 2) == ("20% of the budget is kept for post-training" in text)
    (out / "model").rename(tmp_path / "model")
    assert staged(open_share, out, resume=True)[0]  # the same decision, so nothing is trained again but copied
    one, other = (load_file(f / "model.safetensors") for f in (out / "model", tmp_path / "model"))
    assert all(one[name].equal(other[name]) for name in one)


def test_a_run_that_an_earlier_version_began_goes_on_without_it(config: RunConfig, tmp_path: Path) -> None:
    earlier, out = replace(config, finish_share=0.0), tmp_path / "run"
    assert staged(earlier, out)[0]
    assert staged(replace(earlier, auto=("finish_share",)), out, resume=True)[0]
    assert not (out / "finish").exists()


@pytest.mark.parametrize("method", ["denoising", "fd"])
def test_nor_has_a_denoiser_or_post_training_itself_such_a_stage(method: str, tmp_path: Path) -> None:
    assert share_of(replace(run_config(method, tmp_path), finish_share=0.2)) == 0


def test_shares_that_leave_nothing_for_the_student_are_refused(config: RunConfig, place: Path) -> None:
    with pytest.raises(ValueError, match=r"finish_share must be from 0 .* below 0\.7, .* got 0\.7"):
        replace(config, finish_share=0.7)
    # A teacher that is there, or that a method does not need, takes nothing of the budget.
    for ready in (replace(config, teacher="fashion-teacher"), run_config("ict", place)):
        assert replace(ready, finish_share=0.7).finish_share == 0.7
        with pytest.raises(ValueError, match=r"from 0 \(none\) to below 1, got 1"):
            replace(ready, finish_share=1.0)


def test_a_finish_without_a_checkpoint_begins_anew(config: RunConfig, out: Path) -> None:
    shutil.rmtree(out / "finish" / "checkpoints")
    assert staged(config, out, resume=True)[0]
    assert checkpoint(out / "finish")[0] == 3
