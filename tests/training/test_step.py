"""One step: its gradient does not depend on how the batch is cut, its randomness on nothing but seed and step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import OBJECTIVES, assert_same, checkpoint, metrics, run, run_config
from torch import Tensor

from tolerance import rounding
from unistep.data import Loader, prepare
from unistep.hub.load import load
from unistep.objectives.base import Loss
from unistep.objectives.ect import ECTConfig
from unistep.objectives.reuse import WINDOW
from unistep.training import plan, timing
from unistep.training.build import build_objective, build_student, fit_model_to_data
from unistep.training.checkpoint import read_checkpoint
from unistep.training.examples import Examples
from unistep.training.health import Health, TrainingStoppedError
from unistep.training.loop_options import LoopOptions
from unistep.training.optim import build_optimizer
from unistep.training.parallel import World
from unistep.training.resolve import resolve
from unistep.training.run_config import RunConfig
from unistep.training.step import Gradient, TrainStep


def stepper_for(config: RunConfig, folder: Path) -> TrainStep:
    """A train step whose student has the teacher's weights, none of which are zero."""
    network = replace(config.model.network, dropout=0.0)
    dataset = prepare(config.data, progress=False)
    model = fit_model_to_data(replace(config.model, network=network), dataset)
    teacher = load(folder / "teacher")
    objective = build_objective(config, build_student(config, model, teacher), teacher)
    objective.train()
    loader = Loader(dataset, config.batch_size, config.seed)
    examples = Examples(model.modality, model.build_codec(), model.context, model.sigma_data)
    return TrainStep(objective, loader, examples, LoopOptions.of(config), World())


