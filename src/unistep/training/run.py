"""``unistep train``: from a configuration to a trained model, with everything checked before the first step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from rich.console import Console

from unistep.data import prepare
from unistep.modalities.base import Modality
from unistep.training.build import require_start
from unistep.training.display import show_line, show_table
from unistep.training.finish import finish_config, hold_start, share_of, wanted_share
from unistep.training.loop import Callback
from unistep.training.lora import check_lora
from unistep.training.parallel import World, is_rank_zero, start_world, stop_world
from unistep.training.resolve import time_size
from unistep.training.run_config import RunConfig
from unistep.training.run_directory import (
    CONFIG,
    holds_run,
    missing_folders,
    no_run_yet,
    open_run,
    run_lock,
    write_requested,
)
from unistep.training.run_paths import FINISH_FOLDER, START_FOLDER, TEACHER_FOLDER
from unistep.training.sizes import choose_size
from unistep.training.stage import Surroundings, train_stage
from unistep.training.stages import (
    before_finish,
    is_begun,
    is_complete,
    like_start,
    like_stream,
    needs_own_teacher,
    seconds_taken,
    speed_of,
    student_config,
    teacher_config,
    without_teacher,
)
from unistep.training.stop import Cancel, Stop


def train(
    config: RunConfig | None,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    device: str | None = None,
    console: Console | None = None,
    callback: Callback | None = None,
    cancel: Cancel | None = None,
    command: str | None = None,
) -> bool:
    """Train a model, or go on with an interrupted run.

    Where the objective needs a teacher and none is named, one is trained first, on the same data and within the same
    budget: it gets ``config.teacher_share`` of it and its own run in ``out/teacher``. Once the student has begun, its
    teacher stays what it is: a new number of steps is the student's share. With ``config.finish_share`` the student is
    post-trained at the end, in ``out/finish``, and the result takes its place in ``out/model``.

    Args:
        config: What to train; ``None``, with ``resume``, goes on with whatever lies in ``out``.
        out: Folder of the run: ``asked.json``, ``config.json``, ``metrics.jsonl``, ``samples/``, ``checkpoints/``,
            ``model/``.
        resume: Whether to go on with the run that lies in ``out``; with none there, it starts, and a line says so.
        device: ``cpu`` or ``cuda``; a GPU where there is one without.
        console: Where to report; standard output without.
        callback: Called with a :class:`~unistep.training.loop.Progress` after every step, on the main process.
        cancel: A function that returns whether to stop, or an event that is set to stop: the step at hand is finished
            and saved.
        command: What a person types to go on after a stop, for messages.

    Returns:
        Whether the last step was reached; false after an interruption, whose state is saved.

    Raises:
        ValueError: For a mistake in the configuration, the data or the folder, before anything is trained.
        TrainingStoppedError: When training diverges.
    """
    out = Path(out).expanduser()
    console = (console or Console()) if is_rank_zero() else Console(quiet=True)
    if resume and not holds_run(out):
        show_line(console, no_run_yet(out), "yellow")
    if config is not None and config.threads is not None:
        torch.set_num_threads(config.threads)
    if config is not None:
        require_start(config)
        config = like_stream(config)
        check_lora(config)
    typed = command is not None
    command = command or f"unistep.train(None, {str(out)!r}, resume=True)"
    world = start_world(device)
    try:
        around = Surroundings(
            world=world, console=console, resume=command, typed=typed, stop=Stop(cancel), callback=callback
        )
        with _opened(config, out, world, console, resume=resume) as requested:
            try:
                return _stages(requested, out, around)
            except KeyboardInterrupt:
                show_line(console, "interrupted; go on from the last checkpoint with:")
                show_line(console, f"  {command}")
                raise
    finally:
        stop_world(world)


@contextmanager
def _opened(
    config: RunConfig | None, out: Path, world: World, console: Console, *, resume: bool
) -> Iterator[RunConfig]:
    """The folder of a run for these processes alone, with what is requested of it on record."""
    made = missing_folders(out)
    requested = world.run_on_rank_zero(lambda: open_run(out, config, resume=resume))
    with ExitStack() as stack:
        world.run_on_rank_zero(lambda: stack.enter_context(run_lock(out, made)))
        sized = world.run_on_rank_zero(lambda: _with_size(requested, world, console))
        world.run_on_rank_zero(lambda: write_requested(out, sized))
        yield sized


def _with_size(requested: RunConfig, world: World, console: Console) -> RunConfig:
    """The run with the size of its signals, where that is open; the sizes that there are, as a table."""

    def speed(config: RunConfig, modality: Modality) -> float:
        first = teacher_config(config) if needs_own_teacher(config) else config
        return world.size * time_size(first, modality, world.device)

    chosen = choose_size(requested, speed)
    if chosen.rows:
        show_table(console, "sizes", chosen.rows)
    return chosen.config


def _stages(requested: RunConfig, out: Path, around: Surroundings) -> bool:
    """Train the teacher, where the run has to, and the student, and post-train that, where the run says so."""
    console, spent = around.console, 0.0
    if not needs_own_teacher(requested):
        finish = _finish_share(requested, around)
        student = before_finish(without_teacher(like_start(requested)), finish)
        whole = requested if finish else None
    else:
        own = out / TEACHER_FOLDER
        if not (out / CONFIG).exists():
            first = teacher_config(requested)
            show_line(console, "first stage: a teacher for this data")
            with _opened(first, own, around.world, console, resume=holds_run(own)) as teacher:
                done, spent = train_stage(teacher, own, around, stage="teacher", whole=requested, last=False)
                if not done:
                    return False
        spent = max(spent, seconds_taken(own))
        finish = _finish_share(requested, around, speed_of(own))
        if finish and "finish_share" in requested.auto:
            share = f"{finish:.0%} of the budget is kept for post-training"
            show_line(console, f"{share}, as this machine is fast enough (--finish-share 0 goes without)")
        student, whole = student_config(requested, own, finish), requested
    if not finish:
        if needs_own_teacher(requested):
            show_line(console, "second stage: the one-step student")
        return train_stage(student, out, around, spent=spent, whole=whole)[0]
    if not (out / FINISH_FOLDER / START_FOLDER).is_dir() or not is_complete(student, out):
        show_line(console, f"{'second' if needs_own_teacher(requested) else 'first'} stage: the one-step student")
        if not train_stage(student, out, around, spent=spent, whole=whole, last=False)[0]:
            return False
        around.world.run_on_rank_zero(lambda: hold_start(out))
    return _finish(requested, out, around, finish, spent + seconds_taken(out))


def _finish_share(requested: RunConfig, around: Surroundings, speed: float | None = None) -> float:
    """The share of the budget that post-training gets; its data is prepared here, as their number decides."""
    if not wanted_share(requested) or is_begun(requested):
        return 0.0
    around.world.run_on_rank_zero(lambda: len(prepare(requested.data, progress=True)))
    return share_of(requested, len(prepare(requested.data, progress=False)), speed)


def _finish(requested: RunConfig, out: Path, around: Surroundings, share: float, spent: float) -> bool:
    """Post-train the student, and let the result take its place."""
    own = out / FINISH_FOLDER
    show_line(around.console, "last stage: post-training on a distribution distance (--finish-share 0 goes without)")
    last = finish_config(requested, out, share, around.world.size)
    with _opened(last, own, around.world, around.console, resume=holds_run(own)) as found:
        return train_stage(found, own, around, stage="finish", spent=spent, whole=requested, finishes=out)[0]
