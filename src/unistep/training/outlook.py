"""What a budget buys, against what good samples want: said before training begins, with the budget that is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unistep.core.flowmap import Denoiser
from unistep.modalities.base import Modality
from unistep.modalities.enough import EnoughItems
from unistep.training.budget import Amount, parse_amount, rounded_up
from unistep.training.choices import choose_batch
from unistep.training.finish import share_of
from unistep.training.run_config import RunConfig
from unistep.training.stages import is_begun

if TYPE_CHECKING:
    from unistep.training.resolved import ResolvedRun

STUDENT_SPEED = 0.53
"""Items per second of a student in training over its teacher's: 19 to 36 images of 64 pixels (``unistep train ect
--data.size 64 --budget 40m`` on 5,782 images in colour, one core of an AMD EPYC). A student calls its network more
often for an item, and its teacher, too."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a model gets of one thing, and how much of it good samples want."""

    who: str
    """The model, such as ``the student``."""
    gets: float
    """How much it gets."""
    wants: float
    """How much is enough."""
    unit: str
    """Of what, in the plural."""

    @property
    def share(self) -> float:
        """What it gets over what it wants."""
        return self.gets / self.wants

    def __str__(self) -> str:
        """In words."""
        return f"{self.who} gets about {counted(self.gets)} {self.unit} and wants {counted(self.wants)}"


def needs(
    config: RunConfig, noun: str, enough: EnoughItems | None, *, teacher: float | None, items: float, batch_size: int
) -> list[Need]:
    """The needs of a run, of which the one with the smallest share decides.

    Args:
        config: The run, without its teacher's stage.
        noun: What one item is called.
        enough: What its signals want, where that is known.
        teacher: Items that a teacher sees in a stage of its own, where there is one to come or under way.
        items: Items that the run itself sees.
        batch_size: Items of its optimizer step.
    """
    found, objective = [], config.objective
    student = teacher is not None or (config.teacher is not None and objective.starts_from_teacher)
    who = "the student" if student else "the model"
    if enough is not None and enough.denoiser is not None and teacher is not None:
        found.append(Need(who="the teacher", gets=teacher, wants=enough.denoiser, unit=f"{noun}s"))
    wants = None if enough is None else enough.student if student else enough.denoiser
    if wants is not None and not objective.continues and not is_begun(config):
        found.append(Need(who=who, gets=items, wants=wants, unit=f"{noun}s"))
    if "curriculum" in config.auto:
        objective, _ = objective.suited_to(math.floor(items / batch_size))
    if objective.least_steps:
        found.append(Need(who=who, gets=items / batch_size, wants=objective.least_steps, unit="steps"))
    return found


def student_items(config: RunConfig, budget: Amount, speed: float, finish: float = 0.0) -> tuple[float, int]:
    """Items that the student is to see after its own teacher, and its batch.

    Args:
        config: The whole run.
        budget: Its budget.
        speed: Items per second of the teacher.
        finish: Share of the budget that is kept for post-training.
    """
    share = budget.value * (1 - config.teacher_share - finish)
    items = share * STUDENT_SPEED * speed if budget.unit == "seconds" else share
    seconds = share if budget.unit == "seconds" else None
    chosen = choose_batch(STUDENT_SPEED * speed, seconds).value if "batch_size" in config.auto else config.batch_size
    return items, chosen


def too_short(resolved: ResolvedRun, whole: RunConfig, *, teacher_stage: bool, spent: float) -> list[str]:
    """A line that says what the budget of a run is too short for, and how that is mended; none where it is enough.

    Args:
        resolved: The stage that is about to begin.
        whole: The run as it is requested, of which that may be one of two.
        teacher_stage: Whether that stage trains the teacher of another, which is forecast.
        spent: Seconds of the budget that an earlier stage took.
    """
    if whole.max_steps is not None:
        return []
    budget, items, modality = parse_amount(whole.budget, "budget"), items_of(resolved), resolved.data.modality
    teacher, batch_size = None, resolved.config.batch_size
    if teacher_stage:
        teacher = items
        items, batch_size = student_items(
            whole, budget, resolved.speed, share_of(whole, len(resolved.data), resolved.speed)
        )
    config = whole if teacher_stage else resolved.config  # the latter knows the teacher that it has
    enough = enough_of(modality, resolved.config)
    worst = least_met(needs(config, resolved.noun, enough, teacher=teacher, items=items, batch_size=batch_size))
    if worst is None or worst.share >= 1:
        return []
    past = spent if budget.unit == "seconds" else 0.0
    wanted = rounded_up(past + (budget.value - past) / worst.share, budget.unit)
    fixed = whole.teacher is not None or whole.init is not None or spent > 0
    smaller = "" if fixed else _smaller(modality, worst)
    return [f"too short for good samples: {worst}; try --budget {wanted}{smaller}"]


def items_of(resolved: ResolvedRun) -> int:
    """Items that a stage sees."""
    return resolved.steps * resolved.config.batch_size


def enough_of(modality: Modality, config: RunConfig) -> EnoughItems | None:
    """What signals want; of a denoiser that starts from any model but the base that is not known."""
    based = config.init is not None and config.init == modality.default_base()
    enough = modality.enough_items(from_base=based)
    known = config.init is None or based or config.objective.trains is not Denoiser
    return enough if enough is None or known else replace(enough, denoiser=None)


def least_met(found: Sequence[Need]) -> Need | None:
    """The need that is furthest from being met."""
    return min(found, key=lambda need: need.share, default=None)


def _smaller(modality: Modality, worst: Need) -> str:
    """The largest smaller size at which the need is met, by the number of values that an item has."""
    kind, full = type(modality), math.prod(modality.shape)
    for size in reversed(kind.sizes_to_consider(kind.options(), [modality.shape])):
        values, theirs = math.prod(size.shape), size.enough_items(from_base=size.default_base() is not None)
        wants = worst.wants
        if worst.who == "the teacher" and theirs is not None and theirs.denoiser is not None:
            wants = max(wants, theirs.denoiser)
        if values < full and worst.gets * full / values >= wants:
            return f" or {size.shape_option(size.shape)}"
    return ""


def counted(number: float) -> str:
    """A number in words: in whole numbers, and from a thousand on in thousands."""
    if number < 999.5:
        return f"{number:.0f}"
    return f"{number / 1000:.1f}k" if number < 9_950 else f"{math.floor(number / 1000 + 0.5):,}k"
