"""``unistep train``: from a configuration to a trained model, with everything checked before the first step."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from unistep.data import Dataset, Loader, prepare
from unistep.objectives.base import Objective
from unistep.training.build import (
    build_objective,
    build_student,
    fit_model_to_data,
    fit_model_to_objective,
    fit_model_to_start,
    fit_sampling_to_objective,
    load_fitting,
    place,
)
from unistep.training.checkpoint import TrainingState, checkpoints, read_checkpoint
from unistep.training.compiled import compile_networks, keep_if_faster, worth_compiling
from unistep.training.display import Display, duration, show_table
from unistep.training.ema import EMA
from unistep.training.log import MetricsLog
from unistep.training.optim import RunOptimizer, build_optimizer
from unistep.training.parallel import World, start_world, stop_world, wrap
from unistep.training.plan import describe, images_per_second, resolve_steps
from unistep.training.preflight import budget_warnings, network_warnings, start_warnings, time_embedding_slope
from unistep.training.run_config import RunConfig
from unistep.training.run_directory import missing_folders, open_run, run_lock, write_config
from unistep.training.run_paths import teacher_of
from unistep.training.step import TrainStep
from unistep.training.trainer import Trainer
from unistep.weights import weights_hash


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    device: str | None = None,
    console: Console | None = None,
) -> bool:
    """Train a model, or go on with an interrupted run.

    Args:
        config: What to train.
        out: Folder of the run: ``config.json``, ``metrics.jsonl``, ``samples/``, ``checkpoints/``, ``model/``.
        resume: Whether to go on with the run that lies in ``out``; with none there, it starts.
        device: ``cpu`` or ``cuda``; a GPU where there is one without.
        console: Where to report; standard output without.

    Returns:
        Whether the last step was reached; false after an interruption, whose state is saved.

    Raises:
        ValueError: For a mistake in the configuration, the data or the folder, before anything is trained.
        TrainingStoppedError: When training diverges.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    world = start_world(device)
    try:
        return _train(config, out, resume, world, console or Console())
    finally:
        stop_world(world)


def _data(config: RunConfig, world: World) -> Dataset:
    """The data, prepared once by the main process."""

    def once() -> None:
        prepare(config.data, progress=True)

    world.run_on_rank_zero(once)
    return prepare(config.data, progress=False)


def _train(config: RunConfig, out: Path, resume: bool, world: World, console: Console) -> bool:
    config = replace(config, model=fit_sampling_to_objective(config.model, config.objective))
    made = missing_folders(out)
    asked = config
    config = world.run_on_rank_zero(lambda: open_run(out, asked, resume=resume))
    with ExitStack() as stack:
        world.run_on_rank_zero(lambda: stack.enter_context(run_lock(out, made)))
        return _train_held(config, out, world, console)


def _train_held(config: RunConfig, out: Path, world: World, console: Console) -> bool:
    dataset = _data(config, world)
    if world.is_rank_zero and dataset.summary.skipped:
        console.print(dataset.summary)
    model = fit_model_to_objective(fit_model_to_data(config.model, dataset), config.objective)
    teacher = load_fitting(teacher_of(config, out), model, "teacher")
    start = load_fitting(config.init, model, "init")
    model = fit_model_to_start(model, start, teacher)
    config = replace(config, model=model)
    student = build_student(config, model, start or teacher)
    rate = time_embedding_slope(student.net)
    objective = build_objective(config, student, teacher)
    place(objective, config, world)
    module = wrap(objective, world, config.parallel)
    loader = Loader(dataset, config.batch_size, config.seed, rank=world.rank, world=world.size)
    train_step = TrainStep(module, loader, model.modality, model.build_codec(), config, world)
    if config.compile:
        compile_networks(objective, train_step)
    optimizer = build_optimizer(config.optimizer, student.net, objective, train_step.precision)
    state = TrainingState(
        objective,
        optimizer,
        [EMA(ema, student.net.parameters()) for ema in config.emas],
    )
    speed = images_per_second(train_step, optimizer)
    config, speed = _compiled_if_long(config, objective, train_step, optimizer, speed, out, console)
    config = world.broadcast(resolve_steps(config, speed))
    train_step.config = config
    warnings = [*network_warnings(config, rate), *budget_warnings(config)]
    warnings += start_warnings(model, teacher, "teacher") + start_warnings(model, start, "init")
    frozen = objective.teacher
    identity = {"data": dataset.fingerprint, "teacher": "" if frozen is None else weights_hash(frozen.state_dict())}
    progress = _restore(config, state, out, identity, world, console)
    assert config.max_steps is not None
    if progress.get("step", 0) > config.max_steps:
        raise ValueError(f"{out} has done {progress['step']} steps already; give at least as many with --max-steps")
    if world.is_rank_zero:
        write_config(out, config)
        show_table(
            console, "plan", describe(config, train_step, dataset, speed, out, progress.get("step", 0), warnings)
        )
        if progress:
            console.print(f"going on after step {progress['step']}", highlight=False)
    trainer = Trainer(config, model, objective, train_step, state, out, progress | identity)
    log = MetricsLog(out, trainer.step, warnings) if world.is_rank_zero else None
    noun = "images" if dataset.sample_rate is None else "sounds"
    display = Display(console if world.is_rank_zero else Console(quiet=True), config.max_steps, trainer.step, noun)
    try:
        done = trainer.run(display, log)
    finally:
        if log is not None:
            try:
                log.close()
            except OSError as error:
                display.warn(f"the last numbers are not on disk: {error}")
    if world.is_rank_zero:
        _report(console, trainer, out, done=done, tensorboard=log is not None and log.has_tensorboard)
    return done


