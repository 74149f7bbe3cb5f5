"""One stage of a run: resolve what is requested, go back to the newest checkpoint, train, report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from unistep.data import Dataset, prepare
from unistep.data.remembered import data_provenance
from unistep.data.summary import with_article
from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.metrics import Moments, frechet_distance
from unistep.evaluation.reference import reference_statistics, shown_statistics
from unistep.evaluation.roles import feature_roles, selection_features
from unistep.generation.generator import Generator
from unistep.hub.load import load
from unistep.serialization import read_json
from unistep.training.advice import Ended, how_it_went, next_commands, where_everything_is
from unistep.training.checkpoint import TrainingState, newest_progress
from unistep.training.comparison import compare
from unistep.training.display import Display, duration, show_line, show_table
from unistep.training.ema import EMA
from unistep.training.finish import publish
from unistep.training.log import MetricsLog
from unistep.training.loop import Callback, Loop
from unistep.training.outlook import too_short
from unistep.training.pace import Clock, Leg, Pace, known_plans, write_plans
from unistep.training.parallel import World
from unistep.training.plan import describe
from unistep.training.preflight import data_warnings
from unistep.training.resolve import resolve
from unistep.training.resolved import ResolvedRun, Session
from unistep.training.restore import restore
from unistep.training.run_config import RunConfig
from unistep.training.run_directory import CONFIG, going_on, write_config
from unistep.training.run_files import RunFiles
from unistep.training.run_paths import teacher_of
from unistep.training.selection import Selection
from unistep.training.stages import length_of
from unistep.training.stop import Stop
from unistep.training.stream_selection import stream_distance

SELECTED_AT_ONCE = 64
"""Samples that are drawn together when weights are selected."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the stages of a run share."""

    world: World
    """The processes."""
    console: Console
    """Where to report."""
    resume: str
    """The command that goes on after a stop."""
    typed: bool = False
    """Whether that is a command line, and no call in Python."""
    stop: Stop = field(default_factory=Stop)
    """Says when to stop early."""
    callback: Callback | None = None
    """Called after every step."""


