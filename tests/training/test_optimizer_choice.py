"""Where the optimizer is open, a run takes Muon or AdamW by what a step of each costs, and keeps what it took."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from tiny import assert_same, run_config

from unistep.data import Dataset, prepare
from unistep.optimizers import AdamConfig, MuonConfig, named_optimizer
from unistep.recipes import recipe
from unistep.serialization import read_json
from unistep.training import optimizer_choice, timing
from unistep.training import resolve as resolve_module
from unistep.training.loop import Loop
from unistep.training.optim import RunOptimizer
from unistep.training.optimizer_choice import MUON_STEPS
from unistep.training.resolve import resolve
from unistep.training.run import train
from unistep.training.run_config import RunConfig
from unistep.training.stages import teacher_config
from unistep.training.step import TrainStep
from unistep.training.timing import StepTime, time_optimizer, time_steps

OPEN = ("optimizer",)


@pytest.fixture
def costs(monkeypatch):
    """Lets every timing run find these seconds: of the gradient, and of a step of Muon and of AdamW."""

    def cost(gradient: float, muon: float, adam: float, batch_size: int = 8) -> None:
        found = StepTime(batch_size=batch_size, gradient=gradient, optimizer=muon)
        monkeypatch.setattr(resolve_module, "time_steps", lambda *_: found)
        monkeypatch.setattr(optimizer_choice, "time_optimizer", lambda *_: adam)

    return cost


def stage_data(config: RunConfig) -> Dataset:
    return prepare(config.data, progress=False)


def stopped_after(step: int, monkeypatch) -> None:
    proceed = Loop._one_step

    def stepped(self):
        self.stop.signalled = self.step + 1 == step
        return proceed(self)

    monkeypatch.setattr(Loop, "_one_step", stepped)


def trained(config: RunConfig | None, out: Path, **options) -> tuple[bool, str]:
    text = io.StringIO()
    done = train(config, out, device="cpu", console=Console(file=text, width=400), **options)
    return done, text.getvalue()


def optimizer_of(out: Path) -> object:
    return read_json(RunConfig, out / "config.json").optimizer


def timed(folder: Path, **changes) -> RunConfig:
    usual = {"max_steps": None, "budget": "1h", "auto": OPEN, "auto_compile": False}
    return run_config("ect", folder, **{**usual, **changes})


@pytest.mark.parametrize(
    ("gradient", "muon", "adam", "taken"),
    [
        (1.0, 0.5, 0.0, MuonConfig),
        (1.0, 4.0, 0.5, AdamConfig),
        (1.0, MUON_STEPS - 1.01, 0.0, MuonConfig),
        (1.0, MUON_STEPS - 0.99, 0.0, AdamConfig),
        # It takes most of a step, and so would AdamW.
        (0.1, 0.9, 0.8, MuonConfig),
    ],
)
def test_the_cost_decides(costs, gradient: float, muon: float, adam: float, taken: type, tmp_path: Path) -> None:
    costs(gradient, muon, adam)
    config = timed(tmp_path, optimizer=MuonConfig(lr=3e-3, adam_lr=4e-4))
    resolved = resolve(config, stage_data(config))
    assert type(resolved.config.optimizer) is taken
    assert resolved.config.auto == ()
    assert ("optimizer" in resolved.reasons) == (taken is AdamConfig)
    kinds = {type(inner) for group in resolved.parts.optimizer.groups for inner in group.optimizers}
    if taken is AdamConfig:
        assert resolved.config.optimizer == AdamConfig(lr=4e-4, betas=(0.9, 0.99))
        assert kinds == {torch.optim.AdamW}
    assert resolved.speed == pytest.approx(8 / (gradient + (muon if taken is MuonConfig else adam)))


def test_a_line_says_so_and_a_run_that_goes_on_keeps_it(costs, tmp_path: Path, monkeypatch) -> None:
    costs(1.0, 4.0, 0.5)
    config = timed(tmp_path)
    with monkeypatch.context() as patch:
        stopped_after(2, patch)
        done, text = trained(config, tmp_path / "run")
    assert not done
    assert "chosen: optimizer" in text
    assert "AdamW at 0.001; Muon would take 80% of a step at batch 8, 3.3 times as long" in text
    assert optimizer_of(tmp_path / "run") == MuonConfig().adam
    costs(1.0, 0.1, 0.5)  # now Muon would be taken
    for again, until in ((config, 4), (None, 6)):
        with monkeypatch.context() as patch:
            stopped_after(until, patch)
            done, text = trained(again, tmp_path / "run", resume=True)
        assert "going on after step" in text
        assert "chosen: optimizer" not in text
        assert optimizer_of(tmp_path / "run") == MuonConfig().adam


def test_steps_that_are_counted_are_the_same_everywhere(costs, tmp_path: Path) -> None:
    costs(1.0, 0.1, 0.5)
    trained(run_config("ect", tmp_path, auto=OPEN), tmp_path / "cheap")
    costs(1.0, 4.0, 0.5)
    _, text = trained(run_config("ect", tmp_path, auto=OPEN), tmp_path / "dear")
    assert "Muon, as the budget is no time; it takes 80% of a step at batch 8" in text
    assert "--optimizer adamw are 3.3 times as fast" in text
    assert optimizer_of(tmp_path / "dear") == MuonConfig()
    assert_same(tmp_path / "cheap", tmp_path / "dear")


@pytest.mark.parametrize("optimizer", [MuonConfig(), AdamConfig(kind="radam")])
def test_what_is_settled_or_no_muon_stays(costs, optimizer, tmp_path: Path) -> None:
    costs(1.0, 9.0, 0.1)
    auto = () if isinstance(optimizer, MuonConfig) else OPEN
    config = timed(tmp_path, optimizer=optimizer, auto=auto)
    resolved = resolve(config, stage_data(config))
    assert resolved.config.optimizer == optimizer
    assert not resolved.reasons


def test_a_cost_that_another_batch_gave_is_measured_again_where_it_matters(tmp_path: Path, monkeypatch) -> None:
    """The batch is chosen by a timing run of sixteen: as the optimizer does not cost more for more, 32 are fine."""
    seen: list[int] = []
    costs = iter([0.2, 0.4, 0.4])

    def found(step: TrainStep, *_: object) -> StepTime:
        seen.append(step.options.batch_size)
        return StepTime(batch_size=seen[-1], gradient=seen[-1] / 100, optimizer=next(costs))

    monkeypatch.setattr(resolve_module, "time_steps", found)
    monkeypatch.setattr(optimizer_choice, "time_optimizer", lambda *_: 0.0)
    config = timed(tmp_path, budget="20m", batch_size=64, auto=("batch_size", "optimizer"))
    for timings, taken in (([16], MuonConfig), ([16, 32], AdamConfig)):
        seen.clear()
        resolved = resolve(config, stage_data(config))
        assert resolved.config.batch_size == 32
        assert seen == timings
        assert type(resolved.config.optimizer) is taken


def test_the_teacher_of_a_run_is_open_whatever_was_said_of_its_student(tmp_path: Path) -> None:
    config = replace(run_config("ect", tmp_path), optimizer=AdamConfig(), auto=("network",))
    assert teacher_config(config).auto == ("network", "optimizer")
    assert teacher_config(config).optimizer == MuonConfig()


def test_a_recipe_leaves_open_what_is_not_given() -> None:
    assert "optimizer" in recipe("ect", "fashion-mnist").auto
    given = recipe("ect", "fashion-mnist", optimizer=MuonConfig(lr=1e-3), batch_size=8)
    assert given.auto == ("network", "init", "size", "curriculum", "finish_share")
    assert recipe("imm", "fashion-mnist").auto == ("network", "size", "optimizer")


def test_optimizers_by_name() -> None:
    muon, adam = MuonConfig(lr=5e-4, adam_lr=2e-4), AdamConfig(kind="radam", lr=4e-4)
    assert named_optimizer("muon", muon) is muon
    assert named_optimizer("adamw", muon) == AdamConfig(lr=2e-4, betas=(0.9, 0.99))
    assert named_optimizer("radam", muon) == AdamConfig(kind="radam", lr=2e-4, betas=(0.9, 0.99))
    assert named_optimizer("adamw", adam) == AdamConfig(lr=4e-4)
    assert named_optimizer("muon", adam) == MuonConfig(lr=4e-4, adam_lr=4e-4)
    with pytest.raises(ValueError, match=re.escape("unknown optimizer 'adam'; did you mean 'adamw'?")):
        named_optimizer("adam", muon)


def test_gradient_and_optimizer_are_timed_apart_and_leave_no_trace(tmp_path: Path, monkeypatch) -> None:
    clock = SimpleNamespace(now=0.0)
    compute, proceed = TrainStep.gradient, RunOptimizer.step

    def gradient(self, *args, **options):
        clock.now += 0.3
        return compute(self, *args, **options)

    def step(self, *args):
        clock.now += 0.1
        proceed(self, *args)

    monkeypatch.setattr(TrainStep, "gradient", gradient)
    monkeypatch.setattr(RunOptimizer, "step", step)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(timing, "TIMING_SECONDS", 1.0)  # a few steps, for a mean
    config = run_config("ect", tmp_path)
    parts = resolve(config, stage_data(config)).parts
    before = {name: value.clone() for name, value in parts.objective.state_dict().items()}
    rates = [group["lr"] for group in parts.optimizer.param_groups]
    found = time_steps(parts.train_step, parts.optimizer)
    assert (found.gradient, found.optimizer) == pytest.approx((0.3, 0.1))
    assert found.items_per_second == pytest.approx(8 / 0.4)
    assert time_optimizer(parts.train_step, parts.optimizer) == pytest.approx(0.1)
    assert all(torch.equal(value, before[name]) for name, value in parts.objective.state_dict().items())
    assert not parts.optimizer.state
    assert [group["lr"] for group in parts.optimizer.param_groups] == rates
    assert all(p.grad is None for p in parts.train_step.trainable)