def gradient_of(config: RunConfig, folder: Path, step: int = 3) -> tuple[Gradient, dict[str, Tensor]]:
    train_step = stepper_for(config, folder)
    told = train_step.gradient(step, 0.5)
    return told, {name: p.grad for name, p in train_step.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_four_parts_have_the_gradient_of_one(objective: str, tmp_path: Path) -> None:
    config = run_config(objective, tmp_path, clip=1e9)
    told, whole = gradient_of(config, tmp_path)
    told_parts, parts = gradient_of(replace(config, accumulation=4), tmp_path)
    assert whole.keys() == parts.keys()
    size = max(float(g.abs().max()) for g in whole.values())
    assert size > 1e-4
    # A weight's gradient is a sum over the items of a batch and their pixels.
    allowed = rounding(terms=config.batch_size * 8 * 8, scale=size)
    for name, g in whole.items():
        assert (g - parts[name]).abs().max() < allowed, name
    assert told_parts.loss == pytest.approx(told.loss, rel=1e-5)
    assert told_parts.norm == pytest.approx(told.norm, rel=1e-4)
    assert told_parts.logs == pytest.approx(told.logs, rel=1e-4)


def test_clipping_scales_the_whole_gradient(tmp_path: Path) -> None:
    config = run_config("denoising", tmp_path)
    free, long = gradient_of(replace(config, clip=1e9), tmp_path)
    clipped, short = gradient_of(replace(config, clip=free.norm / 4), tmp_path)
    assert clipped.norm == pytest.approx(free.norm)
    assert all(torch.allclose(g / 4, short[name], rtol=1e-4) for name, g in long.items())


def test_steps_are_functions_of_seed_and_number(tmp_path: Path) -> None:
    config = run_config("ect", tmp_path)
    train_step = stepper_for(config, tmp_path)
    first = train_step.gradient(5, 0.5).loss
    assert train_step.gradient(6, 0.5).loss != first
    torch.manual_seed(99)
    assert train_step.gradient(5, 0.5).loss == first
    assert stepper_for(replace(config, seed=1), tmp_path).gradient(5, 0.5).loss != first


def test_the_timing_run_leaves_no_trace(tmp_path: Path) -> None:
    config = run_config("ct", tmp_path)
    timed, fresh = stepper_for(config, tmp_path), stepper_for(config, tmp_path)
    optimizer = build_optimizer(config.optimizer, timed.module.student.net, timed.module)
    before = {name: value.clone() for name, value in timed.module.state_dict().items()}
    rates = [group["lr"] for group in optimizer.param_groups]
    speed = timing.time_steps(timed, optimizer).items_per_second
    assert all(torch.equal(value, before[name]) for name, value in timed.module.state_dict().items())
    assert not optimizer.state
    assert [group["lr"] for group in optimizer.param_groups] == rates
    assert 0 < speed < 1e6
    assert all(p.grad is None for p in timed.trainable)
    assert timed.gradient(0, 0.0) == fresh.gradient(0, 0.0)
    rows = plan.describe(resolve(config, timed.loader.dataset), timed, tmp_path / "out")
    assert rows["steps"] == "12 of 8 images: 96 images, 2.4 passes"
    assert "40 images of 8 x 8 pixels, grey, each with label" in rows["data"]
    assert rows["memory"].endswith(" MiB")


def test_a_request_to_stop_is_passed_on(tmp_path: Path) -> None:
    train_step = stepper_for(run_config("denoising", tmp_path), tmp_path)
    assert not train_step.gradient(0, 0.0).stop
    assert train_step.gradient(0, 0.0, stop=True).stop


@pytest.fixture
def poisoned(monkeypatch):
    """Let the loss be not a number at some steps; the timing run before the first is spared."""

    def poison(*steps: int, value: float = math.nan) -> None:
        compute = TrainStep.gradient

        def gradient(self: TrainStep, step: int, progress: float, *, stop: bool = False) -> Gradient:
            forward = self.module.forward
            if step in steps:

                def bad(*args: object, **options: object) -> Loss:
                    loss = forward(*args, **options)
                    return Loss(loss.per_example * value, loss.logs)

                monkeypatch.setattr(self.module, "forward", bad)
            try:
                return compute(self, step, progress, stop=stop)
            finally:
                monkeypatch.setattr(self.module, "forward", forward)

        monkeypatch.setattr(TrainStep, "gradient", gradient)
        monkeypatch.setattr("unistep.training.loop.LOG_EVERY", 1)

    return poison


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_steps_are_skipped_counted_and_told(value: float, tmp_path: Path, poisoned) -> None:
    poisoned(3, 4, 7, value=value)
    out = tmp_path / "run"
    done, text = run(run_config("ct", tmp_path, keep=20, max_bad_steps=3, checkpoint_every="1"), out)
    assert done
    assert "3 steps with a non-finite loss or gradient were skipped" in text
    rows = metrics(out)
    assert [row["skipped"] for row in rows] == [0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 3, 3]
    assert [row["step"] for row in rows if row["loss"] is None] == [4, 5, 8]
    assert "NaN" not in (out / "metrics.jsonl").read_text()  # which is no JSON
    # While steps are bad there are no checkpoints; around them the weights, target included, did not move.
    steps = [int(path.name) for path in sorted((out / "checkpoints").glob("[0-9]*"))]
    assert steps == [1, 2, 3, 6, 7, 9, 10, 11, 12]


def test_a_skipped_step_changes_no_weight(tmp_path: Path, poisoned) -> None:
    poisoned(2)
    config = run_config("ct", tmp_path, max_steps=3, checkpoint_every="1")
    run(config, tmp_path / "run")
    before = read_checkpoint(tmp_path / "run" / "checkpoints" / "00000002").files
    _, after, _ = checkpoint(tmp_path / "run")
    for name in ("weights", "optimizer"):
        assert all(torch.equal(before[name][key], value) for key, value in after[name].items())
    assert any(not torch.equal(before["power-0.1"][key], value) for key, value in after["power-0.1"].items())


def test_too_many_bad_steps_stop_the_run_with_a_whole_checkpoint(tmp_path: Path, poisoned, monkeypatch) -> None:
    assert run(run_config("denoising", tmp_path), tmp_path / "whole")[0]
    compute = TrainStep.gradient
    poisoned(6, 7, 8)
    config = run_config("denoising", tmp_path, max_bad_steps=3, checkpoint_every="1")
    message = (
        r"3 steps in a row had a non-finite loss or gradient \(step 8: loss nan, .*the checkpoint of step 6 is whole"
    )
    with pytest.raises(TrainingStoppedError, match=message):
        run(config, tmp_path / "run")
    assert checkpoint(tmp_path / "run")[0] == 6
    # With the cause gone it goes on, and ends as if nothing had been.
    monkeypatch.setattr(TrainStep, "gradient", compute)
    assert run(run_config("denoising", tmp_path), tmp_path / "run", resume=True)[0]
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_diverges_at_once_does_not_speak_of_a_checkpoint(tmp_path: Path, poisoned) -> None:
    poisoned(0, 1, 2)
    config = run_config("denoising", tmp_path, max_bad_steps=3, checkpoint_every="1")
    with pytest.raises(TrainingStoppedError, match=r"gradient norm .*\); there is no checkpoint yet\. In another"):
        run(config, tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_health_counts_streaks_and_totals() -> None:
    health = Health(limit=3, skipped=5)
    accepted = [health.accept(k, loss, norm) for k, (loss, norm) in enumerate([(1, 1), (math.nan, 1), (1, math.inf)])]
    assert accepted == [True, False, False]
    assert (health.skipped, health.streak) == (7, 2)
    assert health.accept(3, 1.0, 1.0)
    assert (health.skipped, health.streak) == (7, 0)
    for k in (4, 5):
        assert not health.accept(k, -math.inf, 1.0)
    with pytest.raises(TrainingStoppedError, match=r"step 6: loss 1.0, gradient norm nan"):
        health.accept(6, 1.0, math.nan)


def test_a_compiled_run_trains_and_saves_plain_names(tmp_path: Path, monkeypatch) -> None:
    """Compiled with the backend that traces and does not generate code: what can go wrong here is names and modes."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_(self, backend="eager"))
    config = run_config("denoising", tmp_path, max_steps=2, compile=True, checkpoint_every="100")
    done, _ = run(config, tmp_path / "compiled")
    assert done
    run(replace(config, compile=False), tmp_path / "plain")
    ours, theirs = (checkpoint(tmp_path / name)[1] for name in ("compiled", "plain"))
    for name, value in theirs["weights"].items():
        assert torch.allclose(ours["weights"][name], value, atol=1e-4)
    assert torch.allclose(load(tmp_path / "compiled").sample(2), load(tmp_path / "plain").sample(2), atol=1e-3)


def test_tensorboard_has_the_numbers(tmp_path: Path, monkeypatch) -> None:
    """With the writer that PyTorch has; the other tests go without its files."""
    written: list[tuple[str, float, int]] = []

    class Writer:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    monkeypatch.setattr("unistep.training.log._event_writer", lambda folder, start: Writer())
    monkeypatch.setattr("unistep.training.loop.LOG_EVERY", 1)
    _, text = run(run_config("denoising", tmp_path, max_steps=2, checkpoint_every="100"), tmp_path / "run")
    assert "tensorboard --logdir" in text
    rows = metrics(tmp_path / "run")
    assert [(name, value, step) for name, value, step in written if name == "loss"] == [
        ("loss", row["loss"], row["step"]) for row in rows
    ]
    assert written[-1][0] == "closed"


def test_tensorboard_reads_the_files(event_writer: Callable[..., Any], tmp_path: Path, monkeypatch) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr("unistep.training.log._event_writer", event_writer)
    monkeypatch.setattr("unistep.training.loop.LOG_EVERY", 1)
    run(run_config("denoising", tmp_path, max_steps=2, checkpoint_every="100"), tmp_path / "run")
    read = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload().Scalars("loss")
    wanted = [(row["step"], row["loss"]) for row in metrics(tmp_path / "run")]
    assert [(one.step, pytest.approx(one.value)) for one in read] == wanted


def test_a_draw_that_returns_has_the_same_gradient_and_a_run_that_goes_on_computes_it_again(tmp_path: Path) -> None:
    """With the weights as they were: what differs between the steps is only what the teacher is asked."""
    config = run_config("ect", tmp_path)
    config = replace(config, objective=ECTConfig(target="euler", teacher_reuse=2, guidance=1.5), accumulation=2)
    train_step = stepper_for(config, tmp_path)
    teacher, asked = train_step.objective.teacher, []  # type: ignore[union-attr]
    teacher.register_forward_hook(lambda *_: asked.append(1))

    def gradient(stepper: TrainStep, step: int) -> list[Tensor]:
        stepper.gradient(step, 0.5)
        return [p.grad.clone() for p in stepper.trainable if p.grad is not None]

    first = gradient(train_step, 3)
    assert len(asked) == config.accumulation
    again = gradient(train_step, WINDOW + 3)
    assert len(asked) == config.accumulation
    resumed = gradient(stepper_for(config, tmp_path), WINDOW + 3)
    other = gradient(train_step, 2 * WINDOW + 3)
    assert len(asked) == 2 * config.accumulation
    for a, b, c, d in zip(first, again, resumed, other, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(b, c)
        assert not torch.equal(a, d) or not a.any()