def train_stage(
    requested: RunConfig,
    out: Path,
    around: Surroundings,
    *,
    stage: str = "student",
    spent: float = 0.0,
    whole: RunConfig | None = None,
    last: bool = True,
    finishes: Path | None = None,
) -> tuple[bool, float]:
    """Train one model in a folder that is held, or go on with it.

    Args:
        requested: What is requested.
        out: The folder.
        around: What the stages share.
        stage: What is trained.
        spent: Seconds of the budget that an earlier stage took.
        whole: The run that this is a stage of, where it has several.
        last: Whether no other stage follows, so that the end is reported.
        finishes: The run whose model this stage's replaces at its end; the report is that run's.

    Returns:
        Whether the last step was reached, and the seconds that all sessions of the stage took.

    Raises:
        ValueError: For a mistake in the configuration or the data, before anything is trained.
        TrainingStoppedError: When training diverges.
    """
    world, console = around.world, around.console
    stored = read_json(RunConfig, out / CONFIG) if (out / CONFIG).is_file() else None
    config = requested if stored is None else going_on(stored, requested)
    dataset = _data(config, world)
    if spent == 0 and (dataset.summary.skipped or dataset.summary.notes):
        console.print(dataset.summary)
    earlier = newest_progress(out / "checkpoints")
    clock = Clock(float((earlier or {}).get("seconds", 0.0)))
    session = Session(
        out=out, world=world, clock=clock, spent=spent, earlier=earlier, say=lambda text: show_line(console, text)
    )
    resolved = resolve(config, dataset, session)
    config, parts = resolved.config, resolved.parts
    emas = [EMA(ema, parts.objective.student.net.parameters()) for ema in config.emas]
    selection = _selection(resolved)
    state = TrainingState(parts.objective, parts.optimizer, emas, selection)
    described = {
        "data": f"data of {config.data.source}",
        "teacher": f"teacher {teacher_of(config, out)}",
        "base": f"base {config.init}",
        "rehearsed": f"rehearsed data of {config.init}",
    }
    progress = restore(state, out, parts.identity, described, world, console)
    clock.before = float(progress.get("seconds", 0.0))
    step = int(progress.get("step", 0))
    if config.max_steps is not None and step > config.max_steps:
        raise ValueError(f"{out} has done {step} steps already; give at least as many with --max-steps")
    if not progress:
        short = too_short(resolved, whole or config, teacher_stage=stage == "teacher", spent=spent)
        few = data_warnings(dataset) if spent == 0 else ()
        resolved = replace(resolved, warnings=(*few, *short, *resolved.warnings))
    pace = _pace(resolved, progress, out, clock)
    resolved = replace(resolved, steps=pace.total(step))
    if world.is_rank_zero:
        write_config(out, config)
        write_plans(out, pace.legs)
    show_table(console, "plan", describe(resolved, parts.train_step, out, step))
    if progress:
        show_line(console, f"going on after step {step}")
    provenance = {
        "recipe": config.recipe,
        **data_provenance(config.data, config.model.modality),
        **({"data licence": dataset.licence} if dataset.licence else {}),
    }
    files = RunFiles(
        out,
        config.keep,
        {**parts.identity, "length": length_of(config)},
        config.model,
        config.recipe,
        provenance,
        parts.train_step.examples.codec,
    )
    loop = Loop(
        parts.train_step.options,
        parts.objective,
        parts.train_step,
        state,
        pace,
        progress=progress,
        clock=clock,
        deadline=resolved.deadline(),
        files=files,
        draw=lambda: _draw(resolved),
        modality=config.model.modality,
        stop=around.stop,
        callback=around.callback,
        stage=stage,
        resume=around.resume,
        selection=selection,
    )
    log = MetricsLog(out, loop.step, resolved.warnings) if world.is_rank_zero else None
    display = Display(console, loop.total, loop.step, f"{resolved.noun}s")
    try:
        done = loop.run(display, log)
        if done and last and world.is_rank_zero:
            _compare(resolved, loop, files, around, log)
        if done and finishes is not None:
            world.run_on_rank_zero(lambda: publish(finishes))
    finally:
        if log is not None:
            try:
                log.close()
            except OSError as error:
                display.warn(f"the last numbers are not on disk: {error}")
    _say_how_it_ended(around, loop, done=done)
    if done and last:
        ended = Ended(
            out=finishes or out,
            post_training=None if finishes is None else out,
            whole=whole or requested,
            resolved=resolved,
            items=loop.step * config.batch_size,
            seconds=loop.seconds,
            spent=spent,
            resume=around.resume,
            typed=around.typed,
        )
        _report(console, ended, tensorboard=log is not None and log.has_tensorboard)
    elif not done:
        show_table(console, "where everything is", where_everything_is(out))
    return done, loop.seconds


def _data(config: RunConfig, world: World) -> Dataset:
    """The data, prepared once by the main process."""

    def once() -> None:
        prepare(config.data, progress=True)

    world.run_on_rank_zero(once)
    return prepare(config.data, progress=False)


def _draw(resolved: ResolvedRun) -> Tensor:
    """Samples of the student as it is, always of the same seeds."""
    model = resolved.config.model
    generator = Generator(resolved.parts.objective.student, model, codec=resolved.parts.train_step.examples.codec)
    denoiser = model.kind == "denoiser"
    num = model.modality.previews
    steps, solver = (8, "dpmpp2m") if denoiser else (model.steps, None)
    return generator.sample(num, steps=steps, solver=solver, **_given(resolved.data, range(num), num))


