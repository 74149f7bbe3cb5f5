"""The last stage of a run: its one-step model is post-trained on a distribution distance, and then takes its place.

The stage is a run of its own in ``out/finish``, which starts from a copy of the student in ``out/finish/start``. When
it has ended, its model replaces that in ``out/model``.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from unistep import registry
from unistep.core.flowmap import Denoiser
from unistep.files import remove_folder, replacing_folder, unwritable
from unistep.hub.save import WEIGHTS
from unistep.objectives.fd import FDConfig
from unistep.training.budget import parse_amount
from unistep.training.checkpoint import checkpoints
from unistep.training.ema import PowerEMA
from unistep.training.optim import AdamConfig, Schedule
from unistep.training.run_config import RunConfig
from unistep.training.run_paths import FINISH_FOLDER, START_FOLDER
from unistep.training.selection import SelectionConfig
from unistep.weights import read_weights, weights_hash

OBJECTIVE = FDConfig()
"""Its loss: the representations that suit the signal."""
OPTIMIZER, SCHEDULE = AdamConfig(lr=1e-5), Schedule(warmup_steps=10, decay=0.5)
"""Of post-training: weights move little, so that the moments of the population follow them."""
RATE = 3e-5
"""Rate for a student that was just trained, which has further to go than one that is post-trained again."""
SELECTION = SelectionConfig(every=20, samples=1000, patience=6)
"""How post-training is watched: one look says little, so several must be worse before it stops."""
BATCH_SIZE = 256
"""Samples of a step of post-training; the population is a multiple of it."""
SHORTEST = 60.0
"""Seconds from which on post-training is worth its set-up."""
FEWEST = 500
"""Items from which on their moments say more than the items themselves, which a model would learn by heart."""
LEAST_STEPS = 30
"""Steps from which on post-training gains more than its time is worth to the student, where the share is left open."""
SPEED = 1.0
"""Items per second in post-training over those of a teacher in training: 18 to 35 of sprites of 64 pixels with bf16
units, and 145 to 80 of clothes of 32 without."""


def suits(config: RunConfig, items: int | None = None) -> bool:
    """Whether post-training helps what a run makes: it would learn few items by heart, and forget what was rehearsed.

    Args:
        config: The run.
        items: Items of its data, where they are known.
    """
    trains = config.objective.trains
    one_step = trains is not Denoiser and not config.objective.continues and config.model.context is None
    return one_step and not config.lora.rank and not config.rehearsal and (items is None or items >= FEWEST)


def share_of(config: RunConfig, items: int | None = None, speed: float | None = None) -> float:
    """The share of a run's budget that is left for post-training; 0 where the run has no such stage.

    Args:
        config: The whole run.
        items: Items of its data, where they are known.
        speed: Items per second of the teacher that it has trained first, which decides where the share is left open.
    """
    share = wanted_share(config)
    if not share or not suits(config, items):
        return 0.0
    if "finish_share" in config.auto and not _worth_it(config, share, speed):
        return 0.0
    if config.max_steps is None:
        amount = parse_amount(config.budget, "budget")
        if amount.unit == "seconds" and amount.value * share < SHORTEST:
            return 0.0
    return share


def wanted_share(config: RunConfig) -> float:
    """The share of a run's budget that post-training gets where it suits: that of the signal, where it is left open."""
    if "finish_share" not in config.auto:
        return config.finish_share
    return config.model.modality.post_training_share(registry.name_of("objective", config.objective))


def _worth_it(config: RunConfig, share: float, speed: float | None) -> bool:
    """Whether there would be enough steps on a machine as fast as this one."""
    if config.max_steps is not None or speed is None or share >= 1 - config.teacher_share:
        return False
    amount = parse_amount(config.budget, "budget")
    items = amount.value * share * (SPEED * speed if amount.unit == "seconds" else 1.0)
    return items >= LEAST_STEPS * BATCH_SIZE


def finish_config(config: RunConfig, out: Path, share: float, processes: int = 1) -> RunConfig:
    """The run that post-trains the student of ``config`` in ``out``.

    Args:
        config: The whole run.
        out: Its folder.
        share: See :func:`share_of`.
        processes: How many share a batch, which is a multiple of them.
    """
    last = replace(
        config,
        recipe=f"{config.recipe}, finish",
        objective=OBJECTIVE,
        optimizer=replace(OPTIMIZER, lr=RATE),
        schedule=SCHEDULE,
        emas=(PowerEMA(sigma_rel=0.1),),
        selection=SELECTION,
        batch_size=-(-BATCH_SIZE // processes) * processes,
        accumulation=1,
        auto=(),
        # Maps inside of it see more, but take twice as long; a student of minutes gains more from as many more steps.
        teacher=None,
        init=str(out / FINISH_FOLDER / START_FOLDER),
        rehearsal=0.0,
        start_report=0,
        finish_share=0.0,
    )
    if config.max_steps is not None:
        return replace(last, max_steps=max(1, round(config.max_steps * share)))
    amount = parse_amount(config.budget, "budget")
    return last if amount.unit == "seconds" else replace(last, budget=f"{amount.value * share / 1e3:.3f}k")


def hold_start(out: Path) -> None:
    """Copy the student, from which post-training starts; a post-training of another student is taken back.

    Raises:
        ValueError: If it cannot be written.
    """
    own = out / FINISH_FOLDER
    held, student = own / START_FOLDER / WEIGHTS, out / "model" / WEIGHTS
    same = held.is_file() and weights_hash(read_weights(held)) == weights_hash(read_weights(student))
    if same and checkpoints(own / "checkpoints"):
        return
    try:
        if own.is_dir():
            remove_folder(own)
        own.mkdir()
        _copy(out / "model", own / START_FOLDER)
    except OSError as error:
        raise unwritable(f"cannot write {own}: {error.strerror or error}", error) from None


def publish(out: Path) -> None:
    """Let the finished model take the place of the student in ``out/model``; the student stays in the stage's folder.

    Raises:
        ValueError: If it cannot be written.
    """
    try:
        _copy(out / FINISH_FOLDER / "model", out / "model")
    except OSError as error:
        raise unwritable(f"cannot write {out / 'model'}: {error.strerror or error}", error) from None


def _copy(model: Path, to: Path) -> None:
    with replacing_folder(to) as temporary:
        shutil.copytree(model, temporary, dirs_exist_ok=True)