def _compiled_if_long(
    config: RunConfig,
    objective: Objective,
    train_step: TrainStep,
    optimizer: RunOptimizer,
    speed: float,
    out: Path,
    console: Console,
) -> tuple[RunConfig, float]:
    """The run with its network compiled where that is worth it, and its speed."""
    steps = resolve_steps(config, speed).max_steps or 0
    if not worth_compiling(config, steps * config.batch_size / speed, train_step, out):
        return config, speed
    with console.status("compiling the network, as this run is long (--no-auto-compile goes without)"):
        try:
            faster = keep_if_faster(objective, train_step, optimizer, speed)
        except ValueError as error:
            console.print(f"not compiled: {error}", style="yellow", markup=False, highlight=False, soft_wrap=True)
            return config, speed
    return (config, speed) if math.isnan(faster) else (replace(config, compile=True), faster)


def _restore(
    config: RunConfig, state: TrainingState, out: Path, identity: dict[str, str], world: World, console: Console
) -> dict[str, Any]:
    """Go back to the newest checkpoint that can be read; empty where there is none at all.

    Raises:
        ValueError: If there are checkpoints and none can be read, or the data or the teacher is not what it was.
    """
    found, problem = checkpoints(out / "checkpoints"), ""
    for folder in reversed(found):
        try:
            snapshot, problem = read_checkpoint(folder), ""
        except ValueError as error:
            snapshot, problem = None, str(error)
        # Restoring is done together, or not at all.
        if world.any_rank(snapshot is None) or snapshot is None:
            if world.is_rank_zero:
                console.print(
                    f"checkpoint {folder.name} cannot be read, going back to the one before it ({problem})",
                    style="yellow",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
            continue
        for name, value in identity.items():
            if snapshot.progress.get(name, value) != value:
                what = f"data of {config.data.source}" if name == "data" else f"teacher {teacher_of(config, out)}"
                raise ValueError(f"the {what} has changed since the run in {out} began; start another with --out")
        try:
            state.restore(snapshot)
        except ValueError as error:
            raise ValueError(f"{folder} cannot be used: {error}; start another run with --out") from None
        return snapshot.progress
    if found:
        raise ValueError(f"no checkpoint in {out} can be read ({problem}); start another run with --out")
    return {}


def _report(console: Console, trainer: Trainer, out: Path, *, done: bool, tensorboard: bool) -> None:
    """Say how it ended and where everything is."""
    if done:
        console.print(f"done: {trainer.step} steps in {duration(trainer.seconds)}", highlight=False)
    else:
        console.print(
            f"stopped after step {trainer.step} of {trainer.total}, saved; go on with --resume", highlight=False
        )
    if trainer.health.skipped:
        console.print(
            f"{trainer.health.skipped} steps with a non-finite loss or gradient were skipped", highlight=False
        )
    rows = {
        "model": f"{out / 'model'}  (unistep sample {out})",
        "samples": str(out / "samples"),
        "numbers": str(out / "metrics.jsonl"),
        "checkpoints": str(out / "checkpoints"),
    }
    if tensorboard:
        rows["tensorboard"] = f"tensorboard --logdir {out / 'tensorboard'}"
    show_table(console, "where everything is", rows)
