"""Tuning without a ready teacher: train one first, on the same data and within the same budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from unistep.objectives.denoising import DenoisingConfig
from unistep.serialization import read_json
from unistep.training.budget import parse_amount
from unistep.training.optim import MuonConfig, Schedule
from unistep.training.parallel import is_rank_zero
from unistep.training.run import train
from unistep.training.run_config import RunConfig
from unistep.training.run_directory import holds_run, no_run_yet, open_run
from unistep.training.run_paths import OWN_TEACHER, TEACHER_FOLDER


def needs_own_teacher(config: RunConfig) -> bool:
    """Whether the objective starts from a denoiser and none is named."""
    return config.teacher is None and config.objective.starts_from_teacher


def scale_budget(config: RunConfig, share: float) -> RunConfig:
    """The configuration with a share of its budget."""
    if config.max_steps is not None:
        return replace(config, max_steps=max(1, round(config.max_steps * share)))
    amount = parse_amount(config.budget, "budget")
    value = amount.value * share
    if amount.unit == "seconds":
        return replace(config, budget=f"{max(value, 1):.0f}s")
    return replace(config, budget=f"{value / 1e3:.3f}k" if amount.unit == "images" else f"{max(1, round(value))}")


def teacher_config(config: RunConfig) -> RunConfig:
    """The run that trains the teacher of ``config``."""
    return replace(
        scale_budget(config, config.teacher_share),
        recipe=f"{config.recipe}, teacher",
        model=replace(
            config.model,
            kind="denoiser",
            network=config.model.network.with_second_time(False),
            steps=18,
            times={},
            sigma_min_trained=0.0,
        ),
        objective=DenoisingConfig(),
        optimizer=MuonConfig(),
        schedule=Schedule(),
        teacher=None,
    )


def train_stages(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    device: str | None = None,
    console: Console | None = None,
) -> bool:
    """Train, after a teacher of the same data where the objective needs one and none is named.

    The teacher gets ``config.teacher_share`` of the budget and its own run in ``out/teacher``; each stage resumes
    by itself. Once the student has begun, its teacher stays what it is: a new number of steps is the student's share.
    Where there is nothing to resume, a run begins and a line says so.
    Arguments, result and errors are those of :func:`unistep.training.run.train`.
    """
    console = (console or Console()) if is_rank_zero() else Console(quiet=True)
    if resume and not holds_run(out):
        console.print(no_run_yet(out), style="yellow", markup=False, highlight=False, soft_wrap=True)
    if not needs_own_teacher(config):
        return train(config, out, resume=resume, device=device, console=console)
    own = out / TEACHER_FOLDER
    if not resume and (out / "config.json").exists():
        open_run(out, config, resume=False)  # refuses, before a teacher is trained for nothing
    if not (resume and (out / "config.json").exists()):
        if config.max_steps == 1:
            raise ValueError("a teacher and its student need a step each: --max-steps must be at least 2, got 1")
        started = (own / "config.json").exists()
        console.print("[bold]first stage[/bold]: a teacher for this data", highlight=False)
        if not train(teacher_config(config), own, resume=resume and started, device=device, console=console):
            return False
    console.print("[bold]second stage[/bold]: the one-step student", highlight=False)
    return train(_student_config(config, own), out, resume=resume, device=device, console=console)


def _student_config(config: RunConfig, own: Path) -> RunConfig:
    """The run that tunes the student, with what its teacher in ``own`` has left of the budget.

    Raises:
        ValueError: If nothing is left.
    """
    tuning = replace(config, teacher=OWN_TEACHER)
    if config.max_steps is None:
        return scale_budget(tuning, 1 - config.teacher_share)
    taken = read_json(RunConfig, own / "config.json").max_steps or 0
    if config.max_steps <= taken:
        raise ValueError(f"the teacher's stage took {taken} steps; give more with --max-steps, got {config.max_steps}")
    return replace(tuning, max_steps=config.max_steps - taken)
