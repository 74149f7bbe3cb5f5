"""The stages of a run without a ready teacher: a teacher of the same data first, then the student, in one budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from unistep.generation.model_config import ModelConfig
from unistep.hub.load import find
from unistep.objectives.denoising import DenoisingConfig
from unistep.serialization import read_json
from unistep.training.budget import parse_amount
from unistep.training.checkpoint import newest_progress
from unistep.training.optim import MuonConfig, Schedule
from unistep.training.run_config import RunConfig
from unistep.training.run_directory import CONFIG
from unistep.training.run_paths import OWN_TEACHER


def needs_own_teacher(config: RunConfig) -> bool:
    """Whether the objective starts from a denoiser, and neither one nor a model that has already begun is named."""
    needed = config.teacher is None and config.objective.starts_from_teacher and not is_begun(config)
    if needed and config.lora.rank:
        raise ValueError(
            f"a LoRA goes on with a one-step model, and {config.init} is a denoiser, whose student would have its "
            "own teacher first; name a one-step model with --init, or the denoiser as --teacher as well"
        )
    return needed


def is_begun(config: RunConfig) -> bool:
    """Whether the first weights are those of a model of the kind that is trained, such as a one-step model."""
    if config.init is None:
        return False
    kind = read_json(ModelConfig, find(config.init) / CONFIG).kind
    return kind == config.model.kind and kind != "denoiser"


def like_start(config: RunConfig) -> RunConfig:
    """The run whose data comes in the shape of the one-step model that it goes on with, where nothing else is said."""
    if not is_begun(config) or config.init is None:
        return config
    start = read_json(ModelConfig, find(config.init) / CONFIG)
    theirs, ours = start.modality.as_options(), config.data.options
    if start.context is not None or not (ours is None or type(ours) is type(theirs)):
        return config
    options = theirs if ours is None else replace(theirs, **ours.given)  # type: ignore[type-var]
    return replace(config, data=replace(config.data, options=options))


def like_stream(config: RunConfig) -> RunConfig:
    """The run that makes a stream as its teacher does, or the model that it starts from, where it says nothing of one.

    Codec, context and network are then theirs: a method trains what it is given.
    """
    named = config.init if config.teacher in (None, OWN_TEACHER) else config.teacher
    if named is None or config.model.context is not None:
        return config
    known = read_json(ModelConfig, find(named) / CONFIG)
    if known.context is None or type(known.modality) is not type(config.model.modality):
        return config
    network = known.network.with_second_time(config.objective.two_times)
    shape = {"modality": known.modality} if config.data.options is None else {}
    model = replace(config.model, codec=known.codec, context=known.context, network=network, **shape)
    return replace(config, model=model, auto=tuple(name for name in config.auto if name not in ("network", "size")))


def without_teacher(config: RunConfig) -> RunConfig:
    """The run that goes on with a model of its own kind on other data, without a teacher.

    The objective's targets then come from the data.

    Raises:
        ValueError: If the objective cannot do without a teacher.
    """
    if config.teacher is not None or not config.objective.starts_from_teacher or not is_begun(config):
        return config
    return replace(config, objective=config.objective.without_teacher())


def teacher_config(config: RunConfig) -> RunConfig:
    """The run that trains the teacher of ``config``, with its share of the budget.

    Raises:
        ValueError: If one step is all there is.
    """
    if config.max_steps == 1:
        raise ValueError("a teacher and its student need a step each: --max-steps must be at least 2, got 1")
    return replace(
        _scaled(config, config.teacher_share),
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
        # Whatever was said of the student's optimizer, its teacher's is open.
        auto=tuple(dict.fromkeys((*config.auto, "optimizer"))),
        teacher=None,
    )


def student_config(config: RunConfig, own: Path, finish: float = 0.0) -> RunConfig:
    """The run that trains the student of the teacher in ``own``, with what that has left of the budget.

    A deadline is that of both: see :func:`seconds_taken`.

    Args:
        config: The whole run.
        own: The folder of its own teacher.
        finish: Share of the budget that is kept for post-training.

    Raises:
        ValueError: If nothing is left.
    """
    if "network" in config.auto:  # the teacher's weights are to fit
        network = read_json(RunConfig, own / CONFIG).model.network.with_second_time(
            config.model.network.takes_second_time
        )
        auto = tuple(name for name in config.auto if name != "network")
        config = replace(config, auto=auto, model=replace(config.model, network=network))
    student = replace(config, teacher=OWN_TEACHER, init=None)
    if config.max_steps is None:
        timed = parse_amount(config.budget, "budget").unit == "seconds"
        return before_finish(student, finish) if timed else _scaled(student, 1 - config.teacher_share - finish)
    taken = read_json(RunConfig, own / CONFIG).max_steps
    taken = _progress(own).get("step", 0) if taken is None else taken
    total = before_finish(config, finish).max_steps or 0
    if total <= taken:
        raise ValueError(f"the teacher's stage took {taken} steps; give more with --max-steps, got {config.max_steps}")
    return replace(student, max_steps=total - taken)


def before_finish(config: RunConfig, finish: float) -> RunConfig:
    """The run without the share of its budget that is kept for post-training."""
    return _scaled(config, 1 - finish) if finish else config


def is_complete(config: RunConfig, out: Path) -> bool:
    """Whether the run in ``out`` has reached the end that ``config`` gives it."""
    progress = _progress(out)
    return bool(progress.get("over")) and progress.get("length") == length_of(config)


def length_of(config: RunConfig) -> str:
    """How long a run is to be, as a checkpoint remembers it."""
    return config.budget if config.max_steps is None else f"{config.max_steps} steps"


def speed_of(own: Path) -> float | None:
    """Items per second of the stage in ``own``, which has ended; ``None`` where it keeps no record."""
    seconds = seconds_taken(own)
    return _progress(own).get("step", 0) * read_json(RunConfig, own / CONFIG).batch_size / seconds if seconds else None


def seconds_taken(own: Path) -> float:
    """Seconds that the stage in ``own`` took of the budget."""
    return float(_progress(own).get("seconds", 0.0))


def _progress(own: Path) -> dict[str, Any]:
    return newest_progress(own / "checkpoints") or {}


def _scaled(config: RunConfig, share: float) -> RunConfig:
    """The configuration with a share of its budget."""
    if config.max_steps is not None:
        return replace(config, max_steps=max(1, round(config.max_steps * share)))
    amount = parse_amount(config.budget, "budget")
    value = amount.value * share
    return replace(
        config, budget=f"{value:.{1 if value >= 1 else 3}f}s" if amount.unit == "seconds" else f"{value / 1e3:.3f}k"
    )