def _given(data: Dataset, samples: range, num: int) -> dict[str, Any]:
    """Conditions of some of ``num`` samples that cannot be drawn, such as texts: of items spread over the data."""
    known = data.conditions([i * len(data) // num for i in samples])
    return {name: value for name, value in known.items() if not data.fields[name].drawn}


def _selection(resolved: ResolvedRun) -> Selection | None:
    """What selects weights, where the run does."""
    config, data = resolved.config.selection, resolved.data
    if config.every == 0:
        return None
    model, world = resolved.config.model, resolved.parts.train_step.world
    examples = resolved.parts.train_step.examples
    if examples.codec.chunked and model.kind != "denoiser":
        name, objective = config.features or feature_roles(data).selection, resolved.parts.objective
        return Selection(config, *stream_distance(name, data, examples, objective, config.samples, world.device))
    network = load_features(config.features, data=data) if config.features else selection_features(data)
    network.check_shape(data.modality.shape)
    world.run_on_rank_zero(lambda: shown_statistics(data, network) and None)
    real = reference_statistics(data, network).moments
    generator = Generator(resolved.parts.objective.student, model, codec=resolved.parts.train_step.examples.codec)
    steps = 18 if model.kind == "denoiser" else model.steps

    def distance() -> float:
        moments = Moments(network.dim)
        for start in range(0, config.samples, SELECTED_AT_ONCE):
            num = min(SELECTED_AT_ONCE, config.samples - start)
            given = _given(data, range(start, start + num), config.samples)
            moments.update(network(data.modality.quantised(generator.sample(num, steps=steps, seed=start, **given))))
        return frechet_distance(real, moments)

    return Selection(config, distance, f"{network.name} v{network.version}")


def _compare(resolved: ResolvedRun, loop: Loop, files: RunFiles, around: Surroundings, log: MetricsLog | None) -> None:
    """Compare a one-step model with the one that it went on with, print the figures, and write them into its card."""
    config, console = resolved.config, around.console
    if config.init is None or config.start_report == 0 or config.model.context is not None:
        return
    start = load(config.init, device=around.world.device)
    if start.kind != config.model.kind or start.kind == "denoiser":
        return
    model = load(files.out, device=around.world.device)
    try:
        found = compare(model, resolved.data, start, config.start_report)
    except ValueError as error:
        show_line(console, f"not compared with {config.init}: {error}", "yellow")
        return
    show_line(console, found.described)
    if log is not None:
        log.write(loop.step, found.numbers)
    files.note("distance", found.described)


def _pace(resolved: ResolvedRun, progress: Mapping[str, Any], out: Path, clock: Clock) -> Pace:
    """The plans of the run: those that it had, unless it was given another length."""
    config, deadline = resolved.config, resolved.deadline()
    if deadline is None:
        return Pace([Leg(0, 0.0, resolved.steps)])
    if progress.get("plans") and progress.get("length") == length_of(config):
        return Pace(known_plans(progress["plans"], out))
    step = int(progress.get("step", 0))
    return Pace([Leg(step, min(clock.elapsed() / deadline.seconds, 1.0) if step else 0.0, resolved.steps)])


def _say_how_it_ended(around: Surroundings, loop: Loop, *, done: bool) -> None:
    """Say whether the last step was reached, and what was skipped."""
    console = around.console
    if done:
        show_line(console, f"done: {loop.step} step{'' if loop.step == 1 else 's'} in {duration(loop.seconds)}")
    else:
        show_line(console, f"stopped after step {loop.step} of {loop.total}, saved; go on with:")
        show_line(console, f"  {around.resume}")
    if loop.health.skipped:
        show_line(console, f"{loop.health.skipped} steps with a non-finite loss or gradient were skipped")


def _report(console: Console, ended: Ended, *, tensorboard: bool) -> None:
    """Say what was made, where it is, what to do next, and what goes on where the run was short."""
    config, noun = ended.resolved.config, ended.resolved.noun
    steps = "one step" if config.model.steps == 1 else f"{config.model.steps} steps"
    described = config.model.modality.described
    show_line(console, f"made: a model that generates {with_article(noun)} of {described} in {steps}")
    show_table(console, "where everything is", where_everything_is(ended.out, ended.post_training))
    following = next_commands(ended)
    if tensorboard:
        following["see the curves"] = f"tensorboard --logdir {shlex.quote(str(ended.out / 'tensorboard'))}"
    show_table(console, "what to do next", following)
    for line in how_it_went(ended):
        show_line(console, line, None if line.startswith(" ") else "yellow")
